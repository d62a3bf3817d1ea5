//! Tokens of credentials that a connection no longer uses (C1). Pure: no I/O, no clock.

use std::borrow::Borrow;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    crd::{AcsTokenStatus, FormerTokens, Reason},
    renewal,
};

/// Whether keys that a connection no longer uses can be regenerated without harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regeneration {
    /// Whether a regeneration invalidates no token that is in use.
    pub is_safe: bool,
    /// Reason, in CamelCase.
    pub reason: Reason,
    /// Message that says why, and what to wait for.
    pub message: String,
    /// Time at which the answer changes, if only time has to pass.
    pub changes_at: Option<Timestamp>,
}

/// Counts the tokens of former credentials of a connection. A former credential is any other than
/// the one that ACS `accepted` last.
///
/// The count comes from the statuses of the tokens, so that it is the same after a restart; the
/// earlier count `reported` contributes the times of tokens with deleted objects. The expiry of
/// tokens of the credentials `dead`, which ACS rejects, is ignored, because these tokens no longer
/// work.
pub fn count(
    tokens: impl IntoIterator<Item = impl Borrow<AcsTokenStatus>>,
    accepted: &str,
    dead: &[String],
    reported: Option<&FormerTokens>,
) -> Option<FormerTokens> {
    let mut former = FormerTokens {
        left: 0,
        ..reported.cloned().unwrap_or_default()
    };
    let latest = |known: &mut Option<Time>, time: &Time| {
        if known.as_ref().is_none_or(|known| known.0 < time.0) {
            *known = Some(time.clone());
        }
    };
    for token in tokens {
        let token = token.borrow();
        if let Some(replaced) = &token.former_token {
            latest(&mut former.expire_at, &replaced.expires_at);
            latest(&mut former.last_rewrite, &replaced.replaced_at);
        }
        let Some(credential) = token.credential.as_deref().filter(|made| *made != accepted) else {
            continue;
        };
        former.left = former.left.saturating_add(1);
        if let Some(expires_at) = token
            .expires_at
            .as_ref()
            .filter(|_| !dead.iter().any(|dead| dead == credential))
        {
            latest(&mut former.expire_at, expires_at);
        }
    }
    (reported.is_some() || former != FormerTokens::default()).then_some(former)
}

/// Returns whether former keys can be regenerated at `now`. `settling` is the maximum time that
/// pods need to read a rewritten Secret.
#[must_use]
pub fn regeneration(
    former: Option<&FormerTokens>,
    is_accepted: bool,
    settling: SignedDuration,
    now: Timestamp,
) -> Regeneration {
    let not_yet = |reason, message, changes_at| Regeneration {
        is_safe: false,
        reason,
        message,
        changes_at,
    };
    if !is_accepted {
        let message = "ACS has not accepted the current credential yet; do not regenerate a key \
         of the ACS resource until it has";
        return not_yet(Reason::CredentialNotAccepted, message.to_owned(), None);
    }
    let expire_at = former
        .and_then(|former| former.expire_at.as_ref())
        .map(|time| time.0)
        .filter(|expire_at| *expire_at > now);
    let (Some(former), Some(expire_at)) = (former, expire_at) else {
        return Regeneration {
            is_safe: true,
            reason: Reason::NoFormerTokens,
            message: "no token of a former credential is valid any more; keys that are not in use \
             can be regenerated"
                .to_owned(),
            changes_at: None,
        };
    };
    if former.left > 0 {
        let message = format!(
            "AcsTokens whose Secrets still hold a token of a former credential: {}; regenerating \
             its key would invalidate them. The operator is replacing them",
            former.left
        );
        return not_yet(Reason::FormerTokensLeft, message, Some(expire_at));
    }
    let settled_at = former
        .last_rewrite
        .as_ref()
        .map(|last| renewal::add(last.0, settling))
        .filter(|settled_at| *settled_at > now);
    if let Some(settled_at) = settled_at {
        let message = format!(
            "no Secret holds a token of a former credential any more; pods have time until \
             {settled_at} to read their Secrets again"
        );
        return not_yet(
            Reason::SecretsJustRewritten,
            message,
            Some(settled_at.min(expire_at)),
        );
    }
    let message = format!(
        "pods have had time to read Secrets without tokens of a former credential, so its key can \
         be regenerated. In pods that do not read their Secrets again, such tokens are valid \
         until {expire_at}"
    );
    not_yet(Reason::SecretsRenewed, message, Some(expire_at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::FormerToken;

    const SETTLING: SignedDuration = SignedDuration::from_mins(5);

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minute * 60).unwrap()
    }

    fn time(minute: i64) -> Time {
        Time(at(minute))
    }

    /// Returns a token of `credential` that expires at `end`; `former` has the expiry of the token
    /// it replaced and the time of the replacement.
    fn token(credential: &str, end: i64, former: Option<(i64, i64)>) -> AcsTokenStatus {
        AcsTokenStatus {
            credential: Some(credential.to_owned()),
            expires_at: Some(time(end)),
            former_token: former.map(|(expires_at, replaced_at)| FormerToken {
                expires_at: time(expires_at),
                replaced_at: time(replaced_at),
            }),
            ..AcsTokenStatus::default()
        }
    }

    fn former(left: i64, last_rewrite: Option<i64>, expire_at: Option<i64>) -> FormerTokens {
        FormerTokens {
            left,
            last_rewrite: last_rewrite.map(time),
            expire_at: expire_at.map(time),
        }
    }

    #[test]
    fn without_a_change_there_is_nothing_to_tell() {
        let tokens = [token("new", 60, None), AcsTokenStatus::default()];
        assert_eq!(count(&tokens, "new", &[], None), None);
    }

    #[test]
    fn tokens_that_are_left_and_tokens_that_were_replaced_count_to_the_end() {
        let tokens = [
            token("new", 600, Some((90, 5))),
            token("new", 600, Some((70, 7))),
            token("old", 80, None),
            token("older", 85, None),
        ];
        let counted = count(&tokens, "new", &[], None);
        assert_eq!(counted, Some(former(2, Some(7), Some(90))));
    }

    #[test]
    fn what_was_told_stays_where_the_object_is_gone() {
        let reported = former(3, Some(7), Some(90));
        let tokens = [token("old", 80, None)];
        let counted = count(&tokens, "new", &[], Some(&reported));
        assert_eq!(counted, Some(former(1, Some(7), Some(90))));
        let counted = count(&[], "new", &[], Some(&reported));
        assert_eq!(counted, Some(former(0, Some(7), Some(90))));
    }

    #[test]
    fn dead_tokens_are_left_but_their_end_is_no_matter() {
        let tokens = [token("dead", 80, None), token("old", 70, None)];
        let counted = count(&tokens, "new", &["dead".to_owned()], None);
        assert_eq!(counted, Some(former(2, None, Some(70))));
    }

    #[test]
    fn it_is_safe_when_the_last_former_token_has_ended_and_may_be_earlier() {
        let says = |former: Option<&FormerTokens>, is_accepted, now| {
            let said = regeneration(former, is_accepted, SETTLING, at(now));
            (said.is_safe, said.reason, said.changes_at)
        };
        let left = former(2, Some(7), Some(90));
        let rewritten = former(0, Some(10), Some(90));
        for (former, is_accepted, now, expected) in [
            (None, true, 0, (true, Reason::NoFormerTokens, None)),
            (None, false, 0, (false, Reason::CredentialNotAccepted, None)),
            (
                Some(&rewritten),
                false,
                95,
                (false, Reason::CredentialNotAccepted, None),
            ),
            (
                Some(&left),
                true,
                20,
                (false, Reason::FormerTokensLeft, Some(at(90))),
            ),
            (Some(&left), true, 90, (true, Reason::NoFormerTokens, None)),
            (
                Some(&rewritten),
                true,
                14,
                (false, Reason::SecretsJustRewritten, Some(at(15))),
            ),
            (
                Some(&rewritten),
                true,
                15,
                (false, Reason::SecretsRenewed, Some(at(90))),
            ),
            (
                Some(&rewritten),
                true,
                89,
                (false, Reason::SecretsRenewed, Some(at(90))),
            ),
            (
                Some(&rewritten),
                true,
                90,
                (true, Reason::NoFormerTokens, None),
            ),
        ] {
            assert_eq!(says(former, is_accepted, now), expected, "{former:?} {now}");
        }
    }

    #[test]
    fn the_sentence_tells_how_many_are_left() {
        let left = former(12, None, Some(90));
        let said = regeneration(Some(&left), true, SETTLING, at(0));
        assert!(
            said.message.contains("a token of a former credential: 12;"),
            "{}",
            said.message
        );
    }
}
