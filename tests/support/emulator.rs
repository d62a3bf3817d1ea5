//! Emulator as a process, and its control API.

use std::process::Command;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{process::Process, temporary};

/// Emulator of one test.
pub struct Emulator {
    /// Process.
    pub process: Process,
    /// URL: `http://127.0.0.1:port`.
    pub url: String,
    /// Connection string of the primary key.
    pub connection_string: String,
    http: reqwest::Client,
}

/// Identity as reported by the emulator.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Id.
    pub id: String,
    /// Time of its deletion.
    pub deleted_at: Option<String>,
    /// Tokens, oldest first.
    pub tokens: Vec<Token>,
}

/// Token as reported by the emulator.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// Scopes.
    pub scopes: Vec<String>,
    /// Name of the key that it was issued with.
    pub key: String,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// Verdict of ACS on a chat client's token.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Whether the token is valid.
    pub valid: bool,
    /// Reason why it is not valid.
    pub reason: Option<String>,
    /// Id of its identity.
    pub identity_id: Option<String>,
    /// Scopes.
    pub scopes: Option<Vec<String>>,
    /// Name of the key that it was issued with.
    pub key: Option<String>,
}

/// Entry of the journal.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Operation.
    pub operation: String,
    /// Status of the answer.
    pub status: Option<u16>,
    /// Id of the identity.
    pub identity_id: Option<String>,
}

fn begin(address: &str, arguments: &[&str]) -> Process {
    Process::start(
        Command::new(env!("CARGO_BIN_EXE_acs-emulator"))
            .env("TMPDIR", temporary::folder())
            .args(["--listen", address, "--tls-listen", "127.0.0.1:0"])
            .args(arguments),
    )
}

impl Emulator {
    /// Starts an emulator on free ports.
    pub fn start(arguments: &[&str]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut process = begin("127.0.0.1:0", arguments);
        let connection_string = process.wait_for("the emulator's connection string", |line| {
            line.strip_prefix("connection-string: ")
                .map(ToOwned::to_owned)
        });
        let url = connection_string
            .split(';')
            .find_map(|part| part.strip_prefix("endpoint="))
            .expect("an endpoint")
            .trim_end_matches('/')
            .to_owned();
        Self {
            process,
            url,
            connection_string,
            http: reqwest::Client::new(),
        }
    }

    /// Restarts a killed emulator on the same ports with the same arguments, which must include
    /// `--state-dir`.
    pub fn begin_again(&mut self, arguments: &[&str]) {
        let address = self.url.trim_start_matches("http://");
        self.process = begin(address, arguments);
        self.printed("connection-string");
    }

    /// Returns a value that it printed at its start: `ca-file`, `entra-authority`,
    /// `identity-endpoint`...
    pub fn printed(&mut self, name: &str) -> String {
        self.process.wait_for(name, |line| {
            let (its, value) = line.split_once(": ")?;
            (its == name).then(|| value.to_owned())
        })
    }

    /// Changes settings.
    pub async fn settings(&self, changes: Value) {
        self.send(reqwest::Method::PATCH, "settings", Some(changes))
            .await;
    }

    /// Returns the key in its connection string.
    pub fn access_key(&self) -> &str {
        self.connection_string
            .split_once("accesskey=")
            .expect("a key")
            .1
    }

    async fn get<T: for<'de> Deserialize<'de>>(&self, path: &str) -> T {
        let answer = self
            .http
            .get(format!("{}/_emulator/{path}", self.url))
            .send()
            .await;
        let bytes = answer
            .expect("the emulator answers")
            .bytes()
            .await
            .expect("a body");
        serde_json::from_slice(&bytes)
            .unwrap_or_else(|error| panic!("{path}: {error}: {}", String::from_utf8_lossy(&bytes)))
    }

    /// Sends a request to the control API; returns the body of the answer.
    pub async fn send(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Value {
        let mut request = self
            .http
            .request(method, format!("{}/_emulator/{path}", self.url));
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let answer = request.send().await.expect("the emulator answers");
        let status = answer.status();
        let bytes = answer.bytes().await.expect("a body");
        assert!(
            status.is_success(),
            "{path}: {status}: {}",
            String::from_utf8_lossy(&bytes)
        );
        serde_json::from_slice(&bytes).unwrap_or(Value::Null)
    }

    /// Returns all identities, including deleted ones.
    pub async fn identities(&self) -> Vec<Identity> {
        self.get("identities").await
    }

    /// Returns all identities that are not deleted.
    pub async fn living(&self) -> Vec<Identity> {
        let mut identities = self.identities().await;
        identities.retain(|identity| identity.deleted_at.is_none());
        identities
    }

    /// Returns the number of answered requests of an operation.
    pub async fn count(&self, operation: &str) -> usize {
        let requests: Vec<Request> = self.get("requests").await;
        requests
            .iter()
            .filter(|request| request.operation == operation)
            .count()
    }

    /// Returns all requests so far.
    pub async fn requests(&self) -> Vec<Request> {
        self.get("requests").await
    }

    /// Returns the verdict of ACS on a client with this token.
    pub async fn check(&self, token: &str) -> Check {
        let body = Some(json!({"token": token}));
        let answer = self.send(reqwest::Method::POST, "check", body).await;
        serde_json::from_value(answer).expect("a check")
    }

    /// Regenerates a key, `primary` or `secondary`; every token of the old key becomes invalid.
    pub async fn regenerate(&self, key: &str) -> String {
        let path = format!("keys/{key}/regenerate");
        let answer = self.send(reqwest::Method::POST, &path, None).await;
        let text = answer["connectionString"].as_str();
        let (_, key) = text
            .and_then(|text| text.split_once("accesskey="))
            .expect("a connection string");
        key.to_owned()
    }

    /// Sets the faults.
    pub async fn faults(&self, faults: Value) {
        self.send(reqwest::Method::PUT, "faults", Some(faults))
            .await;
    }

    /// Ends all faults.
    pub async fn heal(&self) {
        self.send(reqwest::Method::DELETE, "faults", None).await;
    }
}
