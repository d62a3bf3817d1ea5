//! Whether all tokens of an identity have to be revoked, and when (R1 to R4).

use jiff::SignedDuration;

use super::{ConnectionView, Decision, Observed, Step, is_dead, status, wait_after_failure};
use crate::{
    crd::{AcsIdentityStatus, POLICY_GRACE, Reason, Verdict},
    credentials::Unusable,
    renewal,
    token::RevocationDemand,
};

/// Delay of a revocation after the first change that demands it, so that it covers all changes of
/// one `kubectl apply` (R2).
const GATHERING: SignedDuration = SignedDuration::from_secs(2);
/// Maximum time that a call waits for tokens to be marked as not Ready (R4).
const MARKING: SignedDuration = SignedDuration::from_secs(5);
/// Time within which the call of a recorded intent must begin; after it, the intent is recorded
/// again.
pub const INTENT: SignedDuration = SignedDuration::from_secs(10);
/// Total timeout of a call: a call without an answer may still take effect this long after it
/// began.
pub const CALL: SignedDuration = SignedDuration::from_secs(30);

/// Value of the request annotation that an `AcsIdentity` handles.
pub(super) const REVOKE: &str = "revoke";

/// Returns the next step of a revocation, if a token demands one or the outcome of an earlier call
/// is unknown (R1 to R4).
pub(super) fn decide_revocation(observed: &Observed<'_>, id: &str) -> Option<Decision> {
    let status = status(observed);
    let alive = |demand: &&RevocationDemand| !is_dead(demand.issued_at, &status);
    if let Some(pending) = &status.pending_revocation {
        if let Some(wait) = clock_behind(observed, &status) {
            return Some(wait);
        }
        let age = observed.now.duration_since(pending.time.0);
        if !observed.is_intent_fresh || age >= INTENT {
            if let Some(wait) = wait_after_failure(observed) {
                return Some(wait);
            }
            // Another run recorded the intent, and its call may be in flight and take effect within
            // this time from now. The start of that call is unknown: the clock may have jumped
            // since.
            let lost = (!observed.is_intent_fresh).then(|| renewal::add(observed.now, CALL));
            let known = pending.unsettled_until.as_ref().map(|until| until.0);
            let until = known.max(lost);
            return Some(Decision::step(Step::RecordRevocation {
                reason: pending.reason.clone(),
                unsettled_until: until,
            }));
        }
        let marked = observed
            .demands
            .iter()
            .filter(alive)
            .all(|demand| demand.is_marked);
        if marked || age >= MARKING || age.is_negative() {
            return Some(Decision::step(Step::Revoke { id: id.to_owned() }));
        }
        let requeue_at = renewal::add(pending.time.0, MARKING);
        return Some(Decision {
            requeue_at: Some(requeue_at),
            ..Decision::step(Step::Rest)
        });
    }
    let requested = observed.identity.open_request();
    match requested.map(|request| (request.value, request.what)) {
        Some((_, Some(REVOKE))) => return Some(record_revocation(observed, Reason::Requested)),
        Some((value, _)) => {
            return Some(Decision::step(Step::RefuseRequest {
                request: value.to_owned(),
            }));
        }
        None => {}
    }
    if observed.is_ordered {
        return Some(record_revocation(observed, Reason::Ordered));
    }
    let reason = observed
        .demands
        .iter()
        .filter(alive)
        .find_map(|demand| demand.asks)?;
    let due = renewal::add(observed.asked_since.unwrap_or(observed.now), GATHERING);
    if observed.now < due {
        return Some(Decision {
            requeue_at: Some(due),
            ..Decision::step(Step::Rest)
        });
    }
    Some(record_revocation(observed, reason))
}

/// Returns the decision to wait until the clock of ACS has passed the newest revoked token, if that
/// clock has stepped back since the token was issued. Only then is the revocation certain.
fn clock_behind(observed: &Observed<'_>, status: &AcsIdentityStatus) -> Option<Decision> {
    let newest = status.tokens_valid_after.as_ref()?.0;
    let service_now = observed.service_now.filter(|now| *now <= newest)?;
    let left = newest.duration_since(service_now) + SignedDuration::from_secs(1);
    let requeue_at = renewal::add(observed.now, left);
    Some(Decision {
        requeue_at: Some(requeue_at),
        ..Decision::step(Step::Rest)
    })
}

fn record_revocation(observed: &Observed<'_>, reason: Reason) -> Decision {
    wait_after_failure(observed).unwrap_or_else(|| {
        Decision::step(Step::RecordRevocation {
            reason: reason.to_string(),
            unsettled_until: None,
        })
    })
}

/// Returns the next step of a revocation that a person requested, although the connection cannot be
/// used and no token can be issued afterwards. It needs the credential in memory, and ACS must not
/// have rejected that one.
pub(super) fn decide_without_connection(
    observed: &Observed<'_>,
    why: &Unusable,
) -> Option<Decision> {
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

/// Whether a person requested the revocation in progress.
#[must_use]
pub fn is_urgent(status: &AcsIdentityStatus) -> bool {
    let pending = status.pending_revocation.as_ref();
    let reason = pending.and_then(|pending| Reason::parse(&pending.reason));
    matches!(reason, Some(Reason::Requested | Reason::Ordered))
}

/// Returns the decision for an identity that the policy no longer allows: no token is issued, and
/// its tokens are revoked after a grace period. Revocations for other reasons continue.
pub(super) fn decide_denied(observed: &Observed<'_>, id: &str, verdict: Verdict) -> Decision {
    let status = status(observed);
    let over = status
        .denied_since
        .as_ref()
        .map(|since| renewal::add(since.0.min(observed.now), POLICY_GRACE));
    if !matches!(observed.connection, ConnectionView::Unusable(_)) {
        if let Some(decision) = decide_revocation(observed, id) {
            return decision;
        }
        let mut demands = observed.demands.iter();
        let lives = demands.any(|demand| demand.is_own && !is_dead(demand.issued_at, &status));
        if lives && over.is_some_and(|over| observed.now >= over) {
            return record_revocation(observed, Reason::PolicyDenied);
        }
    }
    let requeue_at = over.unwrap_or_else(|| renewal::add(observed.now, POLICY_GRACE));
    Decision {
        is_denied: true,
        ..Decision::rest(
            verdict,
            Some(requeue_at).filter(|requeue_at| *requeue_at > observed.now),
        )
    }
}
