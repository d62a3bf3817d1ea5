//! Leader election from the content of a Lease. Pure: the caller reads and writes the Lease, and
//! passes the time.

use std::time::{Duration, Instant};

/// Times of a Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Time after which another process takes over a Lease that it has seen unchanged.
    pub duration: Duration,
    /// Time after which a leader that could not renew the Lease begins no further effects.
    pub renew_deadline: Duration,
    /// Pause between two attempts to renew.
    pub retry_period: Duration,
}

/// Why the times of a Lease do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// Two leaders could act at the same time.
    #[error(
        "--lease-duration must be at least a second longer than --lease-renew-deadline: calls \
         that started before the deadline must end before another process becomes the leader"
    )]
    TooShort,
    /// One failed attempt would lose the Lease.
    #[error("--lease-renew-deadline must be at least twice --lease-retry-period")]
    NoSecondAttempt,
    /// The API server stores whole seconds.
    #[error("--lease-duration must be whole seconds")]
    NotWhole,
}

impl Timing {
    /// Checks that the times fit together.
    pub fn check(&self) -> Result<(), TimingError> {
        if self.duration < self.renew_deadline + Duration::from_secs(1) {
            return Err(TimingError::TooShort);
        }
        if self.renew_deadline < self.retry_period * 2 {
            return Err(TimingError::NoSecondAttempt);
        }
        if self.duration.subsec_nanos() != 0 {
            return Err(TimingError::NotWhole);
        }
        Ok(())
    }
}

/// Content of a Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Holder of the Lease; empty if it was released.
    pub holder: String,
    /// Time for which the Lease is valid after a renewal.
    pub duration: Duration,
    /// Resource version of the Lease.
    pub version: String,
}

/// What to do about a Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Write the name of this process into the Lease, on condition of its resource version.
    Take,
    /// Another process leads, until this moment unless it renews.
    Wait(Instant),
}

/// State of the election as this process has seen it.
///
/// Times in a Lease come from the clocks of other machines and are not trusted. A Lease is expired
/// if it has not changed for its duration by this process's own clock.
#[derive(Debug)]
pub struct Election {
    /// Name of this process as a holder.
    me: String,
    /// Last record of another holder, and when it was first seen.
    seen: Option<(Record, Instant)>,
}

impl Election {
    /// Returns the election for the process of this name, before it has seen anything.
    #[must_use]
    pub const fn new(me: String) -> Self {
        Self { me, seen: None }
    }

    /// Records the current content of the Lease, `None` if it does not exist, and returns what to
    /// do. A Lease that was deleted while another process held it counts as held until its duration
    /// is over.
    pub fn saw(&mut self, record: Option<Record>, now: Instant) -> Next {
        if let Some(record) = record {
            // A Lease with this process's name comes from a write without an answer.
            if record.holder.is_empty() || record.holder == self.me {
                return Next::Take;
            }
            if self.seen.as_ref().is_none_or(|(seen, _)| *seen != record) {
                self.seen = Some((record, now));
            }
        }
        match &self.seen {
            Some((record, at)) if now < *at + record.duration => Next::Wait(*at + record.duration),
            _ => Next::Take,
        }
    }

    /// Returns the last holder of the Lease that was seen.
    #[must_use]
    pub fn holder(&self) -> Option<&str> {
        let (record, _) = self.seen.as_ref()?;
        Some(&record.holder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    fn election() -> Election {
        Election::new("me".to_owned())
    }

    fn held(by: &str, version: &str) -> Record {
        Record {
            holder: by.to_owned(),
            duration: seconds(15),
            version: version.to_owned(),
        }
    }

    #[test]
    fn what_nobody_holds_is_taken() {
        let now = Instant::now();
        assert_eq!(election().saw(None, now), Next::Take);
        assert_eq!(election().saw(Some(held("", "7")), now), Next::Take);
        assert_eq!(election().saw(Some(held("me", "7")), now), Next::Take);
    }

    #[test]
    fn a_lease_is_over_when_it_was_seen_unchanged_for_its_duration() {
        let (mut election, begin) = (election(), Instant::now());
        let wait = |after| Next::Wait(begin + seconds(after));
        assert_eq!(election.saw(Some(held("a", "1")), begin), wait(15));
        let at = |after| begin + seconds(after);
        assert_eq!(election.saw(Some(held("a", "1")), at(14)), wait(15));
        assert_eq!(election.saw(Some(held("a", "2")), at(14)), wait(29));
        assert_eq!(election.saw(Some(held("b", "3")), at(28)), wait(43));
        assert_eq!(election.holder(), Some("b"));
        assert_eq!(election.saw(Some(held("b", "3")), at(43)), Next::Take);
    }

    #[test]
    fn a_deleted_lease_does_not_end_the_claim_of_its_holder() {
        let (mut election, begin) = (election(), Instant::now());
        election.saw(Some(held("a", "1")), begin);
        let wait = Next::Wait(begin + seconds(15));
        assert_eq!(election.saw(None, begin + seconds(9)), wait);
        assert_eq!(election.saw(None, begin + seconds(15)), Next::Take);
    }

    #[test]
    fn times_that_let_two_lead_are_refused() {
        let of = |duration, renew_deadline, retry_period| Timing {
            duration: Duration::from_millis(duration),
            renew_deadline: Duration::from_millis(renew_deadline),
            retry_period: Duration::from_millis(retry_period),
        };
        assert_eq!(of(15_000, 10_000, 2_000).check(), Ok(()));
        assert_eq!(of(3_000, 2_000, 500).check(), Ok(()));
        let too_short = Err(TimingError::TooShort);
        assert_eq!(of(10_000, 10_000, 2_000).check(), too_short);
        let no_second = Err(TimingError::NoSecondAttempt);
        assert_eq!(of(15_000, 10_000, 6_000).check(), no_second);
        assert_eq!(
            of(15_500, 10_000, 2_000).check(),
            Err(TimingError::NotWhole)
        );
    }
}
