//! Choice of the workloads to restart, and when. Pure: no I/O, no clock.
//!
//! The Secret and the status record the cause of a restart, and an annotation of the workload's pod
//! template records that it was made. A process that ends in between therefore repeats nothing.

#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sha2::{Digest as _, Sha256};

use crate::{
    cache::LastRestart,
    crd::{
        AcsToken, AcsTokenStatus, PendingRestart, REREADS, RESTARTED_AT, RestartAfter,
        RolloutRestart, RolloutRestartStatus, TokenRecord,
    },
    digest,
    engine::Workload,
    renewal,
};

/// Delay between a cause and the restart. After a revocation the tokens of one identity are
/// replaced within seconds, and one restart serves them all.
const SETTLE: SignedDuration = SignedDuration::from_secs(10);
/// Minimum time between restarts of one workload, and between attempts.
pub const RESTART_INTERVAL: SignedDuration = SignedDuration::from_mins(5);

/// Message in the status of a workload while the operator restarts none.
pub const SWITCHED_OFF: &str = "the operator does not restart workloads; an administrator can \
 enable this with the chart value consumers.rolloutRestart (flag --allow-rollout-restart)";

/// State of the process that the token's status does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restarts {
    /// Whether workloads may be restarted.
    pub is_allowed: bool,
    /// Last restart of each workload of the spec, in its order.
    pub last: Vec<Option<LastRestart>>,
}

/// A restart that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// Status after the restart, without the time of the restart.
    pub done: RolloutRestartStatus,
    /// Status now.
    pub now: RolloutRestartStatus,
    /// Time since which the restart is due.
    pub since: Timestamp,
    /// Cause, in words that follow "because".
    pub why: &'static str,
}

/// Status of all workloads, and the next restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Status of the workloads.
    pub reported: Vec<RolloutRestartStatus>,
    /// Restart to make now.
    pub due: Option<Restart>,
    /// Time at which another restart is due.
    pub requeue_at: Option<Timestamp>,
}

/// Plans the restarts of a token once its Secret is up to date and holds the token of `record`.
#[must_use]
pub fn plan(token: &AcsToken, record: &TokenRecord, restarts: &Restarts, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    for (number, target) in token.rollout_restarts().enumerate() {
        let last = restarts.last.get(number).copied().flatten();
        let reported = reported_for(token, target);
        let done = RolloutRestartStatus {
            kind: target.kind,
            name: target.name.clone(),
            revision: record.revision,
            secret: secret_digest(token),
            pending: None,
            restarted_at: reported.and_then(|reported| reported.restarted_at.clone()),
            // Changes while restarts are disabled must not restart everything once they are
            // enabled.
            message: (!restarts.is_allowed).then(|| SWITCHED_OFF.to_owned()),
        };
        // The age of the pods of a newly named workload is unknown, so its pods count as up to
        // date.
        let Some(reported) = reported.filter(|_| restarts.is_allowed) else {
            plan.reported.push(done);
            continue;
        };
        match plan_one(target, reported, done, record, last, now) {
            Next::Nothing(reported) => plan.reported.push(reported),
            Next::Later(reported, at) => {
                plan.requeue_at = Some(plan.requeue_at.map_or(at, |requeue_at| requeue_at.min(at)));
                plan.reported.push(reported);
            }
            Next::Due(restart) => {
                plan.reported.push(restart.now.clone());
                plan.due.get_or_insert(*restart);
            }
        }
    }
    plan
}

/// Next status of one workload, and whether to restart it.
enum Next {
    Nothing(RolloutRestartStatus),
    Later(RolloutRestartStatus, Timestamp),
    Due(Box<Restart>),
}

fn plan_one(
    target: &RolloutRestart,
    reported: &RolloutRestartStatus,
    done: RolloutRestartStatus,
    record: &TokenRecord,
    last: Option<LastRestart>,
    now: Timestamp,
) -> Next {
    let mut next = reported.clone();
    next.message.take_if(|message| message == SWITCHED_OFF);
    let cause =
        |revision: i64, secret: &str| cause(target, record, (revision, secret), &done.secret);
    let Some(why) = cause(reported.revision, &reported.secret) else {
        next.pending = None;
        return Next::Nothing(next);
    };
    // A restart for an earlier cause may come too early for the latest.
    let pending = reported.pending.as_ref();
    let pending = pending.filter(|it| cause(it.revision, &it.secret).is_none());
    let since = pending.map_or_else(|| renewal::whole_seconds(now), |it| it.since.0);
    let made = last.and_then(|last| last.restarted);
    if let Some(at) = made.filter(|at| serves(*at, since, now)) {
        let restarted_at = Some(Time(at));
        return Next::Nothing(RolloutRestartStatus {
            restarted_at,
            ..done
        });
    }
    next.pending = Some(pending.cloned().unwrap_or_else(|| PendingRestart {
        since: Time(since),
        revision: record.revision,
        secret: done.secret.clone(),
    }));
    let tried = last.and_then(|last| renewal::pause(last.tried, RESTART_INTERVAL, now));
    match renewal::pause(since, SETTLE, now).max(tried) {
        Some(later) => Next::Later(next, later),
        None => Next::Due(Box::new(Restart {
            done,
            now: next,
            since,
            why,
        })),
    }
}

/// Whether the status says that the operator restarts no workloads.
#[must_use]
pub fn is_switched_off(status: Option<&AcsTokenStatus>) -> bool {
    let mut reported = status.iter().flat_map(|status| &status.rollout_restarts);
    reported.any(|reported| reported.message.as_deref() == Some(SWITCHED_OFF))
}

fn reported_for<'a>(
    token: &'a AcsToken,
    target: &RolloutRestart,
) -> Option<&'a RolloutRestartStatus> {
    let reported = &token.status.as_ref()?.rollout_restarts;
    reported
        .iter()
        .find(|reported| reported.kind == target.kind && reported.name == target.name)
}

/// Returns why to restart a workload if its pods have a `revision` and the names of a `former`
/// Secret; `None` if that is not needed.
fn cause(
    target: &RolloutRestart,
    record: &TokenRecord,
    (revision, former): (i64, &str),
    secret: &str,
) -> Option<&'static str> {
    let is_new = record.revision > revision;
    if is_new && record.restart_revision.is_some_and(|it| it > revision) {
        Some("the token in its pods was revoked or belongs to a former identity")
    } else if former != secret {
        Some("the name or the keys of the Secret changed")
    } else if is_new && target.after == Some(RestartAfter::Renewal) {
        Some("a new token was issued")
    } else {
        None
    }
}

/// Returns a hash of the parts of the Secret that a pod spec names: its name and keys.
fn secret_digest(token: &AcsToken) -> String {
    let keys = token.spec.secret.as_ref().and_then(|it| it.keys.as_ref());
    let keys = keys.cloned().unwrap_or_default();
    let names = [
        Some(token.secret_name()),
        keys.token,
        keys.expires_on,
        keys.identity_id,
        keys.endpoint,
        keys.scopes,
    ];
    // A slash ends each name, because no name contains one.
    let hasher = names
        .into_iter()
        .map(Option::unwrap_or_default)
        .fold(Sha256::new(), |hasher, name| {
            hasher.chain_update(name).chain_update("/")
        });
    digest::short(hasher, 9)
}

/// Whether a restart at that time came after a cause that was seen at `since`. A time in the future
/// proves nothing, unless the cause lies in the future of the same clock too (C3).
fn serves(restarted: Timestamp, since: Timestamp, now: Timestamp) -> bool {
    restarted > since && (restarted <= now || since > now)
}

/// What to do with a workload that is due for a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Restart it, and record this time.
    Restart(Timestamp),
    /// It was restarted at this time, after the cause.
    IsRestarted(Timestamp),
    /// It was restarted at this time, which is too recent.
    TooSoon(Timestamp),
    /// Its pods read the Secret again by themselves.
    Rereads,
}

/// Decides about a workload by its pod template.
#[must_use]
pub fn judge(found: &Workload, since: Timestamp, now: Timestamp) -> Judgement {
    if found
        .annotations
        .get(REREADS)
        .is_some_and(|it| it == "true")
    {
        return Judgement::Rereads;
    }
    let last = restarted_at(found);
    if let Some(last) = last.filter(|last| serves(*last, since, now)) {
        return Judgement::IsRestarted(last);
    }
    match last {
        Some(last) if renewal::pause(last, RESTART_INTERVAL, now).is_some() => {
            Judgement::TooSoon(last)
        }
        // The time must be later than the cause, even if the clock was set back since.
        _ => {
            let after_cause = renewal::add(since, SignedDuration::from_secs(1));
            Judgement::Restart(renewal::whole_seconds(now).max(after_cause))
        }
    }
}

/// Whether another writer has removed the annotation of the last restart from the pod template.
#[must_use]
pub fn is_undone(found: &Workload, reported: &RolloutRestartStatus) -> bool {
    let made = reported.restarted_at.as_ref();
    made.is_some_and(|made| restarted_at(found).is_none_or(|at| at < made.0))
}

fn restarted_at(found: &Workload) -> Option<Timestamp> {
    found.annotations.get(RESTARTED_AT)?.parse().ok()
}
