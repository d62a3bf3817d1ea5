//! Who goes next. Pure: told the time, never asks for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Operation;
use super::limits::{Opening, Share, Window};

/// A place in the queue of one operation: the earlier deadline first, then who came first.
pub(super) type Place = (Timestamp, u64);

/// The calls that wait for one endpoint, and those under way.
///
/// A call goes out when a slot is free and its operation's window is open. Of all that could, the
/// one with the earliest deadline does; an operation at its limit holds up no other. Calls that are
/// not due yet, of which a change of key makes thousands, leave a tenth of the window to those that
/// are.
#[derive(Debug)]
pub(super) struct Schedule {
    free_slots: usize,
    lanes: BTreeMap<Operation, Lane>,
    arrivals: u64,
}

#[derive(Debug)]
struct Lane {
    window: Window,
    /// Whose deadline had come when they joined.
    due: BTreeSet<Place>,
    ahead: BTreeSet<Place>,
}

impl Lane {
    /// The first of those that are due and of those that are not, with when their turn may come.
    fn heads(&mut self, now: Instant) -> impl Iterator<Item = (Place, Opening)> {
        let due = self.due.first().copied();
        let ahead = self.ahead.first().copied();
        let opening = self.window.opening(now, Share::Whole);
        let opening_ahead = self.window.opening(now, Share::Routine);
        let due = due.map(|place| (place, opening));
        let ahead = ahead.map(|place| (place, opening_ahead));
        due.into_iter().chain(ahead)
    }

    fn remove(&mut self, place: Place) -> bool {
        self.due.remove(&place) || self.ahead.remove(&place)
    }
}

impl Schedule {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            free_slots: slots,
            lanes: BTreeMap::new(),
            arrivals: 0,
        }
    }

    /// Takes a place in the queue; `is_due` says whether the deadline has come.
    pub(super) fn join(
        &mut self,
        operation: Operation,
        deadline: Timestamp,
        is_due: bool,
    ) -> Place {
        self.arrivals += 1;
        let place = (deadline, self.arrivals);
        let lane = self.lane(operation);
        let waiting = if is_due {
            &mut lane.due
        } else {
            &mut lane.ahead
        };
        waiting.insert(place);
        place
    }

    /// Gives up a place. False if its turn has come already.
    pub(super) fn leave(&mut self, operation: Operation, place: Place) -> bool {
        self.lane(operation).remove(place)
    }

    /// Whose turn has come at `now`, if anyone's; from then on that call is under way.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Operation, Place)> {
        self.free_slots.checked_sub(1)?;
        let (place, operation) = self
            .lanes
            .iter_mut()
            .flat_map(|(&operation, lane)| lane.heads(now).map(move |head| (operation, head)))
            .filter(|(_, (_, opening))| *opening == Opening::Now)
            .map(|(operation, (place, _))| (place, operation))
            .min()?;
        let lane = self.lane(operation);
        lane.remove(place);
        lane.window.begin();
        self.free_slots -= 1;
        Some((operation, place))
    }

    /// When to ask again after [`next`](Self::next) had no one, unless something happens before.
    pub(super) fn next_opening(&mut self, now: Instant) -> Option<Instant> {
        self.free_slots.checked_sub(1)?;
        self.lanes
            .values_mut()
            .flat_map(|lane| lane.heads(now))
            .filter_map(|(_, opening)| match opening {
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
            .all(|lane| lane.due.is_empty() && lane.ahead.is_empty() && lane.window.is_idle(now))
    }

    fn lane(&mut self, operation: Operation) -> &mut Lane {
        self.lanes.entry(operation).or_insert_with(|| Lane {
            window: Window::new(operation.limit()),
            due: BTreeSet::new(),
            ahead: BTreeSet::new(),
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
        let late = schedule.join(IssueToken, at(30), true);
        let early = schedule.join(RevokeTokens, at(10), true);
        let middle = schedule.join(IssueToken, at(20), true);
        let middle_too = schedule.join(RevokeTokens, at(20), true);
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
            schedule.join(IssueToken, at(second), true);
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
            schedule.join(RevokeTokens, at(0), true);
        }
        let issue = schedule.join(IssueToken, at(1_000_000), true);
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
        let first = schedule.join(IssueToken, at(1), true);
        let second = schedule.join(IssueToken, at(2), true);
        assert!(schedule.leave(IssueToken, first));
        assert_eq!(schedule.next(now), Some((IssueToken, second)));
        assert!(!schedule.leave(IssueToken, second));
    }

    #[test]
    fn a_pause_holds_back_its_operation_alone() {
        let now = Instant::now();
        let mut schedule = Schedule::new(10);
        schedule.pause(IssueToken, now, Duration::from_secs(5));
        schedule.join(IssueToken, at(1), true);
        let revoke = schedule.join(RevokeTokens, at(2), true);
        assert_eq!(schedule.next(now), Some((RevokeTokens, revoke)));
        assert_eq!(schedule.next(now), None);
        assert_eq!(
            schedule.next_opening(now),
            Some(now + Duration::from_secs(5))
        );
    }

    #[test]
    fn calls_that_are_not_due_leave_room_for_those_that_are() {
        let now = Instant::now();
        let mut schedule = Schedule::new(2000);
        for _ in 0..2000 {
            schedule.join(IssueToken, at(5), false);
        }
        let mut served = 0;
        while let Some((operation, _)) = schedule.next(now) {
            schedule.end(operation, now);
            served += 1;
        }
        assert_eq!(served, 900);
        // Those that are due get the rest, although their deadline is later by now.
        let first = schedule.join(IssueToken, at(10), true);
        assert_eq!(schedule.next(now), Some((IssueToken, first)));
        schedule.end(IssueToken, now);
        for _ in 0..100 {
            schedule.join(IssueToken, at(10), true);
        }
        let mut firsts = 0;
        while let Some((operation, _)) = schedule.next(now) {
            schedule.end(operation, now);
            firsts += 1;
        }
        assert_eq!(firsts, 99);
        let opening = now + Duration::from_secs(30);
        assert_eq!(schedule.next_opening(now), Some(opening));
        assert_eq!(
            schedule.next(opening).map(|(_, (deadline, _))| deadline),
            Some(at(5))
        );
    }
}
