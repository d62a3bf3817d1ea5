//! Tokens that may not be issued: suspended, or denied by the policy.

use super::{
    Decision, Observed, SecretView, Step, UsableIdentity,
    exchange::{grace, has_to_go},
    is_dead,
    issue::settles_at,
};
use crate::crd::{AcsToken, TokenParameters, TokenRecord, Verdict};

/// Returns the message that says what suspends the token, if it is suspended. No token is issued
/// then, and the Secret is deleted when its token expires.
pub(super) fn suspension(token: &AcsToken, identity: &UsableIdentity) -> Option<String> {
    let until = "no token is issued until it is false";
    if token.spec.suspend == Some(true) {
        Some(format!("spec.suspend is true: {until}"))
    } else if identity.is_suspended {
        let name = token.identity_name().unwrap_or_default();
        Some(format!(
            "spec.suspend of AcsIdentity {name} is true: {until}"
        ))
    } else {
        None
    }
}

/// Returns why the policy forbids the token, if it does.
pub(super) fn denial(observed: &Observed<'_>, identity: &UsableIdentity) -> Option<String> {
    let wanted = TokenParameters::wanted(observed.token, &observed.limits);
    let denial = observed.limits.denial(&wanted);
    identity.denial.clone().or(denial)
}

/// Returns the decision for a token that may not be issued. The Secret stays until its token
/// expires.
pub(super) fn withheld(
    observed: &Observed<'_>,
    identity: &UsableIdentity,
    record: Option<&TokenRecord>,
    good: Option<&TokenRecord>,
    verdict: Verdict,
) -> Decision {
    let is_over = record.map_or_else(|| is_over(observed, identity), |_| good.is_none());
    let is_there = matches!(observed.secret, SecretView::Ours { .. });
    let over = (is_there && is_over).then(|| observed.token.secret_name());
    // A token that had to be copied has been copied already.
    let former = || observed.former.as_ref().map(|former| former.name.clone());
    if let Some(name) = over.or_else(former) {
        return Decision::step(Step::DeleteSecret {
            name,
            only_without_identity: false,
        });
    }
    // The annotations of an edited Secret cannot be trusted, so the status decides.
    let status = observed.token.status.as_ref();
    let reported = status.and_then(|status| Some(status.expires_at.as_ref()?.0));
    let end = good.map(|record| record.expires_at).or(reported);
    let grace = grace(observed, identity);
    let unsettled = good.and_then(|record| settles_at(observed, identity, record));
    let unsettled = unsettled.filter(|until| *until > observed.now);
    let requeue_at = end.into_iter().chain(grace).chain(unsettled);
    let requeue_at = requeue_at.min().filter(|_| !is_over);
    Decision {
        forgets: is_over,
        is_denied: grace.is_some(),
        ..Decision::rest(verdict, good, requeue_at)
    }
}

/// Whether the token in the status no longer works, so that nothing is left to revoke.
fn is_over(observed: &Observed<'_>, identity: &UsableIdentity) -> bool {
    let status = observed.token.status.as_ref();
    has_to_go(observed, identity)
        || status.is_some_and(|status| {
            let has_ended = status
                .expires_at
                .as_ref()
                .is_some_and(|end| end.0 <= observed.now);
            let issued_at = status.issued_at.as_ref();
            has_ended || issued_at.is_some_and(|issued| is_dead(issued.0, identity))
        })
}
