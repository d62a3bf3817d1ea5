//! Attacks with the operator's own permissions, with a permission on status, or by a reference to a
//! connection. Each succeeds without the chart's admission policy and is rejected with it.

use serde_json::{Value, json};

use crate::support::{
    eventually,
    helm::{Release, with_defaults},
    kubernetes::{Cluster, root},
    world::World,
};

/// `ServiceAccount` whose token is worth stealing, and a foreign Secret.
const VICTIMS: &str = "apiVersion: v1
kind: ServiceAccount
metadata: {name: boss}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: boss}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: boss}]
---
apiVersion: v1
kind: Secret
metadata: {name: database}
stringData: {password: hunter2}
";

/// Returns a Secret that the control plane fills with a token of `boss`, with additional metadata.
fn token_secret(more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/service-account-token\n\
         metadata: {{name: stolen, annotations: {{kubernetes.io/service-account.name: boss}}{more}}}\n"
    )
}

/// Labels and annotations of a Secret that the operator writes.
const MARKS: &str = "labels: {app.kubernetes.io/managed-by: acs-identity-operator, acs-identity.dev/token-uid: u}, \
    ownerReferences: [{apiVersion: acs-identity.dev/v1alpha1, kind: AcsToken, name: web, uid: u, controller: true}]";

/// Creates a world with victims, and a namespace for a release.
async fn world() -> World {
    let world = World::bare(&[], &[]).await;
    world.apply(VICTIMS);
    let home = home(&world);
    world.cluster.kubectl(&["create", "namespace", &home]);
    world
}

fn home(world: &World) -> String {
    format!("{}-operator", world.namespace)
}

/// Installs a release that watches the namespace of `world`, with no admission policies except
/// `more`.
fn release<'a>(world: &'a World, home: &'a str, more: &Value) -> Release<'a> {
    let values = json!({
        "watchNamespaces": [world.namespace],
        "logFormat": "text",
        "admissionPolicies": {"ownSecrets": false, "ownTokens": false, "status": false},
    });
    let values = with_defaults(more, &values);
    Release::install(world.cluster, &world.namespace, home, &values)
}

/// Sends a manifest as a server-side dry run: admission runs, and nothing is stored.
fn try_out(account: &Cluster, namespace: &str, verb: &str, manifest: &str) -> (bool, String) {
    let arguments = [verb, "--dry-run=server", "-n", namespace, "-f", "-"];
    account.pipe(&arguments, manifest)
}

/// Waits until the API server rejects an attempt; returns its message.
async fn refused(attack: &str, attempt: impl Fn() -> (bool, String)) -> String {
    eventually(&format!("{attack} is refused"), || async {
        let (taken, said) = attempt();
        (!taken).then_some(said)
    })
    .await
}

#[tokio::test]
async fn the_operators_account_gets_nobodys_token_and_no_foreign_secret_by_its_right_on_secrets() {
    let world = world().await;
    let home = home(&world);
    let release = release(&world, &home, &json!({}));
    let operator = release.as_operator();
    let namespace = world.namespace.as_str();

    // With two calls, the operator's account becomes admin of the namespace.
    let create = ["create", "-n", namespace, "-f", "-"];
    let (is_created, said) = operator.pipe(&create, &token_secret(""));
    assert!(is_created, "{said}");
    let stolen = eventually("the token of boss", || async {
        world.secret_value("stolen", "token").await
    })
    .await;
    let may = |credential: &[&str]| {
        let question = ["auth", "can-i", "create", "pods", "-n", namespace];
        operator.pipe(&[&question[..], credential].concat(), "").0
    };
    assert!(!may(&[]), "the operator itself may not");
    assert!(may(&[&format!("--token={stolen}")]));
    let change =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: database}\nstringData: {password: mine}\n";
    let replaced = try_out(&operator, namespace, "replace", change);
    assert!(replaced.0, "{}", replaced.1);
    let delete = ["delete", "--dry-run=server", "-n", namespace, "secret"];
    let delete = |name: &str| operator.pipe(&[&delete[..], &[name]].concat(), "");
    assert!(delete("database").0);

    release.upgrade(&json!({"admissionPolicies": {"ownSecrets": true}}));
    world
        .cluster
        .kubectl(&["delete", "secret", "stolen", "-n", namespace]);
    let said = refused("the token of boss", || {
        try_out(&operator, namespace, "create", &token_secret(""))
    })
    .await;
    assert!(said.contains("of type Opaque"), "{said}");
    let marked = token_secret(&format!(", {MARKS}"));
    let (taken, said) = try_out(&operator, namespace, "create", &marked);
    assert!(!taken && said.contains("of type Opaque"), "{said}");
    let opaque = |more: &str| {
        let metadata = format!("metadata: {{name: own{more}}}");
        let secret =
            format!("apiVersion: v1\nkind: Secret\n{metadata}\nstringData: {{token: t}}\n");
        try_out(&operator, namespace, "create", &secret)
    };
    let (taken, said) = opaque("");
    assert!(
        !taken && said.contains("controlled by an AcsToken"),
        "{said}"
    );
    let (taken, said) = opaque(&format!(", {MARKS}"));
    assert!(taken, "{said}");
    // The operator's account must not take over a foreign Secret by writing its labels and
    // annotations to it.
    let adopt = change.replace("{name: database}", &format!("{{name: database, {MARKS}}}"));
    let (taken, said) = try_out(&operator, namespace, "replace", &adopt);
    assert!(
        !taken && said.contains("does not belong to an AcsToken"),
        "{said}"
    );
    let (taken, said) = delete("database");
    assert!(
        !taken && said.contains("does not belong to an AcsToken"),
        "{said}"
    );
    // Other users are not restricted.
    let (taken, said) = try_out(world.cluster, namespace, "replace", change);
    assert!(taken, "{said}");
    release.uninstall();
}

#[tokio::test]
async fn the_operators_account_gets_no_token_that_the_api_server_would_take() {
    let world = world().await;
    let home = home(&world);
    let account = json!({"namespace": world.namespace, "name": "boss"});
    let release = release(&world, &home, &json!({"serviceAccountTokens": [account]}));
    let operator = release.as_operator();
    let create = |more: &[&str]| {
        let create = ["create", "token", "boss", "-n", &world.namespace];
        operator.pipe(&[&create[..], more].concat(), "")
    };
    let audience = "--audience=api://AzureADTokenExchange";
    assert!(create(&[]).0);
    assert!(create(&[audience, "--duration=1h"]).0);

    release.upgrade(&json!({"admissionPolicies": {"ownTokens": true}}));
    let said = refused("a token for the API server", || create(&["--duration=10m"])).await;
    assert!(
        said.contains("for the audience api://AzureADTokenExchange"),
        "{said}"
    );
    let both = ["--audience=https://kubernetes.default.svc", audience];
    assert!(!create(&[&both[..], &["--duration=10m"]].concat()).0);
    let (taken, said) = create(&[audience, "--duration=1h"]);
    assert!(
        !taken && said.contains("a lifetime of at most 10 minutes"),
        "{said}"
    );
    let (taken, said) = create(&[audience, "--duration=10m"]);
    assert!(taken, "{said}");
    release.uninstall();
}

#[tokio::test]
async fn the_operators_account_runs_nothing_in_a_workload_that_it_may_restart() {
    let world = world().await;
    world.apply(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {selector: {matchLabels: {app: web}}, template: \
         {metadata: {labels: {app: web}, annotations: {note: theirs}}, spec: {containers: [{name: main, image: web}]}}}\n",
    );
    let home = home(&world);
    let values =
        json!({"consumers": {"rolloutRestart": true}, "admissionPolicies": {"ownRestarts": false}});
    let release = release(&world, &home, &values);
    let operator = release.as_operator();
    let patch = |change: &Value| {
        let change = change.to_string();
        let target = ["patch", "deployment/web", "-n", &world.namespace];
        let how = ["--dry-run=server", "--type=merge", "--patch", &change];
        operator.pipe(&[&target[..], &how].concat(), "")
    };
    let template = |change: Value| json!({"spec": {"template": change}});
    let image = json!([{"name": "main", "image": "registry.example/miner"}]);
    let attacks = [
        template(json!({"spec": {"containers": image}})),
        template(json!({"spec": {"serviceAccountName": "boss"}})),
        template(json!({"metadata": {"annotations": {"sidecar.istio.io/inject": "false"}}})),
        template(json!({"metadata": {"annotations": {"note": null}}})),
        template(json!({"metadata": {"labels": {"inject": "vault"}}})),
        json!({"spec": {"replicas": 0}}),
        json!({"metadata": {"labels": {"team": "red"}}}),
    ];
    for attack in &attacks {
        let (taken, said) = patch(attack);
        assert!(taken, "{said}");
    }

    release.upgrade(&json!({"admissionPolicies": {"ownRestarts": true}}));
    for attack in &attacks {
        let said = refused(&attack.to_string(), || patch(attack)).await;
        assert!(said.contains("the operator may only"), "{said}");
    }
    let restart = json!({"metadata": {"annotations": {"acs-identity.dev/restarted-at": "now"}}});
    let (taken, said) = patch(&template(restart));
    assert!(taken, "{said}");
    release.uninstall();
}

#[tokio::test]
async fn a_user_with_every_right_on_our_group_writes_no_status() {
    let world = world().await;
    let home = home(&world);
    world.apply(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: tenant}\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: tenant}\n\
         rules: [{apiGroups: [acs-identity.dev], resources: [\"*\"], verbs: [\"*\"]}]\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: tenant}\n\
         roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: tenant}\n\
         subjects: [{kind: ServiceAccount, name: tenant}]\n",
    );
    let release = release(&world, &home, &json!({}));
    let tenant = world.cluster.as_account(&world.namespace, "tenant");
    world.identity("alice", "");
    let claim = |account: &Cluster| {
        let status = json!({"status": {"identityId": "8:acs:of-somebody-else"}}).to_string();
        let patch = ["patch", "acsidentity", "alice", "-n", &world.namespace];
        let how = [
            "--dry-run=server",
            "--subresource=status",
            "--type=merge",
            "-p",
            &status,
        ];
        account.pipe(&[&patch[..], &how[..]].concat(), "")
    };
    let (taken, said) = claim(&tenant);
    assert!(taken, "{said}");

    release.upgrade(&json!({"admissionPolicies": {"status": true}}));
    let said = refused("a status of the tenant", || claim(&tenant)).await;
    assert!(said.contains("admissionPolicies.statusWriters"), "{said}");
    assert!(said.contains(&release.user()), "{said}");
    assert!(!claim(world.cluster).0, "not even an administrator does");
    // The operator can, with its permission to `update`.
    let mut operator = release.start_operator();
    let says = world.identity_says("alice", "ConnectionNotFound").await;
    assert!(says.contains("default"), "{says}");
    operator.process.terminate();

    let tenants = format!("system:serviceaccount:{}:tenant", world.namespace);
    release.upgrade(&json!({"admissionPolicies": {"statusWriters": [tenants]}}));
    eventually("a status writer is let through", || async {
        claim(&tenant).0.then_some(())
    })
    .await;
    release.uninstall();
}

#[tokio::test]
async fn a_tenant_uses_only_the_connections_that_rbac_lets_it_use() {
    let world = world().await;
    let home = home(&world);
    world.apply(super::RIGHTS);
    let release = release(&world, &home, &json!({}));
    let namespace = world.namespace.as_str();
    let mallory = world.cluster.as_account(namespace, "mallory");
    let identity = |name: &str, kind: &str| {
        let connection = if kind.is_empty() {
            String::new()
        } else {
            format!("connectionRef: {{kind: {kind}, name: main}}")
        };
        format!(
            "apiVersion: acs-identity.dev/v1alpha1\nkind: AcsIdentity\nmetadata: {{name: {name}}}\nspec: {{{connection}}}\n"
        )
    };
    let create = |kind: &str| try_out(&mallory, namespace, "create", &identity("new", kind));
    for kind in ["AcsConnection", "ClusterAcsConnection", ""] {
        let (taken, said) = create(kind);
        assert!(taken, "{kind}: {said}");
    }
    let (taken, said) = mallory.try_apply(namespace, &identity("old", "AcsConnection"));
    assert!(taken, "{said}");

    release.upgrade(&json!({"admissionPolicies": {"useConnection": true}}));
    let said = refused("a connection", || create("AcsConnection")).await;
    assert!(said.contains("may not use AcsConnection main"), "{said}");
    let (taken, said) = create("ClusterAcsConnection");
    assert!(
        !taken && said.contains("ClusterAcsConnection main"),
        "{said}"
    );
    let (taken, said) = create("");
    assert!(!taken && said.contains("set connectionRef"), "{said}");
    let label = ["label", "acsidentity", "old", "-n", namespace, "a=b"];
    let (taken, said) = mallory.pipe(&label, "");
    assert!(taken, "an existing reference stays: {said}");
    let other = identity("old", "ClusterAcsConnection");
    assert!(!mallory.try_apply(namespace, &other).0);

    // The example of the page, for the group of the namespace's accounts.
    let page = std::fs::read_to_string(root("docs/security.md")).expect("the page");
    let example = page.split("```yaml\n").nth(1).expect("an example");
    let example = example.split("```").next().expect("its end");
    let group = format!("'system:serviceaccounts:{namespace}'");
    let example = example.replace("team-a-developers", &group);
    world.apply(&example.replace("namespace: team-a", &format!("namespace: {namespace}")));
    eventually("the connection may be used", || async {
        create("AcsConnection").0.then_some(())
    })
    .await;
    assert!(!create("ClusterAcsConnection").0);
    release.uninstall();
}
