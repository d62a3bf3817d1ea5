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

async fn world_with_a_token(operator: &[&str]) -> World {
    let world = World::with(&[], operator).await;
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat]");
    world.ready("web").await;
    world
}

#[tokio::test]
async fn a_deleted_identity_is_deleted_in_acs_and_its_tokens_wait_for_another() {
    let world = world_with_a_token(&[]).await;
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
    let world = world_with_a_token(&[]).await;
    world.emulator.faults(json!([{
        "operation": "deleteIdentity", "effect": "status", "status": 401,
        "code": "IdentityNotOwned", "message": "Provided identity doesn't belong to the resource."
    }]))
    .await;
    world.delete::<AcsIdentity>("alice").await;
    world.gone::<AcsIdentity>("alice").await;
}

#[tokio::test]
async fn a_dead_service_delays_a_deletion_only_until_the_deadline_and_what_is_left_is_told() {
    let mut world = world_with_a_token(&["--deletion-deadline", "3s"]).await;
    world
        .emulator
        .faults(json!([{"operation": "*", "effect": "status", "status": 503}]))
        .await;
    world.delete::<AcsIdentity>("alice").await;
    world.gone::<AcsIdentity>("alice").await;
    let note = world.event("alice", "Abandoned").await;
    assert!(note.contains("remains at"), "{note}");
    assert!(world.operator().process.output().contains("remains at"));
    let (_, metrics) = world.operator().get("/metrics").await;
    assert!(
        metrics.contains("abandoned_total{kind=\"AcsIdentity\"} 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_token_whose_revocation_can_not_be_sent_goes_after_the_deadline() {
    let mut world = world_with_a_token(&["--deletion-deadline", "3s"]).await;
    world
        .emulator
        .faults(json!([{"operation": "*", "effect": "status", "status": 503}]))
        .await;
    world.delete::<AcsToken>("web").await;
    world.gone::<AcsToken>("web").await;
    let note = world.event("web", "Abandoned").await;
    assert!(note.contains("stay valid until they expire"), "{note}");
    let (_, metrics) = world.operator().get("/metrics").await;
    assert!(
        metrics.contains("abandoned_total{kind=\"AcsToken\"} 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn an_identity_whose_key_vanished_is_still_deleted_with_the_key_in_memory() {
    let world = world_with_a_token(&[]).await;
    world.delete::<Secret>("default-acs").await;
    world.connection_says("default", "SecretNotFound").await;
    world.delete::<AcsIdentity>("alice").await;
    world.gone::<AcsIdentity>("alice").await;
    assert!(world.emulator.living().await.is_empty());
}

#[tokio::test]
async fn a_connection_stays_until_the_identities_that_need_it_are_gone() {
    let world = world_with_a_token(&[]).await;
    world.delete::<AcsConnection>("default").await;
    world.settled().await;
    assert!(
        world
            .api::<AcsConnection>()
            .get_opt("default")
            .await
            .unwrap()
            .is_some()
    );
    world.delete::<AcsIdentity>("alice").await;
    world.gone::<AcsIdentity>("alice").await;
    world.gone::<AcsConnection>("default").await;
    assert!(world.emulator.living().await.is_empty());
}

#[tokio::test]
async fn a_namespace_can_be_deleted_with_everything_in_it_and_acs_is_cleaned_up() {
    let world = world_with_a_token(&[]).await;
    let token = world.live_token("web", &[]).await;
    // The worst sequence: what the cleanup needs is deleted first.
    world.delete::<Secret>("default-acs").await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces
        .delete(&world.namespace, &DeleteParams::default())
        .await
        .expect("a deletion");
    eventually("the namespace is gone", || async {
        namespaces
            .get_opt(&world.namespace)
            .await
            .expect("readable")
            .is_none()
            .then_some(())
    })
    .await;
    assert!(world.emulator.living().await.is_empty());
    assert!(!world.emulator.check(&token).await.valid);
}

#[tokio::test]
async fn a_namespace_ends_at_once_when_the_key_is_not_even_in_memory() {
    let mut world = world_with_a_token(&[]).await;
    world.kill_operator();
    world.delete::<Secret>("default-acs").await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces
        .delete(&world.namespace, &DeleteParams::default())
        .await
        .expect("a deletion");
    world.start_operator();
    eventually("the namespace is gone", || async {
        namespaces
            .get_opt(&world.namespace)
            .await
            .expect("readable")
            .is_none()
            .then_some(())
    })
    .await;
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
    let world = world_with_a_token(&[]).await;
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
