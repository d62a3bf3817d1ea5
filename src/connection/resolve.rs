use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt;
use tracing::warn;

use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    acs::{
        AccessKey, ApiVersion, ConnectionString, Credential, Endpoint, EntraIdentity, Resolved,
        clean_credential, credential_text,
    },
    context::Context,
    crd::{
        AnyConnection, Auth, ConnectionKind, ManagedIdentityAuth, Reason, SecretKeyRef,
        TOKEN_UID_LABEL, WorkloadIdentityAuth,
    },
    credentials::Unusable,
};

/// API version if the spec names none: the widest version that has been tested.
const DEFAULT_VERSION: &str = "2023-10-01";

/// Result of looking up the Secret of a credential.
#[derive(Debug)]
pub enum Found {
    /// The credential is not stored in a Secret.
    NotNeeded,
    /// The API server could not be reached or refused the read.
    Unreadable(Reason, String),
    /// The Secret does not exist in this namespace.
    Missing,
    /// The Secret has another purpose, described as the end of the sentence "Secret x ...". Its
    /// data is not used: whoever may write connections must not be able to have it sent or tried
    /// out.
    OfOtherPurpose(String),
    /// Data of the Secret.
    Data(BTreeMap<String, ByteString>),
}

impl Found {
    /// Returns the result for a Secret that was looked up for a credential.
    #[must_use]
    pub fn from_secret(secret: Option<Secret>) -> Self {
        let Some(secret) = secret else {
            return Self::Missing;
        };
        match other_purpose(&secret) {
            Some(purpose) => Self::OfOtherPurpose(purpose),
            None => Self::Data(secret.data.unwrap_or_default()),
        }
    }
}

/// Resolves a spec and its Secret into what a call needs, or into a message that says what is
/// wrong.
///
/// The allowed endpoints are checked here, on the resolved endpoint, from whatever source it came:
/// an endpoint that this function refuses is never called.
pub fn resolve<C: AnyConnection>(
    context: &Context,
    connection: &C,
    namespace: &str,
    found: &Found,
) -> Result<Resolved, Unusable> {
    let text = |reference| text_in(reference, namespace, found);
    let stated = connection
        .endpoint()
        .map(|text| Endpoint::parse(text).map_err(|error| stalled(Reason::InvalidEndpoint, &error)))
        .transpose()?;
    let at = |stated: Option<Endpoint>| {
        stated.ok_or_else(|| {
            stalled(
                Reason::InvalidEndpoint,
                "set endpoint: the credential does not contain the endpoint of the ACS resource",
            )
        })
    };
    let (endpoint, key) = match connection.auth() {
        Auth::AccessKey(auth) => {
            let key = AccessKey::parse(text(&auth.secret_ref)?)
                .map_err(|error| stalled(Reason::InvalidAccessKey, &error))?;
            (at(stated)?, key.into())
        }
        Auth::ClientSecret(auth) => {
            let secret = client_secret(text(&auth.secret_ref)?, &auth.secret_ref, namespace)?;
            let identity = EntraIdentity::ClientSecret {
                tenant_id: auth.tenant_id.clone(),
                client_id: auth.client_id.clone(),
                secret,
            };
            (at(stated)?, context.acs.entra(identity))
        }
        Auth::WorkloadIdentity(auth) => {
            let credential = workload_identity::<C>(context, auth, namespace)?;
            (at(stated)?, credential)
        }
        Auth::ManagedIdentity(auth) => {
            let credential = managed_identity::<C>(context, auth)?;
            (at(stated)?, credential)
        }
        Auth::ConnectionString(auth) => {
            let parsed = ConnectionString::parse(text(&auth.secret_ref)?)
                .map_err(|error| stalled(Reason::InvalidConnectionString, &error))?;
            if !parsed.ignored.is_empty() {
                let ignored = parsed.ignored.join(", ");
                warn!(connection = %connection.key(), ignored, "ignored unknown keys in the \
                 connection string");
            }
            if stated.is_some_and(|stated| stated != parsed.endpoint) {
                return Err(stalled(
                    Reason::EndpointMismatch,
                    "endpoint and the connection string name different resources; remove endpoint or correct one of them",
                ));
            }
            (parsed.endpoint, parsed.key.into())
        }
    };
    context
        .config
        .allowed
        .check(&endpoint)
        .map_err(|error| stalled(Reason::EndpointNotAllowed, &error))?;
    let version: ApiVersion = connection
        .api_version()
        .unwrap_or(DEFAULT_VERSION)
        .parse()
        .map_err(|error| stalled(Reason::InvalidApiVersion, &error))?;
    Ok(Resolved {
        endpoint,
        version,
        credential: key.fingerprint(),
        key,
    })
}

fn client_secret(
    text: &str,
    reference: &SecretKeyRef,
    namespace: &str,
) -> Result<SecretString, Unusable> {
    let wrong = |what: &str| {
        let place = format!(
            "key {} of Secret {namespace}/{}",
            reference.key, reference.name
        );
        stalled(Reason::InvalidClientSecret, &format!("{place} {what}"))
    };
    let secret = clean_credential(text).map_err(|what| wrong(&what.to_string()))?;
    if secret.expose_secret().is_empty() {
        return Err(wrong(
            "is empty; store the value of the client secret there",
        ));
    }
    Ok(secret)
}

/// Returns a credential that authenticates with tokens of a `ServiceAccount`, or with the
/// operator's own.
fn workload_identity<C: AnyConnection>(
    context: &Context,
    auth: &WorkloadIdentityAuth,
    namespace: &str,
) -> Result<Credential, Unusable> {
    let (tenant_id, client_id) = (auth.tenant_id.clone(), auth.client_id.clone());
    let identity = if let Some(account) = &auth.service_account_ref {
        EntraIdentity::Federated {
            tenant_id,
            client_id,
            subject: format!("{namespace}/{}", account.name),
            assertion: context.world.assertions(
                namespace,
                &account.name,
                &context.config.service_account_token_audience,
            ),
        }
    } else {
        check_ambient::<C>(context, "auth.workloadIdentity without serviceAccountRef")?;
        if !context.acs.entra_config().has_federated_token() {
            return Err(stalled(
                Reason::NoFederatedToken,
                "the operator has no ServiceAccount token of its own for Microsoft Entra ID: set serviceAccountRef, or run the operator with --federated-token-file",
            ));
        }
        EntraIdentity::OwnWorkload {
            tenant_id,
            client_id,
        }
    };
    Ok(context.acs.entra(identity))
}

fn managed_identity<C: AnyConnection>(
    context: &Context,
    auth: &ManagedIdentityAuth,
) -> Result<Credential, Unusable> {
    check_ambient::<C>(context, "auth.managedIdentity")?;
    if auth.client_id.is_some() && context.acs.entra_config().has_local_token_endpoint() {
        return Err(stalled(
            Reason::InvalidManagedIdentity,
            "remove auth.managedIdentity.clientId: the operator runs with --local-token-endpoint, which has no identities to choose from",
        ));
    }
    let client_id = auth.client_id.clone();
    Ok(context.acs.entra(EntraIdentity::Managed { client_id }))
}

/// Returns an error for an `AcsConnection` that uses a credential of the operator itself: whoever
/// may write an `AcsConnection` must not borrow the rights of the operator.
fn check_ambient<C: AnyConnection>(context: &Context, what: &str) -> Result<(), Unusable> {
    if C::KIND == ConnectionKind::ClusterAcsConnection
        || context.config.namespaced_ambient_credentials
    {
        return Ok(());
    }
    Err(stalled(
        Reason::AmbientCredentialNotAllowed,
        &format!(
            "{what} is a credential of the operator itself, which an AcsConnection may not use; \
             use a ClusterAcsConnection, or ask an administrator to allow it with \
             --namespaced-ambient-credentials"
        ),
    ))
}

/// Resolves the second key, which is tried when ACS rejects the `first` key.
pub fn resolve_secondary(
    reference: &SecretKeyRef,
    first: &Resolved,
    secret_namespace: &str,
    found: &Found,
) -> Result<Resolved, Unusable> {
    let text = text_in(reference, secret_namespace, found)?;
    let key = AccessKey::parse(text).map_err(|error| stalled(Reason::InvalidAccessKey, &error))?;
    let credential = key.fingerprint();
    if credential == first.credential {
        return Err(stalled(
            Reason::SameKey,
            "secretRef and secondarySecretRef hold the same key; store the other key of the ACS \
             resource in one of them",
        ));
    }
    Ok(Resolved {
        key: key.into(),
        credential,
        ..first.clone()
    })
}

/// Returns the text of a key of a Secret, or a message that says what to wait for.
pub fn text_in<'a>(
    reference: &SecretKeyRef,
    namespace: &str,
    found: &'a Found,
) -> Result<&'a str, Unusable> {
    let secret = format!("Secret {namespace}/{}", reference.name);
    let data = match found {
        Found::Unreadable(reason, message) => {
            return Err(waiting(*reason, message.clone()));
        }
        Found::Missing | Found::NotNeeded => {
            return Err(waiting(
                Reason::SecretNotFound,
                format!("waiting for {secret}, which does not exist"),
            ));
        }
        Found::OfOtherPurpose(purpose) => {
            return Err(stalled(
                Reason::InvalidSecret,
                &format!(
                    "{secret} {purpose}, so it is not used; store the credential in a Secret of \
                     type Opaque"
                ),
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
            Reason::SecretKeyNotFound,
            format!(
                "waiting for key {} in {secret}, which has {has}",
                reference.key
            ),
        )
    })?;
    credential_text(&value.0).map_err(|what| {
        stalled(
            Reason::InvalidCredential,
            &format!("key {} of {secret} {what}", reference.key),
        )
    })
}

fn stalled(reason: Reason, message: &(impl ToString + ?Sized)) -> Unusable {
    Unusable {
        reason,
        message: message.to_string(),
        is_stalled: true,
        retry_at: None,
    }
}

fn waiting(reason: Reason, message: String) -> Unusable {
    Unusable {
        reason,
        message,
        is_stalled: false,
        retry_at: None,
    }
}

/// Returns the other purpose of a Secret, as the end of the sentence "Secret x ...", if its type or
/// a label shows that it does not hold a credential: the types of Kubernetes and Helm have a
/// meaning.
#[must_use]
fn other_purpose(secret: &Secret) -> Option<String> {
    let is_of_others = |type_: &str| {
        let makers = ["kubernetes.io/", "bootstrap.kubernetes.io/", "helm.sh/"];
        makers.iter().any(|maker| type_.starts_with(maker))
    };
    match secret.type_.as_deref().unwrap_or_default() {
        type_ if is_of_others(type_) => Some(format!("is of type {type_}")),
        _ if secret.labels().contains_key(TOKEN_UID_LABEL) => {
            Some("holds the token of an AcsToken".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_named_without_a_byte_of_it() {
        let reference = SecretKeyRef {
            name: "acs".to_owned(),
            key: "accessKey".to_owned(),
        };
        let utf16 = "c2VjcmV0LWtleQ==".encode_utf16().flat_map(u16::to_le_bytes);
        let data = [("accessKey".to_owned(), ByteString(utf16.collect()))].into();
        let why = text_in(&reference, "team", &Found::Data(data)).unwrap_err();
        assert_eq!(why.reason, Reason::InvalidCredential);
        assert_eq!(
            why.message,
            "key accessKey of Secret team/acs is UTF-16 text, as written by PowerShell; save it \
             as UTF-8"
        );
    }
}
