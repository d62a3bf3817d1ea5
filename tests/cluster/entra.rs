//! Credentials of Microsoft Entra ID, end to end, without any key of the resource.

use acs_identity_operator::crd::{AcsConnection, AcsToken, is_ready};
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::support::{eventually, kubernetes::root, world::World};

pub const TENANT: &str = "72f988bf-0000-4000-8000-2d7cd011db47";
pub const CLIENT: &str = "11111111-2222-3333-4444-555555555555";
pub const SECRET: &str = "Zq8~the-client-secret-of-the-story_x";
const OTHER_CLIENT: &str = "99999999-2222-3333-4444-555555555555";

/// Creates a world whose operator requests tokens of Entra ID from the emulator, without starting
/// it. Its data plane accepts only tokens that the emulator has signed.
pub async fn world_of_entra(operator: &[&str]) -> World {
    let mut world = World::bare(&[], operator).await;
    let authority = world.emulator.printed("entra-authority");
    let ca_file = world.emulator.printed("ca-file");
    let authority = ["--entra-authority".to_owned(), authority];
    world.arguments.extend(authority);
    world
        .environment
        .push(("SSL_CERT_FILE".to_owned(), ca_file));
    let application = |client_id| json!({"tenantId": TENANT, "clientId": client_id, "secrets": [SECRET], "expiredSecrets": ["expired"]});
    let settings = json!({
        "entraTokens": "issued",
        "entraApplications": [application(CLIENT), application(OTHER_CLIENT)],
    });
    world.emulator.settings(settings).await;
    world
}

/// Creates a world with a token, whose operator renews its tokens of Entra ID within `life`.
async fn world_of_short_tokens(life: &str) -> World {
    let mut world = world_of_entra(&[]).await;
    let life = json!({"entraTokenLife": life});
    world.emulator.settings(life).await;
    put_secret(&world, SECRET);
    connect(&world, CLIENT);
    world.start_operator();
    world.and_a_token().await
}

/// Returns the manifests in docs/credentials.md after a heading, adapted to this world: its
/// endpoint, and its namespace as the allowed namespace and as the name of cluster-scoped objects.
pub fn page(world: &World, heading: &str) -> Vec<String> {
    let page = std::fs::read_to_string(root("docs/credentials.md")).expect("readable");
    let (_, section) = page
        .split_once(&format!("\n## {heading}\n"))
        .expect("the heading");
    let section = section.split("\n## ").next().expect("a section");
    let blocks = section.split("```yaml\n").skip(1);
    blocks
        .map(|block| {
            let manifest = block.split("```").next().expect("a block");
            let is_of_cluster = manifest.contains("kind: ClusterAcsConnection");
            let mut manifest = manifest
                .replace(
                    "https://contoso.communication.azure.com",
                    &world.emulator.url,
                )
                .replace("team-a", &world.namespace);
            if is_of_cluster {
                manifest = manifest.replace("name: default", &format!("name: {}", world.namespace));
            }
            manifest
        })
        .collect()
}

/// Creates a connection with `auth` (flow-style YAML).
pub fn connect_as(world: &World, name: &str, auth: &str) {
    world.apply(&format!(
        "apiVersion: acs-identity.dev/v1alpha1\nkind: AcsConnection\nmetadata: {{name: {name}}}\n\
         spec: {{endpoint: \"{}\", auth: {{{auth}}}}}\n",
        world.emulator.url
    ));
}

/// Creates a connection named `default` with a client secret.
pub fn connect(world: &World, client_id: &str) {
    let auth = format!(
        "clientSecret: {{tenantId: {TENANT}, clientId: {client_id}, secretRef: {{name: entra, key: secret}}}}"
    );
    connect_as(world, "default", &auth);
}

pub fn put_secret(world: &World, secret: &str) {
    world.apply(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: entra}}\nstringData: {{secret: \"{secret}\"}}\n"
    ));
}

async fn fingerprint(world: &World) -> Option<String> {
    let connection = world.api::<AcsConnection>().get("default").await;
    connection.expect("a connection").status?.credential
}

#[tokio::test]
async fn a_client_secret_brings_tokens_and_one_entra_token_serves_all_of_them() {
    let mut world = world_of_entra(&[]).await;
    // As an editor saves it.
    put_secret(&world, &format!("{SECRET}\\n"));
    world.apply(&page(&world, "A client secret")[0]);
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
    // After a restart no token is requested before it is needed.
    world.operator().process.terminate();
    world.start_operator();
    world.settled().await;
    assert_eq!(world.emulator.count("entraToken").await, 1);
    assert_eq!(world.issued().await, 3);
    world.token("four", "alice", "scopes: [chat]");
    world.ready("four").await;
    assert_eq!(world.emulator.count("entraToken").await, 2);
    // Everything can be undone.
    world
        .delete::<acs_identity_operator::crd::AcsIdentity>("alice")
        .await;
    eventually("no identity is left", || async {
        world.emulator.living().await.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_renewed_token_or_another_secret_of_the_application_makes_no_token_anew_another_application_does()
 {
    let world = world_of_short_tokens("3s").await;
    let first = world.live_token("web", &[]).await;
    let credential = eventually("the credential is accepted", || fingerprint(&world)).await;
    let mut number = 0;
    eventually("the token of Entra ID is renewed, twice", || {
        number += 1;
        world.token(&format!("t{number}"), "alice", "scopes: [chat]");
        async {
            world.settled().await;
            (world.emulator.count("entraToken").await >= 3).then_some(())
        }
    })
    .await;
    let applications = json!({"entraApplications": [
        {"tenantId": TENANT, "clientId": CLIENT, "secrets": ["another-secret"]},
        {"tenantId": TENANT, "clientId": OTHER_CLIENT, "secrets": ["another-secret"]},
    ]});
    world.emulator.settings(applications).await;
    put_secret(&world, "another-secret");
    world.token("later", "alice", "scopes: [chat]");
    world.ready("later").await;
    assert_eq!(fingerprint(&world).await.as_ref(), Some(&credential));
    assert_eq!(
        world.secret_value("web", "token").await.as_ref(),
        Some(&first)
    );

    connect(&world, OTHER_CLIENT);
    world.live_token("web", &[&first]).await;
    let token = world.token_where("tells another credential", "web", |token| {
        let told = token
            .status
            .as_ref()
            .and_then(|status| status.credential.as_ref());
        told.is_some_and(|told| *told != credential)
    });
    assert!(is_ready(&token.await.status.expect("a status").conditions));
    assert!(
        world.emulator.check(&first).await.valid,
        "nothing was to be revoked"
    );
}

#[tokio::test]
async fn what_entra_refuses_is_told_with_what_to_do_and_heals_at_once_when_it_is_put_right() {
    let mut world = world_of_entra(&[]).await;
    put_secret(&world, "expired");
    connect(&world, CLIENT);
    world.start_operator();
    world.identity("alice", "");
    let told = |sentence: &'static str| {
        let world = &world;
        eventually(sentence, move || async move {
            let said = world.connection_says("default", "TokenRefused").await;
            said.contains(sentence).then_some(said)
        })
    };
    let said = told("The client secret has expired: create a new one for application").await;
    assert!(said.contains("AADSTS7000222"), "{said}");
    for stranger in ["Trace ID", "Correlation", "Timestamp"] {
        assert!(!said.contains(stranger), "{said}");
    }
    assert_eq!(fingerprint(&world).await, None);
    let said = world.identity_says("alice", "TokenRefused").await;
    assert!(said.contains("The client secret has expired"), "{said}");
    // One attempt serves all callers.
    let tries = world.emulator.count("entraToken").await;
    for name in ["bob", "carol", "dave"] {
        world.identity(name, "");
    }
    world.settled().await;
    let after = world.emulator.count("entraToken").await;
    assert!(
        after <= tries + 1,
        "a refused credential was tried {after} times"
    );

    put_secret(&world, "mistyped");
    told("(its value, not its id)").await;
    connect(&world, "00000000-2222-3333-4444-555555555555");
    told("has no application 00000000-2222-3333-4444-555555555555").await;
    let auth = format!(
        "clientSecret: {{tenantId: nowhere.example, clientId: {CLIENT}, secretRef: {{name: entra, key: secret}}}}"
    );
    connect_as(&world, "default", &auth);
    told("does not know the tenant nowhere.example").await;
    put_secret(&world, "");
    let said = world
        .connection_says("default", "InvalidClientSecret")
        .await;
    assert!(said.contains("key secret of Secret"), "{said}");

    put_secret(&world, SECRET);
    connect(&world, CLIENT);
    world.connection_says("default", "ConnectionReady").await;
    for name in ["alice", "bob", "carol", "dave"] {
        world.identity_says(name, "IdentityReady").await;
    }
}

#[tokio::test]
async fn an_identity_without_a_role_is_told_so_and_works_by_itself_when_it_has_one() {
    for (refusal, status) in [("denied", "401"), ("forbidden", "403")] {
        let mut world = world_of_entra(&[]).await;
        let none = json!({"entraTokens": "none", "refusedCredential": refusal});
        world.emulator.settings(none).await;
        put_secret(&world, SECRET);
        connect(&world, CLIENT);
        world.start_operator();
        world.identity("alice", "");
        let said = world.connection_says("default", "CredentialRefused").await;
        for part in [
            status,
            "Assign a role on the ACS resource",
            "takes some minutes",
        ] {
            assert!(said.contains(part), "{said}");
        }
        world
            .emulator
            .settings(json!({"entraTokens": "issued"}))
            .await;
        world.identity_says("alice", "IdentityReady").await;
        world.connection_says("default", "ConnectionReady").await;
    }
}

#[tokio::test]
async fn an_authority_that_is_away_is_told_and_tokens_stay_ready_until_it_is_back() {
    let world = world_of_short_tokens("2s").await;
    let away =
        json!([{"operation": "entraToken", "effect": "status", "status": 503, "body": "html"}]);
    world.emulator.faults(away).await;
    let mut number = 0;
    let said = eventually("the connection lacks a token of Entra ID", || {
        number += 1;
        world.token(&format!("t{number}"), "alice", "scopes: [chat]");
        async {
            world.settled().await;
            let status = world
                .api::<AcsConnection>()
                .get("default")
                .await
                .ok()?
                .status?;
            let ready = status
                .conditions
                .into_iter()
                .find(|it| it.type_ == "Ready")?;
            (ready.reason == "TokenUnavailable").then_some(ready.message)
        }
    })
    .await;
    assert!(
        said.contains(
            "The operator tries again; check that the network and proxies allow \
         connections to https://127.0.0.1"
        ),
        "{said}"
    );
    let token = world.get::<AcsToken>("web").await;
    assert!(is_ready(&token.status.expect("a status").conditions));
    world.emulator.heal().await;
    world.ready("t1").await;
    world.ready(&format!("t{number}")).await;
    world.connection_says("default", "ConnectionReady").await;
}

#[tokio::test]
async fn an_endpoint_that_no_flag_allows_gets_no_bearer_token() {
    let mut world = world_of_entra(&[]).await;
    put_secret(&world, SECRET);
    let auth = format!(
        "clientSecret: {{tenantId: {TENANT}, clientId: {CLIENT}, secretRef: {{name: entra, key: secret}}}}"
    );
    world.apply(&format!(
        "apiVersion: acs-identity.dev/v1alpha1\nkind: AcsConnection\nmetadata: {{name: default}}\n\
         spec: {{endpoint: \"https://thief.example\", auth: {{{auth}}}}}\n"
    ));
    world.identity("alice", "");
    world.start_operator();
    let said = world.connection_says("default", "EndpointNotAllowed").await;
    assert!(said.contains("--allow-endpoint thief.example"), "{said}");
    world.settled().await;
    assert_eq!(world.emulator.count("entraToken").await, 0);
}

#[tokio::test]
async fn a_client_secret_that_is_not_there_is_waited_for() {
    let mut world = world_of_entra(&[]).await;
    connect(&world, CLIENT);
    world.identity("alice", "");
    world.start_operator();
    world.connection_says("default", "SecretNotFound").await;
    world.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: entra}\nstringData: {other: x}\n");
    let said = world.connection_says("default", "SecretKeyNotFound").await;
    assert!(said.contains("waiting for key secret"), "{said}");
    let change = json!({"stringData": {"secret": SECRET}});
    world.patch::<Secret>("entra", change).await;
    world.identity_says("alice", "IdentityReady").await;
}
