use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::Reason;

/// Condition that every kind always has: whether the object works now.
pub const READY: &str = "Ready";
/// Condition that is present, and True, while the operator works towards Ready.
pub const RECONCILING: &str = "Reconciling";
/// Condition that is present, and True, while a person must act.
pub const STALLED: &str = "Stalled";

/// Condition of a connection: whether access keys that it no longer uses can be regenerated without
/// harm (C1).
pub const SAFE_TO_REGENERATE: &str = "SafeToRegenerate";

/// Condition of a connection, present while it is True: the limits of ACS do not allow all its
/// tokens to be renewed in time.
pub const SERVICE_LIMIT_EXCEEDED: &str = "ServiceLimitExceeded";

/// State of an object, from which its conditions are built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The object works.
    Ready {
        /// Reason, in CamelCase.
        reason: Reason,
        /// Message for people.
        message: String,
    },
    /// The object does not work yet. The operator goes on by itself, or as soon as a missing object
    /// appears.
    Reconciling {
        /// Reason, in CamelCase.
        reason: Reason,
        /// Message that says what the operator waits for.
        message: String,
    },
    /// The object does not work, and a person must act.
    Stalled {
        /// Reason, in CamelCase.
        reason: Reason,
        /// Message that says what to do.
        message: String,
    },
    /// The object works, but the present spec cannot be fulfilled (a valid token of a stalled
    /// object).
    ReadyButStalled {
        /// Reason, in CamelCase.
        reason: Reason,
        /// Message that says what to do.
        message: String,
    },
    /// The object is suspended.
    Suspended {
        /// Whether the object still works with what it has.
        is_good: bool,
        /// Message that says what suspends it.
        message: String,
    },
}

impl Verdict {
    /// The operator goes on by itself.
    pub fn reconciling(reason: Reason, message: impl Into<String>) -> Self {
        Self::Reconciling {
            reason,
            message: message.into(),
        }
    }

    /// A person must act.
    pub fn stalled(reason: Reason, message: impl Into<String>) -> Self {
        Self::Stalled {
            reason,
            message: message.into(),
        }
    }

    /// Reason, in CamelCase.
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

    /// Not working; `stalled` says whether a person must act.
    pub fn unable(reason: Reason, message: impl Into<String>, is_stalled: bool) -> Self {
        if is_stalled {
            Self::stalled(reason, message)
        } else {
            Self::reconciling(reason, message)
        }
    }

    /// Message for people.
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

    /// The object works.
    pub fn ready(reason: Reason, message: impl Into<String>) -> Self {
        Self::Ready {
            reason,
            message: message.into(),
        }
    }
}

/// Builds the conditions of an object as kstatus expects them: `Ready` always, `Reconciling` and
/// `Stalled` only while True.
#[derive(Debug)]
pub struct Conditions<'a> {
    /// The stored conditions, whose transition times are kept.
    pub former: &'a [Condition],
    /// Generation of the spec that the verdict describes.
    pub generation: Option<i64>,
    /// Local time, for conditions whose status changes.
    pub now: jiff::Timestamp,
}

impl Conditions<'_> {
    /// Returns the conditions for `verdict`.
    #[must_use]
    pub fn for_verdict(&self, verdict: &Verdict) -> Vec<Condition> {
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

/// Whether the condition `Ready` is True.
#[must_use]
pub fn is_ready(conditions: &[Condition]) -> bool {
    conditions
        .iter()
        .any(|condition| condition.type_ == READY && condition.status == "True")
}

/// Reason of the condition `Ready`; `None` if there is none yet, or if only a newer version knows
/// it.
#[must_use]
pub fn ready_reason(conditions: &[Condition]) -> Option<Reason> {
    let ready = conditions.iter().find(|condition| condition.type_ == READY);
    Reason::parse(&ready?.reason)
}
