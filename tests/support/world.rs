//! World of one test: a namespace, an emulator and an operator that watches only that namespace.

use std::{
    fmt::Debug,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use acs_identity_operator::crd::{AcsConnection, AcsIdentity, AcsToken, READY};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::{Namespace, Pod, Secret},
        events::v1::Event,
    },
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    emulator::Emulator,
    eventually,
    kubernetes::{Cluster, cluster},
    process::Process,
};

/// World of one test.
pub struct World {
    /// Cluster, shared with the other tests of the binary.
    pub cluster: &'static Cluster,
    /// Namespace of the test.
    pub namespace: String,
    /// Client of the cluster admin.
    pub client: Client,
    /// Emulator of the test.
    pub emulator: Emulator,
    /// Operator, while it runs.
    pub operator: Option<Operator>,
    /// Additional arguments of the operator.
    pub arguments: Vec<String>,
    /// Additional environment variables of the operator.
    pub environment: Vec<(String, String)>,
}

/// Kind with a namespace.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
{
}

/// Operator as a process.
pub struct Operator {
    /// Process; its log is recorded.
    pub process: Process,
    /// Base URL of /metrics, /livez and /readyz.
    pub url: String,
}

impl World {
    /// Creates a world with a working connection named `default`, and starts the operator.
    pub async fn new() -> Self {
        Self::with(&[], &[]).await
    }

    /// Creates a world likewise, with additional arguments for the emulator and the operator.
    pub async fn with(emulator: &[&str], operator: &[&str]) -> Self {
        let mut world = Self::bare(emulator, operator).await;
        world.connect("default", &world.emulator.connection_string.clone());
        world.start_operator();
        world
    }

    /// Creates a world with the identity `alice` and its token `web`, which is Ready.
    pub async fn with_a_token() -> Self {
        Self::new().await.and_a_token().await
    }

    /// Creates the identity `alice` and its token `web`, and waits until the token is Ready.
    pub async fn and_a_token(self) -> Self {
        self.identity("alice", "");
        self.token("web", "alice", "scopes: [chat]");
        self.ready("web").await;
        self
    }

    /// Creates a world without a connection, and without starting the operator.
    pub async fn bare(emulator: &[&str], operator: &[&str]) -> Self {
        Self::bare_in(cluster(), emulator, operator).await
    }

    /// Creates a bare world in a separate cluster.
    pub async fn bare_in(cluster: &'static Cluster, emulator: &[&str], operator: &[&str]) -> Self {
        static COUNTER: AtomicUsize = AtomicUsize::new(0);
        let client = cluster.client().await;
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("story-{}-{number}", std::process::id());
        let object = Namespace {
            metadata: kube::core::ObjectMeta {
                name: Some(namespace.clone()),
                ..Default::default()
            },
            ..Namespace::default()
        };
        let created = Api::all(client.clone())
            .create(&PostParams::default(), &object)
            .await;
        created.expect("a namespace");
        let arguments = operator.iter().map(ToString::to_string).collect();
        let emulator = Emulator::start(emulator);
        Self {
            cluster,
            namespace,
            client,
            emulator,
            operator: None,
            arguments,
            environment: Vec::new(),
        }
    }

    /// Creates a Secret with a connection string, and a connection that uses it.
    pub fn connect(&self, name: &str, connection_string: &str) {
        self.apply(&format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}-acs}}\nstringData: {{connectionString: \"{connection_string}\"}}\n\
             ---\napiVersion: acs-identity.dev/v1alpha1\nkind: AcsConnection\nmetadata: {{name: {name}}}\n\
             spec: {{auth: {{connectionString: {{secretRef: {{name: {name}-acs, key: connectionString}}}}}}}}\n"
        ));
    }

    /// Starts the operator, for this namespace only, and waits until it is ready.
    pub fn start_operator(&mut self) {
        self.start_operator_with(&self.cluster.kubeconfig);
    }

    /// Starts the operator with the permissions of a `ServiceAccount` of this namespace.
    pub fn start_operator_as(&mut self, account: &str) {
        let file = self.cluster.kubeconfig_of(&self.namespace, account);
        self.start_operator_with(&file);
    }

    /// Returns the cluster with a new `ServiceAccount` that has all permissions, so that its
    /// requests can be found in the audit log.
    pub fn as_admin(&self, account: &str) -> Cluster {
        let namespace = &self.namespace;
        self.apply(&format!(
            "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: {account}}}}}\n---\n\
             {{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {{name: {namespace}-{account}}}, \
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}}, \
             subjects: [{{kind: ServiceAccount, name: {account}, namespace: {namespace}}}]}}"
        ));
        self.cluster.as_account(namespace, account)
    }

    /// Starts the operator with another kubeconfig.
    pub fn start_operator_with(&mut self, kubeconfig: &std::path::Path) {
        let mut command = self.operator_command(kubeconfig);
        // No other operator runs here, and a restart must not wait for the Lease of a killed one.
        command.arg("--no-leader-elect");
        self.operator = Some(Operator::start(&mut command));
    }

    /// Returns the operator's command, for this namespace only.
    pub fn operator_command(&self, kubeconfig: &std::path::Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_acs-identity-operator"));
        command
            .env("KUBECONFIG", kubeconfig)
            .env(
                "RUST_LOG",
                "info,acs_identity_operator=debug,kube_client::client::builder=off",
            )
            .args(["--watch-namespace", &self.namespace])
            .args(["--cluster-resource-namespace", &self.namespace])
            .args(["--address", "127.0.0.1:0", "--log-format", "text"])
            .args(["--allow-insecure-endpoint", "127.0.0.1"])
            .args(&self.arguments)
            .envs(self.environment.iter().cloned());
        command
    }

    /// Kills the operator (SIGKILL).
    pub fn kill_operator(&mut self) {
        self.operator = None;
    }

    /// Returns the running operator.
    pub fn operator(&mut self) -> &mut Operator {
        self.operator.as_mut().expect("the operator runs")
    }

    /// Returns the `Api` of a kind in the test's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Applies a valid manifest.
    pub fn apply(&self, manifest: &str) {
        self.cluster.apply(&self.namespace, manifest);
    }

    /// Applies an invalid manifest; returns the error message.
    pub fn refuse(&self, manifest: &str) -> String {
        let (fine, said) = self.cluster.try_apply(&self.namespace, manifest);
        assert!(!fine, "the API server took it: {said}\n{manifest}");
        said
    }

    /// Creates an `AcsIdentity` with `spec` (flow-style YAML without braces).
    pub fn identity(&self, name: &str, spec: &str) {
        self.apply(&identity_manifest(name, spec));
    }

    /// Creates an `AcsToken` of an identity with `spec` (flow-style YAML without braces).
    pub fn token(&self, name: &str, identity: &str, spec: &str) {
        self.apply(&token_manifest(name, identity, spec));
    }

    /// Returns an object, if it exists.
    pub async fn find<K: Kind>(&self, name: &str) -> Option<K> {
        let found = self.api::<K>().get_opt(name).await;
        found.expect("readable")
    }

    /// Returns an object that exists.
    pub async fn get<K: Kind>(&self, name: &str) -> K {
        let found = self.find(name).await;
        found.unwrap_or_else(|| panic!("no {} {name}", K::kind(&())))
    }

    /// Applies a merge patch to an object.
    pub async fn patch<K: Kind>(&self, name: &str, change: Value) {
        let api = self.api::<K>();
        let patched = api
            .patch(name, &PatchParams::default(), &Patch::Merge(&change))
            .await;
        patched.expect("a patch that is fine");
    }

    /// Applies a merge patch to the status of a connection, in place of the operator.
    pub async fn patch_status(&self, name: &str, change: Value) {
        let api = self.api::<AcsConnection>();
        let change = Patch::Merge(json!({"status": change}));
        let parameters = PatchParams::default();
        let patched = api.patch_status(name, &parameters, &change).await;
        patched.expect("a patch that is fine");
    }

    /// Requests the deletion of an object.
    pub async fn delete<K: Kind>(&self, name: &str) {
        self.api::<K>()
            .delete(name, &DeleteParams::default())
            .await
            .expect("a deletion");
    }

    /// Waits until an object does not exist.
    pub async fn gone<K: Kind>(&self, name: &str) {
        let kind = K::kind(&());
        eventually(&format!("{kind} {name} is gone"), || async {
            self.find::<K>(name).await.is_none().then_some(())
        })
        .await;
    }

    /// Waits until an `AcsIdentity` does not exist, unless it is not being deleted.
    pub async fn gone_if_deleting(&self, name: &str) {
        let api = self.api::<AcsIdentity>();
        eventually(&format!("AcsIdentity {name} is gone or stays"), || async {
            let found = api.get_opt(name).await.expect("readable");
            found
                .is_none_or(|found| found.metadata.deletion_timestamp.is_none())
                .then_some(())
        })
        .await;
    }

    /// Waits until no identity and no token is being deleted.
    pub async fn no_deletion_is_under_way(&self) {
        eventually("no deletion is under way", || async {
            let all = ListParams::default();
            let identities = self.api::<AcsIdentity>().list(&all).await;
            let tokens = self.api::<AcsToken>().list(&all).await;
            let identities = identities.expect("readable").items.into_iter();
            let tokens = tokens.expect("readable").items.into_iter();
            let mut all = identities
                .map(|identity| identity.metadata)
                .chain(tokens.map(|token| token.metadata));
            all.all(|metadata| metadata.deletion_timestamp.is_none())
                .then_some(())
        })
        .await;
    }

    /// Waits until a token satisfies `is`.
    pub async fn token_where(
        &self,
        what: &str,
        name: &str,
        is: impl Fn(&AcsToken) -> bool,
    ) -> AcsToken {
        let api = self.api::<AcsToken>();
        eventually(&format!("AcsToken {name} {what}"), || async {
            api.get_opt(name)
                .await
                .expect("readable")
                .filter(|token| is(token))
        })
        .await
    }

    /// Waits until a token is Ready for its current spec.
    pub async fn ready(&self, name: &str) -> AcsToken {
        self.token_where("is Ready", name, |token| {
            let status = token.status.clone().unwrap_or_default();
            status.observed_generation == token.metadata.generation
                && condition(&status.conditions, READY).is_some_and(|ready| ready.status == "True")
                && status.scopes.as_ref() == Some(&token.scopes())
        })
        .await
    }

    /// Waits until the Ready condition of a token has this reason; returns its message.
    pub async fn token_says(&self, name: &str, reason: &str) -> String {
        says(&self.api::<AcsToken>(), name, reason).await
    }

    /// Waits until the Ready condition of an identity has this reason; returns its message.
    pub async fn identity_says(&self, name: &str, reason: &str) -> String {
        says(&self.api::<AcsIdentity>(), name, reason).await
    }

    /// Waits until the Ready condition of a connection has this reason; returns its message.
    pub async fn connection_says(&self, name: &str, reason: &str) -> String {
        says(&self.api::<AcsConnection>(), name, reason).await
    }

    /// Creates an unmanaged identity in ACS; returns its id.
    pub async fn stray(&self) -> String {
        self.identity("first", "deletionPolicy: Orphan");
        self.identity_says("first", "IdentityReady").await;
        self.delete::<AcsIdentity>("first").await;
        self.gone::<AcsIdentity>("first").await;
        self.emulator.living().await[0].id.clone()
    }

    /// Runs shell commands as a user would, with kubectl on the PATH; returns their output.
    pub fn bash(&self, script: &str) -> String {
        let path = std::env::var("PATH").expect("a PATH");
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", script])
            .env(
                "PATH",
                format!("{}:{path}", self.cluster.programs.display()),
            )
            .env("KUBECONFIG", self.cluster.kubeconfig_in(&self.namespace))
            .output()
            .expect("bash runs");
        let told = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}\n{told}{said}");
        told.into_owned()
    }

    /// Returns the value of a Secret's key, if it exists.
    pub async fn secret_value(&self, secret: &str, key: &str) -> Option<String> {
        let secret = self
            .api::<Secret>()
            .get_opt(secret)
            .await
            .expect("readable")?;
        let value = secret.data?.remove(key)?;
        Some(String::from_utf8(value.0).expect("text"))
    }

    /// Waits until a Secret holds a token that ACS accepts and that is not in `former`; returns it.
    pub async fn live_token(&self, secret: &str, former: &[&str]) -> String {
        eventually(
            &format!("Secret {secret} holds a new live token"),
            || async {
                let token = self.secret_value(secret, "token").await?;
                let is_new = !former.contains(&token.as_str());
                (is_new && self.emulator.check(&token).await.valid).then_some(token)
            },
        )
        .await
    }

    /// Waits until the object has an Event with this reason; returns its note.
    pub async fn event(&self, object: &str, reason: &str) -> String {
        let api = self.api::<Event>();
        eventually(&format!("an Event {reason} on {object}"), || async {
            let events = api.list(&ListParams::default()).await.expect("readable");
            events.items.into_iter().find_map(|event| {
                let is_it = event.reason.as_deref() == Some(reason)
                    && event.regarding.as_ref()?.name.as_deref() == Some(object);
                is_it.then(|| event.note.unwrap_or_default())
            })
        })
        .await
    }

    /// Returns the number of requests to issue a token.
    pub async fn issued(&self) -> usize {
        self.emulator.count("issueToken").await
    }

    /// Reports the container of a pod as running since that time, as a kubelet does.
    pub async fn runs_since(&self, pod: &str, started_at: Timestamp) {
        let status = json!({"status": {"phase": "Running", "containerStatuses": [{
            "name": "main", "image": "web", "imageID": "web", "ready": true, "restartCount": 0,
            "state": {"running": {"startedAt": started_at.to_string()}},
        }]}});
        let (parameters, status) = (PatchParams::default(), Patch::Merge(status));
        let pods = self.api::<Pod>();
        let patched = pods.patch_status(pod, &parameters, &status);
        patched.await.expect("patched");
    }

    /// Waits until the operator has reconciled a newly created object: by then it has seen all
    /// earlier changes.
    pub async fn settled(&self) {
        static COUNTER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("settled-{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        self.identity(
            &name,
            "connectionRef: {kind: AcsConnection, name: no-such-connection}",
        );
        self.identity_says(&name, "ConnectionNotFound").await;
        self.delete::<AcsIdentity>(&name).await;
        self.gone::<AcsIdentity>(&name).await;
    }
}

impl Operator {
    /// Starts the operator and waits until /readyz succeeds.
    pub fn start(command: &mut Command) -> Self {
        let mut operator = Self::start_unready(command);
        operator
            .process
            .wait_for("the operator's controllers", |line| {
                line.contains("reconciling begins").then_some(())
            });
        operator
    }

    /// Starts the operator and waits until it serves /readyz, with any result.
    pub fn start_unready(command: &mut Command) -> Self {
        let mut process = Process::start(command);
        let url = process.wait_for("the operator's address", |line| {
            let address = line.split_once("/readyz address=")?.1;
            Some(format!("http://{}", address.split_whitespace().next()?))
        });
        Self { process, url }
    }

    /// Returns the status and body of a path.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("{}{path}", self.url))
            .await
            .expect("an answer");
        (
            answer.status().as_u16(),
            answer.text().await.expect("a body"),
        )
    }
}

/// Waits until the Ready condition of an object has this reason; returns its message.
pub async fn says<K: Kind + Serialize>(api: &Api<K>, name: &str, reason: &str) -> String {
    let what = format!("{} {name} says {reason}", K::kind(&()));
    eventually(&what, || async {
        let object = api.get_opt(name).await.expect("readable")?;
        let object = serde_json::to_value(object).expect("JSON");
        let conditions = object["status"]["conditions"].as_array()?;
        let ready = conditions.iter().find(|it| it["type"] == READY)?;
        (ready["reason"] == reason).then(|| ready["message"].as_str().unwrap_or("").to_owned())
    })
    .await
}

/// Returns the manifest of an `AcsIdentity` with `spec` (flow-style YAML without braces).
pub fn identity_manifest(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: acs-identity.dev/v1alpha1\nkind: AcsIdentity\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
    )
}

/// Returns the manifest of an `AcsToken`.
pub fn token_manifest(name: &str, identity: &str, spec: &str) -> String {
    format!(
        "apiVersion: acs-identity.dev/v1alpha1\nkind: AcsToken\nmetadata: {{name: {name}}}\n\
         spec: {{identityRef: {{name: {identity}}}, {spec}}}\n"
    )
}

/// Returns a condition by its type.
pub fn condition<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Returns a merge patch of a spec.
pub fn spec(change: &Value) -> Value {
    json!({"spec": change})
}
