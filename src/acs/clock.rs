//! The endpoint's clock, as its answers tell it.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};

/// How far off a signature's time must be for a wrong clock to be why the service refused it.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(60);

/// What is known of one endpoint's clock.
#[derive(Debug, Default)]
pub(super) struct Clock {
    offset: Mutex<Option<SignedDuration>>,
}

impl Clock {
    /// The endpoint's clock minus the local one.
    pub(super) fn offset(&self) -> Option<SignedDuration> {
        *self.offset.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The endpoint's time at a local time.
    pub(super) fn at(&self, local: Timestamp) -> Timestamp {
        // A sum beyond the year 9999 leaves the local time, which then is as wrong as any.
        local
            .checked_add(self.offset().unwrap_or_default())
            .unwrap_or(local)
    }

    /// An answer with this `Date` arrived at a local time.
    pub(super) fn learn(&self, date: Timestamp, local: Timestamp) {
        *self.offset.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(date.duration_since(local));
    }
}

/// Whether a request signed at `signed` may have been refused for its time by a service whose
/// answer is dated `date`.
pub(super) fn is_far_off(signed: Timestamp, date: Timestamp) -> bool {
    date.duration_since(signed).abs() > TOLERANCE
}

/// Reads a date as HTTP headers have it, in any of the three forms.
pub(super) fn http_date(text: &str) -> Option<Timestamp> {
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
