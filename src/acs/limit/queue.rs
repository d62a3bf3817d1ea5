//! Queue of calls to an endpoint.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::super::Operation;
use super::schedule::{Position, Schedule};

/// Tolerance within which a deadline counts as reached: creation times are by the API server's
/// clock.
const SOON: SignedDuration = SignedDuration::from_secs(5);

/// [`Schedule`] of one endpoint, with the waiting calls. Clones share it.
#[derive(Clone, Debug)]
pub(in super::super) struct Queue {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    schedule: Schedule,
    waiting: HashMap<Position, oneshot::Sender<()>>,
    /// Time of the earliest timer. Several timers may run; only the earliest counts.
    timer: Option<Instant>,
    /// Runtime for timers. Permits may be dropped anywhere, even outside of it.
    runtime: Option<Handle>,
}

/// Right to send one call; dropping it records the end of the call.
#[derive(Debug)]
pub(in super::super) struct Permit {
    queue: Queue,
    operation: Operation,
}

/// Turn of a call: granted, or still waiting. Dropping it returns the turn.
#[derive(Debug)]
pub struct Turn {
    /// Priority, also used for retries of the call.
    pub(in super::super) urgency: Urgency,
    /// Permit, if the turn is granted.
    pub(in super::super) permit: Option<Permit>,
}

/// Tenant and deadline of a waiting call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Urgency {
    /// Deadline; the earliest goes first.
    pub deadline: Timestamp,
    /// Tenant, such as a namespace. Tenants take turns, so that many calls of one do not delay a
    /// single call of another.
    pub tenant: String,
}

impl From<Timestamp> for Turn {
    fn from(deadline: Timestamp) -> Self {
        let tenant = String::new();
        Self {
            urgency: Urgency { deadline, tenant },
            permit: None,
        }
    }
}

/// Position in the queue. Dropping it before its turn gives it up.
struct Waiting {
    queue: Queue,
    operation: Operation,
    tenant: String,
    place: Position,
    is_over: bool,
}

impl Queue {
    pub(in super::super) fn new(max_in_flight: usize) -> Self {
        let state = State {
            schedule: Schedule::new(max_in_flight.max(1)),
            waiting: HashMap::new(),
            timer: None,
            runtime: None,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Waits for the turn of a call. Cancel safe.
    pub(in super::super) async fn turn(&self, operation: Operation, urgency: Urgency) -> Permit {
        let Urgency { deadline, tenant } = urgency;
        let (sender, turn) = oneshot::channel();
        let place = {
            let mut state = self.lock();
            state.runtime = Some(Handle::current());
            let is_due = deadline <= Timestamp::now() + SOON;
            let place = state.schedule.join(operation, &tenant, deadline, is_due);
            state.waiting.insert(place, sender);
            place
        };
        let mut waiting = Waiting {
            queue: self.clone(),
            operation,
            tenant,
            place,
            is_over: false,
        };
        self.serve();
        // The sender stays in the map until it is used, so this always resolves.
        let _ = turn.await;
        waiting.is_over = true;
        Permit {
            queue: self.clone(),
            operation,
        }
    }

    /// Pauses an operation for the duration that ACS requested.
    pub(in super::super) fn pause(&self, operation: Operation, pause: Duration) {
        self.lock().schedule.pause(operation, Instant::now(), pause);
    }

    /// Whether the queue could be replaced by a new one without any difference.
    pub(in super::super) fn is_idle(&self) -> bool {
        self.lock().schedule.is_idle(Instant::now())
    }

    /// Grants all turns that are due, and arranges for the next to be granted.
    fn serve(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        while let Some((_, place)) = state.schedule.next(now) {
            if let Some(sender) = state.waiting.remove(&place) {
                // A receiver that was dropped meanwhile returns the turn itself.
                let _ = sender.send(());
            }
        }
        let Some(opening) = state.schedule.next_opening(now) else {
            return;
        };
        if state.timer.is_some_and(|timer| timer <= opening) {
            return;
        }
        let Some(runtime) = state.runtime.clone() else {
            return;
        };
        state.timer = Some(opening);
        let queue = self.clone();
        runtime.spawn(async move {
            sleep_until(opening).await;
            {
                let mut state = queue.lock();
                if state.timer == Some(opening) {
                    state.timer = None;
                }
            }
            queue.serve();
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock panics while the state is inconsistent.
        self.state.lock()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.queue
            .lock()
            .schedule
            .end(self.operation, Instant::now());
        self.queue.serve();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        {
            let mut state = self.queue.lock();
            state.waiting.remove(&self.place);
            if !state
                .schedule
                .leave(self.operation, &self.tenant, self.place)
            {
                state.schedule.give_back(self.operation);
            }
        }
        self.queue.serve();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tokio::time::advance;

    use super::Operation::{IssueToken, RevokeTokens};
    use super::*;

    fn at(second: i64) -> Urgency {
        Urgency {
            deadline: Timestamp::from_second(second).unwrap(),
            tenant: String::new(),
        }
    }

    /// Returns a caller that waits for its turn.
    fn waiting(queue: &Queue, second: i64) -> impl Future<Output = Permit> + Unpin {
        let mut turn = Box::pin(queue.turn(IssueToken, at(second)));
        assert!(turn.as_mut().now_or_never().is_none());
        turn
    }

    #[tokio::test(start_paused = true)]
    async fn turns_come_by_deadline() {
        let queue = Queue::new(1);
        let held = queue.turn(IssueToken, at(0)).await;
        let mut late = waiting(&queue, 2);
        let mut early = waiting(&queue, 1);
        drop(held);
        assert!((&mut late).now_or_never().is_none());
        let permit = (&mut early).now_or_never().expect("its turn");
        drop(permit);
        assert!((&mut late).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_is_passed_over() {
        let queue = Queue::new(1);
        let held = queue.turn(IssueToken, at(0)).await;
        let gives_up = waiting(&queue, 1);
        let mut stays = waiting(&queue, 2);
        drop(gives_up);
        drop(held);
        assert!((&mut stays).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_comes_to_someone_who_gave_up_is_passed_on() {
        let queue = Queue::new(1);
        let held = queue.turn(IssueToken, at(0)).await;
        let gives_up = waiting(&queue, 1);
        let mut stays = waiting(&queue, 2);
        drop(held);
        drop(gives_up);
        assert!((&mut stays).now_or_never().is_some());
        drop(stays);
        advance(Duration::from_secs(31)).await;
        assert!(queue.is_idle());
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_that_opens_lets_the_waiting_through() {
        let queue = Queue::new(1000);
        let begun = Instant::now();
        for _ in 0..RevokeTokens.limit() {
            drop(queue.turn(RevokeTokens, at(0)).await);
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        drop(queue.turn(RevokeTokens, at(0)).await);
        assert!(begun.elapsed() >= Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_opening_is_not_missed_for_a_later_one() {
        let queue = Queue::new(10);
        let begun = Instant::now();
        queue.pause(IssueToken, Duration::from_secs(20));
        queue.pause(RevokeTokens, Duration::from_secs(5));
        let issue = async {
            drop(queue.turn(IssueToken, at(0)).await);
            begun.elapsed().as_secs()
        };
        let revoke = async {
            drop(queue.turn(RevokeTokens, at(0)).await);
            begun.elapsed().as_secs()
        };
        assert_eq!(futures::join!(issue, revoke), (20, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn giving_up_at_any_moment_loses_no_slot() {
        let slots = 3;
        let queue = Queue::new(slots);
        let mut held: Vec<Permit> = Vec::new();
        let mut waiting = Vec::new();
        for step in 0..1000_usize {
            let operation = if step % 3 == 0 {
                IssueToken
            } else {
                RevokeTokens
            };
            let deadline = at(i64::try_from(step * 31 % 17).unwrap());
            let mut turn = Box::pin(queue.turn(operation, deadline));
            match turn.as_mut().now_or_never() {
                Some(permit) => held.push(permit),
                None => waiting.push(turn),
            }
            if step % 2 == 0 && !held.is_empty() {
                drop(held.swap_remove(step % held.len()));
            }
            // Before its turn, or after it without having noticed.
            if step % 5 < 3 && !waiting.is_empty() {
                drop(waiting.swap_remove(step * 7 % waiting.len()));
            }
            let issues = held.iter().filter(|permit| permit.operation == IssueToken);
            assert!(issues.count() <= slots);
        }
        drop(waiting);
        held.clear();
        advance(Duration::from_secs(31)).await;
        assert!(queue.is_idle());
        for _ in 0..slots {
            held.push(
                queue
                    .turn(IssueToken, at(0))
                    .now_or_never()
                    .expect("a free slot"),
            );
        }
        assert!(queue.turn(IssueToken, at(0)).now_or_never().is_none());
    }

    #[test]
    fn a_permit_may_end_outside_of_the_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let queue = Queue::new(1);
        let held = runtime.block_on(queue.turn(IssueToken, at(0)));
        queue.pause(IssueToken, Duration::from_secs(5));
        let mut waiting = Box::pin(queue.turn(IssueToken, at(1)));
        runtime.block_on(async { assert!(waiting.as_mut().now_or_never().is_none()) });
        drop(held);
        drop(runtime.block_on(waiting));
    }
}
