//! Request signatures with the access key (HMAC-SHA256, API reference "Authentication").

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::AccessKey;

/// Headers that sign a request. `Debug` does not print them.
#[derive(Clone)]
pub struct Signature {
    /// `x-ms-date`.
    pub date: String,
    /// `x-ms-content-sha256`.
    pub content_sha256: String,
    /// `Authorization`.
    pub authorization: String,
}

impl Signature {
    /// Signs one request as it will be sent.
    ///
    /// * `method`: in upper case
    /// * `host`: value of the `Host` header
    /// * `target`: path and query of the request line, byte for byte
    /// * `time`: time of ACS, which rejects a time that differs too much
    #[must_use]
    pub fn new(
        key: &AccessKey,
        method: &str,
        host: &str,
        target: &str,
        time: Timestamp,
        body: &[u8],
    ) -> Self {
        let date = time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let content_sha256 = STANDARD.encode(Sha256::digest(body));
        let message = format!("{method}\n{target}\n{date};{host};{content_sha256}");
        let signature = STANDARD.encode(key.hmac_sha256(message.as_bytes()));
        let authorization = format!(
            "HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature={signature}"
        );
        Self {
            date,
            content_sha256,
            authorization,
        }
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature([REDACTED])")
    }
}
