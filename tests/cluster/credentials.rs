//! Keys and connection strings: changed, wrong, regenerated (C1 without its pacing, I4).

use acs_identity_operator::crd::{AcsConnection, AcsIdentity, AcsToken, is_ready};
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::support::{eventually, world::World};

async fn world_with_a_token() -> (World, String) {
    let world = World::with_a_token().await;
    let token = world.live_token("web", &[]).await;
    (world, token)
}

async fn regenerate(world: &World, key: &str) -> String {
    let path = format!("keys/{key}/regenerate");
    let answer = world
        .emulator
        .send(reqwest::Method::POST, &path, None)
        .await;
    answer["connectionString"]
        .as_str()
        .expect("a connection string")
        .to_owned()
}

async fn use_connection_string(world: &World, text: &str) {
    let change = json!({"stringData": {"connectionString": text}});
    world.patch::<Secret>("default-acs", change).await;
}

#[tokio::test]
async fn a_changed_connection_string_is_noticed_without_a_restart_and_tokens_are_made_anew() {
    let (world, first) = world_with_a_token().await;
    let secondary = regenerate(&world, "secondary").await;
    use_connection_string(&world, &secondary).await;
    world.live_token("web", &[&first]).await;
    assert!(
        world.emulator.check(&first).await.valid,
        "nothing was to be revoked"
    );
    assert_eq!(world.emulator.count("revokeTokens").await, 0);
    let token = world.ready("web").await;
    let connection = world.get::<AcsConnection>("default").await;
    let accepted = connection.status.expect("a status").credential;
    assert!(accepted.is_some());
    assert_eq!(token.status.expect("a status").credential, accepted);
}

#[tokio::test]
async fn a_key_regenerated_without_notice_is_found_and_all_is_made_anew_with_the_new_one() {
    let (world, first) = world_with_a_token().await;
    let fresh = regenerate(&world, "primary").await;
    assert!(!world.emulator.check(&first).await.valid);
    world.token("second", "alice", "scopes: [voip]");
    let message = world.connection_says("default", "CredentialRefused").await;
    assert!(message.contains("rejected the credential"), "{message}");
    let token = world.get::<AcsToken>("web").await;
    assert!(
        is_ready(&token.status.expect("a status").conditions),
        "one 401 must not flip tokens"
    );
    use_connection_string(&world, &fresh).await;
    world.live_token("web", &[&first]).await;
    world.ready("second").await;
    world.connection_says("default", "ConnectionReady").await;
}

#[tokio::test]
async fn a_wrong_key_is_told_and_its_fingerprint_is_not() {
    let mut world = World::bare(&[], &[]).await;
    let wrong = format!("endpoint={}/;accesskey=d3Jvbmc=", world.emulator.url);
    world.connect("default", &wrong);
    world.start_operator();
    world.identity("alice", "");
    let message = world.connection_says("default", "CredentialRefused").await;
    assert!(
        message.contains("Check that the credential belongs to this resource"),
        "{message}"
    );
    let connection = world.get::<AcsConnection>("default").await;
    assert_eq!(connection.status.expect("a status").credential, None);
    let tries = world.emulator.count("createIdentity").await;
    world.identity("bob", "");
    world.settled().await;
    let after = world.emulator.count("createIdentity").await;
    assert!(
        after <= tries + 1,
        "a refused credential was tried {after} times"
    );
    use_connection_string(&world, &world.emulator.connection_string).await;
    world.identity_says("alice", "IdentityReady").await;
    world.identity_says("bob", "IdentityReady").await;
}

#[tokio::test]
async fn an_access_key_with_an_endpoint_works_as_well() {
    let mut world = World::bare(&[], &[]).await;
    world.apply(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: key}}\nstringData: {{primary: \"{}\"}}\n---\n\
         apiVersion: acs-identity.dev/v1alpha1\nkind: AcsConnection\nmetadata: {{name: main}}\n\
         spec: {{endpoint: \"{}\", auth: {{accessKey: {{secretRef: {{name: key, key: primary}}}}}}}}\n",
        world.emulator.access_key(),
        world.emulator.url
    ));
    world.start_operator();
    world.identity("alice", "connectionRef: {kind: AcsConnection, name: main}");
    world.token("web", "alice", "scopes: [chat]");
    world.ready("web").await;
}

#[tokio::test]
async fn a_401_that_speaks_of_the_identity_leaves_the_connection_ready() {
    let (world, _) = world_with_a_token().await;
    let id = "8:acs:00000000-0000-0000-0000-000000000000_invented";
    world.identity("stranger", &format!("identityId: \"{id}\""));
    world.token("lost", "stranger", "scopes: [chat]");
    let message = world.token_says("lost", "IdentityNotOwned").await;
    assert!(
        message.contains("does not belong to this ACS resource"),
        "{message}"
    );
    world.connection_says("default", "ConnectionReady").await;
    let identities = world.emulator.identities().await;
    assert_eq!(identities.len(), 1, "a 401 led to a new identity");
}

#[tokio::test]
async fn a_connection_that_leads_elsewhere_is_not_followed() {
    let (world, _) = world_with_a_token().await;
    let other = crate::support::emulator::Emulator::start(&[]);
    use_connection_string(&world, &other.connection_string).await;
    let message = world.identity_says("alice", "EndpointChanged").await;
    assert!(
        message.contains(&world.emulator.url) && message.contains(&other.url),
        "{message}"
    );
    world.settled().await;
    assert!(
        other.requests().await.is_empty(),
        "something was sent to the other endpoint"
    );
    use_connection_string(&world, &world.emulator.connection_string).await;
    world.identity_says("alice", "IdentityReady").await;
}

#[tokio::test]
async fn counts_of_users_are_in_the_connections_status() {
    let (world, _) = world_with_a_token().await;
    let api = world.api::<AcsConnection>();
    eventually("one identity and one token are counted", || async {
        let status = api.get("default").await.expect("a connection").status?;
        (status.identities == Some(1) && status.tokens == Some(1)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn counts_of_users_are_right_after_deletions_and_moves() {
    let (world, _) = world_with_a_token().await;
    world.connect("other", &world.emulator.connection_string.clone());
    world.identity("bob", "");
    for (token, identity) in [("app", "alice"), ("bot", "bob"), ("old", "bob")] {
        // Its deletion changes nothing else.
        world.token(token, identity, "scopes: [chat], revocation: Never");
        world.ready(token).await;
    }
    let api = world.api::<AcsConnection>();
    let counts = async |name: &str, wanted: (i64, i64)| {
        eventually(&format!("{name} counts {wanted:?}"), || async {
            let status = api.get(name).await.expect("a connection").status?;
            ((status.identities?, status.tokens?) == wanted).then_some(())
        })
        .await;
    };
    counts("default", (2, 4)).await;
    // Until it does not retry by itself.
    tokio::time::sleep(std::time::Duration::from_secs(12)).await;
    world.delete::<AcsToken>("old").await;
    world.gone::<AcsToken>("old").await;
    counts("default", (2, 3)).await;
    let to =
        |name: &str| json!({"spec": {"connectionRef": {"kind": "AcsConnection", "name": name}}});
    world.patch::<AcsIdentity>("alice", to("other")).await;
    counts("default", (1, 1)).await;
    counts("other", (1, 2)).await;
    // Of another resource, which issued none of its tokens.
    let elsewhere = crate::support::emulator::Emulator::start(&[]);
    world.connect("elsewhere", &elsewhere.connection_string);
    world.patch::<AcsIdentity>("bob", to("elsewhere")).await;
    counts("elsewhere", (1, 0)).await;
    counts("default", (1, 1)).await;
}
