//! The service's operations.

use jiff::Timestamp;
use secrecy::SecretString;

use super::error::Details;
use super::{AccessKey, ApiVersion, Endpoint, Error, Kind, Operation, Outcome};

/// The operations of one ACS resource, with one credential.
///
/// Every operation takes a `deadline`: not a timeout, but how urgent it is. When more calls are
/// wanted than the service's limits allow, the earliest deadline goes first.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Endpoint,
    version: ApiVersion,
    key: AccessKey,
}

/// An identity that the service has made, or found by its `customId`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedIdentity {
    /// `8:acs:<resource>_<identity>`. Opaque.
    pub id: String,
}

/// A token fresh from the service.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    /// What goes into the Secret.
    pub token: SecretString,
    /// The end of its life, by the service's clock.
    pub expires_on: Timestamp,
    /// When it was issued, by the service's clock, in whole seconds.
    pub date: Timestamp,
    /// When the answer arrived, by the local clock.
    pub received_at: Timestamp,
}

/// A revocation that the service has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// When, by the service's clock, in whole seconds. Tokens up to and including this second are
    /// dead.
    pub date: Timestamp,
    /// Whether an earlier attempt of the same call got no answer. The service may still act on
    /// that one, up to the total timeout from now, and so kill tokens issued after this answer.
    pub earlier_attempt_lost: bool,
}

/// An identity that is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Whether there was nothing left to delete.
    pub was_gone: bool,
}

impl Client {
    pub(super) fn new(endpoint: Endpoint, version: ApiVersion, key: AccessKey) -> Self {
        Self {
            endpoint,
            version,
            key,
        }
    }

    /// Makes an identity, or finds the one made with the same `custom_id`.
    ///
    /// Without `custom_id`, an [unknown outcome](Outcome::Unknown) may have left an identity that
    /// nobody can find again.
    pub async fn create_identity(
        &self,
        custom_id: Option<&str>,
        deadline: Timestamp,
    ) -> Result<CreatedIdentity, Error> {
        let _ = (custom_id, deadline);
        Err(self.withheld(Operation::CreateIdentity))
    }

    /// Makes an identity, as [`create_identity`](Self::create_identity), and a token for it.
    pub async fn create_identity_with_token(
        &self,
        custom_id: Option<&str>,
        scopes: &[&str],
        expires_in_minutes: u32,
        deadline: Timestamp,
    ) -> Result<(CreatedIdentity, IssuedToken), Error> {
        let _ = (custom_id, scopes, expires_in_minutes, deadline);
        Err(self.withheld(Operation::CreateIdentityWithToken))
    }

    /// Issues one more token for an identity. `expires_in_minutes` is 60 to 1440.
    pub async fn issue_token(
        &self,
        identity_id: &str,
        scopes: &[&str],
        expires_in_minutes: u32,
        deadline: Timestamp,
    ) -> Result<IssuedToken, Error> {
        let _ = (identity_id, scopes, expires_in_minutes, deadline);
        Err(self.withheld(Operation::IssueToken))
    }

    /// Revokes every token of an identity.
    pub async fn revoke_tokens(
        &self,
        identity_id: &str,
        deadline: Timestamp,
    ) -> Result<Revoked, Error> {
        let _ = (identity_id, deadline);
        Err(self.withheld(Operation::RevokeTokens))
    }

    /// Deletes an identity for good. One that is gone already is deleted too; one of another
    /// resource is an error.
    pub async fn delete_identity(
        &self,
        identity_id: &str,
        deadline: Timestamp,
    ) -> Result<Deleted, Error> {
        let _ = (identity_id, deadline);
        Err(self.withheld(Operation::DeleteIdentity))
    }

    /// Exchanges a Teams user's Entra token, obtained with the application `app_id` by the user
    /// `user_id` (an object id), for an ACS token.
    pub async fn exchange_teams_token(
        &self,
        token: &SecretString,
        app_id: &str,
        user_id: &str,
        deadline: Timestamp,
    ) -> Result<IssuedToken, Error> {
        let _ = (token, app_id, user_id, deadline);
        Err(self.withheld(Operation::ExchangeTeamsToken))
    }

    fn withheld(&self, operation: Operation) -> Error {
        let _ = (&self.version, &self.key);
        Error::new(Details {
            operation,
            endpoint: self.endpoint.to_string(),
            kind: Kind::Withheld,
            status: None,
            code: None,
            message: None,
            ms_cv: None,
            retry_after: None,
            outcome: Outcome::NotDone,
            lost: false,
        })
        .after(Outcome::NotDone, false)
    }
}
