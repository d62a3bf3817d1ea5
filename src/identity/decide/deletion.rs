//! Deletion of an `AcsIdentity`: its Secrets, its tokens, and the identity in ACS (I3, I5).

use std::borrow::Cow;

use jiff::SignedDuration;

use super::{
    ConnectionView, Decision, Observed, Others, Step, is_dead,
    revocation::{REVOKE, decide_revocation},
    status, wait_after_failure,
};
use crate::{
    crd::{AcsIdentityStatus, DeletionPolicy, Origin, Reason, Verdict},
    renewal,
};

pub(super) fn decide_deletion(observed: &Observed<'_>) -> Decision {
    let status = status(observed);
    if status.pending_revocation.is_none() && observed.has_unrecorded {
        // The Secrets hold the only trace of the tokens to revoke (R3).
        return ending();
    }
    if !observed.secrets.is_empty() {
        return Decision::step(Step::DeleteSecrets);
    }
    let remove = |abandoned| Decision::step(Step::RemoveFinalizer { abandoned });
    let Some(id) = &status.identity_id else {
        return remove(status.pending_create.is_some().then_some(Cow::Borrowed(
            "a create call has no known outcome: it may have left an identity without tokens in ACS",
        )));
    };
    let adopted = status.origin == Some(Origin::Adopted);
    let by_default = if adopted {
        DeletionPolicy::Orphan
    } else {
        DeletionPolicy::Delete
    };
    let policy = observed.identity.spec.deletion_policy.unwrap_or(by_default);
    // An object that came later and may not use the identity does not count as another user of it.
    let is_last = observed.others == Others::None;
    let deletes = policy == DeletionPolicy::Delete && is_last;
    let owes_revocation = status.pending_revocation.is_some()
        || observed.is_ordered
        || observed
            .demands
            .iter()
            .any(|demand| demand.asks_at_the_end && !is_dead(demand.issued_at, &status))
        || observed
            .identity
            .open_request()
            .is_some_and(|request| request.what == Some(REVOKE));
    if !deletes && !owes_revocation {
        return unsettled(observed, &status).unwrap_or_else(|| remove(None));
    }
    if observed.now >= observed.deletion_deadline {
        let why = status.last_failure.map_or_else(
            || "ACS could not be reached in time".into(),
            |failure| failure.message.into(),
        );
        return remove(Some(why));
    }
    if let ConnectionView::Awaited { until } = &observed.connection {
        return Decision {
            requeue_at: Some(*until),
            ..Decision::step(Step::Rest)
        };
    }
    if let ConnectionView::Unusable(why) = &observed.connection {
        if observed.is_namespace_terminating {
            return remove(Some(why.message.clone().into()));
        }
        let deadline = observed.deletion_deadline;
        return Decision::rest(
            Verdict::reconciling(
                Reason::Deleting,
                format!("the identity cannot be deleted in ACS: {}", why.message),
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
        requeue_at: decision
            .requeue_at
            .map(|requeue_at| requeue_at.min(observed.deletion_deadline)),
        ..decision
    }
}

/// Returns the decision to wait for a revocation that got no answer and may still take effect: it
/// would revoke the tokens of the next object that adopts the identity (R3).
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
            Reason::Deleting,
            "waiting for a revocation that got no answer and may still take effect",
        ),
        Some(over.min(observed.deletion_deadline)),
    ))
}

/// Returns the step that records the intent to revoke the tokens of an identity that stays in ACS
/// while its object is deleted.
fn ending() -> Decision {
    Decision::step(Step::RecordRevocation {
        reason: Reason::IdentityDeleted.to_string(),
        unsettled_until: None,
    })
}
