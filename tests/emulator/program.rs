//! Flags, output and exit of the program.

use std::process::{Command, Stdio};

use acs_identity_operator::emulator::DEFAULT_PRIMARY_KEY;

use crate::{
    caller::Service,
    support::{emulator::Emulator, process::Process, temporary},
};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_acs-emulator"));
    command
        .stdin(Stdio::null())
        .env("TMPDIR", temporary::folder());
    command
}

/// Returns what the program prints if it cannot start.
pub fn fails(arguments: &[&str]) -> String {
    let ports = ["--listen", "127.0.0.1:0", "--tls-listen", "127.0.0.1:0"];
    let given = ports.chunks(2).filter(|it| !arguments.contains(&it[0]));
    let output = program()
        .args(given.flatten())
        .args(arguments)
        .output()
        .unwrap();
    assert!(!output.status.success(), "{arguments:?} was taken");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn a_wrong_value_says_what_is_right() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let file = env!("CARGO_BIN_EXE_acs-emulator");
    for (arguments, hint) in [
        (["--listen", "8765"], "127.0.0.1:8765"),
        (["--tls-listen", "localhost"], "an IP address and a port"),
        (["--listen", &taken], "port 0"),
        (["--tls-listen", &taken], "--tls-listen"),
        (["--access-key", "not base64!"], "in base64"),
        (["--access-key", ""], "in base64"),
        (["--secondary-access-key", "%%%"], "in base64"),
        (
            ["--secondary-access-key", DEFAULT_PRIMARY_KEY],
            "different values",
        ),
        (["--minute", "0s"], "from 1ms to 1h"),
        (["--minute", "-1s"], "from 1ms to 1h"),
        (["--minute", "2h"], "from 1ms to 1h"),
        (["--minute", "soon"], "from 1ms to 1h"),
        (["--read-timeout", "0"], "from 1ms to 1h"),
        (["--state-dir", file], file),
        (["--statedir", "x"], "--state-dir"),
    ] {
        let said = fails(&arguments);
        assert!(said.contains(hint), "{arguments:?}: {said}");
    }
}

#[test]
fn every_flag_is_a_variable_too_and_the_help_tells_the_defaults() {
    let output = program().arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let flags: Vec<_> = help
        .split_whitespace()
        .filter(|word| word.starts_with("--") && word.len() > 2)
        .filter(|word| !["--help", "--version"].contains(word))
        .collect();
    assert_eq!(flags.len(), 7, "{flags:?}");
    for flag in flags {
        let variable = flag
            .trim_start_matches("--")
            .replace('-', "_")
            .to_uppercase();
        assert!(
            help.contains(&format!("[env: ACS_EMULATOR_{variable}=]")),
            "{flag}: {help}"
        );
    }
    assert_eq!(help.matches("[default:").count(), 7, "{help}");
    let output = program()
        .env("ACS_EMULATOR_MINUTE", "soon")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("from 1ms to 1h"), "{said}");
}

#[tokio::test]
async fn the_first_connection_string_is_the_primary_one_without_tls_and_all_of_them_work() {
    let emulator = Emulator::start(&[]);
    let output = emulator.process.output();
    let strings: Vec<_> = output
        .lines()
        .filter_map(|line| line.split_once("connection-string: "))
        .collect();
    assert_eq!(strings.len(), 4, "{output}");
    assert!(
        strings[0].1.starts_with("endpoint=http://127.0.0.1:"),
        "{output}"
    );
    let schemes: Vec<_> = strings
        .iter()
        .map(|(_, it)| it.split("://").next().unwrap())
        .collect();
    assert_eq!(
        schemes,
        [
            "endpoint=http",
            "endpoint=https",
            "endpoint=http",
            "endpoint=https"
        ]
    );
    assert_eq!(
        strings[0].1.split_once("accesskey=").unwrap().1,
        DEFAULT_PRIMARY_KEY
    );
    for (name, string) in [strings[0], strings[2]] {
        assert_eq!(
            name,
            if string == strings[0].1 {
                ""
            } else {
                "secondary-"
            }
        );
        let mut call = Service::new(&emulator).call("POST", "/identities", "");
        call.key = string.split_once("accesskey=").unwrap().1.to_owned();
        assert_eq!(call.send().await.status, 201);
    }
    let page = output
        .lines()
        .find_map(|line| line.strip_prefix("page: "))
        .unwrap();
    assert_eq!(page, format!("{}/_emulator/", emulator.url));
}

#[tokio::test]
async fn an_address_for_all_interfaces_is_told_as_one_that_can_be_reached() {
    for (listen, host) in [
        ("0.0.0.0:0", "http://127.0.0.1:"),
        ("[::]:0", "http://[::1]:"),
    ] {
        if listen.starts_with('[') && std::net::TcpListener::bind(listen).is_err() {
            continue;
        }
        let mut process =
            Process::start(program().args(["--listen", listen, "--tls-listen", "127.0.0.1:0"]));
        let string = process.wait_for("a connection string", |line| {
            line.strip_prefix("connection-string: ").map(str::to_owned)
        });
        let url = string
            .split(';')
            .next()
            .unwrap()
            .strip_prefix("endpoint=")
            .unwrap();
        assert!(url.starts_with(host), "{string}");
        let answer = reqwest::get(format!("{url}_emulator/healthz"))
            .await
            .unwrap();
        assert!(answer.status().is_success());
    }
}

#[tokio::test]
async fn a_signal_ends_it_in_peace_even_while_requests_hang() {
    for signal in ["-TERM", "-INT"] {
        let emulator = Emulator::start(&[]);
        let hang = serde_json::json!([{"operation": "*", "effect": "hang"}]);
        emulator.faults(hang).await;
        let call = Service::new(&emulator).call("POST", "/identities", "");
        let hanging = tokio::spawn(call.try_send());
        crate::support::eventually("it hangs", || async {
            (emulator.count("createIdentity").await == 1).then_some(())
        })
        .await;
        let ca = emulator.process.output();
        let ca = ca
            .lines()
            .find_map(|line| line.strip_prefix("ca-file: "))
            .unwrap();
        assert!(std::fs::exists(ca).unwrap());
        let id = emulator.process.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
        let mut process = emulator.process;
        assert!(process.terminate().success());
        assert!(hanging.await.unwrap().is_none());
        assert!(
            !std::fs::exists(ca).unwrap(),
            "the temporary folder is left behind"
        );
    }
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_end() {
    let emulator = Emulator::start(&[]);
    let mut call = Service::new(&emulator).call("POST", "/identities", "{}");
    call.sign();
    let mut stream = tokio::net::TcpStream::connect(crate::caller::address(&emulator))
        .await
        .unwrap();
    let bytes = call.bytes();
    tokio::io::AsyncWriteExt::write_all(&mut stream, &bytes[..bytes.len() - 1])
        .await
        .unwrap();
    // A later connection has been accepted, so this one has been, too.
    Service::new(&emulator).identity().await;
    let mut process = emulator.process;
    let id = process.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .unwrap()
            .success()
    );
    tokio::io::AsyncWriteExt::write_all(&mut stream, &bytes[bytes.len() - 1..])
        .await
        .unwrap();
    assert_eq!(crate::caller::read(&mut stream).await.unwrap().status, 201);
    assert!(process.terminate().success());
}

#[test]
fn nobody_reading_its_output_is_no_reason_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = program()
        .args(["--listen", "127.0.0.1:0", "--tls-listen", "127.0.0.1:0"])
        .arg("--state-dir")
        .arg(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    // The program now handles signals.
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while !dir.path().join("state.jsonl").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        assert!(std::time::Instant::now() < deadline, "it never started");
        std::thread::yield_now();
    }
    let id = child.id().to_string();
    let kill = Command::new("kill").args(["-TERM", &id]).status();
    assert!(kill.unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {said}", output.status);
}
