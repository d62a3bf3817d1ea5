//! Rate limits of ACS.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::super::Operation;

/// Time window over which ACS counts calls.
pub const SPAN: Duration = Duration::from_secs(30);

impl Operation {
    /// Number of calls in 30 s that ACS accepts per resource ("Service limits for Azure
    /// Communication Services", section Identity).
    #[must_use]
    pub fn limit(self) -> usize {
        match self {
            Self::CreateIdentity | Self::CreateIdentityWithToken | Self::IssueToken => 1000,
            Self::RevokeTokens | Self::DeleteIdentity | Self::ExchangeTeamsToken => 500,
        }
    }
}

/// Rate limiter of one operation. Pure: the caller passes the time.
///
/// A call counts from its start until 30 s after its end: ACS counted it at some time in between,
/// so its own window is never exceeded, regardless of how long a call was in flight.
#[derive(Debug)]
pub(super) struct Window {
    limit: usize,
    under_way: usize,
    ended: VecDeque<Instant>,
    closed_until: Option<Instant>,
    /// Time at which ACS last requested a pause, and the number of calls in 30 s allowed from then
    /// on.
    throttled: Option<(Instant, usize)>,
}

/// Share of the window that a call may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// The whole window.
    Whole,
    /// Nine tenths: calls that are not due yet leave room for those that are.
    Routine,
}

/// Time at which a call may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// Immediately.
    Now,
    /// At this time, or earlier if nothing else waits.
    At(Instant),
    /// After a call in flight has ended.
    AfterACall,
}

impl Window {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            under_way: 0,
            ended: VecDeque::new(),
            closed_until: None,
            throttled: None,
        }
    }

    /// Returns the limit, reduced after pauses: each further pause halves it, and each span without
    /// a pause raises it by a tenth of the full limit.
    fn limit_at(&self, now: Instant) -> usize {
        let Some((since, lowered)) = self.throttled else {
            return self.limit;
        };
        let spans = now.saturating_duration_since(since).as_secs() / SPAN.as_secs();
        let grown = usize::try_from(spans).unwrap_or(self.limit) * self.limit.div_ceil(10);
        lowered.saturating_add(grown).min(self.limit)
    }

    /// Returns when a call may be sent, seen at `now`.
    pub(super) fn opening(&mut self, now: Instant, share: Share) -> Opening {
        if let Some(until) = self.closed_until {
            if now < until {
                return Opening::At(until);
            }
            self.closed_until = None;
        }
        while self.ended.front().is_some_and(|&ended| ended + SPAN <= now) {
            self.ended.pop_front();
        }
        let limit = self.limit_at(now);
        let limit = match share {
            Share::Whole => limit,
            Share::Routine => limit - limit / 10,
        };
        let Some(excess) = (self.under_way + self.ended.len()).checked_sub(limit) else {
            return Opening::Now;
        };
        self.ended
            .get(excess)
            .map_or(Opening::AfterACall, |&ended| Opening::At(ended + SPAN))
    }

    /// Number of calls in flight.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Records the start of a call.
    pub(super) fn begin(&mut self) {
        self.under_way += 1;
    }

    /// Records the end of a call.
    pub(super) fn end(&mut self, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        self.ended.push_back(now);
    }

    /// Returns the slot of a call that was granted but not sent.
    pub(super) fn give_back(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Records a pause that ACS requested. A pause longer than the span is left to the callers,
    /// which report it instead of waiting silently.
    pub(super) fn close(&mut self, now: Instant, pause: Duration) {
        // Throttled calls that were in flight together count as one.
        if self.closed_until.is_none_or(|until| until <= now) {
            let again = self.throttled.is_some_and(|(at, _)| now < at + 2 * SPAN);
            let limit = self.limit_at(now);
            let lowered = if again { (limit / 2).max(1) } else { limit };
            self.throttled = Some((now, lowered));
        }
        let until = now + pause.min(SPAN);
        self.closed_until = Some(self.closed_until.map_or(until, |closed| closed.max(until)));
    }

    /// Whether no state remains that affects later calls.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.under_way == 0 && self.ended.back().is_none_or(|&ended| ended + SPAN <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_call_counts_until_30_s_after_its_end() {
        let start = Instant::now();
        let mut window = Window::new(2);
        window.begin();
        window.begin();
        assert_eq!(
            window.opening(start + seconds(100), Share::Whole),
            Opening::AfterACall
        );
        window.end(start + seconds(100));
        assert_eq!(
            window.opening(start + seconds(101), Share::Whole),
            Opening::At(start + seconds(130))
        );
        window.end(start + seconds(110));
        assert_eq!(
            window.opening(start + seconds(129), Share::Whole),
            Opening::At(start + seconds(130))
        );
        assert_eq!(
            window.opening(start + seconds(130), Share::Whole),
            Opening::Now
        );
        window.begin();
        assert_eq!(
            window.opening(start + seconds(130), Share::Whole),
            Opening::At(start + seconds(140))
        );
        assert!(!window.is_idle(start + seconds(200)));
    }

    #[test]
    fn no_30_s_of_the_service_see_more_than_the_limit() {
        // Calls of very different durations, each counted by ACS at its start or its end.
        let start = Instant::now();
        let limit = 5;
        let mut window = Window::new(limit);
        let mut under_way: Vec<(Instant, Instant)> = Vec::new();
        let mut calls = Vec::new();
        for step in 0..2000_u32 {
            let now = start + Duration::from_millis(100) * step;
            under_way.retain(|&(began, ends)| {
                if ends <= now {
                    window.end(now);
                    calls.push(if step % 2 == 0 { began } else { now });
                }
                ends > now
            });
            while window.opening(now, Share::Whole) == Opening::Now {
                window.begin();
                under_way.push((
                    now,
                    now + Duration::from_millis(u64::from(step * 37 % 19) * 500),
                ));
            }
        }
        assert!(calls.len() > 20);
        for &from in &calls {
            let seen = calls
                .iter()
                .filter(|&&at| at >= from && at < from + SPAN)
                .count();
            assert!(seen <= limit, "{seen}");
        }
    }

    #[test]
    fn a_call_that_never_went_out_does_not_count() {
        let now = Instant::now();
        let mut window = Window::new(1);
        window.begin();
        window.give_back();
        assert_eq!(window.opening(now, Share::Whole), Opening::Now);
        assert!(window.is_idle(now));
    }

    #[test]
    fn pauses_that_go_on_halve_the_rate_and_it_grows_back() {
        let start = Instant::now();
        let mut window = Window::new(100);
        window.close(start, seconds(1));
        window.close(start, seconds(1));
        assert_eq!(window.limit_at(start), 100, "once may be chance");
        for (second, limit) in [(10, 50), (20, 25), (30, 12)] {
            window.close(start + seconds(second), seconds(1));
            assert_eq!(window.limit_at(start + seconds(second)), limit);
        }
        assert_eq!(window.limit_at(start + seconds(30 + 60)), 32);
        assert_eq!(window.limit_at(start + seconds(30 + 600)), 100);
    }

    #[test]
    fn a_pause_holds_calls_back_for_at_most_the_span() {
        let start = Instant::now();
        let mut window = Window::new(10);
        window.close(start, seconds(7));
        window.close(start, seconds(3));
        assert_eq!(
            window.opening(start, Share::Whole),
            Opening::At(start + seconds(7))
        );
        assert_eq!(
            window.opening(start + seconds(7), Share::Whole),
            Opening::Now
        );
        window.close(start, seconds(3600));
        assert_eq!(
            window.opening(start, Share::Whole),
            Opening::At(start + SPAN)
        );
    }
}
