//! What proves who calls.

use std::sync::Arc;

use super::{AccessKey, Bearer};

/// What proves to the service that its caller may call. Can't be printed.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Signs each request with an access key of the resource.
    AccessKey(AccessKey),
    /// Sends a token of Microsoft Entra ID, which is had when it is needed.
    Entra(Arc<Bearer>),
}

impl Credential {
    /// Tells credentials apart without telling a secret: 16 hexadecimal digits.
    ///
    /// Of an access key it changes with the key. Of an Entra credential it is that of the identity:
    /// neither a renewed token nor another client secret of the same application changes it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        match self {
            Self::AccessKey(key) => key.fingerprint(),
            Self::Entra(bearer) => bearer.fingerprint(),
        }
    }

    /// Whether there is no difference at all, of secrets neither: what refused one, refuses both.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::AccessKey(one), Self::AccessKey(two)) => one.fingerprint() == two.fingerprint(),
            (Self::Entra(one), Self::Entra(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }

    /// Whether tokens that were issued by its authority die with it: those of a regenerated key do.
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
