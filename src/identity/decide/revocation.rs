//! Whether all tokens of an identity have to be revoked, and when (R1 to R4).

use jiff::SignedDuration;

use super::{ConnectionView, Decision, Observed, Step, is_dead, status, wait_after_failure};
use crate::{
    crd::{AcsIdentityStatus, POLICY_GRACE, Reason, Verdict},
    credentials::Unusable,
    renewal,
    token::RevocationDemand,
};

/// A revocation waits this long after the first change that asks for it, so that it covers all
/// that one `kubectl apply` changes (R2).
const GATHERING: SignedDuration = SignedDuration::from_secs(2);
/// At most so long are tokens marked as not Ready before the call (R4).
const MARKING: SignedDuration = SignedDuration::from_secs(5);
/// A recorded intent is good for one call begun within this time; after it, it is recorded anew.
pub const INTENT: SignedDuration = SignedDuration::from_secs(10);
/// A call that got no answer may still take effect this long after it was begun: the total timeout
/// of a call.
pub const CALL: SignedDuration = SignedDuration::from_secs(30);

/// The request that an `AcsIdentity` obeys.
pub(super) const REVOKE: &str = "revoke";

/// Revokes when a token asks for it, or when the outcome of an earlier call is not known (R1 to R4).
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

/// The wait until the service's clock has passed the newest token that was revoked, where it has
/// stepped back since that was issued: only then is the revocation sure.
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

/// What a person wants revoked at once is, although nothing can be issued after it, as long as the
/// credential is in memory; unless the service refuses that one.
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

/// Whether the revocation that is under way is one that a person asked for.
#[must_use]
pub fn is_urgent(status: &AcsIdentityStatus) -> bool {
    let pending = status.pending_revocation.as_ref();
    let reason = pending.and_then(|pending| Reason::parse(&pending.reason));
    matches!(reason, Some(Reason::Requested | Reason::Ordered))
}

/// The policy has ceased to allow the identity: nothing is issued, and after a while its tokens are
/// revoked. What else asks for a revocation goes on.
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
