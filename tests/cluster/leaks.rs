//! Leaks: no token and no key is anywhere but where it belongs (C2).

use acs_identity_operator::crd::{AcsConnection, AcsToken};
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::{
    entra,
    support::world::{World, spec},
    teams,
};

#[tokio::test]
async fn no_output_of_the_operator_holds_the_bytes_of_a_token_or_key() {
    let mut world = World::new().await;
    let mut secrets = vec![world.emulator.access_key().to_owned()];
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat, voip]");
    world.ready("web").await;
    let first = world.live_token("web", &[]).await;
    // Everything that causes output: an edit, a revocation, failed calls, an invalid connection
    // string.
    world
        .patch::<Secret>(
            "web",
            json!({"stringData": {"token": "an-edit-that-is-secret-too"}}),
        )
        .await;
    let second = world.live_token("web", &[&first]).await;
    world
        .patch::<AcsToken>("web", spec(&json!({"scopes": ["chat"]})))
        .await;
    let third = world.live_token("web", &[&second]).await;
    let answer = world
        .emulator
        .send(reqwest::Method::POST, "keys/primary/regenerate", None)
        .await;
    let fresh = answer["connectionString"]
        .as_str()
        .expect("a string")
        .to_owned();
    world.token("other", "alice", "scopes: [voip]");
    world.connection_says("default", "CredentialRefused").await;
    let broken = format!("{fresh};accesskey=c2Vjb25kLWtleQ==");
    world
        .patch::<Secret>(
            "default-acs",
            json!({"stringData": {"connectionString": broken}}),
        )
        .await;
    world
        .connection_says("default", "InvalidConnectionString")
        .await;
    world
        .patch::<Secret>(
            "default-acs",
            json!({"stringData": {"connectionString": fresh}}),
        )
        .await;
    world.ready("other").await;
    let fourth = world.live_token("web", &[&third]).await;
    let wrong = teams::ending_in(3000).replacen('.', ".not-", 1);
    let entra = teams::ending_in(3400);
    for text in [&wrong, &entra] {
        teams::sign_in(&world, text);
        teams::teams_token(&world, "bob", "");
        let reason = if *text == wrong {
            "InvalidUserToken"
        } else {
            "TokenIssued"
        };
        world.token_says("bob", reason).await;
    }
    secrets.extend([wrong, entra, world.live_token("bob", &[]).await]);
    secrets.extend([
        first,
        second,
        third,
        fourth,
        "an-edit-that-is-secret-too".to_owned(),
    ]);
    secrets.extend([
        fresh.split_once("accesskey=").expect("a key").1.to_owned(),
        "c2Vjb25kLWtleQ==".to_owned(),
    ]);

    for (what, output) in outputs(&mut world).await {
        for secret in &secrets {
            assert!(!output.contains(secret.as_str()), "{what} holds a secret");
            // The part that differs in every token: its signature.
            let signature = secret.rsplit('.').next().expect("a part");
            assert!(
                !output.contains(signature),
                "{what} holds a part of a secret"
            );
        }
        assert!(
            !output.contains("HMAC-SHA256"),
            "{what} holds an Authorization value"
        );
    }
    assert!(world.api::<AcsConnection>().get("default").await.is_ok());
}

#[tokio::test]
async fn no_output_of_the_operator_holds_a_client_secret_or_a_token_of_entra() {
    let mut world = entra::world_of_entra(&[]).await;
    // The crates between the operator and the network, with the most verbose logging.
    let filter = "info,acs_identity_operator=trace,azure_core=trace,azure_identity=trace,typespec_client_core=trace,reqwest=trace,hyper_util=trace";
    world
        .environment
        .push(("RUST_LOG".to_owned(), filter.to_owned()));
    let short = json!({"entraTokenLife": "2s"});
    world.emulator.settings(short).await;
    entra::put_secret(&world, "a-mistyped-client-secret");
    entra::connect(&world, entra::CLIENT);
    world.start_operator();
    world.identity("alice", "");
    world.connection_says("default", "TokenRefused").await;
    entra::put_secret(&world, entra::SECRET);
    world.token("web", "alice", "scopes: [chat]");
    world.ready("web").await;
    let refuse = json!({"entraTokens": "none"});
    world.emulator.settings(refuse).await;
    world.token("refused", "alice", "scopes: [chat]");
    world.connection_says("default", "CredentialRefused").await;
    let account = "workloadIdentity: {tenantId: a.example, clientId: \"11111111-2222-3333-4444-555555555555\", serviceAccountRef: {name: default}}";
    world.apply(&format!(
        "apiVersion: acs-identity.dev/v1alpha1\nkind: AcsConnection\nmetadata: {{name: other}}\n\
         spec: {{endpoint: \"{}\", auth: {{{account}}}}}\n",
        world.emulator.url
    ));
    world.identity("bob", "connectionRef: {kind: AcsConnection, name: other}");
    world.connection_says("other", "TokenRefused").await;
    for (what, output) in outputs(&mut world).await {
        for secret in ["a-mistyped-client-secret", "the-client-secret-of"] {
            assert!(!output.contains(secret), "{what} holds a client secret");
        }
        // Every JSON Web Token begins like this: those of Entra ID, of ServiceAccounts and of ACS.
        assert!(!output.contains("eyJ"), "{what} holds a token");
    }
    let log = world.operator().process.output();
    assert!(
        log.contains("azure_identity") || log.contains("typespec_client_core"),
        "{log}"
    );
}

/// Returns everything that the operator exposes, with a name for each.
async fn outputs(world: &mut World) -> Vec<(&'static str, String)> {
    let namespace = world.namespace.clone();
    let (_, metrics) = world.operator().get("/metrics").await;
    let (_, ready) = world.operator().get("/readyz").await;
    let kubectl = |kind: &str| {
        world
            .cluster
            .kubectl(&["get", kind, "-n", &namespace, "-o", "yaml"])
    };
    let outputs = [
        ("metrics", metrics),
        ("readyz", ready),
        ("tokens", kubectl("acstokens")),
        ("identities", kubectl("acsidentities")),
        ("connections", kubectl("acsconnections")),
        ("events", kubectl("events.events.k8s.io")),
        ("the annotations of Secrets", annotations(world).await),
        (
            "the log",
            world.operator.as_ref().expect("it runs").process.output(),
        ),
        (
            "the emulator's journal",
            format!("{:?}", world.emulator.requests().await),
        ),
    ];
    for (what, output) in &outputs {
        assert!(!output.is_empty(), "{what} is empty");
    }
    outputs.into()
}

async fn annotations(world: &World) -> String {
    let secrets = world
        .api::<Secret>()
        .list(&kube::api::ListParams::default())
        .await
        .expect("readable");
    let mut text = String::new();
    for all in secrets
        .iter()
        .filter_map(|secret| secret.metadata.annotations.as_ref())
    {
        // The annotation in which kubectl stores an applied Secret is not written by the operator.
        for (key, value) in all
            .iter()
            .filter(|(key, _)| key.starts_with("acs-identity.dev/"))
        {
            text.push_str(&[key, ": ", value, "\n"].concat());
        }
    }
    text
}
