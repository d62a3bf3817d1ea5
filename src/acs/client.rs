//! Operations of ACS.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;

use super::error::Details;
use super::http::{Answer, BadId, Call, CreateAnswer, Done, Request, TokenAnswer};
use super::service::{Resource, Shared};
use super::{ApiVersion, Credential, Error, Kind, Operation, Turn, Urgency};

/// Client for one ACS resource with one credential.
///
/// Every operation takes a granted [`Turn`], or a deadline, which states its urgency and is not a
/// timeout. When there are more calls than the rate limits of ACS allow, the earliest deadline goes
/// first. The wait has no upper bound; dropping the future cancels it. Once its turn is granted, a
/// call finishes within [`ServiceConfig::total_timeout`](super::ServiceConfig::total_timeout).
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    resource: Arc<Resource>,
    version: ApiVersion,
    credential: Credential,
}

/// Identity that ACS created, or found by its `customId`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedIdentity {
    /// `8:acs:<resource>_<identity>`. Opaque.
    pub id: String,
}

/// Newly issued ACS token.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    /// Value to write to the Secret.
    pub token: SecretString,
    /// Expiry, by the clock of ACS.
    pub expires_on: Timestamp,
    /// Time of issue, by the clock of ACS, in whole seconds.
    pub date: Timestamp,
    /// Time at which the answer arrived, by the local clock.
    pub received_at: Timestamp,
}

/// Revocation that ACS confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Time of the revocation, by the clock of ACS, in whole seconds. Tokens issued up to and
    /// including this second are invalid.
    pub date: Timestamp,
    /// Whether an earlier attempt of the same call got no answer. ACS may still execute that
    /// attempt, until the total timeout from now, and thereby invalidate tokens issued after this
    /// answer.
    pub earlier_attempt_lost: bool,
}

/// Result of deleting an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Whether the identity did not exist any more.
    pub was_gone: bool,
}

impl Client {
    pub(super) fn new(
        shared: Arc<Shared>,
        resource: Arc<Resource>,
        version: ApiVersion,
        credential: Credential,
    ) -> Self {
        Self {
            shared,
            resource,
            version,
            credential,
        }
    }

    /// Creates an identity, or returns the one created with the same `custom_id`.
    ///
    /// Without `custom_id`, an [unknown outcome](super::Outcome::Unknown) may leave an identity
    /// that cannot be found again, so the call is only retried if the earlier attempt certainly had
    /// no effect.
    pub async fn create_identity(
        &self,
        custom_id: Option<&str>,
        turn: impl Into<Turn>,
    ) -> Result<CreatedIdentity, Error> {
        self.check_custom_id(Operation::CreateIdentity, custom_id)?;
        let request = Request::create(&self.version, custom_id, None);
        let done = self.call(&request).make(turn.into(), created).await?;
        Ok(CreatedIdentity {
            id: done.value.identity.id,
        })
    }

    /// Creates an identity, as [`create_identity`](Self::create_identity), and a token for it.
    pub async fn create_identity_with_token(
        &self,
        custom_id: Option<&str>,
        scopes: &[&str],
        expires_in_minutes: u32,
        turn: impl Into<Turn>,
    ) -> Result<(CreatedIdentity, IssuedToken), Error> {
        let operation = Operation::CreateIdentityWithToken;
        self.check_custom_id(operation, custom_id)?;
        self.check_scopes(operation, scopes)?;
        let request = Request::create(&self.version, custom_id, Some((scopes, expires_in_minutes)));
        let read = |answer: &Answer| {
            let CreateAnswer {
                identity,
                access_token,
            } = created(answer)?;
            Some((identity.id, access_token.filter(TokenAnswer::is_sound)?))
        };
        let Done {
            value: (id, token),
            date,
            received_at,
            ..
        } = self.call(&request).make(turn.into(), read).await?;
        Ok((
            CreatedIdentity { id },
            IssuedToken::new(token, date, received_at),
        ))
    }

    /// Issues a token for an existing identity. `expires_in_minutes` is 60 to 1440.
    pub async fn issue_token(
        &self,
        identity_id: &str,
        scopes: &[&str],
        expires_in_minutes: u32,
        turn: impl Into<Turn>,
    ) -> Result<IssuedToken, Error> {
        let operation = Operation::IssueToken;
        self.check_scopes(operation, scopes)?;
        let request = Request::issue(&self.version, identity_id, scopes, expires_in_minutes)
            .map_err(|bad| self.bad_id(operation, bad))?;
        let done = self.call(&request).make(turn.into(), issued).await?;
        Ok(IssuedToken::new(done.value, done.date, done.received_at))
    }

    /// Revokes every token of an identity.
    pub async fn revoke_tokens(
        &self,
        identity_id: &str,
        turn: impl Into<Turn>,
    ) -> Result<Revoked, Error> {
        let request = Request::revoke(&self.version, identity_id)
            .map_err(|bad| self.bad_id(Operation::RevokeTokens, bad))?;
        let read = |answer: &Answer| (answer.status == 204).then_some(());
        let Done {
            date,
            earlier_attempt_lost,
            ..
        } = self.call(&request).make(turn.into(), read).await?;
        Ok(Revoked {
            date,
            earlier_attempt_lost,
        })
    }

    /// Deletes an identity permanently. Succeeds if it is already deleted; fails if it belongs to
    /// another resource.
    pub async fn delete_identity(
        &self,
        identity_id: &str,
        turn: impl Into<Turn>,
    ) -> Result<Deleted, Error> {
        let operation = Operation::DeleteIdentity;
        let request = Request::delete(&self.version, identity_id)
            .map_err(|bad| self.bad_id(operation, bad))?;
        let read = |answer: &Answer| match answer.status {
            204 => Some(Deleted { was_gone: false }),
            200..300 => None,
            // The answer to a second delete is not documented.
            _ => (answer.error_code(Operation::DeleteIdentity).0 == Kind::IdentityNotFound)
                .then_some(Deleted { was_gone: true }),
        };
        self.call(&request)
            .make(turn.into(), read)
            .await
            .map(|done| done.value)
    }

    /// Exchanges a Teams user's Entra token, obtained with the application `app_id` by the user
    /// `user_id` (an object id), for an ACS token.
    pub async fn exchange_teams_token(
        &self,
        token: &SecretString,
        app_id: &str,
        user_id: &str,
        turn: impl Into<Turn>,
    ) -> Result<IssuedToken, Error> {
        let request = Request::exchange(&self.version, token, app_id, user_id);
        let done = self.call(&request).make(turn.into(), issued).await?;
        Ok(IssuedToken::new(done.value, done.date, done.received_at))
    }

    /// Waits until a call of `operation` may be sent. Cancel safe.
    pub async fn turn(&self, operation: Operation, urgency: Urgency) -> Turn {
        if let Credential::Entra(bearer) = &self.credential {
            // Before the turn, so that no call occupies a slot that others could use. An error here
            // is reported by the call itself.
            let _ = Box::pin(bearer.token()).await;
        }
        let waiting = self.shared.config.metrics.wait(operation);
        let permit = self.resource.queue.turn(operation, urgency.clone()).await;
        drop(waiting);
        Turn {
            urgency,
            permit: Some(permit),
        }
    }

    fn call<'a>(&'a self, request: &'a Request) -> Call<'a> {
        Call {
            shared: &self.shared,
            resource: &self.resource,
            credential: &self.credential,
            request,
        }
    }

    fn check_custom_id(&self, operation: Operation, custom_id: Option<&str>) -> Result<(), Error> {
        if custom_id.is_none() || self.version.knows_custom_id() {
            return Ok(());
        }
        let message = format!("{} has no customId", self.version);
        Err(self.local_error(operation, Kind::Unsupported, message))
    }

    fn check_scopes(&self, operation: Operation, scopes: &[&str]) -> Result<(), Error> {
        match scopes.iter().find(|scope| !self.version.knows_scope(scope)) {
            None => Ok(()),
            Some(scope) => {
                let message = format!("{} has no scope {scope}", self.version);
                Err(self.local_error(operation, Kind::Unsupported, message))
            }
        }
    }

    fn bad_id(&self, operation: Operation, bad: BadId) -> Error {
        self.local_error(operation, Kind::Malformed, bad.to_string())
    }

    fn local_error(&self, operation: Operation, kind: Kind, message: String) -> Error {
        let details = Details::new(operation, self.resource.endpoint.to_string(), kind);
        Error::new(Details {
            message: Some(message),
            ..details
        })
    }
}

impl IssuedToken {
    fn new(answer: TokenAnswer, date: Timestamp, received_at: Timestamp) -> Self {
        Self {
            token: answer.token,
            expires_on: answer.expires_on,
            date,
            received_at,
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("endpoint", &self.resource.endpoint)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

fn created(answer: &Answer) -> Option<CreateAnswer> {
    answer
        .success::<CreateAnswer>()
        .filter(|created| created.identity.is_sound())
}

fn issued(answer: &Answer) -> Option<TokenAnswer> {
    answer
        .success::<TokenAnswer>()
        .filter(TokenAnswer::is_sound)
}
