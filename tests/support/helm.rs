//! helm, and what our chart renders.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use serde_json::Value;

use super::kubernetes::{Cluster, root};

/// The chart's folder.
pub fn chart() -> String {
    root("charts/acs-identity-operator")
}

/// Runs helm with `values`; tells its stdout, or else what it complained about.
pub fn helm(
    cluster: Option<&Cluster>,
    arguments: &[&str],
    values: &Value,
) -> Result<String, String> {
    let built = Command::new(root("tests/support/control-plane/build.sh"))
        .arg("helm")
        .stderr(Stdio::inherit())
        .output()
        .expect("bash runs");
    assert!(built.status.success(), "helm could not be built");
    let folder = String::from_utf8(built.stdout).expect("a path");
    let mut command = Command::new(format!("{}/helm", folder.trim()));
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
    // JSON is YAML. One that doesn't read its values has refused its arguments.
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

/// What the chart renders for a release in `namespace`, as YAML.
pub fn template(namespace: &str, values: &Value) -> Result<String, String> {
    let arguments = ["template", "story", &chart(), "--namespace", namespace];
    helm(None, &arguments, values)
}

/// The objects of a manifest.
pub fn objects(manifest: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(manifest).expect("YAML")
}

/// The one object of a kind.
pub fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let only = found.next().expect("one of the kind");
    assert!(found.next().is_none(), "more than one {kind}");
    only
}

/// The arguments of the operator in a rendered Deployment.
pub fn arguments(deployment: &Value) -> Vec<String> {
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    serde_json::from_value(container["args"].clone()).expect("arguments")
}
