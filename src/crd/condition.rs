use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::Reason;

/// The condition that every kind always has: does it do its job now?
pub const READY: &str = "Ready";
/// Present, and True, while we are getting there by ourselves.
pub const RECONCILING: &str = "Reconciling";
/// Present, and True, when a human must act.
pub const STALLED: &str = "Stalled";

/// Of a connection: whether keys that it no longer uses can be regenerated without harm (C1).
pub const SAFE_TO_REGENERATE: &str = "SafeToRegenerate";

/// Of a connection, present while it is True: ACS's limits don't let all its tokens be kept alive.
pub const SERVICE_LIMIT_EXCEEDED: &str = "ServiceLimitExceeded";

/// What an object's conditions say, in one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does its job.
    Ready {
        /// For machines.
        reason: Reason,
        /// A sentence, for people.
        message: String,
    },
    /// It does not yet; we go on by ourselves, or as soon as something that is missing is there.
    Reconciling {
        /// For machines.
        reason: Reason,
        /// A sentence that says what it waits for.
        message: String,
    },
    /// It does not, and a human must act.
    Stalled {
        /// For machines.
        reason: Reason,
        /// A sentence that says what to do.
        message: String,
    },
    /// It does its job, but what is asked for now cannot be had (a good token of a stalled object).
    ReadyButStalled {
        /// For machines.
        reason: Reason,
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
    pub fn reconciling(reason: Reason, message: impl Into<String>) -> Self {
        Self::Reconciling {
            reason,
            message: message.into(),
        }
    }

    /// A human must act.
    pub fn stalled(reason: Reason, message: impl Into<String>) -> Self {
        Self::Stalled {
            reason,
            message: message.into(),
        }
    }

    /// Why, for machines.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Ready { reason, .. }
            | Self::Reconciling { reason, .. }
            | Self::Stalled { reason, .. }
            | Self::ReadyButStalled { reason, .. } => *reason,
            Self::Suspended { .. } => Reason::Suspended,
        }
    }

    /// It does not, whether by a human's fault or not.
    pub fn unable(reason: Reason, message: impl Into<String>, is_stalled: bool) -> Self {
        if is_stalled {
            Self::stalled(reason, message)
        } else {
            Self::reconciling(reason, message)
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
    pub fn ready(reason: Reason, message: impl Into<String>) -> Self {
        Self::Ready {
            reason,
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
        let (is_ready, other) = match verdict {
            Verdict::Ready { .. } => (true, None),
            Verdict::Reconciling { .. } => (false, Some(RECONCILING)),
            Verdict::Stalled { .. } => (false, Some(STALLED)),
            Verdict::ReadyButStalled { .. } => (true, Some(STALLED)),
            Verdict::Suspended { is_good, .. } => (*is_good, None),
        };
        let one = |type_, status| self.one(type_, status, verdict.reason(), verdict.message());
        let other = other.map(|type_| one(type_, true));
        std::iter::once(one(READY, is_ready)).chain(other).collect()
    }

    /// One condition.
    #[must_use]
    pub fn one(&self, type_: &str, status: bool, reason: Reason, message: &str) -> Condition {
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
            reason: reason.to_string(),
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

/// The reason of the `Ready` condition: `None` where there is none yet, or one of a newer version.
#[must_use]
pub fn ready_reason(conditions: &[Condition]) -> Option<Reason> {
    let ready = conditions.iter().find(|condition| condition.type_ == READY);
    Reason::parse(&ready?.reason)
}
