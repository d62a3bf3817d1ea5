use super::{ApiVersion, Credential, Endpoint};

/// Endpoint, API version and credential for calls to ACS.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Endpoint of the resource.
    pub endpoint: Endpoint,
    /// API version.
    pub version: ApiVersion,
    /// Credential.
    pub key: Credential,
    /// Fingerprint of the credential.
    pub credential: String,
}
