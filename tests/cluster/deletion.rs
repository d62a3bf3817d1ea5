//! Deletion: always completes, and cleans up in ACS whenever that is possible (I3, I4, I5).

use acs_identity_operator::crd::{AcsConnection, AcsIdentity, AcsToken};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use serde_json::json;

use crate::support::{
    eventually,
    world::{World, spec},
};

#[tokio::test]
async fn a_deleted_identity_is_deleted_in_acs_and_its_tokens_wait_for_another() {
    let world = World::with_a_token().await;
    let first = world.live_token("web", &[]).await;
    world.delete::<AcsIdentity>("alice").await;
    world.gone::<AcsIdentity>("alice").await;
    assert!(world.emulator.living().await.is_empty());
    world.token_says("web", "IdentityNotFound").await;
    world.gone::<Secret>("web").await;
    world.identity("alice", "");
    world.live_token("web", &[&first]).await;
    world.ready("web").await;
}

#[tokio::test]
async fn an_orphaned_identity_stays_in_acs_with_its_tokens_revoked() {
    let world = World::new().await;
    world.identity("alice", "deletionPolicy: Orphan");
    world.token("web", "alice", "scopes: [chat]");
    let token = world.live_token("web", &[]).await;
    world.ready("web").await;
    world.delete::<AcsIdentity>("alice").await;
    world.gone::<AcsIdentity>("alice").await;
    assert_eq!(world.emulator.living().await.len(), 1);
    assert!(!world.emulator.check(&token).await.valid);
}

#[tokio::test]
async fn an_identity_that_somebody_else_deleted_in_acs_is_no_obstacle() {
    let world = World::with_a_token().await;
    world.emulator.faults(json!([{
        "operation": "deleteIdentity", "effect": "status", "status": 401,
        "code": "IdentityNotOwned", "message": "Provided identity doesn't belong to the resource."
    }]))
    .await;
    world.delete::<AcsIdentity>("alice").await;
    world.gone::<AcsIdentity>("alice").await;
}

/// Creates a world with a token, a short deadline of deletions, and a service that always fails.
async fn world_without_a_service() -> World {
    let world = World::with(&[], &["--deletion-deadline", "3s"]).await;
    let world = world.and_a_token().await;
    world
        .emulator
        .faults(json!([{"operation": "*", "effect": "status", "status": 503}]))
        .await;
    world
}

async fn counts_abandoned(world: &mut World, kind: &str) {
    let (_, metrics) = world.operator().get("/metrics").await;
    let count = format!("abandoned_total{{kind=\"{kind}\"}} 1");
    assert!(metrics.contains(&count), "{metrics}");
}

#[tokio::test]
async fn a_dead_service_delays_a_deletion_only_until_the_deadline_and_what_is_left_is_told() {
    let mut world = world_without_a_service().await;
    world.delete::<AcsIdentity>("alice").await;
    world.gone::<AcsIdentity>("alice").await;
    let note = world.event("alice", "Abandoned").await;
    assert!(note.contains("remains at"), "{note}");
    assert!(world.operator().process.output().contains("remains at"));
    counts_abandoned(&mut world, "AcsIdentity").await;
}

#[tokio::test]
async fn a_token_whose_revocation_can_not_be_sent_goes_after_the_deadline() {
    let mut world = world_without_a_service().await;
    world.delete::<AcsToken>("web").await;
    world.gone::<AcsToken>("web").await;
    let note = world.event("web", "Abandoned").await;
    assert!(note.contains("stay valid until they expire"), "{note}");
    counts_abandoned(&mut world, "AcsToken").await;
}

#[tokio::test]
async fn an_identity_whose_key_vanished_is_still_deleted_with_the_key_in_memory() {
    let world = World::with_a_token().await;
    world.delete::<Secret>("default-acs").await;
    world.connection_says("default", "SecretNotFound").await;
    world.delete::<AcsIdentity>("alice").await;
    world.gone::<AcsIdentity>("alice").await;
    assert!(world.emulator.living().await.is_empty());
}

#[tokio::test]
async fn a_connection_stays_until_the_identities_that_need_it_are_gone() {
    let world = World::with_a_token().await;
    world.delete::<AcsConnection>("default").await;
    world.settled().await;
    assert!(world.find::<AcsConnection>("default").await.is_some());
    world.delete::<AcsIdentity>("alice").await;
    world.gone::<AcsIdentity>("alice").await;
    world.gone::<AcsConnection>("default").await;
    assert!(world.emulator.living().await.is_empty());
}

async fn delete_namespace(world: &World) -> Api<Namespace> {
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let parameters = DeleteParams::default();
    let deleted = namespaces.delete(&world.namespace, &parameters).await;
    deleted.expect("a deletion");
    namespaces
}

/// Waits until the namespace of the world does not exist.
async fn has_ended(world: &World, namespaces: &Api<Namespace>) {
    eventually("the namespace is gone", || async {
        namespaces
            .get_opt(&world.namespace)
            .await
            .expect("readable")
            .is_none()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_namespace_can_be_deleted_with_everything_in_it_and_acs_is_cleaned_up() {
    let world = World::with_a_token().await;
    let token = world.live_token("web", &[]).await;
    // The worst sequence: what the cleanup needs is deleted first.
    world.delete::<Secret>("default-acs").await;
    let namespaces = delete_namespace(&world).await;
    has_ended(&world, &namespaces).await;
    assert!(world.emulator.living().await.is_empty());
    assert!(!world.emulator.check(&token).await.valid);
}

#[tokio::test]
async fn a_namespace_ends_at_once_when_the_key_is_not_even_in_memory() {
    let mut world = World::with_a_token().await;
    world.kill_operator();
    world.delete::<Secret>("default-acs").await;
    let namespaces = delete_namespace(&world).await;
    world.start_operator();
    has_ended(&world, &namespaces).await;
    let events: Api<k8s_openapi::api::events::v1::Event> =
        Api::namespaced(world.client.clone(), "default");
    let told = events
        .list(&ListParams::default())
        .await
        .expect("readable")
        .items;
    assert!(
        told.iter()
            .any(|event| event.reason.as_deref() == Some("Abandoned")
                && event.regarding.as_ref().and_then(|it| it.name.as_ref())
                    == Some(&world.namespace)),
        "the Event on the Namespace is missing"
    );
}

#[tokio::test]
async fn an_object_deleted_before_the_operator_ever_saw_it_just_goes() {
    let mut world = World::bare(&[], &[]).await;
    world.connect("default", &world.emulator.connection_string.clone());
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat]");
    world.delete::<AcsToken>("web").await;
    world.delete::<AcsIdentity>("alice").await;
    world.start_operator();
    world.settled().await;
    assert_eq!(world.emulator.count("createIdentity").await, 0);
}

#[tokio::test]
async fn a_new_object_of_the_same_name_gets_another_identity() {
    let world = World::with_a_token().await;
    let former = world.secret_value("web", "identityId").await;
    world.delete::<AcsIdentity>("alice").await;
    world.gone::<AcsIdentity>("alice").await;
    world.identity("alice", "");
    let token = world.ready("web").await;
    assert_ne!(token.status.expect("a status").identity_id, former);
    world
        .patch::<AcsToken>("web", spec(&json!({"scopes": ["voip"]})))
        .await;
    world.ready("web").await;
}
