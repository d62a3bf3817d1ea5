//! Attacks on another tenant's identity.

use acs_identity_operator::crd::{AcsIdentity, AcsRevocation, AcsToken, ClusterAcsConnection};
use kube::{Api, api::DeleteParams};
use serde_json::json;

use super::Attack;

const MINE: &str = "connectionRef: {kind: AcsConnection, name: mine}";

#[tokio::test]
async fn an_identity_is_not_shared_by_the_say_so_of_who_wants_a_share() {
    let attack = Attack::new().await;
    let id = attack.victims_id().await;
    attack
        .made_up_connection("mine", "sharedIdentities: true, adoption: Allow")
        .await;
    attack
        .identity(
            "alice",
            &format!("{MINE}, identityId: \"{id}\", deletionPolicy: Delete"),
        )
        .await;
    let said = attack.identity_says("alice", "IdentityInUse").await;
    assert!(
        said.contains(
            "in a ClusterAcsConnection if the other AcsIdentity is in another \
     namespace"
        ),
        "{said}"
    );
    // A revocation that never ends would prevent new tokens for the victim.
    let revoke = json!({"metadata": {"annotations": {
        "acs-identity.dev/requested-at": "1", "acs-identity.dev/request": "revoke",
    }}});
    attack.patch::<AcsIdentity>("alice", &revoke).await;
    attack.token("web", "alice", "scopes: [chat, voip]").await;
    attack.says::<AcsToken>("web", "IdentityNotReady").await;
    attack.victim_is_well().await;
    attack.delete::<AcsIdentity>("alice").await;
    assert_eq!(attack.world.emulator.living().await.len(), 1);
    assert_eq!(attack.world.emulator.count("revokeTokens").await, 0);
}

#[tokio::test]
async fn an_identity_in_other_letters_is_the_same_one() {
    let attack = Attack::new().await;
    let id = attack.victims_id().await;
    let (start, rest) = id.rsplit_once(':').expect("an id");
    let other = format!("{start}:{}", rest.to_uppercase());
    assert_ne!(id, other);
    attack.made_up_connection("mine", "").await;
    attack
        .identity("alice", &format!("{MINE}, identityId: \"{other}\""))
        .await;
    attack.identity_says("alice", "IdentityInUse").await;
}

#[tokio::test]
async fn an_identity_adopted_by_a_made_up_credential_is_not_deleted_by_the_clusters() {
    let attack = Attack::new().await;
    let world = &attack.world;
    let cluster = world.namespace.as_str();
    world.apply(&format!(
        "apiVersion: acs-identity.dev/v1alpha1\nkind: ClusterAcsConnection\nmetadata: {{name: {cluster}}}\n\
         spec: {{auth: {{connectionString: {{secretRef: {{name: default-acs, key: connectionString}}}}}},\n\
         policy: {{namespaces: {{names: [{cluster}, {}]}}}}}}\n",
        attack.namespace
    ));
    // An identity that is not managed in the cluster.
    let of_cluster = format!("connectionRef: {{kind: ClusterAcsConnection, name: {cluster}}}");
    world.identity("stray", &format!("{of_cluster}, deletionPolicy: Orphan"));
    world.identity_says("stray", "IdentityReady").await;
    let stray = world.get::<AcsIdentity>("stray").await;
    let id = stray.status.and_then(|it| it.identity_id).expect("an id");
    world.delete::<AcsIdentity>("stray").await;
    world.gone::<AcsIdentity>("stray").await;

    attack.made_up_connection("mine", "").await;
    attack
        .identity(
            "taken",
            &format!("{MINE}, identityId: \"{id}\", deletionPolicy: Delete"),
        )
        .await;
    attack.identity_says("taken", "IdentityReady").await;
    let switch =
        json!({"spec": {"connectionRef": {"kind": "ClusterAcsConnection", "name": cluster}}});
    attack.patch::<AcsIdentity>("taken", &switch).await;
    let said = attack.identity_says("taken", "PolicyDenied").await;
    assert!(
        said.contains("policy.adoption of the connection is Deny"),
        "{said}"
    );
    attack.token("taken", "taken", "scopes: [chat]").await;
    attack.says::<AcsToken>("taken", "PolicyDenied").await;
    let api = Api::<AcsIdentity>::namespaced(attack.client.clone(), &attack.namespace);
    let deletion = api.delete("taken", &DeleteParams::default()).await;
    deletion.expect("a deletion");
    // With its own credential only.
    attack.identity_says("taken", "TokenRefused").await;
    world.settled().await;
    let living = world.emulator.living().await;
    assert!(living.iter().any(|identity| identity.id == id));
    assert_eq!(world.emulator.count("issueToken").await, 1);
    let connections: Api<ClusterAcsConnection> = Api::all(world.client.clone());
    let _ = connections.delete(cluster, &DeleteParams::default()).await;
}

#[tokio::test]
async fn an_order_reaches_identities_of_its_own_namespace_only() {
    let attack = Attack::new().await;
    let world = &attack.world;
    let victims = world.namespace.as_str();
    world
        .cluster
        .kubectl(&["label", "acsidentity", "alice", "team=a", "-n", victims]);
    let held = world.live_token("web", &[]).await;
    for name in [format!("{victims}/alice"), format!("../{victims}/alice")] {
        let spec = format!("names: [\"{name}\"]");
        let said = attack.refused("AcsRevocation", &spec).await;
        assert!(said.contains("names must be Kubernetes names"), "{said}");
    }
    let everybody = "selector: {matchExpressions: [{key: nothing, operator: DoesNotExist}]}";
    for (name, selection, reason) in [
        ("by-name", "names: [alice]", "IdentityNotFound"),
        (
            "by-label",
            "selector: {matchLabels: {team: a}}",
            "NothingSelected",
        ),
        ("of-everybody", everybody, "NothingSelected"),
    ] {
        attack.create("AcsRevocation", name, selection).await;
        attack.says::<AcsRevocation>(name, reason).await;
    }
    assert!(world.emulator.check(&held).await.valid);
    assert_eq!(world.emulator.count("revokeTokens").await, 0);
}
