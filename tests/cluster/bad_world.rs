//! Errors that the schema cannot detect: each is reported as a sentence, and nothing is lost.

use acs_identity_operator::crd::{AcsConnection, AcsIdentity, AcsToken};
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::support::world::{World, spec};

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

async fn connection_string_says(text: &str, reason: &str) -> String {
    let mut world = World::bare(&[], &[]).await;
    world.connect("default", text);
    world.start_operator();
    world.identity("alice", "");
    let message = world.connection_says("default", reason).await;
    assert!(
        !message.contains(KEY),
        "the key is in the message: {message}"
    );
    assert_eq!(world.identity_says("alice", reason).await, message);
    message
}

#[tokio::test]
async fn malformed_connection_strings_say_what_is_right() {
    let mut world = World::bare(&[], &[]).await;
    world.start_operator();
    let shapes = [
        ("nothing", String::new(), "endpoint"),
        (
            "no-key",
            "endpoint=https://a.communication.azure.com/".to_owned(),
            "accesskey",
        ),
        ("no-endpoint", format!("accesskey={KEY}"), "endpoint"),
        (
            "bad-key",
            "endpoint=https://a.communication.azure.com/;accesskey=%%%".to_owned(),
            "base64",
        ),
        (
            "two-keys",
            format!("endpoint=https://a.communication.azure.com/;accesskey={KEY};accesskey={KEY}"),
            "twice",
        ),
        (
            "no-scheme",
            format!("endpoint=a.communication.azure.com;accesskey={KEY}"),
            "https://",
        ),
        (
            "a-path",
            format!("endpoint=https://a.communication.azure.com/x;accesskey={KEY}"),
            "path",
        ),
        (
            "env-line",
            format!("ACS=endpoint=https://a.communication.azure.com/;accesskey={KEY}"),
            "is a line of an environment file",
        ),
        ("empty-value", "endpoint=;accesskey=".to_owned(), "endpoint"),
    ];
    for (name, text, _) in &shapes {
        world.connect(name, text);
    }
    for (name, _, hint) in &shapes {
        let message = world.connection_says(name, "InvalidConnectionString").await;
        assert!(message.contains(hint), "{name}: {message}");
        assert!(
            !message.contains(KEY),
            "the key is in the message: {message}"
        );
    }
}

#[tokio::test]
async fn an_endpoint_that_is_not_allowed_names_the_flag() {
    let text = format!("endpoint=https://evil.example/;accesskey={KEY}");
    let message = connection_string_says(&text, "EndpointNotAllowed").await;
    assert!(message.contains("--allow-endpoint"), "{message}");
}

#[tokio::test]
async fn an_endpoint_without_tls_names_the_flag() {
    let text = format!("endpoint=http://contoso.communication.azure.com/;accesskey={KEY}");
    let message = connection_string_says(&text, "EndpointNotAllowed").await;
    assert!(message.contains("--allow-insecure-endpoint"), "{message}");
}

#[tokio::test]
async fn an_endpoint_that_does_not_resolve_is_told_and_tried_again() {
    let mut world = World::bare(&[], &["--allow-endpoint", "nowhere.invalid"]).await;
    world.connect(
        "default",
        &format!("endpoint=https://nowhere.invalid/;accesskey={KEY}"),
    );
    world.start_operator();
    world.identity("alice", "");
    let message = world.identity_says("alice", "ServiceUnreachable").await;
    assert!(message.contains("https://nowhere.invalid"), "{message}");
    assert!(message.contains("Check the endpoint"), "{message}");
}

#[tokio::test]
async fn an_endpoint_that_does_not_speak_tls_is_told_and_sent_nothing() {
    let mut world = World::bare(&[], &[]).await;
    let text = world
        .emulator
        .connection_string
        .replace("http://", "https://");
    world.connect("default", &text);
    world.start_operator();
    world.identity("alice", "");
    let message = world.identity_says("alice", "ServiceUnreachable").await;
    assert!(
        message.contains("https://127.0.0.1") && message.contains("TLS"),
        "{message}"
    );
    assert!(world.emulator.requests().await.is_empty());
}

#[tokio::test]
async fn unknown_keys_of_a_connection_string_are_ignored_with_a_warning() {
    let mut world = World::bare(&[], &[]).await;
    let text = format!("{};color=hidden-value", world.emulator.connection_string);
    world.connect("default", &text);
    world.start_operator();
    world.identity("alice", "");
    world.identity_says("alice", "IdentityReady").await;
    let operator = world.operator();
    operator.process.wait_for("a warning", |line| {
        (line.contains("unknown keys") && line.contains("color")).then_some(())
    });
    assert!(!operator.process.output().contains("hidden-value"));
}

#[tokio::test]
async fn an_answer_of_a_proxy_is_named_and_proves_no_credential() {
    let world = World::new().await;
    let html = json!([{"operation": "*", "effect": "status", "status": 400, "body": "html"}]);
    world.emulator.faults(html).await;
    world.identity("alice", "");
    let message = world.identity_says("alice", "NotTheService").await;
    assert!(
        message.contains("for example from a proxy (400, content type text/html)"),
        "{message}"
    );
    let connection = world.get::<AcsConnection>("default").await;
    let status = connection.status.expect("a status");
    assert_eq!(status.credential, None);
}

#[tokio::test]
async fn an_endpoint_and_a_connection_string_must_agree() {
    let mut world = World::bare(&[], &[]).await;
    world.connect("default", &world.emulator.connection_string.clone());
    world
        .patch::<AcsConnection>(
            "default",
            spec(&json!({"endpoint": "https://other.communication.azure.com"})),
        )
        .await;
    world.start_operator();
    let message = world.connection_says("default", "EndpointMismatch").await;
    assert!(
        message.contains("remove endpoint or correct one of them"),
        "{message}"
    );
}

#[tokio::test]
async fn a_missing_secret_and_a_missing_key_are_waited_for() {
    let mut world = World::bare(&[], &[]).await;
    world.start_operator();
    world.apply(
        "apiVersion: acs-identity.dev/v1alpha1\nkind: AcsConnection\nmetadata: {name: default}\n\
         spec: {auth: {connectionString: {secretRef: {name: acs, key: connectionString}}}}\n",
    );
    let message = world.connection_says("default", "SecretNotFound").await;
    assert!(message.contains("/acs, which does not exist"), "{message}");
    world.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: acs}\nstringData: {other: x}\n");
    let message = world.connection_says("default", "SecretKeyNotFound").await;
    assert!(
        message.contains("connectionString") && message.contains("the keys other"),
        "{message}"
    );
    let text = world.emulator.connection_string.clone();
    world
        .patch::<Secret>("acs", json!({"stringData": {"connectionString": text}}))
        .await;
    world.connection_says("default", "ConnectionReady").await;
}

/// Creates a world whose connection uses an API version without the scopes `*.join`.
async fn world_of_an_old_api_version() -> World {
    let mut world = World::bare(&[], &[]).await;
    world.connect("default", &world.emulator.connection_string.clone());
    let old = spec(&json!({"apiVersion": "2022-10-01"}));
    world.patch::<AcsConnection>("default", old).await;
    world.start_operator();
    world
}

#[tokio::test]
async fn a_scope_that_the_api_version_lacks_is_a_sentence_and_no_call() {
    let world = world_of_an_old_api_version().await;
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat.join]");
    let message = world.token_says("web", "UnsupportedByApiVersion").await;
    assert!(
        message.contains("2022-10-01") && message.contains("chat.join"),
        "{message}"
    );
    assert_eq!(world.issued().await, 0);
    world
        .patch::<AcsToken>("web", spec(&json!({"scopes": ["chat"]})))
        .await;
    world.ready("web").await;
}

#[tokio::test]
async fn metadata_that_other_controllers_obey_is_refused_and_names_the_flag() {
    let world = World::new().await;
    world.identity("alice", "");
    world.token(
        "web",
        "alice",
        "scopes: [chat], secret: {labels: {argocd.argoproj.io/secret-type: cluster}}",
    );
    let message = world.token_says("web", "SecretMetadataForbidden").await;
    assert!(message.contains("--forbid-secret-metadata"), "{message}");
    assert!(world.find::<Secret>("web").await.is_none());
    world
        .patch::<AcsToken>("web", spec(&json!({"secret": {"labels": null}})))
        .await;
    world.ready("web").await;
}

#[tokio::test]
async fn a_denied_change_keeps_nothing_that_it_gave_up() {
    let world = world_of_an_old_api_version().await;
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat, voip]");
    world.ready("web").await;
    let first = world.live_token("web", &[]).await;
    world
        .patch::<AcsToken>("web", spec(&json!({"scopes": ["voip.join"]})))
        .await;
    world.token_says("web", "UnsupportedByApiVersion").await;
    assert!(!world.emulator.check(&first).await.valid);
}

#[tokio::test]
async fn one_connection_that_is_down_leaves_the_others_at_full_speed() {
    let world = World::new().await;
    let dead = crate::support::emulator::Emulator::start(&[]);
    dead.faults(json!([{"operation": "*", "effect": "hang"}]))
        .await;
    world.connect("dead", &dead.connection_string);
    for number in 0..40 {
        world.identity(
            &format!("stuck-{number}"),
            "connectionRef: {kind: AcsConnection, name: dead}",
        );
    }
    crate::support::eventually("calls hang", || async {
        (!dead.requests().await.is_empty()).then_some(())
    })
    .await;
    for number in 0..10 {
        world.identity(&format!("user-{number}"), "");
        world.token(
            &format!("user-{number}"),
            &format!("user-{number}"),
            "scopes: [chat]",
        );
    }
    for number in 0..10 {
        world.ready(&format!("user-{number}")).await;
    }
}

/// Creates a world whose operator may only read Secrets.
async fn poor_world(operator: &[&str]) -> World {
    let mut world = World::bare(&[], operator).await;
    let namespace = world.namespace.clone();
    world.apply(&format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: poor}}\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: poor-{namespace}}}\n\
         rules:\n\
         - {{apiGroups: [acs-identity.dev], resources: ['*'], verbs: ['*']}}\n\
         - {{apiGroups: [''], resources: [secrets], verbs: [get, list, watch]}}\n\
         - {{apiGroups: [''], resources: [namespaces], verbs: [get, list, watch]}}\n\
         - {{apiGroups: [events.k8s.io], resources: [events], verbs: [create, patch]}}\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: poor-{namespace}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: poor-{namespace}}}\n\
         subjects: [{{kind: ServiceAccount, name: poor, namespace: {namespace}}}]\n"
    ));
    world.connect("default", &world.emulator.connection_string.clone());
    world.start_operator_as("poor");
    world
}

fn grant(world: &World, verbs: &str) {
    let patch =
        format!("-p=[{{\"op\":\"replace\",\"path\":\"/rules/1/verbs\",\"value\":{verbs}}}]");
    let role = format!("poor-{}", world.namespace);
    let arguments = ["patch", "clusterrole", &role, "--type=json", &patch];
    world.cluster.kubectl(&arguments);
}

#[tokio::test]
async fn rights_that_are_missing_in_a_namespace_are_told_with_what_is_forbidden() {
    let world = poor_world(&[]).await;
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat]");
    let message = world.token_says("web", "Forbidden").await;
    assert!(message.contains("could not create Secret"), "{message}");
    assert!(message.contains("forbidden"), "{message}");
    grant(&world, "[\"*\"]");
    world.ready("web").await;
}

#[tokio::test]
async fn rights_that_were_taken_away_delay_a_deletion_only_until_the_deadline() {
    let world = poor_world(&["--deletion-deadline", "5s"]).await;
    grant(&world, "[\"*\"]");
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat]");
    world.token("bot", "alice", "scopes: [voip]");
    world.ready("web").await;
    world.ready("bot").await;
    grant(&world, "[\"get\", \"list\", \"watch\"]");
    world.delete::<AcsToken>("bot").await;
    world.gone::<AcsToken>("bot").await;
    world.delete::<AcsIdentity>("alice").await;
    world.gone::<AcsIdentity>("alice").await;
}
