//! Credential for ACS.

use std::sync::Arc;

use super::{AccessKey, Bearer};

/// Credential that authenticates requests to ACS. `Debug` does not print it.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Access key of the resource, which signs each request.
    AccessKey(AccessKey),
    /// Token of Microsoft Entra ID, requested when it is needed.
    Entra(Arc<Bearer>),
}

impl Credential {
    /// Returns 16 hexadecimal digits that identify the credential without disclosing a secret.
    ///
    /// For an access key it changes with the key. For an Entra credential it is that of the
    /// identity: neither a renewed token nor another client secret of the same application changes
    /// it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        match self {
            Self::AccessKey(key) => key.fingerprint(),
            Self::Entra(bearer) => bearer.fingerprint(),
        }
    }

    /// Whether the credentials are the same including their secrets: if ACS rejects one, it rejects
    /// both.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::AccessKey(one), Self::AccessKey(two)) => one.fingerprint() == two.fingerprint(),
            (Self::Entra(one), Self::Entra(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }

    /// Whether tokens issued with this credential become invalid together with it, as those of a
    /// regenerated access key do.
    #[must_use]
    pub fn takes_tokens_with_it(&self) -> bool {
        matches!(self, Self::AccessKey(_))
    }
}

impl From<AccessKey> for Credential {
    fn from(key: AccessKey) -> Self {
        Self::AccessKey(key)
    }
}
