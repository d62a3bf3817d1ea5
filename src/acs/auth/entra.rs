//! Identities in Microsoft Entra ID, and the sources of their tokens.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::super::Endpoint;

/// Domain separator: without it fingerprints would be plain hashes of values that others may
/// publish.
const FINGERPRINT_DOMAIN: &str = "acs-identity-operator/entra";

/// Identity in Entra ID and its credential. `Debug` does not print it.
#[derive(Clone)]
pub enum EntraIdentity {
    /// Application with a client secret.
    ClientSecret {
        /// Tenant (directory): a GUID or a domain name.
        tenant_id: String,
        /// Client id of the application.
        client_id: String,
        /// Value of the secret.
        secret: SecretString,
    },
    /// Application or managed identity with a federated credential for another token issuer.
    Federated {
        /// Tenant (directory): a GUID or a domain name.
        tenant_id: String,
        /// Client id of the application or managed identity.
        client_id: String,
        /// Subject of the federated credential; distinguishes sources of assertions.
        subject: String,
        /// Source of a fresh token of that subject.
        assertion: AssertionSource,
    },
    /// As `Federated`, with the token in `EntraConfig::federated_token_file`.
    OwnWorkload {
        /// Tenant (directory): a GUID or a domain name.
        tenant_id: String,
        /// Client id of the application or managed identity.
        client_id: String,
    },
    /// System-assigned identity of the machine, or one of the user-assigned identities. If there is
    /// an `EntraConfig::local_token_endpoint`, the identity that the endpoint issues tokens for.
    Managed {
        /// Client id of a user-assigned identity.
        client_id: Option<String>,
    },
}

/// Function that returns an assertion.
pub type AssertionSource =
    Arc<dyn Fn() -> BoxFuture<'static, Result<SecretString, NoAssertion>> + Send + Sync>;

/// Reason why no assertion is available.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAssertion {
    /// What happened.
    pub message: String,
    /// What to do, as a sentence without its full stop.
    pub advice: String,
}

impl EntraIdentity {
    /// Returns 16 hexadecimal digits that identify the identity, independent of its secret.
    pub(super) fn fingerprint(&self) -> String {
        let (tenant_id, client_id) = self.who();
        let digest = digest(&[FINGERPRINT_DOMAIN, tenant_id, client_id]);
        let head = digest.iter().take(8);
        let head = head.fold(0_u64, |head, byte| head << 8 | u64::from(*byte));
        format!("{head:016x}")
    }

    /// Returns a hash of everything that distinguishes two identities, including secrets.
    pub(in super::super) fn key(&self) -> [u8; 32] {
        let (tenant_id, client_id) = self.who();
        let (kind, proof) = match self {
            Self::ClientSecret { secret, .. } => ("secret", secret.expose_secret()),
            Self::Federated { subject, .. } => ("federated", subject.as_str()),
            Self::OwnWorkload { .. } => ("own", ""),
            Self::Managed { .. } => ("managed", ""),
        };
        digest(&[kind, tenant_id, client_id, proof])
    }

    /// Returns tenant and application, if the token is requested from a tenant.
    pub(super) fn application(&self) -> Option<(&str, &str)> {
        match self {
            Self::ClientSecret {
                tenant_id,
                client_id,
                ..
            }
            | Self::Federated {
                tenant_id,
                client_id,
                ..
            }
            | Self::OwnWorkload {
                tenant_id,
                client_id,
            } => Some((tenant_id, client_id)),
            Self::Managed { .. } => None,
        }
    }

    fn who(&self) -> (&str, &str) {
        match self {
            Self::Managed { client_id } => ("managed", client_id.as_deref().unwrap_or_default()),
            _ => self.application().unwrap_or_default(),
        }
    }
}

impl fmt::Debug for EntraIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tenant_id, client_id) = self.who();
        write!(f, "EntraIdentity({tenant_id}, {client_id}, [REDACTED])")
    }
}

/// Hashes the parts, each with its length, so that no part can be mistaken for the beginning of
/// another.
fn digest(parts: &[&str]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Sources of Entra ID tokens, for the whole process. The administrator sets them, since client
/// secrets and assertions are sent there.
#[derive(Clone, Debug)]
pub struct EntraConfig {
    /// Default: `https://login.microsoftonline.com`.
    pub(super) authority: String,
    /// Default: `https://communication.azure.com/`.
    pub(super) audience: String,
    pub(super) local_token_endpoint: Option<Url>,
    pub(super) federated_token_file: Option<PathBuf>,
}

/// Authority of Azure's public cloud.
pub const PUBLIC_AUTHORITY: &str = "https://login.microsoftonline.com";
/// Audience that the official clients request tokens for, in every cloud. The trailing slash is
/// part of it.
pub const PUBLIC_AUDIENCE: &str = "https://communication.azure.com/";

impl EntraConfig {
    /// Validates the values of the flags.
    ///
    /// * `authority` (`--entra-authority`): https URL without path
    /// * `audience` (`--acs-audience`): audience that tokens are requested for
    /// * `local_token_endpoint` (`--local-token-endpoint`): token endpoint used instead of the
    ///   machine's managed identity
    /// * `federated_token_file` (`--federated-token-file`): file with the process's own workload
    ///   identity token
    pub fn new(
        authority: &str,
        audience: String,
        local_token_endpoint: Option<&str>,
        federated_token_file: Option<PathBuf>,
    ) -> Result<Self, EntraConfigError> {
        let authority = Endpoint::parse(authority)
            .ok()
            .filter(Endpoint::is_tls)
            .ok_or_else(|| EntraConfigError::Authority(authority.to_owned()))?
            .to_string();
        let is_audience = !audience.is_empty()
            && audience
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ".-_:/".contains(c))
            && !audience.ends_with(".default");
        if !is_audience {
            return Err(EntraConfigError::Audience(audience));
        }
        let local_token_endpoint = local_token_endpoint
            .map(|text| {
                Url::parse(text)
                    .ok()
                    .filter(|url| ["http", "https"].contains(&url.scheme()))
                    .ok_or_else(|| EntraConfigError::LocalTokenEndpoint(text.to_owned()))
            })
            .transpose()?;
        Ok(Self {
            authority,
            audience,
            local_token_endpoint,
            federated_token_file,
        })
    }

    /// Whether [`EntraIdentity::Managed`] is the identity of the local token endpoint.
    #[must_use]
    pub fn has_local_token_endpoint(&self) -> bool {
        self.local_token_endpoint.is_some()
    }

    /// Whether there is a token file for [`EntraIdentity::OwnWorkload`].
    #[must_use]
    pub fn has_federated_token(&self) -> bool {
        self.federated_token_file.is_some()
    }

    /// Returns the audience in the form of a scope.
    pub(super) fn scope(&self) -> String {
        format!("{}/.default", self.audience)
    }
}

impl Default for EntraConfig {
    fn default() -> Self {
        Self {
            authority: PUBLIC_AUTHORITY.to_owned(),
            audience: PUBLIC_AUDIENCE.to_owned(),
            local_token_endpoint: None,
            federated_token_file: None,
        }
    }
}

/// Invalid value of a flag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntraConfigError {
    /// The authority is not an https URL.
    #[error(
        "--entra-authority must be an https address without path, such as {PUBLIC_AUTHORITY}; got {0:?}"
    )]
    Authority(String),
    /// The audience is invalid.
    #[error(
        "--acs-audience must be a resource such as {PUBLIC_AUDIENCE}, without /.default; got {0:?}"
    )]
    Audience(String),
    /// The local token endpoint is not a URL.
    #[error(
        "--local-token-endpoint must be an address such as http://localhost:50342/oauth2/token; got {0:?}"
    )]
    LocalTokenEndpoint(String),
}
