//! Errors: each has a message that says what to do, and its own exit code.

use std::fs;

use crate::{
    run::{acs, end, program, says},
    support::{kubernetes, world::World},
};

#[test]
fn no_cluster_is_configured() {
    let error = end(program("/nonexistent".as_ref()).arg("status")).failed(7);
    says(
        &error,
        &[
            "kubectl acs: no cluster is configured: ",
            "/nonexistent",
            "set KUBECONFIG or --kubeconfig FILE",
        ],
    );
}

#[tokio::test]
async fn a_context_that_is_not_there() {
    let world = World::bare(&[], &[]).await;
    let error = acs(&world, &["status", "--context", "production"]).failed(7);
    says(&error, &["no cluster is configured: ", "production"]);
}

#[tokio::test]
async fn nobody_answers() {
    let world = World::bare(&[], &[]).await;
    // A port on which nothing listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let text = fs::read_to_string(&world.cluster.kubeconfig).unwrap();
    let server = text.split("server: ").nth(1).unwrap();
    let server = server.split([',', '}', '\n']).next().unwrap().trim();
    let nobody = format!("https://127.0.0.1:{port}");
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text.replace(server, &nobody)).unwrap();
    for command in [
        vec!["status"],
        vec!["create", "alice"],
        vec!["inspect", "web"],
    ] {
        let error = end(program(file.path()).args(&command)).failed(7);
        says(
            &error,
            &[
                "cannot reach the API server ",
                &nobody,
                "check that this is the right cluster (--context) and that it is running",
            ],
        );
    }
}

#[tokio::test]
async fn a_user_whom_the_api_server_does_not_know() {
    let world = World::bare(&[], &[]).await;
    let text = fs::read_to_string(&world.cluster.kubeconfig).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(
        file.path(),
        text.replace("{token: admin}", "{token: stale}"),
    )
    .unwrap();
    let error = end(program(file.path()).arg("status")).failed(6);
    says(
        &error,
        &[
            "the API server rejected your credentials; log in again and check with `kubectl auth \
         whoami`",
        ],
    );
}

#[tokio::test]
async fn a_user_without_rights() {
    let world = World::bare(&[], &[]).await;
    world.apply("{apiVersion: v1, kind: ServiceAccount, metadata: {name: nobody}}");
    let kubeconfig = world.cluster.kubeconfig_of(&world.namespace, "nobody");
    let run = |arguments: &[&str]| {
        end(program(&kubeconfig)
            .args(arguments)
            .args(["-n", &world.namespace]))
    };
    for (arguments, verb) in [
        (vec!["status"], "list"),
        (vec!["create", "alice"], "create AcsIdentity"),
        (vec!["issue", "--scope", "chat"], "create AcsIdentity"),
        (vec!["delete", "alice", "--yes"], "read AcsIdentity"),
        (
            vec!["revoke", "-l", "a=b", "--yes"],
            "list the AcsIdentities",
        ),
        (vec!["inspect", "web"], "read AcsToken"),
    ] {
        let error = run(&arguments).failed(6);
        says(
            &error,
            &[
                &format!("kubectl acs: you are not allowed to {verb}"),
                "ask an administrator for the permissions in docs/kubectl-acs.md",
            ],
        );
    }
}

#[tokio::test]
async fn a_namespace_that_is_not_there() {
    let world = World::bare(&[], &[]).await;
    let mut command = program(&world.cluster.kubeconfig);
    let error = end(command.args(["create", "alice", "-n", "no-such-namespace"])).failed(5);
    says(
        &error,
        &[
            "could not create AcsIdentity no-such-namespace/alice: namespaces \"no-such-namespace\" not found",
        ],
    );
}

#[test]
fn a_cluster_without_our_kinds() {
    let cluster = kubernetes::start();
    for arguments in [
        vec!["status"],
        vec!["create", "alice"],
        vec!["inspect", "web"],
        vec!["delete", "alice", "-y"],
    ] {
        let error = end(program(&cluster.kubeconfig).args(&arguments)).failed(8);
        says(
            &error,
            &["this cluster does not know the kinds of acs-identity.dev; install the operator"],
        );
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = program("/nonexistent".as_ref());
    command
        .args(["issue", "--scope", "chat", "--dry-run"])
        .stdout(writer);
    let output = end(&mut command);
    assert_eq!((output.code, output.err.as_str()), (0, ""));
}
