//! Chart: a real API server accepts its objects, and its errors name the rejected values.

use std::{collections::BTreeMap, fs, process::Command};

use acs_identity_operator::operator;
use serde_json::{Value, json};

use crate::support::{
    helm::{arguments, chart, helm, objects, only, template, with_image},
    kubernetes::{cluster, root},
};

const CHARTS: [&str; 2] = ["charts/acs-identity-operator", "charts/acs-emulator"];

/// Returns only defaults, everything at once, and an existing account.
pub fn value_sets(namespace: &str) -> [Value; 3] {
    let digest = format!("sha256:{}", "0f".repeat(32));
    [
        json!({}),
        json!({
            "image": {
                "repository": "registry.example:5000/acs/operator", "tag": "v1",
                "digest": digest, "pullPolicy": "Always",
            },
            "imagePullSecrets": [{"name": "registry"}],
            "global": {"imageRegistry": "mirror.example:5000"},
            "fullnameOverride": "acs",
            "crds": {"keep": false},
            "caBundle": {"configMap": "authorities", "key": "bundle.pem"},
            "proxy": {
                "https": "http://proxy.example:3128", "http": "http://proxy.example:3128",
                "noProxy": ["10.0.0.0/8", ".internal.example"],
            },
            "admissionPolicies": {"statusWriters": ["system:admin"], "useConnection": true},
            "revisionHistoryLimit": 1,
            "priorityClassName": "system-cluster-critical",
            "podSecurityContext": {
                "runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "topologySpreadConstraints": [{
                "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"app.kubernetes.io/instance": "story"}},
            }],
            "extraEnv": [{"name": "TZ", "value": "UTC"}],
            "extraVolumes": [{"name": "extra", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "extra", "mountPath": "/extra"}],
            "networkPolicy": {
                "enabled": true, "managedIdentity": true, "apiServerPorts": [6443],
                "metricsFrom": [{"namespaceSelector": {}}],
                "extraEgress": [{"ports": [{"port": 3128}]}],
            },
            "metrics": {
                "service": {"annotations": {"a.example/b": "true"}},
                "podMonitor": {"enabled": true, "interval": "30s"},
                "prometheusRule": {"enabled": true},
                "dashboard": {"enabled": true},
            },
            "watchNamespaces": [namespace, "default"],
            "allowEndpoints": ["acs.example", "gateway.example"],
            "allowInsecureEndpoints": ["127.0.0.1", "[::1]", "emulator.acs.svc:8765"],
            "namespacedAmbientCredentials": true,
            "consumers": {"rolloutRestart": true, "nudge": true, "count": true},
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
            "caBundle": {"secret": "authorities"},
            "crds": {"enabled": false},
        }),
    ]
}

#[test]
fn helm_finds_no_fault_and_the_api_server_takes_what_it_renders() {
    let cluster = cluster();
    let namespace = format!("chart-{}", std::process::id());
    cluster.kubectl(&["create", "namespace", &namespace]);
    // For a Deployment's pods, admission only warns; the installation below is the proof.
    let warn = "pod-security.kubernetes.io/warn=restricted";
    cluster.kubectl(&["label", "namespace", &namespace, warn]);
    for values in value_sets(&namespace) {
        let said = helm(None, &["lint", "--strict", &chart()], &with_image(&values));
        assert!(said.is_ok(), "{said:?}");
        let mut objects = objects(&template(&namespace, &values).expect("rendered"));
        // Kinds of the Prometheus operator, which is not installed.
        objects.retain(|object| object["apiVersion"] != "monitoring.coreos.com/v1");
        let list: Vec<_> = objects.iter().map(Value::to_string).collect();
        let list = list.join("\n---\n");
        let apply = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
            "-f",
            "-",
        ];
        let (fine, said) = cluster.pipe(&apply, &list);
        assert!(fine, "{said}\n{list}");
        assert!(!said.contains("Warning"), "{said}\n{list}");
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
        (json!({"fullnameOverride": "A"}), "/fullnameOverride"),
        (
            json!({"caBundle": {"configMap": "a", "secret": "b"}}),
            "/caBundle/secret",
        ),
        (json!({"proxy": {"https": "proxy:3128"}}), "/proxy/https"),
        (json!({"proxy": {"noProxy": ["a,b"]}}), "/proxy/noProxy/0"),
        (
            json!({"openshift": {"adaptSecurityContext": "yes"}}),
            "/openshift/adaptSecurityContext",
        ),
        (
            json!({"networkPolicy": {"apiServerPorts": []}}),
            "/networkPolicy/apiServerPorts",
        ),
        (
            json!({"metrics": {"podMonitor": {"interval": "soon"}}}),
            "/metrics/podMonitor/interval",
        ),
        (
            json!({"admissionPolicies": {"ownSecret": false}}),
            "'ownSecret' not allowed",
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
        // It progressed as far as possible without a cluster.
        assert!(
            said.contains("no configuration for the API server"),
            "{said}"
        );
    }
    let everything = objects(&template("a", &value_sets("a")[1]).expect("rendered"));
    let given = arguments(only(&everything, "Deployment")).join(" ");
    for argument in [
        "--watch-namespace=a --watch-namespace=default",
        "--allow-endpoint=acs.example --allow-endpoint=gateway.example",
        "--allow-insecure-endpoint=127.0.0.1 --allow-insecure-endpoint=[::1]",
        "--forbid-secret-metadata=argocd.argoproj.io --forbid-secret-metadata=fluxcd.io",
        "--secret-label=velero.io/exclude-from-backup=true",
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
fn chart_image_and_program_are_of_one_version() {
    for chart in CHARTS {
        let about: BTreeMap<String, Value> =
            serde_saphyr::from_str(&read(&format!("{chart}/Chart.yaml"))).expect("YAML");
        assert_eq!(about["appVersion"], env!("CARGO_PKG_VERSION"), "{chart}");
        assert_eq!(about["version"], env!("CARGO_PKG_VERSION"), "{chart}");
    }
    let crds = read("crds/acs-identity.dev.yaml");
    assert_eq!(
        crds,
        read("charts/acs-identity-operator/files/crds.yaml"),
        "the chart's copy is stale: run make generate"
    );
    let dockerfile = read("Dockerfile");
    let toolchain = read("rust-toolchain.toml");
    let (_, toolchain) = toolchain.split_once("channel = \"").expect("a channel");
    let (toolchain, _) = toolchain.split_once('"').expect("its end");
    let oldest = env!("CARGO_PKG_RUST_VERSION");
    assert!(toolchain.starts_with(oldest), "{toolchain} is not {oldest}");
    let rust = format!("BUILD_IMAGE=rust:{toolchain}-");
    assert!(
        dockerfile.contains(&rust),
        "the image is not built with {rust}"
    );
    let objects = objects(&template("a", &Value::Null).expect("rendered"));
    let is_crd = |object: &&Value| object["kind"] == "CustomResourceDefinition";
    let rendered = objects.iter().filter(is_crd);
    let rendered: Vec<_> = rendered.map(|crd| without_integers(&crd["spec"])).collect();
    let crds: Vec<Value> = serde_saphyr::from_multiple(&crds).expect("YAML");
    let generated: Vec<_> = crds
        .iter()
        .map(|crd| without_integers(&crd["spec"]))
        .collect();
    assert_eq!(rendered, generated);
    let pod = &only(&objects, "Deployment")["spec"]["template"]["spec"];
    let user = &pod["securityContext"]["runAsUser"];
    assert!(dockerfile.contains(&format!("USER {user}:{user}\n")));
    let grace = pod["terminationGracePeriodSeconds"].as_u64();
    assert!(grace.expect("seconds") > operator::DRAIN.as_secs());
}

/// Normalizes a value so that 1 and 1.0 are the same.
fn without_integers(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(without_integers).collect(),
        Value::Object(fields) => {
            let fields = fields.iter();
            fields
                .map(|(name, value)| (name.clone(), without_integers(value)))
                .collect()
        }
        other => other.clone(),
    }
}

/// Collects the values by their path, and the paths that a schema contains.
fn leaves(values: &Value, schema: &Value, path: &str, found: &mut BTreeMap<String, Value>) {
    for (name, value) in values.as_object().expect("values") {
        let path = format!("{path}{name}");
        let mut known = &schema["properties"][name];
        if let Some(reference) = known["$ref"].as_str() {
            let definition = reference.rsplit('/').next().expect("a name");
            known = &schema["definitions"][definition];
        }
        assert!(known.is_object(), "values.schema.json does not know {path}");
        if known["properties"].is_null() || path == "resources" {
            found.insert(path, value.clone());
            continue;
        }
        let mut known = known.clone();
        known["definitions"] = schema["definitions"].clone();
        leaves(value, &known, &format!("{path}."), found);
        let names = known["properties"].as_object().expect("properties");
        for name in names.keys() {
            assert!(!value[name].is_null(), "values.yaml lacks {path}.{name}");
        }
    }
}

#[test]
fn the_documentation_and_the_schema_know_every_value_and_its_default() {
    for chart in CHARTS {
        every_value_is_known(chart);
    }
}

fn every_value_is_known(chart: &str) {
    let values: Value =
        serde_saphyr::from_str(&read(&format!("{chart}/values.yaml"))).expect("YAML");
    let schema = read(&format!("{chart}/values.schema.json"));
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    for name in schema["properties"].as_object().expect("properties").keys() {
        assert!(!values[name].is_null(), "values.yaml lacks {name}");
    }
    let mut defaults = BTreeMap::new();
    leaves(&values, &schema, "", &mut defaults);
    let told: BTreeMap<String, Value> = read(&format!("{chart}/README.md"))
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("| `")?.split_once("` | `")?;
            let default = rest.split_once("` | ")?.0;
            let default = serde_saphyr::from_str(default).expect("YAML");
            Some((name.to_owned(), default))
        })
        .collect();
    assert_eq!(told, defaults, "{chart}: run make generate");
}

#[test]
fn without_an_image_the_charts_say_how_to_get_one() {
    for (chart, target) in CHARTS.iter().zip(["make image", "make emulator-image"]) {
        let template = ["template", "story", &root(chart)];
        let said = helm(None, &template, &Value::Null).expect_err("no image");
        assert!(said.contains(target), "{said}");
        assert!(said.contains("--set image.repository="), "{said}");
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
