//! Restarts of workloads whose pods cannot see a new token by themselves. No workload controller
//! runs here: a restart is a changed annotation of the pod template.

use acs_identity_operator::crd::{AcsToken, NUDGED_AT, RESTARTED_AT};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, StatefulSet},
    core::v1::Pod,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::{
    eventually,
    helm::Release,
    world::{World, spec},
};

const TARGETS: &str = "scopes: [chat], rolloutRestart: [{kind: Deployment, name: web}]";

fn workload(kind: &str, name: &str, annotations: &str) -> String {
    let service = if kind == "StatefulSet" {
        "serviceName: none, "
    } else {
        ""
    };
    format!(
        "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{service}selector: {{matchLabels: {{app: {name}}}}}, \
         template: {{metadata: {{labels: {{app: {name}}}, annotations: {{{annotations}}}}}, \
         spec: {{containers: [{{name: main, image: registry.example/web}}]}}}}}}\n"
    )
}

impl World {
    /// Creates a world with an identity, whose operator restarts workloads.
    async fn with_restarts() -> Self {
        let world = Self::with(&[], &["--allow-rollout-restart"]).await;
        world.identity("alice", "");
        world
    }

    /// Returns when a Deployment was restarted, and the generation of its spec.
    async fn restarted(&self, name: &str) -> (Option<String>, Option<i64>) {
        let found = self.api::<Deployment>().get(name).await.expect("there");
        let template = found.spec.expect("a spec").template.metadata;
        let annotations = template.and_then(|template| template.annotations);
        let at = annotations.and_then(|mut all| all.remove(RESTARTED_AT));
        (at, found.metadata.generation)
    }

    async fn becomes_restarted(&self, name: &str) -> String {
        eventually(&format!("Deployment {name} is restarted"), || async {
            self.restarted(name).await.0
        })
        .await
    }

    /// Waits until the status of a token's first workload satisfies `is`.
    async fn restart_where(&self, token: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let is_so = |token: &AcsToken| json!(token.status)["rolloutRestarts"][0].clone();
        let found = self
            .token_where(what, token, |token| is(&is_so(token)))
            .await;
        is_so(&found)
    }

    async fn revoke(&self, order: &str) {
        let former = self.secret_value("web", "token").await.expect("a token");
        self.apply(&format!(
            "apiVersion: acs-identity.dev/v1alpha1\nkind: AcsRevocation\nmetadata: {{name: {order}}}\nspec: {{names: [alice]}}\n"
        ));
        self.live_token("web", &[&former]).await;
    }
}

#[tokio::test]
async fn a_workload_is_restarted_after_a_revocation_and_not_for_the_first_token_or_a_renewal() {
    let mut world = World::with_restarts().await;
    world.apply(&workload("Deployment", "web", ""));
    world.apply(&workload("Deployment", "other", ""));
    world.token("web", "alice", TARGETS);
    let first = |told: &Value| told["revision"] == 1 && told["pending"].is_null();
    world
        .restart_where("web", "tells of Deployment web", first)
        .await;
    let renew = json!({"metadata": {"annotations": {"acs-identity.dev/requested-at": "now"}}});
    world.patch::<AcsToken>("web", renew).await;
    let renewed = |token: &AcsToken| json!(token.status)["revision"] == 2;
    world.token_where("is renewed", "web", renewed).await;
    world.settled().await;
    assert_eq!(world.restarted("web").await, (None, Some(1)));

    world.revoke("leak").await;
    // The process is killed after the restart, perhaps before it is recorded.
    let at = world.becomes_restarted("web").await;
    world.kill_operator();
    world.start_operator();
    let done = |told: &Value| told["revision"] == 3 && told["pending"].is_null();
    let told = world
        .restart_where("web", "tells of the restart", done)
        .await;
    assert_eq!(told["restartedAt"], at.as_str());
    world.settled().await;
    assert_eq!(world.restarted("web").await, (Some(at), Some(2)));
    assert_eq!(world.restarted("other").await, (None, Some(1)));
    world.ready("web").await;
}

#[tokio::test]
async fn other_keys_restart_every_kind_of_workload_but_those_that_read_again_and_two_tokens_restart_once()
 {
    let world = World::with_restarts().await;
    for kind in ["Deployment", "StatefulSet", "DaemonSet"] {
        world.apply(&workload(kind, "web", ""));
    }
    world.apply(&workload(
        "Deployment",
        "reader",
        "acs-identity.dev/rereads: \"true\"",
    ));
    let targets = "scopes: [chat], rolloutRestart: [{kind: Deployment, name: web}, {kind: StatefulSet, name: web}, \
        {kind: DaemonSet, name: web}, {kind: Deployment, name: reader}]";
    for token in ["web", "second"] {
        world.token(token, "alice", targets);
    }
    for token in ["web", "second"] {
        let first = |told: &Value| told["revision"] == 1;
        world
            .restart_where(token, "tells of its workloads", first)
            .await;
        let keys = json!({"secret": {"keys": {"token": "ACS_TOKEN"}}});
        world.patch::<AcsToken>(token, spec(&keys)).await;
    }
    for token in ["web", "second"] {
        let is_done = |token: &AcsToken| {
            let told = json!(token.status)["rolloutRestarts"].clone();
            let told = told.as_array().cloned().unwrap_or_default();
            told.iter()
                .take(3)
                .all(|told| told["restartedAt"].is_string())
                && told.iter().all(|told| told["pending"].is_null())
        };
        world
            .token_where("tells of its restarts", token, is_done)
            .await;
    }
    assert_eq!(world.restarted("web").await.1, Some(2));
    assert_eq!(world.restarted("reader").await, (None, Some(1)));
    let set = world.get::<StatefulSet>("web").await;
    assert_eq!(set.metadata.generation, Some(2));
    let set = world.get::<DaemonSet>("web").await;
    assert_eq!(set.metadata.generation, Some(2));
    // On whichever token was first.
    eventually("an Event tells why", || async {
        let events = ["get", "events", "-n", &world.namespace];
        let told = world.cluster.kubectl(&events);
        told.contains("because the name or the keys of the Secret changed")
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_workload_that_is_missing_or_refused_is_told_once_and_costs_the_token_nothing() {
    let mut world = World::with_restarts().await;
    world.token("web", "alice", TARGETS);
    let first = |told: &Value| told["revision"] == 1;
    world
        .restart_where("web", "tells of Deployment web", first)
        .await;
    world.revoke("first").await;
    let missing = |told: &Value| told["revision"] == 2 && told["message"].is_string();
    let told = world
        .restart_where("web", "misses its workload", missing)
        .await;
    assert_eq!(
        told["message"],
        "Deployment web does not exist in this namespace"
    );
    let note = world.event("web", "WorkloadNotRestarted").await;
    assert!(note.contains("does not exist"), "{note}");
    // The workload is created later: no missed restart is performed.
    world.apply(&workload("Deployment", "web", ""));

    // An account without the permission.
    world.kill_operator();
    let account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: operator}\n";
    world.apply(account);
    let namespace = world.namespace.clone();
    world.cluster.kubectl(&[
        "create",
        "clusterrole",
        &namespace,
        "--verb=*",
        "--resource=secrets,namespaces,events.events.k8s.io,acsconnections.acs-identity.dev,\
         acsidentities.acs-identity.dev,acstokens.acs-identity.dev,acsrevocations.acs-identity.dev,\
         clusteracsconnections.acs-identity.dev,clusteracsrevocations.acs-identity.dev,\
         acsconnections.acs-identity.dev/status,acsidentities.acs-identity.dev/status,\
         acstokens.acs-identity.dev/status,acsrevocations.acs-identity.dev/status",
    ]);
    let subject = format!("--serviceaccount={namespace}:operator");
    let role = format!("--clusterrole={namespace}");
    world
        .cluster
        .kubectl(&["create", "clusterrolebinding", &namespace, &role, &subject]);
    world.start_operator_as("operator");
    world.revoke("second").await;
    let refused = |told: &Value| told["revision"] == 3 && told["pending"].is_null();
    let told = world
        .restart_where("web", "may not restart it", refused)
        .await;
    let message = told["message"].as_str().expect("a message");
    assert!(message.contains("is forbidden"), "{message}");
    world.ready("web").await;
    world.settled().await;
    assert_eq!(world.restarted("web").await, (None, Some(1)));
    for kind in ["clusterrolebinding", "clusterrole"] {
        world.cluster.kubectl(&["delete", kind, &namespace]);
    }
}

#[tokio::test]
async fn without_the_flag_nothing_is_restarted_and_the_token_says_what_to_switch_on() {
    let world = World::new().await;
    world.identity("alice", "");
    world.apply(&workload("Deployment", "web", ""));
    world.token("web", "alice", TARGETS);
    let note = world.event("web", "RolloutRestartDisabled").await;
    assert!(note.contains("consumers.rolloutRestart"), "{note}");
    world.revoke("leak").await;
    let off = |told: &Value| told["revision"] == 2 && told["message"].is_string();
    let told = world.restart_where("web", "restarts nothing", off).await;
    assert!(told["pending"].is_null());
    world.ready("web").await;
    assert_eq!(world.restarted("web").await, (None, Some(1)));
}

/// Returns the manifest of a pod, with the rest of its spec.
fn pod(name: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, annotations: {{note: theirs}}}}\n\
         spec: {{automountServiceAccountToken: false, {more}}}\n"
    )
}

#[tokio::test]
async fn after_a_revocation_the_pods_that_mount_the_secret_are_nudged_and_no_others() {
    let world = World::bare(&[], &[]).await;
    let home = format!("{}-operator", world.namespace);
    world.cluster.kubectl(&["create", "namespace", &home]);
    let values = json!({
        "watchNamespaces": [world.namespace], "allowInsecureEndpoints": ["127.0.0.1"],
        "logFormat": "text", "consumers": {"nudge": true},
    });
    // With exactly the permissions of the chart, and its admission policies.
    let release = Release::install(world.cluster, &world.namespace, &home, &values);
    let operator = release.start_operator();
    world.connect("default", &world.emulator.connection_string.clone());
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat]");
    world.live_token("web", &[]).await;
    let plain = "containers: [{name: main, image: web}]";
    let mounts = |volume: &str| format!("{plain}, volumes: [{{name: token, {volume}}}]");
    world.apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: default}\n");
    for (name, spec) in [
        ("folder", mounts("secret: {secretName: web}")),
        (
            "projected",
            mounts("projected: {sources: [{secret: {name: web}}]}"),
        ),
        ("another", mounts("secret: {secretName: other}")),
        (
            "environment",
            "containers: [{name: main, image: web, envFrom: [{secretRef: {name: web}}]}]"
                .to_owned(),
        ),
    ] {
        world.apply(&pod(name, &spec));
    }
    let nudged = async |name: &str| -> Option<String> {
        let pod = world.get::<Pod>(name).await;
        pod.metadata
            .annotations
            .and_then(|mut all| all.remove(NUDGED_AT))
    };
    // A renewal does not justify a restart.
    let renew = json!({"metadata": {"annotations": {"acs-identity.dev/requested-at": "now"}}});
    world.patch::<AcsToken>("web", renew).await;
    let renewed = |token: &AcsToken| json!(token.status)["revision"] == 2;
    world.token_where("is renewed", "web", renewed).await;
    world.settled().await;
    assert_eq!(nudged("folder").await, None);

    world.revoke("leak").await;
    for name in ["folder", "projected"] {
        eventually(&format!("pod {name} is nudged"), || nudged(name)).await;
    }
    world.settled().await;
    for name in ["another", "environment"] {
        assert_eq!(nudged(name).await, None, "{name}");
    }
    let (_, metrics) = operator.get("/metrics").await;
    assert!(
        metrics.contains("acs_identity_operator_pods_nudged_total 2\n"),
        "{metrics}"
    );
    assert!(!operator.process.output().contains("forbidden"));

    // With the same permission, the operator's account cannot replace an image.
    let client = release.as_operator().client().await;
    let pods: Api<Pod> = Api::namespaced(client, &world.namespace);
    let image = json!({"spec": {"containers": [{"name": "main", "image": "miner"}]}});
    let image = Patch::Strategic(image);
    let replaced = pods.patch("folder", &PatchParams::default(), &image).await;
    let said = replaced.expect_err("refused").to_string();
    assert!(said.contains("the operator may only"), "{said}");
    release.uninstall();
}

#[tokio::test]
async fn a_nudge_that_is_refused_is_told_and_costs_the_token_nothing() {
    let mut world = World::bare(&[], &["--nudge-pods"]).await;
    let namespace = world.namespace.clone();
    let home = format!("{namespace}-operator");
    world.cluster.kubectl(&["create", "namespace", &home]);
    // The chart grants no permission on pods unless that is enabled.
    let values = json!({
        "watchNamespaces": [namespace], "allowInsecureEndpoints": ["127.0.0.1"], "logFormat": "text",
    });
    let release = Release::install(world.cluster, &namespace, &home, &values);
    let nudge = ("ACS_OPERATOR_NUDGE_PODS".to_owned(), "true".to_owned());
    world.operator = Some(release.start_operator_with(&[nudge]));
    world.connect("default", &world.emulator.connection_string.clone());
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat]");
    world.live_token("web", &[]).await;
    world.revoke("leak").await;
    world.ready("web").await;
    let operator = world.operator();
    let refused = "acs_identity_operator_failures_total{kind=\"Pod\",reason=\"Forbidden\"} 1\n";
    eventually("the refusal is counted", || async {
        let (_, metrics) = operator.get("/metrics").await;
        metrics.contains(refused).then_some(())
    })
    .await;
    release.uninstall();
}

#[tokio::test]
async fn a_workload_is_named_once_and_by_a_name() {
    let world = World::bare(&[], &[]).await;
    for (targets, complaint) in [
        (
            "[{kind: Deployment, name: web}, {kind: Deployment, name: web, after: Renewal}]",
            "Duplicate value",
        ),
        ("[{kind: Job, name: web}]", "Unsupported value: \"Job\""),
        (
            "[{kind: Deployment, name: \"a/b\"}]",
            "must be a Kubernetes name",
        ),
        (
            "[{kind: Deployment, name: web, after: Sunrise}]",
            "Unsupported value: \"Sunrise\"",
        ),
    ] {
        let spec = format!("scopes: [chat], rolloutRestart: {targets}");
        let said = world.refuse(&crate::support::world::token_manifest(
            "web", "alice", &spec,
        ));
        assert!(said.contains(complaint), "{said}");
    }
}

#[tokio::test]
async fn pods_that_hold_a_former_token_are_counted_with_the_rights_of_the_chart() {
    let world = World::bare(&[], &[]).await;
    let home = format!("{}-operator", world.namespace);
    world.cluster.kubectl(&["create", "namespace", &home]);
    let values = json!({
        "watchNamespaces": [world.namespace], "allowInsecureEndpoints": ["127.0.0.1"],
        "logFormat": "text", "consumers": {"count": true},
    });
    let release = Release::install(world.cluster, &world.namespace, &home, &values);
    let mut operator = release.start_operator();
    world.connect("default", &world.emulator.connection_string.clone());
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat]");
    let web = world.ready("web").await;
    assert_eq!(
        json!(web.status)["consumers"],
        Value::Null,
        "nobody uses it"
    );
    let written_at = web.written_at().expect("written");
    world.apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: default}\n");
    let plain = "containers: [{name: main, image: web";
    let volume = "volumes: [{name: acs, secret: {secretName: web}}]";
    for (name, spec) in [
        (
            "folder",
            format!("{plain}, volumeMounts: [{{name: acs, mountPath: /a}}]}}], {volume}"),
        ),
        (
            "file",
            format!(
                "{plain}, volumeMounts: [{{name: acs, mountPath: /a, subPath: token}}]}}], {volume}"
            ),
        ),
        (
            "variables",
            format!("{plain}, envFrom: [{{secretRef: {{name: web}}}}]}}]"),
        ),
        (
            "another",
            format!("{plain}, envFrom: [{{secretRef: {{name: other}}}}]}}]"),
        ),
    ] {
        world.apply(&pod(name, &spec));
        world
            .runs_since(name, written_at + SignedDuration::from_secs(10))
            .await;
    }
    let counts = |pods: i64, fixed: i64, outdated: i64| {
        let expected = json!({"pods": pods, "fixed": fixed, "outdated": outdated});
        move |token: &AcsToken| json!(token.status)["consumers"] == expected
    };
    world
        .token_where("counts its pods", "web", counts(3, 2, 0))
        .await;

    // A new token makes both outdated that do not read the Secret again.
    let renew = json!({"metadata": {"annotations": {"acs-identity.dev/requested-at": "now"}}});
    let later = written_at + SignedDuration::from_secs(15);
    eventually("the pods have run for some seconds", || async {
        (Timestamp::now() > later).then_some(())
    })
    .await;
    world.patch::<AcsToken>("web", renew).await;
    let outdated = counts(3, 2, 2);
    world
        .token_where("counts outdated pods", "web", outdated)
        .await;

    // A restart of the operator costs no write.
    let before = world.get::<AcsToken>("web").await;
    operator.process.terminate();
    let _operator = release.start_operator();
    world.settled().await;
    let after = world.get::<AcsToken>("web").await;
    assert_eq!(
        before.metadata.resource_version,
        after.metadata.resource_version
    );

    world.delete::<Pod>("variables").await;
    let in_an_hour = Timestamp::now() + SignedDuration::from_hours(1);
    world.runs_since("file", in_an_hour).await;
    world
        .token_where("counts what is left", "web", counts(2, 1, 0))
        .await;
}
