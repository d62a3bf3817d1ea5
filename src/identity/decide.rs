//! What to do next for an `AcsIdentity`. Pure: no I/O, no clock, no randomness.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};

use crate::{
    connection::Unusable,
    crd::{
        AcsIdentity, AcsIdentityStatus, ConnectionRef, DeletionPolicy, FINALIZER, Origin, Verdict,
    },
    renewal,
    token::{Claim, POLICY_DENIED},
};

/// A revocation waits this long after the first change that asks for it, so that it covers all
/// that one `kubectl apply` changes (R2).
pub const GATHERING: SignedDuration = SignedDuration::from_secs(2);
/// At most so long are tokens marked as not Ready before the call (R4).
pub const MARKING: SignedDuration = SignedDuration::from_secs(5);
/// A recorded intent is good for one call begun within this time; after it, it is recorded anew.
pub const INTENT: SignedDuration = SignedDuration::from_secs(10);
/// A call that got no answer may still take effect this long after it was begun: the total timeout
/// of a call.
pub const CALL: SignedDuration = SignedDuration::from_secs(30);

/// The request that an `AcsIdentity` obeys.
const REVOKE: &str = "revoke";
/// Why all tokens are revoked, where a request says so.
const REQUESTED: &str = "Requested";
/// Why all tokens are revoked, where an order says so.
pub const ORDERED: &str = "Ordered";

/// So long tokens live on after the policy has ceased to allow their identity: one mistyped selector
/// must not destroy a fleet in seconds.
pub const GRACE: SignedDuration = SignedDuration::from_mins(5);

/// All that the decision depends on.
#[derive(Clone, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "facts that have nothing to do with each other"
)]
pub struct Observed<'a> {
    /// The operator's clock.
    pub now: Timestamp,
    /// The service's clock, or a little earlier, never later; unknown before its first answer.
    pub service_now: Option<Timestamp>,
    /// The object.
    pub identity: &'a AcsIdentity,
    /// Its connection.
    pub connection: ConnectionView,
    /// What its tokens ask for; with a shared id, those of all its objects.
    pub claims: Vec<Claim>,
    /// Secrets that its tokens own.
    pub secrets: Vec<String>,
    /// One of them holds a token that no status tells, and whose end asks for a revocation.
    pub has_untold: bool,
    /// Other objects that use the same id, and whether this one may use it too.
    pub others: Others,
    /// The UIDs of the orders that have this object, or another of the same id, as an open target.
    pub orders: Vec<String>,
    /// One of them has this object, and no revocation has obeyed it yet.
    pub is_ordered: bool,
    /// When this process first saw that a revocation is asked for.
    pub asked_since: Option<Timestamp>,
    /// The intent (create or revoke) in the status was recorded by this run, and its call is not
    /// sent yet.
    pub is_intent_fresh: bool,
    /// The service asked not to be called before this time.
    pub not_before: Option<Timestamp>,
    /// The namespace is being deleted: nothing can be created in it any more.
    pub is_namespace_terminating: bool,
    /// When a deletion goes on without ACS (I3).
    pub deletion_deadline: Timestamp,
}

/// Other objects with the same id at the same endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// None.
    None,
    /// Some, and the policy lets them share.
    Sharing,
    /// An older one, and the policy does not let them share.
    Conflicting,
}

/// The connection of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionView {
    /// It can be called.
    Usable {
        /// Which it is.
        reference: ConnectionRef,
        /// Where it leads.
        endpoint: String,
        /// Whether identities that exist may be taken over.
        allows_adoption: bool,
        /// Whether creation can be made exactly-once.
        knows_custom_id: bool,
    },
    /// It can only be used to clean up: it is gone or replaced, but its credential is remembered.
    CleanupOnly(Unusable),
    /// It can't be called.
    Unusable(Unusable),
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make sure that a deletion waits for us.
    AddFinalizer,
    /// Record that an identity is about to be created (I1).
    RecordCreate {
        /// The connection, kept from now on.
        reference: ConnectionRef,
        /// Its endpoint, kept from now on.
        endpoint: String,
        /// An earlier create call has an unknown outcome.
        was_lost: bool,
    },
    /// Create an identity, without scopes (I2).
    Create {
        /// The object's UID where the API version makes creation exactly-once.
        custom_id: Option<String>,
    },
    /// Record the adopted id.
    Adopt {
        /// The connection, kept from now on.
        reference: ConnectionRef,
        /// Its endpoint, kept from now on.
        endpoint: String,
        /// The id.
        id: String,
    },
    /// Follow another connection that leads to the same endpoint.
    FollowConnection {
        /// The connection, kept from now on.
        reference: ConnectionRef,
    },
    /// Record that all tokens are about to be revoked (R3).
    RecordRevocation {
        /// Why.
        reason: String,
        /// Until when an earlier call without an answer may take effect; by the operator's clock.
        unsettled_until: Option<Timestamp>,
    },
    /// Tell that nobody can obey a request, and that it is done with.
    RefuseRequest {
        /// Its value.
        request: String,
    },
    /// Revoke all tokens.
    Revoke {
        /// The id.
        id: String,
    },
    /// Delete the Secrets of the tokens (I5).
    DeleteSecrets,
    /// Delete the identity in ACS.
    Delete {
        /// The id.
        id: String,
    },
    /// Let the object go.
    RemoveFinalizer {
        /// What is left behind in ACS, if anything is: why.
        abandoned: Option<Cow<'static, str>>,
    },
    /// Nothing to do but to tell, and to wait.
    Rest,
}

/// What to do, what to tell, and when to look again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The next step.
    pub step: Step,
    /// What the conditions say when the step is [`Step::Rest`]; `None` leaves them alone.
    pub verdict: Option<Verdict>,
    /// Whether the policy does not allow the identity any longer.
    pub is_denied: bool,
    /// When to look again, unless an event comes first.
    pub wake: Option<Timestamp>,
}

impl Decision {
    fn step(step: Step) -> Self {
        Self {
            step,
            verdict: None,
            is_denied: false,
            wake: None,
        }
    }

    fn rest(verdict: Verdict, wake: Option<Timestamp>) -> Self {
        Self {
            step: Step::Rest,
            verdict: Some(verdict),
            is_denied: false,
            wake,
        }
    }
}

/// Chooses the next step for an identity.
#[must_use]
pub fn decide(observed: &Observed<'_>) -> Decision {
    let metadata = &observed.identity.metadata;
    let is_held = metadata
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == FINALIZER);
    match (&metadata.deletion_timestamp, is_held) {
        (Some(_), false) => Decision::step(Step::Rest),
        (Some(_), true) => decide_deletion(observed),
        (None, false) => Decision::step(Step::AddFinalizer),
        (None, true) => decide_life(observed),
    }
}

fn decide_life(observed: &Observed<'_>) -> Decision {
    let status = status(observed);
    if let (Some(id), Some(verdict)) = (&status.identity_id, denial(observed, &status)) {
        return decide_outcast(observed, id, verdict);
    }
    let (reference, endpoint, allows_adoption, knows_custom_id) = match &observed.connection {
        ConnectionView::Usable {
            reference,
            endpoint,
            allows_adoption,
            knows_custom_id,
        } => (reference, endpoint, *allows_adoption, *knows_custom_id),
        // An identity that exists does not cease to because its connection fails: its tokens and
        // the connection itself tell that.
        ConnectionView::CleanupOnly(why) | ConnectionView::Unusable(why)
            if status.identity_id.is_some() && why.reason != "EndpointChanged" =>
        {
            if let Some(decision) = decide_without_connection(observed, why) {
                return decision;
            }
            return Decision::rest(standing(observed.identity), why.retry_at);
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
    if status.connection_ref.as_ref() != Some(reference) {
        return Decision::step(Step::FollowConnection {
            reference: reference.clone(),
        });
    }
    if let Some(decision) = decide_revocation(observed, id) {
        return decision;
    }
    Decision::rest(standing(observed.identity), None)
}

/// What a person wants revoked at once is, although nothing can be issued after it, as long as the
/// credential is in memory; unless the service refuses that one.
fn decide_without_connection(observed: &Observed<'_>, why: &Unusable) -> Option<Decision> {
    let status = status(observed);
    let is_remembered =
        matches!(observed.connection, ConnectionView::CleanupOnly(_)) && why.retry_at.is_none();
    let request = observed.identity.open_request();
    let is_wanted = is_urgent(&status)
        || observed.is_ordered
        || request.is_some_and(|request| request.what == Some(REVOKE));
    (is_remembered && is_wanted)
        .then(|| decide_revocation(observed, status.identity_id.as_deref()?))
        .flatten()
}

/// Whether the revocation that is under way is one that a person asked for.
#[must_use]
pub fn is_urgent(status: &AcsIdentityStatus) -> bool {
    let pending = status.pending_revocation.as_ref();
    pending.is_some_and(|pending| [REQUESTED, ORDERED].contains(&pending.reason.as_str()))
}

/// Why the policy does not allow an identity that exists, if it does not.
fn denial(observed: &Observed<'_>, status: &AcsIdentityStatus) -> Option<Verdict> {
    match &observed.connection {
        ConnectionView::CleanupOnly(why) | ConnectionView::Unusable(why) => {
            (why.reason == POLICY_DENIED).then(|| verdict_of(why))
        }
        ConnectionView::Usable { .. } if observed.others == Others::Conflicting => Some(in_use()),
        ConnectionView::Usable {
            allows_adoption, ..
        } => (status.origin == Some(Origin::Adopted) && !allows_adoption).then(adoption_denied),
    }
}

fn in_use() -> Verdict {
    Verdict::stalled(
        "IdentityInUse",
        "another AcsIdentity uses this identityId; remove one of them, or set \
         policy.sharedIdentities: true in the connection, which must be a ClusterAcsConnection \
         where the other is in another namespace",
    )
}

fn adoption_denied() -> Verdict {
    Verdict::stalled(
        POLICY_DENIED,
        "the connection's policy.adoption is Deny: remove identityId to have an identity created, \
         or ask who owns the connection to allow adoption",
    )
}

/// The policy has ceased to allow the identity: nothing is issued, and after a while its tokens are
/// revoked. What else asks for a revocation goes on.
fn decide_outcast(observed: &Observed<'_>, id: &str, verdict: Verdict) -> Decision {
    let status = status(observed);
    let over = status
        .denied_since
        .as_ref()
        .map(|since| renewal::add(since.0, GRACE));
    if !matches!(observed.connection, ConnectionView::Unusable(_)) {
        if let Some(decision) = decide_revocation(observed, id) {
            return decision;
        }
        let mut claims = observed.claims.iter();
        let lives = claims.any(|claim| claim.is_own && !is_dead(claim.issued_at, &status));
        if lives && over.is_some_and(|over| observed.now >= over) {
            return record_revocation(observed, POLICY_DENIED);
        }
    }
    let wake = over.unwrap_or_else(|| renewal::add(observed.now, GRACE));
    Decision {
        is_denied: true,
        ..Decision::rest(verdict, Some(wake).filter(|wake| *wake > observed.now))
    }
}

/// What an identity that has its id says of itself.
#[must_use]
pub fn standing(identity: &AcsIdentity) -> Verdict {
    if identity.spec.suspend == Some(true) {
        return Verdict::Suspended {
            message: "spec.suspend is true: none of its tokens is issued or renewed".to_owned(),
        };
    }
    Verdict::ready("IdentityReady", "the identity exists in ACS")
}

/// Once in the life of an object: create or adopt (I1).
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
        return Decision::rest(Verdict::Suspended { message }, None);
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
        // Recorded, but not by this run: a call was lost, or the process was. With a custom id the
        // same call finds what it made.
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

/// Revokes when a token asks for it, or when the outcome of an earlier call is not known (R1 to R4).
fn decide_revocation(observed: &Observed<'_>, id: &str) -> Option<Decision> {
    let status = status(observed);
    let alive = |claim: &&Claim| !is_dead(claim.issued_at, &status);
    if let Some(pending) = &status.pending_revocation {
        let age = observed.now.duration_since(pending.time.0);
        if !observed.is_intent_fresh || age >= INTENT {
            if let Some(wait) = wait_after_failure(observed) {
                return Some(wait);
            }
            // Another run recorded it: its call may be on the way, and take effect so long from now.
            // When it began is not known: the clock may have jumped since.
            let lost = (!observed.is_intent_fresh).then(|| renewal::add(observed.now, CALL));
            let known = pending.unsettled_until.as_ref().map(|until| until.0);
            let until = known.max(lost);
            return Some(Decision::step(Step::RecordRevocation {
                reason: pending.reason.clone(),
                unsettled_until: until,
            }));
        }
        let marked = observed
            .claims
            .iter()
            .filter(alive)
            .all(|claim| claim.is_marked);
        if marked || age >= MARKING || age.is_negative() {
            return Some(Decision::step(Step::Revoke { id: id.to_owned() }));
        }
        let wake = renewal::add(pending.time.0, MARKING);
        return Some(Decision {
            wake: Some(wake),
            ..Decision::step(Step::Rest)
        });
    }
    let requested = observed.identity.open_request();
    match requested.map(|request| (request.value, request.what)) {
        Some((_, Some(REVOKE))) => return Some(record_revocation(observed, REQUESTED)),
        Some((value, _)) => {
            return Some(Decision::step(Step::RefuseRequest {
                request: value.to_owned(),
            }));
        }
        None => {}
    }
    if observed.is_ordered {
        return Some(record_revocation(observed, ORDERED));
    }
    let reason = observed
        .claims
        .iter()
        .filter(alive)
        .find_map(|claim| claim.asks)?;
    let due = renewal::add(observed.asked_since.unwrap_or(observed.now), GATHERING);
    if observed.now < due {
        return Some(Decision {
            wake: Some(due),
            ..Decision::step(Step::Rest)
        });
    }
    Some(record_revocation(observed, reason))
}

fn record_revocation(observed: &Observed<'_>, reason: &str) -> Decision {
    wait_after_failure(observed).unwrap_or_else(|| {
        Decision::step(Step::RecordRevocation {
            reason: reason.to_owned(),
            unsettled_until: None,
        })
    })
}

fn decide_deletion(observed: &Observed<'_>) -> Decision {
    let status = status(observed);
    if status.pending_revocation.is_none() && observed.has_untold {
        // With the Secrets goes the only trace of what there is to revoke (R3).
        return ending();
    }
    if !observed.secrets.is_empty() {
        return Decision::step(Step::DeleteSecrets);
    }
    let remove = |abandoned| Decision::step(Step::RemoveFinalizer { abandoned });
    let Some(id) = &status.identity_id else {
        return remove(status.pending_create.is_some().then_some(Cow::Borrowed(
            "a create call has an unknown outcome: it may have left an identity without tokens",
        )));
    };
    let adopted = status.origin == Some(Origin::Adopted);
    let by_default = if adopted {
        DeletionPolicy::Orphan
    } else {
        DeletionPolicy::Delete
    };
    let policy = observed.identity.spec.deletion_policy.unwrap_or(by_default);
    // Nor does it belong to one that came later and may not use it.
    let is_last = observed.others == Others::None;
    let deletes = policy == DeletionPolicy::Delete && is_last;
    let owes_revocation = status.pending_revocation.is_some()
        || observed.is_ordered
        || observed
            .claims
            .iter()
            .any(|claim| claim.asks_at_the_end && !is_dead(claim.issued_at, &status))
        || observed
            .identity
            .open_request()
            .is_some_and(|request| request.what == Some(REVOKE));
    if !deletes && !owes_revocation {
        return unsettled(observed, &status).unwrap_or_else(|| remove(None));
    }
    if observed.now >= observed.deletion_deadline {
        let why = status.last_failure.map_or_else(
            || "the service could not be reached in time".into(),
            |failure| failure.message.into(),
        );
        return remove(Some(why));
    }
    if let ConnectionView::Unusable(why) = &observed.connection {
        if observed.is_namespace_terminating {
            return remove(Some(why.message.clone().into()));
        }
        let deadline = observed.deletion_deadline;
        return Decision::rest(
            Verdict::reconciling(
                "Deleting",
                format!("can't be deleted in ACS: {}", why.message),
            ),
            Some(why.retry_at.map_or(deadline, |retry| retry.min(deadline))),
        );
    }
    let decision = if deletes {
        wait_after_failure(observed)
            .unwrap_or_else(|| Decision::step(Step::Delete { id: id.clone() }))
    } else {
        decide_revocation(observed, id).unwrap_or_else(ending)
    };
    Decision {
        wake: decision
            .wake
            .map(|wake| wake.min(observed.deletion_deadline)),
        ..decision
    }
}

/// The wait for a revoke that got lost and may still come: it would kill the tokens of who adopts
/// the identity next (R3).
fn unsettled(observed: &Observed<'_>, status: &AcsIdentityStatus) -> Option<Decision> {
    let until = status.last_revocation.as_ref()?.unsettled_until.as_ref()?.0;
    let service_now = observed.service_now.unwrap_or(observed.now);
    if service_now > until || observed.now >= observed.deletion_deadline {
        return None;
    }
    let left = until.duration_since(service_now) + SignedDuration::from_secs(1);
    let over = renewal::add(observed.now, left);
    Some(Decision::rest(
        Verdict::reconciling(
            "Deleting",
            "waiting for a revocation without an answer, which may still take effect",
        ),
        Some(over.min(observed.deletion_deadline)),
    ))
}

/// The intent to revoke the tokens of an identity that goes without being deleted in ACS.
fn ending() -> Decision {
    Decision::step(Step::RecordRevocation {
        reason: "IdentityDeleted".to_owned(),
        unsettled_until: None,
    })
}

/// Reasons of failures that only a human can end; they are retried all the same, slowly.
const STALLING: [&str; 3] = [
    "UnsupportedByApiVersion",
    "InvalidRequest",
    "IdentityNotOwned",
];

/// After a failed call, the wait until the next one is due.
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
    let verdict = if STALLING.contains(&failure.reason.as_str()) {
        Verdict::stalled(failure.reason.clone(), failure.message.clone())
    } else {
        Verdict::reconciling(failure.reason.clone(), failure.message.clone())
    };
    Some(Decision::rest(verdict, Some(retry)))
}

fn verdict_of(why: &Unusable) -> Verdict {
    if why.is_stalled {
        Verdict::stalled(why.reason.clone(), why.message.clone())
    } else {
        Verdict::reconciling(why.reason.clone(), why.message.clone())
    }
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
