//! Choice of the next step for an `AcsToken`. Pure: no I/O, no clock, no randomness.

mod consumers;
mod deletion;
mod exchange;
mod issue;
mod life;
mod withheld;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

pub use issue::{is_issued_before_revocation, ready, renew_at};

use super::{limits::Limits, restart};
use crate::{
    cache::UserTokenView,
    consumers::ConsumerPod,
    crd::{
        AcsToken, ConsumersStatus, Reason, RolloutRestartStatus, TokenRecord, Verdict, is_held,
        is_ready,
    },
    credentials::Unusable,
    engine::{CallStage, IssueRequest},
    renewal,
};
use consumers::with_counts;
use deletion::decide_deletion;
use exchange::has_to_go;
use life::decide_life;

/// Minimum time between repairs of a Secret that other controllers keep changing. The first repair
/// happens at once (T5).
pub const REPAIR_INTERVAL: SignedDuration = SignedDuration::from_mins(5);

/// A wait for ACS is reported in the status if it lasts longer than this.
const QUIET_WAIT: SignedDuration = SignedDuration::from_secs(3);

/// Input of the decision.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// Time by the operator's clock.
    pub now: Timestamp,
    /// Time by the clock of ACS, or slightly earlier, never later. `None` before the first answer
    /// of ACS.
    pub service_now: Option<Timestamp>,
    /// The `AcsToken`.
    pub token: &'a AcsToken,
    /// Identity of the token.
    pub identity: IdentityView,
    /// Limits that the connection's policy sets.
    pub limits: Limits,
    /// Entra token to exchange, for a token of a Teams user.
    pub user_token: Option<UserTokenView>,
    /// Whether the last failed call was made with another Entra token.
    pub is_new_user_token: bool,
    /// Secret with the name that the spec sets.
    pub secret: SecretView,
    /// Secret of this token with another name (T6).
    pub former: Option<FormerSecret>,
    /// Another `AcsToken` that names the same Secret and takes precedence.
    pub rival: Option<Rival>,
    /// Label or annotation of the spec that the operator's flags forbid on Secrets.
    pub forbidden_key: Option<String>,
    /// Time of the latest repair after an edit of the Secret within the last hour.
    pub last_repair: Option<Timestamp>,
    /// Time of the latest write after a deletion of the Secret within the last hour.
    pub last_recreation: Option<Timestamp>,
    /// Earliest time of the next rewrite of a Secret that others keep changing; `None` if it may be
    /// rewritten now (T5).
    pub rewrite_at: Option<Timestamp>,
    /// Time before which ACS asked not to be called.
    pub not_before: Option<Timestamp>,
    /// Stage of the call to ACS.
    pub call: CallStage,
    /// Time at which a deletion proceeds without ACS (I3).
    pub deletion_deadline: Timestamp,
    /// State of the workload restarts.
    pub restarts: restart::Restarts,
    /// Pods that use the Secret.
    pub consumers: ConsumersView,
}

/// Knowledge about the pods that use a Secret.
#[derive(Clone, Debug, PartialEq)]
pub enum ConsumersView {
    /// Pods are not counted.
    Disabled,
    /// The pods are not known yet.
    Unknown,
    /// The pods that use the Secret.
    Known {
        /// These pods.
        pods: Vec<Arc<ConsumerPod>>,
        /// Earliest time to write another count; `None` if it may be written now (K4).
        pause: Option<Timestamp>,
    },
}

/// Numbers of pods for the status; `None` if pods are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts(pub Option<ConsumersStatus>);

/// Another `AcsToken` that names the same Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// Name of the `AcsToken`.
    pub name: String,
    /// Whether it waits in turn for a Secret of this token, so that neither can proceed unless this
    /// token deletes its Secret.
    pub gives_way: bool,
}

/// Identity or Teams user of a token, reduced to what the token depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityView {
    /// The `AcsIdentity` does not exist.
    Missing,
    /// The `AcsIdentity` is being deleted, and its tokens with it (I5).
    Deleting,
    /// The `AcsIdentity` has no id in ACS yet.
    NotReady {
        /// Reason, in CamelCase.
        reason: Reason,
        /// Message for people.
        message: String,
        /// Whether the wait is expected to be short.
        is_brief: bool,
    },
    /// The identity has an id in ACS.
    Usable(Box<UsableIdentity>),
}

/// Identity that has an id in ACS.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "what is known of it, each by itself"
)]
pub struct UsableIdentity {
    /// Id in ACS.
    pub id: String,
    /// Tokens issued at or before this time are revoked; by the clock of ACS.
    pub tokens_valid_after: Option<Timestamp>,
    /// Whether ACS answered that the identity does not exist, so that none of its tokens works
    /// (T8).
    pub is_missing: bool,
    /// Whether a revocation is in progress. No token may be issued meanwhile (R3).
    pub is_revoking: bool,
    /// Tokens issued before this time are issued again after it (R3).
    pub unsettled_until: Option<Timestamp>,
    /// State of the connection.
    pub connection: ConnectionView,
    /// Whether `spec.suspend` of the identity is true. No token may be issued meanwhile.
    pub is_suspended: bool,
    /// Why the policy denies use of the identity, if it does.
    pub denial: Option<String>,
    /// Fingerprints of former credentials with tokens that no longer work: ACS rejects these
    /// credentials and accepts another (C1).
    pub dead_credentials: Vec<String>,
    /// Message of the last revocation's failure, while the revocation fails.
    pub revocation_fails: Option<String>,
    /// Whether a revocation can still be sent. If not, a deletion in a terminating namespace
    /// proceeds at once.
    pub can_revoke: bool,
}

/// State of a token's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionView {
    /// The connection can be used with this credential.
    Usable {
        /// Fingerprint of the credential in use.
        credential: String,
    },
    /// The connection cannot be used.
    Unusable(Unusable),
}

/// State of the Secret with the wanted name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretView {
    /// Its data was not read since its last change, or its absence is not confirmed.
    Unknown,
    /// The Secret does not exist.
    Absent,
    /// The Secret belongs to another owner (T5).
    Foreign {
        /// Description of the owner, as far as it is known.
        owner: String,
    },
    /// The Secret belongs to this token.
    Ours {
        /// Token record in its annotations; `None` if the data does not match the record, because
        /// the Secret was edited.
        record: Option<Box<TokenRecord>>,
        /// Whether keys, labels or annotations differ from the spec.
        is_outdated: bool,
        /// Whether the Secret is `immutable`, which cannot be undone.
        is_immutable: bool,
    },
}

/// Secret of this token that the spec no longer names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerSecret {
    /// Name of the Secret.
    pub name: String,
    /// Token record in its annotations. Its data was not compared with the record.
    pub record: Option<TokenRecord>,
}

/// Next step for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Add the finalizer, so that a deletion waits for the operator.
    AddFinalizer,
    /// Read the Secret with the wanted name.
    ReadSecret,
    /// Read the Entra token of the Teams user.
    ReadUserToken,
    /// Record in the status that no token can be issued, and why.
    Fail {
        /// Reason, in CamelCase.
        reason: Reason,
        /// Message that says what to do.
        message: String,
    },
    /// Record the token of the Secret in the status.
    Record(TokenRecord),
    /// Issue a token and write it to the Secret.
    Issue(IssueRequest),
    /// Rewrite keys, labels and annotations of the Secret, with the same token.
    RewriteSecret,
    /// Write the token of the former Secret to the Secret with the wanted name.
    CopySecret {
        /// Name of the former Secret.
        from: String,
    },
    /// Delete a Secret of this token.
    DeleteSecret {
        /// Name of the Secret.
        name: String,
        /// Whether to ask the API server first if the identity really does not exist.
        only_without_identity: bool,
    },
    /// Restart a workload with pods that cannot notice the change by themselves.
    RestartWorkload(Box<restart::Restart>),
    /// Record that the requested action does not exist, and that the request is handled.
    RefuseRequest {
        /// Value of the request annotation.
        request: String,
    },
    /// Remove the finalizer.
    RemoveFinalizer {
        /// Why tokens that may still be valid are left behind, if they are.
        abandoned: Option<&'static str>,
    },
    /// Set the conditions of a token that no longer works, before a new one is issued.
    Mark,
    /// Update the status and wait.
    Rest,
}

impl Step {
    /// Name of the step, for metrics and logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AddFinalizer => "add_finalizer",
            Self::ReadSecret => "read_secret",
            Self::ReadUserToken => "read_user_token",
            Self::Fail { .. } => "fail",
            Self::Record(_) => "record",
            Self::Issue(_) => "issue",
            Self::RewriteSecret => "rewrite_secret",
            Self::CopySecret { .. } => "copy_secret",
            Self::DeleteSecret { .. } => "delete_secret",
            Self::RestartWorkload(_) => "restart_workload",
            Self::RefuseRequest { .. } => "refuse_request",
            Self::RemoveFinalizer { .. } => "remove_finalizer",
            Self::Mark => "mark",
            Self::Rest => "rest",
        }
    }
}

/// Decision for a token: next step, status and requeue time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Next step.
    pub step: Step,
    /// Verdict for the conditions when the step is [`Step::Rest`] or [`Step::Mark`]; `None` leaves
    /// the status unchanged.
    pub verdict: Option<Verdict>,
    /// Token to record in the status.
    pub record: Option<TokenRecord>,
    /// Whether to remove the token from the status: it no longer works, and nothing is left to
    /// revoke.
    pub forgets: bool,
    /// Whether the policy no longer allows the namespace of a Teams user's token.
    pub is_denied: bool,
    /// Status of the workloads to restart; `None` leaves it unchanged.
    pub restarts: Option<Vec<RolloutRestartStatus>>,
    /// Numbers of pods that use the Secret; `None` leaves them unchanged.
    pub counts: Option<Counts>,
    /// Time of the next run, unless an event comes first.
    pub requeue_at: Option<Timestamp>,
}

impl Decision {
    fn step(step: Step) -> Self {
        Self {
            step,
            verdict: None,
            record: None,
            forgets: false,
            is_denied: false,
            restarts: None,
            counts: None,
            requeue_at: None,
        }
    }

    fn rest(verdict: Verdict, record: Option<&TokenRecord>, requeue_at: Option<Timestamp>) -> Self {
        Self {
            verdict: Some(verdict),
            record: record.cloned(),
            requeue_at,
            ..Self::step(Step::Rest)
        }
    }
}

/// Returns the next step for a token.
#[must_use]
pub fn decide(observed: &Observed<'_>) -> Decision {
    let metadata = &observed.token.metadata;
    let decision = match (&metadata.deletion_timestamp, is_held(observed.token)) {
        (Some(_), false) => Decision::step(Step::Rest),
        (Some(_), true) => decide_deletion(observed),
        (None, false) => Decision::step(Step::AddFinalizer),
        (None, true) => with_counts(observed, decide_life(observed)),
    };
    // A token that is being issued has to be revoked, too.
    let goes_on = match &decision.step {
        Step::RemoveFinalizer { .. } => observed.now >= observed.deletion_deadline,
        _ => true,
    };
    if observed.call.is_on_the_wire() && !goes_on {
        return waits(observed);
    }
    decision
}

/// Returns the decision for a token that waits for ACS: for its turn or for an answer. A valid
/// token stays Ready until it expires; for any other, the wait is reported if it is not short.
#[must_use]
pub fn waits(observed: &Observed<'_>) -> Decision {
    if observed.token.metadata.deletion_timestamp.is_some() {
        let message = "waiting for ACS to answer; then the tokens of the identity are revoked";
        return Decision::rest(
            Verdict::reconciling(Reason::Deleting, message),
            None,
            Some(observed.deletion_deadline),
        );
    }
    let good = match (&observed.identity, &observed.secret) {
        (IdentityView::Usable(identity), SecretView::Ours { record, .. }) => {
            record.as_deref().filter(|record| {
                record.identity_id == identity.id && is_good(observed, identity, record)
            })
        }
        _ => None,
    };
    let status = observed.token.status.as_ref();
    let is_current = status
        .is_some_and(|status| status.observed_generation == observed.token.metadata.generation);
    // The reason why it is not Ready, perhaps an earlier failure, says more than a message about
    // the next attempt.
    let has_reason = || {
        !is_reported_ready(observed.token)
            && status.is_some_and(|status| !status.conditions.is_empty())
    };
    let is_reported = is_current && (good.is_some() || has_reason());
    let since = observed.call.since().unwrap_or(observed.now);
    let silence = renewal::pause(since, QUIET_WAIT, observed.now).filter(|_| !is_reported);
    let requeue_at = good.map(|record| record.expires_at);
    if is_reported || silence.is_some() {
        return Decision {
            requeue_at: silence.into_iter().chain(requeue_at).min(),
            ..Decision::step(Step::Rest)
        };
    }
    let verdict = match good {
        Some(_) => ready(observed.token),
        None => Verdict::reconciling(
            Reason::WaitingForService,
            "waiting for ACS to issue a token",
        ),
    };
    Decision::rest(verdict, good, requeue_at)
}

fn is_good(observed: &Observed<'_>, identity: &UsableIdentity, record: &TokenRecord) -> bool {
    observed.now < record.expires_at
        && !identity.is_missing
        && !has_to_go(observed, identity)
        && !is_dead(record.issued_at, identity)
        && !is_of_dead_credential(identity, record)
}

fn is_of_dead_credential(identity: &UsableIdentity, record: &TokenRecord) -> bool {
    identity.dead_credentials.contains(&record.credential)
}

fn is_dead(issued_at: Timestamp, identity: &UsableIdentity) -> bool {
    identity
        .tokens_valid_after
        .is_some_and(|after| issued_at <= after)
}

/// Whether the status of `token` says that it is Ready.
#[must_use]
pub fn is_reported_ready(token: &AcsToken) -> bool {
    token
        .status
        .as_ref()
        .is_some_and(|status| is_ready(&status.conditions))
}
