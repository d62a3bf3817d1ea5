//! Token in a Secret.

use acs_identity_operator::{
    claims::claims,
    crd::{TOKEN_KEY, TokenRecord, fingerprint},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    cluster::session::Session,
    failure::{Exit, Failure},
};

/// Contents of a token's Secret.
pub struct Held {
    /// Name of the Secret.
    pub secret: String,
    /// Key of the token in the Secret's data.
    pub key: String,
    /// Token.
    pub token: SecretString,
    /// Name of the `AcsToken` that it belongs to.
    pub owner: Option<String>,
    /// Record of the token by the operator.
    pub record: Option<TokenRecord>,
    /// Expiry as returned by ACS.
    pub expires_on: Option<String>,
}

impl Held {
    /// Whether the bytes are those that were issued; `None` if the operator recorded nothing about
    /// them.
    pub fn is_genuine(&self) -> Option<bool> {
        let record = self.record.as_ref()?;
        Some(record.fingerprint == fingerprint(&self.token))
    }

    /// Returns the claims of the token, which is a JWT; `None` if it is not one.
    pub fn claims(&self) -> Option<serde_json::Map<String, serde_json::Value>> {
        claims(self.token.expose_secret())
    }

    /// Returns the expiry of the token: that of its claims, which ACS checks.
    pub fn ends(&self) -> Option<Timestamp> {
        let seconds = self.claims()?.get("exp")?.as_i64()?;
        Timestamp::from_second(seconds).ok()
    }
}

/// Reads the token in a Secret: under `key`, or else under the key that the operator recorded.
pub async fn read(session: &Session, name: &str, key: Option<&str>) -> Result<Held, Failure> {
    let named = session.named::<Secret>(name);
    let api = session.api::<Secret>();
    let secret = session.call("read", &named, api.get(name)).await?;
    let noted = secret.annotations().get(TOKEN_KEY).map(String::as_str);
    let key = key.or(noted).unwrap_or("token").to_owned();
    let record = TokenRecord::from_annotations(secret.annotations());
    let owner = secret
        .owner_references()
        .iter()
        .find(|owner| owner.controller == Some(true));
    let owner = owner
        .filter(|owner| owner.kind == "AcsToken")
        .map(|owner| owner.name.clone());
    let mut data = secret.data.unwrap_or_default();
    let keys: Vec<_> = data.keys().cloned().collect();
    let Some(bytes) = data.remove(&key) else {
        let message = format!(
            "{named} has no key {key}; choose one of its keys with --key: {}",
            keys.join(", ")
        );
        return Err(Failure::new(Exit::NotFound, message));
    };
    let Ok(token) = String::from_utf8(bytes.0) else {
        let message = format!("key {key} of {named} holds no token: it is not text");
        return Err(Failure::new(Exit::Usage, message));
    };
    let expires_on = record.as_ref().map(|record| {
        let seconds = record.issued_at.as_second() + record.life.as_secs();
        Timestamp::from_second(seconds)
            .unwrap_or(record.expires_at)
            .to_string()
    });
    Ok(Held {
        secret: name.to_owned(),
        key,
        token: SecretString::from(token),
        owner,
        record,
        expires_on,
    })
}
