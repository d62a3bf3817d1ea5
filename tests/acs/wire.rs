//! Server that answers with the bytes that a test gives it and records the requests.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use acs_identity_operator::acs::{
    AccessKey, ApiVersion, Client, Credential, Endpoint, Service, ServiceConfig,
};
use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// The key of every client here.
pub const KEY: &str = "dGhlLWtleS1vZi10aGUtd2lyZS10ZXN0cw==";

/// Identity id as ACS creates it.
pub const ID: &str =
    "8:acs:11111111-2222-3333-4444-555555555555_00000006-19e0-2727-80f5-8b3a0d003502";

/// Reaction of the server once it has read a request.
#[derive(Clone)]
pub enum Reply {
    /// Sends these bytes and closes the connection.
    Bytes(Vec<u8>),
    /// Breaks the connection.
    Reset,
    /// Keeps the connection open and sends nothing.
    Hang,
    /// Issues a token if the request was signed within 15 minutes of a clock with this offset;
    /// refuses it otherwise. The answer has the date of that clock.
    Clock(SignedDuration),
}

/// Request as received.
#[derive(Clone, Debug)]
pub struct Got {
    pub method: String,
    pub target: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Server with a list of replies. After the last reply, it repeats that one.
pub struct Wire {
    pub endpoint: Endpoint,
    state: Arc<Mutex<State>>,
}

struct State {
    replies: VecDeque<Reply>,
    got: Vec<Got>,
}

/// Answer with a content length. Each line of `headers` ends in CRLF.
pub fn answer(status: u16, headers: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Bytes(
        format!("HTTP/1.1 {status} Status\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
            .into(),
    )
}

/// Answer in JSON.
pub fn json(status: u16, body: &str) -> Reply {
    answer(status, "Content-Type: application/json\r\n", body)
}

/// Error object of ACS.
pub fn complaint(status: u16, code: &str, message: &str) -> Reply {
    json(
        status,
        &format!(r#"{{"error":{{"code":"{code}","message":"{message}"}}}}"#),
    )
}

/// Answer to a successful issue.
pub fn token() -> Reply {
    json(
        200,
        r#"{"token":"fresh","expiresOn":"2030-01-01T00:00:00.0000000+00:00"}"#,
    )
}

/// Answer to a successful create.
pub fn created() -> Reply {
    json(201, &format!(r#"{{"identity":{{"id":"{ID}"}}}}"#))
}

impl Wire {
    /// Starts a server without TLS.
    pub async fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::start(replies, None).await
    }

    /// Starts a server with TLS.
    pub async fn tls(replies: impl IntoIterator<Item = Reply>, acceptor: TlsAcceptor) -> Self {
        Self::start(replies, Some(acceptor)).await
    }

    async fn start(
        replies: impl IntoIterator<Item = Reply>,
        acceptor: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::parse(&format!("{scheme}://{address}")).unwrap();
        let state = State {
            replies: replies.into_iter().collect(),
            got: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        tokio::spawn(accept(listener, acceptor, Arc::clone(&state)));
        Self { endpoint, state }
    }

    /// Returns all requests so far.
    pub fn got(&self) -> Vec<Got> {
        self.state.lock().unwrap().got.clone()
    }

    /// Returns a client with short timeouts.
    pub fn client(&self) -> Client {
        self.client_of(&service(config()))
    }

    /// Returns a client of the given service.
    pub fn client_of(&self, service: &Service) -> Client {
        service.client(&self.endpoint, &ApiVersion::default(), &key())
    }
}

impl Got {
    /// Returns the time that the signature covers.
    pub fn signed_at(&self) -> Timestamp {
        rfc2822::parse(self.header("x-ms-date").unwrap())
            .unwrap()
            .timestamp()
    }

    /// Returns the value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Timeouts of tests in which a call succeeds: long enough for a busy machine.
pub fn config() -> ServiceConfig {
    ServiceConfig {
        connect_timeout: Duration::from_secs(10),
        read_timeout: Duration::from_secs(10),
        total_timeout: Duration::from_mins(1),
        first_retry_delay: Duration::from_millis(1),
        ..ServiceConfig::default()
    }
}

/// Timeouts of tests in which the server does not answer.
pub fn impatient() -> ServiceConfig {
    ServiceConfig {
        read_timeout: Duration::from_millis(200),
        ..config()
    }
}

/// Returns a service, after installing the TLS provider of the process.
pub fn service(config: ServiceConfig) -> Service {
    // A second installation fails without effect.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Service::new(config).unwrap()
}

/// The key of every client here.
pub fn key() -> Credential {
    AccessKey::parse(KEY).unwrap().into()
}

/// Any urgency.
pub fn soon() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, state: Arc<Mutex<State>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            match acceptor {
                None => serve(stream, &state).await,
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => serve(stream, &state).await,
                    // The client rejected the certificate.
                    Err(_) => None,
                },
            }
        });
    }
}

trait Linger {
    /// Makes the next close a reset.
    fn reset(&self);
}

impl Linger for TcpStream {
    fn reset(&self) {
        self.set_zero_linger().unwrap();
    }
}

impl Linger for tokio_rustls::server::TlsStream<TcpStream> {
    fn reset(&self) {
        self.get_ref().0.reset();
    }
}

/// Serves one request. Returns `None` at the end, or if the client has gone.
async fn serve<S: AsyncRead + AsyncWrite + Linger + Unpin>(
    mut stream: S,
    state: &Mutex<State>,
) -> Option<()> {
    let got = read(&mut stream).await?;
    let reply = {
        let mut state = state.lock().unwrap();
        state.got.push(got.clone());
        match state.replies.len() {
            0 => return None,
            1 => state.replies[0].clone(),
            _ => state.replies.pop_front()?,
        }
    };
    match reply {
        Reply::Clock(offset) => {
            let bytes = by_clock(Timestamp::now() + offset, got.signed_at());
            stream.write_all(&bytes).await.ok()?;
            stream.shutdown().await.ok()
        }
        Reply::Bytes(bytes) => {
            stream.write_all(&bytes).await.ok()?;
            stream.shutdown().await.ok()
        }
        Reply::Reset => {
            stream.reset();
            None
        }
        Reply::Hang => std::future::pending().await,
    }
}

fn by_clock(now: Timestamp, signed: Timestamp) -> Vec<u8> {
    let is_near = now.duration_since(signed).abs() <= SignedDuration::from_mins(15);
    let (status, body) = if is_near {
        (
            "200 OK",
            r#"{"token":"fresh","expiresOn":"2030-01-01T00:00:00.0000000+00:00"}"#,
        )
    } else {
        ("401 Unauthorized", "{}")
    };
    let (date, length) = (now.strftime("%a, %d %b %Y %H:%M:%S GMT"), body.len());
    format!("HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Length: {length}\r\n\r\n{body}").into()
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Got> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let mut lines = head.lines();
    let mut request_line = lines.next()?.split(' ').map(str::to_owned);
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut got = Got {
        method: request_line.next()?,
        target: request_line.next()?,
        headers,
        body: Vec::new(),
    };
    let length: usize = got
        .header("content-length")
        .map_or(0, |text| text.parse().unwrap());
    while bytes.len() < head_end + 4 + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    got.body = bytes[head_end + 4..].to_vec();
    Some(got)
}
