//! Control plane of a test binary, and kubectl.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;

/// Cluster, and the tools for it.
pub struct Cluster {
    /// Kubeconfig of the cluster admin.
    pub kubeconfig: PathBuf,
    /// Directory of kubectl.
    pub programs: PathBuf,
    /// Process that stops the control plane when this process ends for any reason: its stdin is
    /// closed.
    control_plane: Option<Child>,
}

/// Returns the cluster of this test binary: that of `KUBECONFIG` if it is set, or else a control
/// plane of its own, with the operator's CRDs installed.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| with_crds(start()))
}

/// Returns a separate control plane, with the operator's CRDs.
pub fn another() -> &'static Cluster {
    Box::leak(Box::new(with_crds(start())))
}

/// Returns a separate control plane, whose programs are restarted when they are killed.
pub fn another_that_restarts() -> &'static Cluster {
    Box::leak(Box::new(with_crds(start_with(&[("RESTART_KILLED", "1")]))))
}

fn with_crds(cluster: Cluster) -> Cluster {
    cluster.kubectl(&["apply", "--server-side", "--kustomize", &root("crds")]);
    for kind in [
        "acsconnections",
        "clusteracsconnections",
        "acsidentities",
        "acstokens",
        "acsrevocations",
        "clusteracsrevocations",
    ] {
        let crd = format!("crd/{kind}.acs-identity.dev");
        cluster.kubectl(&["wait", "--for=condition=Established", &crd]);
    }
    cluster
}

/// Returns the directory of programs built from Go modules; builds them if necessary.
pub fn built(what: &str) -> PathBuf {
    let built = Command::new(root("tests/support/control-plane/build.sh"))
        .arg(what)
        .stderr(Stdio::inherit())
        .output()
        .expect("bash runs");
    assert!(built.status.success(), "{what} could not be built");
    let folder = String::from_utf8(built.stdout).expect("a path");
    folder.trim().into()
}

/// Starts a separate control plane, without the operator's CRDs.
pub fn start() -> Cluster {
    start_with(&[])
}

fn start_with(environment: &[(&str, &str)]) -> Cluster {
    let programs = built("kubernetes");
    if let Some(kubeconfig) = std::env::var_os("KUBECONFIG") {
        return Cluster {
            kubeconfig: kubeconfig.into(),
            programs,
            control_plane: None,
        };
    }
    let folder = tempfile::Builder::new()
        .prefix("acs-control-plane-")
        .tempdir()
        .expect("a folder");
    let folder = folder.keep();
    let mut child = Command::new(root("tests/support/control-plane/run.sh"))
        .arg(&folder)
        .arg("--until-stdin-closes")
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("bash runs");
    let mut ready = std::io::BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut ready, &mut line).expect("readable");
    assert_eq!(line.trim(), "ready", "the control plane did not start");
    Cluster {
        kubeconfig: folder.join("kubeconfig"),
        programs,
        control_plane: Some(child),
    }
}

/// Returns the absolute path of a file in the repository.
pub fn root(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(path)
        .display()
        .to_string()
}

impl Cluster {
    /// Returns a client for the calling test: its connections belong to the test's runtime.
    pub async fn client(&self) -> Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).expect("a kubeconfig");
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .expect("a usable kubeconfig");
        Client::try_from(config).expect("a client")
    }

    /// Runs kubectl; returns its stdout.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self
            .kubectl_command(arguments)
            .output()
            .expect("kubectl runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {stderr}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs kubectl with input on stdin; returns whether it succeeded, and its whole output.
    pub fn pipe(&self, arguments: &[&str], input: &str) -> (bool, String) {
        let mut child = self
            .kubectl_command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl runs");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).expect("kubectl reads");
        drop(stdin);
        let output = child.wait_with_output().expect("kubectl ends");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    /// Runs `kubectl apply` with a manifest; returns whether it succeeded, and its whole output.
    pub fn try_apply(&self, namespace: &str, manifest: &str) -> (bool, String) {
        self.pipe(&["apply", "-n", namespace, "-f", "-"], manifest)
    }

    /// Returns a kubeconfig with the permissions of a `ServiceAccount`.
    pub fn kubeconfig_of(&self, namespace: &str, account: &str) -> PathBuf {
        let token = self.kubectl(&["create", "token", account, "-n", namespace]);
        let text = fs::read_to_string(&self.kubeconfig).expect("a kubeconfig");
        let text = text.replace("{token: admin}", &format!("{{token: {}}}", token.trim()));
        assert!(
            text.contains(token.trim()),
            "only our own kubeconfig can be rewritten"
        );
        let file = self
            .kubeconfig
            .with_file_name(format!("{namespace}-{account}"));
        fs::write(&file, text).expect("writable");
        file
    }

    /// Returns the audit log of a user's requests to the test's own control plane.
    pub fn audited(&self, user: &str) -> Vec<Value> {
        let log = fs::read_to_string(self.kubeconfig.with_file_name("audit.log"));
        let log = log.expect("an audit log");
        let lines = log.lines().filter(|line| line.contains(user));
        let events = lines.map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        events
            .filter(|event| event["user"]["username"] == user)
            .collect()
    }

    /// Returns the same cluster with the permissions of a `ServiceAccount`.
    pub fn as_account(&self, namespace: &str, account: &str) -> Self {
        Self {
            kubeconfig: self.kubeconfig_of(namespace, account),
            programs: self.programs.clone(),
            control_plane: None,
        }
    }

    /// Returns a kubeconfig with `namespace` as its default.
    pub fn kubeconfig_in(&self, namespace: &str) -> PathBuf {
        let file = self.kubeconfig.with_file_name(format!("in-{namespace}"));
        fs::copy(&self.kubeconfig, &file).expect("writable");
        let set = [
            "config",
            "set-context",
            "--current",
            "--namespace",
            namespace,
        ];
        let output = self.kubectl_command(&set).env("KUBECONFIG", &file).output();
        assert!(output.expect("kubectl runs").status.success());
        file
    }

    /// Runs `kubectl apply` with a valid manifest.
    pub fn apply(&self, namespace: &str, manifest: &str) {
        let (fine, said) = self.try_apply(namespace, manifest);
        assert!(fine, "kubectl apply: {said}\n{manifest}");
    }

    fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("kubectl"));
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .args(arguments)
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut child) = self.control_plane.take() {
            drop(child.stdin.take());
            let _ = child.wait();
            if let Some(folder) = self.kubeconfig.parent() {
                let _ = fs::remove_dir_all(folder);
            }
        }
    }
}
