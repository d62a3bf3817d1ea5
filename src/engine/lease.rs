//! Who leads, by what a Lease says. Pure: the caller reads and writes the Lease, and brings the time.

use std::time::{Duration, Instant};

/// When a Lease is renewed, and when it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Another process takes over when it has seen the Lease unchanged for this long.
    pub duration: Duration,
    /// A leader that could not renew the Lease for this long begins nothing any more.
    pub renew_deadline: Duration,
    /// Pause between two attempts to renew.
    pub retry_period: Duration,
}

/// Why times of a Lease don't fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// Two leaders could act at a time.
    #[error(
        "--lease-duration must be at least a second longer than --lease-renew-deadline: calls \
         that started before the deadline must end before another process becomes the leader"
    )]
    TooShort,
    /// One lost attempt would lose the Lease.
    #[error("--lease-renew-deadline must be at least twice --lease-retry-period")]
    NoSecondAttempt,
    /// The API server keeps whole seconds.
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

/// What a Lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; empty when it was released.
    pub holder: String,
    /// For how long it holds after it was renewed.
    pub duration: Duration,
    /// Its resource version.
    pub version: String,
}

/// What to do about a Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Write our name into it, on condition of its resource version.
    Take,
    /// Another process leads, until this moment unless it renews.
    Wait(Instant),
}

/// What this process has seen of a Lease.
///
/// Times in a Lease are of other machines' clocks and are not believed: it is over when it has not
/// changed for its duration by our own clock.
#[derive(Debug)]
pub struct Election {
    /// The name of this process, as a holder.
    me: String,
    /// The last record of another holder, and when it was first seen.
    seen: Option<(Record, Instant)>,
}

impl Election {
    /// The election as it looks to the process of this name, before it has seen anything.
    #[must_use]
    pub const fn new(me: String) -> Self {
        Self { me, seen: None }
    }

    /// What to do about a Lease that reads so now; `None` when there is none. A Lease that was
    /// deleted while another process held it is waited for as if it were there.
    pub fn saw(&mut self, record: Option<Record>, now: Instant) -> Next {
        if let Some(record) = record {
            // Ours is one whose write had no answer.
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

    /// Who was seen to hold the Lease last.
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
