//! Who goes next. Pure: told the time, never asks for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Operation;
use super::limits::{Opening, Window};

/// A place in the queue of one operation: the earlier deadline first, then who came first.
pub(super) type Place = (Timestamp, u64);

/// The calls that wait for one endpoint, and those under way.
///
/// A call goes out when a slot is free and its operation's window is open. Of all that could, the
/// one with the earliest deadline does; an operation at its limit holds up no other.
#[derive(Debug)]
pub(super) struct Schedule {
    free_slots: usize,
    lanes: BTreeMap<Operation, Lane>,
    arrivals: u64,
}

#[derive(Debug)]
struct Lane {
    window: Window,
    waiting: BTreeSet<Place>,
}

impl Schedule {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            free_slots: slots,
            lanes: BTreeMap::new(),
            arrivals: 0,
        }
    }

    /// Takes a place in the queue.
    pub(super) fn join(&mut self, operation: Operation, deadline: Timestamp) -> Place {
        self.arrivals += 1;
        let place = (deadline, self.arrivals);
        self.lane(operation).waiting.insert(place);
        place
    }

    /// Gives up a place. False if its turn has come already.
    pub(super) fn leave(&mut self, operation: Operation, place: Place) -> bool {
        self.lane(operation).waiting.remove(&place)
    }

    /// Whose turn has come at `now`, if anyone's; from then on that call is under way.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Operation, Place)> {
        self.free_slots.checked_sub(1)?;
        let (place, operation) = self
            .lanes
            .iter_mut()
            .filter_map(|(&operation, lane)| {
                let place = *lane.waiting.first()?;
                (lane.window.opening(now) == Opening::Now).then_some((place, operation))
            })
            .min()?;
        let lane = self.lane(operation);
        lane.waiting.remove(&place);
        lane.window.begin();
        self.free_slots -= 1;
        Some((operation, place))
    }

    /// When to ask again after [`next`](Self::next) had no one, unless something happens before.
    pub(super) fn next_opening(&mut self, now: Instant) -> Option<Instant> {
        self.free_slots.checked_sub(1)?;
        self.lanes
            .values_mut()
            .filter(|lane| !lane.waiting.is_empty())
            .filter_map(|lane| match lane.window.opening(now) {
                Opening::Now => Some(now),
                Opening::At(instant) => Some(instant),
                Opening::AfterACall => None,
            })
            .min()
    }

    /// A call under way has ended.
    pub(super) fn end(&mut self, operation: Operation, now: Instant) {
        self.lane(operation).window.end(now);
        self.free_slots += 1;
    }

    /// A call whose turn had come didn't go out.
    pub(super) fn give_back(&mut self, operation: Operation) {
        self.lane(operation).window.give_back();
        self.free_slots += 1;
    }

    /// The service asked for a pause of one operation.
    pub(super) fn pause(&mut self, operation: Operation, now: Instant, pause: Duration) {
        self.lane(operation).window.close(now, pause);
    }

    /// Whether nothing of it matters any more.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.lanes
            .values()
            .all(|lane| lane.waiting.is_empty() && lane.window.is_idle(now))
    }

    fn lane(&mut self, operation: Operation) -> &mut Lane {
        self.lanes.entry(operation).or_insert_with(|| Lane {
            window: Window::new(operation.limit()),
            waiting: BTreeSet::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Operation::{IssueToken, RevokeTokens};
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_earliest_deadline_goes_first_whatever_the_operation() {
        let now = Instant::now();
        let mut schedule = Schedule::new(10);
        let late = schedule.join(IssueToken, at(30));
        let early = schedule.join(RevokeTokens, at(10));
        let middle = schedule.join(IssueToken, at(20));
        let middle_too = schedule.join(RevokeTokens, at(20));
        let order: Vec<_> = std::iter::from_fn(|| schedule.next(now)).collect();
        assert_eq!(
            order,
            [
                (RevokeTokens, early),
                (IssueToken, middle),
                (RevokeTokens, middle_too),
                (IssueToken, late)
            ]
        );
    }

    #[test]
    fn no_more_calls_are_under_way_than_there_are_slots() {
        let now = Instant::now();
        let mut schedule = Schedule::new(2);
        for second in 0..3 {
            schedule.join(IssueToken, at(second));
        }
        assert!(schedule.next(now).is_some());
        assert!(schedule.next(now).is_some());
        assert_eq!(schedule.next(now), None);
        assert_eq!(
            schedule.next_opening(now),
            None,
            "only an end of a call helps"
        );
        schedule.end(IssueToken, now);
        assert!(schedule.next(now).is_some());
        schedule.give_back(IssueToken);
        assert_eq!(schedule.next(now), None, "no one is left");
        assert!(!schedule.is_idle(now));
    }

    #[test]
    fn an_operation_at_its_limit_holds_up_no_other() {
        let now = Instant::now();
        let mut schedule = Schedule::new(2000);
        for _ in 0..501 {
            schedule.join(RevokeTokens, at(0));
        }
        let issue = schedule.join(IssueToken, at(1_000_000));
        let mut revokes = 0;
        while let Some((operation, place)) = schedule.next(now) {
            match operation {
                RevokeTokens => revokes += 1,
                _ => assert_eq!((operation, place), (IssueToken, issue)),
            }
            schedule.end(operation, now);
        }
        assert_eq!(revokes, 500);
        let opening = now + Duration::from_secs(30);
        assert_eq!(schedule.next_opening(now), Some(opening));
        assert!(schedule.next(opening).is_some());
    }

    #[test]
    fn a_place_can_be_given_up_until_its_turn_has_come() {
        let now = Instant::now();
        let mut schedule = Schedule::new(1);
        let first = schedule.join(IssueToken, at(1));
        let second = schedule.join(IssueToken, at(2));
        assert!(schedule.leave(IssueToken, first));
        assert_eq!(schedule.next(now), Some((IssueToken, second)));
        assert!(!schedule.leave(IssueToken, second));
    }

    #[test]
    fn a_pause_holds_back_its_operation_alone() {
        let now = Instant::now();
        let mut schedule = Schedule::new(10);
        schedule.pause(IssueToken, now, Duration::from_secs(5));
        schedule.join(IssueToken, at(1));
        let revoke = schedule.join(RevokeTokens, at(2));
        assert_eq!(schedule.next(now), Some((RevokeTokens, revoke)));
        assert_eq!(schedule.next(now), None);
        assert_eq!(
            schedule.next_opening(now),
            Some(now + Duration::from_secs(5))
        );
    }
}
