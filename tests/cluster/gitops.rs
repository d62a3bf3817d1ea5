//! GitOps tools: health in Argo CD and Flux, objects that stay as they were applied, and names that
//! Kustomize changes.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use acs_identity_operator::crd::{AcsIdentity, AcsRevocation, AcsToken};
use serde_json::{Value, json};

use crate::support::{
    eventually,
    kubernetes::{built, root},
    world::{World, spec},
};

const IN_PROGRESS: [&str; 2] = ["InProgress", "Progressing"];
const HEALTHY: [&str; 2] = ["Current", "Healthy"];

impl World {
    /// Returns an object as stored in the API server.
    fn object(&self, object: &str) -> Value {
        let get = ["get", object, "-n", &self.namespace, "-o", "json"];
        serde_json::from_str(&self.cluster.kubectl(&get)).expect("JSON")
    }

    /// Returns the health of an object in Flux and Argo CD.
    fn health(&self, object: &str) -> [String; 2] {
        let judged = judge(&self.object(object), &[]);
        [&judged["kstatus"], &judged["health"]["status"]]
            .map(|said| said.as_str().expect("text").to_owned())
    }

    async fn becomes(&self, object: &str, wanted: [&str; 2]) {
        eventually(&format!("{object} is {wanted:?}"), || async {
            (self.health(object) == wanted).then_some(())
        })
        .await;
    }

    /// Runs an action of Argo CD on an object.
    fn act(&self, object: &str, action: &str) {
        let judged = judge(&self.object(object), &[action]);
        assert_eq!(judged["actions"][action]["disabled"], false);
        let annotations = &judged["changed"]["metadata"]["annotations"];
        let patch = json!({"metadata": {"annotations": annotations}}).to_string();
        let patch = ["patch", object, "--type", "merge", "--patch", &patch];
        self.cluster
            .kubectl(&[&patch[..], &["-n", &self.namespace]].concat());
    }

    /// Returns what `kubectl diff` would change, with server-side apply as GitOps tools use it.
    fn differs(&self, manifest: &str) -> Option<String> {
        let diff = ["diff", "--server-side", "-n", &self.namespace, "-f", "-"];
        let (same, said) = self.cluster.pipe(&diff, manifest);
        (!same).then_some(said)
    }
}

/// Returns what the tools derive from an object, with the settings that the project provides for
/// Argo CD.
fn judge(object: &Value, action: &[&str]) -> Value {
    let mut child = Command::new(built("gitops").join("gitops"))
        .arg(root("examples/gitops/argocd-cm.yaml"))
        .args(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("piped");
    let objects = json!([object]).to_string();
    stdin.write_all(objects.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    let mut judged: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    judged.remove(0)
}

#[tokio::test]
async fn flux_and_argo_cd_see_what_is_healthy_what_is_on_its_way_and_what_needs_a_human() {
    let mut world = World::with_a_token().await;
    for object in ["acsconnection/default", "acsidentity/alice", "acstoken/web"] {
        world.becomes(object, HEALTHY).await;
    }
    // A missing object may appear later.
    world.token("early", "nobody", "scopes: [chat]");
    world.token_says("early", "IdentityNotFound").await;
    world.becomes("acstoken/early", IN_PROGRESS).await;
    // Only a person can resolve this.
    world.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: taken}\n");
    world.token("taken", "alice", "scopes: [chat]");
    world.token_says("taken", "SecretConflict").await;
    world
        .becomes("acstoken/taken", ["Failed", "Degraded"])
        .await;
    // A suspension does not block tools that wait for health.
    world
        .patch::<AcsToken>("web", spec(&json!({"suspend": true})))
        .await;
    world.token_says("web", "Suspended").await;
    world.becomes("acstoken/web", HEALTHY).await;
    let order = "apiVersion: acs-identity.dev/v1alpha1\nkind: AcsRevocation\nmetadata: {name: leak}\nspec: {names: [alice]}\n";
    world.apply(order);
    world.becomes("acsrevocation/leak", HEALTHY).await;
    // Suspended before it had a token, or after that has expired.
    world.token("paused", "alice", "scopes: [chat], suspend: true");
    world.token_says("paused", "Suspended").await;
    world
        .becomes("acstoken/paused", ["InProgress", "Suspended"])
        .await;

    // Changes that the operator has not observed yet count as in progress.
    world.kill_operator();
    world
        .patch::<AcsToken>("web", spec(&json!({"suspend": false})))
        .await;
    world.identity("bob", "");
    world.delete::<AcsIdentity>("alice").await;
    assert_eq!(world.health("acstoken/web"), IN_PROGRESS);
    assert_eq!(world.health("acsidentity/bob"), IN_PROGRESS);
    assert_eq!(
        world.health("acsidentity/alice"),
        ["Terminating", "Progressing"]
    );
    world.delete::<AcsRevocation>("leak").await;
    world.start_operator();
    world.gone::<AcsIdentity>("alice").await;
    world.becomes("acsidentity/bob", HEALTHY).await;
}

#[tokio::test]
async fn the_actions_of_argo_cd_renew_and_revoke() {
    let world = World::with_a_token().await;
    let first = world.secret_value("web", "token").await.expect("a token");
    world.act("acstoken/web", "renew");
    let second = world.live_token("web", &[&first]).await;
    assert!(world.emulator.check(&first).await.valid, "only renewed");
    world.act("acsidentity/alice", "revoke");
    world.live_token("web", &[&first, &second]).await;
    assert!(!world.emulator.check(&second).await.valid, "revoked");
}

#[tokio::test]
async fn what_git_applies_never_differs_from_the_cluster_whatever_the_operator_does() {
    let world = World::new().await;
    let manifest = "\
apiVersion: acs-identity.dev/v1alpha1
kind: AcsIdentity
metadata: {name: alice}
spec: {deletionPolicy: Delete}
---
apiVersion: acs-identity.dev/v1alpha1
kind: AcsToken
metadata: {name: web}
spec:
  identityRef: {name: alice}
  scopes: [voip, chat]
  expiresIn: 1h30m0s
  renewBefore: 30m
  secret: {name: web-acs, labels: {team: red}}
---
apiVersion: acs-identity.dev/v1alpha1
kind: AcsRevocation
metadata: {name: leak}
spec: {names: [nobody]}
";
    assert!(world.differs(manifest).is_some(), "it is not there yet");
    let apply = ["apply", "--server-side", "-n", &world.namespace, "-f", "-"];
    let (applied, said) = world.cluster.pipe(&apply, manifest);
    assert!(applied, "{said}");
    world.ready("web").await;
    let mut former = world.live_token("web-acs", &[]).await;
    for request in ["1", "2"] {
        let annotations = json!({"acs-identity.dev/requested-at": request});
        let patch = json!({"metadata": {"annotations": annotations}});
        world.patch::<AcsToken>("web", patch).await;
        former = world.live_token("web-acs", &[&former]).await;
        assert_eq!(world.differs(manifest), None);
        let (applied, said) = world.cluster.pipe(&apply, manifest);
        assert!(applied, "{said}");
    }
    let other = manifest.replace("team: red", "team: blue");
    let said = world.differs(&other).expect("another label");
    assert!(said.contains("team: blue"), "{said}");
    let issued = world.issued().await;
    world.settled().await;
    assert_eq!(world.issued().await, issued, "applying costs no token");
}

#[tokio::test]
async fn names_that_kustomize_changes_are_changed_wherever_our_kinds_or_pods_name_them() {
    let mut world = World::bare(&[], &[]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).expect("written");
    };
    let references = fs::read_to_string(root("examples/gitops/name-references.yaml"));
    write("name-references.yaml", &references.expect("the file"));
    write(
        "kustomization.yaml",
        "namePrefix: red-\nconfigurations: [name-references.yaml]\nresources: [all.yaml]\n\
         secretGenerator: [{name: acs, files: [connectionString]}]\n",
    );
    write("connectionString", &world.emulator.connection_string);
    write(
        "all.yaml",
        "\
apiVersion: acs-identity.dev/v1alpha1
kind: AcsConnection
metadata: {name: main}
spec: {auth: {connectionString: {secretRef: {name: acs, key: connectionString}}}}
---
apiVersion: acs-identity.dev/v1alpha1
kind: AcsIdentity
metadata: {name: alice}
spec: {connectionRef: {kind: AcsConnection, name: main}}
---
apiVersion: acs-identity.dev/v1alpha1
kind: AcsToken
metadata: {name: web}
spec: {identityRef: {name: alice}, scopes: [chat], rolloutRestart: [{kind: Deployment, name: server}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  selector: {matchLabels: {app: server}}
  template: {metadata: {labels: {app: server}}, spec: {containers: [{name: app, image: app}]}}
---
apiVersion: acs-identity.dev/v1alpha1
kind: AcsRevocation
metadata: {name: leak}
spec: {names: [alice], dryRun: true}
---
apiVersion: v1
kind: Pod
metadata: {name: app}
spec:
  containers:
    - name: app
      image: app
      env: [{name: TOKEN, valueFrom: {secretKeyRef: {name: web, key: token}}}]
      envFrom: [{secretRef: {name: web}}]
  volumes:
    - {name: token, secret: {secretName: web}}
    - {name: more, projected: {sources: [{secret: {name: web}}]}}
",
    );
    let built = world
        .cluster
        .kubectl(&["kustomize", &folder.path().display().to_string()]);
    for line in built.lines() {
        let field = line.trim_start_matches([' ', '-']).split_once(": ");
        if let Some(("name" | "secretName", name)) = field {
            let is_own = ["app", "TOKEN", "token", "more"].contains(&name);
            assert!(is_own || name.starts_with("red-"), "{line} in\n{built}");
        }
    }
    // There is no node for the Pod.
    let objects = built.split("---\n").filter(|it| !it.contains("kind: Pod"));
    world.apply(&objects.collect::<Vec<_>>().join("---\n"));
    world.start_operator();
    world.ready("red-web").await;
}
