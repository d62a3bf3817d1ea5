//! Objects that move to another cluster, and objects whose operator was removed.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use acs_identity_operator::crd::{AcsConnection, AcsIdentity, AcsToken, FINALIZER};
use kube::{ResourceExt as _, api::ListParams};
use serde_json::{Value, json};

use crate::{
    run::{acs, end, program, says},
    support::{
        helm::{chart, helm, with_image},
        kubernetes::another,
        world::{Operator, World},
    },
};

/// Creates two users, and a token of the first.
async fn settled() -> (World, String) {
    let world = World::new().await;
    world.identity("alice", "");
    world.identity("bob", "deletionPolicy: Orphan");
    world.token("web", "alice", "scopes: [chat]");
    world.identity_says("bob", "IdentityReady").await;
    let token = world.live_token("web", &[]).await;
    (world, token)
}

async fn id(world: &World, name: &str) -> String {
    let identity = world.get::<AcsIdentity>(name).await;
    let id = identity.status.and_then(|status| status.identity_id);
    id.expect("an id")
}

/// Starts the operator with a Lease, as every installation does by default.
pub fn start_leader(world: &mut World) {
    let mut command = world.operator_command(&world.cluster.kubeconfig);
    command.args(["--lease-namespace", &world.namespace]);
    command.args(["--lease-duration=6s", "--lease-renew-deadline=5s"]);
    world.operator = Some(Operator::start(&mut command));
}

#[tokio::test]
async fn objects_move_to_another_cluster_with_their_users_and_tokens() {
    let (mut old, token) = settled().await;
    let ids = [id(&old, "alice").await, id(&old, "bob").await];
    let exported = acs(&old, &["export"]);
    says(
        &exported.err,
        &[
            "AcsConnection",
            "/default needs Secret default-acs, which is not exported",
        ],
    );
    let exported = exported.fine();
    assert!(!exported.contains("status"), "{exported}");
    old.kill_operator();

    let mut new = World::bare_in(another(), &[], &[]).await;
    new.namespace.clone_from(&old.namespace);
    new.cluster
        .kubectl(&["create", "namespace", &new.namespace]);
    let secret = [
        "get",
        "secret",
        "default-acs",
        "-o",
        "yaml",
        "-n",
        &old.namespace,
    ];
    let secret = old.cluster.kubectl(&secret);
    let secret = secret
        .lines()
        .filter(|line| !line.contains("resourceVersion") && !line.contains("uid"));
    new.apply(&secret.collect::<Vec<_>>().join("\n"));
    new.start_operator();
    new.apply(&exported);
    new.ready("web").await;
    assert_eq!([id(&new, "alice").await, id(&new, "bob").await], ids);
    let moved = new.secret_value("web", "token").await.expect("a token");
    for token in [&token, &moved] {
        assert!(
            old.emulator.check(token).await.valid,
            "pods of both clusters go on"
        );
    }

    // The former cluster releases its objects, and ACS keeps everything.
    acs(&old, &["release", "--yes"]).fine();
    for object in ["acstoken/web", "acsidentity/alice", "acsidentity/bob"] {
        old.cluster
            .kubectl(&["delete", object, "-n", &old.namespace, "--timeout=10s"]);
    }
    assert_eq!(old.emulator.living().await.len(), 2);
    assert!(old.emulator.check(&moved).await.valid);
    // The new cluster deletes in ACS what the former one would have deleted.
    new.delete::<AcsIdentity>("alice").await;
    new.delete::<AcsIdentity>("bob").await;
    new.gone::<AcsIdentity>("alice").await;
    new.gone::<AcsIdentity>("bob").await;
    let living = old.emulator.living().await;
    assert_eq!(
        living.iter().map(|user| &user.id).collect::<Vec<_>>(),
        [&ids[1]]
    );
}

#[tokio::test]
async fn what_an_export_can_not_bring_along_is_told() {
    let world = World::bare(&[], &[]).await;
    world.apply("apiVersion: acs-identity.dev/v1alpha1\nkind: AcsIdentity\nmetadata: {name: early, annotations: {acs-identity.dev/requested-at: now, team: red}}\nspec: {}\n");
    world.apply("apiVersion: acs-identity.dev/v1alpha1\nkind: AcsIdentity\nmetadata: {name: late, finalizers: [example.com/hold]}\nspec: {}\n");
    world.delete::<AcsIdentity>("late").await;
    let exported = acs(&world, &["export"]);
    let namespace = &world.namespace;
    says(
        &exported.err,
        &[
            &format!("AcsIdentity {namespace}/early has no user in ACS yet"),
            &format!("AcsIdentity {namespace}/late is being deleted and is not exported"),
        ],
    );
    let expected = format!(
        "---\napiVersion: acs-identity.dev/v1alpha1\nkind: AcsIdentity\nmetadata:\n  annotations:\n    team: red\n  name: early\n  namespace: {namespace}\nspec: {{}}\n"
    );
    assert_eq!(exported.fine(), expected);
    let free = json!({"metadata": {"finalizers": []}});
    world.patch::<AcsIdentity>("late", free).await;
}

#[tokio::test]
async fn objects_are_released_only_when_no_operator_runs() {
    let (mut world, token) = settled().await;
    world.kill_operator();
    start_leader(&mut world);
    let output = acs(&world, &["release", "--yes"]).failed(9);
    says(
        &output,
        &[
            "an operator is running: the holder of Lease",
            "kubectl scale deployment",
        ],
    );
    // A killed operator does not release its Lease, which has to expire.
    world.kill_operator();
    let began = Instant::now();
    let user = id(&world, "alice").await;
    let output = acs(&world, &["release", "--dry-run"]).fine();
    assert!(
        began.elapsed() >= Duration::from_secs(6),
        "it was waited for"
    );
    let namespace = &world.namespace;
    let stays = [
        format!("AcsIdentity {namespace}/alice: user {user} remains at http://127.0.0.1"),
        format!("AcsIdentity {namespace}/bob: user 8:acs:"),
        format!("AcsToken {namespace}/web: its token is valid until 20"),
    ];
    says(&output, &stays.each_ref().map(String::as_str));
    let held = world.get::<AcsToken>("web").await;
    assert!(held.finalizers().contains(&FINALIZER.to_owned()));
    let output = acs(&world, &["release"]).failed(2);
    says(
        &output,
        &[
            "Remove the operator's finalizers from 4 objects?",
            "use --yes",
        ],
    );
    acs(&world, &["release", "--yes"]).fine();
    world.delete::<AcsIdentity>("alice").await;
    world.delete::<AcsToken>("web").await;
    world.delete::<AcsConnection>("default").await;
    let all = ListParams::default();
    let left = world.api::<AcsToken>().list(&all).await;
    assert!(left.unwrap().items.is_empty());
    let left = world.api::<AcsConnection>().list(&all).await;
    assert!(left.unwrap().items.is_empty());
    assert!(
        world.emulator.check(&token).await.valid,
        "nothing was revoked"
    );
    assert_eq!(
        acs(&world, &["release", "--yes"]).fine(),
        "",
        "bob is free too"
    );
}

#[tokio::test]
async fn an_operator_without_a_lease_is_found_by_its_pod() {
    let world = World::bare(&[], &[]).await;
    let pod = |watched: &str| {
        world.apply(&format!(
            "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: operator}}\n---\n\
             apiVersion: v1\nkind: Pod\nmetadata: {{name: operator, labels: {{app.kubernetes.io/name: acs-identity-operator}}}}\n\
             spec: {{serviceAccountName: operator, containers: [{{name: operator, image: operator, args: [--no-leader-elect, --watch-namespace={watched}]}}]}}\n"
        ));
    };
    pod("other");
    acs(&world, &["release", "--yes"]).fine();
    let delete = ["delete", "pod", "operator", "--now", "-n", &world.namespace];
    world.cluster.kubectl(&delete);
    pod(&world.namespace);
    let output = acs(&world, &["release", "--yes"]).failed(9);
    says(&output, &["an operator is running: pod", "/operator"]);
}

/// One release has the operator and its objects: Helm removes the operator, and the objects stay.
#[tokio::test]
async fn a_release_of_operator_and_objects_leaves_objects_that_a_command_lets_go() {
    let cluster = another();
    let mut world = World::bare_in(cluster, &[], &[]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::create_dir_all(path("templates")).expect("made");
    fs::create_dir_all(path("charts")).expect("made");
    let copied = Command::new("cp")
        .args(["-r", &chart(), &path("charts")])
        .status();
    assert!(copied.expect("cp runs").success());
    fs::write(
        path("Chart.yaml"),
        "{apiVersion: v2, name: all, version: 0.1.0}",
    )
    .expect("written");
    let connection_string = &world.emulator.connection_string;
    fs::write(
        path("templates/objects.yaml"),
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: acs}}\nstringData: {{connectionString: \"{connection_string}\"}}\n\
             ---\napiVersion: acs-identity.dev/v1alpha1\nkind: AcsConnection\nmetadata: {{name: default}}\n\
             spec: {{auth: {{connectionString: {{secretRef: {{name: acs, key: connectionString}}}}}}}}\n\
             ---\napiVersion: acs-identity.dev/v1alpha1\nkind: AcsIdentity\nmetadata: {{name: alice}}\nspec: {{}}\n\
             ---\napiVersion: acs-identity.dev/v1alpha1\nkind: AcsToken\nmetadata: {{name: web}}\n\
             spec: {{identityRef: {{name: alice}}, scopes: [chat]}}\n"
        ),
    )
    .expect("written");
    let namespace = world.namespace.clone();
    let root = folder.path().display().to_string();
    let mut values = with_image(&json!({
        "crds": {"enabled": false},
        // The operator runs as the admin in this test; other accounts must not write the status.
        "admissionPolicies": {"status": false},
    }));
    values = json!({"acs-identity-operator": values});
    let install = ["install", "all", &root, "--namespace", &namespace];
    helm(Some(cluster), &install, &values).expect("installed");
    start_leader(&mut world);
    world.ready("web").await;
    // Its Deployment is deleted with everything else.
    world.kill_operator();
    let uninstall = ["uninstall", "all", "--namespace", &namespace];
    helm(Some(cluster), &uninstall, &Value::Null).expect("uninstalled");
    let identity = world.get::<AcsIdentity>("alice").await;
    assert!(identity.metadata.deletion_timestamp.is_some(), "it hangs");
    let mut command = program(&cluster.kubeconfig);
    let output = end(command.args(["release", "-A", "--yes"])).fine();
    says(&output, &["AcsIdentity", "/alice: user 8:acs:"]);
    world.gone::<AcsIdentity>("alice").await;
    world.gone::<AcsToken>("web").await;
    world.gone::<AcsConnection>("default").await;
    assert_eq!(world.emulator.living().await.len(), 1, "and the user stays");
}
