//! Restarts and crashes between two writes (T3, R3).

use acs_identity_operator::crd::AcsToken;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::support::world::{World, spec};

#[tokio::test]
async fn a_restart_issues_nothing_that_was_not_due() {
    let mut world = World::new().await;
    world.identity("alice", "");
    for name in ["a", "b", "c"] {
        world.token(name, "alice", "scopes: [chat]");
    }
    for name in ["a", "b", "c"] {
        world.ready(name).await;
    }
    let status = world.operator().process.terminate();
    assert!(status.success(), "it did not end in peace: {status}");
    world.start_operator();
    world.settled().await;
    assert_eq!(world.issued().await, 3);
}

#[tokio::test]
async fn a_status_that_was_lost_is_rebuilt_from_the_secret() {
    let mut world = World::new().await;
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat]");
    let before = world.ready("web").await.status.expect("a status");
    world.kill_operator();
    let api = world.api::<AcsToken>();
    let lost = Patch::Merge(json!({"status": null}));
    api.patch_status("web", &PatchParams::default(), &lost)
        .await
        .expect("patched");
    world.start_operator();
    let after = world.ready("web").await.status.expect("a status");
    assert_eq!(after.fingerprint, before.fingerprint);
    assert_eq!(after.issued_at, before.issued_at);
    assert_eq!(after.renew_at, before.renew_at);
    assert_eq!(world.issued().await, 1);
}

#[tokio::test]
async fn a_change_made_while_the_operator_was_away_is_revoked_when_it_is_back() {
    let mut world = World::new().await;
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat, voip]");
    world.ready("web").await;
    let first = world.live_token("web", &[]).await;
    world.kill_operator();
    world
        .patch::<AcsToken>("web", spec(&json!({"scopes": ["chat"]})))
        .await;
    world.start_operator();
    world.live_token("web", &[&first]).await;
    assert!(!world.emulator.check(&first).await.valid);
}

#[tokio::test]
async fn a_revocation_that_a_crash_interrupted_is_sent_by_the_next_process() {
    let mut world = World::new().await;
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat, voip]");
    world.ready("web").await;
    let first = world.live_token("web", &[]).await;
    let hang =
        json!([{"operation": "revokeTokens", "effect": "hang", "when": "before", "count": 1}]);
    world.emulator.faults(hang).await;
    world
        .patch::<AcsToken>("web", spec(&json!({"scopes": ["chat"]})))
        .await;
    crate::support::eventually("the call is on the wire", || async {
        (world.emulator.count("revokeTokens").await > 0).then_some(())
    })
    .await;
    world.kill_operator();
    world.emulator.heal().await;
    world.start_operator();
    world.live_token("web", &[&first]).await;
    assert!(!world.emulator.check(&first).await.valid);
}
