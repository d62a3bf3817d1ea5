//! Client that sends exactly the bytes that a test gives it and signs as the API reference says,
//! without code of the project's own client.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use ring::{
    digest::{SHA256, digest},
    hmac,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::{PATIENCE, emulator::Emulator};

/// API version that every released client supports.
pub const VERSION: &str = "2023-10-01";
/// API version with custom ids.
pub const PREVIEW: &str = "2025-03-02-preview";

/// Request before it is signed.
#[derive(Clone, Debug)]
pub struct Call {
    address: String,
    pub key: String,
    pub method: String,
    pub target: String,
    /// `Host` header, sent and signed.
    pub host: String,
    /// `x-ms-date` or `date`.
    pub date_header: &'static str,
    pub date: String,
    pub body: Vec<u8>,
    pub content_type: Option<&'static str>,
    pub headers: Vec<(String, String)>,
}

/// Answer of the emulator.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// Returns `host:port` of an emulator.
pub fn address(emulator: &Emulator) -> String {
    emulator.url.strip_prefix("http://").unwrap().to_owned()
}

/// Returns the time with an offset, in the format of HTTP.
pub fn date(offset: SignedDuration) -> String {
    let at = Timestamp::now() + offset;
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

impl Call {
    /// Returns a valid request.
    pub fn new(emulator: &Emulator, method: &str, target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            address: address(emulator),
            key: emulator.access_key().to_owned(),
            method: method.to_owned(),
            target: target.to_owned(),
            host: address(emulator),
            date_header: "x-ms-date",
            date: date(SignedDuration::ZERO),
            body: body.into(),
            content_type: Some("application/json"),
            headers: Vec::new(),
        }
    }

    /// Returns the headers that sign the request.
    pub fn sign(&mut self) {
        let hash = STANDARD.encode(digest(&SHA256, &self.body));
        let (method, target, host, date) = (&self.method, &self.target, &self.host, &self.date);
        let text = format!("{method}\n{target}\n{date};{host};{hash}");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(&self.key).unwrap());
        let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
        let name = self.date_header;
        let names = format!("SignedHeaders={name};host;x-ms-content-sha256");
        let authorization = format!("HMAC-SHA256 {names}&Signature={signature}");
        for (name, value) in [
            (self.date_header, self.date.clone()),
            ("x-ms-content-sha256", hash),
            ("authorization", authorization),
        ] {
            self.headers.push((name.to_owned(), value));
        }
    }

    /// Returns the bytes of the request, with its current headers.
    pub fn bytes(&self) -> Vec<u8> {
        let mut lines = vec![
            format!("{} {} HTTP/1.1", self.method, self.target),
            format!("host: {}", self.host),
        ];
        let content_type = self.content_type.iter();
        lines.extend(content_type.map(|it| format!("content-type: {it}")));
        let headers = self.headers.iter();
        lines.extend(headers.map(|(name, value)| format!("{name}: {value}")));
        lines.push(format!("content-length: {}", self.body.len()));
        lines.push("connection: close\r\n\r\n".to_owned());
        let head = lines.join("\r\n");
        [head.as_bytes(), &self.body].concat()
    }

    /// Signs and sends the request.
    pub async fn send(mut self) -> Reply {
        self.sign();
        self.send_as_it_is().await
    }

    /// Sends the request with its current headers.
    pub async fn send_as_it_is(self) -> Reply {
        let bytes = self.bytes();
        exchange(&self.address, &bytes)
            .await
            .unwrap_or_else(|| panic!("no answer to {}", String::from_utf8_lossy(&bytes)))
    }

    /// Signs and sends the request. Returns `None` if the connection ends without an answer.
    pub async fn try_send(mut self) -> Option<Reply> {
        self.sign();
        exchange(&self.address, &self.bytes()).await
    }
}

/// Sends bytes and reads until the connection ends. Returns `None` if no answer arrives.
pub async fn exchange(address: &str, bytes: &[u8]) -> Option<Reply> {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    // The emulator may answer and close before it has received everything.
    let _ = stream.write_all(bytes).await;
    read(&mut stream).await
}

/// Reads until the connection ends.
pub async fn read(stream: &mut TcpStream) -> Option<Reply> {
    let mut read = Vec::new();
    // A reset after the answer is equivalent to a close.
    let ended = timeout(PATIENCE, stream.read_to_end(&mut read)).await;
    assert!(ended.is_ok(), "the connection hangs");
    (!read.is_empty()).then(|| parse(&read))
}

/// Parses an answer.
pub fn parse(bytes: &[u8]) -> Reply {
    let end = bytes.windows(4).position(|it| it == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no HTTP: {}", String::from_utf8_lossy(bytes)));
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let headers = lines.map(|line| line.split_once(':').unwrap());
    Reply {
        status: status.parse().unwrap(),
        headers: headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect(),
        body: bytes[end + 4..].to_vec(),
    }
}

impl Reply {
    /// Returns the body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Returns the value of a header.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Returns the code of a refusal, which must have the error envelope of ACS.
    pub fn code(&self) -> String {
        let body = self.json();
        assert_eq!(self.header("content-type"), "application/json", "{self:?}");
        assert!(body["error"]["message"].is_string(), "{body}");
        let code = body["error"]["code"].as_str();
        code.unwrap_or_else(|| panic!("no code: {body}")).to_owned()
    }

    /// Returns status, code, message and target of a refusal.
    pub fn refusal(&self) -> (u16, String, String, Option<String>) {
        let error = &self.json()["error"];
        let text = |name: &str| error[name].as_str().map(str::to_owned);
        (
            self.status,
            self.code(),
            text("message").unwrap(),
            text("target"),
        )
    }
}

/// Common requests.
pub struct Service<'a> {
    pub emulator: &'a Emulator,
    pub version: &'a str,
}

impl<'a> Service<'a> {
    /// API version of the requests.
    pub fn new(emulator: &'a Emulator) -> Self {
        Self {
            emulator,
            version: VERSION,
        }
    }

    /// Returns a request to a path.
    pub fn call(&self, method: &str, path: &str, body: &str) -> Call {
        let target = format!("{path}?api-version={}", self.version);
        Call::new(self.emulator, method, &target, body)
    }

    /// Sends `POST /identities`.
    pub async fn create(&self, body: &str) -> Reply {
        self.call("POST", "/identities", body).send().await
    }

    /// Creates an identity and returns its id.
    pub async fn identity(&self) -> String {
        let reply = self.create("").await;
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.json()["identity"]["id"].as_str().unwrap().to_owned()
    }

    /// Issues a token.
    pub async fn issue(&self, id: &str, body: &str) -> Reply {
        let path = format!("/identities/{id}/:issueAccessToken");
        self.call("POST", &path, body).send().await
    }

    /// Issues a token and returns its text.
    pub async fn token(&self, id: &str) -> String {
        let reply = self.issue(id, r#"{"scopes":["chat"]}"#).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["token"].as_str().unwrap().to_owned()
    }

    /// Revokes the tokens of an identity.
    pub async fn revoke(&self, id: &str) -> Reply {
        let path = format!("/identities/{id}/:revokeAccessTokens");
        self.call("POST", &path, "").send().await
    }

    /// Deletes an identity.
    pub async fn delete(&self, id: &str) -> Reply {
        self.call("DELETE", &format!("/identities/{id}"), "")
            .send()
            .await
    }

    /// Returns why a token is invalid, or `None` if it is valid.
    pub async fn reason(&self, token: &str) -> Option<String> {
        let check = self.emulator.check(token).await;
        assert_eq!(check.valid, check.reason.is_none(), "{check:?}");
        check.reason
    }
}

/// Changes some settings.
pub async fn set(emulator: &Emulator, settings: Value) {
    emulator
        .send(reqwest::Method::PATCH, "settings", Some(settings))
        .await;
}
