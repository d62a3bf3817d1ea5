//! `AcsRevocation` objects: `revoke --selector`, and how `status` shows them.

use acs_identity_operator::crd::{AcsRevocation, ClusterAcsRevocation};
use jiff::{SignedDuration, Timestamp};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    run::{acs, end, program, says},
    support::{eventually, process::Process, world::World},
};

/// Creates users with a label and a token each, and returns the tokens.
async fn team(world: &World, members: &[(&str, &str)]) -> Vec<String> {
    for (name, team) in members {
        world.apply(&format!(
            "apiVersion: acs-identity.dev/v1alpha1\nkind: AcsIdentity\nmetadata: {{name: {name}, labels: {{team: {team}}}}}\nspec: {{}}\n"
        ));
        world.token(name, name, "scopes: [chat]");
    }
    let mut tokens = Vec::new();
    for (name, _) in members {
        tokens.push(world.live_token(name, &[]).await);
    }
    tokens
}

fn revocation(world: &World, kind: &str, name: &str, spec: &str) {
    world.apply(&format!(
        "apiVersion: acs-identity.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
    ));
}

async fn revocations(world: &World) -> Vec<AcsRevocation> {
    let all = ListParams::default();
    let revocations = world.api::<AcsRevocation>().list(&all).await;
    revocations.unwrap().items
}

/// Waits until `status` shows this part for a revocation.
async fn shows(world: &World, name: &str, part: &str) -> String {
    eventually(&format!("status shows {part}"), || async {
        let tree = acs(world, &["status", name]).out;
        tree.contains(part).then_some(tree)
    })
    .await
}

#[tokio::test]
async fn all_users_with_a_label_lose_their_tokens_by_a_revocation_that_stays() {
    let world = World::new().await;
    let members = [("alice", "red"), ("bob", "red"), ("carol", "blue")];
    let tokens = team(&world, &members).await;
    let error = acs(&world, &["revoke", "--selector", "team=red"]).failed(2);
    says(
        &error,
        &[
            "Revoke all tokens of AcsIdentity alice, bob and issue new ones?",
            "use --yes",
        ],
    );
    assert!(revocations(&world).await.is_empty());
    let arguments = ["revoke", "-l", "team=red", "--reason", "leaked", "--yes"];
    let output = acs(&world, &arguments);
    says(
        &output.err,
        &[
            "created AcsRevocation ",
            "/revoke-",
            "revoked all tokens of AcsIdentity ",
            "/alice that were issued up to 20",
            "revoked all tokens of AcsIdentity ",
            "/bob that were issued up to 20",
        ],
    );
    assert!(!output.err.contains("carol"), "{output:?}");
    assert_eq!(output.fine(), "");
    let mut valid = Vec::new();
    for token in &tokens {
        valid.push(world.emulator.check(token).await.valid);
    }
    assert_eq!(valid, [false, false, true]);
    let revocation = revocations(&world).await.remove(0);
    assert_eq!(revocation.spec.reason.as_deref(), Some("leaked"));
    let ahead = revocation
        .spec
        .not_after
        .unwrap()
        .0
        .duration_since(Timestamp::now());
    assert!((8..=10).contains(&ahead.as_mins()), "{ahead:?}");
}

#[tokio::test]
async fn a_dry_run_prints_the_revocation_and_creates_none() {
    let world = World::new().await;
    team(&world, &[("alice", "red")]).await;
    let arguments = ["revoke", "-l", "team=red,app==shop", "--dry-run"];
    let output = acs(&world, &arguments);
    assert_eq!(output.err, "");
    let yaml = output.fine();
    says(
        &yaml,
        &[
            "kind: AcsRevocation\nmetadata:\n  name: revoke-",
            "spec:\n  selector:\n    matchLabels:\n      app: shop\n      team: red\n  notAfter: ",
        ],
    );
    let (fine, answer) = world
        .cluster
        .pipe(&["apply", "--dry-run=server", "-f", "-"], &yaml);
    assert!(fine, "{answer}");
    assert!(revocations(&world).await.is_empty());
    // A dry run needs no cluster.
    end(program("/nonexistent".as_ref()).args(arguments)).fine();
}

#[tokio::test]
async fn bad_input_says_what_is_right_and_nobody_is_hit() {
    let world = World::new().await;
    team(&world, &[("alice", "red")]).await;
    let error = acs(&world, &["revoke", "-l", "team=blue", "--yes"]).failed(5);
    says(
        &error,
        &[
            "the selector `team=blue` matches no AcsIdentity in namespace ",
            "; run `kubectl get acsidentities",
        ],
    );
    let error = acs(&world, &["revoke", "-l", "team in red", "--yes"]).failed(2);
    says(&error, &["`team in red` is not a selector; write team=red"]);
    for wrong in [
        vec!["revoke", "-l", "team=red", "alice"],
        vec!["revoke", "-l", "team=red", "--user", "alice"],
        vec!["revoke", "-l", "team=red", "--suspend"],
        vec!["revoke", "alice", "--dry-run", "--yes"],
        vec!["revoke", "--user", "alice", "--reason", "leaked", "--yes"],
    ] {
        says(&acs(&world, &wrong).failed(2), &["cannot be used with"]);
    }
    for wrong in [["revoke", "--yes"], ["revoke", "--dry-run"]] {
        says(&acs(&world, &wrong).failed(2), &["<USER>"]);
    }
    assert!(revocations(&world).await.is_empty());
    assert_eq!(world.emulator.count("revokeTokens").await, 0);
}

#[tokio::test]
async fn a_revocation_that_takes_longer_says_what_it_waits_for_and_status_goes_on() {
    let world = World::new().await;
    team(&world, &[("alice", "red")]).await;
    let refuse = json!([{"operation": "revokeTokens", "effect": "status", "status": 503}]);
    world.emulator.faults(refuse).await;
    let arguments = ["revoke", "-l", "team=red", "--yes", "--timeout", "5s"];
    let error = acs(&world, &arguments).failed(4);
    says(
        &error,
        &[
            "timed out after 5s waiting for AcsRevocation ",
            "Revoking: 0 of 1 revoked",
            "run `kubectl acs status` to see the progress",
        ],
    );
    let output = acs(&world, &["status"]);
    says(
        &output.out,
        &[
            "AcsRevocation revoke-",
            "  waiting  0 of 1 revoked\n",
            "   Revoking: 0 of 1 revoked",
        ],
    );
    output.failed(4);
    world.emulator.heal().await;
    let name = revocations(&world).await.remove(0).metadata.name.unwrap();
    let tree = shows(&world, &name, "  Ready  1 of 1 revoked  completed ").await;
    says(&tree, &[&format!("AcsRevocation {name}  Ready"), " ago\n"]);
    world.live_token("alice", &[]).await;
    world.ready("alice").await;
    let json = acs(&world, &["status", &name, "-o", "json"]).json();
    assert_eq!(
        (&json[0]["state"], &json[0]["revoked"]),
        (&json!("Ready"), &json!("1"))
    );
    let end: Timestamp = json[0]["completedAt"].as_str().unwrap().parse().unwrap();
    assert!(end <= Timestamp::now());
}

#[tokio::test]
async fn a_revocation_that_did_nothing_says_so_and_the_command_fails() {
    let mut world = World::new().await;
    team(&world, &[("alice", "red")]).await;
    revocation(
        &world,
        "AcsRevocation",
        "what-if",
        "names: [alice], dryRun: true",
    );
    let tree = shows(&world, "what-if", "completed").await;
    says(
        &tree,
        &[
            "AcsRevocation what-if  Ready  0 of 1 revoked",
            "\n   DryRun: dryRun is true, so nothing is revoked",
        ],
    );
    revocation(&world, "AcsRevocation", "typo", "names: [alcie]");
    let tree = shows(&world, "typo", "IdentityNotFound").await;
    says(
        &tree,
        &[
            "AcsRevocation typo  needs action",
            "IdentityNotFound: AcsIdentity alcie does not exist",
        ],
    );
    // An identity that loses the label before the operator sees the revocation is not selected. The
    // command then fails.
    world.kill_operator();
    let mut command = program(&world.cluster.kubeconfig);
    command.args(["revoke", "-l", "team=red", "--yes", "-n", &world.namespace]);
    let mut revoke = Process::start(&mut command);
    revoke.wait_for("the revocation", |line| {
        line.contains("created AcsRevocation").then_some(())
    });
    let change = json!({"metadata": {"labels": {"team": "blue"}}});
    world
        .patch::<acs_identity_operator::crd::AcsIdentity>("alice", change)
        .await;
    world.start_operator();
    revoke.wait_for("its end", |line| {
        let message = "needs action: NothingSelected: nothing is revoked: this revocation selects no \
         AcsIdentity";
        line.contains(message).then_some(())
    });
    assert_eq!(world.emulator.count("revokeTokens").await, 0);
}

#[tokio::test]
async fn a_revocation_that_completed_long_ago_is_shown_by_name_only() {
    let world = World::new().await;
    team(&world, &[("alice", "red")]).await;
    revocation(&world, "AcsRevocation", "leaked", "names: [alice]");
    shows(&world, "leaked", "completed").await;
    says(&acs(&world, &["status"]).out, &["AcsRevocation leaked"]);
    let past = Timestamp::now() - SignedDuration::from_mins(65);
    let past = past.round(jiff::Unit::Second).unwrap();
    let change: Value = json!({"status": {"completedAt": past.to_string()}});
    let api = world.api::<AcsRevocation>();
    api.patch_status("leaked", &PatchParams::default(), &Patch::Merge(&change))
        .await
        .unwrap();
    let tree = acs(&world, &["status"]).out;
    assert!(!tree.contains("leaked"), "{tree}");
    let tree = acs(&world, &["status", "leaked"]).fine();
    says(
        &tree,
        &["AcsRevocation leaked  Ready  1 of 1 revoked  completed 1h "],
    );
}

#[tokio::test]
async fn a_revocation_of_the_cluster_is_shown_where_it_has_targets_to_those_who_may_see_it() {
    let world = World::new().await;
    team(&world, &[("alice", "red")]).await;
    // The revocation outlives the namespace, and every operator of this test binary sees it.
    let name = &world.namespace;
    revocation(
        &world,
        "ClusterAcsRevocation",
        name,
        &format!("namespaces: [{name}]"),
    );
    let tree = shows(&world, name, "completed").await;
    says(
        &tree,
        &[&format!(
            "ClusterAcsRevocation {name}  Ready  1 of 1 revoked"
        )],
    );
    says(
        &acs(&world, &["status", "-A"]).out,
        &[&format!("ClusterAcsRevocation {name}")],
    );
    let mut elsewhere = program(&world.cluster.kubeconfig);
    let elsewhere = end(elsewhere.args(["status", "-n", "default"])).out;
    assert!(!elsewhere.contains("ClusterAcsRevocation"), "{elsewhere}");
    revocation(&world, "AcsRevocation", "leaked", "names: [alice]");
    world.apply(
        "{apiVersion: v1, kind: ServiceAccount, metadata: {name: team}}\n---\n\
         {apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: team}, rules: [\
         {apiGroups: [acs-identity.dev], resources: [acsconnections, acsidentities, acstokens], verbs: [get, list]}]}\n---\n\
         {apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: team}, \
         roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: team}, subjects: [{kind: ServiceAccount, name: team}]}\n",
    );
    let kubeconfig = world.cluster.kubeconfig_of(name, "team");
    let tree = end(program(&kubeconfig).args(["status", "-n", name])).out;
    says(&tree, &["AcsConnection default", "AcsIdentity alice"]);
    assert!(!tree.contains("AcsRevocation"), "{tree}");
    let api: Api<ClusterAcsRevocation> = Api::all(world.client.clone());
    api.delete(name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn watching_shows_a_revocation_that_nothing_else_shows() {
    let world = World::new().await;
    world.connection_says("default", "ConnectionReady").await;
    let mut command = program(&world.cluster.kubeconfig);
    command.args(["status", "--watch", "-n", &world.namespace]);
    let mut watching = Process::start(&mut command);
    watching.wait_for("the connection", |line| {
        line.contains("AcsConnection default  Ready").then_some(())
    });
    // The first may arrive with the initial list of the watches.
    for name in ["first", "second"] {
        revocation(&world, "AcsRevocation", name, "names: [alcie]");
        watching.wait_for("the revocation", |line| {
            let shown = format!("AcsRevocation {name}  needs action");
            line.contains(&shown).then_some(())
        });
    }
}
