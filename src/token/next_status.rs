//! Next status of an `AcsToken`. Pure: no I/O, no clock.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    decide::{self, Decision},
    limits::Limits,
};
use crate::{
    crd::{
        AcsToken, AcsTokenStatus, Conditions, LastFailure, Reason, RolloutRestartStatus,
        TokenRecord, UserTokenStatus, Verdict, WrittenSecret, handled_at_first_sight,
    },
    renewal,
};

/// Returns the status of a run that rests on `decision`; `None` if nothing changes (K4).
#[must_use]
pub fn rested(token: &AcsToken, decision: &Decision, now: Timestamp) -> Option<AcsTokenStatus> {
    let verdict = decision.verdict.as_ref()?;
    let mut next = token.status.clone().unwrap_or_default();
    if let Some(record) = &decision.record {
        copy_record(&mut next, token, record, now);
    } else if decision.forgets {
        let conditions = std::mem::take(&mut next.conditions);
        next = AcsTokenStatus {
            conditions,
            revision: next.revision,
            restart_revision: next.restart_revision,
            rollout_restarts: next.rollout_restarts,
            last_handled_request: next.last_handled_request,
            connection_ref: next.connection_ref,
            endpoint: next.endpoint,
            denied_since: next.denied_since,
            ..AcsTokenStatus::default()
        };
    }
    let since = next
        .denied_since
        .take()
        // A clock that was set back must not lengthen the grace period (C3).
        .filter(|since| since.0 <= now)
        .unwrap_or_else(|| Time(renewal::whole_seconds(now)));
    next.denied_since = decision.is_denied.then_some(since);
    if let Some(restarts) = &decision.restarts {
        next.rollout_restarts.clone_from(restarts);
    }
    if let Some(counts) = decision.counts {
        next.consumers = counts.0;
    }
    if_changed(token, next, Some(verdict), now)
}

/// Returns the status that records a token of the Secret; `None` if nothing changes.
#[must_use]
pub fn recorded(
    token: &AcsToken,
    record: &TokenRecord,
    secret: Option<WrittenSecret>,
    now: Timestamp,
) -> Option<AcsTokenStatus> {
    let mut next = token.status.clone().unwrap_or_default();
    if let (Some(request), true) = (
        &record.request,
        next.fingerprint.as_ref() != Some(&record.fingerprint),
    ) {
        next.last_handled_request = Some(request.clone());
    }
    copy_record(&mut next, token, record, now);
    next.written_secret = secret;
    next.failed_attempts = None;
    next.last_failure = None;
    let verdict = decide::ready(token);
    // A token is not Ready if its object is being deleted, or if the token no longer matches the
    // spec.
    let is_good = token.metadata.deletion_timestamp.is_none()
        && now < record.expires_at
        && record.parameters.is_wanted_by(token, &Limits::default());
    if_changed(token, next, is_good.then_some(&verdict), now)
}

/// Returns the status after a request that the operator does not know.
#[must_use]
pub fn refused(token: &AcsToken, request: &str, now: Timestamp) -> Option<AcsTokenStatus> {
    let next = AcsTokenStatus {
        last_handled_request: Some(request.to_owned()),
        ..token.status.clone().unwrap_or_default()
    };
    if_changed(token, next, None, now)
}

/// Returns the status after the workload of `restart` was restarted, or was not.
#[must_use]
pub fn restarted(
    token: &AcsToken,
    restart: &RolloutRestartStatus,
    now: Timestamp,
) -> Option<AcsTokenStatus> {
    let mut next = token.status.clone().unwrap_or_default();
    let mut all = next.rollout_restarts.iter_mut();
    *all.find(|it| it.kind == restart.kind && it.name == restart.name)? = restart.clone();
    if_changed(token, next, None, now)
}

/// Returns the status after a call that brought no token. It is stored, so that the backoff
/// survives a restart of the operator.
#[must_use]
pub fn failed(
    token: &AcsToken,
    reason: Reason,
    message: &str,
    now: Timestamp,
) -> Option<AcsTokenStatus> {
    let mut next = token.status.clone().unwrap_or_default();
    let is_same_spec = next.observed_generation == token.metadata.generation;
    let former = next.failed_attempts.filter(|_| is_same_spec).unwrap_or(0);
    next.failed_attempts = Some(former.saturating_add(1));
    next.last_failure = Some(LastFailure {
        time: Time(renewal::whole_seconds(now)),
        reason: reason.to_string(),
        message: message.to_owned(),
    });
    next.observed_generation = token.metadata.generation;
    if_changed(token, next, None, now)
}

fn copy_record(next: &mut AcsTokenStatus, token: &AcsToken, record: &TokenRecord, now: Timestamp) {
    let is_same_identity = next.identity_id.as_ref() == Some(&record.identity_id);
    let newest = next.issued_at.take().max(next.newest_issued_at.take());
    next.newest_issued_at = newest.filter(|at| is_same_identity && at.0 > record.issued_at);
    if next.fingerprint.as_ref() != Some(&record.fingerprint) {
        next.written_secret = None;
        next.written_at = Some(Time(renewal::whole_seconds(now)));
    }
    next.secret_name = Some(token.secret_name());
    next.identity_id = Some(record.identity_id.clone());
    next.scopes = Some(record.parameters.scopes.clone());
    next.expires_in = Some(record.parameters.expires_in.clone());
    next.issued_at = Some(Time(record.issued_at));
    next.expires_at = Some(Time(record.expires_at));
    next.life = Some(record.life_text());
    next.renew_at = Some(Time(decide::renew_at(token, record)));
    next.fingerprint = Some(record.fingerprint.clone());
    next.credential = Some(record.credential.clone());
    next.former_token = record.former.as_deref().cloned();
    next.revision = Some(record.revision);
    next.restart_revision = record.restart_revision;
    if let Some(exchange) = &record.exchange {
        next.connection_ref = Some(exchange.connection.clone());
        next.endpoint = Some(exchange.endpoint.clone());
        next.user_token = Some(UserTokenStatus {
            fingerprint: exchange.user_token.clone(),
            expires_at: Time(exchange.user_token_expires_at),
        });
    }
}

/// Returns `next` with the conditions of `verdict`, if that differs from the current status.
fn if_changed(
    token: &AcsToken,
    mut next: AcsTokenStatus,
    verdict: Option<&Verdict>,
    now: Timestamp,
) -> Option<AcsTokenStatus> {
    let former = token.status.clone().unwrap_or_default();
    next.last_handled_request =
        handled_at_first_sight(token, former.observed_generation, next.last_handled_request);
    if let Some(verdict) = verdict {
        let generation = token.metadata.generation;
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
