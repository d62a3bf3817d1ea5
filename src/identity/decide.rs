//! Choice of the next step for an `AcsIdentity`. Pure: no I/O, no clock, no randomness.

mod deletion;
mod revocation;

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};

use deletion::decide_deletion;
pub use revocation::{CALL, INTENT, is_urgent};
use revocation::{decide_denied, decide_revocation, decide_without_connection};

use crate::{
    crd::{
        AcsIdentity, AcsIdentityStatus, ConnectionKind, ConnectionRef, Origin, Reason, Verdict,
        is_held,
    },
    credentials::Unusable,
    engine::CallStage,
    renewal,
    token::RevocationDemand,
};

/// Input of the decision.
#[derive(Clone, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "facts that have nothing to do with each other"
)]
pub struct Observed<'a> {
    /// Time by the operator's clock.
    pub now: Timestamp,
    /// Time by the clock of ACS, or slightly earlier, never later. `None` before the first answer
    /// of ACS.
    pub service_now: Option<Timestamp>,
    /// The `AcsIdentity`.
    pub identity: &'a AcsIdentity,
    /// State of its connection.
    pub connection: ConnectionView,
    /// Revocation demands of its tokens; with a shared id, those of the tokens of all its objects.
    pub demands: Vec<RevocationDemand>,
    /// Secrets that its tokens own.
    pub secrets: Vec<String>,
    /// Whether one of these Secrets holds a token that no status records and that demands a
    /// revocation when it is deleted.
    pub has_unrecorded: bool,
    /// Other objects that use the same id, and whether this one may use it too.
    pub others: Others,
    /// UIDs of the revocations that have this object, or another with the same id, as an open
    /// target.
    pub revocations: Vec<String>,
    /// Whether one of these revocations targets this object and no revocation has fulfilled it yet.
    pub is_ordered: bool,
    /// Time at which this process first saw that a revocation is demanded.
    pub asked_since: Option<Timestamp>,
    /// Whether this run recorded the intent (create or revoke) in the status and has not sent its
    /// call yet.
    pub is_intent_fresh: bool,
    /// Whether ACS answered that the identity does not exist (T8).
    pub is_missing: bool,
    /// Whether it uses the `ClusterAcsConnection` called `default`, and an `AcsConnection` of that
    /// name has been created in its namespace since.
    pub has_other_default: bool,
    /// Id of an identity that was created for the object and that no status records yet (I6).
    pub created: Option<String>,
    /// Time before which ACS asked not to be called.
    pub not_before: Option<Timestamp>,
    /// Stage of the call to ACS.
    pub call: CallStage,
    /// Whether the namespace is being deleted, so that nothing can be created in it any more.
    pub is_namespace_terminating: bool,
    /// Time at which a deletion proceeds without ACS (I3).
    pub deletion_deadline: Timestamp,
}

/// Other objects with the same id at the same endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// There are none.
    None,
    /// There are others, and the policy lets them share the id.
    Sharing,
    /// There is an older one, and the policy does not let them share the id.
    Conflicting,
}

/// State of an identity's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionView {
    /// The connection can be used.
    Usable {
        /// Reference to the connection.
        reference: ConnectionRef,
        /// Endpoint of the connection.
        endpoint: String,
        /// Whether existing identities may be adopted.
        allows_adoption: bool,
        /// Whether the API version makes creation exactly-once.
        knows_custom_id: bool,
    },
    /// The connection is chosen at a later time: an `AcsConnection` called `default` may still be
    /// created.
    Awaited {
        /// Time of the choice.
        until: Timestamp,
    },
    /// The connection can only be used for cleanup: it is deleted or replaced, but its credential
    /// is still in memory.
    CleanupOnly(Unusable),
    /// The connection cannot be used.
    Unusable(Unusable),
}

/// Next step for an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Add the finalizer, so that a deletion waits for the operator.
    AddFinalizer,
    /// Record that an identity is about to be created (I1).
    RecordCreate {
        /// Connection, kept from now on.
        reference: ConnectionRef,
        /// Endpoint of the connection, kept from now on.
        endpoint: String,
        /// Whether an earlier create call has an unknown outcome.
        was_lost: bool,
    },
    /// Create an identity, without scopes (I2).
    Create {
        /// UID of the object, if the API version makes creation exactly-once.
        custom_id: Option<String>,
    },
    /// Record the id of the identity that was created (I6).
    RecordCreated,
    /// Record the adopted id.
    Adopt {
        /// Connection, kept from now on.
        reference: ConnectionRef,
        /// Endpoint of the connection, kept from now on.
        endpoint: String,
        /// Id in ACS.
        id: String,
    },
    /// Switch to another connection with the same endpoint.
    FollowConnection {
        /// Connection, kept from now on.
        reference: ConnectionRef,
        /// Endpoint of the connection.
        endpoint: String,
    },
    /// Record that all tokens are about to be revoked (R3).
    RecordRevocation {
        /// Reason, as the status has it.
        reason: String,
        /// Time until which an earlier call without an answer may take effect; by the operator's
        /// clock.
        unsettled_until: Option<Timestamp>,
    },
    /// Record that the requested action does not exist, and that the request is handled.
    RefuseRequest {
        /// Value of the request annotation.
        request: String,
    },
    /// Revoke all tokens.
    Revoke {
        /// Id in ACS.
        id: String,
    },
    /// Delete the Secrets of the tokens (I5).
    DeleteSecrets,
    /// Delete the identity in ACS.
    Delete {
        /// Id in ACS.
        id: String,
    },
    /// Remove the finalizer.
    RemoveFinalizer {
        /// Why something is left behind in ACS, if it is.
        abandoned: Option<Cow<'static, str>>,
    },
    /// Update the status and wait.
    Rest,
}

impl Step {
    /// Name of the step, for metrics and logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AddFinalizer => "add_finalizer",
            Self::RecordCreate { .. } => "record_create",
            Self::Create { .. } => "create",
            Self::RecordCreated => "record_created",
            Self::Adopt { .. } => "adopt",
            Self::FollowConnection { .. } => "follow_connection",
            Self::RecordRevocation { .. } => "record_revocation",
            Self::Revoke { .. } => "revoke",
            Self::RefuseRequest { .. } => "refuse_request",
            Self::DeleteSecrets => "delete_secrets",
            Self::Delete { .. } => "delete",
            Self::RemoveFinalizer { .. } => "remove_finalizer",
            Self::Rest => "rest",
        }
    }
}

/// Decision for an identity: next step, status and requeue time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Next step.
    pub step: Step,
    /// Verdict for the conditions when the step is [`Step::Rest`]; `None` leaves them unchanged.
    pub verdict: Option<Verdict>,
    /// Whether the policy no longer allows the identity.
    pub is_denied: bool,
    /// Time of the next run, unless an event comes first.
    pub requeue_at: Option<Timestamp>,
}

impl Decision {
    fn step(step: Step) -> Self {
        Self {
            step,
            verdict: None,
            is_denied: false,
            requeue_at: None,
        }
    }

    fn rest(verdict: Verdict, requeue_at: Option<Timestamp>) -> Self {
        Self {
            verdict: Some(verdict),
            requeue_at,
            ..Self::step(Step::Rest)
        }
    }
}

/// Returns the next step for an identity.
#[must_use]
pub fn decide(observed: &Observed<'_>) -> Decision {
    let metadata = &observed.identity.metadata;
    let is_recorded = || {
        let status = observed.identity.status.as_ref();
        status.is_some_and(|status| status.identity_id.is_some())
    };
    if observed.created.is_some() && !is_recorded() {
        // The answer of ACS is recorded before anything else.
        return Decision::step(Step::RecordCreated);
    }
    let decision = match (&metadata.deletion_timestamp, is_held(observed.identity)) {
        (Some(_), false) => Decision::step(Step::Rest),
        (Some(_), true) => decide_deletion(observed),
        (None, false) => Decision::step(Step::AddFinalizer),
        (None, true) => decide_life(observed),
    };
    // The result of a call in flight is unknown. Meanwhile only steps that are right in either case
    // are taken.
    let goes_on = match &decision.step {
        Step::Rest => metadata.deletion_timestamp.is_some(),
        Step::DeleteSecrets => true,
        Step::RemoveFinalizer { .. } => observed.now >= observed.deletion_deadline,
        _ => false,
    };
    if observed.call.is_on_the_wire() && !goes_on {
        return waits(observed);
    }
    decision
}

/// Returns the decision for an identity that waits for ACS: for its turn or for an answer.
#[must_use]
pub fn waits(observed: &Observed<'_>) -> Decision {
    let since = observed.call.since().unwrap_or(observed.now);
    let silence = renewal::pause(since, QUIET_WAIT, observed.now);
    let status = status(observed);
    let is_deleting = observed.identity.metadata.deletion_timestamp.is_some();
    let is_current = status.observed_generation == observed.identity.metadata.generation;
    let is_reported = is_deleting || is_current && !status.conditions.is_empty();
    let deadline = is_deleting.then_some(observed.deletion_deadline);
    if is_reported {
        return Decision {
            requeue_at: deadline,
            ..Decision::step(Step::Rest)
        };
    }
    if silence.is_some() {
        return Decision {
            requeue_at: silence,
            ..Decision::step(Step::Rest)
        };
    }
    let verdict = if status.identity_id.is_some() {
        let denial = denial(observed, &status);
        denial.unwrap_or_else(|| standing(observed.identity, observed.is_missing))
    } else {
        Verdict::reconciling(
            Reason::WaitingForService,
            "waiting for ACS to create the identity",
        )
    };
    Decision::rest(verdict, None)
}

fn decide_life(observed: &Observed<'_>) -> Decision {
    let status = status(observed);
    if let (Some(id), Some(verdict)) = (&status.identity_id, denial(observed, &status)) {
        return decide_denied(observed, id, verdict);
    }
    let (reference, endpoint, allows_adoption, knows_custom_id) = match &observed.connection {
        ConnectionView::Usable {
            reference,
            endpoint,
            allows_adoption,
            knows_custom_id,
        } => (reference, endpoint, *allows_adoption, *knows_custom_id),
        ConnectionView::Awaited { until } => {
            return Decision {
                requeue_at: Some(*until),
                ..Decision::step(Step::Rest)
            };
        }
        // An existing identity stays Ready although its connection fails: its tokens and the
        // connection itself report that.
        ConnectionView::CleanupOnly(why) | ConnectionView::Unusable(why)
            if status.identity_id.is_some() && why.reason != Reason::EndpointChanged =>
        {
            if let Some(decision) = decide_without_connection(observed, why) {
                return decision;
            }
            let verdict = standing(observed.identity, observed.is_missing);
            return Decision::rest(verdict, why.retry_at);
        }
        ConnectionView::CleanupOnly(why) | ConnectionView::Unusable(why) => {
            return Decision::rest(verdict_of(why), why.retry_at);
        }
    };
    if observed.others == Others::Conflicting {
        return Decision::rest(in_use(), None);
    }
    let Some(id) = &status.identity_id else {
        return decide_birth(
            observed,
            reference,
            endpoint,
            allows_adoption,
            knows_custom_id,
        );
    };
    if status.connection_ref.as_ref() != Some(reference) || status.endpoint.is_none() {
        return Decision::step(Step::FollowConnection {
            reference: reference.clone(),
            endpoint: endpoint.clone(),
        });
    }
    if let Some(decision) = decide_revocation(observed, id) {
        return decision;
    }
    let verdict = match standing(observed.identity, observed.is_missing) {
        Verdict::Ready { reason, message } if observed.has_other_default => Verdict::Ready {
            reason,
            message: format!("{message}; {OTHER_DEFAULT}"),
        },
        verdict => verdict,
    };
    Decision::rest(verdict, None)
}

/// Message of an identity if an `AcsConnection` called `default` was created too late for it.
pub const OTHER_DEFAULT: &str = "an AcsConnection named default was created in this namespace \
 later and does not change this identity; to use its ACS resource, delete this AcsIdentity and \
 create it again";

/// Returns why the policy denies an existing identity, if it does.
fn denial(observed: &Observed<'_>, status: &AcsIdentityStatus) -> Option<Verdict> {
    match &observed.connection {
        ConnectionView::CleanupOnly(why) | ConnectionView::Unusable(why) => {
            (why.reason == Reason::PolicyDenied).then(|| verdict_of(why))
        }
        ConnectionView::Awaited { .. } => None,
        ConnectionView::Usable { .. } if observed.others == Others::Conflicting => Some(in_use()),
        ConnectionView::Usable {
            allows_adoption, ..
        } => (status.origin == Some(Origin::Adopted) && !allows_adoption).then(adoption_denied),
    }
}

fn in_use() -> Verdict {
    Verdict::stalled(
        Reason::IdentityInUse,
        "another AcsIdentity uses this identityId; remove one of them, or set \
         policy.sharedIdentities: true in the connection (in a ClusterAcsConnection if the other \
         AcsIdentity is in another namespace)",
    )
}

fn adoption_denied() -> Verdict {
    Verdict::stalled(
        Reason::PolicyDenied,
        "policy.adoption of the connection is Deny: remove identityId to create a new identity, \
         or ask the owner of the connection to allow adoption",
    )
}

/// Returns the verdict for an identity that has its id.
#[must_use]
pub fn standing(identity: &AcsIdentity, is_missing: bool) -> Verdict {
    if is_missing {
        return Verdict::stalled(
            Reason::IdentityNotFound,
            "the identity was deleted in ACS. Delete this AcsIdentity and create it again to get \
             a new identity and new tokens",
        );
    }
    if identity.spec.suspend == Some(true) {
        return Verdict::Suspended {
            is_good: true,
            message: "spec.suspend is true: no token of this identity is issued or renewed"
                .to_owned(),
        };
    }
    let kept = identity.status.as_ref();
    let kept = kept.and_then(|status| status.connection_ref.as_ref());
    let message = match (&identity.spec.connection_ref, kept) {
        (None, Some(kept)) if kept.kind == ConnectionKind::ClusterAcsConnection => {
            "the identity exists in the ACS resource of ClusterAcsConnection default: \
             spec.connectionRef is not set, and this namespace had no AcsConnection named default"
        }
        _ => "the identity exists in ACS",
    };
    Verdict::ready(Reason::IdentityReady, message)
}

/// Returns the decision for an object without an id: create or adopt an identity, once per object
/// (I1).
fn decide_birth(
    observed: &Observed<'_>,
    reference: &ConnectionRef,
    endpoint: &str,
    allows_adoption: bool,
    knows_custom_id: bool,
) -> Decision {
    let status = status(observed);
    if observed.identity.spec.suspend == Some(true) {
        let message = "spec.suspend is true: no identity is created or adopted".to_owned();
        let is_good = false;
        return Decision::rest(Verdict::Suspended { is_good, message }, None);
    }
    let (reference, endpoint) = (reference.clone(), endpoint.to_owned());
    if let Some(id) = &observed.identity.spec.identity_id {
        if !allows_adoption {
            return Decision::rest(adoption_denied(), None);
        }
        return Decision::step(Step::Adopt {
            reference,
            endpoint,
            id: id.clone(),
        });
    }
    if let Some(wait) = wait_after_failure(observed) {
        return wait;
    }
    let custom_id = knows_custom_id
        .then(|| observed.identity.metadata.uid.clone())
        .flatten();
    let was_lost = match (&status.pending_create, observed.is_intent_fresh) {
        (Some(_), true) => return Decision::step(Step::Create { custom_id }),
        // Another run recorded the intent: the call was lost, or the process ended. With a custom
        // id, the same call finds what the first one created.
        (Some(_), false) if custom_id.is_some() => {
            return Decision::step(Step::Create { custom_id });
        }
        (Some(_), false) => true,
        (None, _) => false,
    };
    Decision::step(Step::RecordCreate {
        reference,
        endpoint,
        was_lost,
    })
}

/// A wait for ACS is reported in the status if it lasts longer than this.
const QUIET_WAIT: SignedDuration = SignedDuration::from_secs(3);

/// Returns the decision to wait after a failed call until the next one is due.
fn wait_after_failure(observed: &Observed<'_>) -> Option<Decision> {
    let status = status(observed);
    let failure = status.last_failure.as_ref()?;
    let is_same_spec = status.observed_generation == observed.identity.metadata.generation;
    let seed = observed
        .identity
        .metadata
        .uid
        .as_deref()
        .unwrap_or_default();
    let wait = renewal::backoff(status.failed_attempts.unwrap_or(1), None, seed);
    let retry = renewal::pause(failure.time.0, wait, observed.now);
    let retry = retry.max(observed.not_before).filter(|_| is_same_spec)?;
    let reason = failure.reason();
    let verdict = Verdict::unable(reason, failure.message.clone(), reason.is_stalling());
    Some(Decision::rest(verdict, Some(retry)))
}

fn verdict_of(why: &Unusable) -> Verdict {
    Verdict::unable(why.reason, why.message.clone(), why.is_stalled)
}

fn is_dead(issued_at: Timestamp, status: &AcsIdentityStatus) -> bool {
    status
        .tokens_valid_after
        .as_ref()
        .is_some_and(|after| issued_at <= after.0)
}

fn status(observed: &Observed<'_>) -> AcsIdentityStatus {
    observed.identity.status.clone().unwrap_or_default()
}
