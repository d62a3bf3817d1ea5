//! Retry policy of a call. Pure: has no clock.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use jiff::SignedDuration;

use super::super::{Kind, Outcome};

/// Maximum number of retries of one call; the callers retry on their own schedule.
const MOST_RETRIES: usize = 3;

/// Properties of a failed attempt that affect the retry.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Failed {
    pub kind: Kind,
    pub status: Option<u16>,
    pub outcome: Outcome,
    /// Whether no answer came, so that ACS may still execute the attempt.
    pub lost: bool,
    pub retry_after: Option<SignedDuration>,
    /// Whether the clock of ACS shows that the signature had a wrong time.
    pub was_far_off: bool,
    /// Duration of the attempt.
    pub duration: Duration,
}

/// State of a call over all its attempts.
#[derive(Debug)]
pub(in super::super) struct RetryState {
    left: Duration,
    least: Duration,
    is_repeatable: bool,
    delays: ExponentialBackoff,
    clock_corrected: bool,
    outcome: Outcome,
    lost: bool,
}

impl RetryState {
    /// Creates the state of a call that may take `total` and is not retried with less than `least`
    /// left, which would not suffice to connect.
    pub(in super::super) fn new(
        total: Duration,
        least: Duration,
        first_delay: Duration,
        is_repeatable: bool,
    ) -> Self {
        let delays = ExponentialBuilder::new()
            .with_min_delay(first_delay)
            .with_max_times(MOST_RETRIES)
            .with_jitter()
            .build();
        Self {
            left: total,
            least,
            is_repeatable,
            delays,
            clock_corrected: false,
            outcome: Outcome::NotDone,
            lost: false,
        }
    }

    /// Returns the maximum duration of the next attempt.
    pub(in super::super) fn left(&self) -> Duration {
        self.left
    }

    /// Returns the possible effect of all failed attempts together.
    pub(in super::super) fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Whether the answer to any attempt was lost.
    pub(in super::super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Returns the wait before another attempt; `None` to give up.
    pub(in super::super) fn another(&mut self, failed: Failed) -> Option<Duration> {
        self.left = self.left.saturating_sub(failed.duration);
        self.outcome = self.outcome.max(failed.outcome);
        self.lost |= failed.lost;
        let wait = self.wait(failed)?;
        self.left = self.left.checked_sub(wait)?;
        (self.left >= self.least).then_some(wait)
    }

    fn wait(&mut self, failed: Failed) -> Option<Duration> {
        if failed.kind == Kind::CredentialRefused && failed.was_far_off && !self.clock_corrected {
            self.clock_corrected = true;
            return Some(Duration::ZERO);
        }
        let is_passing = match failed.kind {
            Kind::Unreachable | Kind::Throttled => true,
            Kind::NoAnswer => self.is_repeatable,
            Kind::Unavailable => {
                self.is_repeatable && matches!(failed.status, Some(408 | 500 | 502 | 503 | 504))
            }
            _ => false,
        };
        if !is_passing {
            return None;
        }
        let asked = failed
            .retry_after
            .map_or(Duration::ZERO, SignedDuration::unsigned_abs);
        Some(self.delays.next()?.max(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn retry_state(is_repeatable: bool) -> RetryState {
        RetryState::new(
            seconds(30),
            seconds(10),
            Duration::from_millis(500),
            is_repeatable,
        )
    }

    fn failed(kind: Kind, status: Option<u16>, outcome: Outcome) -> Failed {
        let duration = Duration::ZERO;
        let lost = kind == Kind::NoAnswer;
        Failed {
            kind,
            status,
            outcome,
            lost,
            retry_after: None,
            was_far_off: false,
            duration,
        }
    }

    #[test]
    fn what_passes_is_tried_again() {
        for (kind, status, outcome, repeatable, create) in [
            (Kind::Unreachable, None, Outcome::NotDone, true, true),
            (Kind::Throttled, Some(429), Outcome::NotDone, true, true),
            (Kind::NoAnswer, None, Outcome::Unknown, true, false),
            (Kind::Unavailable, Some(408), Outcome::Unknown, true, false),
            (Kind::Unavailable, Some(500), Outcome::Unknown, true, false),
            (Kind::Unavailable, Some(501), Outcome::Unknown, false, false),
            (Kind::Unavailable, Some(502), Outcome::Unknown, true, false),
            (Kind::Unavailable, Some(503), Outcome::Unknown, true, false),
            (Kind::Unavailable, Some(504), Outcome::Unknown, true, false),
            (Kind::Unavailable, Some(505), Outcome::Unknown, false, false),
            (
                Kind::CredentialRefused,
                Some(401),
                Outcome::NotDone,
                false,
                false,
            ),
            (
                Kind::IdentityNotOwned,
                Some(401),
                Outcome::NotDone,
                false,
                false,
            ),
            (
                Kind::IdentityNotFound,
                Some(404),
                Outcome::NotDone,
                false,
                false,
            ),
            (
                Kind::InvalidUserToken,
                Some(401),
                Outcome::NotDone,
                false,
                false,
            ),
            (Kind::Invalid, Some(400), Outcome::NotDone, false, false),
            (Kind::Unsupported, None, Outcome::NotDone, false, false),
            (
                Kind::NotTheService,
                Some(200),
                Outcome::Unknown,
                false,
                false,
            ),
            (Kind::Withheld, None, Outcome::NotDone, false, false),
        ] {
            let failed = failed(kind, status, outcome);
            assert_eq!(
                retry_state(true).another(failed).is_some(),
                repeatable,
                "{kind:?} {status:?}"
            );
            assert_eq!(
                retry_state(false).another(failed).is_some(),
                create,
                "create, {kind:?} {status:?}"
            );
        }
    }

    #[test]
    fn waits_grow_and_end() {
        let mut retry_state = retry_state(true);
        let failed = failed(Kind::Unavailable, Some(500), Outcome::Unknown);
        for least in [500, 1000, 2000] {
            let least = Duration::from_millis(least);
            let wait = retry_state.another(failed).expect("another attempt");
            assert!(wait >= least && wait <= 2 * least, "{wait:?}");
        }
        assert_eq!(retry_state.another(failed), None);
    }

    #[test]
    fn the_service_says_how_long_to_wait_as_far_as_time_allows() {
        let throttled = |secs| Failed {
            retry_after: Some(SignedDuration::from_secs(secs)),
            ..failed(Kind::Throttled, Some(429), Outcome::NotDone)
        };
        assert_eq!(retry_state(true).another(throttled(20)), Some(seconds(20)));
        assert_eq!(
            retry_state(true).another(throttled(21)),
            None,
            "too little would be left"
        );
        assert_eq!(retry_state(true).another(throttled(86_400)), None);
        let mut retry_state = retry_state(true);
        let slow = Failed {
            duration: seconds(15),
            ..throttled(6)
        };
        assert_eq!(retry_state.another(slow), None);
    }

    #[test]
    fn a_clock_is_corrected_once_and_at_once() {
        let refused = Failed {
            was_far_off: true,
            ..failed(Kind::CredentialRefused, Some(401), Outcome::NotDone)
        };
        for is_repeatable in [true, false] {
            let mut retry_state = retry_state(is_repeatable);
            assert_eq!(retry_state.another(refused), Some(Duration::ZERO));
            assert_eq!(retry_state.another(refused), None);
        }
        let not_owned = Failed {
            kind: Kind::IdentityNotOwned,
            ..refused
        };
        assert_eq!(retry_state(true).another(not_owned), None);
    }

    #[test]
    fn what_any_attempt_may_have_done_is_remembered() {
        let mut retry_state = retry_state(true);
        retry_state.another(failed(Kind::NoAnswer, None, Outcome::Unknown));
        retry_state.another(failed(Kind::Throttled, Some(429), Outcome::NotDone));
        assert_eq!(
            (retry_state.outcome(), retry_state.is_lost()),
            (Outcome::Unknown, true)
        );
    }
}
