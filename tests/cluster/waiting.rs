//! Waiting calls: a hanging or slow ACS delays no deletion, no revocation, and no status.

use acs_identity_operator::crd::{AcsIdentity, AcsToken, is_ready};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::support::{
    eventually,
    world::{World, spec},
};

/// Maximum time for the operator to report that a token has expired, on a busy machine.
const TELLING: SignedDuration = SignedDuration::from_secs(3);

#[tokio::test]
async fn while_issuing_hangs_a_token_that_has_ended_is_not_called_ready() {
    let world = World::with(&["--minute", "250ms"], &[]).await;
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat], expiresIn: 1h");
    world.ready("web").await;
    let hang = json!([{"operation": "issueToken", "effect": "hang"}]);
    world.emulator.faults(hang).await;
    eventually("the token is told not to be Ready", || async {
        let token = world.get::<AcsToken>("web").await;
        let status = token.status.expect("a status");
        if !is_ready(&status.conditions) {
            return Some(());
        }
        let end = status.expires_at.expect("an end").0;
        assert!(Timestamp::now() < end + TELLING, "Ready after {end}");
        None
    })
    .await;
    world.emulator.heal().await;
    world.ready("web").await;
}

#[tokio::test]
async fn a_first_token_that_waits_says_what_for() {
    let world = World::new().await;
    world.identity("alice", "");
    world.identity_says("alice", "IdentityReady").await;
    let hang = json!([{"operation": "issueToken", "effect": "hang"}]);
    world.emulator.faults(hang).await;
    world.token("web", "alice", "scopes: [chat]");
    let message = world.token_says("web", "WaitingForService").await;
    assert!(message.contains("waiting for ACS"), "{message}");
    // It can also be suspended, and deleted, while its call hangs.
    let suspended = spec(&json!({"suspend": true}));
    world.patch::<AcsToken>("web", suspended).await;
    world.token_says("web", "Suspended").await;
    world.delete::<AcsToken>("web").await;
    world.token_says("web", "Deleting").await;
    world.emulator.heal().await;
    world.gone::<AcsToken>("web").await;
    world.delete::<AcsIdentity>("alice").await;
    world.gone::<AcsIdentity>("alice").await;
    assert!(world.emulator.living().await.is_empty());
}

#[tokio::test]
async fn a_revocation_does_not_wait_for_issues_that_hang() {
    let world = World::with_a_token().await;
    world.identity("bob", "");
    world.identity_says("bob", "IdentityReady").await;
    let hang = json!([{"operation": "issueToken", "effect": "hang"}]);
    world.emulator.faults(hang).await;
    // More than an endpoint has slots.
    for number in 0..40 {
        world.token(&format!("bob-{number}"), "bob", "scopes: [chat]");
    }
    world.token_says("bob-39", "WaitingForService").await;
    let held = world.secret_value("web", "token").await.expect("a token");
    world
        .patch::<AcsIdentity>(
            "alice",
            json!({"metadata": {"annotations": {
                "acs-identity.dev/request": "revoke",
                "acs-identity.dev/requested-at": "now",
            }}}),
        )
        .await;
    eventually("alice's token is revoked", || async {
        let is_valid = world.emulator.check(&held).await.valid;
        (!is_valid).then_some(())
    })
    .await;
    world.emulator.heal().await;
    world.ready("bob-39").await;
    world.ready("web").await;
}

#[tokio::test]
async fn two_tokens_may_swap_the_names_of_their_secrets() {
    let world = World::new().await;
    world.identity("alice", "");
    for name in ["blue", "green"] {
        world.token(name, "alice", "scopes: [chat], revocation: Never");
        world.ready(name).await;
    }
    for (name, other) in [("blue", "green"), ("green", "blue")] {
        let wanted = spec(&json!({"secret": {"name": other}}));
        world.patch::<AcsToken>(name, wanted).await;
    }
    for (name, other) in [("blue", "green"), ("green", "blue")] {
        world
            .token_where("has moved", name, |token| {
                let status = token.status.as_ref();
                status.is_some_and(|status| {
                    is_ready(&status.conditions) && status.secret_name.as_deref() == Some(other)
                })
            })
            .await;
        let held = world.secret_value(other, "token").await.expect("a token");
        assert!(world.emulator.check(&held).await.valid);
    }
}
