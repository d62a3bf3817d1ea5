//! Official Python client, over TLS, as a separate program.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};

use crate::support::emulator::Emulator;

/// Runs a command and returns its output. If it fails, the test fails with a hint.
fn run(command: &mut Command, hint: &str) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; {hint}"));
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(
        output.status.success(),
        "{command:?} failed; {hint}\n{said}"
    );
    said
}

/// Python with the official client, installed once per set of requirements, outside the clone.
fn python(sdk: &Path) -> PathBuf {
    let requirements = sdk.join("requirements.txt");
    let text = fs::read(&requirements).unwrap();
    let version = run(
        Command::new("python3").arg("--version"),
        "install Python 3.11 or later (Debian: python3 python3-venv)",
    );
    let hash = digest(&SHA256, &[version.as_bytes(), &text].concat());
    let name = URL_SAFE_NO_PAD.encode(&hash.as_ref()[..9]);
    let cache = env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(env::var_os("HOME").expect("HOME is set")).join(".cache"),
        PathBuf::from,
    );
    let cache = cache.join("acs-identity-operator");
    fs::create_dir_all(&cache).unwrap();
    // Other runs of this test may install it at the same time.
    let lock = fs::File::create(cache.join("python.lock")).unwrap();
    lock.lock().unwrap();
    let made = cache.join(format!("python-{name}"));
    let python = made.join("bin/python");
    let complete = made.join("complete");
    if !complete.exists() {
        println!("installing the official client into {}", made.display());
        let _ = fs::remove_dir_all(&made);
        run(
            Command::new("python3").args(["-m", "venv"]).arg(&made),
            "the module venv is missing; install it (Debian: python3-venv)",
        );
        run(
            Command::new(&python)
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "--require-hashes",
                    "-r",
                ])
                .arg(&requirements),
            "the packages of tests/emulator/sdk/requirements.txt can't be installed; that needs Python 3.11 or later, and a package index that can be reached",
        );
        fs::write(complete, "").unwrap();
    }
    python
}

#[tokio::test]
async fn the_official_python_sdk_notices_nothing_sync_and_aio() {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/emulator/sdk");
    let python = tokio::task::spawn_blocking({
        let sdk = sdk.clone();
        move || python(&sdk)
    })
    .await
    .unwrap();
    let emulator = Emulator::start(&[]);
    let output = emulator.process.output();
    let find = |start: &str| {
        let mut lines = output.lines().filter_map(|line| line.strip_prefix(start));
        lines
            .next()
            .unwrap_or_else(|| panic!("no {start} in {output}"))
            .to_owned()
    };
    let string = |name: &str| {
        format!(
            "endpoint=https://{}",
            find(&format!("{name}: endpoint=https://"))
        )
    };
    let primary = string("connection-string");
    let endpoint = primary
        .split(';')
        .next()
        .unwrap()
        .strip_prefix("endpoint=")
        .unwrap();
    // If the endpoint ends with a slash, the client signs a host other than the one that it calls.
    let endpoint = endpoint.trim_end_matches('/').to_owned();
    let ca = find("ca-file: ");
    let said = run(
        Command::new(python)
            .arg(sdk.join("judge.py"))
            .env("ENDPOINT", endpoint)
            .env("PRIMARY", &primary)
            .env("SECONDARY", string("secondary-connection-string"))
            .env("CONTROL", &emulator.url)
            .env("REQUESTS_CA_BUNDLE", &ca)
            .env("SSL_CERT_FILE", &ca)
            .env("NO_PROXY", "127.0.0.1"),
        "the official client sees a difference from the service",
    );
    assert!(
        said.contains("the official client noticed nothing"),
        "{said}"
    );
    assert!(!said.contains("Warning"), "{said}");
}

#[tokio::test]
async fn the_official_entra_library_notices_nothing() {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/emulator/sdk");
    let mut emulator = Emulator::start(&[]);
    let python = tokio::task::spawn_blocking({
        let sdk = sdk.clone();
        move || python(&sdk)
    })
    .await
    .unwrap();
    let authority = emulator.printed("entra-authority");
    let ca = emulator.printed("ca-file");
    let said = run(
        Command::new(python)
            .arg(sdk.join("entra.py"))
            .env("ENDPOINT", &authority)
            .env("AUTHORITY", &authority)
            .env("IDENTITY", emulator.printed("identity-endpoint"))
            .env("HEADER", emulator.printed("identity-header"))
            .env("LOCAL", emulator.printed("local-token-endpoint"))
            .env("CONTROL", &emulator.url)
            .env("REQUESTS_CA_BUNDLE", &ca)
            .env("SSL_CERT_FILE", &ca)
            .env("NO_PROXY", "127.0.0.1"),
        "the official library sees a difference from Entra ID",
    );
    assert!(
        said.contains("the official library noticed nothing"),
        "{said}"
    );
}
