//! Order of calls to an endpoint. Pure: the caller passes the time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::super::Operation;
use super::limits::{Opening, Share, Window};

/// Position in the queue of one operation: the earlier deadline first, then the order of arrival.
pub(super) type Position = (Timestamp, u64);

/// Calls that wait for one endpoint, and those in flight.
///
/// A call is sent when its operation has a free slot and its window is open: an operation that
/// hangs or is at its limit delays no other. Among the calls that could be sent, the one with the
/// earliest deadline goes. Within an operation, due calls and calls that are not due (a change of
/// key makes thousands of them) take turns, so that neither delays the other; the latter also leave
/// a tenth of the window free. Within each of the two the tenants take turns, so that thousands of
/// calls of one namespace do not delay a single call of another.
#[derive(Debug)]
pub(super) struct Schedule {
    slots: usize,
    lanes: BTreeMap<Operation, Lane>,
    arrivals: u64,
}

#[derive(Debug)]
struct Lane {
    window: Window,
    /// Calls whose deadline had passed when they joined.
    due: Line,
    ahead: Line,
    /// Whether the last call sent was a due one.
    was_due: bool,
}

/// Waiting calls by tenant, in the order in which the tenants take turns.
#[derive(Debug, Default)]
struct Line {
    tenants: VecDeque<(String, BTreeSet<Position>)>,
}

impl Line {
    fn join(&mut self, tenant: &str, place: Position) {
        let waiting = self.tenants.iter_mut().find(|(name, _)| name == tenant);
        match waiting {
            Some((_, places)) => {
                places.insert(place);
            }
            None => self
                .tenants
                .push_back((tenant.to_owned(), BTreeSet::from([place]))),
        }
    }

    fn leave(&mut self, tenant: &str, place: Position) -> bool {
        let waiting = self.tenants.iter_mut().find(|(name, _)| name == tenant);
        let has_left = waiting.is_some_and(|(_, places)| places.remove(&place));
        self.tenants.retain(|(_, places)| !places.is_empty());
        has_left
    }

    fn head(&self) -> Option<Position> {
        self.tenants.front()?.1.first().copied()
    }

    /// Removes the head and moves on to the next tenant.
    fn advance(&mut self) {
        if let Some((tenant, mut places)) = self.tenants.pop_front() {
            places.pop_first();
            if !places.is_empty() {
                self.tenants.push_back((tenant, places));
            }
        }
    }
}

impl Lane {
    /// Returns the next due call and the next call that is not due, each with whether it is due and
    /// when it may be sent; the preferred one is first.
    fn heads(&mut self, now: Instant) -> [Option<(Position, bool, Opening)>; 2] {
        let opening = self.window.opening(now, Share::Whole);
        let opening_ahead = self.window.opening(now, Share::Routine);
        let due = self.due.head().map(|place| (place, true, opening));
        let ahead = self.ahead.head().map(|place| (place, false, opening_ahead));
        if self.was_due {
            [ahead, due]
        } else {
            [due, ahead]
        }
    }

    /// Returns the call that may be sent now, if any.
    fn next(&mut self, now: Instant) -> Option<(Position, bool)> {
        let mut heads = self.heads(now).into_iter().flatten();
        let (place, is_due, _) = heads.find(|(_, _, opening)| *opening == Opening::Now)?;
        Some((place, is_due))
    }
}

impl Schedule {
    /// Creates a schedule with this number of slots per operation.
    pub(super) fn new(slots: usize) -> Self {
        Self {
            slots,
            lanes: BTreeMap::new(),
            arrivals: 0,
        }
    }

    /// Adds a call; `is_due` says whether its deadline has passed.
    pub(super) fn join(
        &mut self,
        operation: Operation,
        tenant: &str,
        deadline: Timestamp,
        is_due: bool,
    ) -> Position {
        self.arrivals += 1;
        let place = (deadline, self.arrivals);
        let lane = self.lane(operation);
        let waiting = if is_due {
            &mut lane.due
        } else {
            &mut lane.ahead
        };
        waiting.join(tenant, place);
        place
    }

    /// Removes a waiting call. Returns false if its turn was already granted.
    pub(super) fn leave(&mut self, operation: Operation, tenant: &str, place: Position) -> bool {
        let lane = self.lane(operation);
        lane.due.leave(tenant, place) || lane.ahead.leave(tenant, place)
    }

    /// Returns the call whose turn is granted at `now`, if any; from then on it is in flight.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Operation, Position)> {
        let ((place, is_due), operation) = self
            .with_slots()
            .filter_map(|(&operation, lane)| Some((lane.next(now)?, operation)))
            .min_by_key(|((place, _), _)| *place)?;
        let lane = self.lane(operation);
        if is_due {
            lane.due.advance();
        } else {
            lane.ahead.advance();
        }
        lane.was_due = is_due;
        lane.window.begin();
        Some((operation, place))
    }

    /// Returns when to call [`next`](Self::next) again after it returned `None`, unless the state
    /// changes before.
    pub(super) fn next_opening(&mut self, now: Instant) -> Option<Instant> {
        self.with_slots()
            .flat_map(|(_, lane)| lane.heads(now))
            .flatten()
            .filter_map(|(_, _, opening)| match opening {
                Opening::Now => Some(now),
                Opening::At(instant) => Some(instant),
                Opening::AfterACall => None,
            })
            .min()
    }

    /// Records the end of a call in flight.
    pub(super) fn end(&mut self, operation: Operation, now: Instant) {
        self.lane(operation).window.end(now);
    }

    /// Returns the turn of a call that was not sent.
    pub(super) fn give_back(&mut self, operation: Operation) {
        self.lane(operation).window.give_back();
    }

    /// Records a pause of one operation that ACS requested.
    pub(super) fn pause(&mut self, operation: Operation, now: Instant, pause: Duration) {
        self.lane(operation).window.close(now, pause);
    }

    /// Whether no state remains that affects later calls.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.lanes.values().all(|lane| {
            let is_empty = lane.due.tenants.is_empty() && lane.ahead.tenants.is_empty();
            is_empty && lane.window.is_idle(now)
        })
    }

    fn with_slots(&mut self) -> impl Iterator<Item = (&Operation, &mut Lane)> {
        let slots = self.slots;
        self.lanes
            .iter_mut()
            .filter(move |(_, lane)| lane.window.under_way() < slots)
    }

    fn lane(&mut self, operation: Operation) -> &mut Lane {
        self.lanes.entry(operation).or_insert_with(|| Lane {
            window: Window::new(operation.limit()),
            due: Line::default(),
            ahead: Line::default(),
            was_due: false,
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
        let late = schedule.join(IssueToken, "", at(30), true);
        let early = schedule.join(RevokeTokens, "", at(10), true);
        let middle = schedule.join(IssueToken, "", at(20), true);
        let middle_too = schedule.join(RevokeTokens, "", at(20), true);
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
            schedule.join(IssueToken, "", at(second), true);
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
            schedule.join(RevokeTokens, "", at(0), true);
        }
        let issue = schedule.join(IssueToken, "", at(1_000_000), true);
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
        let first = schedule.join(IssueToken, "", at(1), true);
        let second = schedule.join(IssueToken, "", at(2), true);
        assert!(schedule.leave(IssueToken, "", first));
        assert_eq!(schedule.next(now), Some((IssueToken, second)));
        assert!(!schedule.leave(IssueToken, "", second));
    }

    #[test]
    fn a_pause_holds_back_its_operation_alone() {
        let now = Instant::now();
        let mut schedule = Schedule::new(10);
        schedule.pause(IssueToken, now, Duration::from_secs(5));
        schedule.join(IssueToken, "", at(1), true);
        let revoke = schedule.join(RevokeTokens, "", at(2), true);
        assert_eq!(schedule.next(now), Some((RevokeTokens, revoke)));
        assert_eq!(schedule.next(now), None);
        assert_eq!(
            schedule.next_opening(now),
            Some(now + Duration::from_secs(5))
        );
    }

    #[test]
    fn what_hangs_takes_no_slot_of_another_operation() {
        let now = Instant::now();
        let mut schedule = Schedule::new(2);
        for _ in 0..5 {
            schedule.join(IssueToken, "", at(0), true);
        }
        let revoke = schedule.join(RevokeTokens, "", at(9), true);
        let served: Vec<_> = std::iter::from_fn(|| schedule.next(now)).collect();
        assert_eq!(served.len(), 3);
        assert!(served.contains(&(RevokeTokens, revoke)));
    }

    #[test]
    fn one_tenants_thousands_hold_up_nobody_elses_one() {
        let now = Instant::now();
        let mut schedule = Schedule::new(2000);
        for second in 0..500 {
            schedule.join(IssueToken, "importer", at(second), true);
        }
        let other = schedule.join(IssueToken, "other", at(1000), true);
        let third = schedule.join(IssueToken, "third", at(2000), true);
        let order: Vec<_> = std::iter::from_fn(|| schedule.next(now)).take(3).collect();
        assert_eq!(order[1..], [(IssueToken, other), (IssueToken, third)]);
        assert!(schedule.leave(IssueToken, "importer", (at(499), 500)));
        assert!(!schedule.leave(IssueToken, "other", other));
    }

    #[test]
    fn first_tokens_and_renewals_take_turns() {
        let now = Instant::now();
        let mut schedule = Schedule::new(2000);
        for _ in 0..400 {
            schedule.join(IssueToken, "", at(0), true);
            schedule.join(IssueToken, "", at(700), false);
        }
        let served: Vec<_> = std::iter::from_fn(|| schedule.next(now))
            .take(100)
            .collect();
        let firsts = served
            .iter()
            .filter(|(_, (deadline, _))| *deadline == at(0));
        assert_eq!(firsts.count(), 50);
    }

    #[test]
    fn calls_that_are_not_due_leave_room_for_those_that_are() {
        let now = Instant::now();
        let mut schedule = Schedule::new(2000);
        for _ in 0..2000 {
            schedule.join(IssueToken, "", at(5), false);
        }
        let mut served = 0;
        while let Some((operation, _)) = schedule.next(now) {
            schedule.end(operation, now);
            served += 1;
        }
        assert_eq!(served, 900);
        // The due calls get the rest, although their deadline is later by now.
        let first = schedule.join(IssueToken, "", at(10), true);
        assert_eq!(schedule.next(now), Some((IssueToken, first)));
        schedule.end(IssueToken, now);
        for _ in 0..100 {
            schedule.join(IssueToken, "", at(10), true);
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
