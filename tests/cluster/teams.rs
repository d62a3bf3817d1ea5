//! Tokens of Teams users: exchanged for an Entra token that an external process keeps fresh (T1 to
//! T6, C1, policy).

use acs_identity_operator::crd::{AcsConnection, AcsToken};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::cluster_connection::clean_up;
use crate::support::{
    emulator::Emulator,
    eventually,
    user_token::{APPLICATION, TENANT, USER, entra_token},
    world::{World, spec},
};

/// Stores a text in the Secret of the Entra token.
pub fn sign_in(world: &World, text: &str) {
    world.apply(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: bob-entra}}\nstringData: {{token: \"{text}\"}}\n"
    ));
}

/// Returns an Entra token that expires in this many seconds.
pub fn ending_in(seconds: i64) -> String {
    entra_token(&json!({"exp": Timestamp::now().as_second() + seconds}))
}

/// Creates the token of a Teams user with more in its `spec` (flow-style YAML without braces).
pub fn teams_token(world: &World, name: &str, more: &str) {
    world.apply(&manifest(name, more));
}

fn manifest(name: &str, more: &str) -> String {
    format!(
        "apiVersion: acs-identity.dev/v1alpha1\nkind: AcsToken\nmetadata: {{name: {name}}}\n\
         spec: {{teamsUser: {{appId: {APPLICATION}, userId: {USER}, secretRef: {{name: bob-entra, key: token}}}}, {more}}}\n"
    )
}

async fn exchanged(world: &World) -> usize {
    world.emulator.count("exchangeTeamsToken").await
}

#[tokio::test]
async fn an_entra_token_becomes_a_secret_with_a_live_token_of_the_teams_user() {
    let world = World::new().await;
    let entra = entra_token(&json!({}));
    sign_in(&world, &entra);
    teams_token(&world, "bob", "");
    let token = world.ready("bob").await;
    let bytes = world.live_token("bob", &[]).await;
    let check = world.emulator.check(&bytes).await;
    let id = format!("8:orgid:{USER}");
    assert_eq!(check.identity_id.as_deref(), Some(id.as_str()));
    for (key, value) in [
        ("identityId", id.as_str()),
        ("scopes", "chat,voip"),
        ("endpoint", world.emulator.url.as_str()),
    ] {
        let held = world.secret_value("bob", key).await;
        assert_eq!(held.as_deref(), Some(value));
    }
    let status = token.status.expect("a status");
    assert_eq!(status.endpoint, Some(world.emulator.url.clone()));
    assert_eq!(status.connection_ref.expect("a reference").name, "default");
    let life = status.expires_at.clone().expect("an end").0 - status.issued_at.expect("a start").0;
    assert!((3590..=3600).contains(&life.get_seconds()), "{life:?}");
    assert_eq!(status.expires_in.as_deref(), Some("60m"));
    let message = world.token_says("bob", "TokenIssued").await;
    assert!(message.contains("ACS cannot revoke it"), "{message}");
    // No identity is created for it, and one call is enough.
    assert_eq!(exchanged(&world).await, 1);
    assert_eq!(world.emulator.requests().await.len(), 1);
    eventually("the connection counts it", || async {
        let connection = world.api::<AcsConnection>().get("default").await.ok()?;
        (connection.status?.tokens == Some(1)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_new_entra_token_is_exchanged_at_once_and_nothing_else_costs_a_call() {
    let mut world = World::new().await;
    sign_in(&world, &entra_token(&json!({})));
    teams_token(&world, "bob", "");
    world.ready("bob").await;
    let first = world.live_token("bob", &[]).await;
    // The same token next to another key, other labels, another margin, a restart: no call.
    world
        .patch::<Secret>("bob-entra", json!({"stringData": {"other": "thing"}}))
        .await;
    let change = json!({"renewBefore": "20m", "secret": {"labels": {"team": "a"}}});
    world.patch::<AcsToken>("bob", spec(&change)).await;
    eventually("the label is there", || async {
        let secret = world.api::<Secret>().get("bob").await.ok()?;
        secret.metadata.labels?.get("team").map(|_| ())
    })
    .await;
    world.kill_operator();
    world.start_operator();
    world.settled().await;
    assert_eq!(exchanged(&world).await, 1);

    sign_in(&world, &ending_in(3500));
    let second = world.live_token("bob", &[&first]).await;
    // A deleted Secret is restored, an edited one is repaired, a renamed one moves.
    world.delete::<Secret>("bob").await;
    let third = world.live_token("bob", &[&first, &second]).await;
    let edit = json!({"stringData": {"token": "edited"}});
    world.patch::<Secret>("bob", edit).await;
    let fourth = world.live_token("bob", &[&third]).await;
    let change = spec(&json!({"secret": {"name": "moved"}}));
    world.patch::<AcsToken>("bob", change).await;
    assert_eq!(world.live_token("moved", &[]).await, fourth);
    world.gone::<Secret>("bob").await;
    assert_eq!(exchanged(&world).await, 4);
}

#[tokio::test]
async fn it_waits_for_the_entra_token_and_says_for_what() {
    let world = World::new().await;
    teams_token(&world, "bob", "");
    let message = world.token_says("bob", "SecretNotFound").await;
    let waits = format!("waiting for Secret {}/bob-entra", world.namespace);
    assert!(message.starts_with(&waits), "{message}");
    let token = world.get::<AcsToken>("bob").await;
    let conditions = token.status.expect("a status").conditions;
    assert!(conditions.iter().any(|it| it.type_ == "Reconciling"));
    world.apply(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: bob-entra}\nstringData: {other: x}\n",
    );
    let message = world.token_says("bob", "SecretKeyNotFound").await;
    assert!(message.contains("waiting for key token"), "{message}");
    sign_in(&world, &entra_token(&json!({})));
    world.ready("bob").await;
    // It is needed again only for the next exchange.
    world.delete::<Secret>("bob-entra").await;
    world.settled().await;
    world.ready("bob").await;
    assert_eq!(exchanged(&world).await, 1);
}

#[tokio::test]
async fn nothing_but_the_entra_token_of_the_user_is_ever_sent() {
    let world = World::new().await;
    sign_in(&world, "hunter2-is-a-password");
    teams_token(&world, "bob", "");
    for (text, says) in [
        (
            "hunter2-is-a-password".to_owned(),
            "is no access token of a user of Microsoft Entra ID",
        ),
        (
            entra_token(&json!({"oid": TENANT})),
            "is the Entra token of another user than userId",
        ),
        (
            entra_token(&json!({"appid": TENANT})),
            "with another application than appId",
        ),
    ] {
        sign_in(&world, &text);
        let token = world
            .token_where(&format!("says {says}"), "bob", |token| {
                let conditions = token.status.clone().unwrap_or_default().conditions;
                let stalled = conditions.iter().find(|it| it.type_ == "Stalled");
                stalled
                    .is_some_and(|it| it.reason == "InvalidUserToken" && it.message.contains(says))
            })
            .await;
        let told = serde_json::to_string(&token).expect("JSON");
        assert!(!told.contains(&text) && !told.contains(TENANT), "{told}");
    }
    world.event("bob", "IssueFailed").await;
    assert!(world.emulator.requests().await.is_empty());
    sign_in(&world, &entra_token(&json!({})));
    world.ready("bob").await;
}

#[tokio::test]
async fn an_entra_token_that_nobody_refreshes_is_told_before_the_token_ends_and_when_it_has() {
    let world = World::new().await;
    sign_in(&world, &ending_in(15));
    teams_token(&world, "bob", "");
    let first = world.live_token("bob", &[]).await;
    let note = world.event("bob", "IssueFailed").await;
    assert!(note.contains("store a new token there"), "{note}");
    let token = world.get::<AcsToken>("bob").await;
    let failure = token.status.expect("a status").last_failure;
    assert_eq!(failure.expect("a failure").reason, "UserTokenNotRefreshed");
    let message = world.token_says("bob", "UserTokenExpired").await;
    assert!(
        message.contains("sign the Teams user in again"),
        "{message}"
    );
    // No unnecessary call was sent.
    assert_eq!(exchanged(&world).await, 1);
    sign_in(&world, &entra_token(&json!({})));
    world.live_token("bob", &[&first]).await;
    let token = world.ready("bob").await;
    assert_eq!(token.status.expect("a status").last_failure, None);
}

#[tokio::test]
async fn a_refused_entra_token_is_no_fault_of_the_connection_and_the_next_is_tried_at_once() {
    let world = World::new().await;
    sign_in(&world, &entra_token(&json!({})));
    teams_token(&world, "bob", "");
    world.ready("bob").await;
    let first = world.live_token("bob", &[]).await;
    let refuse = json!([{
        "operation": "exchangeTeamsToken", "effect": "status", "status": 401, "count": 1000,
        "code": "InvalidAccessToken", "message": "Provided access token is not valid.",
    }]);
    world.emulator.faults(refuse).await;
    sign_in(&world, &ending_in(3500));
    let note = world.event("bob", "IssueFailed").await;
    assert!(note.contains("Sign the Teams user in again"), "{note}");
    teams_token(&world, "zoe", "");
    let message = world.token_says("zoe", "InvalidUserToken").await;
    assert!(message.contains("InvalidAccessToken"), "{message}");
    world.connection_says("default", "ConnectionReady").await;
    world.ready("bob").await;

    // As if it had failed for long: the pause before the next attempt is longer than a test's
    // timeout.
    let now = Timestamp::now().round(jiff::Unit::Second);
    let now = now.expect("a time").to_string();
    let failure = json!({"reason": "InvalidUserToken", "message": note, "time": now});
    let status = json!({"status": {"failedAttempts": 20, "lastFailure": failure}});
    let api = world.api::<AcsToken>();
    api.patch_status("bob", &PatchParams::default(), &Patch::Merge(&status))
        .await
        .expect("patched");
    world.emulator.heal().await;
    sign_in(&world, &ending_in(3400));
    world.live_token("bob", &[&first]).await;
}

#[tokio::test]
async fn deletion_takes_the_secret_and_says_that_the_token_lives_on() {
    let world = World::new().await;
    sign_in(&world, &entra_token(&json!({})));
    teams_token(&world, "bob", "");
    let bytes = world.live_token("bob", &[]).await;
    world.ready("bob").await;
    world.delete::<AcsToken>("bob").await;
    world.gone::<AcsToken>("bob").await;
    world.gone::<Secret>("bob").await;
    let note = world.event("bob", "NotRevoked").await;
    assert!(
        note.contains("ACS cannot revoke tokens of Teams users"),
        "{note}"
    );
    assert!(world.emulator.check(&bytes).await.valid);
    assert_eq!(world.emulator.count("revokeTokens").await, 0);
}

#[tokio::test]
async fn suspended_it_is_not_exchanged_until_it_is_resumed() {
    let world = World::new().await;
    sign_in(&world, &entra_token(&json!({})));
    teams_token(&world, "bob", "");
    world.ready("bob").await;
    let first = world.live_token("bob", &[]).await;
    let change = spec(&json!({"suspend": true}));
    world.patch::<AcsToken>("bob", change).await;
    world.token_says("bob", "Suspended").await;
    sign_in(&world, &ending_in(3500));
    world.settled().await;
    assert_eq!(exchanged(&world).await, 1);
    assert_eq!(world.live_token("bob", &[]).await, first);
    let change = spec(&json!({"suspend": false}));
    world.patch::<AcsToken>("bob", change).await;
    world.live_token("bob", &[&first]).await;
}

#[tokio::test]
async fn a_key_that_takes_the_place_of_another_makes_it_anew() {
    let world = World::new().await;
    sign_in(&world, &entra_token(&json!({})));
    teams_token(&world, "bob", "");
    world.ready("bob").await;
    let first = world.live_token("bob", &[]).await;
    let with = |key: String| format!("endpoint={};accesskey={key}", world.emulator.url);
    let secondary = world.emulator.regenerate("secondary").await;
    world.connect("default", &with(secondary));
    let second = world.live_token("bob", &[&first]).await;
    // The disruptive way.
    let fresh = world.emulator.regenerate("secondary").await;
    teams_token(&world, "other", "");
    world.connection_says("default", "CredentialRefused").await;
    world.connect("default", &with(fresh));
    world.live_token("bob", &[&first, &second]).await;
    world.ready("other").await;
}

#[tokio::test]
async fn another_resource_is_never_called_for_it() {
    let world = World::new().await;
    sign_in(&world, &entra_token(&json!({})));
    teams_token(&world, "bob", "");
    let first = world.live_token("bob", &[]).await;
    world.ready("bob").await;
    let other = Emulator::start(&[]);
    world.connect("default", &other.connection_string);
    eventually("the connection leads elsewhere", || async {
        let connection = world.api::<AcsConnection>().get("default").await.ok()?;
        (connection.status?.endpoint.as_deref() == Some(&other.url)).then_some(())
    })
    .await;
    world.delete::<Secret>("bob").await;
    let message = world.token_says("bob", "EndpointChanged").await;
    assert!(
        message.contains("restore the endpoint of the connection"),
        "{message}"
    );
    assert!(other.requests().await.is_empty());
    world.connect("default", &world.emulator.connection_string);
    world.live_token("bob", &[&first]).await;
}

#[tokio::test]
async fn the_policy_holds_for_it_and_what_it_forbids_loses_its_secret() {
    let world = World::new().await;
    let policy = async |policy: serde_json::Value| {
        let change = spec(&json!({"policy": policy}));
        world.patch::<AcsConnection>("default", change).await;
    };
    // Its lifetime is limited by Entra, not by the policy.
    policy(json!({"maxExpiresIn": "1h"})).await;
    sign_in(&world, &ending_in(7200));
    teams_token(&world, "bob", "");
    world.ready("bob").await;
    world.settled().await;
    assert_eq!(exchanged(&world).await, 1);
    let first = world.live_token("bob", &[]).await;
    policy(json!({"scopes": ["chat"]})).await;
    let message = world.token_says("bob", "PolicyDenied").await;
    assert!(
        message.contains("policy.scopes allows chat, not voip"),
        "{message}"
    );
    world.gone::<Secret>("bob").await;
    policy(json!({"scopes": null, "maxTokensPerIdentity": 1})).await;
    world.live_token("bob", &[&first]).await;
    teams_token(&world, "zoe", "");
    world.token_says("zoe", "PolicyDenied").await;
    world.delete::<AcsToken>("bob").await;
    world.live_token("zoe", &[]).await;
}

#[tokio::test]
async fn a_namespace_that_falls_out_of_the_policy_loses_renewal_at_once_and_the_secret_later() {
    let mut world = World::bare(&[], &[]).await;
    let name = format!("{}-teams", world.namespace);
    let connection = |names: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: teams}}\nstringData: {{connectionString: \"{}\"}}\n\
             ---\napiVersion: acs-identity.dev/v1alpha1\nkind: ClusterAcsConnection\nmetadata: {{name: {name}}}\n\
             spec:\n  auth: {{connectionString: {{secretRef: {{name: teams, key: connectionString}}}}}}\n  \
             policy: {{namespaces: {{names: [{names}]}}}}\n",
            world.emulator.connection_string
        )
    };
    let (served, not_served) = (connection(&world.namespace), connection("elsewhere"));
    world.apply(&served);
    world.start_operator();
    sign_in(&world, &entra_token(&json!({})));
    teams_token(
        &world,
        "bob",
        &format!("connectionRef: {{kind: ClusterAcsConnection, name: {name}}}"),
    );
    world.ready("bob").await;
    let first = world.live_token("bob", &[]).await;

    world.apply(&not_served);
    let note = world.event("bob", "PolicyDenied").await;
    assert!(note.contains("its Secret is deleted at"), "{note}");
    sign_in(&world, &ending_in(3500));
    world.settled().await;
    assert_eq!(exchanged(&world).await, 1);
    assert_eq!(world.live_token("bob", &[]).await, first);

    // As if it had been in this state for five minutes.
    let since = Timestamp::now() - SignedDuration::from_mins(5);
    let since = since.round(jiff::Unit::Second).expect("a time");
    let status = json!({"status": {"deniedSince": since.to_string()}});
    let api = world.api::<AcsToken>();
    api.patch_status("bob", &PatchParams::default(), &Patch::Merge(&status))
        .await
        .expect("patched");
    world.gone::<Secret>("bob").await;
    world.token_says("bob", "PolicyDenied").await;

    world.apply(&served);
    world.live_token("bob", &[&first]).await;
    world
        .token_where("is denied no more", "bob", |token| {
            token
                .status
                .as_ref()
                .is_some_and(|it| it.denied_since.is_none())
        })
        .await;
    clean_up(&world, &name).await;
}

#[tokio::test]
async fn nonsense_is_refused_with_a_sentence() {
    let world = World::bare(&[], &[]).await;
    let whole = |spec: &str| {
        format!(
            "apiVersion: acs-identity.dev/v1alpha1\nkind: AcsToken\nmetadata: {{name: bad}}\nspec: {{{spec}}}\n"
        )
    };
    let user = |app: &str, user: &str| {
        whole(&format!(
            "teamsUser: {{appId: {app}, userId: {user}, secretRef: {{name: a, key: b}}}}"
        ))
    };
    for (manifest, says) in [
        (
            whole("scopes: [chat]"),
            "exactly one of identityRef and teamsUser",
        ),
        (
            manifest("bad", "identityRef: {name: alice}, scopes: [chat]"),
            "exactly one of identityRef and teamsUser",
        ),
        (
            whole("identityRef: {name: alice}"),
            "scopes is required with identityRef",
        ),
        (
            manifest("bad", "scopes: [chat]"),
            "scopes, expiresIn and revocation are not allowed with teamsUser",
        ),
        (
            manifest("bad", "expiresIn: 2h"),
            "scopes, expiresIn and revocation are not allowed with teamsUser",
        ),
        (
            manifest("bad", "revocation: Never"),
            "scopes, expiresIn and revocation are not allowed with teamsUser",
        ),
        (
            whole(
                "identityRef: {name: alice}, scopes: [chat], connectionRef: {kind: AcsConnection, name: x}",
            ),
            "connectionRef is allowed only with teamsUser",
        ),
        (
            user("teams", USER),
            "teamsUser.appId must be the application",
        ),
        (
            user(APPLICATION, "bob@contoso.example"),
            "teamsUser.userId must be the user's object id",
        ),
        (
            whole(&format!(
                "teamsUser: {{appId: {APPLICATION}, userId: {USER}}}"
            )),
            "spec.teamsUser.secretRef: Required value",
        ),
    ] {
        let message = world.refuse(&manifest);
        assert!(message.contains(says), "{manifest}: {message}");
    }
    world.apply(&manifest("bad", ""));
    world.token("web", "alice", "scopes: [chat]");
    for (manifest, says) in [
        (
            user(APPLICATION, TENANT),
            "teamsUser.userId is immutable: a token belongs to one user",
        ),
        (user(TENANT, USER), "teamsUser.appId is immutable"),
        (
            manifest("web", "identityRef: null, scopes: null"),
            "identityRef and teamsUser cannot replace each other",
        ),
    ] {
        let message = world.refuse(&manifest);
        assert!(message.contains(says), "{manifest}: {message}");
    }
}
