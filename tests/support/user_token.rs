//! Entra tokens for exchanges.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Application of the token.
pub const APPLICATION: &str = "a0000000-1111-2222-3333-444444444444";
/// User of the token.
pub const USER: &str = "b0000000-1111-2222-3333-444444444444";
/// Tenant of the user.
pub const TENANT: &str = "c0000000-1111-2222-3333-444444444444";

/// Returns the token of an Entra user, valid for an hour, with additional claims.
pub fn entra_token(other: &Value) -> String {
    let mut claims = json!({
        "oid": USER, "tid": TENANT, "appid": APPLICATION, "exp": Timestamp::now().as_second() + 3600,
        "scp": "https://communication.azure.com/clients/Chat.Join https://communication.azure.com/clients/VoIP",
    });
    let other = other.as_object().unwrap().clone();
    claims.as_object_mut().unwrap().extend(other);
    let [header, claims] =
        [json!({"alg": "RS256"}), claims].map(|it| URL_SAFE_NO_PAD.encode(it.to_string()));
    format!("{header}.{claims}.c2lnbmF0dXJl")
}
