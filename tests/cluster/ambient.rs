//! Identities of Microsoft Entra ID without any secret: with the token of a `ServiceAccount`, or of
//! the machine; and which connections may use them.

use acs_identity_operator::crd::AcsConnection;
use serde_json::{Value, json};

use crate::{
    entra::{CLIENT, TENANT, connect_as, page, world_of_entra},
    support::{helm::Release, world::World},
};

/// Uses the cluster-scoped connection named like the namespace. Its status proves nothing, because
/// the operators of other tests also reconcile it.
fn of_cluster(world: &World) -> String {
    format!(
        "connectionRef: {{kind: ClusterAcsConnection, name: {}}}",
        world.namespace
    )
}

fn disconnect_cluster(world: &World) {
    let name = world.namespace.as_str();
    let patch = ["patch", "clusteracsconnection", name, "--type=merge", "-p"];
    let no_finalizers = r#"{"metadata":{"finalizers":null}}"#;
    world
        .cluster
        .kubectl(&[&patch[..], &[no_finalizers]].concat());
    world
        .cluster
        .kubectl(&["delete", "clusteracsconnection", name, "--wait=false"]);
}

/// Installs the chart, in a namespace of its own, with the values that the emulator needs and more.
fn release<'a>(world: &'a World, home: &'a str, more: &Value) -> Release<'a> {
    world.cluster.kubectl(&["create", "namespace", home]);
    let mut values = json!({
        "watchNamespaces": [world.namespace],
        "allowInsecureEndpoints": ["127.0.0.1"],
        "entraAuthority": world.arguments.last(),
        "logFormat": "text",
    });
    let values_map = values.as_object_mut().expect("values");
    values_map.extend(more.as_object().expect("values").clone());
    Release::install(world.cluster, &world.namespace, home, &values)
}

fn workload_identity(account: &str) -> String {
    format!(
        "workloadIdentity: {{tenantId: {TENANT}, clientId: {CLIENT}, serviceAccountRef: {{name: {account}}}}}"
    )
}

async fn trust(world: &World, subjects: &[String]) {
    let application = json!({"tenantId": TENANT, "clientId": CLIENT, "subjects": subjects});
    let settings = json!({"entraApplications": [application]});
    world.emulator.settings(settings).await;
}

#[tokio::test]
async fn a_service_account_proves_the_identity_by_exactly_the_rights_that_the_chart_gives() {
    let mut world = world_of_entra(&[]).await;
    let namespace = world.namespace.clone();
    let home = format!("{namespace}-operator");
    let more = json!({"serviceAccountTokens": [
        {"namespace": namespace, "name": "acs"}, {"namespace": namespace, "name": "late"},
        {"namespace": home, "name": "acs"},
    ]});
    let release = release(&world, &home, &more);
    let operator = release.start_operator_with(&world.environment);
    world.operator = Some(operator);
    world
        .cluster
        .kubectl(&["create", "serviceaccount", "acs", "-n", &namespace]);
    world
        .cluster
        .kubectl(&["create", "serviceaccount", "other", "-n", &namespace]);

    // Entra ID trusts only the `ServiceAccount` of the connection's namespace.
    trust(&world, &[format!("system:serviceaccount:{namespace}:acs")]).await;
    world.apply(&page(&world, "A ServiceAccount, no secret")[0]);
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat]");
    world.ready("web").await;
    world.live_token("web", &[]).await;

    // A `ServiceAccount` for which the operator may not create tokens.
    connect_as(&world, "other", &workload_identity("other"));
    world.identity("bob", "connectionRef: {kind: AcsConnection, name: other}");
    let said = world
        .connection_says("other", "ServiceAccountTokenUnavailable")
        .await;
    assert!(
        said.contains(&format!(
            "may not create tokens of ServiceAccount {namespace}/other"
        )),
        "{said}"
    );
    assert!(
        said.contains("the chart's value serviceAccountTokens"),
        "{said}"
    );

    // A `ServiceAccount` that does not exist yet, and is not trusted yet.
    connect_as(&world, "late", &workload_identity("late"));
    world.identity("carol", "connectionRef: {kind: AcsConnection, name: late}");
    let said = world
        .connection_says("late", "ServiceAccountTokenUnavailable")
        .await;
    assert!(
        said.contains(&format!("ServiceAccount {namespace}/late does not exist")),
        "{said}"
    );
    world
        .cluster
        .kubectl(&["create", "serviceaccount", "late", "-n", &namespace]);
    let said = world.connection_says("late", "TokenRefused").await;
    for part in [
        "AADSTS700213",
        &format!("subject 'system:serviceaccount:{namespace}:late'"),
        "with issuer https://",
        &format!(
            "subject system:serviceaccount:{namespace}:late and audience api://AzureADTokenExchange"
        ),
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }

    // A `ClusterAcsConnection` uses the `ServiceAccount` in the operator's namespace.
    world
        .cluster
        .kubectl(&["create", "serviceaccount", "acs", "-n", &home]);
    trust(&world, &[format!("system:serviceaccount:{home}:acs")]).await;
    let of_cluster_too = page(&world, "A ServiceAccount, no secret")[0]
        .replace("AcsConnection", "ClusterAcsConnection")
        .replace("name: default", &format!("name: {namespace}"));
    let policy = format!("  policy: {{namespaces: {{names: [{namespace}]}}}}\n");
    world.apply(&format!("{of_cluster_too}{policy}"));
    world.identity("dora", &of_cluster(&world));
    world.identity_says("dora", "IdentityReady").await;
    disconnect_cluster(&world);
}

#[tokio::test]
async fn the_operators_own_service_account_is_for_connections_of_the_cluster() {
    let mut world = world_of_entra(&[]).await;
    let auth = format!("workloadIdentity: {{tenantId: {TENANT}, clientId: {CLIENT}}}");
    connect_as(&world, "default", &auth);
    world.start_operator();
    world.apply(&page(&world, "A ServiceAccount, no secret")[1]);
    world.identity("alice", &of_cluster(&world));
    let said = world.identity_says("alice", "NoFederatedToken").await;
    assert!(
        said.contains("set serviceAccountRef, or run the operator with --federated-token-file"),
        "{said}"
    );

    let namespace = world.namespace.clone();
    trust(
        &world,
        &[format!("system:serviceaccount:{namespace}:operator")],
    )
    .await;
    world
        .cluster
        .kubectl(&["create", "serviceaccount", "operator", "-n", &namespace]);
    let create = [
        "create",
        "token",
        "operator",
        "-n",
        &namespace,
        "--audience",
    ];
    let audience = ["api://AzureADTokenExchange"];
    let token = world.cluster.kubectl(&[&create[..], &audience].concat());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    let named = file.to_str().expect("text").to_owned();
    world.kill_operator();
    world
        .environment
        .push(("AZURE_FEDERATED_TOKEN_FILE".to_owned(), named));
    world.start_operator();
    let said = world.identity_says("alice", "TokenRefused").await;
    assert!(
        said.contains("Check the file in --federated-token-file"),
        "{said}"
    );
    std::fs::write(&file, token.trim()).expect("written");
    world.identity_says("alice", "IdentityReady").await;
    let said = world
        .connection_says("default", "AmbientCredentialNotAllowed")
        .await;
    assert!(
        said.contains(
            "auth.workloadIdentity without serviceAccountRef is a credential of the operator itself"
        ),
        "{said}"
    );
    disconnect_cluster(&world);
}

#[tokio::test]
async fn the_machines_identity_is_for_connections_of_the_cluster_unless_a_flag_lends_it() {
    let mut world = world_of_entra(&[]).await;
    for (variable, name) in [
        ("IDENTITY_ENDPOINT", "identity-endpoint"),
        ("IDENTITY_HEADER", "identity-header"),
    ] {
        let value = world.emulator.printed(name);
        world.environment.push((variable.to_owned(), value));
    }
    connect_as(&world, "default", "managedIdentity: {}");
    world.identity("tenant", "");
    world.start_operator();
    let said = world
        .connection_says("default", "AmbientCredentialNotAllowed")
        .await;
    assert!(
        said.contains("ask an administrator to allow it with --namespaced-ambient-credentials"),
        "{said}"
    );
    let connection = world.get::<AcsConnection>("default").await;
    let stalled = connection.status.expect("a status").conditions;
    assert!(
        stalled
            .iter()
            .any(|it| it.type_ == "Stalled" && it.status == "True")
    );

    world.apply(&page(&world, "The machine's identity")[0]);
    world.identity("alice", &of_cluster(&world));
    world.identity_says("alice", "IdentityReady").await;
    world.token("web", "alice", "scopes: [chat]");
    world.ready("web").await;
    assert_eq!(world.emulator.count("appServiceToken").await, 1);
    assert_eq!(world.emulator.count("entraToken").await, 0);
    assert_eq!(
        world.emulator.living().await.len(),
        1,
        "the tenant got nothing"
    );

    world.kill_operator();
    world
        .arguments
        .push("--namespaced-ambient-credentials".to_owned());
    world
        .emulator
        .settings(json!({"managedIdentities": ["system"]}))
        .await;
    world.start_operator();
    world.identity_says("tenant", "IdentityReady").await;
    connect_as(
        &world,
        "assigned",
        &format!("managedIdentity: {{clientId: {CLIENT}}}"),
    );
    world.identity(
        "bob",
        "connectionRef: {kind: AcsConnection, name: assigned}",
    );
    let said = world.connection_says("assigned", "TokenRefused").await;
    assert!(
        said.contains(&format!(
            "Assign the managed identity {CLIENT} to the machines"
        )),
        "{said}"
    );
    disconnect_cluster(&world);
}

#[tokio::test]
async fn the_local_token_endpoint_speaks_for_whoever_is_signed_in_if_it_serves_the_audience() {
    let mut world = world_of_entra(&["--namespaced-ambient-credentials"]).await;
    let endpoint = world.emulator.printed("local-token-endpoint");
    let flag = ["--local-token-endpoint".to_owned(), endpoint];
    world.arguments.extend(flag);
    connect_as(&world, "default", "managedIdentity: {}");
    world.identity("alice", "");
    world.start_operator();
    let said = world.connection_says("default", "TokenRefused").await;
    for part in [
        "AudienceNotSupported",
        "issues no tokens for https://communication.azure.com/; use workloadIdentity or \
         clientSecret instead",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let audiences = json!({"localTokenAudiences": ["https://communication.azure.com/"]});
    world.emulator.settings(audiences).await;
    world.identity_says("alice", "IdentityReady").await;
    connect_as(
        &world,
        "assigned",
        &format!("managedIdentity: {{clientId: {CLIENT}}}"),
    );
    let said = world
        .connection_says("assigned", "InvalidManagedIdentity")
        .await;
    assert!(
        said.contains("remove auth.managedIdentity.clientId"),
        "{said}"
    );
}
