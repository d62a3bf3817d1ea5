//! Which workloads to restart, and when. Pure: no I/O, no clock.
//!
//! What a restart is due for is told by the Secret and the status, and a restart that was made by an
//! annotation of the workload's pod template, so a process that ends in between repeats nothing.

#[cfg(test)]
mod tests;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sha2::{Digest, Sha256};

use crate::{
    cache::LastRestart,
    crd::{
        AcsToken, AcsTokenStatus, PendingRestart, REREADS, RESTARTED_AT, RestartAfter,
        RolloutRestart, RolloutRestartStatus, TokenRecord,
    },
    engine::Workload,
    renewal,
};

/// A workload is restarted this long after its cause was seen: after a revocation the tokens of one
/// identity are made anew within seconds, and one restart serves them all.
const SETTLE: SignedDuration = SignedDuration::from_secs(10);
/// Restarts of one workload are at least this far apart, and so are tries.
pub const RESTART_INTERVAL: SignedDuration = SignedDuration::from_mins(5);

/// What the status says of a workload while the operator restarts none.
pub const SWITCHED_OFF: &str = "the operator does not restart workloads; an administrator can \
 enable this with the chart value consumers.rolloutRestart (flag --allow-rollout-restart)";

/// What the process knows beside the token's status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restarts {
    /// Whether workloads may be restarted.
    pub is_allowed: bool,
    /// What is remembered of each workload of the spec, in its order.
    pub last: Vec<Option<LastRestart>>,
}

/// A restart that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// What the status tells when it is done, but for when that was.
    pub done: RolloutRestartStatus,
    /// What the status tells now.
    pub now: RolloutRestartStatus,
    /// Since when it is due.
    pub since: Timestamp,
    /// Why, in words that follow "because".
    pub why: &'static str,
}

/// What is to be told of all workloads, and done next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What the status tells.
    pub told: Vec<RolloutRestartStatus>,
    /// The restart to make now.
    pub due: Option<Restart>,
    /// When another one is due.
    pub requeue_at: Option<Timestamp>,
}

/// Plans the restarts of a token whose Secret is as it should be and holds the token of `record`.
#[must_use]
pub fn plan(token: &AcsToken, record: &TokenRecord, restarts: &Restarts, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    for (number, target) in token.rollout_restarts().enumerate() {
        let last = restarts.last.get(number).copied().flatten();
        let told = told_of(token, target);
        let done = RolloutRestartStatus {
            kind: target.kind,
            name: target.name.clone(),
            revision: record.revision,
            secret: secret_digest(token),
            pending: None,
            restarted_at: told.and_then(|told| told.restarted_at.clone()),
            // What happens meanwhile is no reason to restart everything once that is switched on.
            message: (!restarts.is_allowed).then(|| SWITCHED_OFF.to_owned()),
        };
        // The pods of one that was just named are as old as what they have read.
        let Some(told) = told.filter(|_| restarts.is_allowed) else {
            plan.told.push(done);
            continue;
        };
        match plan_one(target, told, done, record, last, now) {
            Next::Nothing(told) => plan.told.push(told),
            Next::Later(told, at) => {
                plan.requeue_at = Some(plan.requeue_at.map_or(at, |requeue_at| requeue_at.min(at)));
                plan.told.push(told);
            }
            Next::Due(restart) => {
                plan.told.push(restart.now.clone());
                plan.due.get_or_insert(*restart);
            }
        }
    }
    plan
}

/// What is to be told of one workload, and whether it is to be restarted.
enum Next {
    Nothing(RolloutRestartStatus),
    Later(RolloutRestartStatus, Timestamp),
    Due(Box<Restart>),
}

fn plan_one(
    target: &RolloutRestart,
    told: &RolloutRestartStatus,
    done: RolloutRestartStatus,
    record: &TokenRecord,
    last: Option<LastRestart>,
    now: Timestamp,
) -> Next {
    let mut next = told.clone();
    next.message.take_if(|message| message == SWITCHED_OFF);
    let cause =
        |revision: i64, secret: &str| cause(target, record, (revision, secret), &done.secret);
    let Some(why) = cause(told.revision, &told.secret) else {
        next.pending = None;
        return Next::Nothing(next);
    };
    // A restart for an earlier cause may come too early for the latest.
    let pending = told.pending.as_ref();
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

/// Whether the status tells that the operator restarts no workloads.
#[must_use]
pub fn is_switched_off(status: Option<&AcsTokenStatus>) -> bool {
    let mut told = status.iter().flat_map(|status| &status.rollout_restarts);
    told.any(|told| told.message.as_deref() == Some(SWITCHED_OFF))
}

fn told_of<'a>(token: &'a AcsToken, target: &RolloutRestart) -> Option<&'a RolloutRestartStatus> {
    let told = &token.status.as_ref()?.rollout_restarts;
    told.iter()
        .find(|told| told.kind == target.kind && told.name == target.name)
}

/// Why a workload has to be restarted whose pods know of a `revision` and of the names of a `former`
/// Secret, if it has to.
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

/// A hash of what a pod spec names of the Secret: its name and keys.
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
    let mut hasher = Sha256::new();
    for name in names.into_iter().map(Option::unwrap_or_default) {
        hasher.update(name);
        // No name has a slash.
        hasher.update("/");
    }
    let digest = hasher.finalize();
    URL_SAFE_NO_PAD.encode(digest.get(..9).unwrap_or(&digest))
}

/// Whether a restart at that time came after a cause that was seen at `since`. A time that is still to
/// come tells nothing, unless the cause is of that clock too (C3).
fn serves(restarted: Timestamp, since: Timestamp, now: Timestamp) -> bool {
    restarted > since && (restarted <= now || since > now)
}

/// What to do with a workload of which a restart is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Restart it, and say that it was at this time.
    Restart(Timestamp),
    /// It was restarted at this time, after the cause.
    IsRestarted(Timestamp),
    /// It was restarted at this time, too short ago.
    TooSoon(Timestamp),
    /// Its pods read the Secret again by themselves.
    Rereads,
}

/// Judges a workload by its pod template.
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
        // Later than the cause, whatever the clock has done since.
        _ => {
            let after_cause = renewal::add(since, SignedDuration::from_secs(1));
            Judgement::Restart(renewal::whole_seconds(now).max(after_cause))
        }
    }
}

/// Whether somebody has taken away what the last restart has left in the pod template.
#[must_use]
pub fn is_undone(found: &Workload, told: &RolloutRestartStatus) -> bool {
    let made = told.restarted_at.as_ref();
    made.is_some_and(|made| restarted_at(found).is_none_or(|at| at < made.0))
}

fn restarted_at(found: &Workload) -> Option<Timestamp> {
    found.annotations.get(RESTARTED_AT)?.parse().ok()
}
