//! Charts for evaluation: `helm test`, and the emulator in the cluster.

use std::{process::Command, thread};

use acs_identity_operator::crd::{AcsConnection, AcsIdentity, AcsToken};
use serde_json::{Value, json};

use crate::support::{
    emulator::Emulator,
    eventually,
    helm::{Release, arguments, helm, objects, only},
    kubernetes::root,
    world::World,
};

/// Runs Helm's test of a release, while this process acts as the kubelet: it runs the pod's command
/// with the pod's account until it succeeds, and reports that in the pod's status.
async fn helm_test(world: &World, release: &str) -> String {
    let (cluster, namespace) = (world.cluster, world.namespace.clone());
    let name = release.to_owned();
    let test = thread::spawn(move || {
        let test = ["test", &name, "--namespace", &namespace, "--timeout", "90s"];
        helm(Some(cluster), &test, &Value::Null)
    });
    // Not the label of the Deployment.
    let label = format!("app.kubernetes.io/name={release}-acs-identity-operator-test");
    let pods = [
        "get",
        "pods",
        "-l",
        &label,
        "-n",
        &world.namespace,
        "-o",
        "json",
    ];
    let pod = eventually("helm creates the pod of the test", || async {
        let pods: Value = serde_json::from_str(&cluster.kubectl(&pods)).expect("JSON");
        pods["items"].get(0).cloned()
    })
    .await;
    let account = pod["spec"]["serviceAccountName"].as_str().expect("a name");
    let kubeconfig = cluster.kubeconfig_of(&world.namespace, account);
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["command"], json!(["/kubectl-acs"]));
    let arguments = container["args"].as_array().expect("arguments").iter();
    let arguments: Vec<_> = arguments.map(|it| it.as_str().expect("text")).collect();
    let said = eventually("the pod's command succeeds", || async {
        let output = Command::new(env!("CARGO_BIN_EXE_kubectl-acs"))
            .env("KUBECONFIG", &kubeconfig)
            .args(&arguments)
            .output()
            .expect("the plugin runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(said)
    })
    .await;
    let name = pod["metadata"]["name"].as_str().expect("a name");
    let succeeded = r#"{"status": {"phase": "Succeeded"}}"#;
    let pod = ["patch", "pod", name, "-n", &world.namespace];
    let status = ["--subresource=status", "--type=merge", "-p", succeeded];
    cluster.kubectl(&[&pod[..], &status].concat());
    let outcome = test.join().expect("helm ends");
    outcome.unwrap_or_else(|said| panic!("helm test: {said}"));
    said
}

#[tokio::test]
async fn helm_test_makes_an_identity_and_a_token_and_takes_them_away() {
    let world = World::bare(&[], &[]).await;
    world.connect("main", &world.emulator.connection_string.clone());
    let values = json!({
        "watchNamespaces": [world.namespace],
        "allowInsecureEndpoints": ["127.0.0.1"],
        "logFormat": "text",
        "tests": {"connectionRef": {"kind": "AcsConnection", "name": "main"}},
    });
    let release = Release::install(world.cluster, "tested", &world.namespace, &values);
    let _operator = release.start_operator();
    let said = helm_test(&world, "tested").await;
    assert!(said.contains("chat"), "{said}");
    assert!(!said.contains("eyJ"), "the token is in the pod's log");
    let name = "tested-acs-identity-operator-test";
    world.gone::<AcsToken>(name).await;
    world.gone::<AcsIdentity>(name).await;
    assert!(world.emulator.living().await.is_empty());
    assert_eq!(world.emulator.identities().await.len(), 1);
    release.uninstall();
}

/// Returns the objects of the emulator's chart.
fn emulator(namespace: &str, values: &Value) -> Vec<Value> {
    let chart = root("charts/acs-emulator");
    let template = ["template", "try", &chart, "--namespace", namespace];
    objects(&helm(None, &template, values).expect("rendered"))
}

#[tokio::test]
async fn the_emulators_chart_runs_the_emulator_and_its_notes_connect_to_it() {
    let world = World::bare(&[], &[]).await;
    let (cluster, namespace) = (world.cluster, world.namespace.as_str());
    let warn = "pod-security.kubernetes.io/warn=restricted";
    cluster.kubectl(&["label", "namespace", namespace, warn]);
    let chart = root("charts/acs-emulator");
    let values = json!({"image": {"repository": "registry.example/acs-emulator"}, "minute": "1s"});
    let said = helm(None, &["lint", "--strict", &chart], &values);
    assert!(said.is_ok(), "{said:?}");
    let install = ["install", "try", &chart, "--namespace", namespace];
    helm(Some(cluster), &install, &values).expect("installed");
    let objects = emulator(namespace, &values);
    let list: Vec<_> = objects.iter().map(Value::to_string).collect();
    let apply = ["apply", "--dry-run=server", "-f", "-"];
    let (fine, said) = cluster.pipe(&apply, &list.join("\n---\n"));
    assert!(fine && !said.contains("would violate"), "{said}");

    // The program gets the Deployment's arguments, except for addresses and directory, which are
    // specific to the pod.
    let given = arguments(only(&objects, "Deployment"));
    let minute = given.last().expect("arguments").as_str();
    assert_eq!(minute, "--minute=1s");
    let folder = tempfile::tempdir().expect("a folder");
    let state = format!("--state-dir={}/acs", folder.path().display());
    let mut started = Emulator::start(&[minute, &state]);
    assert!(started.printed("page").contains("/_emulator/"));

    let notes = helm(
        Some(cluster),
        &["get", "notes", "try", "--namespace", namespace],
        &Value::Null,
    );
    let notes = notes.expect("notes");
    let service = only(&objects, "Service");
    let host = format!(
        "{}.{namespace}.svc",
        service["metadata"]["name"].as_str().expect("a name")
    );
    assert!(notes.contains(&format!("allowInsecureEndpoints={{{host}}}")));
    assert!(notes.contains(&format!("endpoint=http://{host}:8765/;")));
    assert_eq!(service["spec"]["ports"][0]["port"], 8765);
    let (_, commands) = notes.split_once("2. ").expect("the second step");
    let (commands, _) = commands.split_once("3. ").expect("the third step");
    let (_, commands) = commands.split_once('\n').expect("commands");
    let commands = commands
        .replace("NAMESPACE", namespace)
        .replace("\n  ", "\n");
    world.bash(&commands);
    let connection = world.api::<AcsConnection>().get("default").await;
    assert!(connection.is_ok());
    helm(
        Some(cluster),
        &["uninstall", "try", "--namespace", namespace],
        &Value::Null,
    )
    .expect("uninstalled");
}
