//! Calculation of times: due times, margins, the spread of renewals and the backoff of retries
//! (T2). Pure.

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

/// Minimum time between a renewal and the expiry, if the lifetime allows it: client SDKs begin
/// their own refresh 10 minutes before expiry, and a mounted Secret lags by a minute or two.
const LEAST_MARGIN: SignedDuration = SignedDuration::from_mins(12);
/// Minimum time to try a deletion that is found late, after a restart.
const LEAST_CLEANUP: SignedDuration = SignedDuration::from_mins(1);
/// Spread of renewals: they come up to 1/n of the time to renewal earlier, never later.
const SPREAD: i32 = 20;

/// Returns how long before its expiry a token of this `life` is renewed: `renew_before`, or else a
/// third of the lifetime; at least the lesser of 12 minutes and half the lifetime; at most two
/// thirds of it.
#[must_use]
pub fn margin(life: SignedDuration, renew_before: Option<SignedDuration>) -> SignedDuration {
    renew_before
        .unwrap_or(life / 3)
        .max(LEAST_MARGIN.min(life / 2))
        .min(longest_margin(life))
}

/// Whether `renew_before` is longer than the maximum for a token of this `life`.
#[must_use]
pub fn is_capped(life: SignedDuration, renew_before: Option<SignedDuration>) -> bool {
    renew_before.is_some_and(|wanted| wanted > longest_margin(life))
}

fn longest_margin(life: SignedDuration) -> SignedDuration {
    life / 3 * 2
}

/// Minimum time between the issue and the renewal of a token. If ACS issued tokens for a second,
/// each would otherwise be renewed at once, again and again (K5).
const SHORTEST: SignedDuration = SignedDuration::from_secs(1);

/// Returns when a token that expires at `expires_at`, after a lifetime of `life`, is due for
/// renewal.
///
/// The spread depends on `seed` (the object's UID) alone, so that it is the same after a restart.
/// It only makes renewals earlier.
#[must_use]
pub fn renew_at(
    expires_at: Timestamp,
    life: SignedDuration,
    renew_before: Option<SignedDuration>,
    seed: &str,
) -> Timestamp {
    let margin = margin(life, renew_before);
    let room = (longest_margin(life) - margin).min((life - margin) / SPREAD);
    let early = fraction(seed, room);
    let latest = (life - SHORTEST).max(SignedDuration::ZERO);
    add(expires_at, -(margin + early).min(latest))
}

/// Returns the wait after the `attempts`-th failure in a row (1 is the first): doubling from 1 s to
/// 5 min, up to a quarter less depending on `seed`, never more than a quarter of what is `left` of
/// the lifetime.
#[must_use]
pub fn backoff(attempts: i32, left: Option<SignedDuration>, seed: &str) -> SignedDuration {
    let doublings = u32::try_from(attempts.saturating_sub(1))
        .unwrap_or(0)
        .min(9);
    let full = SignedDuration::from_secs(1_i64 << doublings).min(SignedDuration::from_mins(5));
    let jittered = full - fraction(&format!("{seed}/{attempts}"), full / 4);
    match left {
        Some(left) if left.is_positive() => {
            jittered.min((left / 4).max(SignedDuration::from_secs(1)))
        }
        _ => jittered.min(SignedDuration::from_mins(1)),
    }
}

/// Returns when a pause of `span` that began at `since` ends. Returns `None` if it has ended, or if
/// by the clock it has not begun yet: a clock that was set back must not lengthen it (C3).
#[must_use]
pub fn pause(since: Timestamp, span: SignedDuration, now: Timestamp) -> Option<Timestamp> {
    let end = add(since, span);
    (since <= now && now < end).then_some(end)
}

/// Returns when a deletion proceeds without ACS (I3): `span` after it was requested at
/// `deleted_at`.
///
/// `deleted_at` is of the API server's clock, which may differ from the local one by hours. The
/// wait is therefore at most `span` from `seen_at`, when this process saw the deletion by the local
/// clock, and never so short that nothing is tried.
#[must_use]
pub fn deletion_deadline(
    deleted_at: Timestamp,
    seen_at: Timestamp,
    span: SignedDuration,
) -> Timestamp {
    let earliest = add(seen_at, LEAST_CLEANUP.min(span));
    add(deleted_at, span).clamp(earliest, add(seen_at, span))
}

/// Returns `when + span`, or the last possible time if that overflows.
#[must_use]
pub fn add(when: Timestamp, span: SignedDuration) -> Timestamp {
    let end = if span.is_negative() {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    when.checked_add(span).unwrap_or(end)
}

/// Returns `when` in whole seconds, as Kubernetes stores it.
#[must_use]
pub fn whole_seconds(when: Timestamp) -> Timestamp {
    Timestamp::from_second(when.as_second()).unwrap_or(when)
}

/// Returns a part of `whole` between nothing and all of it, the same for the same seed.
fn fraction(seed: &str, whole: SignedDuration) -> SignedDuration {
    let digest = Sha256::digest(seed);
    let share = digest
        .iter()
        .take(4)
        .fold(0_u32, |share, byte| share << 8 | u32::from(*byte))
        % 1000;
    let share = i32::try_from(share).unwrap_or(0);
    if whole.is_positive() {
        whole / 1000 * share
    } else {
        SignedDuration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn hours(n: i64) -> SignedDuration {
        SignedDuration::from_hours(n)
    }

    #[test]
    fn the_margin_is_a_third_of_the_life_by_default() {
        assert_eq!(margin(hours(24), None), hours(8));
    }

    #[test]
    fn no_token_is_renewed_within_a_second_of_its_issue() {
        let end: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (life, before_its_end) in [(0, 0), (1, 0), (2, 1)] {
            let life = SignedDuration::from_secs(life);
            let due = renew_at(end, life, Some(hours(1)), "uid");
            let before_its_end = SignedDuration::from_secs(before_its_end);
            assert_eq!(end.duration_since(due), before_its_end, "{life}");
        }
    }

    #[test]
    fn the_margin_is_raised_to_twelve_minutes_or_half_the_life() {
        let minute = SignedDuration::from_mins(1);
        assert_eq!(
            margin(hours(1), Some(minute)),
            SignedDuration::from_mins(12)
        );
        let short = SignedDuration::from_secs(60);
        assert_eq!(margin(short, Some(minute)), SignedDuration::from_secs(40));
        assert_eq!(margin(short, None), SignedDuration::from_secs(30));
    }

    #[test]
    fn the_margin_is_capped_at_two_thirds_of_the_life_that_the_service_gave() {
        assert_eq!(margin(hours(3), Some(hours(23))), hours(2));
        assert!(is_capped(hours(3), Some(hours(23))));
        assert!(!is_capped(hours(3), Some(hours(2))));
        assert!(!is_capped(hours(3), None));
    }

    #[test]
    fn the_spread_is_early_only_and_the_same_after_a_restart() {
        let end = Timestamp::from_second(1_800_000_000).unwrap();
        let latest = end - margin(hours(24), None);
        for uid in 0..200 {
            let due = renew_at(end, hours(24), None, &uid.to_string());
            assert!(due <= latest && due > latest - hours(1), "{due}");
            assert_eq!(due, renew_at(end, hours(24), None, &uid.to_string()));
        }
    }

    #[test]
    fn the_spread_never_exceeds_two_thirds_of_the_life() {
        let end = Timestamp::from_second(1_800_000_000).unwrap();
        for uid in 0..200 {
            let due = renew_at(end, hours(3), Some(hours(2)), &uid.to_string());
            assert_eq!(due, end - hours(2));
        }
    }

    #[test]
    fn a_pause_ends_even_if_the_clock_is_set_back() {
        let since = Timestamp::from_second(1_800_000_000).unwrap();
        let minute = SignedDuration::from_mins(1);
        assert_eq!(pause(since, minute, since), Some(since + minute));
        assert_eq!(pause(since, minute, since + minute), None);
        assert_eq!(pause(since, minute, since - hours(1)), None);
    }

    #[test]
    fn a_deletion_ends_in_time_whatever_the_local_clock_says() {
        let deleted = Timestamp::from_second(1_800_000_000).unwrap();
        let (minute, span) = (SignedDuration::from_mins(1), SignedDuration::from_mins(10));
        let after_restart = deleted + minute * 4;
        assert_eq!(
            deletion_deadline(deleted, after_restart, span),
            deleted + span
        );
        for (off, expected) in [(-hours(1), span), (hours(1), minute)] {
            let seen = deleted + off;
            assert_eq!(deletion_deadline(deleted, seen, span), seen + expected);
        }
        let short = SignedDuration::from_secs(5);
        assert_eq!(
            deletion_deadline(deleted, deleted + hours(1), short),
            deleted + hours(1) + short
        );
    }

    #[test]
    fn retries_back_off_but_never_past_a_quarter_of_the_life_that_is_left() {
        let mut former = SignedDuration::ZERO;
        for attempts in 1..12 {
            let wait = backoff(attempts, Some(hours(20)), "uid");
            assert!(wait >= former * 3 / 4, "{wait:?} after {former:?}");
            assert!(wait <= SignedDuration::from_mins(5));
            former = wait;
        }
        assert_eq!(
            backoff(12, Some(SignedDuration::from_secs(40)), "uid"),
            SignedDuration::from_secs(10)
        );
        assert!(backoff(50, None, "uid") <= SignedDuration::from_mins(1));
    }
}
