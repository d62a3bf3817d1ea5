//! Operations of ACS.

use std::fmt;

/// Operation of ACS. Each has its own published rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// `POST /identities` without scopes.
    CreateIdentity,
    /// `POST /identities` with scopes.
    CreateIdentityWithToken,
    /// `POST /identities/{id}/:issueAccessToken`.
    IssueToken,
    /// `POST /identities/{id}/:revokeAccessTokens`.
    RevokeTokens,
    /// `DELETE /identities/{id}`.
    DeleteIdentity,
    /// `POST /teamsUser/:exchangeAccessToken`.
    ExchangeTeamsToken,
}

impl Operation {
    /// Returns the value of the `operation` label in metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::CreateIdentity => "create_identity",
            Self::CreateIdentityWithToken => "create_identity_with_token",
            Self::IssueToken => "issue_token",
            Self::RevokeTokens => "revoke_tokens",
            Self::DeleteIdentity => "delete_identity",
            Self::ExchangeTeamsToken => "exchange_teams_token",
        }
    }
}

impl fmt::Display for Operation {
    /// Completes the phrase "could not ...".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CreateIdentity => "create an identity",
            Self::CreateIdentityWithToken => "create an identity with a token",
            Self::IssueToken => "issue a token",
            Self::RevokeTokens => "revoke tokens",
            Self::DeleteIdentity => "delete an identity",
            Self::ExchangeTeamsToken => "exchange a Teams token",
        })
    }
}
