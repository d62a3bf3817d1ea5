//! `ClusterAcsConnection`: serves the namespaces of its policy, with a Secret in the operator's
//! namespace.

use acs_identity_operator::crd::{AcsIdentity, AcsToken, ClusterAcsConnection, ConnectionKind};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::support::{
    eventually, kubernetes,
    world::{World, spec},
};

/// The name is specific to the test: every operator of this test binary sees cluster-scoped
/// objects, but only this one has the Secret.
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

/// Deletes cluster-scoped objects, which outlive the namespace.
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
    assert!(
        message.contains("policy.adoption of the connection is Deny"),
        "{message}"
    );
    clean_up(&world, &name).await;
}

#[tokio::test]
async fn where_the_policy_ceases_to_serve_a_namespace_what_a_change_gave_up_is_revoked_all_the_same()
 {
    let policy = ", policy: {namespaces: {selector: {}}}";
    let (world, name) = world_with_a_cluster_connection(policy).await;
    world.token("web", "alice", "scopes: [chat, voip]");
    world.ready("web").await;
    let wide = world.live_token("web", &[]).await;
    let elsewhere = json!({"namespaces": {"names": ["elsewhere"], "selector": null}});
    set_policy(&world, &name, elsewhere).await;
    let narrowed = spec(&json!({"scopes": ["chat"]}));
    world.patch::<AcsToken>("web", narrowed).await;
    eventually("the wide token is revoked", || async {
        let is_valid = world.emulator.check(&wide).await.valid;
        (!is_valid).then_some(())
    })
    .await;
    world.identity_says("alice", "PolicyDenied").await;
    world.token_says("web", "PolicyDenied").await;
    assert_eq!(world.emulator.count("revokeTokens").await, 1);
    assert_eq!(world.issued().await, 1);
    clean_up(&world, &name).await;
}

async fn kind_of_connection(world: &World, identity: &str) -> ConnectionKind {
    let identity = world.api::<AcsIdentity>().get(identity).await;
    let status = identity.expect("an identity").status.expect("a status");
    status.connection_ref.expect("a connection").kind
}

#[tokio::test]
async fn a_default_of_the_namespace_may_come_last_and_one_that_comes_too_late_is_told() {
    // No other test may see a `ClusterAcsConnection` of this name.
    let mut world = World::bare_in(kubernetes::another(), &[], &[]).await;
    world.apply(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: shared}}\nstringData: {{text: \"{}\"}}\n---\n\
         apiVersion: acs-identity.dev/v1alpha1\nkind: ClusterAcsConnection\nmetadata: {{name: default}}\n\
         spec: {{auth: {{connectionString: {{secretRef: {{name: shared, key: text}}}}}}, \
         policy: {{namespaces: {{selector: {{}}}}}}}}\n",
        world.emulator.connection_string
    ));
    world.start_operator();
    world.identity("bob", "");
    world.identity_says("bob", "IdentityReady").await;
    let note = world.event("bob", "ClusterDefaultUsed").await;
    assert!(note.contains("for its whole life"), "{note}");

    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat]");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    world.connect("default", &world.emulator.connection_string.clone());
    world.ready("web").await;
    let kind = kind_of_connection(&world, "alice").await;
    assert_eq!(kind, ConnectionKind::AcsConnection);
    let note = world.event("bob", "DefaultConnectionAppeared").await;
    assert!(note.contains("does not change this identity"), "{note}");
    let kind = kind_of_connection(&world, "bob").await;
    assert_eq!(kind, ConnectionKind::ClusterAcsConnection);
}
