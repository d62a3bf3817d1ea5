//! Access key, which signs requests.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use secrecy::ExposeSecret as _;
use secrecy::zeroize::Zeroizing;
use sha2::{Digest as _, Sha256};

use super::super::{PastedError, clean_credential};

/// Domain separator of the fingerprint: without it the fingerprint would be the plain hash of the
/// key, which others may publish.
const FINGERPRINT_DOMAIN: &[u8] = b"acs-identity-operator/credential:";

/// Access key of an ACS resource. `Debug` does not print it.
#[derive(Clone)]
pub struct AccessKey {
    key: Hmac<Sha256>,
    fingerprint: [u8; 8],
}

impl AccessKey {
    /// Parses a key in standard base64. Any length is accepted: keys of 88 and of 84 characters
    /// exist.
    pub fn parse(text: &str) -> Result<Self, AccessKeyError> {
        let text = clean_credential(text)?;
        let text = text.expose_secret();
        if text.is_empty() {
            return Err(AccessKeyError::Empty);
        }
        if ["endpoint=", "accesskey="]
            .iter()
            .any(|start| text.to_ascii_lowercase().starts_with(start))
        {
            return Err(AccessKeyError::ConnectionString);
        }
        let bytes = Zeroizing::new(
            STANDARD
                .decode(text)
                .map_err(|_| AccessKeyError::NotBase64)?,
        );
        if bytes.is_empty() {
            return Err(AccessKeyError::Empty);
        }
        let hash = Sha256::new()
            .chain_update(FINGERPRINT_DOMAIN)
            .chain_update(&bytes)
            .finalize();
        let mut fingerprint = [0; 8];
        for (to, from) in fingerprint.iter_mut().zip(hash) {
            *to = from;
        }
        // HMAC accepts keys of every length.
        let key = Hmac::new_from_slice(&bytes).map_err(|_| AccessKeyError::Empty)?;
        Ok(Self { key, fingerprint })
    }

    /// Returns 16 hexadecimal digits that identify the key without disclosing it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("{:016x}", u64::from_be_bytes(self.fingerprint))
    }

    pub(super) fn hmac_sha256(&self, message: &[u8]) -> [u8; 32] {
        let mac = self.key.clone().chain_update(message);
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessKey([REDACTED])")
    }
}

/// Reason why a text is not an access key. Never contains the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessKeyError {
    /// The text is empty or white space.
    #[error("the access key is empty; copy the whole key of the ACS resource")]
    Empty,
    /// The text is something else that was pasted by mistake.
    #[error("the access key {0}")]
    Pasted(#[from] PastedError),
    /// The text is a whole connection string.
    #[error(
        "the access key is a whole connection string; keep only the part after accesskey=, or use \
         auth.connectionString"
    )]
    ConnectionString,
    /// The text is not base64, or is truncated.
    #[error("the access key is not valid base64; copy the whole key, including any = at its end")]
    NotBase64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_length_are_read() {
        for length in [1, 2, 3, 14, 32, 63, 64, 100] {
            let text = STANDARD.encode(vec![7; length]);
            assert!(AccessKey::parse(&text).is_ok(), "{length} bytes");
            assert!(
                AccessKey::parse(&format!(" {text}\n")).is_ok(),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn what_is_no_key_is_refused_without_showing_it() {
        for (text, expected) in [
            ("", AccessKeyError::Empty),
            (" \n", AccessKeyError::Empty),
            (
                "endpoint=https://a.b;accesskey=c2VjcmV0",
                AccessKeyError::ConnectionString,
            ),
            ("accesskey=c2VjcmV0", AccessKeyError::ConnectionString),
            ("secret!", AccessKeyError::NotBase64),
            ("c2VjcmV0LWtleQ", AccessKeyError::NotBase64),
            ("c2Vj cmV0", AccessKeyError::NotBase64),
            ("c2VjcmV0-_==", AccessKeyError::NotBase64),
        ] {
            assert_eq!(AccessKey::parse(text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn a_fingerprint_tells_keys_apart_and_is_no_plain_hash() {
        let fingerprint = |text: &str| AccessKey::parse(text).unwrap().fingerprint();
        let one = fingerprint("c2VjcmV0LWtleTE=");
        assert_eq!(one, fingerprint(" c2VjcmV0LWtleTE=\n"));
        assert_ne!(one, fingerprint("c2VjcmV0LWtleTI="));
        assert_eq!(one.len(), 16);
        // First 8 bytes of SHA-256("acs-identity-operator/credential:secret-key1").
        assert_eq!(one, "9b34cef57e8e1dc1");
    }

    #[test]
    fn a_key_can_not_be_printed() {
        let key = AccessKey::parse("c2VjcmV0LWtleTE=").unwrap();
        assert_eq!(format!("{key:?}"), "AccessKey([REDACTED])");
    }
}
