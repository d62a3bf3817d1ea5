//! Access to the cluster: kubectl's flags, proxies, and logins by other programs.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use crate::{
    run::{acs, end, program, says},
    support::{
        proxy::{Network, api_server},
        world::World,
    },
};

/// Starts a proxy that supports only CONNECT. Returns its URL and the requested targets.
fn company_proxy() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let seen = seen.clone();
            thread::spawn(move || tunnel(client, &seen));
        }
    });
    (url, asked)
}

fn tunnel(mut client: TcpStream, seen: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(client.try_clone().expect("a socket"));
    let mut first = String::new();
    reader.read_line(&mut first).expect("a request");
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).expect("a header");
    }
    let target = first.split(' ').nth(1).expect("a target").to_owned();
    assert!(first.starts_with("CONNECT "), "{first}");
    let mut server = TcpStream::connect(&target).expect("the API server");
    seen.lock().expect("a lock").push(target);
    client
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .expect("sent");
    let (mut from, mut to) = (
        server.try_clone().expect("it"),
        client.try_clone().expect("it"),
    );
    thread::spawn(move || std::io::copy(&mut from, &mut to));
    let _ = std::io::copy(&mut reader, &mut server);
}

#[tokio::test]
async fn behind_a_proxy_the_api_server_is_reached_through_it_but_for_no_proxy() {
    let world = World::bare(&[], &[]).await;
    let (proxy, asked) = company_proxy();
    let status = |no_proxy: &str| {
        let mut command = program(&world.cluster.kubeconfig);
        command
            .env("HTTPS_PROXY", &proxy)
            .env("NO_PROXY", no_proxy)
            .env_remove("no_proxy")
            .args(["status", "-n", &world.namespace]);
        end(&mut command).fine();
        asked.lock().expect("a lock").len()
    };
    assert_eq!(status("127.0.0.1,.example.com"), 0);
    assert_ne!(status("example.com"), 0);
    let asked = asked.lock().expect("a lock");
    assert!(
        asked.iter().all(|target| target.starts_with("127.0.0.1:")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn who_may_impersonate_acts_as_another() {
    let world = World::bare(&[], &[]).await;
    let output = acs(&world, &["status", "--as", "nobody"]).failed(6);
    says(&output, &["User \"nobody\" cannot list"]);
    let output = acs(
        &world,
        &["status", "--as", "nobody", "--as-group", "of-nobody"],
    )
    .failed(6);
    says(&output, &["User \"nobody\" cannot list"]);
    let masters = ["status", "--as", "somebody", "--as-group", "system:masters"];
    acs(&world, &masters).fine();
    let output = acs(&world, &["status", "--as-group", "system:masters"]).failed(2);
    says(&output, &["--as"]);
}

#[tokio::test]
async fn another_server_or_cluster_is_asked_where_a_flag_says_so() {
    let world = World::bare(&[], &[]).await;
    let output = acs(&world, &["status", "--server", "https://127.0.0.1:1"]).failed(7);
    says(
        &output,
        &["cannot reach the API server https://127.0.0.1:1"],
    );
    let output = acs(&world, &["status", "--cluster", "no-such"]).failed(7);
    says(&output, &["no-such"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_takes_no_longer_than_was_asked_for() {
    let world = World::bare(&[], &[]).await;
    let (proxy, kubeconfig) = api_server(world.cluster, &world.namespace).await;
    proxy.set(Network::Silent);
    let began = Instant::now();
    let mut command = program(&kubeconfig);
    command.args(["status", "--request-timeout", "1s", "-n", &world.namespace]);
    end(&mut command).failed(7);
    assert!(
        began.elapsed() < Duration::from_secs(9),
        "{:?}",
        began.elapsed()
    );
}

/// Credential plugin, like kubelogin for AKS.
#[tokio::test]
async fn another_program_logs_in() {
    let world = World::bare(&[], &[]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let login = folder.path().join("login");
    let credential = "{\"apiVersion\": \"client.authentication.k8s.io/v1\", \"kind\": \"ExecCredential\", \"status\": {\"token\": \"admin\"}}";
    fs::write(&login, format!("#!/bin/sh\necho '{credential}'\n")).expect("written");
    fs::set_permissions(&login, fs::Permissions::from_mode(0o700)).expect("executable");
    let text = fs::read_to_string(&world.cluster.kubeconfig).expect("a kubeconfig");
    let exec = format!(
        "{{exec: {{apiVersion: client.authentication.k8s.io/v1, command: {}, interactiveMode: Never}}}}",
        login.display()
    );
    let changed = text.replace("{token: admin}", &exec);
    assert_ne!(changed, text);
    let kubeconfig = folder.path().join("kubeconfig");
    fs::write(&kubeconfig, &changed).expect("written");
    let status = ["status", "-n", &world.namespace];
    end(program(&kubeconfig).args(status)).fine();
    fs::write(
        &login,
        "#!/bin/sh\necho 'log in first: az login' >&2; exit 1\n",
    )
    .expect("written");
    let output = end(program(&kubeconfig).args(status)).failed(6);
    says(
        &output,
        &["logging in as configured in the kubeconfig failed"],
    );
}
