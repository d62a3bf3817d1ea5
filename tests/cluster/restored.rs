//! Objects that are restored from a backup, with new UIDs: with their status and without.

use acs_identity_operator::crd::{AcsIdentity, AcsToken};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::support::world::{Kind, World};

/// Deletes an object, and restores what a backup contains of it with a new UID.
async fn lose_and_restore<K: Kind + Serialize>(world: &World, name: &str, with_status: bool) {
    let api: Api<K> = world.api();
    let kept = api.get(name).await.expect("the object");
    let stripped = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let parameters = PatchParams::default();
    let _ = api.patch(name, &parameters, &stripped).await;
    world.delete::<K>(name).await;
    world.gone::<K>(name).await;
    let status = serde_json::to_value(&kept).expect("JSON")["status"].clone();
    let mut restored = kept;
    let former = restored.uid();
    let meta = restored.meta_mut();
    meta.uid = None;
    meta.resource_version = None;
    meta.creation_timestamp = None;
    meta.managed_fields = None;
    let made = api.create(&PostParams::default(), &restored).await;
    assert_ne!(made.expect("the object restored").uid(), former);
    if with_status {
        let status: Patch<Value> = Patch::Merge(json!({ "status": status }));
        let told = api.patch_status(name, &parameters, &status).await;
        told.expect("its status restored");
    }
}

async fn id(world: &World) -> Option<String> {
    let identity = world.get::<AcsIdentity>("alice").await;
    identity.status.and_then(|status| status.identity_id)
}

/// Creates a world that has lost all its objects and has them restored, with the operator stopped
/// meanwhile.
async fn restored(with_status: bool) -> (World, String) {
    let mut world = World::with_a_token().await;
    let former = id(&world).await.expect("an id");
    world.kill_operator();
    // A backup does not contain the Secret: it has the label that excludes it.
    let secret = world.get::<Secret>("web").await;
    assert_eq!(secret.labels()["velero.io/exclude-from-backup"], "true");
    world.delete::<Secret>("web").await;
    lose_and_restore::<AcsIdentity>(&world, "alice", with_status).await;
    lose_and_restore::<AcsToken>(&world, "web", with_status).await;
    world.start_operator();
    (world, former)
}

#[tokio::test]
async fn objects_restored_with_their_status_keep_the_users_id() {
    let (world, former) = restored(true).await;
    // The restored status says Ready about a Secret that was not restored.
    world.live_token("web", &[]).await;
    world.ready("web").await;
    assert_eq!(id(&world).await.as_ref(), Some(&former));
    assert_eq!(world.emulator.living().await.len(), 1);
    world.delete::<AcsToken>("web").await;
    world.delete::<AcsIdentity>("alice").await;
    world.gone::<AcsIdentity>("alice").await;
    assert!(world.emulator.living().await.is_empty());
}

#[tokio::test]
async fn objects_restored_without_their_status_are_another_user() {
    let (world, former) = restored(false).await;
    world.ready("web").await;
    assert_ne!(id(&world).await.as_ref(), Some(&former));
    // As `docs/backup-and-restore.md` says: the former user remains in ACS.
    assert_eq!(world.emulator.living().await.len(), 2);
}
