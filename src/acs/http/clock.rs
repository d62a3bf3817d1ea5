//! Clock of an endpoint, derived from the `Date` of its answers.

use std::time::{Instant, SystemTime};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

/// Minimum clock difference for which a rejected signature is attributed to a wrong clock.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(60);

/// State of one endpoint's clock.
#[derive(Debug, Default)]
pub(in super::super) struct Clock {
    last: Mutex<Option<Seen>>,
}

/// `Date` of an answer, and the time at which it arrived.
#[derive(Clone, Copy, Debug)]
struct Seen {
    date: Timestamp,
    local: Timestamp,
    at: Instant,
}

impl Clock {
    /// Returns the endpoint's clock minus the local clock.
    pub(in super::super) fn offset(&self) -> Option<SignedDuration> {
        self.last().map(|seen| seen.date.duration_since(seen.local))
    }

    /// Returns the endpoint's current time, or up to a second earlier. Measured from its last
    /// answer with the monotonic clock, so that setting the local clock makes no difference.
    pub(in super::super) fn now(&self) -> Option<Timestamp> {
        let seen = self.last()?;
        seen.date.checked_add(seen.at.elapsed()).ok()
    }

    /// Converts a local time to the endpoint's time.
    pub(super) fn at(&self, local: Timestamp) -> Timestamp {
        // A sum beyond the year 9999 returns the local time, which then is as wrong as any.
        local
            .checked_add(self.offset().unwrap_or_default())
            .unwrap_or(local)
    }

    /// Records an answer with this `Date` that arrived at a local time.
    pub(super) fn learn(&self, date: Timestamp, local: Timestamp) {
        let seen = Seen {
            date,
            local,
            at: Instant::now(),
        };
        *self.last.lock() = Some(seen);
    }

    fn last(&self) -> Option<Seen> {
        *self.last.lock()
    }
}

/// Whether a request signed at `signed` may have been rejected for its time by an answer dated
/// `date`.
pub(super) fn is_far_off(signed: Timestamp, date: Timestamp) -> bool {
    date.duration_since(signed).abs() > TOLERANCE
}

/// Parses a date in any of the three forms that HTTP headers use.
pub(in super::super) fn http_date(text: &str) -> Option<Timestamp> {
    httpdate::parse_http_date(text)
        .ok()
        .and_then(|time: SystemTime| Timestamp::try_from(time).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_of_the_last_answer_counts() {
        let clock = Clock::default();
        let local: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!((clock.offset(), clock.at(local)), (None, local));
        let date = http_date("Thu, 01 Jan 2026 05:00:00 GMT").unwrap();
        clock.learn(date, local);
        assert_eq!(
            (clock.offset(), clock.at(local)),
            (Some(SignedDuration::from_hours(5)), date)
        );
        clock.learn(local, local);
        assert_eq!(clock.at(local), local);
    }

    #[test]
    fn a_local_clock_that_is_set_does_not_move_the_endpoints() {
        let clock = Clock::default();
        assert_eq!(clock.now(), None);
        let date = http_date("Thu, 01 Jan 2026 05:00:00 GMT").unwrap();
        // Measured with the local clock, this would result in a different year.
        clock.learn(date, "2020-01-01T00:00:00Z".parse().unwrap());
        let now = clock.now().unwrap();
        assert!(now >= date && now < date + SignedDuration::from_mins(10));
    }

    #[test]
    fn a_minute_is_not_far_off() {
        let signed: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (seconds, expected) in [
            (0, false),
            (60, false),
            (-60, false),
            (61, true),
            (-61, true),
        ] {
            let date = signed + SignedDuration::from_secs(seconds);
            assert_eq!(is_far_off(signed, date), expected, "{seconds}");
        }
    }

    #[test]
    fn dates_that_are_none_are_ignored() {
        for text in [
            "",
            "now",
            "Thu, 01 Jan 1969 00:00:00 GMT",
            "Thu, 32 Jan 2026 00:00:00 GMT",
        ] {
            assert_eq!(http_date(text), None, "{text}");
        }
        assert!(http_date("Sunday, 06-Nov-94 08:49:37 GMT").is_some());
        assert!(http_date("Sun Nov  6 08:49:37 1994").is_some());
    }
}
