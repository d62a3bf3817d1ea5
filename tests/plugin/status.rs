//! `status` shows the objects, their state, and what they wait for and why.

use std::path::PathBuf;

use acs_identity_operator::crd::AcsToken;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use crate::{
    run::{acs, end, on_a_terminal, program, says},
    support::{eventually, process::Process, world::World},
};

#[tokio::test]
async fn a_tree_shows_connection_identities_and_tokens_that_are_fine() {
    let world = World::new().await;
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [voip, chat]");
    world.token("bot", "alice", "scopes: [chat], secret: {name: bot-acs}");
    let web = world.ready("web").await;
    world.ready("bot").await;
    let id = web.status.unwrap().identity_id.unwrap();
    world.connection_says("default", "ConnectionReady").await;
    let tree = acs(&world, &["status"]).fine();
    let lines: Vec<_> = tree.lines().collect();
    assert_eq!(lines.len(), 4, "{tree}");
    assert_eq!(
        lines[0],
        format!("AcsConnection default  Ready  {}", world.emulator.url)
    );
    assert_eq!(lines[1], format!("└─ AcsIdentity alice  Ready  {id}"));
    says(
        lines[2],
        &[
            "   ├─ AcsToken bot  Ready  chat  expires in 23h 59m  renews in 15h ",
            "Secret bot-acs",
        ],
    );
    says(
        lines[3],
        &[
            "   └─ AcsToken web  Ready  chat,voip  expires in 23h 59m",
            "Secret web",
        ],
    );
}

#[tokio::test]
async fn what_waits_says_for_what_and_the_exit_code_is_4() {
    let world = World::new().await;
    world.token("web", "alice", "scopes: [chat]");
    world.token_says("web", "IdentityNotFound").await;
    world.connection_says("default", "ConnectionReady").await;
    let output = acs(&world, &["status"]);
    says(
        &output.out,
        &[
            "AcsConnection default  Ready",
            "AcsToken web  waiting  chat\n",
            "   IdentityNotFound: ",
            "AcsIdentity alice",
        ],
    );
    assert_eq!(output.failed(4), "");
}

#[tokio::test]
async fn what_needs_a_human_says_what_to_do_and_the_exit_code_is_3() {
    let mut world = World::bare(&[], &[]).await;
    world.connect(
        "default",
        "endpoint=https://contoso.communication.azure.com",
    );
    world.start_operator();
    world.identity("alice", "");
    world
        .connection_says("default", "InvalidConnectionString")
        .await;
    world
        .identity_says("alice", "InvalidConnectionString")
        .await;
    let output = acs(&world, &["status"]);
    says(
        &output.out,
        &[
            "AcsConnection default  needs action",
            "│  InvalidConnectionString: ",
            "\n└─ AcsIdentity alice  needs action, as above\n",
        ],
    );
    output.failed(3);
}

#[tokio::test]
async fn an_operator_that_does_not_run_is_what_it_waits_for() {
    let world = World::bare(&[], &[]).await;
    world.identity("alice", "connectionRef: {kind: AcsConnection, name: main}");
    let output = acs(&world, &["status"]);
    says(
        &output.out,
        &[
            "AcsConnection main  missing\n",
            "│  this AcsConnection does not exist\n",
            "└─ AcsIdentity alice  waiting\n",
            "check that it is running and watches this namespace",
        ],
    );
    output.failed(4);
}

#[tokio::test]
async fn a_secret_that_is_gone_and_a_call_that_fails_are_told() {
    let mut world = World::with(&["--minute", "1s"], &[]).await;
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat], expiresIn: 24h");
    world.ready("web").await;
    let refuse =
        serde_json::json!([{"operation": "issueToken", "effect": "status", "status": 503}]);
    world.emulator.faults(refuse).await;
    world
        .patch::<AcsToken>(
            "web",
            serde_json::json!({"spec": {"revocation": "Never", "scopes": ["voip"]}}),
        )
        .await;
    world
        .token_where("has failed", "web", |token| {
            token
                .status
                .as_ref()
                .is_some_and(|status| status.last_failure.is_some())
        })
        .await;
    world.kill_operator();
    world.delete::<Secret>("web").await;
    let output = acs(&world, &["status"]);
    says(
        &output.out,
        &[
            "AcsToken web",
            "its Secret web does not exist",
            "ago a call failed: ",
        ],
    );
}

#[tokio::test]
async fn a_name_shows_what_it_hangs_on_and_what_hangs_on_it() {
    let world = World::new().await;
    for name in ["alice", "bob"] {
        world.identity(name, "");
        world.token(&format!("{name}-web"), name, "scopes: [chat]");
        world.ready(&format!("{name}-web")).await;
    }
    world.connection_says("default", "ConnectionReady").await;
    let tree = acs(&world, &["status", "alice-web"]).fine();
    says(
        &tree,
        &[
            "AcsConnection default",
            "AcsIdentity alice",
            "AcsToken alice-web",
        ],
    );
    assert!(!tree.contains("bob"), "{tree}");
    let tree = acs(&world, &["status", "bob"]).fine();
    says(
        &tree,
        &[
            "AcsConnection default",
            "AcsIdentity bob",
            "AcsToken bob-web",
        ],
    );
    let error = acs(&world, &["status", "carol"]).failed(5);
    let namespace = &world.namespace;
    assert_eq!(
        error,
        format!(
            "kubectl acs: no connection, identity, token or revocation carol exists in namespace \
             {namespace} (use -n for another namespace)\n"
        )
    );
}

#[tokio::test]
async fn machines_get_the_same_as_json_yaml_tsv_and_table() {
    let world = World::with_a_token().await;
    world.connection_says("default", "ConnectionReady").await;
    let json = acs(&world, &["status", "-o", "json"]).json();
    let connection = &json[0];
    assert_eq!(connection["kind"], "AcsConnection");
    assert_eq!(connection["state"], "Ready");
    let token = &connection["children"][0]["children"][0];
    assert_eq!(token["name"], "web");
    assert_eq!(token["reason"], "TokenIssued");
    let end: jiff::Timestamp = token["expiresAt"].as_str().unwrap().parse().unwrap();
    let yaml = acs(&world, &["status", "-o", "yaml"]).fine();
    let yaml: Value = serde_saphyr::from_str(&yaml).unwrap();
    assert_eq!(yaml, json);
    let tsv = acs(&world, &["status", "-o", "tsv"]).fine();
    let namespace = &world.namespace;
    let expected = format!(
        "\tAcsConnection\tdefault\t{namespace}\tConnectionReady\tReady\n\
         \tAcsIdentity\talice\t{namespace}\tIdentityReady\tReady\n\
         {end}\tAcsToken\tweb\t{namespace}\tTokenIssued\tReady\n"
    );
    assert_eq!(tsv, expected);
    let table = acs(&world, &["status", "-o", "table"]).fine();
    says(
        &table,
        &[
            "ExpiresAt",
            "Kind",
            "Name",
            "Namespace",
            "Reason",
            "State\n-----",
            "AcsToken",
        ],
    );
}

#[tokio::test]
async fn watching_shows_what_changes_until_it_is_ended() {
    let world = World::new().await;
    world.identity("alice", "");
    let mut command = program(&world.cluster.kubeconfig);
    command.args(["status", "--watch", "-n", &world.namespace]);
    let mut watching = Process::start(&mut command);
    watching.wait_for("the identity", |line| {
        line.contains("AcsIdentity alice  Ready").then_some(())
    });
    world.token("web", "alice", "scopes: [chat]");
    watching.wait_for("the token", |line| {
        line.contains("AcsToken web  Ready").then_some(())
    });
    world.delete::<AcsToken>("web").await;
    let last = || {
        watching
            .output()
            .rsplit("AcsConnection")
            .next()
            .map(ToOwned::to_owned)
    };
    eventually("the token is gone from the tree", || async {
        (!last()?.contains("AcsToken")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn watching_needs_the_right_to_watch() {
    let world = World::bare(&[], &[]).await;
    let kubeconfig = team(&world, "get, list");
    let mut command = program(&kubeconfig);
    command.args(["status", "--watch", "-n", &world.namespace]);
    let output = end(&mut command);
    says(
        &output.out,
        &["no connections, identities or tokens in namespace"],
    );
    says(
        &output.failed(6),
        &["you are not allowed to watch acs", ": "],
    );
}

/// Returns a kubeconfig with rights on the project's kinds in one namespace only.
fn team(world: &World, verbs: &str) -> PathBuf {
    world.apply(&format!(
        "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: team}}}}\n---\n\
         {{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {{name: team}}, rules: [\
         {{apiGroups: [acs-identity.dev], resources: [acsconnections, acsidentities, acstokens], verbs: [{verbs}]}}]}}\n---\n\
         {{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {{name: team}}, \
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: team}}, subjects: [{{kind: ServiceAccount, name: team}}]}}\n",
    ));
    world.cluster.kubeconfig_of(&world.namespace, "team")
}

#[tokio::test]
async fn watching_on_a_terminal_draws_the_screen_anew() {
    let world = World::bare(&[], &[]).await;
    let mut command = on_a_terminal(&world, "status --watch");
    let mut watching = Process::start(&mut command);
    watching.wait_for("a screen", |line| {
        line.contains("\u{1b}[H\u{1b}[2J").then_some(())
    });
    watching.wait_for("what ends it", |line| {
        line.contains("Press Ctrl-C to stop").then_some(())
    });
    world.identity("alice", "");
    watching.wait_for("the identity", |line| {
        line.contains("AcsIdentity").then_some(())
    });
}

#[tokio::test]
async fn a_team_sees_its_namespace_without_rights_on_the_cluster_or_on_secrets() {
    let world = World::with_a_token().await;
    world.connection_says("default", "ConnectionReady").await;
    let kubeconfig = team(&world, "get, list, watch");
    let run = |arguments: &[&str]| {
        end(program(&kubeconfig)
            .args(arguments)
            .args(["-n", &world.namespace]))
    };
    says(
        &run(&["status"]).fine(),
        &["AcsConnection default", "AcsIdentity alice", "AcsToken web"],
    );
    let error = run(&["status", "-A"]).failed(6);
    says(
        &error,
        &[
            "you are not allowed to list acs",
            "ask an administrator for the permissions in docs/kubectl-acs.md",
        ],
    );
    let error = run(&["inspect", "web"]).failed(6);
    says(&error, &["you are not allowed to read Secret", "/web"]);
}

#[tokio::test]
async fn all_namespaces_hang_on_the_clusters_connection_that_they_use() {
    let mut world = World::bare(&[], &[]).await;
    let (name, namespace) = (world.namespace.clone(), world.namespace.clone());
    world.apply(&format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: shared}}, stringData: {{connectionString: \"{}\"}}}}\n---\n\
         {{apiVersion: acs-identity.dev/v1alpha1, kind: ClusterAcsConnection, metadata: {{name: {name}}}, spec: {{\
         auth: {{connectionString: {{secretRef: {{name: shared, key: connectionString}}}}}}, policy: {{namespaces: {{names: [{namespace}]}}}}}}}}\n",
        world.emulator.connection_string
    ));
    world.start_operator();
    let reference = format!("connectionRef: {{kind: ClusterAcsConnection, name: {name}}}");
    world.identity("alice", &reference);
    world.token("web", "alice", "scopes: [chat]");
    world.ready("web").await;
    // Operators of other tests write its status, so its state is unknown here.
    let tree = acs(&world, &["status", "-A", "alice"]).out;
    says(
        &tree,
        &[
            &format!("ClusterAcsConnection {name}  "),
            &format!("└─ AcsIdentity {namespace}/alice  Ready  8:acs:"),
            "\n   └─ AcsToken web  Ready",
        ],
    );
    let tree = acs(&world, &["status"]).out;
    says(
        &tree,
        &[
            &format!("ClusterAcsConnection {name}  "),
            "└─ AcsIdentity alice  Ready",
        ],
    );
    world
        .cluster
        .kubectl(&["delete", "clusteracsconnection", &name, "--wait=false"]);
    world.kill_operator();
}

#[tokio::test]
async fn colours_are_for_terminals_only() {
    let world = World::new().await;
    world.identity("alice", "");
    world.identity_says("alice", "IdentityReady").await;
    world.connection_says("default", "ConnectionReady").await;
    let plain = acs(&world, &["status"]).fine();
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    let coloured = end(&mut on_a_terminal(&world, "status")).fine();
    says(&coloured, &["\u{1b}[32mReady\u{1b}[0m"]);
    let mut unwanted = on_a_terminal(&world, "status");
    let unwanted = end(unwanted.env("NO_COLOR", "1")).fine();
    says(&unwanted, &["Ready"]);
    assert!(!unwanted.contains("\u{1b}[32m"), "{unwanted:?}");
}

#[tokio::test]
async fn an_empty_namespace_says_how_to_begin() {
    let world = World::bare(&[], &[]).await;
    let output = acs(&world, &["status"]).fine();
    let namespace = &world.namespace;
    assert_eq!(
        output,
        format!(
            "no connections, identities or tokens in namespace {namespace}; use -A for all \
             namespaces, or `kubectl acs create` to create an identity\n"
        )
    );
}

#[tokio::test]
async fn pods_that_hold_a_former_token_are_named() {
    let world = World::with(&[], &["--count-consumers"]).await;
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat]");
    let web = world.ready("web").await;
    let written_at = web.written_at().expect("written");
    world.apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: default}\n");
    let variable = "containers: [{name: main, image: web, envFrom: [{secretRef: {name: web}}]}]";
    let hour = SignedDuration::from_hours(1);
    for (name, started_at) in [("old", written_at - hour), ("new", written_at + hour)] {
        world.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n\
             spec: {{automountServiceAccountToken: false, {variable}}}\n"
        ));
        world.runs_since(name, started_at).await;
    }
    let counted = |token: &AcsToken| json!(token.status)["consumers"]["outdated"] == 1;
    world
        .token_where("counts a pod with a former token", "web", counted)
        .await;
    let tree = acs(&world, &["status"]).fine();
    let named = "Pod old uses a former token until it is restarted: container main started 1h ";
    says(&tree, &[named, "reads an environment variable"]);
    assert!(!tree.contains("Pod new"), "{tree}");
    // The documented role of a team does not include pods.
    let kubeconfig = team(&world, "get, list, watch");
    let mut status = program(&kubeconfig);
    let said = end(status.args(["status", "-n", &world.namespace])).fine();
    says(
        &said,
        &["pods that use a former token: 1; to see which, you need the permission to list pods"],
    );
}
