//! Rules for the token of a Teams user: it is exchanged for an Entra token that others keep fresh,
//! and it cannot be revoked.

use jiff::{SignedDuration, Timestamp};

use super::{
    Decision, Observed, Step, UsableIdentity,
    issue::{local_time, unable},
};
use crate::{
    cache::UserTokenView,
    crd::{POLICY_GRACE, Reason, TokenParameters, TokenRecord},
    engine::Why,
    renewal,
};

/// Difference up to which the expiry times of an Entra token and of the token exchanged for it
/// count as equal: another exchange would gain nothing.
const SAME_END: SignedDuration = SignedDuration::from_mins(1);

/// An Entra token with less time left than this counts as expired, because the clock of ACS is
/// known only to the second.
const LEAST_LEFT: SignedDuration = SignedDuration::from_secs(2);

/// Whether a token of a Teams user was exchanged for another Entra token than the current one.
pub(super) fn is_outdated(observed: &Observed<'_>, record: &TokenRecord) -> bool {
    match &observed.user_token {
        Some(UserTokenView::There(seen)) => record
            .exchange
            .as_ref()
            .is_none_or(|exchange| exchange.user_token != seen.fingerprint),
        Some(UserTokenView::Wrong(_)) => true,
        Some(UserTokenView::Missing { .. } | UserTokenView::Unknown) | None => false,
    }
}

/// Returns the decision if a token of a Teams user is wanted and cannot be issued. The problem is
/// reported at once, with an Event, unless the Entra token is only not there yet.
pub(super) fn obstacle(
    observed: &Observed<'_>,
    good: Option<&TokenRecord>,
    why: Why,
) -> Option<Decision> {
    let Fault {
        reason,
        message,
        is_stalled,
    } = fault(observed, good, why)?;
    if !is_reported(observed, reason, &message) && (is_stalled || good.is_some()) {
        return Some(Decision::step(Step::Fail { reason, message }));
    }
    Some(unable(observed, good, reason, message, is_stalled, None))
}

/// Whether the status already has exactly this last failure.
fn is_reported(observed: &Observed<'_>, reason: Reason, message: &str) -> bool {
    let status = observed.token.status.as_ref();
    let reported = status.and_then(|status| status.last_failure.as_ref());
    reported.is_some_and(|reported| reported.reason() == reason && reported.message == message)
}

struct Fault {
    reason: Reason,
    message: String,
    is_stalled: bool,
}

fn fault(observed: &Observed<'_>, good: Option<&TokenRecord>, why: Why) -> Option<Fault> {
    let seen = match observed.user_token.as_ref()? {
        UserTokenView::Unknown => return None,
        UserTokenView::Missing { reason, message } => {
            return Some(Fault {
                reason: *reason,
                message: message.clone(),
                is_stalled: false,
            });
        }
        UserTokenView::Wrong(message) => {
            return Some(Fault {
                reason: Reason::InvalidUserToken,
                message: message.clone(),
                is_stalled: true,
            });
        }
        UserTokenView::There(seen) => seen,
    };
    let place = observed.token.spec.teams_user.as_ref().map(|user| {
        format!(
            "the Entra token in key {} of Secret {}",
            user.secret_ref.key, user.secret_ref.name
        )
    })?;
    let end = local_time(observed, seen.expires_on);
    let expired = Fault {
        reason: Reason::UserTokenExpired,
        message: format!(
            "{place} expired at {}; sign the Teams user in again and store the new token there",
            seen.expires_on
        ),
        is_stalled: true,
    };
    // The operator's clock may be wrong. Unless the expiry is recorded already, ACS decides.
    let is_over = match observed.service_now {
        Some(_) => end <= renewal::add(observed.now, LEAST_LEFT),
        None => is_reported(observed, expired.reason, &expired.message),
    };
    if is_over {
        return Some(expired);
    }
    // Uses the times recorded at the exchange: after a restart the clock of ACS may be unknown.
    let is_in_vain = |record: &TokenRecord| {
        let exchange = record.exchange.as_ref();
        let same_end = renewal::add(record.expires_at, SAME_END);
        !is_outdated(observed, record)
            && exchange.is_some_and(|exchange| exchange.user_token_expires_at <= same_end)
    };
    (why == Why::Renewal && good.is_some_and(is_in_vain)).then(|| Fault {
        reason: Reason::UserTokenNotRefreshed,
        message: format!(
            "{place} has not been replaced and expires at {}, and this token expires with it; \
             store a new token there",
            seen.expires_on
        ),
        is_stalled: false,
    })
}

/// Whether the policy requires the Secret of a Teams user's token to be deleted before the token
/// expires: at once if the spec of the object breaks a rule, after a grace period if its namespace
/// is no longer allowed.
pub(super) fn has_to_go(observed: &Observed<'_>, identity: &UsableIdentity) -> bool {
    if observed.user_token.is_none() {
        return false;
    }
    let wanted = TokenParameters::wanted(observed.token, &observed.limits);
    observed.limits.denial(&wanted).is_some()
        || grace(observed, identity).is_some_and(|end| end <= observed.now)
}

/// Returns the end of the grace period in which a Teams user's token that the policy no longer
/// allows keeps its Secret.
pub(super) fn grace(observed: &Observed<'_>, identity: &UsableIdentity) -> Option<Timestamp> {
    observed.user_token.as_ref()?;
    identity.denial.as_ref()?;
    let status = observed.token.status.as_ref();
    let since = status.and_then(|status| Some(status.denied_since.as_ref()?.0));
    let since = since.map(|since| since.min(observed.now));
    Some(renewal::add(since.unwrap_or(observed.now), POLICY_GRACE))
}
