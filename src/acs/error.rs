//! What can go wrong with a call, and what it means.

use std::borrow::Cow;
use std::fmt;

use jiff::SignedDuration;

use super::{Endpoint, Operation};

/// What went wrong, by what there is to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 401 or 403 that speaks of the caller: wrong or regenerated key, wrong resource, no role.
    CredentialRefused,
    /// Entra ID refuses to give a token to the identity that is to call: unknown, a wrong or expired
    /// secret, no trust, no consent.
    TokenRefused,
    /// Entra ID, or what stands in for it on the machine, can't be reached or can't answer.
    TokenUnavailable,
    /// What is to prove the identity to Entra ID can't be had.
    NoAssertion,
    /// 401 that speaks of the identity: it belongs to another resource, or was never made.
    IdentityNotOwned,
    /// The identity was deleted.
    IdentityNotFound,
    /// 401 that speaks of the Teams user's token in the request.
    InvalidUserToken,
    /// The service says that the request is wrong in another way; the message says which.
    Invalid,
    /// The request can't be made of what was given. Nothing was sent.
    Malformed,
    /// The API version lacks what was asked for. Mostly found out without a call.
    Unsupported,
    /// 429.
    Throttled,
    /// 5xx or 408: the service, or what stands in front of it, answered that it can't.
    Unavailable,
    /// No connection: name resolution, refusal, TLS, or a timeout of these. Nothing was sent.
    Unreachable,
    /// Sent, and the answer was lost to a timeout or a broken connection.
    NoAnswer,
    /// Something answered that isn't the ACS identity service, such as a proxy: the answer has
    /// neither the form of a success nor that of the service's errors.
    NotTheService,
    /// Nothing was sent: this process may no longer act ([`ServiceConfig::may_send`]).
    ///
    /// [`ServiceConfig::may_send`]: super::ServiceConfig::may_send
    Withheld,
}

impl Kind {
    /// One word for conditions, events and metrics.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::CredentialRefused => "CredentialRefused",
            Self::TokenRefused => "TokenRefused",
            Self::TokenUnavailable => "TokenUnavailable",
            Self::NoAssertion => "ServiceAccountTokenUnavailable",
            Self::IdentityNotOwned => "IdentityNotOwned",
            Self::IdentityNotFound => "IdentityNotFound",
            Self::InvalidUserToken => "InvalidUserToken",
            Self::Invalid | Self::Malformed => "InvalidRequest",
            Self::Unsupported => "UnsupportedByApiVersion",
            Self::Throttled => "Throttled",
            Self::Unavailable => "ServiceUnavailable",
            Self::Unreachable => "ServiceUnreachable",
            Self::NoAnswer => "NoAnswer",
            Self::NotTheService => "NotTheService",
            Self::Withheld => "Withheld",
        }
    }

    fn what_happened(self) -> &'static str {
        match self {
            Self::CredentialRefused => "ACS rejected the credential",
            Self::TokenRefused => "Microsoft Entra ID refused to issue a token",
            Self::TokenUnavailable => "Microsoft Entra ID issued no token",
            Self::NoAssertion => "the operator cannot authenticate to Microsoft Entra ID",
            Self::IdentityNotOwned => "the identity does not belong to this ACS resource",
            Self::IdentityNotFound => "the identity does not exist",
            Self::InvalidUserToken => "ACS rejected the token of the Teams user",
            Self::Invalid => "ACS rejected the request",
            Self::Malformed => "the request cannot be built",
            Self::Unsupported => "the API version does not support the request",
            Self::Throttled => "the rate limit of ACS is reached",
            Self::Unavailable => "ACS is unavailable",
            Self::Unreachable => "ACS cannot be reached",
            Self::NoAnswer => "the request was sent, but its answer was lost",
            Self::NotTheService => "the answer did not come from ACS, but for example from a proxy",
            Self::Withheld => "this process is no longer the leader, so nothing was sent",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::CredentialRefused => {
                "Check that the credential belongs to this resource and was neither regenerated \
                 nor has expired"
            }
            Self::TokenRefused => "Check the Entra identity and its credential",
            Self::IdentityNotOwned => {
                "Check that the connection has the endpoint of the resource in which the identity \
                 was created"
            }
            Self::IdentityNotFound => {
                "It was deleted, or its id is wrong; a new identity is needed"
            }
            Self::InvalidUserToken => {
                "Sign the Teams user in again and supply a fresh token of the right application and user"
            }
            Self::NoAssertion | Self::Invalid | Self::Malformed => {
                "Correct the input that the \
             message names"
            }
            Self::Unsupported => "Set another apiVersion in the connection, or remove the field",
            Self::Throttled => "The operator tries again when the limit allows",
            Self::Unavailable | Self::NoAnswer | Self::TokenUnavailable => {
                "The operator tries \
             again"
            }
            Self::Unreachable => {
                "Check the endpoint, and check that network, name resolution and proxies allow \
                 connections to it"
            }
            Self::NotTheService => {
                "Check that the endpoint is that of an ACS resource, and that no proxy or firewall answers in its place"
            }
            Self::Withheld => "The leader carries on",
        }
    }
}

/// Whether a failed call may have had its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It surely had none.
    NotDone,
    /// It may have had it, or, where the error [is lost](Error::is_lost), may still get it.
    Unknown,
}

/// A call that failed, after all its retries.
///
/// Displays as a sentence of what happened and a sentence of what to do, without anything that
/// changes from one attempt to the next, so that it can stand in a status. Never contains a
/// secret: what the service says is scrubbed of what was sent and of all that looks like a token.
#[derive(Clone)]
pub struct Error {
    details: Box<Details>,
}

#[derive(Clone, Debug)]
pub(super) struct Details {
    pub operation: Operation,
    pub endpoint: String,
    pub kind: Kind,
    pub status: Option<u16>,
    pub code: Option<String>,
    pub message: Option<String>,
    pub ms_cv: Option<String>,
    pub retry_after: Option<SignedDuration>,
    pub outcome: Outcome,
    pub lost: bool,
    /// Better advice than the kind's.
    pub advice: Option<Cow<'static, str>>,
}

impl Details {
    /// An error of which nothing more is known, and without any effect.
    pub(super) fn new(operation: Operation, endpoint: String, kind: Kind) -> Self {
        Self {
            operation,
            endpoint,
            kind,
            status: None,
            code: None,
            message: None,
            ms_cv: None,
            retry_after: None,
            outcome: Outcome::NotDone,
            lost: false,
            advice: None,
        }
    }
}

impl Error {
    pub(super) fn new(details: Details) -> Self {
        Self {
            details: Box::new(details),
        }
    }

    /// An error of this kind, without any effect: what a stand-in for the service answers.
    #[must_use]
    pub fn of_kind(operation: Operation, endpoint: &Endpoint, kind: Kind) -> Self {
        Self::new(Details::new(operation, endpoint.to_string(), kind))
    }

    /// The same error with the wait that the service asked for.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Option<SignedDuration>) -> Self {
        self.details.retry_after = wait;
        self
    }

    /// Adds what earlier attempts of the same call may have done.
    #[must_use]
    pub fn after(mut self, outcome: Outcome, lost: bool) -> Self {
        self.details.outcome = self.details.outcome.max(outcome);
        self.details.lost |= lost;
        self
    }

    /// What went wrong with the last attempt.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.details.kind
    }

    /// One word for conditions, events and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.kind().reason()
    }

    /// Whether any attempt of the call may have had its effect.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.details.outcome
    }

    /// Whether the answer to any attempt was lost: the service may act on it even after this
    /// error, up to the call's [total timeout](super::ServiceConfig::total_timeout) from now.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.details.lost
    }

    /// How long the service asked to wait, at most a day.
    #[must_use]
    pub fn retry_after(&self) -> Option<SignedDuration> {
        self.details.retry_after
    }

    /// What was asked for.
    #[must_use]
    pub fn operation(&self) -> Operation {
        self.details.operation
    }

    /// The HTTP status of the last answer, if there was one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.details.status
    }

    /// The service's error code, such as `IdentityNotOwned`.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.details.code.as_deref()
    }

    /// What the service said, or what broke, in at most some hundred bytes.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.details.message.as_deref()
    }

    /// The answer's `MS-CV` header, by which Microsoft's support finds a call. For logs.
    #[must_use]
    pub fn ms_cv(&self) -> Option<&str> {
        self.details.ms_cv.as_deref()
    }

    /// What to do about it, as a sentence without its full stop.
    #[must_use]
    pub fn advice(&self) -> &str {
        match &self.details.advice {
            Some(advice) => advice,
            None => self.kind().advice(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details {
            operation,
            endpoint,
            kind,
            status,
            code,
            message,
            ..
        } = &*self.details;
        write!(
            f,
            "Could not {operation} at {endpoint}: {}",
            kind.what_happened()
        )?;
        let status = status.map(|status| status.to_string());
        let record = [status.as_deref(), code.as_deref(), message.as_deref()];
        let record: Vec<&str> = record.into_iter().flatten().collect();
        if !record.is_empty() {
            write!(f, " ({})", record.join(", "))?;
        }
        write!(f, ". {}.", self.advice())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.details.fmt(f)
    }
}

impl std::error::Error for Error {}
