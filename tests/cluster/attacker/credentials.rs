//! Attacks on foreign Secrets, keys or tokens by a connection.

use acs_identity_operator::crd::{AcsConnection, is_ready};

use super::{Attack, made_up};
use crate::entra::{CLIENT, SECRET, TENANT, connect_as, put_secret};

/// Foreign objects in the attacker's namespace.
const OTHERS: &str = "apiVersion: v1
kind: Secret
metadata: {name: database}
stringData:
  password: hunter2-and-more
  base64: aHVudGVyMi1hbmQtbW9yZQ==
  url: postgres://user:hunter2-and-more@db/shop
  bus: Endpoint=sb://shop.servicebus.windows.net/;SharedAccessKeyName=hunter2;SharedAccessKey=aHVudGVyMi1hbmQtbW9yZQ==
---
apiVersion: v1
kind: Secret
metadata: {name: robot-token, annotations: {kubernetes.io/service-account.name: default}}
type: kubernetes.io/service-account-token
---
apiVersion: v1
kind: Secret
metadata: {name: registry}
type: kubernetes.io/dockerconfigjson
stringData: {.dockerconfigjson: '{\"auths\": {\"r.example\": {\"auth\": \"aHVudGVyMi1hbmQtbW9yZQ==\"}}}'}
";

#[tokio::test]
async fn a_secret_of_others_that_is_tried_as_a_credential_is_shown_to_nobody() {
    let mut attack = Attack::new().await;
    attack.world.cluster.apply(&attack.namespace, OTHERS);
    let url = attack.world.emulator.url.clone();
    let mut names = Vec::new();
    for key in ["password", "base64", "url", "bus"] {
        let secret = format!("{{name: database, key: {key}}}");
        for (kind, auth, reason) in [
            (
                "text",
                format!("connectionString: {{secretRef: {secret}}}"),
                "InvalidConnectionString",
            ),
            (
                "key",
                format!("accessKey: {{secretRef: {secret}}}"),
                if key == "base64" {
                    "CredentialRefused"
                } else {
                    "InvalidAccessKey"
                },
            ),
            (
                "app",
                format!(
                    "clientSecret: {{tenantId: {TENANT}, clientId: {CLIENT}, secretRef: {secret}}}"
                ),
                "TokenRefused",
            ),
        ] {
            let endpoint = if kind == "text" {
                String::new()
            } else {
                format!("endpoint: \"{url}\", ")
            };
            let name = format!("{key}-{kind}");
            attack
                .connection(&name, &format!("{endpoint}auth: {{{auth}}}"))
                .await;
            attack
                .identity(
                    &name,
                    &format!("connectionRef: {{kind: AcsConnection, name: {name}}}"),
                )
                .await;
            names.push((name, reason));
        }
    }
    for (name, reason) in &names {
        attack.connection_says(name, reason).await;
        attack.identity_says(name, reason).await;
    }
    let log = attack.world.operator().process.output();
    let get = |kind: &str| {
        attack
            .world
            .cluster
            .kubectl(&["get", kind, "-n", &attack.namespace, "-o", "yaml"])
    };
    for output in [
        log,
        get("acsconnections"),
        get("acsidentities"),
        get("events.events.k8s.io"),
    ] {
        for bytes in ["hunter2", "aHVudGVyMi1", "servicebus"] {
            assert!(!output.contains(bytes), "{bytes}: {output}");
        }
    }
}

#[tokio::test]
async fn a_secret_of_another_type_is_not_even_tried() {
    let attack = Attack::with_a_token().await;
    attack.world.cluster.apply(&attack.namespace, OTHERS);
    for (number, (name, key, what)) in [
        (
            "robot-token",
            "token",
            "is of type kubernetes.io/service-account-token",
        ),
        (
            "registry",
            ".dockerconfigjson",
            "is of type kubernetes.io/dockerconfigjson",
        ),
        ("bob", "token", "holds the token of an AcsToken"),
    ]
    .into_iter()
    .enumerate()
    {
        let connection = format!("c{number}");
        let secret = format!("secretRef: {{name: {name}, key: {key}}}");
        let auth = format!("clientSecret: {{tenantId: {TENANT}, clientId: {CLIENT}, {secret}}}");
        attack
            .connection(
                &connection,
                &format!(
                    "endpoint: \"{}\", auth: {{{auth}}}",
                    attack.world.emulator.url
                ),
            )
            .await;
        attack
            .identity(
                &connection,
                &format!("connectionRef: {{kind: AcsConnection, name: {connection}}}"),
            )
            .await;
        let said = attack.connection_says(&connection, "InvalidSecret").await;
        assert!(said.contains(what), "{said}");
        attack.identity_says(&connection, "InvalidSecret").await;
    }
    assert_eq!(attack.world.emulator.count("entraToken").await, 0);
}

#[tokio::test]
async fn a_token_of_entra_is_for_who_proved_the_identity_only() {
    let mut attack = Attack::prepared().await;
    put_secret(&attack.world, SECRET);
    let auth = format!(
        "clientSecret: {{tenantId: {TENANT}, clientId: {CLIENT}, secretRef: {{name: entra, key: secret}}}}"
    );
    connect_as(&attack.world, "default", &auth);
    attack.world.start_operator();
    attack.world.identity("alice", "");
    attack.world.token("web", "alice", "scopes: [chat]");
    attack.world.ready("web").await;
    // The same application of the same tenant, while the operator caches a token of it.
    attack
        .connection(
            "mine",
            &format!(
                "endpoint: \"{}\", auth: {{{}}}",
                attack.world.emulator.url,
                made_up()
            ),
        )
        .await;
    attack
        .identity("bob", "connectionRef: {kind: AcsConnection, name: mine}")
        .await;
    let said = attack.identity_says("bob", "TokenRefused").await;
    assert!(
        said.contains(&format!(
            "system:serviceaccount:{}:mallory",
            attack.namespace
        )),
        "{said}"
    );
    assert_eq!(attack.world.emulator.living().await.len(), 1);
    let other = attack.world.get::<AcsConnection>("default").await;
    assert!(is_ready(&other.status.expect("a status").conditions));
    attack.victim_is_well().await;
}
