use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use tracing::warn;

use super::{
    kinds::AnyConnection,
    registry::{Resolved, Unusable},
};
use crate::{
    acs::{AccessKey, Allowed, ApiVersion, ConnectionString, Endpoint},
    crd::Auth,
};

/// The API version that is spoken when the spec names none: the widest proven one.
const DEFAULT_VERSION: &str = "2023-10-01";

/// What was found of the Secret that holds the credential.
#[derive(Debug)]
pub enum Found {
    /// The API server can't be asked, or may not be.
    Unreadable(&'static str, String),
    /// There is no such Secret in this namespace.
    Missing,
    /// Its data.
    Data(BTreeMap<String, ByteString>),
}

/// From a spec and its Secret to what a call needs, or to the sentence that says what is wrong.
///
/// Where a credential may go is checked here, on the endpoint as it was resolved, from wherever it
/// came: nothing that this function refuses is ever called.
pub fn resolve<C: AnyConnection>(
    connection: &C,
    secret_namespace: &str,
    found: &Found,
    allowed: &Allowed,
) -> Result<Resolved, Unusable> {
    let text = credential_text(connection, secret_namespace, found)?;
    let stated = connection
        .endpoint()
        .map(|text| Endpoint::parse(text).map_err(|error| stalled("InvalidEndpoint", &error)))
        .transpose()?;
    let (endpoint, key) = match connection.auth() {
        Auth::AccessKey(_) => {
            let endpoint = stated.ok_or_else(|| {
                stalled(
                    "InvalidEndpoint",
                    "set endpoint: an access key does not say which resource it belongs to",
                )
            })?;
            (
                endpoint,
                AccessKey::parse(text).map_err(|error| stalled("InvalidAccessKey", &error))?,
            )
        }
        Auth::ConnectionString(_) => {
            let parsed = ConnectionString::parse(text)
                .map_err(|error| stalled("InvalidConnectionString", &error))?;
            if !parsed.ignored.is_empty() {
                let ignored = parsed.ignored.join(", ");
                warn!(connection = %connection.key(), ignored, "the connection string has unknown keys, which are ignored");
            }
            if stated.is_some_and(|stated| stated != parsed.endpoint) {
                return Err(stalled(
                    "EndpointMismatch",
                    "endpoint and the connection string name different resources; remove endpoint or correct one of them",
                ));
            }
            (parsed.endpoint, parsed.key)
        }
    };
    allowed
        .check(&endpoint)
        .map_err(|error| stalled("EndpointNotAllowed", &error))?;
    let version: ApiVersion = connection
        .api_version()
        .unwrap_or(DEFAULT_VERSION)
        .parse()
        .map_err(|error| stalled("InvalidApiVersion", &error))?;
    Ok(Resolved {
        endpoint,
        version,
        credential: key.fingerprint(),
        key,
    })
}

fn credential_text<'a, C: AnyConnection>(
    connection: &C,
    namespace: &str,
    found: &'a Found,
) -> Result<&'a str, Unusable> {
    let reference = connection.auth().secret_ref();
    let secret = format!("Secret {namespace}/{}", reference.name);
    let data = match found {
        Found::Unreadable(reason, message) => {
            return Err(waiting(reason, message.clone()));
        }
        Found::Missing => {
            return Err(waiting(
                "SecretNotFound",
                format!("waiting for {secret}, which does not exist"),
            ));
        }
        Found::Data(data) => data,
    };
    let value = data.get(&reference.key).ok_or_else(|| {
        let keys = data
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        let has = if keys.is_empty() {
            "no keys".to_owned()
        } else {
            format!("the keys {keys}")
        };
        waiting(
            "SecretKeyNotFound",
            format!(
                "waiting for key {} in {secret}, which has {has}",
                reference.key
            ),
        )
    })?;
    std::str::from_utf8(&value.0).map_err(|_| {
        stalled(
            "InvalidCredential",
            &format!("key {} of {secret} is not text", reference.key),
        )
    })
}

fn stalled(reason: &'static str, message: &(impl ToString + ?Sized)) -> Unusable {
    Unusable {
        reason: reason.into(),
        message: message.to_string(),
        is_stalled: true,
        retry_at: None,
    }
}

fn waiting(reason: &'static str, message: String) -> Unusable {
    Unusable {
        reason: reason.into(),
        message,
        is_stalled: false,
        retry_at: None,
    }
}
