//! What to do next for an `AcsToken`. Pure: no I/O, no clock, no randomness.

mod deletion;
mod exchange;
mod issue;
mod life;
mod withheld;

use jiff::{SignedDuration, Timestamp};

pub use issue::{is_issued_before_revocation, ready, renew_at};

use super::{limits::Limits, restart};
use crate::{
    cache::UserTokenView,
    crd::{AcsToken, FINALIZER, Reason, RolloutRestartStatus, TokenRecord, Verdict, is_ready},
    credentials::Unusable,
    engine::{CallStage, IssueRequest},
    renewal,
};
use deletion::decide_deletion;
use exchange::has_to_go;
use life::decide_life;

/// A change that other controllers fight over is repaired at once, then this far apart (T5).
pub const REPAIR_INTERVAL: SignedDuration = SignedDuration::from_mins(5);

/// A wait for ACS is told when it lasts longer than this.
const QUIET_WAIT: SignedDuration = SignedDuration::from_secs(3);

/// All that the decision depends on.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// The operator's clock.
    pub now: Timestamp,
    /// The service's clock, or a little earlier, never later; unknown before its first answer.
    pub service_now: Option<Timestamp>,
    /// The object.
    pub token: &'a AcsToken,
    /// Its identity.
    pub identity: IdentityView,
    /// What the connection's policy lets it be.
    pub limits: Limits,
    /// The Entra token that it is exchanged for, if it is a Teams user's.
    pub user_token: Option<UserTokenView>,
    /// Whether the last call that failed was made with another Entra token.
    pub is_new_user_token: bool,
    /// The Secret of the name that the spec asks for.
    pub secret: SecretView,
    /// A Secret of ours under another name (T6).
    pub former: Option<FormerSecret>,
    /// Another `AcsToken` that names the same Secret and goes first.
    pub rival: Option<Rival>,
    /// A label or annotation that the operator's flags forbid on Secrets.
    pub forbidden_key: Option<String>,
    /// When edits of the Secret were repaired within the last hour, latest first.
    pub last_repair: Option<Timestamp>,
    /// When the Secret was written again after a deletion within the last hour.
    pub last_recreation: Option<Timestamp>,
    /// When a Secret that others keep changing is rewritten next, unless it may be now (T5).
    pub rewrite_at: Option<Timestamp>,
    /// The service asked not to be called before this time.
    pub not_before: Option<Timestamp>,
    /// How its call to ACS stands.
    pub call: CallStage,
    /// When a deletion goes on without ACS (I3).
    pub deletion_deadline: Timestamp,
    /// What is known of restarts of workloads.
    pub restarts: restart::Restarts,
}

/// Another `AcsToken` that names the same Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// Its name.
    pub name: String,
    /// It waits for a Secret of ours in its turn, and nobody moves unless we let that go.
    pub gives_way: bool,
}

/// The identity of a token, or its Teams user, as far as the token cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityView {
    /// There is no such `AcsIdentity`.
    Missing,
    /// It is being deleted, and its tokens with it (I5).
    Deleting,
    /// It has no id in ACS yet.
    NotReady {
        /// Why, for machines.
        reason: Reason,
        /// Why, in a sentence.
        message: String,
        /// Whether it is only a matter of a moment.
        is_brief: bool,
    },
    /// It has an id.
    Usable(Box<UsableIdentity>),
}

/// An identity that has an id in ACS.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "what is known of it, each by itself"
)]
pub struct UsableIdentity {
    /// The id in ACS.
    pub id: String,
    /// Tokens issued at this time or before are dead; by the service's clock.
    pub tokens_valid_after: Option<Timestamp>,
    /// ACS says that it does not exist, and so none of its tokens works (T8).
    pub is_missing: bool,
    /// A revocation is under way: nothing may be issued (R3).
    pub is_revoking: bool,
    /// Tokens issued before this time are issued once more when it has passed (R3).
    pub unsettled_until: Option<Timestamp>,
    /// How the connection is.
    pub connection: ConnectionView,
    /// Whether its `spec.suspend` is true: nothing may be issued.
    pub is_suspended: bool,
    /// Why the policy does not let the identity be used, if it does not.
    pub denial: Option<String>,
    /// Fingerprints of former credentials whose tokens are dead: the service refuses them, and
    /// accepts another (C1).
    pub dead_credentials: Vec<String>,
    /// What kept its last revocation from being done, in a sentence, while that fails.
    pub revocation_fails: Option<String>,
    /// Whether revokes can still be sent; false lets a deletion in a terminating namespace go at once.
    pub can_revoke: bool,
}

/// The connection of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionView {
    /// It can be called with this credential.
    Usable {
        /// Fingerprint of the credential in use.
        credential: String,
    },
    /// It can't be called.
    Unusable(Unusable),
}

/// A Secret under the wanted name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretView {
    /// Its bytes were not looked at since it last changed, or its absence is not confirmed.
    Unknown,
    /// There is none.
    Absent,
    /// It is not ours (T5).
    Foreign {
        /// Whose it is, as far as one can tell.
        owner: String,
    },
    /// It is ours.
    Ours {
        /// What it says of its token; `None` when bytes and facts do not fit: it was edited.
        record: Option<Box<TokenRecord>>,
        /// Whether keys, labels or annotations differ from what the spec asks for.
        is_outdated: bool,
        /// Whether it is `immutable`, which nobody can take back.
        is_immutable: bool,
    },
}

/// A Secret of ours that the spec no longer names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerSecret {
    /// Its name.
    pub name: String,
    /// What it says of its token, its bytes not yet looked at.
    pub record: Option<TokenRecord>,
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make sure that a deletion waits for us.
    AddFinalizer,
    /// Read the Secret of the wanted name.
    ReadSecret,
    /// Read the Entra token of the Teams user.
    ReadUserToken,
    /// Tell that no token can be had, and why.
    Fail {
        /// Why, for machines.
        reason: Reason,
        /// What to do, in a sentence.
        message: String,
    },
    /// Bring the status up to what the Secret tells.
    Record(TokenRecord),
    /// Issue a token into the Secret.
    Issue(IssueRequest),
    /// Write keys, labels and annotations anew around the same token.
    RewriteSecret,
    /// Write the token of the former Secret under the wanted name.
    CopySecret {
        /// The former Secret.
        from: String,
    },
    /// Delete a Secret of ours.
    DeleteSecret {
        /// Its name.
        name: String,
        /// Look first whether the identity is really gone.
        only_without_identity: bool,
    },
    /// Restart a workload whose pods can't see by themselves that something has changed.
    RestartWorkload(Box<restart::Restart>),
    /// Tell that nobody can obey a request, and that it is done with.
    RefuseRequest {
        /// Its value.
        request: String,
    },
    /// Let the object go.
    RemoveFinalizer {
        /// Tokens that may still be alive are left behind: why.
        abandoned: Option<&'static str>,
    },
    /// Tell that the token is not good, before a new one is waited for.
    Mark,
    /// Nothing to do but to tell, and to wait.
    Rest,
}

impl Step {
    /// Its name, for metrics and logs.
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

/// What to do, what to tell, and when to look again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The next step.
    pub step: Step,
    /// What the conditions say when the step is [`Step::Rest`] or [`Step::Mark`]; `None` leaves the
    /// status alone.
    pub verdict: Option<Verdict>,
    /// The token that the status tells.
    pub record: Option<TokenRecord>,
    /// Whether the status forgets its token: it is dead, and nothing is left to revoke.
    pub forgets: bool,
    /// Whether the policy has ceased to serve the namespace of a Teams user's token.
    pub is_denied: bool,
    /// What the status tells of the workloads to restart; `None` leaves that as it is.
    pub restarts: Option<Vec<RolloutRestartStatus>>,
    /// When to look again, unless an event comes first.
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
            requeue_at: None,
        }
    }

    fn rest(verdict: Verdict, record: Option<&TokenRecord>, requeue_at: Option<Timestamp>) -> Self {
        Self {
            step: Step::Rest,
            verdict: Some(verdict),
            record: record.cloned(),
            forgets: false,
            is_denied: false,
            restarts: None,
            requeue_at,
        }
    }
}

/// Chooses the next step for a token.
#[must_use]
pub fn decide(observed: &Observed<'_>) -> Decision {
    let metadata = &observed.token.metadata;
    let is_held = metadata
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == FINALIZER);
    let decision = match (&metadata.deletion_timestamp, is_held) {
        (Some(_), false) => Decision {
            requeue_at: None,
            ..Decision::step(Step::Rest)
        },
        (Some(_), true) => decide_deletion(observed),
        (None, false) => Decision::step(Step::AddFinalizer),
        (None, true) => decide_life(observed),
    };
    // A token on its way has to be revoked, too.
    let goes_on = match &decision.step {
        Step::RemoveFinalizer { .. } => observed.now >= observed.deletion_deadline,
        _ => true,
    };
    if observed.call.is_on_the_wire() && !goes_on {
        return waits(observed);
    }
    decision
}

/// What a token does and tells while it waits for ACS: for its turn, or for an answer. One that is
/// good stays Ready until it ends; that another is not good is told when the wait is no moment.
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
    // Why it is not Ready, a former failure perhaps, says more than that it is tried again.
    let has_reason = || {
        !is_told_ready(observed.token) && status.is_some_and(|status| !status.conditions.is_empty())
    };
    let is_told = is_current && (good.is_some() || has_reason());
    let since = observed.call.since().unwrap_or(observed.now);
    let silence = renewal::pause(since, QUIET_WAIT, observed.now).filter(|_| !is_told);
    let requeue_at = good.map(|record| record.expires_at);
    if is_told || silence.is_some() {
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

/// Whether `token` says of itself that it is fine.
#[must_use]
pub fn is_told_ready(token: &AcsToken) -> bool {
    token
        .status
        .as_ref()
        .is_some_and(|status| is_ready(&status.conditions))
}
