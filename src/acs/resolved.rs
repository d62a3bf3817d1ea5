use super::{ApiVersion, Credential, Endpoint};

/// All that a call to the service needs.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Where to.
    pub endpoint: Endpoint,
    /// In which version.
    pub version: ApiVersion,
    /// Proven by what.
    pub key: Credential,
    /// Its fingerprint.
    pub credential: String,
}
