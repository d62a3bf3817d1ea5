//! Claims of JSON Web Tokens.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::de::DeserializeOwned;

/// Reads the claims of a JSON Web Token without verifying its signature. Returns `None` for any
/// other text.
#[must_use]
pub fn claims<T: DeserializeOwned>(token: &str) -> Option<T> {
    let mut parts = token.split('.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    let claims = serde_json::from_slice(&payload).ok()?;
    parts.next().is_none().then_some(claims)
}
