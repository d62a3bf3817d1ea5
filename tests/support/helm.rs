//! Helm, and the objects that the chart renders.
#![allow(
    clippy::unwrap_in_result,
    reason = "a test ends at the first surprise; the results are helm's own"
)]

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::{
    kubernetes::{Cluster, built, root},
    world::Operator,
};

/// Returns the chart's directory.
pub fn chart() -> String {
    root("charts/acs-identity-operator")
}

/// Returns the directory of the Helm program.
pub fn folder() -> String {
    built("helm").display().to_string()
}

/// Runs Helm with `values`; returns its stdout, or its error message.
pub fn helm(
    cluster: Option<&Cluster>,
    arguments: &[&str],
    values: &Value,
) -> Result<String, String> {
    let mut command = Command::new(format!("{}/helm", folder()));
    command.args(arguments);
    if !values.is_null() {
        command.args(["--values", "-"]);
    }
    match cluster {
        Some(cluster) => command.env("KUBECONFIG", &cluster.kubeconfig),
        None => command.env("KUBECONFIG", "/dev/null"),
    };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("helm runs");
    let mut stdin = child.stdin.take().expect("piped");
    // JSON is valid YAML. If Helm rejects its arguments, it does not read the values.
    let _ = stdin.write_all(values.to_string().as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("helm ends");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr) + &text(&output.stdout))
    }
}

/// Returns the values, completed with those of `defaults`.
pub fn with_defaults(values: &Value, defaults: &Value) -> Value {
    let (Value::Object(values), Value::Object(defaults)) = (values, defaults) else {
        return if values.is_null() { defaults } else { values }.clone();
    };
    let mut merged = values.clone();
    for (name, default) in defaults {
        let value = values.get(name).unwrap_or(&Value::Null);
        merged.insert(name.clone(), with_defaults(value, default));
    }
    merged.into()
}

/// Returns the values with an image, which the chart requires.
pub fn with_image(values: &Value) -> Value {
    let repository = "registry.example/acs-identity-operator";
    with_defaults(values, &json!({"image": {"repository": repository}}))
}

/// Renders the chart for a release in `namespace`, as YAML, without the hooks of `helm test`.
pub fn template(namespace: &str, values: &Value) -> Result<String, String> {
    let template = ["template", "story", &chart(), "--skip-tests"];
    let arguments = [&template[..], &["--namespace", namespace]].concat();
    helm(None, &arguments, &with_image(values))
}

/// Returns the objects of a manifest.
pub fn objects(manifest: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(manifest).expect("YAML")
}

/// Returns the only object of a kind.
pub fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let only = found.next().expect("one of the kind");
    assert!(found.next().is_none(), "more than one {kind}");
    only
}

/// Returns the operator's arguments in a rendered Deployment.
pub fn arguments(deployment: &Value) -> Vec<String> {
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    serde_json::from_value(container["args"].clone()).expect("arguments")
}

/// Release of the chart, without a pod: there is no node.
pub struct Release<'a> {
    /// Objects that Helm has created.
    pub objects: Vec<Value>,
    cluster: &'a Cluster,
    name: &'a str,
    namespace: &'a str,
    account: String,
    kubeconfig: PathBuf,
}

impl<'a> Release<'a> {
    /// Installs the chart into an existing namespace, of a cluster with the CRDs.
    pub fn install(
        cluster: &'a Cluster,
        name: &'a str,
        namespace: &'a str,
        values: &Value,
    ) -> Self {
        let values = with_defaults(&with_image(values), &json!({"crds": {"enabled": false}}));
        let install = ["install", name, &chart(), "--namespace", namespace];
        helm(Some(cluster), &install, &values).expect("installed");
        let manifest = ["get", "manifest", name, "--namespace", namespace];
        let manifest = helm(Some(cluster), &manifest, &Value::Null).expect("a release");
        let objects = objects(&manifest);
        let account = only(&objects, "ServiceAccount")["metadata"]["name"].as_str();
        let account = account.expect("a name").to_owned();
        let kubeconfig = cluster.kubeconfig_of(namespace, &account);
        Self {
            objects,
            cluster,
            name,
            namespace,
            account,
            kubeconfig,
        }
    }

    /// Changes values; all others are kept.
    pub fn upgrade(&self, values: &Value) {
        let (name, namespace) = (self.name, self.namespace);
        let upgrade = ["upgrade", name, &chart(), "--namespace", namespace];
        let arguments = [&upgrade[..], &["--reuse-values"]].concat();
        helm(Some(self.cluster), &arguments, values).expect("upgraded");
    }

    /// Returns the notes that Helm prints.
    pub fn notes(&self) -> String {
        let notes = ["get", "notes", self.name, "--namespace", self.namespace];
        helm(Some(self.cluster), &notes, &Value::Null).expect("notes")
    }

    /// Returns the cluster with the operator's permissions.
    pub fn as_operator(&self) -> Cluster {
        self.cluster.as_account(self.namespace, &self.account)
    }

    /// Returns the operator's user name in the API server.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.account)
    }

    /// Starts the operator as the Deployment would, with its account, arguments and environment.
    pub fn start_operator(&self) -> Operator {
        self.start_operator_with(&[])
    }

    /// Starts the operator likewise, with additional environment variables.
    pub fn start_operator_with(&self, environment: &[(String, String)]) -> Operator {
        self.start_operator_instead(("", ""), environment)
    }

    /// Starts the operator likewise, with the argument `own` instead of that of a directory that
    /// exists only in a pod.
    pub fn start_operator_instead(
        &self,
        (mounted, own): (&str, &str),
        environment: &[(String, String)],
    ) -> Operator {
        let deployment = only(&self.objects, "Deployment");
        let arguments = arguments(deployment).into_iter().map(|argument| {
            if argument == mounted {
                own.to_owned()
            } else {
                argument
            }
        });
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let mut command = Command::new(env!("CARGO_BIN_EXE_acs-identity-operator"));
        for variable in container["env"].as_array().expect("variables") {
            let source = &variable["valueFrom"]["fieldRef"]["fieldPath"];
            let value = variable["value"].as_str().unwrap_or_else(|| {
                assert_eq!(source, "metadata.namespace");
                self.namespace
            });
            command.env(variable["name"].as_str().expect("a name"), value);
        }
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .args(arguments)
            .args(["--address", "127.0.0.1:0"])
            .envs(environment.iter().cloned());
        Operator::start(&mut command)
    }

    /// Uninstalls the release.
    pub fn uninstall(self) {
        let uninstall = ["uninstall", self.name, "--namespace", self.namespace];
        helm(Some(self.cluster), &uninstall, &Value::Null).expect("uninstalled");
    }
}
