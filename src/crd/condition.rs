use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The condition that every kind always has: does it do its job now?
pub const READY: &str = "Ready";
/// Present, and True, while we are getting there by ourselves.
pub const RECONCILING: &str = "Reconciling";
/// Present, and True, when a human must act.
pub const STALLED: &str = "Stalled";

/// The reason of an identity that ACS says does not exist.
pub const IDENTITY_NOT_FOUND: &str = "IdentityNotFound";

/// Of a connection: whether keys that it no longer uses can be regenerated without harm (C1).
pub const SAFE_TO_REGENERATE: &str = "SafeToRegenerate";

/// Of a connection, present while it is True: ACS's limits don't let all its tokens be kept alive.
pub const SERVICE_LIMIT_EXCEEDED: &str = "ServiceLimitExceeded";

/// What an object's conditions say, in one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does its job.
    Ready {
        /// CamelCase, for machines.
        reason: Cow<'static, str>,
        /// A sentence, for people.
        message: String,
    },
    /// It does not yet; we go on by ourselves, or as soon as something that is missing is there.
    Reconciling {
        /// CamelCase, for machines.
        reason: Cow<'static, str>,
        /// A sentence that says what it waits for.
        message: String,
    },
    /// It does not, and a human must act.
    Stalled {
        /// CamelCase, for machines.
        reason: Cow<'static, str>,
        /// A sentence that says what to do.
        message: String,
    },
    /// It does its job, but what is asked for now cannot be had (a good token of a stalled object).
    ReadyButStalled {
        /// CamelCase, for machines.
        reason: Cow<'static, str>,
        /// A sentence that says what to do.
        message: String,
    },
    /// Nothing new is done, because someone wants it so.
    Suspended {
        /// Whether it does its job all the same, with what it has.
        is_good: bool,
        /// A sentence that says by what.
        message: String,
    },
}

impl Verdict {
    /// We go on by ourselves.
    pub fn reconciling(reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::Reconciling {
            reason: reason.into(),
            message: message.into(),
        }
    }

    /// A human must act.
    pub fn stalled(reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::Stalled {
            reason: reason.into(),
            message: message.into(),
        }
    }

    /// The sentence.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::Ready { message, .. }
            | Self::Reconciling { message, .. }
            | Self::Stalled { message, .. }
            | Self::ReadyButStalled { message, .. }
            | Self::Suspended { message, .. } => message,
        }
    }

    /// It does its job.
    pub fn ready(reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::Ready {
            reason: reason.into(),
            message: message.into(),
        }
    }
}

/// Builds the conditions of an object from its verdict, after kstatus: `Ready` always,
/// `Reconciling` and `Stalled` only when True.
#[derive(Debug)]
pub struct Conditions<'a> {
    /// The conditions that are stored now; they lend their transition times.
    pub former: &'a [Condition],
    /// The generation that the verdict is about.
    pub generation: Option<i64>,
    /// Local time, for conditions that flip.
    pub now: jiff::Timestamp,
}

impl Conditions<'_> {
    /// The conditions that say `verdict`.
    #[must_use]
    pub fn of(&self, verdict: &Verdict) -> Vec<Condition> {
        match verdict {
            Verdict::Ready { reason, message } => vec![self.one(READY, true, reason, message)],
            Verdict::Reconciling { reason, message } => vec![
                self.one(READY, false, reason, message),
                self.one(RECONCILING, true, reason, message),
            ],
            Verdict::Stalled { reason, message } => vec![
                self.one(READY, false, reason, message),
                self.one(STALLED, true, reason, message),
            ],
            Verdict::ReadyButStalled { reason, message } => vec![
                self.one(READY, true, reason, message),
                self.one(STALLED, true, reason, message),
            ],
            Verdict::Suspended { is_good, message } => {
                vec![self.one(READY, *is_good, "Suspended", message)]
            }
        }
    }

    /// One condition.
    #[must_use]
    pub fn one(&self, type_: &str, status: bool, reason: &str, message: &str) -> Condition {
        let status = if status { "True" } else { "False" };
        let since = self
            .former
            .iter()
            .find(|former| former.type_ == type_ && former.status == status)
            .map_or_else(
                || Time(self.now),
                |former| former.last_transition_time.clone(),
            );
        Condition {
            last_transition_time: since,
            message: message.to_owned(),
            observed_generation: self.generation,
            reason: reason.to_owned(),
            status: status.to_owned(),
            type_: type_.to_owned(),
        }
    }
}

/// Whether `conditions` say Ready.
#[must_use]
pub fn is_ready(conditions: &[Condition]) -> bool {
    conditions
        .iter()
        .any(|condition| condition.type_ == READY && condition.status == "True")
}

/// The reason of the `Ready` condition, empty where there is none yet.
#[must_use]
pub fn ready_reason(conditions: &[Condition]) -> &str {
    conditions
        .iter()
        .find(|condition| condition.type_ == READY)
        .map_or("", |condition| condition.reason.as_str())
}
