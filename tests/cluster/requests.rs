//! Manual requests in an emergency: a renewal, a revocation, a suspension.

use acs_identity_operator::crd::{AcsIdentity, AcsToken};
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::support::{
    eventually,
    world::{World, spec},
};

/// Returns a patch that annotates an object with a request.
fn request(value: &str, what: Option<&str>) -> serde_json::Value {
    json!({"metadata": {"annotations": {
        "acs-identity.dev/requested-at": value,
        "acs-identity.dev/request": what,
    }}})
}

#[tokio::test]
async fn a_request_renews_a_token_once_and_is_echoed() {
    let world = World::new().await;
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat]");
    let former = world.ready("web").await.status.expect("a status");
    assert_eq!(former.last_handled_request, None);

    world.patch::<AcsToken>("web", request("1", None)).await;
    let status = world
        .token_where("the request is echoed", "web", |token| {
            let status = token.status.as_ref();
            status.is_some_and(|it| it.last_handled_request.as_deref() == Some("1"))
        })
        .await
        .status
        .expect("a status");
    assert_eq!(status.revision, Some(2));
    assert_ne!(status.fingerprint, former.fingerprint);
    let bytes = world.secret_value("web", "token").await.expect("a token");
    assert!(world.emulator.check(&bytes).await.valid);

    // Removing it is not a request.
    let none = json!({"metadata": {"annotations": {"acs-identity.dev/requested-at": null}}});
    world.patch::<AcsToken>("web", none).await;
    world.settled().await;
    assert_eq!(world.issued().await, 2);
}

#[tokio::test]
async fn a_request_that_comes_with_the_object_is_recorded_and_not_obeyed() {
    let world = World::new().await;
    world.apply(
        "apiVersion: acs-identity.dev/v1alpha1\nkind: AcsIdentity\nmetadata:\n  name: alice\n  annotations: {acs-identity.dev/requested-at: old, acs-identity.dev/request: revoke}\nspec: {}\n---\n\
         apiVersion: acs-identity.dev/v1alpha1\nkind: AcsToken\nmetadata:\n  name: web\n  annotations: {acs-identity.dev/requested-at: old}\nspec: {identityRef: {name: alice}, scopes: [chat]}\n",
    );
    let token = world.ready("web").await.status.expect("a status");
    assert_eq!(token.last_handled_request.as_deref(), Some("old"));
    let identity = world.get::<AcsIdentity>("alice").await;
    let status = identity.status.expect("a status");
    assert_eq!(status.last_handled_request.as_deref(), Some("old"));
    world.settled().await;
    assert_eq!(world.issued().await, 1);
    assert_eq!(world.emulator.count("revokeTokens").await, 0);
}

#[tokio::test]
async fn a_request_revokes_all_tokens_of_an_identity_whatever_they_say_and_makes_them_anew() {
    let world = World::new().await;
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat], revocation: Never");
    world.token("app", "alice", "scopes: [voip]");
    world.ready("web").await;
    world.ready("app").await;
    let web = world.secret_value("web", "token").await.expect("a token");
    let app = world.secret_value("app", "token").await.expect("a token");

    let revoke = request("now", Some("revoke"));
    world.patch::<AcsIdentity>("alice", revoke).await;
    let identity = eventually("the request is echoed", || async {
        let identity = world.api::<AcsIdentity>().get("alice").await.ok()?;
        let status = identity.status.as_ref()?;
        (status.last_handled_request.as_deref() == Some("now")).then_some(identity)
    })
    .await;
    let last = identity.status.and_then(|status| status.last_revocation);
    assert_eq!(last.expect("a revocation").reason, "Requested");
    for former in [&web, &app] {
        assert!(!world.emulator.check(former).await.valid);
    }
    world.live_token("web", &[&web]).await;
    world.live_token("app", &[&app]).await;
    assert_eq!(world.emulator.count("revokeTokens").await, 1);
    world.event("alice", "TokensRevoked").await;
}

#[tokio::test]
async fn a_request_for_what_nobody_can_do_is_told_and_changes_nothing() {
    let world = World::with_a_token().await;
    world
        .patch::<AcsToken>("web", request("1", Some("revoke")))
        .await;
    let note = world.event("web", "UnknownRequest").await;
    assert!(
        note.contains("to revoke tokens, annotate the AcsIdentity"),
        "{note}"
    );
    world
        .patch::<AcsIdentity>("alice", request("1", None))
        .await;
    let note = world.event("alice", "UnknownRequest").await;
    assert!(note.contains("acs-identity.dev/request: revoke"), "{note}");
    world.settled().await;
    assert_eq!(world.issued().await, 1);
    assert_eq!(world.emulator.count("revokeTokens").await, 0);
    assert!(world.ready("web").await.status.is_some());
}

#[tokio::test]
async fn a_suspended_token_keeps_its_secret_until_its_token_ends_and_heals_when_it_goes_on() {
    // A minute of lifetime lasts a tenth of a second: an hour is 6 s.
    let world = World::with(&["--minute", "100ms"], &[]).await;
    world.identity("alice", "");
    world.token(
        "web",
        "alice",
        "scopes: [chat], expiresIn: 1h, suspend: true",
    );
    let message = world.token_says("web", "Suspended").await;
    assert!(message.contains("spec.suspend is true"), "{message}");
    assert_eq!(world.issued().await, 0);

    world
        .patch::<AcsToken>("web", spec(&json!({"suspend": null})))
        .await;
    world.ready("web").await;
    world
        .patch::<AcsToken>("web", spec(&json!({"suspend": true})))
        .await;
    world.token_says("web", "Suspended").await;
    let held = world.secret_value("web", "token").await.expect("it stays");
    assert!(world.emulator.check(&held).await.valid);
    let issued = world.issued().await;
    world.gone::<Secret>("web").await;
    assert_eq!(world.issued().await, issued);
    eventually("the token has ended", || async {
        let check = world.emulator.check(&held).await;
        (!check.valid).then_some(())
    })
    .await;

    world
        .patch::<AcsToken>("web", spec(&json!({"suspend": false})))
        .await;
    world.live_token("web", &[&held]).await;
}

#[tokio::test]
async fn a_suspended_identity_is_not_created_and_stops_its_tokens() {
    let world = World::new().await;
    world.identity("alice", "suspend: true");
    world.token("web", "alice", "scopes: [chat]");
    world.identity_says("alice", "Suspended").await;
    let message = world.token_says("web", "IdentityNotReady").await;
    assert!(message.contains("spec.suspend is true"), "{message}");
    assert_eq!(world.emulator.count("createIdentity").await, 0);

    world
        .patch::<AcsIdentity>("alice", spec(&json!({"suspend": false})))
        .await;
    world.ready("web").await;
    let held = world.secret_value("web", "token").await.expect("a token");
    let halt = json!({
        "metadata": {"annotations": {
            "acs-identity.dev/requested-at": "1", "acs-identity.dev/request": "revoke",
        }},
        "spec": {"suspend": true},
    });
    world.patch::<AcsIdentity>("alice", halt).await;
    let message = world.token_says("web", "Suspended").await;
    assert!(message.contains("AcsIdentity alice"), "{message}");
    // Revoked without a replacement: the break-glass.
    world.gone::<Secret>("web").await;
    assert!(!world.emulator.check(&held).await.valid);
    assert_eq!(world.issued().await, 1);

    world
        .patch::<AcsIdentity>("alice", spec(&json!({"suspend": false})))
        .await;
    world.live_token("web", &[&held]).await;
}

#[tokio::test]
async fn suspending_never_blocks_a_deletion() {
    let world = World::with_a_token().await;
    world
        .patch::<AcsIdentity>("alice", spec(&json!({"suspend": true})))
        .await;
    world
        .patch::<AcsToken>("web", spec(&json!({"suspend": true})))
        .await;
    world.token_says("web", "Suspended").await;
    world.delete::<AcsIdentity>("alice").await;
    world.delete::<AcsToken>("web").await;
    world.gone::<AcsIdentity>("alice").await;
    world.gone::<AcsToken>("web").await;
    let identities = world.emulator.identities().await;
    assert!(identities[0].deleted_at.is_some(), "{identities:?}");
}
