//! Credentials of Microsoft Entra ID, end to end: no key of the resource anywhere.

use acs_identity_operator::crd::{AcsConnection, AcsToken, ClusterAcsConnection, is_ready};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::{Api, api::DeleteParams};
use serde_json::json;

use crate::support::{
    eventually,
    world::{World, condition, spec},
};

pub const TENANT: &str = "72f988bf-0000-4000-8000-2d7cd011db47";
pub const CLIENT: &str = "11111111-2222-3333-4444-555555555555";
pub const SECRET: &str = "Zq8~the-client-secret-of-the-story_x";

/// A world whose operator asks the emulator for tokens of Entra ID, not yet running, and where only
/// tokens that the emulator has signed open its data plane.
pub async fn world_of_entra(operator: &[&str]) -> World {
    let mut world = World::bare(&[], operator).await;
    let authority = world.emulator.told("entra-authority");
    let ca_file = world.emulator.told("ca-file");
    world
        .arguments
        .extend(["--entra-authority".to_owned(), authority]);
    world
        .environment
        .push(("SSL_CERT_FILE".to_owned(), ca_file));
    world
        .emulator
        .settings(json!({
            "entraTokens": "issued",
            "entraApplications": [{"tenantId": TENANT, "clientId": CLIENT, "secrets": [SECRET]}],
        }))
        .await;
    world
}

/// A connection called `default` with `auth` (flow-style YAML).
pub fn connect(world: &World, auth: &str) {
    world.apply(&format!(
        "apiVersion: acs-identity.dev/v1alpha1\nkind: AcsConnection\nmetadata: {{name: default}}\n\
         spec: {{endpoint: \"{}\", auth: {{{auth}}}}}\n",
        world.emulator.url
    ));
}

pub fn client_secret(world: &World, secret: &str) {
    world.apply(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: entra}}\nstringData: {{secret: \"{secret}\"}}\n"
    ));
}

pub fn by_client_secret() -> String {
    format!(
        "clientSecret: {{tenantId: {TENANT}, clientId: {CLIENT}, secretRef: {{name: entra, key: secret}}}}"
    )
}

#[tokio::test]
async fn a_client_secret_brings_tokens_and_one_entra_token_serves_all_of_them() {
    let mut world = world_of_entra(&[]).await;
    client_secret(&world, &format!("{SECRET}\\n"));
    connect(&world, &by_client_secret());
    world.start_operator();
    world.identity("alice", "");
    for name in ["one", "two", "three"] {
        world.token(name, "alice", "scopes: [chat]");
    }
    for name in ["one", "two", "three"] {
        world.ready(name).await;
        world.live_token(name, &[]).await;
    }
    world.connection_says("default", "ConnectionReady").await;
    assert_eq!(world.emulator.count("entraToken").await, 1);
    let identities = world.emulator.living().await;
    assert_eq!(identities.len(), 1);
}
