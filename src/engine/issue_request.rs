use jiff::Timestamp;

use crate::{
    cache::SeenUserToken,
    crd::{Reason, TokenParameters},
};

/// What to ask the service for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueRequest {
    /// For which identity.
    pub identity_id: String,
    /// What to ask for.
    pub parameters: TokenParameters,
    /// The Entra token to exchange, if it is for a Teams user.
    pub user_token: Option<SeenUserToken>,
    /// Why; one word for metrics and Events.
    pub why: Why,
    /// When it should have been done; the most urgent is served first.
    pub deadline: Timestamp,
}

impl IssueRequest {
    /// Whether both ask for the same token.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.identity_id == other.identity_id
            && self.parameters == other.parameters
            && self.user_token == other.user_token
    }
}

/// Why a token is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There was none for this identity.
    First,
    /// Its time has come.
    Renewal,
    /// Scopes or life are others now.
    Changed,
    /// The identity's tokens were revoked.
    Revoked,
    /// The Secret was deleted.
    SecretMissing,
    /// The Secret was edited.
    SecretEdited,
    /// The credential that it was made with is no longer the connection's.
    CredentialChanged,
    /// The credential that it was made with is refused, so it is dead.
    CredentialRefused,
    /// The Teams user's Entra token is another one now.
    UserTokenChanged,
    /// A revocation without an answer may have killed it.
    Unsettled,
    /// Someone asked for a new one.
    Requested,
}

impl Why {
    /// The same, for metrics and logs.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::First => Reason::First,
            Self::Renewal => Reason::Renewal,
            Self::Changed => Reason::Changed,
            Self::Revoked => Reason::Revoked,
            Self::SecretMissing => Reason::SecretMissing,
            Self::SecretEdited => Reason::SecretEdited,
            Self::CredentialChanged => Reason::CredentialChanged,
            Self::CredentialRefused => Reason::CredentialRefused,
            Self::UserTokenChanged => Reason::UserTokenChanged,
            Self::Unsettled => Reason::Unsettled,
            Self::Requested => Reason::Requested,
        }
    }
}
