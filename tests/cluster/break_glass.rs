//! Break-glass: revocations, namespaced and cluster-scoped.

use std::{collections::BTreeMap, pin::pin};

use acs_identity_operator::crd::{
    AcsConnection, AcsIdentity, AcsIdentitySpec, AcsRevocation, AcsToken, ClusterAcsRevocation,
    RevocationStatus, RevocationTarget,
};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{PostParams, WatchEvent, WatchParams},
};
use serde_json::json;

use crate::{
    pages::commands,
    support::{
        eventually,
        world::{World, condition, spec},
    },
};

/// Returns the manifest of a revocation of the test's namespace, or of the cluster.
fn order(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: acs-identity.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
    )
}

fn revoke(world: &World, name: &str, spec: &str) {
    world.apply(&order("AcsRevocation", name, spec));
}

/// Creates a cluster-scoped revocation. Every operator of this test binary sees it, but only the
/// one with matching identities handles it. It is named after the test's namespace, since it
/// outlives that.
fn revoke_in_cluster(world: &World, spec: &str) {
    world.apply(&order("ClusterAcsRevocation", &world.namespace, spec));
}

/// Waits until the Ready condition of a revocation has this reason.
async fn says(
    what: &str,
    reason: &str,
    status: impl AsyncFn() -> Option<RevocationStatus>,
) -> (RevocationStatus, String) {
    eventually(&format!("{what} says {reason}"), || async {
        let status = status().await?;
        let ready = condition(&status.conditions, "Ready")?.clone();
        (ready.reason == reason).then_some((status, ready.message))
    })
    .await
}

async fn order_says(world: &World, name: &str, reason: &str) -> (RevocationStatus, String) {
    let api = world.api::<AcsRevocation>();
    says(name, reason, async || {
        api.get_opt(name).await.expect("readable")?.status
    })
    .await
}

async fn cluster_order_says(world: &World, reason: &str) -> (RevocationStatus, String) {
    let api: Api<ClusterAcsRevocation> = Api::all(world.client.clone());
    says(&world.namespace, reason, async || {
        api.get_opt(&world.namespace)
            .await
            .expect("readable")?
            .status
    })
    .await
}

fn names(targets: &[RevocationTarget]) -> Vec<&str> {
    targets.iter().map(|target| target.name.as_str()).collect()
}

/// Creates identities with one token each, of the same name, and waits for the tokens; returns them
/// by name.
async fn alive(world: &World, identities: &[(&str, &str, &str)]) -> BTreeMap<String, String> {
    for (name, labels, spec) in identities {
        world.apply(&format!(
            "apiVersion: acs-identity.dev/v1alpha1\nkind: AcsIdentity\nmetadata: {{name: {name}, labels: {{{labels}}}}}\nspec: {{{spec}}}\n"
        ));
        world.token(name, name, "scopes: [chat], revocation: Never");
    }
    let mut tokens = BTreeMap::new();
    for (name, ..) in identities {
        world.ready(name).await;
        tokens.insert((*name).to_owned(), world.live_token(name, &[]).await);
    }
    tokens
}

/// Deletes a connection's Secret, and restarts the operator, which would have its content cached.
async fn forget_credential(world: &mut World, connection: &str) {
    world.kill_operator();
    world.delete::<Secret>(&format!("{connection}-acs")).await;
    world.start_operator();
    world.connection_says(connection, "SecretNotFound").await;
}

/// Returns the number of answered revoke requests, by identity.
async fn revocations(world: &World) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in world.emulator.requests().await {
        if request.operation == "revokeTokens" && request.status == Some(204) {
            *counts
                .entry(request.identity_id.unwrap_or_default())
                .or_default() += 1;
        }
    }
    counts
}

#[tokio::test]
async fn an_order_by_name_revokes_whatever_the_tokens_say_and_keeps_the_record() {
    let mut world = World::new().await;
    let former = alive(&world, &[("alice", "", ""), ("bob", "", "")]).await;
    // Longer than the start of the operator: the completion of the call must requeue the
    // revocation.
    let slow = json!([{"operation": "revokeTokens", "effect": "delay", "delay": 4, "count": 1}]);
    world.emulator.faults(slow).await;
    revoke(
        &world,
        "lost-laptop",
        "names: [alice], reason: the laptop of alice is lost",
    );
    let (status, message) = order_says(&world, "lost-laptop", "Revoked").await;
    assert_eq!(message, "all tokens of 1 AcsIdentity are revoked");
    assert_eq!((status.total, status.revoked), (Some(1), Some(1)));
    let started = status.started_at.clone().expect("a time").0;
    let completed = status.completed_at.clone().expect("a time").0;
    let took = completed.duration_since(started).as_secs();
    assert!((0..20).contains(&took), "it took {took} s");
    assert_eq!(status.observed_generation, Some(1));
    assert!(condition(&status.conditions, "Reconciling").is_none());

    let alice = world.get::<AcsIdentity>("alice").await;
    let target = &status.targets[0];
    assert_eq!(target.uid, alice.uid());
    let known = alice.status.expect("a status");
    assert_eq!(target.identity_id, known.identity_id);
    let last = known.last_revocation.expect("a revocation");
    assert_eq!(target.revoked_at, Some(last.time));
    assert_eq!(last.reason, "Ordered");
    let object = world.api::<AcsRevocation>().get("lost-laptop").await;
    assert_eq!(last.orders, [object.expect("it").uid().expect("a UID")]);

    assert!(!world.emulator.check(&former["alice"]).await.valid);
    world.live_token("alice", &[&former["alice"]]).await;
    assert!(world.emulator.check(&former["bob"]).await.valid);
    world.settled().await;
    assert_eq!(world.emulator.count("revokeTokens").await, 1);
    let note = world.event("alice", "TokensRevoked").await;
    let named = format!("AcsRevocation {}/lost-laptop", world.namespace);
    assert!(note.contains(&named), "{note}");
    world.event("lost-laptop", "RevocationStarted").await;
    world.event("lost-laptop", "RevocationCompleted").await;

    let metrics = world.operator().get("/metrics").await.1;
    let counted = "revocations_total{kind=\"AcsRevocation\",reason=\"Revoked\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    let namespace = &world.namespace;
    let table = world.cluster.kubectl(&["get", "acsrev", "-n", namespace]);
    let lines: Vec<Vec<_>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        ["NAME", "READY", "REASON", "REVOKED", "TOTAL", "AGE"]
    );
    assert_eq!(lines[1][..5], ["lost-laptop", "True", "Revoked", "1", "1"]);
}

#[tokio::test]
async fn an_order_by_label_fixes_its_targets_when_it_is_first_seen() {
    let mut world = World::new().await;
    let identities = [
        ("alice", "team: red, tier: gold", ""),
        ("bob", "team: red", ""),
        ("carol", "team: blue", ""),
    ];
    let former = alive(&world, &identities).await;
    let selector = "selector: {matchLabels: {team: red}, matchExpressions: [{key: tier, operator: DoesNotExist}]}";
    revoke(&world, "red", selector);
    let (status, _) = order_says(&world, "red", "Revoked").await;
    assert_eq!(names(&status.targets), ["bob"]);
    for (name, token) in &former {
        assert_eq!(world.emulator.check(token).await.valid, name != "bob");
    }
    // An identity that is selected later is not a target, not even after a restart.
    let label = json!({"metadata": {"labels": {"team": "red", "tier": null}}});
    world.patch::<AcsIdentity>("alice", label.clone()).await;
    world.patch::<AcsIdentity>("carol", label).await;
    world.kill_operator();
    world.start_operator();
    world.settled().await;
    assert_eq!(world.emulator.count("revokeTokens").await, 1);
    let (status, _) = order_says(&world, "red", "Revoked").await;
    assert_eq!(names(&status.targets), ["bob"]);
}

#[tokio::test]
async fn who_is_not_found_and_who_had_no_identity_is_told() {
    let world = World::new().await;
    let former = alive(&world, &[("alice", "", "")]).await;
    world.identity("later", "suspend: true");
    world.identity_says("later", "Suspended").await;
    revoke(&world, "typo", "names: [alcie, alice, later]");
    let (status, message) = order_says(&world, "typo", "IdentityNotFound").await;
    assert!(
        message.contains("AcsIdentity alcie does not exist"),
        "{message}"
    );
    assert!(condition(&status.conditions, "Stalled").is_some());
    assert_eq!((status.total, status.revoked), (Some(3), Some(1)));
    let notes = status.targets.iter().map(|target| target.note.as_deref());
    let notes: Vec<_> = notes.map(Option::unwrap_or_default).collect();
    assert!(
        notes[0].contains("the AcsIdentity does not exist"),
        "{notes:?}"
    );
    assert_eq!(notes[1], "");
    assert!(notes[2].contains("no identity in ACS yet"), "{notes:?}");
    assert!(!world.emulator.check(&former["alice"]).await.valid);
    world.event("typo", "IdentityNotFound").await;

    revoke(&world, "nobody", "selector: {matchLabels: {team: none}}");
    let (status, message) = order_says(&world, "nobody", "NothingSelected").await;
    assert!(message.contains("correct the selector"), "{message}");
    assert_eq!(status.total, Some(0));
    let odd = "selector: {matchExpressions: [{key: team, operator: Like, values: [r]}]}";
    revoke(&world, "odd", odd);
    let (_, message) = order_says(&world, "odd", "InvalidSelector").await;
    assert!(
        message.contains("with In, NotIn, Exists or DoesNotExist"),
        "{message}"
    );
    let none = "selector: {matchExpressions: [{key: team, operator: NotIn}]}";
    revoke(&world, "none", none);
    let (_, message) = order_says(&world, "none", "InvalidSelector").await;
    assert!(message.contains("NotIn needs values"), "{message}");
    assert_eq!(world.emulator.count("revokeTokens").await, 1);
}

#[tokio::test]
async fn an_order_of_the_cluster_takes_those_of_a_connection() {
    let world = World::new().await;
    world.connect("other", &world.emulator.connection_string.clone());
    let by_other = "connectionRef: {kind: AcsConnection, name: other}";
    let former = alive(&world, &[("alice", "", ""), ("bob", "", by_other)]).await;
    let namespace = world.namespace.clone();
    revoke_in_cluster(
        &world,
        &format!("connection: {{kind: AcsConnection, name: other, namespace: {namespace}}}"),
    );
    let (status, _) = cluster_order_says(&world, "Revoked").await;
    assert_eq!(names(&status.targets), ["bob"]);
    assert_eq!(status.targets[0].namespace.as_ref(), Some(&namespace));
    assert!(!world.emulator.check(&former["bob"]).await.valid);
    assert!(world.emulator.check(&former["alice"]).await.valid);
    world.live_token("bob", &[&former["bob"]]).await;
    let table = world.cluster.kubectl(&["get", "cacsrev", &namespace]);
    assert!(table.contains("Revoked   1         1"), "{table}");
}

#[tokio::test]
async fn an_order_of_the_cluster_takes_those_of_namespaces_or_of_a_label() {
    let world = World::new().await;
    let namespace = world.namespace.clone();
    let label = format!("world: {namespace}");
    let former = alive(&world, &[("alice", &label, ""), ("bob", "", "")]).await;
    revoke_in_cluster(&world, &format!("selector: {{matchLabels: {{{label}}}}}"));
    let (status, _) = cluster_order_says(&world, "Revoked").await;
    assert_eq!(names(&status.targets), ["alice"]);
    assert!(!world.emulator.check(&former["alice"]).await.valid);
    assert!(world.emulator.check(&former["bob"]).await.valid);

    world.cluster.kubectl(&["delete", "cacsrev", &namespace]);
    revoke_in_cluster(
        &world,
        &format!("namespaces: [{namespace}, no-such-namespace]"),
    );
    let (status, _) = cluster_order_says(&world, "Revoked").await;
    assert_eq!(names(&status.targets), ["alice", "bob"]);
    assert!(!world.emulator.check(&former["bob"]).await.valid);
    assert_eq!(world.emulator.count("revokeTokens").await, 3);
}

#[tokio::test]
async fn an_order_takes_more_than_an_object_can_hold_in_full() {
    const MANY: usize = 4050;
    let world = World::new().await;
    let api = world.api::<AcsIdentity>();
    // They have no identity in ACS: the record is what is tested.
    let made = futures::stream::iter(0..MANY).map(|number| {
        let spec = AcsIdentitySpec {
            suspend: Some(true),
            ..AcsIdentitySpec::default()
        };
        let mut identity = AcsIdentity::new(&format!("user-{number}"), spec);
        identity.labels_mut().insert("team".into(), "red".into());
        let api = api.clone();
        async move { api.create(&PostParams::default(), &identity).await }
    });
    let made: Vec<_> = made.buffer_unordered(16).try_collect().await.expect("room");
    assert_eq!(made.len(), MANY);
    // The last of them were created a moment ago.
    revoke(&world, "red", "selector: {matchLabels: {team: red}}");
    let (status, message) = order_says(&world, "red", "Revoked").await;
    assert_eq!((status.total, status.revoked), (Some(4050), Some(0)));
    assert!(status.targets.len() <= 1000 && status.queued.is_empty());
    assert!(message.contains("and 4047 more"), "{message}");
}

#[tokio::test]
async fn a_dry_run_tells_whom_it_would_hit_and_changes_nothing() {
    let world = World::new().await;
    let former = alive(&world, &[("alice", "", "")]).await;
    let version = |it: AcsIdentity| it.resource_version();
    let before = world.api().get("alice").await.map(version).expect("her");
    revoke(&world, "what-if", "names: [alice], dryRun: true");
    let (status, message) = order_says(&world, "what-if", "DryRun").await;
    assert!(message.contains("1 AcsIdentity would be"), "{message}");
    assert_eq!(names(&status.targets), ["alice"]);
    assert_eq!((status.total, status.revoked), (Some(1), Some(0)));
    assert!(status.completed_at.is_some());
    world.settled().await;
    assert!(world.emulator.check(&former["alice"]).await.valid);
    assert_eq!(world.emulator.count("revokeTokens").await, 0);
    let after = world.api().get("alice").await.map(version).expect("her");
    assert_eq!(after, before);
}

#[tokio::test]
async fn an_order_that_comes_after_its_time_does_nothing_and_says_so() {
    let world = World::new().await;
    let former = alive(&world, &[("alice", "", "")]).await;
    revoke(
        &world,
        "restored",
        "names: [alice], notAfter: \"2026-01-02T03:04:05Z\"",
    );
    let (status, message) = order_says(&world, "restored", "TooLate").await;
    assert!(message.contains("after 2026-01-02T03:04:05Z"), "{message}");
    assert_eq!((status.started_at, status.total), (None, None));
    assert!(status.completed_at.is_some());
    world.settled().await;
    assert!(world.emulator.check(&former["alice"]).await.valid);
    revoke(
        &world,
        "in-time",
        "names: [alice], notAfter: \"2126-01-02T03:04:05Z\"",
    );
    order_says(&world, "in-time", "Revoked").await;
    assert!(!world.emulator.check(&former["alice"]).await.valid);
}

#[tokio::test]
async fn the_tokens_of_a_suspended_identity_stay_dead() {
    let world = World::new().await;
    let former = alive(&world, &[("alice", "", "")]).await;
    let halt = spec(&json!({"suspend": true}));
    world.patch::<AcsIdentity>("alice", halt).await;
    world.token_says("alice", "Suspended").await;
    revoke(&world, "halt", "names: [alice]");
    order_says(&world, "halt", "Revoked").await;
    assert!(!world.emulator.check(&former["alice"]).await.valid);
    world.gone::<Secret>("alice").await;
    world.settled().await;
    assert_eq!(world.issued().await, 1);
    let go_on = spec(&json!({"suspend": false}));
    world.patch::<AcsIdentity>("alice", go_on).await;
    world.live_token("alice", &[&former["alice"]]).await;
}

#[tokio::test]
async fn what_a_person_orders_is_done_although_the_credential_is_deleted() {
    let world = World::new().await;
    let all = [("alice", "", ""), ("bob", "", ""), ("carol", "", "")];
    let former = alive(&world, &all).await;
    world.delete::<Secret>("default-acs").await;
    world.connection_says("default", "SecretNotFound").await;
    revoke(&world, "leak", "names: [alice]");
    order_says(&world, "leak", "Revoked").await;
    assert!(!world.emulator.check(&former["alice"]).await.valid);
    world.delete::<AcsConnection>("default").await;
    let annotations = json!({
        "acs-identity.dev/request": "revoke", "acs-identity.dev/requested-at": "1",
    });
    let request = json!({"metadata": {"annotations": annotations}});
    world.patch::<AcsIdentity>("bob", request).await;
    eventually("the request is obeyed", || async {
        let status = world.api::<AcsIdentity>().get("bob").await.ok()?.status?;
        (status.last_handled_request.as_deref() == Some("1")).then_some(())
    })
    .await;
    assert!(!world.emulator.check(&former["bob"]).await.valid);
    // A change waits: there could be no replacement for the tokens that it would revoke.
    let change = spec(&json!({"revocation": "OnChange", "scopes": ["voip"]}));
    world.patch::<AcsToken>("carol", change).await;
    world.settled().await;
    assert!(world.emulator.check(&former["carol"]).await.valid);

    world.connect("default", &world.emulator.connection_string);
    for name in ["alice", "bob", "carol"] {
        world.live_token(name, &[&former[name]]).await;
    }
    assert!(!world.emulator.check(&former["carol"]).await.valid);
}

#[tokio::test]
async fn where_an_identity_is_shared_all_its_objects_lose_their_tokens_and_get_new_ones() {
    let world = World::new().await;
    let share = spec(&json!({"policy": {"sharedIdentities": true}}));
    world.patch::<AcsConnection>("default", share).await;
    world.identity("first", "deletionPolicy: Orphan");
    world.identity_says("first", "IdentityReady").await;
    let id = world.emulator.living().await[0].id.clone();
    let adopts = format!("identityId: \"{id}\"");
    let former = alive(&world, &[("alice", "", &adopts), ("bob", "", &adopts)]).await;
    world.token("web", "alice", "scopes: [voip]");
    let web = world.live_token("web", &[]).await;
    revoke(&world, "one", "names: [alice]");
    order_says(&world, "one", "Revoked").await;
    for dead in former.values().chain([&web]) {
        assert!(!world.emulator.check(dead).await.valid);
    }
    world.live_token("alice", &[&former["alice"]]).await;
    world.live_token("web", &[&web]).await;
    let bob = world.live_token("bob", &[&former["bob"]]).await;
    assert_eq!(world.emulator.count("revokeTokens").await, 1);
    // A revocation with two names revokes both.
    revoke(&world, "both", "names: [alice, bob]");
    let (status, _) = order_says(&world, "both", "Revoked").await;
    assert_eq!(status.revoked, Some(2));
    assert!(!world.emulator.check(&bob).await.valid);
    world.live_token("bob", &[&bob]).await;
}

#[tokio::test]
async fn an_operator_that_dies_in_the_middle_goes_on_and_revokes_each_once() {
    let mut world = World::new().await;
    world.connect("other", &world.emulator.connection_string.clone());
    let by_other = "connectionRef: {kind: AcsConnection, name: other}";
    let identities = [
        ("a", "", ""),
        ("b", "", ""),
        ("c", "", by_other),
        ("d", "", by_other),
    ];
    let former = alive(&world, &identities).await;
    forget_credential(&mut world, "other").await;
    revoke(&world, "all", "names: [a, b, c, d]");
    let (status, message) = eventually("half of it is told", || async {
        let (status, message) = order_says(&world, "all", "Revoking").await;
        (status.revoked == Some(2)).then_some((status, message))
    })
    .await;
    let waits = "2 of 4 revoked; waiting for c (SecretNotFound), d (SecretNotFound)";
    assert_eq!(message, waits);
    assert!(condition(&status.conditions, "Reconciling").is_some());
    world.kill_operator();
    for (name, token) in &former {
        let is_dead = ["a", "b"].contains(&name.as_str());
        assert_eq!(world.emulator.check(token).await.valid, !is_dead);
    }
    world.start_operator();
    world.connect("other", &world.emulator.connection_string.clone());
    let (after, _) = order_says(&world, "all", "Revoked").await;
    assert_eq!(after.revoked, Some(4));
    assert_eq!(after.started_at, status.started_at);
    for token in former.values() {
        assert!(!world.emulator.check(token).await.valid);
    }
    world.settled().await;
    let counts = revocations(&world).await;
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [1; 4]);
}

#[tokio::test]
async fn a_target_that_is_deleted_meanwhile_is_revoked_on_its_way_out() {
    let world = World::new().await;
    let former = alive(&world, &[("alice", "", "deletionPolicy: Orphan")]).await;
    let fault =
        json!({"operation": "revokeTokens", "effect": "status", "status": 503, "count": 1000});
    world.emulator.faults(json!([fault])).await;
    revoke(&world, "order", "names: [alice]");
    eventually("it waits for the service", || async {
        let (_, message) = order_says(&world, "order", "Revoking").await;
        message.contains("alice (ServiceUnavailable)").then_some(())
    })
    .await;
    assert!(world.emulator.check(&former["alice"]).await.valid);
    world.delete::<AcsIdentity>("alice").await;
    world.emulator.heal().await;
    world.gone::<AcsIdentity>("alice").await;
    assert!(!world.emulator.check(&former["alice"]).await.valid);
    order_says(&world, "order", "Revoked").await;
}

#[tokio::test]
async fn another_identity_of_a_targets_name_is_none_of_the_orders_business() {
    let mut world = World::new().await;
    alive(&world, &[("alice", "", "")]).await;
    forget_credential(&mut world, "default").await;
    revoke(&world, "order", "names: [alice]");
    eventually("it waits for the connection", || async {
        let (_, message) = order_says(&world, "order", "Revoking").await;
        message.contains("alice (SecretNotFound)").then_some(())
    })
    .await;
    world.kill_operator();
    let no_finalizers = json!({"metadata": {"finalizers": null}});
    world.patch::<AcsIdentity>("alice", no_finalizers).await;
    world.delete::<AcsIdentity>("alice").await;
    world.identity("alice", "");
    world.connect("default", &world.emulator.connection_string.clone());
    world.start_operator();
    let (status, message) = order_says(&world, "order", "Revoked").await;
    assert!(message.contains("nothing to revoke for alice"), "{message}");
    let note = status.targets[0].note.clone().unwrap_or_default();
    assert!(note.contains("deleted in the meantime"), "{note}");
    world.identity_says("alice", "IdentityReady").await;
    world.settled().await;
    assert_eq!(world.emulator.count("revokeTokens").await, 0);
}

#[tokio::test]
async fn the_progress_of_an_order_is_told_now_and_then_and_its_end_at_once() {
    let world = World::new().await;
    let many: Vec<_> = (0..12).map(|number| format!("user-{number}")).collect();
    for name in &many {
        world.identity(name, "");
    }
    for name in &many {
        world.identity_says(name, "IdentityReady").await;
    }
    let api = world.api::<AcsRevocation>();
    let told = api.watch(&WatchParams::default(), "0").await;
    let mut told = pin!(told.expect("a watch"));
    revoke(&world, "many", &format!("names: [{}]", many.join(", ")));
    let mut writes = 0;
    let status = loop {
        let event = told.next().await.expect("an event").expect("a good one");
        let WatchEvent::Modified(order) = event else {
            continue;
        };
        writes += 1;
        let status = order.status.expect("a status");
        if status.completed_at.is_some() {
            break status;
        }
    };
    let took = status.completed_at.expect("a time").0;
    let took = took.duration_since(status.started_at.expect("a time").0);
    // The beginning, the end, and what is reported between, in whole seconds.
    let most = 2 + i64::midpoint(took.as_secs(), 1);
    assert!((2..=most).contains(&writes), "{writes} writes in {took}");
    assert_eq!(revocations(&world).await.len(), many.len());
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table")]
async fn an_order_is_immutable_and_nonsense_is_refused_with_a_sentence() {
    let world = World::bare(&[], &[]).await;
    let one = |spec: &str| order("AcsRevocation", "bad", spec);
    let all = |spec: &str| order("ClusterAcsRevocation", "bad", spec);
    let long = "x".repeat(257);
    let exactly_one = "set exactly one of names and selector";
    let exactly_one_of_three = "set exactly one of connection, namespaces and selector";
    let empty = "selector is empty and would select everything";
    let table = [
        (one(""), exactly_one),
        (one("reason: oops"), exactly_one),
        (
            one("names: [a], selector: {matchLabels: {a: b}}"),
            exactly_one,
        ),
        (
            one("names: []"),
            "names is empty: add the name of at least one",
        ),
        (one("names: [\"\"]"), "should be at least 1 chars long"),
        (one("names: alice"), "must be of type array"),
        (one("selector: {}"), empty),
        (one("selector: {matchLabels: {}}"), empty),
        (one("selector: {matchExpressions: []}"), empty),
        (
            one(&format!("names: [a], reason: {long}")),
            "may not be more than 256",
        ),
        (
            one("names: [a], notAfter: tomorrow"),
            "must be of type date-time",
        ),
        (
            one("names: [a], dryRun: \"yes\""),
            "must be of type boolean",
        ),
        (one("names: [a], namespaces: [b]"), "unknown field"),
        (all(""), exactly_one_of_three),
        (
            all("namespaces: [a], selector: {matchLabels: {a: b}}"),
            exactly_one_of_three,
        ),
        (
            all("namespaces: []"),
            "namespaces is empty: add at least one",
        ),
        (all("selector: {}"), empty),
        (all("connection: {name: a}"), "kind: Required value"),
        (
            all("connection: {kind: Secret, name: a}"),
            "supported values: \"AcsConnection\"",
        ),
        (
            all("connection: {kind: AcsConnection, name: a}"),
            "connection.namespace is required for an AcsConnection",
        ),
        (
            all("connection: {kind: ClusterAcsConnection, name: a, namespace: b}"),
            "not allowed for a ClusterAcsConnection",
        ),
    ];
    for (manifest, sentence) in &table {
        let said = world.refuse(manifest);
        assert!(said.contains(sentence), "{said}\n{manifest}");
    }
    revoke(&world, "good", "names: [a], dryRun: true");
    for change in [
        "names: [b], dryRun: true",
        "names: [a], dryRun: false",
        "names: [a]",
    ] {
        let said = world.refuse(&order("AcsRevocation", "good", change));
        assert!(said.contains("an AcsRevocation is immutable"), "{said}");
    }
    revoke_in_cluster(&world, "namespaces: [nobody-has-this], dryRun: true");
    let name = world.namespace.clone();
    let other = order("ClusterAcsRevocation", &name, "namespaces: [a]");
    let said = world.refuse(&other);
    assert!(
        said.contains("a ClusterAcsRevocation is immutable"),
        "{said}"
    );
    world.cluster.kubectl(&["delete", "cacsrev", &name]);
}

/// Runs every block of the page, in its order; the test's namespace replaces that of the page.
#[tokio::test]
async fn the_page_on_emergencies_is_true_word_for_word() {
    let world = World::new().await;
    let former = alive(
        &world,
        &[("alice", "app: shop", ""), ("bob", "app: shop", "")],
    )
    .await;
    world.token("alice-web", "alice", "scopes: [voip]");
    let mut web = world.live_token("alice-web", &[]).await;
    let blocks = commands("docs/revoke-in-an-emergency.md");
    assert_eq!(blocks.len(), 6);
    for (number, block) in blocks.iter().enumerate() {
        let script = block.replace("team-red", &world.namespace);
        let told = world.bash(&script);
        match number {
            // The dry run.
            1 => {
                assert!(told.ends_with("alice bob"), "{told}");
                assert!(world.emulator.check(&web).await.valid);
            }
            5 => assert!(!world.emulator.check(&web).await.valid),
            _ => {
                assert!(!world.emulator.check(&web).await.valid, "{script}");
                web = world.live_token("alice-web", &[&web]).await;
            }
        }
    }
    assert!(!world.emulator.check(&former["bob"]).await.valid);
    world.live_token("bob", &[&former["bob"]]).await;
    for name in ["is-hacked", "resource"] {
        let name = format!("{}-{name}", world.namespace);
        world.cluster.kubectl(&["delete", "cacsrev", &name]);
    }
}
