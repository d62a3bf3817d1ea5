//! The token that an Entra user brings for an exchange.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Its application.
pub const APPLICATION: &str = "a0000000-1111-2222-3333-444444444444";
/// Its user.
pub const USER: &str = "b0000000-1111-2222-3333-444444444444";
/// The user's tenant.
pub const TENANT: &str = "c0000000-1111-2222-3333-444444444444";

/// The token of an Entra user, for an hour, with other claims on demand.
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
