//! Deletion of an `AcsToken`: its Secrets, and the revocation it may require (R1, I3, I5).

use super::{Decision, IdentityView, Observed, SecretView, Step, is_dead};
use crate::{
    crd::{AcsToken, Reason, TokenRecord, Verdict},
    token::revocation_demand::demand,
};

pub(super) fn decide_deletion(observed: &Observed<'_>) -> Decision {
    if let Some(step) = record_or_delete(observed, false) {
        return Decision::step(step);
    }
    let deadline = observed.deletion_deadline;
    let abandon = |why| {
        Decision::step(Step::RemoveFinalizer {
            abandoned: Some(why),
        })
    };
    match revocation_owed(observed) {
        Owed::Nothing => Decision::step(Step::RemoveFinalizer { abandoned: None }),
        Owed::Revocation { can_be_sent: false } => abandon(
            "the credential of the connection no \
         longer exists",
        ),
        Owed::Revocation { .. } if observed.now >= deadline => {
            abandon("ACS did not answer in time")
        }
        Owed::Revocation { .. } => Decision::rest(
            Verdict::reconciling(
                Reason::Deleting,
                "waiting until the tokens of the identity are revoked",
            ),
            None,
            Some(deadline),
        ),
    }
}

enum Owed {
    Nothing,
    Revocation { can_be_sent: bool },
}

/// Whether the deletion requires a revocation because a token of the object may still be valid
/// (R1).
fn revocation_owed(observed: &Observed<'_>) -> Owed {
    match &observed.identity {
        IdentityView::Missing | IdentityView::NotReady { .. } => Owed::Nothing,
        // The deletion of the identity invalidates its tokens, or revokes them. It has a deadline
        // of its own.
        IdentityView::Deleting => {
            let status = observed.token.status.as_ref();
            let id = status.and_then(|status| status.identity_id.as_deref());
            let demand = id.and_then(|id| demand(observed.token, id, &observed.limits));
            if demand.is_some_and(|demand| demand.asks_at_the_end) {
                Owed::Revocation { can_be_sent: true }
            } else {
                Owed::Nothing
            }
        }
        IdentityView::Usable(identity) => {
            // While a revocation is in progress, an older token may still be valid: the clock of
            // ACS may have stepped back since the token was issued.
            let lives =
                demand(observed.token, &identity.id, &observed.limits).is_some_and(|demand| {
                    let is_dead = is_dead(demand.issued_at, identity) && !identity.is_revoking;
                    demand.asks.is_some() && !is_dead
                });
            if lives {
                Owed::Revocation {
                    can_be_sent: identity.can_revoke,
                }
            } else {
                Owed::Nothing
            }
        }
    }
}

/// Returns the step that records the token of a Secret in the status, or else deletes the Secret.
/// The record comes first, because a revocation may depend on it.
pub(super) fn record_or_delete(
    observed: &Observed<'_>,
    only_without_identity: bool,
) -> Option<Step> {
    let name = match &observed.secret {
        SecretView::Ours { record, .. } => {
            let unrecorded = record
                .as_deref()
                .filter(|record| is_unrecorded(observed.token, record));
            if let Some(record) = unrecorded {
                return Some(Step::Record(record.clone()));
            }
            observed.token.secret_name()
        }
        SecretView::Unknown => return Some(Step::ReadSecret),
        SecretView::Absent | SecretView::Foreign { .. } => {
            if let Some(record) = unrecorded_former(observed) {
                return Some(Step::Record(record.clone()));
            }
            observed.former.as_ref()?.name.clone()
        }
    };
    Some(Step::DeleteSecret {
        name,
        only_without_identity,
    })
}

/// Returns the record of a token that only a former Secret holds and that is not in the status.
pub(super) fn unrecorded_former<'a>(observed: &'a Observed<'_>) -> Option<&'a TokenRecord> {
    let record = observed.former.as_ref()?.record.as_ref()?;
    let is_moved = matches!(
        &observed.secret,
        SecretView::Ours {
            record: Some(_),
            ..
        }
    );
    let status = observed.token.status.as_ref();
    let reported = status.and_then(|status| status.issued_at.as_ref());
    let is_newer = reported.is_none_or(|reported| record.issued_at > reported.0);
    (is_newer && !is_moved).then_some(record)
}

/// Whether the record of the Secret is missing in the status.
pub(super) fn is_unrecorded(token: &AcsToken, record: &TokenRecord) -> bool {
    let Some(status) = &token.status else {
        return true;
    };
    !record.is_reported_by(status)
}
