//! Permissions that the chart gives the operator: they suffice, none is unnecessary, and they
//! follow the watched namespaces (K1).

use std::collections::BTreeSet;

use acs_identity_operator::crd::{AcsIdentity, AcsToken, ClusterAcsConnection};
use k8s_openapi::api::{
    core::v1::{Namespace, Secret},
    rbac::v1::RoleBinding,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};

use crate::support::{
    eventually,
    helm::{Release, objects, template},
    world::{World, spec},
};

/// Permission that is granted, or was used: the namespace (`None` for all, or for cluster-scoped
/// resources), the resource, and the verb.
type Right = (Option<String>, String, String);

/// Returns the permissions that the roles in a manifest give to the operator: those that a binding
/// refers to.
fn granted(objects: &[Value]) -> BTreeSet<Right> {
    let references = objects.iter().map(|object| &object["roleRef"]["name"]);
    let bound: Vec<_> = references.filter(|name| !name.is_null()).collect();
    let texts = |value: &Value| -> Vec<String> {
        let texts = value.as_array().into_iter().flatten();
        texts
            .map(|text| text.as_str().expect("text").to_owned())
            .collect()
    };
    let mut rights = BTreeSet::new();
    for role in objects {
        if !bound.contains(&&role["metadata"]["name"]) {
            continue;
        }
        let namespace = match role["kind"].as_str() {
            Some("Role") => role["metadata"]["namespace"].as_str(),
            Some("ClusterRole") => None,
            _ => continue,
        };
        for rule in role["rules"].as_array().expect("rules") {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        let mut names = texts(&rule["resourceNames"]);
                        if names.is_empty() {
                            names.push(String::new());
                        }
                        for name in names {
                            let what = resource_text(&group, &resource, &name);
                            rights.insert((namespace.map(Into::into), what, verb.clone()));
                        }
                    }
                }
            }
        }
    }
    rights
}

fn resource_text(group: &str, resource: &str, name: &str) -> String {
    let dot = if group.is_empty() { "" } else { "." };
    let space = if name.is_empty() { "" } else { " " };
    format!("{resource}{dot}{group}{space}{name}")
}

fn text_of(value: &Value) -> &str {
    value.as_str().expect("text")
}

/// Returns an account's requests to the API server: the allowed ones, and the forbidden ones.
fn asked(world: &World, account: &str) -> (BTreeSet<Right>, Vec<Value>) {
    let mut rights = BTreeSet::new();
    let mut denied = Vec::new();
    for event in world.cluster.audited(account) {
        if event["annotations"]["authorization.k8s.io/decision"] != "allow" {
            denied.push(event);
            continue;
        }
        let object = &event["objectRef"];
        if object.is_null() {
            // Every account may request the version, by a default role of Kubernetes.
            assert_eq!(event["requestURI"], "/version");
            continue;
        }
        let text = |key: &str| object[key].as_str().unwrap_or_default();
        let mut resource = text("resource").to_owned();
        if !text("subresource").is_empty() {
            resource = format!("{resource}/{}", text("subresource"));
        }
        // Only these are granted by name.
        let is_named = resource == "namespaces"
            || resource == "leases" && ["get", "update"].contains(&text_of(&event["verb"]));
        let name = if is_named { text("name") } else { "" };
        let namespace = object["namespace"].as_str().map(Into::into);
        let what = resource_text(text("apiGroup"), &resource, name);
        let verb = event["verb"].as_str().expect("a verb");
        rights.insert((namespace, what, verb.to_owned()));
    }
    (rights, denied)
}

/// Creates revocations, namespaced and cluster-scoped; returns the new token of the Secret that
/// held `former`.
async fn break_the_glass(world: &World, former: &str) -> String {
    let namespace = &world.namespace;
    let bot = world.live_token("bot", &[]).await;
    world.apply(&format!(
        "apiVersion: acs-identity.dev/v1alpha1\nkind: AcsRevocation\nmetadata: {{name: order}}\nspec: {{names: [alice]}}\n---\n\
         apiVersion: acs-identity.dev/v1alpha1\nkind: ClusterAcsRevocation\nmetadata: {{name: {namespace}}}\n\
         spec: {{connection: {{kind: ClusterAcsConnection, name: {namespace}}}}}\n"
    ));
    for (order, revoked) in [("acsrev/order", former), ("cacsrev/NAME", bot.as_str())] {
        let order = order.replace("NAME", namespace);
        let ready = [
            "wait",
            "--for=condition=Ready",
            "--timeout=60s",
            "-n",
            namespace,
            &order,
        ];
        world.cluster.kubectl(&ready);
        assert!(!world.emulator.check(revoked).await.valid, "{order}");
    }
    let web = world.live_token("web", &[former]).await;
    world.live_token("bot", &[&bot]).await;
    world.cluster.kubectl(&["delete", "cacsrev", namespace]);
    web
}

/// Creates a workload of each kind that an `AcsToken` may restart.
fn workloads(world: &World) {
    for (kind, service) in [
        ("Deployment", ""),
        ("StatefulSet", "serviceName: none, "),
        ("DaemonSet", ""),
    ] {
        world.apply(&format!(
            "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: web}}\nspec: {{{service}selector: {{matchLabels: {{app: web}}}}, \
             template: {{metadata: {{labels: {{app: web}}}}, spec: {{containers: [{{name: main, image: web}}]}}}}}}\n"
        ));
    }
}

async fn are_restarted(world: &World) {
    let namespace = &world.namespace;
    for workload in ["deployment/web", "statefulset/web", "daemonset/web"] {
        let path = "jsonpath={.spec.template.metadata.annotations.acs-identity\\.dev/restarted-at}";
        let get = ["get", workload, "-n", namespace, "-o", path];
        eventually(&format!("{workload} is restarted"), || async {
            (!world.cluster.kubectl(&get).is_empty()).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn the_main_job_needs_every_right_that_the_chart_gives_and_no_other() {
    let mut world = World::bare(&[], &[]).await;
    let namespace = world.namespace.clone();
    // Before the Leases of other tests: the first release writes the status of
    // ClusterAcsConnections.
    let home = format!("a-{namespace}-operator");
    world.cluster.kubectl(&["create", "namespace", &home]);
    let values = json!({
        "watchNamespaces": [namespace],
        "allowInsecureEndpoints": ["127.0.0.1"],
        "consumers": {"rolloutRestart": true},
        "logFormat": "text",
    });
    let release = Release::install(world.cluster, &namespace, &home, &values);
    world.operator = Some(release.start_operator());

    // A connection of the namespace, and one of the cluster.
    let text = world.emulator.connection_string.clone();
    world.connect("default", &text);
    world.cluster.apply(
        &home,
        &format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: acs}}\nstringData: {{text: \"{text}\"}}\n"),
    );
    world.apply(&format!(
        "apiVersion: acs-identity.dev/v1alpha1\nkind: ClusterAcsConnection\nmetadata: {{name: {namespace}}}\n\
         spec: {{auth: {{connectionString: {{secretRef: {{name: acs, key: text}}}}}}, \
         policy: {{namespaces: {{names: [{namespace}]}}}}}}\n"
    ));
    world.identity("alice", "");
    world.identity(
        "bob",
        &format!("connectionRef: {{kind: ClusterAcsConnection, name: {namespace}}}"),
    );
    workloads(&world);
    world.token(
        "web",
        "alice",
        "scopes: [chat, voip, chat.join], rolloutRestart: [{kind: Deployment, name: web}, \
         {kind: StatefulSet, name: web}, {kind: DaemonSet, name: web}]",
    );
    world.token("bot", "bob", "scopes: [chat]");
    world.ready("bot").await;
    world.ready("web").await;
    let mut tokens = vec![world.live_token("web", &[]).await];

    // Its Secret: deleted, and edited.
    world.delete::<Secret>("web").await;
    tokens.push(world.live_token("web", &[&tokens[0]]).await);
    let edit = json!({"stringData": {"token": "edited"}});
    world.patch::<Secret>("web", edit).await;
    tokens.push(world.live_token("web", &[&tokens[0], &tokens[1]]).await);

    // Two revocations of one identity: an Event repeats.
    for scopes in [json!(["chat", "voip"]), json!(["chat"])] {
        let former = tokens.last().expect("one").clone();
        world
            .patch::<AcsToken>("web", spec(&json!({"scopes": scopes})))
            .await;
        world.ready("web").await;
        assert!(!world.emulator.check(&former).await.valid);
        tokens.push(world.live_token("web", &[&former]).await);
    }
    let former = tokens.last().expect("one").clone();
    tokens.push(break_the_glass(&world, &former).await);
    are_restarted(&world).await;
    // An identity is deleted, and one was deleted while the operator did not run.
    world.delete::<AcsIdentity>("bob").await;
    world.gone::<AcsIdentity>("bob").await;
    world.gone::<Secret>("bot").await;
    world.operator().process.terminate();
    let no_finalizers = json!({"metadata": {"finalizers": null}});
    world.patch::<AcsIdentity>("alice", no_finalizers).await;
    world.delete::<AcsIdentity>("alice").await;
    let log = world.operator().process.output();
    world.operator = Some(release.start_operator());
    world.gone::<Secret>("web").await;
    let connections: Api<ClusterAcsConnection> = Api::all(world.client.clone());
    connections
        .delete(&namespace, &DeleteParams::default())
        .await
        .expect("a deletion");
    eventually("the ClusterAcsConnection is gone", || async {
        let found = connections.get_opt(&namespace).await.expect("readable");
        found.is_none().then_some(())
    })
    .await;

    let log = log + &world.operator().process.output();
    assert!(!log.contains("forbidden"), "{log}");
    assert_eq!(world.operator().get("/readyz").await.0, 200);
    let (used, denied) = asked(&world, &release.user());
    assert_eq!(denied, Vec::<Value>::new());
    let mut granted = granted(&release.objects);
    // The next test is about those.
    granted.retain(|(namespace, ..)| namespace.as_deref() != Some("default"));
    let used = used.into_iter().map(|(namespace, what, verb)| {
        let everywhere = (None, what, verb);
        if granted.contains(&everywhere) {
            everywhere
        } else {
            (namespace, everywhere.1, everywhere.2)
        }
    });
    let mut used: BTreeSet<_> = used.collect();
    used.retain(|(namespace, ..)| namespace.as_deref() != Some("default"));
    let unused: Vec<_> = granted.difference(&used).collect();
    assert!(unused.is_empty(), "rights that nothing needs: {unused:?}");
    assert_eq!(used, granted);

    release.uninstall();
}

/// The Role of the operator in a namespace is deleted first when the namespace is.
#[tokio::test]
async fn a_watched_namespace_can_be_deleted_while_the_operator_runs_and_while_it_does_not() {
    let mut world = World::bare(&[], &[]).await;
    let namespace = world.namespace.clone();
    let (other, home) = (
        format!("{namespace}-other"),
        format!("{namespace}-operator"),
    );
    world.cluster.kubectl(&["create", "namespace", &other]);
    world.cluster.kubectl(&["create", "namespace", &home]);
    let values = json!({
        "watchNamespaces": [namespace, other],
        "allowInsecureEndpoints": ["127.0.0.1"],
        "logFormat": "text",
    });
    let release = Release::install(world.cluster, &namespace, &home, &values);
    world.operator = Some(release.start_operator());
    world.connect("default", &world.emulator.connection_string.clone());
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat]");
    world.ready("web").await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let delete = async |name: &str| {
        let deletion = namespaces.delete(name, &DeleteParams::default()).await;
        deletion.expect("a deletion");
    };
    let gone = async |name: &str| {
        eventually(&format!("namespace {name} is gone"), || async {
            let found = namespaces.get_opt(name).await.expect("readable");
            found.is_none().then_some(())
        })
        .await;
    };
    delete(&namespace).await;
    gone(&namespace).await;
    assert!(world.emulator.living().await.is_empty());

    world.namespace.clone_from(&other);
    world.connect("default", &world.emulator.connection_string.clone());
    world.identity("bob", "");
    world.identity("carol", "");
    world.token("bot", "bob", "scopes: [chat]");
    world.ready("bot").await;
    world.identity_says("carol", "IdentityReady").await;
    world.kill_operator();
    // Without a cached credential, what is left behind in ACS can only be reported.
    world.delete::<Secret>("default-acs").await;
    delete(&other).await;
    let bindings: Api<RoleBinding> = world.api();
    eventually("the Role is gone", || async {
        let left = bindings.list(&ListParams::default()).await;
        left.expect("readable").items.is_empty().then_some(())
    })
    .await;
    world.operator = Some(release.start_operator());
    gone(&other).await;
    let in_default = |rights: BTreeSet<Right>| -> BTreeSet<Right> {
        let rights = rights.into_iter();
        rights
            .filter(|(namespace, ..)| namespace.as_deref() == Some("default"))
            .collect()
    };
    let mut used = in_default(asked(&world, &release.user()).0);
    let mut expected = in_default(granted(&release.objects));
    // For repeated Events: those of other tests' objects may occur.
    let count = (
        Some("default".to_owned()),
        "events.events.k8s.io".to_owned(),
        "patch".to_owned(),
    );
    assert!(expected.remove(&count));
    used.remove(&count);
    assert_eq!(used, expected);
    release.uninstall();
}

#[test]
fn no_right_is_a_wildcard_and_secrets_elsewhere_are_not_even_read() {
    let rights = |values: Value| granted(&objects(&template("home", &values).expect("rendered")));
    let listed = rights(json!({"watchNamespaces": ["a", "b"]}));
    let mut all = rights(json!({}));
    for (namespace, what, verb) in listed.iter().chain(&all) {
        assert!(
            !what.contains('*') && !verb.contains('*'),
            "{namespace:?} {what} {verb}"
        );
    }
    let of_apps =
        |rights: &BTreeSet<Right>| rights.iter().any(|(_, what, _)| what.contains(".apps"));
    assert!(
        !of_apps(&listed) && !of_apps(&all),
        "nobody has switched that on"
    );
    let of_secrets = |namespace: Option<&str>| -> Vec<_> {
        let rights = listed.iter().filter(|(place, what, _)| {
            place.as_deref() == namespace && what.starts_with("secrets")
        });
        rights.map(|(_, _, verb)| verb.as_str()).collect()
    };
    assert_eq!(of_secrets(None), [""; 0]);
    assert_eq!(of_secrets(Some("home")), ["get", "list", "watch"]);
    assert_eq!(of_secrets(Some("default")), [""; 0]);
    for watched in ["a", "b"] {
        let every = ["create", "delete", "get", "list", "update", "watch"];
        assert_eq!(of_secrets(Some(watched)), every);
    }
    // The Lease is in the release's namespace, regardless of the watched ones.
    let is_of_lease = |(namespace, what, _): &Right| {
        namespace.as_deref() == Some("home") && what.starts_with("leases")
    };
    let of_lease = |rights: &BTreeSet<Right>| -> Vec<_> {
        let rights = rights.iter().filter(|right| is_of_lease(right));
        rights
            .map(|(_, what, verb)| format!("{verb} {what}"))
            .collect()
    };
    let lease = "leases.coordination.k8s.io story-acs-identity-operator";
    let expected = [
        "create leases.coordination.k8s.io".to_owned(),
        format!("get {lease}"),
        format!("update {lease}"),
    ];
    assert_eq!(of_lease(&listed), expected);
    assert_eq!(of_lease(&all), expected);
    all.retain(|right| !is_of_lease(right));
    // Watching all namespaces requires the same permissions, cluster-wide.
    let listed = listed.into_iter().filter(|right| !is_of_lease(right));
    let everywhere = listed.map(|(_, what, verb)| {
        let what = what.split(' ').next().expect("a resource").to_owned();
        (None, what, verb)
    });
    assert_eq!(all, everywhere.collect());
}
