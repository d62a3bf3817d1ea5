//! Whether a token is due, and when it can be issued (T1 to T4, R3).

use jiff::{SignedDuration, Timestamp};

use super::{
    ConnectionView, Decision, IdentityView, Observed, REPAIR_INTERVAL, Step, UsableIdentity,
    exchange, is_dead, is_of_dead_credential, is_reported_ready, life::revoking, waits,
};
use crate::{
    cache::UserTokenView,
    crd::{AcsToken, Reason, TokenParameters, TokenRecord, Verdict, parse_duration},
    engine::{IssueRequest, Why},
    renewal,
};

/// Delay of the queue deadline of tokens from a credential that no longer works. They may be
/// thousands, all equally urgent: first tokens requested within this time go before them, and they
/// go before routine renewals, which begin 12 minutes before expiry.
const FIRSTS_FIRST: SignedDuration = SignedDuration::from_mins(10);

/// A wait for the clock of ACS after a revocation is normal if it is no longer than this.
const REVOKING: SignedDuration = SignedDuration::from_secs(5);

pub(super) fn issue_or_wait(
    observed: &Observed<'_>,
    identity: &UsableIdentity,
    good: Option<&TokenRecord>,
    why: Why,
) -> Decision {
    if observed.call.is_on_the_wire() {
        return waits(observed);
    }
    if let ConnectionView::Unusable(why) = &identity.connection {
        let message = why.message.clone();
        return unable(
            observed,
            good,
            why.reason,
            message,
            why.is_stalled,
            why.retry_at,
        );
    }
    if let Some(decision) = exchange::obstacle(observed, good, why) {
        return decision;
    }
    if let Some(wait) = wait_for_clock(observed, identity, good) {
        return wait;
    }
    if let Some(wait) = wait_for_retry(observed, good, why) {
        return wait;
    }
    if why == Why::CredentialRefused && is_reported_ready(observed.token) {
        let message = "ACS rejects the access key that the token was issued with, so the token no \
         longer works; a new token is being issued";
        return Decision {
            verdict: Some(Verdict::reconciling(Reason::CredentialRefused, message)),
            ..Decision::step(Step::Mark)
        };
    }
    let due = match (why, good) {
        (Why::First, _) => created_at(observed.token),
        (Why::Renewal | Why::CredentialChanged | Why::UserTokenChanged, Some(record)) => {
            record.expires_at
        }
        (Why::CredentialRefused, _) => renewal::add(observed.now, FIRSTS_FIRST),
        _ => observed.now,
    };
    Decision::step(Step::Issue(IssueRequest {
        identity_id: identity.id.clone(),
        parameters: TokenParameters::wanted(observed.token, &observed.limits),
        user_token: match &observed.user_token {
            Some(UserTokenView::There(seen)) => Some(seen.clone()),
            _ => None,
        },
        why,
        deadline: due,
    }))
}

/// Returns the decision to wait after a failed call, or after a repair of a Secret that another
/// writer keeps changing.
fn wait_for_retry(
    observed: &Observed<'_>,
    good: Option<&TokenRecord>,
    why: Why,
) -> Option<Decision> {
    let earliest = [
        retry_at(observed, good),
        observed.not_before,
        match why {
            Why::SecretEdited => observed.last_repair,
            Why::SecretMissing => observed.last_recreation,
            _ => None,
        }
        .map(|repaired| renewal::add(repaired, REPAIR_INTERVAL)),
    ];
    let earliest = earliest
        .into_iter()
        .flatten()
        .max()
        .filter(|at| *at > observed.now)?;
    let status = observed.token.status.as_ref();
    let decision = match status.and_then(|status| status.last_failure.as_ref()) {
        Some(failure) => {
            let (reason, message) = (failure.reason(), failure.message.clone());
            let is_stalled = reason.is_stalling();
            unable(observed, good, reason, message, is_stalled, Some(earliest))
        }
        None => unable(
            observed,
            good,
            Reason::SecretEdited,
            "another writer keeps editing or deleting the Secret; the operator repairs it \
                 every 5 minutes"
                .to_owned(),
            false,
            Some(earliest),
        ),
    };
    Some(decision)
}

/// Returns the decision to wait for the second after that of the last revocation: a token issued in
/// that very second might be revoked by it (R3).
fn wait_for_clock(
    observed: &Observed<'_>,
    identity: &UsableIdentity,
    good: Option<&TokenRecord>,
) -> Option<Decision> {
    let next_second = identity.tokens_valid_after.map(after)?;
    observed.service_now.filter(|now| *now < next_second)?;
    let until = local_time(observed, next_second);
    let is_soon = renewal::add(observed.now, REVOKING) >= until;
    Some(match good {
        Some(_) => Decision {
            requeue_at: Some(until),
            ..Decision::step(Step::Rest)
        },
        None if is_soon => Decision::rest(revoking(), None, Some(until)),
        None => {
            let message = format!(
                "waiting until the clock of ACS has passed {next_second}: the clock was ahead \
                 when a token was issued that has since been revoked"
            );
            let verdict = Verdict::reconciling(Reason::ServiceClockBehind, message);
            Decision::rest(verdict, None, Some(until))
        }
    })
}

/// Returns the decision if no token can be issued now. A token that is still valid keeps its object
/// Ready.
pub(super) fn unable(
    observed: &Observed<'_>,
    good: Option<&TokenRecord>,
    reason: Reason,
    message: String,
    is_stalled: bool,
    retry_at: Option<Timestamp>,
) -> Decision {
    let Some(record) = good else {
        let verdict = Verdict::unable(reason, message, is_stalled);
        return Decision::rest(verdict, None, retry_at);
    };
    let requeue_at = retry_at.map_or(record.expires_at, |retry| retry.min(record.expires_at));
    let parameters_are_current = record
        .parameters
        .is_wanted_by(observed.token, &observed.limits);
    let verdict = if is_stalled && !parameters_are_current {
        Verdict::ReadyButStalled { reason, message }
    } else {
        ready(observed.token)
    };
    Decision::rest(verdict, Some(record), Some(requeue_at))
}

/// Returns the verdict for a valid token.
#[must_use]
pub fn ready(token: &AcsToken) -> Verdict {
    let secret = token.secret_name();
    let message = match token.spec.teams_user {
        None => format!("Secret {secret} holds a valid token"),
        Some(_) => format!(
            "Secret {secret} holds a valid token of a Teams user; ACS cannot revoke it before it \
             expires"
        ),
    };
    Verdict::ready(Reason::TokenIssued, message)
}

/// Returns why a new token is needed, if it is.
pub(super) fn why_issue(
    observed: &Observed<'_>,
    identity: &UsableIdentity,
    record: Option<&TokenRecord>,
    is_there: bool,
) -> Option<Why> {
    let Some(record) = record else {
        let was_issued = observed.token.status.as_ref().is_some_and(|status| {
            status.identity_id.as_deref() == Some(identity.id.as_str())
                && status
                    .issued_at
                    .as_ref()
                    .is_some_and(|at| !is_dead(at.0, identity))
        });
        return Some(match (was_issued, is_there) {
            (false, _) => Why::First,
            (true, false) => Why::SecretMissing,
            (true, true) => Why::SecretEdited,
        });
    };
    let credential = match &identity.connection {
        ConnectionView::Usable { credential } => Some(credential),
        ConnectionView::Unusable(_) => None,
    };
    if is_dead(record.issued_at, identity) {
        Some(Why::Revoked)
    } else if !record
        .parameters
        .is_wanted_by(observed.token, &observed.limits)
    {
        Some(Why::Changed)
    } else if is_of_dead_credential(identity, record) {
        Some(Why::CredentialRefused)
    } else if exchange::is_outdated(observed, record) {
        Some(Why::UserTokenChanged)
    } else if credential.is_some_and(|credential| *credential != record.credential) {
        Some(Why::CredentialChanged)
    } else if is_unsettled(observed, identity, record) {
        Some(Why::Unsettled)
    } else if observed.now >= renew_at(observed.token, record) {
        Some(Why::Renewal)
    } else if observed
        .token
        .open_request()
        .is_some_and(|request| matches!(request.what, None | Some("renew")))
    {
        Some(Why::Requested)
    } else {
        None
    }
}

/// Returns when the token is due for renewal, by the operator's clock.
#[must_use]
pub fn renew_at(token: &AcsToken, record: &TokenRecord) -> Timestamp {
    let wanted = token
        .spec
        .renew_before
        .as_deref()
        .and_then(|text| parse_duration(text).ok());
    let seed = token.metadata.uid.as_deref().unwrap_or_default();
    // A Teams user's token is also renewed before its Entra token expires.
    let exchange = record.exchange.as_ref();
    let end = exchange.map_or(record.expires_at, |exchange| {
        exchange.user_token_expires_at.min(record.expires_at)
    });
    let life = record.life - record.expires_at.duration_since(end);
    let life = life.max(SignedDuration::ZERO);
    renewal::whole_seconds(renewal::renew_at(end, life, wanted, seed))
}

/// Whether a new token may have been issued in the second of the last revocation. While the clock
/// of ACS is unknown, only the date of the answer can be compared, and an answer is dated when it
/// is sent.
#[must_use]
pub fn is_issued_before_revocation(observed: &Observed<'_>, record: &TokenRecord) -> bool {
    let IdentityView::Usable(identity) = &observed.identity else {
        return false;
    };
    identity.tokens_valid_after.is_some_and(|dead| {
        let is_known = observed.service_now.is_some();
        let dead = if is_known { dead } else { after(dead) };
        record.issued_at <= dead
    })
}

/// Returns when the last failure allows another attempt; `None` if it is allowed now, as it is for
/// a changed spec.
pub(super) fn retry_at(observed: &Observed<'_>, good: Option<&TokenRecord>) -> Option<Timestamp> {
    let status = observed.token.status.as_ref()?;
    let failure = status.last_failure.as_ref()?;
    if observed.is_new_user_token {
        return None;
    }
    if status.observed_generation != observed.token.metadata.generation {
        return None;
    }
    // A failure that only a person can fix is retried slowly.
    let is_stalling = failure.reason().is_stalling();
    let left = good.map(|record| record.expires_at.duration_since(failure.time.0));
    let left = left.or_else(|| is_stalling.then_some(SignedDuration::from_hours(24)));
    let seed = observed.token.metadata.uid.as_deref().unwrap_or_default();
    let wait = renewal::backoff(status.failed_attempts.unwrap_or(1), left, seed);
    renewal::pause(failure.time.0, wait, observed.now)
}

/// Returns the second after `time`, because the clock of ACS has whole seconds.
pub(super) fn after(time: Timestamp) -> Timestamp {
    renewal::add(time, SignedDuration::from_secs(1))
}

/// Converts a time of the clock of ACS to the operator's clock.
pub(super) fn local_time(observed: &Observed<'_>, service: Timestamp) -> Timestamp {
    let service_now = observed.service_now.unwrap_or(observed.now);
    renewal::add(observed.now, service.duration_since(service_now))
}

/// Returns until when a revocation that got no answer may still revoke the token (R3), by the clock
/// of ACS.
fn unsettled_until(identity: &UsableIdentity, record: &TokenRecord) -> Option<Timestamp> {
    let until = identity.unsettled_until;
    until.filter(|until| record.issued_at <= *until).map(after)
}

/// Returns the time of [`unsettled_until`] by the operator's clock.
pub(super) fn settles_at(
    observed: &Observed<'_>,
    identity: &UsableIdentity,
    record: &TokenRecord,
) -> Option<Timestamp> {
    unsettled_until(identity, record).map(|until| local_time(observed, until))
}

/// Whether the time of [`unsettled_until`] has passed, so that it is unknown whether the token is
/// still valid.
pub(super) fn is_unsettled(
    observed: &Observed<'_>,
    identity: &UsableIdentity,
    record: &TokenRecord,
) -> bool {
    let now = observed.service_now;
    unsettled_until(identity, record).is_some_and(|until| now.is_none_or(|now| now >= until))
}

pub(super) fn created_at(token: &AcsToken) -> Timestamp {
    token
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}
