use jiff::Timestamp;

use crate::{
    cache::SeenUserToken,
    crd::{Reason, TokenParameters},
};

/// Request for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueRequest {
    /// Id of the identity in ACS.
    pub identity_id: String,
    /// Scopes and lifetime to request.
    pub parameters: TokenParameters,
    /// Entra token to exchange, for a Teams user.
    pub user_token: Option<SeenUserToken>,
    /// Cause of the request, for metrics and Events.
    pub why: Why,
    /// Time by which the token is due. The most urgent request is served first.
    pub deadline: Timestamp,
}

impl IssueRequest {
    /// Whether both request the same token.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.identity_id == other.identity_id
            && self.parameters == other.parameters
            && self.user_token == other.user_token
    }
}

/// Cause of the issue of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There was no token for this identity.
    First,
    /// The token is due for renewal.
    Renewal,
    /// The scopes or the lifetime changed.
    Changed,
    /// The identity's tokens were revoked.
    Revoked,
    /// The Secret was deleted.
    SecretMissing,
    /// The Secret was edited.
    SecretEdited,
    /// The connection no longer uses the credential that issued the token.
    CredentialChanged,
    /// ACS rejects the credential that issued the token, so the token no longer works.
    CredentialRefused,
    /// The Entra token of the Teams user was replaced.
    UserTokenChanged,
    /// A revocation without an answer may have revoked the token.
    Unsettled,
    /// A user requested a new token.
    Requested,
}

impl Why {
    /// Returns the reason for metrics and logs.
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
