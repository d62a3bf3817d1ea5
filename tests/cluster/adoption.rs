//! Identities that exist already (adoption, `sharedIdentities`).

use acs_identity_operator::crd::{AcsConnection, AcsIdentity, AcsToken};
use serde_json::json;

use crate::support::{
    eventually,
    world::{World, condition, spec},
};

/// Creates a world with an unmanaged identity in ACS.
async fn world_with_a_stray() -> (World, String) {
    let world = World::new().await;
    let id = world.stray().await;
    (world, id)
}

#[tokio::test]
async fn an_adopted_identity_is_used_and_stays_when_its_object_goes() {
    let (world, id) = world_with_a_stray().await;
    world.identity("alice", &format!("identityId: \"{id}\""));
    world.token("web", "alice", "scopes: [chat]");
    let token = world.ready("web").await;
    assert_eq!(
        token.status.expect("a status").identity_id.as_deref(),
        Some(id.as_str())
    );
    let bytes = world.live_token("web", &[]).await;
    world.delete::<AcsIdentity>("alice").await;
    world.gone::<AcsIdentity>("alice").await;
    assert_eq!(world.emulator.living().await.len(), 1);
    assert!(
        !world.emulator.check(&bytes).await.valid,
        "its tokens were to be revoked"
    );
}

#[tokio::test]
async fn an_adopted_identity_is_deleted_where_that_is_asked_for() {
    let (world, id) = world_with_a_stray().await;
    world.identity(
        "alice",
        &format!("identityId: \"{id}\", deletionPolicy: Delete"),
    );
    world.identity_says("alice", "IdentityReady").await;
    world.delete::<AcsIdentity>("alice").await;
    world.gone::<AcsIdentity>("alice").await;
    assert!(world.emulator.living().await.is_empty());
}

#[tokio::test]
async fn a_policy_can_deny_adoption_and_allowing_it_heals() {
    let (world, id) = world_with_a_stray().await;
    world
        .patch::<AcsConnection>("default", spec(&json!({"policy": {"adoption": "Deny"}})))
        .await;
    world.identity("alice", &format!("identityId: \"{id}\""));
    let message = world.identity_says("alice", "PolicyDenied").await;
    assert!(
        message.contains("policy.adoption of the connection is Deny"),
        "{message}"
    );
    world
        .patch::<AcsConnection>("default", spec(&json!({"policy": {"adoption": "Allow"}})))
        .await;
    world.identity_says("alice", "IdentityReady").await;
}

#[tokio::test]
async fn an_identity_that_another_object_uses_is_refused_until_that_goes() {
    let (world, id) = world_with_a_stray().await;
    world.identity("alice", &format!("identityId: \"{id}\""));
    world.identity_says("alice", "IdentityReady").await;
    world.identity("bob", &format!("identityId: \"{id}\""));
    let message = world.identity_says("bob", "IdentityInUse").await;
    assert!(message.contains("policy.sharedIdentities"), "{message}");
    world.delete::<AcsIdentity>("alice").await;
    world.identity_says("bob", "IdentityReady").await;
}

#[tokio::test]
async fn where_it_is_shared_a_revocation_covers_the_tokens_of_all_its_objects() {
    let (world, id) = world_with_a_stray().await;
    let policy = spec(&json!({"policy": {"sharedIdentities": true}}));
    world.patch::<AcsConnection>("default", policy).await;
    for name in ["alice", "bob"] {
        world.identity(
            name,
            &format!("identityId: \"{id}\", deletionPolicy: Delete"),
        );
        world.token(name, name, "scopes: [chat, voip]");
        world.ready(name).await;
    }
    let alice = world.live_token("alice", &[]).await;
    let bob = world.live_token("bob", &[]).await;
    world
        .patch::<AcsToken>("alice", spec(&json!({"scopes": ["chat"]})))
        .await;
    world.live_token("alice", &[&alice]).await;
    world.live_token("bob", &[&bob]).await;
    assert!(!world.emulator.check(&bob).await.valid);
    let bob = world.live_token("bob", &[]).await;
    world.delete::<AcsIdentity>("alice").await;
    world.gone::<AcsIdentity>("alice").await;
    assert_eq!(world.emulator.living().await.len(), 1, "bob still uses it");
    world.live_token("bob", &[&bob]).await;
    world.delete::<AcsIdentity>("bob").await;
    world.gone::<AcsIdentity>("bob").await;
    assert!(
        world.emulator.living().await.is_empty(),
        "the last one deletes it"
    );
}

#[tokio::test]
async fn who_came_later_and_may_no_longer_share_an_identity_does_not_delete_it() {
    let (world, id) = world_with_a_stray().await;
    let shares = |shares: bool| spec(&json!({"policy": {"sharedIdentities": shares}}));
    world.patch::<AcsConnection>("default", shares(true)).await;
    for name in ["alice", "bob"] {
        let deletes = format!("identityId: \"{id}\", deletionPolicy: Delete");
        world.identity(name, &deletes);
        world.identity_says(name, "IdentityReady").await;
    }
    world.patch::<AcsConnection>("default", shares(false)).await;
    // Within one second, the UID decides.
    let later = eventually("one of them may not share it", || async {
        for name in ["alice", "bob"] {
            let status = world.api::<AcsIdentity>().get(name).await.ok()?.status?;
            if condition(&status.conditions, "Ready")?.reason == "IdentityInUse" {
                return Some(name);
            }
        }
        None
    });
    let later = later.await;
    world.delete::<AcsIdentity>(later).await;
    world.gone::<AcsIdentity>(later).await;
    assert_eq!(world.emulator.living().await.len(), 1);
}
