//! The chart: what it renders is taken by a real API server, what it refuses is named, and
//! uninstalling it keeps every identity.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use acs_identity_operator::operator;
use serde_json::{Value, json};

use crate::support::{
    emulator::Emulator,
    eventually,
    helm::{Release, arguments, chart, helm, objects, only, template},
    kubernetes::{self, cluster, root},
    process::Process,
    world::token_manifest,
};

/// Nothing but defaults, everything at once, and an account that somebody else made.
fn value_sets(namespace: &str) -> [Value; 3] {
    let digest = format!("sha256:{}", "0f".repeat(32));
    [
        json!({}),
        json!({
            "image": {
                "repository": "registry.example:5000/acs/operator", "tag": "v1",
                "digest": digest, "pullPolicy": "Always",
            },
            "imagePullSecrets": [{"name": "registry"}],
            "watchNamespaces": [namespace, "default"],
            "allowEndpoints": ["acs.example", "gateway.example"],
            "allowInsecureEndpoints": ["127.0.0.1", "[::1]", "emulator.acs.svc:8765"],
            "namespacedAmbientCredentials": true,
            "serviceAccountTokens": [{"namespace": namespace, "name": "acs"}],
            "federatedToken": true,
            "entraAuthority": "https://login.microsoftonline.us",
            "acsAudience": "https://communication.azure.us/",
            "serviceAccountTokenAudience": "api://AzureADTokenExchangeUSGov",
            "localTokenEndpoint": "http://localhost:50342/oauth2/token",
            "forbidSecretMetadata": ["argocd.argoproj.io", "fluxcd.io"],
            "deletionDeadline": "90m",
            "podsRereadWithin": "2h",
            "logFormat": "text",
            "logLevel": "info,acs_identity_operator=debug",
            "serviceAccount": {"name": "acs", "annotations": {"a.example/b": "true"}},
            "podAnnotations": {"prometheus.io/port": "8080"},
            "podLabels": {"azure.workload.identity/use": "true"},
            "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "infra", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
                "weight": 1,
                "preference": {"matchExpressions": [{"key": "infra", "operator": "Exists"}]},
            }]}},
        }),
        json!({
            "serviceAccount": {"create": false, "name": "default"},
            "image": {"tag": "other"},
        }),
    ]
}

#[test]
fn helm_finds_no_fault_and_the_api_server_takes_what_it_renders() {
    let cluster = cluster();
    let namespace = format!("chart-{}", std::process::id());
    cluster.kubectl(&["create", "namespace", &namespace]);
    // Of a Deployment's pods the admission only warns; the installation below is the proof.
    let warn = "pod-security.kubernetes.io/warn=restricted";
    cluster.kubectl(&["label", "namespace", &namespace, warn]);
    for values in value_sets(&namespace) {
        let said = helm(None, &["lint", "--strict", &chart()], &values);
        assert!(said.is_ok(), "{said:?}");
        let manifest = template(&namespace, &values).expect("rendered");
        let (fine, said) = cluster.pipe(&["apply", "--dry-run=server", "-f", "-"], &manifest);
        assert!(fine, "{said}\n{manifest}");
        assert!(!said.contains("Warning"), "{said}\n{manifest}");
        assert!(said.contains("deployment.apps/"), "{said}");
    }
}

#[test]
fn values_that_mean_nothing_are_refused_by_name() {
    for (values, complaint) in [
        (
            json!({"watchNamespace": "a"}),
            "'watchNamespace' not allowed",
        ),
        (json!({"image": {"tags": "a"}}), "'tags' not allowed"),
        (json!({"watchNamespaces": "a"}), "/watchNamespaces"),
        (json!({"watchNamespaces": ["*"]}), "/watchNamespaces/0"),
        (json!({"watchNamespaces": ["a", "a"]}), "/watchNamespaces"),
        (
            json!({"allowEndpoints": ["https://a"]}),
            "/allowEndpoints/0",
        ),
        (json!({"forbidSecretMetadata": []}), "/forbidSecretMetadata"),
        (json!({"deletionDeadline": "0s"}), "/deletionDeadline"),
        (json!({"deletionDeadline": 600}), "/deletionDeadline"),
        (json!({"podsRereadWithin": "soon"}), "/podsRereadWithin"),
        (json!({"logFormat": "yaml"}), "/logFormat"),
        (
            json!({"entraAuthority": "http://login.example"}),
            "/entraAuthority",
        ),
        (json!({"acsAudience": "a b"}), "/acsAudience"),
        (
            json!({"localTokenEndpoint": "localhost"}),
            "/localTokenEndpoint",
        ),
        (
            json!({"serviceAccountTokens": [{"name": "a"}]}),
            "/serviceAccountTokens/0",
        ),
        (
            json!({"serviceAccountTokens": [{"namespace": "a", "name": "*"}]}),
            "/serviceAccountTokens/0/name",
        ),
        (json!({"image": {"digest": "0f0f"}}), "/image/digest"),
        (
            json!({"serviceAccount": {"create": false}}),
            "/serviceAccount/name",
        ),
        (
            json!({"podAnnotations": {"scrape": true}}),
            "/podAnnotations/scrape",
        ),
    ] {
        let refused = template("a", &values).expect_err(&values.to_string());
        assert!(refused.contains(complaint), "{values}: {refused}");
    }
}

#[test]
fn the_program_understands_everything_that_the_chart_tells_it() {
    for values in value_sets("a") {
        let objects = objects(&template("a", &values).expect("rendered"));
        let deployment = only(&objects, "Deployment");
        let output = Command::new(env!("CARGO_BIN_EXE_acs-identity-operator"))
            .args(arguments(deployment))
            .env("KUBECONFIG", "/dev/null")
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        // It got as far as it can without a cluster.
        assert!(said.contains("no way to the API server"), "{said}");
    }
    let everything = objects(&template("a", &value_sets("a")[1]).expect("rendered"));
    let given = arguments(only(&everything, "Deployment")).join(" ");
    for argument in [
        "--watch-namespace=a --watch-namespace=default",
        "--allow-endpoint=acs.example --allow-endpoint=gateway.example",
        "--allow-insecure-endpoint=127.0.0.1 --allow-insecure-endpoint=[::1]",
        "--forbid-secret-metadata=argocd.argoproj.io --forbid-secret-metadata=fluxcd.io",
        "--namespaced-ambient-credentials",
        "--federated-token-file=/var/run/secrets/acs-identity.dev/entra/token",
        "--entra-authority=https://login.microsoftonline.us",
        "--acs-audience=https://communication.azure.us/",
        "--service-account-token-audience=api://AzureADTokenExchangeUSGov",
        "--local-token-endpoint=http://localhost:50342/oauth2/token",
        "--deletion-deadline=90m",
        "--pods-reread-within=2h",
        "--log-format=text",
    ] {
        assert!(given.contains(argument), "{argument} is not in {given}");
    }
}

#[test]
fn the_operators_own_token_is_mounted_where_the_program_looks_for_it() {
    let everything = objects(&template("a", &value_sets("a")[1]).expect("rendered"));
    let pod = &only(&everything, "Deployment")["spec"]["template"]["spec"];
    let mount = &pod["containers"][0]["volumeMounts"][0];
    let source = &pod["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"];
    let file = format!(
        "{}/{}",
        mount["mountPath"].as_str().expect("a path"),
        source["path"].as_str().expect("a path")
    );
    let given = arguments(only(&everything, "Deployment")).join(" ");
    assert!(
        given.contains(&format!("--federated-token-file={file} ")),
        "{given}"
    );
    assert_eq!(source["audience"], "api://AzureADTokenExchangeUSGov");
    assert_eq!(mount["name"], pod["volumes"][0]["name"]);
}

#[test]
fn the_digest_wins_over_the_tag_and_without_both_it_is_the_charts_own_version() {
    let image = |values: &Value| {
        let objects = objects(&template("a", values).expect("rendered"));
        let pod = &only(&objects, "Deployment")["spec"]["template"]["spec"];
        pod["containers"][0]["image"]
            .as_str()
            .map(ToOwned::to_owned)
    };
    let [default, everything, tag] = value_sets("a").map(|values| image(&values).expect("text"));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(default, format!("acs-identity-operator:{version}"));
    assert!(everything.starts_with("registry.example:5000/acs/operator@sha256:0f"));
    assert_eq!(tag, "acs-identity-operator:other");
}

#[test]
fn chart_image_and_program_are_of_one_version() {
    let about: BTreeMap<String, Value> =
        serde_saphyr::from_str(&read("charts/acs-identity-operator/Chart.yaml")).expect("YAML");
    assert_eq!(about["appVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(about["version"], env!("CARGO_PKG_VERSION"));
    let crds = "crds/acs-identity.dev.yaml";
    assert_eq!(
        read(crds),
        read(&format!("charts/acs-identity-operator/{crds}")),
        "the chart's copy is stale: run make generate"
    );
    let dockerfile = read("Dockerfile");
    let rust = format!("FROM rust:{}.", env!("CARGO_PKG_RUST_VERSION"));
    assert!(dockerfile.contains(&rust), "the image is not built {rust}");
    let objects = objects(&template("a", &Value::Null).expect("rendered"));
    let pod = &only(&objects, "Deployment")["spec"]["template"]["spec"];
    let user = &pod["securityContext"]["runAsUser"];
    assert!(dockerfile.contains(&format!("USER {user}:{user}\n")));
    let grace = pod["terminationGracePeriodSeconds"].as_u64();
    assert!(grace.expect("seconds") > operator::DRAIN.as_secs());
}

#[test]
fn the_documentation_lists_every_value_with_its_default() {
    let values = serde_saphyr::from_str(&read("charts/acs-identity-operator/values.yaml"));
    let values: Value = values.expect("YAML");
    let mut defaults = BTreeMap::new();
    for (name, value) in values.as_object().expect("values") {
        // What has a fixed set of keys is a group of values, anything else is one.
        if let ("image" | "serviceAccount", Some(group)) = (name.as_str(), value.as_object()) {
            for (key, value) in group {
                defaults.insert(format!("{name}.{key}"), value.clone());
            }
        } else {
            defaults.insert(name.clone(), value.clone());
        }
    }
    let told: BTreeMap<String, Value> = read("docs/install.md")
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("| `")?.split_once("` | `")?;
            let default = rest.split_once("` | ")?.0;
            let default = serde_saphyr::from_str(default).expect("YAML");
            Some((name.to_owned(), default))
        })
        .collect();
    assert_eq!(told, defaults);
    let schema: Value =
        serde_json::from_str(&read("charts/acs-identity-operator/values.schema.json"))
            .expect("JSON");
    let keys = |value: &Value| value.as_object().expect("keys").keys().cloned().collect();
    let mut known: BTreeSet<String> = keys(&schema["properties"]);
    // helm hands it to every chart.
    known.remove("global");
    assert_eq!(known, keys(&values));
}

/// The story of one release, in a cluster that knows nothing of us yet.
#[tokio::test]
async fn installing_brings_what_the_operator_waits_for_and_uninstalling_keeps_every_identity() {
    let cluster = kubernetes::start();
    let emulator = Emulator::start(&[]);
    let mut early = Process::start(
        Command::new(env!("CARGO_BIN_EXE_acs-identity-operator"))
            .env("KUBECONFIG", &cluster.kubeconfig)
            .args(["--address", "127.0.0.1:0", "--log-format", "text"]),
    );
    let address = early.wait_for("the address", |line| {
        let rest = line.split_once("/metrics address=")?.1;
        Some(rest.split_whitespace().next()?.to_owned())
    });
    let ready = || async {
        let answer = reqwest::get(format!("http://{address}/readyz")).await;
        let answer = answer.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    eventually("readyz names the watch that fails", || async {
        let (status, body) = ready().await;
        let names = body.contains("the API server does not know acstokens.acs-identity.dev");
        (status == 503 && names).then_some(())
    })
    .await;

    cluster.kubectl(&["create", "namespace", "acs"]);
    let enforce = "pod-security.kubernetes.io/enforce=restricted";
    cluster.kubectl(&["label", "namespace", "acs", enforce]);
    let values = json!({"allowInsecureEndpoints": ["127.0.0.1"], "logFormat": "text"});
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

    // With the release's rights, in a namespace that no value names.
    let mut operator = release.start_operator();
    // CRDs of another version are applied over those that helm brought.
    let other = read("crds/acs-identity.dev.yaml").replace("ACS", "the ACS");
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    let (fine, said) = cluster.pipe(&apply, &other);
    assert!(fine, "{said}");
    cluster.kubectl(&["create", "namespace", "team"]);
    let token = token_manifest("web", "alice", "scopes: [chat]");
    cluster.apply(
        "team",
        &format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: acs}}\nstringData: {{text: \"{}\"}}\n---\n\
             apiVersion: acs-identity.dev/v1alpha1\nkind: AcsConnection\nmetadata: {{name: default}}\n\
             spec: {{auth: {{connectionString: {{secretRef: {{name: acs, key: text}}}}}}}}\n---\n\
             apiVersion: acs-identity.dev/v1alpha1\nkind: AcsIdentity\nmetadata: {{name: alice}}\nspec: {{}}\n---\n{token}",
            emulator.connection_string
        ),
    );
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

fn read(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
