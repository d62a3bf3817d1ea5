//! A `ClusterAcsConnection` serves the namespaces of its policy, from a Secret in the operator's own.

use acs_identity_operator::crd::ClusterAcsConnection;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::support::world::World;

/// The name is the test's own: every operator of this test binary sees cluster-wide objects, but
/// only this one has the Secret.
async fn world_with_a_cluster_connection(policy: &str) -> (World, String) {
    let mut world = World::bare(&[], &[]).await;
    let name = world.namespace.clone();
    world.apply(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{text: \"{}\"}}\n---\n\
         apiVersion: acs-identity.dev/v1alpha1\nkind: ClusterAcsConnection\nmetadata: {{name: {name}}}\n\
         spec: {{auth: {{connectionString: {{secretRef: {{name: {name}, key: text}}}}}}{policy}}}\n",
        world.emulator.connection_string
    ));
    world.start_operator();
    world.identity(
        "alice",
        &format!("connectionRef: {{kind: ClusterAcsConnection, name: {name}}}"),
    );
    (world, name)
}

async fn set_policy(world: &World, name: &str, policy: serde_json::Value) {
    let api: Api<ClusterAcsConnection> = Api::all(world.client.clone());
    let patch = Patch::Merge(json!({"spec": {"policy": policy}}));
    api.patch(name, &PatchParams::default(), &patch)
        .await
        .expect("patched");
}

/// Objects without a namespace outlive it.
pub async fn clean_up(world: &World, name: &str) {
    let api: Api<ClusterAcsConnection> = Api::all(world.client.clone());
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let object = api
        .patch(name, &PatchParams::default(), &patch)
        .await
        .expect("patched");
    let _ = api
        .delete(&object.name_any(), &kube::api::DeleteParams::default())
        .await;
}

#[tokio::test]
async fn without_namespaces_in_its_policy_nobody_may_use_it_and_a_name_opens_it() {
    let (world, name) = world_with_a_cluster_connection("").await;
    let message = world.identity_says("alice", "PolicyDenied").await;
    assert!(
        message.contains("policy.namespaces is not set"),
        "{message}"
    );
    assert_eq!(world.emulator.count("createIdentity").await, 0);
    set_policy(
        &world,
        &name,
        json!({"namespaces": {"names": [world.namespace]}}),
    )
    .await;
    world.identity_says("alice", "IdentityReady").await;
    world.token("web", "alice", "scopes: [chat]");
    world.ready("web").await;
    clean_up(&world, &name).await;
}

#[tokio::test]
async fn a_selector_follows_the_labels_of_namespaces() {
    let policy = ", policy: {namespaces: {selector: {matchLabels: {team: blue}}}}";
    let (world, name) = world_with_a_cluster_connection(policy).await;
    let message = world.identity_says("alice", "PolicyDenied").await;
    assert!(message.contains("neither names nor selector"), "{message}");
    world
        .cluster
        .kubectl(&["label", "namespace", &world.namespace, "team=blue"]);
    world.identity_says("alice", "IdentityReady").await;
    clean_up(&world, &name).await;
}

#[tokio::test]
async fn adoption_is_denied_unless_the_policy_allows_it() {
    let policy = ", policy: {namespaces: {selector: {}}}";
    let (world, name) = world_with_a_cluster_connection(policy).await;
    world.identity_says("alice", "IdentityReady").await;
    let reference = format!("connectionRef: {{kind: ClusterAcsConnection, name: {name}}}");
    world.identity("stray", &format!("{reference}, identityId: \"8:acs:a_b\""));
    let message = world.identity_says("stray", "PolicyDenied").await;
    assert!(message.contains("policy.adoption is Deny"), "{message}");
    clean_up(&world, &name).await;
}
