//! Policy of a connection, and the treatment of what it denies.

use acs_identity_operator::crd::{AcsConnection, AcsIdentity, AcsToken};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::{
    eventually,
    world::{World, spec},
};

/// Creates a world whose connection has this policy.
async fn world_with(policy: &Value) -> World {
    let world = World::new().await;
    set_policy(&world, policy).await;
    world.identity("alice", "");
    world.identity_says("alice", "IdentityReady").await;
    world
}

async fn set_policy(world: &World, policy: &Value) {
    let change = spec(&json!({"policy": policy}));
    world.patch::<AcsConnection>("default", change).await;
}

#[tokio::test]
async fn a_scope_beyond_the_policy_is_denied_by_name_and_widening_heals_without_an_edit() {
    let world = world_with(&json!({"scopes": ["chat", "chat.join"]})).await;
    world.token("web", "alice", "scopes: [chat, voip]");
    let message = world.token_says("web", "PolicyDenied").await;
    assert!(
        message.contains("policy.scopes allows chat, chat.join, not voip"),
        "{message}"
    );
    assert!(message.contains("AcsConnection"), "{message}");
    assert_eq!(world.issued().await, 0);
    set_policy(&world, &json!({"scopes": ["chat", "voip"]})).await;
    world.ready("web").await;
}

#[tokio::test]
async fn a_life_beyond_the_policy_is_denied_and_none_asked_for_gets_the_longest() {
    let world = world_with(&json!({"maxExpiresIn": "2h"})).await;
    world.token("long", "alice", "scopes: [chat], expiresIn: 3h");
    let message = world.token_says("long", "PolicyDenied").await;
    assert!(
        message.contains("policy.maxExpiresIn allows 2h, not 3h"),
        "{message}"
    );
    world.token("web", "alice", "scopes: [chat]");
    let status = world.ready("web").await.status.expect("a status");
    let issued = status.issued_at.expect("a start").0;
    let life = status.expires_at.expect("an end").0.duration_since(issued);
    assert!((119..=121).contains(&life.as_mins()), "{life:?}");

    // Extending a policy revokes no token.
    set_policy(&world, &json!({"maxExpiresIn": "12h"})).await;
    world.ready("long").await;
    world.settled().await;
    let now = world.ready("web").await.status.expect("a status");
    assert_eq!(now.revision, Some(1));
    assert_eq!(world.issued().await, 2);
}

#[tokio::test]
async fn a_narrowed_policy_revokes_what_it_no_longer_allows_whatever_the_token_says() {
    let world = world_with(&json!({})).await;
    world.token("web", "alice", "scopes: [chat, voip], revocation: Never");
    world.token("app", "alice", "scopes: [chat]");
    world.ready("web").await;
    world.ready("app").await;
    let web = world.live_token("web", &[]).await;
    let app = world.live_token("app", &[]).await;

    set_policy(&world, &json!({"scopes": ["chat"]})).await;
    world.token_says("web", "PolicyDenied").await;
    world.gone::<Secret>("web").await;
    assert!(!world.emulator.check(&web).await.valid);
    // The sibling's token was revoked with it, and the sibling has a new one.
    world.live_token("app", &[&app]).await;

    set_policy(&world, &json!({"scopes": null})).await;
    world.live_token("web", &[&web]).await;
}

#[tokio::test]
async fn a_spec_that_is_denied_keeps_nothing_that_it_gave_up() {
    let world = world_with(&json!({"scopes": ["chat", "chat.join"]})).await;
    world.token("web", "alice", "scopes: [chat, chat.join]");
    world.ready("web").await;
    let held = world.live_token("web", &[]).await;
    let change = spec(&json!({"scopes": ["chat", "voip"]}));
    world.patch::<AcsToken>("web", change).await;
    world.gone::<Secret>("web").await;
    assert!(!world.emulator.check(&held).await.valid);
    world.token_says("web", "PolicyDenied").await;
    assert_eq!(world.issued().await, 1);
}

#[tokio::test]
async fn of_too_many_tokens_the_oldest_keeps_its_place_and_leaves_it_to_the_next() {
    let world = world_with(&json!({"maxTokensPerIdentity": 1})).await;
    // Within one second, the name decides.
    world.token("a", "alice", "scopes: [chat]");
    world.ready("a").await;
    world.token("b", "alice", "scopes: [chat]");
    let message = world.token_says("b", "PolicyDenied").await;
    assert!(
        message.contains("policy.maxTokensPerIdentity is 1"),
        "{message}"
    );
    world.delete::<AcsToken>("a").await;
    world.ready("b").await;
}

#[tokio::test]
async fn an_identity_that_falls_out_of_the_policy_loses_renewal_at_once_and_its_tokens_later() {
    let world = World::new().await;
    let id = world.stray().await;
    world.identity("alice", &format!("identityId: \"{id}\""));
    world.token("web", "alice", "scopes: [chat], revocation: Never");
    world.ready("web").await;
    let held = world.live_token("web", &[]).await;

    set_policy(&world, &json!({"adoption": "Deny"})).await;
    let note = world.event("alice", "PolicyDenied").await;
    assert!(
        note.contains("the tokens of this identity are revoked at"),
        "{note}"
    );
    world.identity_says("alice", "PolicyDenied").await;
    // A renewal is requested but not performed; the token is still valid.
    let request = json!({"metadata": {"annotations": {"acs-identity.dev/requested-at": "1"}}});
    world.patch::<AcsToken>("web", request).await;
    world.settled().await;
    assert_eq!(world.issued().await, 1);
    assert_eq!(world.live_token("web", &[]).await, held);

    // As if it had been in this state for five minutes.
    let api = world.api::<AcsIdentity>();
    let since = Timestamp::now() - SignedDuration::from_mins(5);
    let since = since.round(jiff::Unit::Second).expect("a time");
    let status = json!({"status": {"deniedSince": since.to_string()}});
    api.patch_status("alice", &PatchParams::default(), &Patch::Merge(&status))
        .await
        .expect("patched");
    world.gone::<Secret>("web").await;
    assert!(!world.emulator.check(&held).await.valid);
    world.token_says("web", "PolicyDenied").await;
    assert_eq!(world.emulator.count("revokeTokens").await, 1);

    set_policy(&world, &json!({"adoption": "Allow"})).await;
    world.live_token("web", &[&held]).await;
    eventually("the denial is over", || async {
        let identity = api.get("alice").await.ok()?;
        identity.status?.denied_since.is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn nonsense_in_a_policy_is_refused_with_a_sentence() {
    let world = World::new().await;
    let refused = |policy: &str| {
        world.refuse(&format!(
            "apiVersion: acs-identity.dev/v1alpha1\nkind: AcsConnection\nmetadata: {{name: other}}\n\
             spec: {{auth: {{connectionString: {{secretRef: {{name: a, key: b}}}}}}, policy: {{{policy}}}}}\n"
        ))
    };
    for (policy, says) in [
        (
            "maxExpiresIn: 25h",
            "maxExpiresIn must be a duration from 1h to 24h",
        ),
        (
            "maxExpiresIn: soon",
            "maxExpiresIn must be a duration from 1h to 24h",
        ),
        ("scopes: []", "should have at least 1 items"),
        ("scopes: [video]", "supported values: \"chat\""),
        ("scopes: [chat, chat]", "the list contains an entry twice"),
        (
            "maxTokensPerIdentity: 0",
            "should be greater than or equal to 1",
        ),
        ("maxTokens: 1", "unknown field \"spec.policy.maxTokens\""),
    ] {
        let message = refused(policy);
        assert!(message.contains(says), "{policy}: {message}");
    }
}
