//! Next status of an `AcsIdentity`. Pure: no I/O, no clock.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::decide::{CALL, Decision, INTENT, standing};
use crate::{
    acs::{self, Revoked},
    crd::{
        AcsIdentity, AcsIdentityStatus, Conditions, ConnectionRef, LastFailure, LastRevocation,
        Origin, PendingRevocation, Reason, Verdict, handled_at_first_sight,
    },
    renewal,
};

/// Returns the status before an identity is created. The connection is kept from now on (I1).
#[must_use]
pub fn creating(
    identity: &AcsIdentity,
    reference: &ConnectionRef,
    endpoint: &str,
    was_lost: bool,
    now: Timestamp,
) -> AcsIdentityStatus {
    let mut next = resolved(identity, reference, endpoint);
    next.pending_create = Some(Time(renewal::whole_seconds(now)));
    if was_lost {
        count_unknown(&mut next);
    }
    next
}

/// Returns the status with the id of the created identity. If the status was lost since the call
/// was recorded, the connection of the call is written again.
#[must_use]
pub fn created(
    identity: &AcsIdentity,
    id: &str,
    reference: &ConnectionRef,
    endpoint: &str,
) -> AcsIdentityStatus {
    let is_reported = |status: &AcsIdentityStatus| status.endpoint.is_some();
    let kept = identity.status.clone().filter(is_reported);
    AcsIdentityStatus {
        identity_id: Some(id.to_owned()),
        origin: Some(Origin::Created),
        pending_create: None,
        ..kept.unwrap_or_else(|| resolved(identity, reference, endpoint))
    }
}

/// Returns the status after a failed create call. The call may have created an identity
/// nevertheless; if it was not the first one, an earlier call with the same custom id may have done
/// so too.
#[must_use]
pub fn create_failed(
    identity: &AcsIdentity,
    outcome: acs::Outcome,
    has_custom_id: bool,
    is_first: bool,
) -> AcsIdentityStatus {
    let mut next = identity.status.clone().unwrap_or_default();
    let is_done = outcome != acs::Outcome::NotDone;
    if !has_custom_id {
        // The call is counted now; the next intent is a new one.
        next.pending_create = None;
        if is_done {
            count_unknown(&mut next);
        }
    } else if is_first && !is_done {
        next.pending_create = None;
    }
    next
}

/// Returns the status with the id of an adopted identity.
#[must_use]
pub fn adopted(
    identity: &AcsIdentity,
    reference: &ConnectionRef,
    endpoint: &str,
    id: &str,
) -> AcsIdentityStatus {
    AcsIdentityStatus {
        identity_id: Some(id.to_owned()),
        origin: Some(Origin::Adopted),
        ..resolved(identity, reference, endpoint)
    }
}

/// Returns the status that records the intent to revoke all tokens (R3).
#[must_use]
pub fn revoking(
    identity: &AcsIdentity,
    reason: &str,
    orders: &[String],
    unsettled_until: Option<Timestamp>,
    now: Timestamp,
) -> AcsIdentityStatus {
    AcsIdentityStatus {
        pending_revocation: Some(PendingRevocation {
            time: Time(renewal::whole_seconds(now)),
            reason: reason.to_owned(),
            unsettled_until: unsettled_until.map(|until| Time(renewal::whole_seconds(until))),
            // A revocation that is recorded after the request also fulfils the request, whatever
            // its cause.
            request: identity
                .open_request()
                .map(|request| request.value.to_owned()),
            orders: orders.to_vec(),
        }),
        ..identity.status.clone().unwrap_or_default()
    }
}

/// Returns the status after a request that was handled without effect.
#[must_use]
pub fn refused(identity: &AcsIdentity, request: &str) -> AcsIdentityStatus {
    AcsIdentityStatus {
        last_handled_request: Some(request.to_owned()),
        ..identity.status.clone().unwrap_or_default()
    }
}

/// Maximum backward step of the clock of ACS that the operator waits for.
const MOST_CLOCK_STEP: SignedDuration = SignedDuration::from_hours(24);

/// Returns the status after ACS answered, at `now` by the operator's clock, that all tokens are
/// revoked. The `newest` token was issued, and the former revocation made, before this one,
/// whatever the clock of ACS said then. With a shared id, a lost call of another object may take
/// effect until `beside`, by the operator's clock.
#[must_use]
pub fn revoked(
    identity: &AcsIdentity,
    answer: &Revoked,
    newest: Option<Timestamp>,
    beside: Option<Timestamp>,
    now: Timestamp,
) -> AcsIdentityStatus {
    let mut next = identity.status.clone().unwrap_or_default();
    let date = renewal::whole_seconds(answer.date);
    let latest = renewal::add(date, MOST_CLOCK_STEP);
    let former = next.tokens_valid_after.as_ref().map(|former| former.0);
    let is_ahead = |known: &Timestamp| *known > date && *known <= latest;
    if let Some(ahead) = newest.into_iter().chain(former).filter(is_ahead).max() {
        // By the clock of ACS, a token was issued or all were revoked later than now. Such a token
        // may survive this revocation, and a token issued now may be revoked by it. The intent
        // stays until that clock has passed the later time.
        next.tokens_valid_after = Some(Time(ahead));
        return next;
    }
    let pending = next.pending_revocation.take();
    let lost = answer
        .earlier_attempt_lost
        .then(|| renewal::add(date, CALL));
    // Converts from the operator's clock to that of ACS. Both times may be up to a second too
    // early.
    let missing = SignedDuration::from_secs(2);
    let known = pending
        .as_ref()
        .and_then(|pending| Some(pending.unsettled_until.as_ref()?.0))
        .max(beside)
        .map(|until| until.duration_since(now).min(INTENT + CALL) + missing)
        .map(|left| renewal::add(date, left));
    // With a shared id, what the revocation of another object left unsettled stays unsettled.
    let former = next.last_revocation.as_ref();
    let former = former.and_then(|last| Some(last.unsettled_until.as_ref()?.0));
    let until = known.max(lost).max(former).filter(|until| *until > date);
    next.tokens_valid_after = Some(Time(date));
    if let Some(request) = pending.as_ref().and_then(|pending| pending.request.clone()) {
        next.last_handled_request = Some(request);
    }
    let (reason, orders) = pending.map_or_else(
        || (Reason::IdentityDeleted.to_string(), Vec::new()),
        |pending| (pending.reason, pending.orders),
    );
    next.last_revocation = Some(LastRevocation {
        time: Time(date),
        reason,
        unsettled_until: until.map(|until| Time(renewal::whole_seconds(until))),
        orders,
    });
    next
}

/// Returns the status of another object with the same id after the revocation that the status
/// `recorded` has. Its tokens were revoked too, so its own pending revocation is fulfilled.
#[must_use]
pub fn revoked_beside(sibling: &AcsIdentity, recorded: &AcsIdentityStatus) -> AcsIdentityStatus {
    let mut next = sibling.status.clone().unwrap_or_default();
    next.tokens_valid_after
        .clone_from(&recorded.tokens_valid_after);
    next.last_revocation.clone_from(&recorded.last_revocation);
    let is_over = recorded.pending_revocation.is_none();
    let pending = next.pending_revocation.take_if(|_| is_over);
    if let (Some(pending), Some(last)) = (pending, &mut next.last_revocation) {
        last.orders.extend(pending.orders);
        if pending.request.is_some() {
            next.last_handled_request = pending.request;
        }
    }
    next
}

/// Returns the status after a failed revocation. The intent stays if this call or an earlier one
/// may have taken effect or may still do so. It also stays during a deletion, where perhaps nothing
/// else demands the revocation any more.
#[must_use]
pub fn revoke_failed(
    identity: &AcsIdentity,
    outcome: acs::Outcome,
    is_lost: bool,
    now: Timestamp,
) -> AcsIdentityStatus {
    let mut next = identity.status.clone().unwrap_or_default();
    let is_leaving = identity.metadata.deletion_timestamp.is_some();
    let stays = outcome == acs::Outcome::Unknown || is_lost || is_leaving;
    let pending = next
        .pending_revocation
        .take()
        .filter(|pending| stays || pending.unsettled_until.is_some());
    next.pending_revocation = pending.map(|pending| {
        // Counts from now, because the time that the call waited in the queue is unknown.
        let lost = is_lost.then(|| renewal::whole_seconds(renewal::add(now, CALL)));
        let known = pending.unsettled_until.as_ref().map(|until| until.0);
        PendingRevocation {
            unsettled_until: known.max(lost).map(Time),
            ..pending
        }
    });
    next
}

/// Returns the status of a run that rests on `decision`; `None` if nothing changes (K4).
#[must_use]
pub fn rested(
    identity: &AcsIdentity,
    decision: &Decision,
    now: Timestamp,
) -> Option<AcsIdentityStatus> {
    let verdict = decision.verdict.as_ref()?;
    let mut next = identity.status.clone().unwrap_or_default();
    let since = next
        .denied_since
        .take()
        // A clock that was set back must not lengthen the grace period (C3).
        .filter(|since| since.0 <= now)
        .unwrap_or_else(|| Time(renewal::whole_seconds(now)));
    next.denied_since = decision.is_denied.then_some(since);
    if_changed(identity, next, Some(verdict), now)
}

/// Returns the status `next` after a successful call, without the last failure.
#[must_use]
pub fn ready(
    identity: &AcsIdentity,
    mut next: AcsIdentityStatus,
    is_missing: bool,
    now: Timestamp,
) -> Option<AcsIdentityStatus> {
    next.failed_attempts = None;
    next.last_failure = None;
    let verdict = standing(identity, is_missing);
    let is_live = identity.metadata.deletion_timestamp.is_none() && next.denied_since.is_none();
    if_changed(identity, next, is_live.then_some(&verdict), now)
}

/// Returns the status `next` with a failed call. The failure is stored, so that the backoff
/// survives a restart of the operator.
#[must_use]
pub fn failed(
    identity: &AcsIdentity,
    mut next: AcsIdentityStatus,
    reason: Reason,
    message: &str,
    now: Timestamp,
) -> Option<AcsIdentityStatus> {
    let is_same_spec = next.observed_generation == identity.metadata.generation;
    let former = next.failed_attempts.filter(|_| is_same_spec).unwrap_or(0);
    next.failed_attempts = Some(former.saturating_add(1));
    next.last_failure = Some(LastFailure {
        time: Time(renewal::whole_seconds(now)),
        reason: reason.to_string(),
        message: message.to_owned(),
    });
    next.observed_generation = identity.metadata.generation;
    if_changed(identity, next, None, now)
}

/// Counts a create call that may have created an identity with an unknown id (I1).
fn count_unknown(next: &mut AcsIdentityStatus) {
    next.unknown_creates = Some(next.unknown_creates.unwrap_or(0).saturating_add(1));
}

/// Returns the status with the connection that the identity uses, and its endpoint.
#[must_use]
pub fn resolved(
    identity: &AcsIdentity,
    reference: &ConnectionRef,
    endpoint: &str,
) -> AcsIdentityStatus {
    AcsIdentityStatus {
        connection_ref: Some(reference.clone()),
        endpoint: Some(endpoint.to_owned()),
        ..identity.status.clone().unwrap_or_default()
    }
}

/// Returns `next` with the conditions of `verdict`, if that differs from the current status.
fn if_changed(
    identity: &AcsIdentity,
    mut next: AcsIdentityStatus,
    verdict: Option<&Verdict>,
    now: Timestamp,
) -> Option<AcsIdentityStatus> {
    let former = identity.status.clone().unwrap_or_default();
    next.last_handled_request = handled_at_first_sight(
        identity,
        former.observed_generation,
        next.last_handled_request,
    );
    if let Some(verdict) = verdict {
        let generation = identity.metadata.generation;
        next.conditions = Conditions {
            former: &former.conditions,
            generation,
            now: renewal::whole_seconds(now),
        }
        .for_verdict(verdict);
        next.observed_generation = generation;
    }
    (next != former).then_some(next)
}
