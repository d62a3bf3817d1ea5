//! Errors of calls to ACS, and their meaning.

use std::borrow::Cow;
use std::fmt;

use jiff::SignedDuration;

use super::{Endpoint, Operation};

/// Kind of an error, by what can be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 401 or 403 about the caller: wrong or regenerated key, wrong resource, missing role.
    CredentialRefused,
    /// Entra ID refuses to issue a token to the identity: unknown identity, wrong or expired
    /// secret, no federated credential, no consent.
    TokenRefused,
    /// Entra ID, or its substitute on the machine, is unreachable or cannot answer.
    TokenUnavailable,
    /// The assertion that proves the identity to Entra ID is not available.
    NoAssertion,
    /// 401 about the identity: it belongs to another resource, or was never created.
    IdentityNotOwned,
    /// The identity was deleted.
    IdentityNotFound,
    /// 401 about the Teams user's token in the request.
    InvalidUserToken,
    /// ACS says that the request is invalid in another way; the message says which.
    Invalid,
    /// The request cannot be built from the input. Nothing was sent.
    Malformed,
    /// The API version lacks a feature that the request needs. Mostly detected without a call.
    Unsupported,
    /// 429.
    Throttled,
    /// 5xx or 408: ACS, or a proxy in front of it, answered that it is unavailable.
    Unavailable,
    /// No connection: name resolution, refusal, TLS, or a timeout of these. Nothing was sent.
    Unreachable,
    /// The request was sent, and the answer was lost to a timeout or a broken connection.
    NoAnswer,
    /// The answer is not from ACS, but for example from a proxy: it has neither the form of a
    /// success nor that of an ACS error.
    NotTheService,
    /// Nothing was sent: this process may no longer act ([`ServiceConfig::may_send`]).
    ///
    /// [`ServiceConfig::may_send`]: super::ServiceConfig::may_send
    Withheld,
}

impl Kind {
    /// Returns the reason, one word, for conditions, Events and metrics.
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

/// Whether a failed call may have had an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The call had no effect.
    NotDone,
    /// The call may have had its effect, or, if the error [is lost](Error::is_lost), may still have
    /// it.
    Unknown,
}

/// Error of a call, after all its retries.
///
/// Displays as a sentence that says what happened and a sentence that says what to do, without
/// anything that differs between attempts, so that it can be written to a status. Never contains a
/// secret: the message of ACS is scrubbed of the request's secrets and of everything that looks
/// like a token.
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
    /// Advice that replaces the kind's.
    pub advice: Option<Cow<'static, str>>,
}

impl Details {
    /// Returns an error without details and without any effect.
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

    /// Returns an error of this kind without any effect, for fakes of ACS in tests.
    #[must_use]
    pub fn of_kind(operation: Operation, endpoint: &Endpoint, kind: Kind) -> Self {
        Self::new(Details::new(operation, endpoint.to_string(), kind))
    }

    /// Returns the same error with the wait that ACS requested.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Option<SignedDuration>) -> Self {
        self.details.retry_after = wait;
        self
    }

    /// Adds the possible effects of earlier attempts of the same call.
    #[must_use]
    pub fn after(mut self, outcome: Outcome, lost: bool) -> Self {
        self.details.outcome = self.details.outcome.max(outcome);
        self.details.lost |= lost;
        self
    }

    /// Kind of the last attempt's error.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.details.kind
    }

    /// Returns the reason, one word, for conditions, Events and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.kind().reason()
    }

    /// Whether any attempt of the call may have had its effect.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.details.outcome
    }

    /// Whether the answer to any attempt was lost: ACS may execute it even after this error, until
    /// the call's [total timeout](super::ServiceConfig::total_timeout) from now.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.details.lost
    }

    /// Returns the wait that ACS requested, at most a day.
    #[must_use]
    pub fn retry_after(&self) -> Option<SignedDuration> {
        self.details.retry_after
    }

    /// Operation of the call.
    #[must_use]
    pub fn operation(&self) -> Operation {
        self.details.operation
    }

    /// HTTP status of the last answer, if there was one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.details.status
    }

    /// Error code of ACS, such as `IdentityNotOwned`.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.details.code.as_deref()
    }

    /// Message of ACS, or the cause of a connection failure, in at most a few hundred bytes.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.details.message.as_deref()
    }

    /// `MS-CV` header of the answer, with which Microsoft's support finds a call. For logs.
    #[must_use]
    pub fn ms_cv(&self) -> Option<&str> {
        self.details.ms_cv.as_deref()
    }

    /// What to do about the error, as a sentence without its full stop.
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
