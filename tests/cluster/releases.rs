//! Releases of the chart: installed, upgraded, rolled back and uninstalled by Helm.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    pages::commands,
    support::{
        emulator::Emulator,
        eventually,
        helm::{Release, chart, folder as helm_folder, helm, with_image},
        kubernetes::{self, Cluster, root},
        process::Process,
        world::token_manifest,
    },
};

/// Release name of docs/install.md, and its namespace.
const NAME: &str = "acs-identity-operator";
const CRD: &str = "crd/acsidentities.acs-identity.dev";

const ALICE: &str = "apiVersion: acs-identity.dev/v1alpha1
kind: AcsIdentity
metadata: {name: alice}
spec: {}
";

/// Lifecycle of one release, in a cluster without the operator's CRDs.
#[tokio::test]
async fn installing_brings_what_the_operator_waits_for_and_uninstalling_keeps_every_identity() {
    let cluster = kubernetes::start();
    let emulator = Emulator::start(&[]);
    let mut early = Process::start(
        Command::new(env!("CARGO_BIN_EXE_acs-identity-operator"))
            .env("KUBECONFIG", &cluster.kubeconfig)
            .args(["--address", "127.0.0.1:0", "--log-format", "text"])
            .arg("--no-leader-elect"),
    );
    let address = early.wait_for("the address", |line| {
        let rest = line.split_once("/readyz address=")?.1;
        Some(rest.split_whitespace().next()?.to_owned())
    });
    let ready = || async {
        let answer = reqwest::get(format!("http://{address}/readyz")).await;
        let answer = answer.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    eventually("readyz names the watch that fails", || async {
        let (status, body) = ready().await;
        (status == 503 && body.contains("does not know acstokens.acs-identity.dev")).then_some(())
    })
    .await;

    cluster.kubectl(&["create", "namespace", "acs"]);
    let enforce = "pod-security.kubernetes.io/enforce=restricted";
    cluster.kubectl(&["label", "namespace", "acs", enforce]);
    let values = json!({
        "crds": {"enabled": true},
        "allowInsecureEndpoints": ["127.0.0.1"],
        "logFormat": "text",
    });
    let release = Release::install(&cluster, "acs", "acs", &values);
    eventually("readyz is fine", || async {
        (ready().await.0 == 200).then_some(())
    })
    .await;
    early.terminate();
    eventually("a restricted namespace takes the pod", || async {
        let pods = cluster.kubectl(&["get", "pods", "-n", "acs", "-o", "name"]);
        pods.contains("pod/acs-").then_some(())
    })
    .await;

    // With the release's permissions, in a namespace that no value names.
    let mut operator = release.start_operator();
    cluster.kubectl(&["create", "namespace", "team"]);
    connect_by_the_notes(&cluster, &release, &emulator.connection_string);
    let token = token_manifest("web", "alice", "scopes: [chat]");
    cluster.apply("team", &format!("{ALICE}---\n{token}"));
    let wait = [
        "wait",
        "acstoken/web",
        "-n",
        "team",
        "--for=condition=Ready",
        "--timeout=60s",
    ];
    cluster.kubectl(&wait);
    operator.process.terminate();
    let log = operator.process.output();
    assert!(!log.contains("forbidden"), "{log}");

    release.uninstall();
    let left = "deployments,serviceaccounts,clusterroles,clusterrolebindings";
    let ours = "app.kubernetes.io/managed-by=Helm";
    let left = cluster.kubectl(&["get", left, "-A", "-l", ours, "-o", "name"]);
    assert_eq!(left, "");
    let kept = cluster.kubectl(&["get", "acs", "-n", "team", "-o", "name"]);
    assert!(
        kept.contains("acsidentity.acs-identity.dev/alice"),
        "{kept}"
    );
    assert!(kept.contains("acstoken.acs-identity.dev/web"), "{kept}");
}

/// Follows the notes that Helm prints, word for word.
fn connect_by_the_notes(cluster: &Cluster, release: &Release<'_>, connection_string: &str) {
    let notes = release.notes();
    let (_, commands) = notes.split_once("\n\n  read -rs ").expect("the commands");
    let (commands, _) = commands.split_once("\n\nThen create").expect("their end");
    let commands = format!("read -rs {commands}").replace("NAMESPACE", "team");
    let commands: Vec<_> = commands
        .lines()
        .map(|line| line.strip_prefix("  ").unwrap_or(line))
        .collect();
    let path = std::env::var("PATH").expect("a PATH");
    let mut bash = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &commands.join("\n")])
        .env("PATH", format!("{}:{path}", cluster.programs.display()))
        .env("KUBECONFIG", &cluster.kubeconfig)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("bash runs");
    let mut stdin = bash.stdin.take().expect("piped");
    std::io::Write::write_all(&mut stdin, format!("{connection_string}\n").as_bytes())
        .expect("read");
    drop(stdin);
    assert!(bash.wait().expect("it ends").success(), "{notes}");
}

/// Copies the chart, so that a test can change it.
fn copy_of_the_chart(to: &Path, name: &str) -> PathBuf {
    let copy = to.join(name);
    let copied = Command::new("cp")
        .args(["-r", &chart()])
        .arg(&copy)
        .status();
    assert!(copied.expect("cp runs").success());
    copy
}

/// Runs Helm's subcommand in the release's namespace.
fn run(cluster: &Cluster, command: &[&str], values: &Value) {
    let arguments = [command, &["--namespace", NAME]].concat();
    helm(Some(cluster), &arguments, values).expect("done");
}

/// Runs the block of docs/install.md or docs/monitoring.md that contains `words`, with the chart in
/// the directory `chart`.
fn follow_the_page(cluster: &Cluster, words: &str, chart: &str) {
    let mut blocks = commands("docs/install.md");
    blocks.extend(commands("docs/monitoring.md"));
    let block = blocks.iter().find(|block| block.contains(words));
    let block = block
        .expect("a block")
        .replace("charts/acs-identity-operator", chart);
    let path = std::env::var("PATH").expect("a PATH");
    let programs = format!("{}:{}:{path}", helm_folder(), cluster.programs.display());
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &block])
        .env("PATH", programs)
        .env("KUBECONFIG", &cluster.kubeconfig)
        .current_dir(root(""))
        .output()
        .expect("bash runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{block}\n{said}");
}

/// Checks that the CRDs and the objects are the same: none was deleted and created again.
fn nothing_is_lost(cluster: &Cluster, uids: &str, when: &str) {
    assert_eq!(ids(cluster), uids, "after {when}");
}

fn ids(cluster: &Cluster) -> String {
    let uid = "jsonpath={.items[*].metadata.uid}";
    let ours = "jsonpath={.items[?(@.spec.group==\"acs-identity.dev\")].metadata.uid}";
    let crds = cluster.kubectl(&["get", "crds", "-o", ours]);
    let objects = cluster.kubectl(&["get", "acsidentities", "-A", "-o", uid]);
    format!("{crds} {objects}")
}

/// Installs a chart with the CRDs in the directory that Helm installs only once, and applies them
/// with kubectl.
fn install_the_former_layout(cluster: &Cluster, place: &Path) {
    let former = copy_of_the_chart(place, "former");
    fs::create_dir(former.join("crds")).expect("a folder");
    fs::rename(
        former.join("files/crds.yaml"),
        former.join("crds/crds.yaml"),
    )
    .expect("moved");
    fs::remove_file(former.join("templates/crds.yaml")).expect("removed");
    let former = former.display().to_string();
    run(
        cluster,
        &["install", NAME, &former],
        &with_image(&Value::Null),
    );
    let apply = ["apply", "--server-side", "--force-conflicts", "--kustomize"];
    cluster.kubectl(&[&apply[..], &[&root("crds")]].concat());
}

/// Follows docs/monitoring.md in a cluster with the kinds of the Prometheus operator, with any
/// schema.
fn monitor_by_the_page(cluster: &Cluster, chart: &str) {
    for kind in ["ServiceMonitor", "PrometheusRule"] {
        let (plural, group) = (format!("{}s", kind.to_lowercase()), "monitoring.coreos.com");
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let crd = json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {
                "group": group,
                "names": {"kind": kind, "plural": plural},
                "scope": "Namespaced",
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": schema},
                }],
            },
        });
        cluster.apply("default", &crd.to_string());
        let name = format!("crd/{plural}.{group}");
        cluster.kubectl(&["wait", "--for=condition=Established", &name]);
    }
    follow_the_page(cluster, "metrics.serviceMonitor.enabled", chart);
    let made = [
        "get",
        "servicemonitors,prometheusrules,configmaps",
        "-n",
        NAME,
        "-o",
        "name",
    ];
    let made = cluster.kubectl(&made);
    for made_name in [
        "servicemonitor.",
        "prometheusrule.",
        "configmap/acs-identity-operator-dashboard",
    ] {
        assert!(made.contains(made_name), "{made}");
    }
}

#[test]
fn upgrades_and_rollbacks_change_the_crds_and_lose_no_object() {
    let cluster = kubernetes::start();
    let place = tempfile::tempdir().expect("a folder");
    cluster.kubectl(&["create", "namespace", NAME]);
    cluster.kubectl(&["create", "namespace", "team"]);

    install_the_former_layout(&cluster, place.path());
    cluster.apply("team", ALICE);
    let uids = ids(&cluster);
    let chart = chart();
    follow_the_page(&cluster, "--take-ownership", &chart);
    nothing_is_lost(&cluster, &uids, "the upgrade from the former layout");

    let next = copy_of_the_chart(place.path(), "next");
    add_a_field(&next.join("files/crds.yaml"));
    let nickname = ALICE.replace("spec: {}", "spec: {nickname: al}");
    let strictly = ["apply", "--validate=strict", "-n", "team", "-f", "-"];
    let (taken, said) = cluster.pipe(&strictly, &nickname);
    assert!(!taken && said.contains("nickname"), "{said}");
    follow_the_page(
        &cluster,
        "--reset-then-reuse-values\n",
        &next.display().to_string(),
    );
    eventually_taken(&cluster, &strictly, &nickname);
    nothing_is_lost(&cluster, &uids, "the upgrade to a new field");

    monitor_by_the_page(&cluster, &chart);

    // Another release does not change the CRDs.
    cluster.kubectl(&["create", "namespace", "other"]);
    let other = json!({"crds": {"enabled": false}, "watchNamespaces": ["team"]});
    Release::install(&cluster, "second", "other", &other).uninstall();
    nothing_is_lost(&cluster, &uids, "a second release");

    run(&cluster, &["rollback", NAME, "1"], &Value::Null);
    nothing_is_lost(&cluster, &uids, "the rollback to the former layout");
    run(&cluster, &["rollback", NAME, "3"], &Value::Null);
    nothing_is_lost(&cluster, &uids, "the rollback to the version with the CRDs");
    follow_the_page(&cluster, "helm uninstall", &chart);
    nothing_is_lost(&cluster, &uids, "the uninstallation");
    run(
        &cluster,
        &["install", NAME, &chart],
        &with_image(&Value::Null),
    );
    nothing_is_lost(&cluster, &uids, "another installation");

    // Without crds.keep, Helm deletes everything.
    let all = with_image(&json!({"crds": {"keep": false}}));
    run(&cluster, &["upgrade", NAME, &chart], &all);
    run(&cluster, &["uninstall", NAME], &Value::Null);
    cluster.kubectl(&["wait", "--for=delete", CRD, "--timeout=60s"]);
    cluster.kubectl(&["delete", "namespace", NAME]);

    follow_the_page(&cluster, "install-manifest", &chart);
    cluster.kubectl(&["wait", "--for=condition=Established", CRD]);
    let deployment = [
        "get",
        "deployment",
        NAME,
        "-n",
        NAME,
        "-o",
        "jsonpath={..image}",
    ];
    let image = cluster.kubectl(&deployment);
    assert_eq!(image, "registry.example/acs-identity-operator:0.1.0");
}

/// Adds the field `nickname` to every kind in a file of CRDs.
fn add_a_field(file: &Path) {
    let text = fs::read_to_string(file).expect("readable");
    let mut crds: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
    for crd in &mut crds {
        let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        schema["properties"]["spec"]["properties"]["nickname"] = json!({"type": "string"});
    }
    let crds: Vec<_> = crds.iter().map(Value::to_string).collect();
    fs::write(file, crds.join("\n---\n")).expect("writable");
}

/// Waits until the API server serves a CRD that was just changed.
fn eventually_taken(cluster: &Cluster, command: &[&str], manifest: &str) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(eventually("the new field is taken", || async {
        cluster.pipe(command, manifest).0.then_some(())
    }));
}
