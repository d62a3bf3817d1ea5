//! TLS with the emulator's own certificate authority.

use std::{fs, path::PathBuf};

use crate::support::{emulator::Emulator, process::Process};

fn line(process: &Process, start: &str) -> String {
    let output = process.output();
    let mut lines = output.lines().filter_map(|line| line.strip_prefix(start));
    lines.next_back().unwrap().to_owned()
}

fn port(emulator: &Emulator) -> u16 {
    let string = line(&emulator.process, "connection-string: endpoint=https://");
    let port = string
        .split('/')
        .next()
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap();
    port.parse().unwrap()
}

fn ca(emulator: &Emulator) -> PathBuf {
    line(&emulator.process, "ca-file: ").into()
}

fn client(pem: &[u8], name: &str, port: u16) -> reqwest::Client {
    let certificate = reqwest::Certificate::from_pem(pem).unwrap();
    reqwest::Client::builder()
        .tls_certs_only([certificate])
        .resolve(name, ([127, 0, 0, 1], port).into())
        .build()
        .unwrap()
}

#[tokio::test]
async fn the_authority_vouches_for_any_name_and_address_that_a_client_comes_by() {
    let emulator = Emulator::start(&[]);
    let port = port(&emulator);
    let pem = fs::read(ca(&emulator)).unwrap();
    for name in [
        "127.0.0.1",
        "localhost",
        "emulator.acs.svc.cluster.local",
        "contoso.communication.azure.com",
    ] {
        let answer = client(&pem, name, port)
            .get(format!("https://{name}:{port}/_emulator/healthz"))
            .send()
            .await
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert!(answer.status().is_success(), "{name}");
    }
    let other = Emulator::start(&[]);
    let pem = fs::read(ca(&other)).unwrap();
    let refused = client(&pem, "localhost", port)
        .get(format!("https://localhost:{port}/_emulator/healthz"))
        .send()
        .await;
    assert!(refused.is_err(), "another authority vouched for it");
}

#[tokio::test]
async fn a_client_that_names_no_server_finds_every_name_of_this_machine() {
    let emulator = Emulator::start(&[]);
    let port = port(&emulator);
    let pem = fs::read(ca(&emulator)).unwrap();
    let host = hostname::get().unwrap().into_string().unwrap();
    for name in ["localhost", "127.0.0.1", &host] {
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&pem).unwrap()])
            .tls_sni(false)
            .resolve(name, ([127, 0, 0, 1], port).into())
            .build()
            .unwrap();
        let answer = client
            .get(format!("https://{name}:{port}/_emulator/healthz"))
            .send()
            .await
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert!(answer.status().is_success(), "{name}");
    }
}

#[tokio::test]
async fn an_authority_in_the_state_folder_stays_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["--state-dir", dir.path().to_str().unwrap()];
    let mut emulator = Emulator::start(&arguments);
    assert_eq!(ca(&emulator), dir.path().join("ca.pem"));
    let pem = fs::read(ca(&emulator)).unwrap();
    emulator.process.kill();
    let emulator = Emulator::start(&arguments);
    assert_eq!(fs::read(ca(&emulator)).unwrap(), pem);
    let port = port(&emulator);
    let answer = client(&pem, "localhost", port)
        .get(format!("https://localhost:{port}/_emulator/healthz"))
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success());
}

#[test]
fn the_folder_of_an_emulator_that_was_killed_goes_with_the_next_one_and_others_stay() {
    let mut killed = Emulator::start(&[]);
    let running = Emulator::start(&[]);
    let [dead, alive] = [&killed, &running].map(|it| ca(it).parent().unwrap().to_owned());
    killed.process.kill();
    assert!(dead.exists() && alive.exists());
    Emulator::start(&[]);
    assert!(!dead.exists() && alive.exists());
}

#[tokio::test]
async fn a_connection_string_that_is_made_over_tls_leads_there() {
    let emulator = Emulator::start(&[]);
    let port = port(&emulator);
    let pem = fs::read(ca(&emulator)).unwrap();
    let answer = client(&pem, "localhost", port)
        .post(format!(
            "https://localhost:{port}/_emulator/keys/primary/regenerate"
        ))
        .send()
        .await
        .unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    let string = answer["connectionString"].as_str().unwrap();
    assert!(
        string.starts_with(&format!("endpoint=https://localhost:{port}/;accesskey=")),
        "{string}"
    );
}

#[tokio::test]
async fn plain_http_and_garbage_on_the_port_for_tls_do_no_harm() {
    let emulator = Emulator::start(&["--read-timeout", "300ms"]);
    let port = port(&emulator);
    let address = format!("127.0.0.1:{port}");
    for text in ["POST /identities HTTP/1.1\r\n\r\n", "GARBAGE", "\0\0\0\0"] {
        let reply = crate::caller::exchange(&address, text.as_bytes())
            .await
            .unwrap();
        assert_eq!(reply.status, 400);
        let (_, _, message, _) = reply.refusal();
        assert!(message.contains("https://"), "{message}");
    }
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\xff\xff"[..],
        b"\x16",
        b"\x16\x16\x16\x16\x16\x16\x16\x16",
    ] {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut dropped = Vec::new();
        let end = stream.read_to_end(&mut dropped);
        let ended = tokio::time::timeout(crate::support::PATIENCE, end);
        assert!(ended.await.is_ok(), "a handshake hangs");
    }
    let pem = fs::read(ca(&emulator)).unwrap();
    let url = format!("https://localhost:{port}/_emulator/healthz");
    assert!(
        client(&pem, "localhost", port)
            .get(url)
            .send()
            .await
            .is_ok()
    );
    assert!(!emulator.process.output().contains("panicked"));
}
