//! Decision for an `AcsToken` that is not being deleted: its identity, its Secret, and the token in
//! it.

use jiff::{SignedDuration, Timestamp};

use super::{
    ConnectionView, Decision, IdentityView, Observed, Rival, SecretView, Step, UsableIdentity,
    deletion::{is_unrecorded, record_or_delete, unrecorded_former},
    is_dead, is_good,
    issue::{
        created_at, is_unsettled, issue_or_wait, ready, renew_at, retry_at, settles_at, unable,
        why_issue,
    },
    withheld::{denial, suspension, withheld},
};
use crate::{
    cache::UserTokenView,
    crd::{AcsToken, Reason, TokenRecord, Verdict},
    renewal,
    token::{restart, revocation_demand::demand},
};

/// Interval of the checks whether the name of a Secret is free again.
const RIVAL_INTERVAL: SignedDuration = SignedDuration::from_mins(1);

/// A wait for the object's own identity is reported only if it lasts this long. A token applied
/// together with its identity then costs one status write, not two.
const QUIET_WAIT: SignedDuration = SignedDuration::from_secs(10);

pub(super) fn decide_life(observed: &Observed<'_>) -> Decision {
    if let Some(record) = unrecorded_former(observed) {
        // The Secret was renamed after it was written and before the status was. The token is
        // recorded in any case, because a revocation may depend on it.
        return Decision::step(Step::Record(record.clone()));
    }
    if let Some(rival) = &observed.rival {
        return give_way_or_wait(observed, rival);
    }
    match &observed.identity {
        IdentityView::Missing | IdentityView::Deleting => {
            let is_missing = observed.identity == IdentityView::Missing;
            if let Some(step) = record_or_delete(observed, is_missing) {
                return Decision::step(step);
            }
            let message = format!(
                "waiting for AcsIdentity {}, which does not exist{} in this namespace",
                observed.token.identity_name().unwrap_or_default(),
                if is_missing { "" } else { " any more" }
            );
            // While the identity is being deleted, its revocation depends on this status.
            Decision {
                forgets: is_missing,
                ..Decision::rest(
                    Verdict::reconciling(Reason::IdentityNotFound, message),
                    None,
                    None,
                )
            }
        }
        IdentityView::NotReady {
            reason,
            message,
            is_brief,
        } => {
            let verdict = Verdict::reconciling(*reason, message.clone());
            let quiet = renewal::pause(created_at(observed.token), QUIET_WAIT, observed.now);
            let is_new = observed
                .token
                .status
                .as_ref()
                .is_none_or(|s| s.conditions.is_empty());
            if *is_brief && is_new && quiet.is_some() {
                return Decision {
                    requeue_at: quiet,
                    ..Decision::step(Step::Rest)
                };
            }
            Decision::rest(verdict, None, None)
        }
        IdentityView::Usable(identity) => decide_with_identity(observed, identity),
    }
}

/// Returns the decision if another `AcsToken` has the name of the Secret.
fn give_way_or_wait(observed: &Observed<'_>, rival: &Rival) -> Decision {
    if let (true, Some(former)) = (rival.gives_way, &observed.former) {
        return Decision::step(Step::DeleteSecret {
            name: former.name.clone(),
            only_without_identity: false,
        });
    }
    let conflict = stalled(
        Reason::SecretConflict,
        format!(
            "Secret {} belongs to AcsToken {}; set another secret.name",
            observed.token.secret_name(),
            rival.name
        ),
    );
    // A rival that never owned the Secret and takes another name causes no event.
    Decision {
        requeue_at: Some(renewal::add(observed.now, RIVAL_INTERVAL)),
        ..conflict
    }
}

/// Addition to the message if it is unknown whether the token is valid and no other token replaces
/// it.
const UNSETTLED: &str =
    "; a revocation got no answer, and may have revoked the token in the Secret";

fn decide_with_identity(observed: &Observed<'_>, identity: &UsableIdentity) -> Decision {
    let name = observed.token.secret_name();
    let (record, is_outdated, is_immutable, is_there) = match &observed.secret {
        SecretView::Unknown => return Decision::step(Step::ReadSecret),
        SecretView::Foreign { owner } => {
            return stalled(
                Reason::SecretConflict,
                format!(
                    "Secret {name} already exists and {owner}; delete it or set another \
                     secret.name, or hand it over: docs/take-over-a-secret.md"
                ),
            );
        }
        SecretView::Absent => (None, false, false, false),
        SecretView::Ours {
            record,
            is_outdated,
            is_immutable,
        } => (record.as_deref(), *is_outdated, *is_immutable, true),
    };
    if let Some(record) = record.filter(|record| is_unrecorded(observed.token, record)) {
        return Decision::step(Step::Record(record.clone()));
    }
    if !is_there && let Some(decision) = move_secret(observed, identity) {
        return decision;
    }
    let record = record.filter(|record| record.identity_id == identity.id);
    let good = record.filter(|record| is_good(observed, identity, record));

    let is_unsure = good.is_some_and(|record| is_unsettled(observed, identity, record));
    if let Some(mut message) = suspension(observed.token, identity) {
        if is_unsure {
            message.push_str(UNSETTLED);
        }
        // A token that is being revoked is not valid (R4).
        let is_good = good.is_some() && !identity.is_revoking && !is_unsure;
        let verdict = Verdict::Suspended { is_good, message };
        return withheld(observed, identity, record, good, verdict);
    }
    if identity.is_revoking {
        return Decision::rest(revoking(), record, None);
    }
    if demand(observed.token, &identity.id, &observed.limits)
        .is_some_and(|demand| demand.asks.is_some() && !is_dead(demand.issued_at, identity))
    {
        return wait_for_revocation(observed, identity, record, good);
    }
    if let Some(message) = denial(observed, identity) {
        let reason = Reason::PolicyDenied;
        let verdict = match good {
            Some(_) if !is_unsure => Verdict::ReadyButStalled { reason, message },
            _ => Verdict::stalled(reason, message),
        };
        return withheld(observed, identity, record, good, verdict);
    }
    if let Some(key) = &observed.forbidden_key {
        return forbidden(key, good);
    }
    if observed.user_token == Some(UserTokenView::Unknown) {
        return Decision::step(Step::ReadUserToken);
    }
    let Some(why) = why_issue(observed, identity, record, is_there) else {
        return settle(observed, identity, record, is_outdated, is_immutable);
    };
    if is_immutable {
        return unable(
            observed,
            good,
            Reason::SecretImmutable,
            format!(
                "Secret {name} is immutable, so the operator cannot renew the token in it; delete \
                 the Secret and the operator creates it again"
            ),
            true,
            None,
        );
    }
    issue_or_wait(observed, identity, good, why)
}

/// Returns the decision to copy a valid token from the Secret's former name to its new one.
fn move_secret(observed: &Observed<'_>, identity: &UsableIdentity) -> Option<Decision> {
    let former = observed.former.as_ref()?;
    let is_good = former.record.as_ref().is_some_and(|record| {
        record.identity_id == identity.id && is_good(observed, identity, record)
    });
    is_good.then(|| {
        refusal(observed).unwrap_or_else(|| {
            Decision::step(Step::CopySecret {
                from: former.name.clone(),
            })
        })
    })
}

/// Returns the decision if a flag of the operator forbids a label or annotation of the Secret.
fn forbidden(key: &str, good: Option<&TokenRecord>) -> Decision {
    let reason = Reason::SecretMetadataForbidden;
    let message = format!(
        "remove {key} from secret.labels and secret.annotations: the operator's flag \
         --forbid-secret-metadata forbids it"
    );
    let requeue_at = good.map(|record| record.expires_at);
    let verdict = match good {
        Some(_) => Verdict::ReadyButStalled { reason, message },
        None => Verdict::stalled(reason, message),
    };
    Decision::rest(verdict, good, requeue_at)
}

/// Returns the decision if there is nothing to issue: first the pending cleanup, then the wait for
/// the renewal.
fn settle(
    observed: &Observed<'_>,
    identity: &UsableIdentity,
    record: Option<&TokenRecord>,
    is_outdated: bool,
    is_immutable: bool,
) -> Decision {
    if let Some(request) = observed.token.open_request() {
        // `why_issue` has handled a request for a renewal.
        return Decision::step(Step::RefuseRequest {
            request: request.value.to_owned(),
        });
    }
    let held_back = observed.rewrite_at.max(refusal_ends(observed));
    if is_outdated && !is_immutable && held_back.is_none() {
        return Decision::step(Step::RewriteSecret);
    }
    if let (Some(record), true) = (record, !is_outdated && was_refused(observed.token)) {
        // The API server has now accepted what it refused before.
        return Decision::step(Step::Record(record.clone()));
    }
    if let Some(former) = &observed.former {
        return Decision::step(Step::DeleteSecret {
            name: former.name.clone(),
            only_without_identity: false,
        });
    }
    let requeue_at = record.map(|record| {
        let unsettled = settles_at(observed, identity, record);
        let renewal = renew_at(observed.token, record).min(record.expires_at);
        // A credential that was refused may work by now, and the token may have been issued with a
        // former one (C1).
        let refused = match &identity.connection {
            ConnectionView::Unusable(why) => why.retry_at,
            ConnectionView::Usable { .. } => None,
        };
        let rewrite = held_back.filter(|_| is_outdated);
        let sooner = unsettled.into_iter().chain(refused).chain(rewrite).min();
        sooner.map_or(renewal, |sooner| sooner.min(renewal))
    });
    let verdict = if identity.is_missing {
        // The object that found this with its call retries slowly; the others wait for its result
        // or for their renewal.
        Verdict::stalled(
            Reason::IdentityNotFound,
            "the identity does not exist in ACS, so the token no longer works; delete the \
             AcsIdentity and create it again",
        )
    } else {
        ready(observed.token)
    };
    let decision = Decision::rest(verdict, record, requeue_at);
    match record.filter(|_| !is_outdated && !identity.is_missing) {
        Some(record) => with_restarts(observed, record, decision),
        None => decision,
    }
}

/// Adds the workload restarts to a decision, once the Secret is up to date. The status of the
/// workloads is written before any is restarted.
fn with_restarts(observed: &Observed<'_>, record: &TokenRecord, decision: Decision) -> Decision {
    let plan = restart::plan(observed.token, record, &observed.restarts, observed.now);
    let status = observed.token.status.as_ref();
    let is_reported = status.is_some_and(|status| status.rollout_restarts == plan.reported);
    let due_at = plan.due.as_ref().map(|_| observed.now);
    if let (Some(restart), true) = (plan.due, is_reported) {
        return Decision::step(Step::RestartWorkload(Box::new(restart)));
    }
    let wakes = [decision.requeue_at, plan.requeue_at, due_at];
    Decision {
        requeue_at: wakes.into_iter().flatten().min(),
        restarts: Some(plan.reported),
        ..decision
    }
}

/// Returns the decision while the identity has to revoke first (R1). Until then the status keeps
/// the old token while it is valid; if the connection cannot be used or the revocation fails, the
/// status also says that the change waits, and for what.
fn wait_for_revocation(
    observed: &Observed<'_>,
    identity: &UsableIdentity,
    record: Option<&TokenRecord>,
    good: Option<&TokenRecord>,
) -> Decision {
    let waits = match &identity.connection {
        ConnectionView::Usable { .. } => None,
        ConnectionView::Unusable(why) => Some(why),
    };
    let change_waits = |message: &str| {
        let secret = observed.token.secret_name();
        let message = format!(
            "the change of the spec waits, and Secret {secret} still holds the previous token: \
             {message}"
        );
        Verdict::ready(Reason::ChangeWaits, message)
    };
    match (good, waits) {
        (Some(record), None) => match &identity.revocation_fails {
            Some(message) => Decision::rest(change_waits(message), good, Some(record.expires_at)),
            // The connection may fail meanwhile, and objects that make no call get no event about
            // it.
            None => Decision {
                requeue_at: Some(renewal::add(observed.now, QUIET_WAIT).min(record.expires_at)),
                ..Decision::step(Step::Rest)
            },
        },
        (Some(record), Some(why)) => {
            let end = record.expires_at;
            let requeue_at = why.retry_at.map_or(end, |at| at.min(end));
            Decision::rest(change_waits(&why.message), good, Some(requeue_at))
        }
        (None, None) => Decision::rest(revoking(), record, None),
        (None, Some(why)) => {
            let verdict = Verdict::reconciling(why.reason, why.message.clone());
            Decision::rest(verdict, record, why.retry_at)
        }
    }
}

/// Whether the last failure is that the API server refused the Secret.
fn was_refused(token: &AcsToken) -> bool {
    let status = token.status.as_ref();
    let failure = status.and_then(|status| status.last_failure.as_ref());
    failure.is_some_and(|failure| failure.reason().is_refusal())
}

/// Returns when to retry a Secret that the API server refused; `None` if it may be tried now.
fn refusal_ends(observed: &Observed<'_>) -> Option<Timestamp> {
    was_refused(observed.token)
        .then(|| retry_at(observed, None))
        .flatten()
}

/// Returns the decision to wait while the API server refuses the Secret.
fn refusal(observed: &Observed<'_>) -> Option<Decision> {
    let until = refusal_ends(observed)?;
    let failure = observed.token.status.as_ref()?.last_failure.as_ref()?;
    let verdict = Verdict::reconciling(failure.reason(), failure.message.clone());
    Some(Decision::rest(verdict, None, Some(until)))
}

pub(super) fn revoking() -> Verdict {
    Verdict::reconciling(
        Reason::Revoking,
        "the tokens of the identity are being revoked; then a new token is issued",
    )
}

fn stalled(reason: Reason, message: String) -> Decision {
    Decision::rest(Verdict::stalled(reason, message), None, None)
}
