//! Who calls with a token of Microsoft Entra ID, and where such tokens come from.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::Endpoint;

/// Keeps fingerprints from being plain hashes of what others may publish.
const FINGERPRINT_DOMAIN: &str = "acs-identity-operator/entra";

/// An identity in Entra ID, and what proves to be it. Can't be printed.
#[derive(Clone)]
pub enum EntraIdentity {
    /// An application with a client secret.
    ClientSecret {
        /// The directory: a GUID or a domain name.
        tenant_id: String,
        /// The application.
        client_id: String,
        /// The secret's value.
        secret: SecretString,
    },
    /// An application or managed identity that trusts the tokens of someone else.
    Federated {
        /// The directory: a GUID or a domain name.
        tenant_id: String,
        /// The application or managed identity.
        client_id: String,
        /// Who is trusted: tells one source of assertions from another.
        subject: String,
        /// Brings a fresh token of that one.
        assertion: AssertionSource,
    },
    /// As `Federated`, with the token in [`EntraConfig::federated_token_file`].
    OwnWorkload {
        /// The directory: a GUID or a domain name.
        tenant_id: String,
        /// The application or managed identity.
        client_id: String,
    },
    /// The machine's own identity, or one of those assigned to it. Where there is an
    /// [`EntraConfig::local_token_endpoint`], the one that it speaks for.
    Managed {
        /// Which of the assigned ones.
        client_id: Option<String>,
    },
}

/// Brings an assertion.
pub type AssertionSource =
    Arc<dyn Fn() -> BoxFuture<'static, Result<SecretString, NoAssertion>> + Send + Sync>;

/// Why there is no assertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAssertion {
    /// What happened.
    pub message: String,
    /// What to do, as a sentence without its full stop.
    pub advice: String,
}

impl EntraIdentity {
    /// Tells who it is, not by which secret: 16 hexadecimal digits.
    pub(super) fn fingerprint(&self) -> String {
        let (tenant_id, client_id) = self.who();
        let digest = digest(&[FINGERPRINT_DOMAIN, tenant_id, client_id]);
        let head = digest.iter().take(8);
        let head = head.fold(0_u64, |head, byte| head << 8 | u64::from(*byte));
        format!("{head:016x}")
    }

    /// Tells all that matters apart, secrets too.
    pub(super) fn key(&self) -> [u8; 32] {
        let (tenant_id, client_id) = self.who();
        let (kind, proof) = match self {
            Self::ClientSecret { secret, .. } => ("secret", secret.expose_secret()),
            Self::Federated { subject, .. } => ("federated", subject.as_str()),
            Self::OwnWorkload { .. } => ("own", ""),
            Self::Managed { .. } => ("managed", ""),
        };
        digest(&[kind, tenant_id, client_id, proof])
    }

    /// Directory and application, where a directory is asked for the token.
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

/// A digest of parts, each with its length, so that none can reach into another.
fn digest(parts: &[&str]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Where tokens of Entra ID come from, for the whole process: an administrator's decision, since
/// client secrets and assertions are sent there.
#[derive(Clone, Debug)]
pub struct EntraConfig {
    /// `https://login.microsoftonline.com`.
    pub(super) authority: String,
    /// `https://communication.azure.com/`.
    pub(super) audience: String,
    pub(super) local_token_endpoint: Option<Url>,
    pub(super) federated_token_file: Option<PathBuf>,
}

/// The authority of Azure's public cloud.
pub const PUBLIC_AUTHORITY: &str = "https://login.microsoftonline.com";
/// What the official clients ask tokens for, in every cloud. The slash at its end belongs to it.
pub const PUBLIC_AUDIENCE: &str = "https://communication.azure.com/";

impl EntraConfig {
    /// Checks what the flags say.
    ///
    /// * `authority` (`--entra-authority`): an address over https, without path
    /// * `audience` (`--acs-audience`): for what tokens are asked
    /// * `local_token_endpoint` (`--local-token-endpoint`): where tokens come from instead of the
    ///   machine's managed identity
    /// * `federated_token_file` (`--federated-token-file`): the process's own workload identity
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

    /// Whether [`EntraIdentity::Managed`] is whoever the local token endpoint speaks for.
    #[must_use]
    pub fn has_local_token_endpoint(&self) -> bool {
        self.local_token_endpoint.is_some()
    }

    /// Whether there is a token for [`EntraIdentity::OwnWorkload`].
    #[must_use]
    pub fn has_federated_token(&self) -> bool {
        self.federated_token_file.is_some()
    }

    /// The audience in the form of a scope.
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

/// A flag's value that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntraConfigError {
    /// Not an https address.
    #[error(
        "--entra-authority must be an https address without path, such as {PUBLIC_AUTHORITY}; got {0:?}"
    )]
    Authority(String),
    /// Not an audience.
    #[error(
        "--acs-audience must be a resource such as {PUBLIC_AUDIENCE}, without /.default; got {0:?}"
    )]
    Audience(String),
    /// Not an address.
    #[error(
        "--local-token-endpoint must be an address such as http://localhost:50342/oauth2/token; got {0:?}"
    )]
    LocalTokenEndpoint(String),
}
