//! Access control: allows only the browser that opened the one-time URL, from the console's own
//! page, under the console's own address.

use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use parking_lot::Mutex;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

/// Path of the one-time URL.
pub const ENTRY: &str = "/open";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Access control of one console.
pub struct Door {
    host: String,
    origin: String,
    cookie_name: String,
    cookie: SecretString,
    /// Hash of the one-time secret, until it is used.
    entry: Mutex<Option<Hash>>,
}

type Hash = sha2::digest::Output<Sha256>;

/// Reason why a request is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal(pub StatusCode, pub &'static str);

impl Door {
    /// Creates access control with new secrets. Returns it with the one-time URL.
    pub fn new(port: u16) -> (Self, String) {
        let host = format!("127.0.0.1:{port}");
        let origin = format!("http://{host}");
        let entry = new_secret();
        let url = format!("{origin}{ENTRY}?secret={}", entry.expose_secret());
        let door = Self {
            host,
            origin,
            // Cookies ignore ports: two consoles must not overwrite each other's.
            cookie_name: format!("acs-console-{port}"),
            cookie: new_secret(),
            entry: Mutex::new(Some(hash(entry.expose_secret()))),
        };
        (door, url)
    }

    /// Returns the header that sets the cookie, to the first caller with the one-time secret.
    pub fn enter(&self, secret: &str) -> Option<String> {
        let mut entry = self.entry.lock();
        let is_it = entry.is_some_and(|entry| entry == hash(secret));
        is_it.then(|| {
            *entry = None;
            let (name, value) = (&self.cookie_name, self.cookie.expose_secret());
            format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict")
        })
    }

    /// Rejects a request that does not come from the console's own page.
    pub fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        let forbidden = |why| Err(Refusal(StatusCode::FORBIDDEN, why));
        let all = |name: HeaderName, expected: &str| {
            let mut values = headers.get_all(name).iter();
            values.all(|value| value == expected)
        };
        // Rejects DNS rebinding: another site may point its name at this machine.
        if !headers.contains_key(header::HOST) || !all(header::HOST, &self.host) {
            return forbidden("This console is not served under that host name.");
        }
        if method != Method::GET && !headers.contains_key(header::ORIGIN) {
            return forbidden("A change must come from the page of the console itself.");
        }
        // A link from another site may lead to the page itself, which the cookie protects.
        let is_page = path == "/" || path == ENTRY;
        if !all(header::ORIGIN, &self.origin) || !is_page && !all(SEC_FETCH_SITE, "same-origin") {
            return forbidden("Another site must not send requests to this console.");
        }
        if path == ENTRY || self.knows(headers) {
            return Ok(());
        }
        Err(Refusal(
            StatusCode::UNAUTHORIZED,
            "Open the URL that `kubectl acs console` printed. It works once: to use another browser, start the console again.",
        ))
    }

    /// Whether the request has the cookie.
    fn knows(&self, headers: &HeaderMap) -> bool {
        let cookies = headers.get_all(header::COOKIE).iter();
        let cookies = cookies.filter_map(|value| value.to_str().ok());
        let expected = hash(self.cookie.expose_secret());
        cookies.flat_map(|text| text.split(';')).any(|cookie| {
            let (name, value) = cookie.trim().split_once('=').unwrap_or_default();
            name == self.cookie_name && hash(value) == expected
        })
    }
}

/// Generates 244 random bits, from the operating system.
fn new_secret() -> SecretString {
    let half = || uuid::Uuid::new_v4().simple();
    SecretString::from(format!("{}{}", half(), half()))
}

/// Comparing hashes discloses nothing of the secret by its timing.
fn hash(secret: &str) -> Hash {
    Sha256::digest(secret.as_bytes())
}
