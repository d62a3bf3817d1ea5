//! Choice of the objects that run next, and when. Pure: the caller passes the time.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::{cluster::ObjectKey, renewal};

/// Work queue. An object is idle, queued, running, or running and to be run again. There is one
/// entry per object, so that a hundred events cost one run.
///
/// Times are spans since the queue was created, by a monotonic clock.
#[derive(Debug, Default)]
pub struct Queue {
    entries: HashMap<Arc<ObjectKey>, Entry>,
    ready: VecDeque<Arc<ObjectKey>>,
    timers: BTreeSet<(Duration, Arc<ObjectKey>)>,
    /// Objects that could not reach the API server in their last run.
    unreached: BTreeSet<Arc<ObjectKey>>,
    /// Object that checks next whether the API server is back, and when.
    probe: Option<(Arc<ObjectKey>, Duration)>,
    /// Time at which all of them are retried, because one seems to have reached the API server.
    retry: Option<Duration>,
    /// Time of the last such retry.
    retried: Option<Duration>,
}

#[derive(Debug, Default)]
struct Entry {
    state: State,
    /// Time at which the object runs again without an event.
    timer: Option<Duration>,
    /// Number of runs that failed in a row.
    failures: i32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    Queued,
    Running,
    /// An event came while the object was running.
    Dirty,
}

/// Result of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Nothing is left to do; the object runs again after this span, if there is one.
    Rested(Option<Duration>),
    /// Something has changed meanwhile. The change requeues the object, too, unless a watch is
    /// broken.
    Overtaken,
    /// The run failed.
    Failed,
    /// The run failed because the API server could not be reached.
    Unreachable,
}

/// Maximum time, while the API server is unreachable, until one of the waiting objects runs again.
/// Once it succeeds, all of them do.
const PROBE: Duration = Duration::from_secs(8);

impl Queue {
    /// Requests a run of the object.
    pub fn add(&mut self, key: ObjectKey) {
        let key = self.known(&key).unwrap_or_else(|| Arc::new(key));
        self.add_known(key);
    }

    /// Returns the shared key of an object that has an entry, so that all places use the same
    /// allocation.
    fn known(&self, key: &ObjectKey) -> Option<Arc<ObjectKey>> {
        let (known, _) = self.entries.get_key_value(key)?;
        Some(Arc::clone(known))
    }

    fn add_known(&mut self, key: Arc<ObjectKey>) {
        let entry = self.entries.entry(Arc::clone(&key)).or_default();
        match entry.state {
            State::Queued | State::Dirty => return,
            State::Running => {
                entry.state = State::Dirty;
                return;
            }
            State::Idle => entry.state = State::Queued,
        }
        // The request replaces the timer.
        if let Some(at) = entry.timer.take() {
            self.timers.remove(&(at, Arc::clone(&key)));
        }
        self.ready.push_back(key);
    }

    /// Queues the objects with expired timers, and returns how many are queued in all.
    pub fn tick(&mut self, now: Duration) -> usize {
        if self.retry.take_if(|at| *at <= now).is_some() {
            self.retried = Some(now);
            // They stay in the set until a run ends well: the API server may come back between the
            // runs of two of them.
            for key in self.unreached.clone() {
                self.add_known(key);
            }
        }
        while self.timers.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, key)) = self.timers.pop_first()
        {
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.timer = None;
            }
            self.add_known(key);
        }
        self.ready.len()
    }

    /// Takes the object at this place of the queue, 0 for the first, and marks it as running. Also
    /// returns how many of its runs have failed in a row.
    pub fn start(&mut self, place: usize) -> Option<(ObjectKey, i32)> {
        let key = self.ready.remove(place)?;
        let entry = self.entries.entry(Arc::clone(&key)).or_default();
        entry.state = State::Running;
        Some((ObjectKey::clone(&key), entry.failures))
    }

    /// Takes the first object for which `wanted` returns true, and marks it as running.
    pub fn start_where(&mut self, wanted: impl Fn(&ObjectKey) -> bool) -> Option<(ObjectKey, i32)> {
        let place = self.ready.iter().position(|key| wanted(key))?;
        self.start(place)
    }

    /// Records the end of a run, and returns how many runs of the object have failed in a row.
    pub fn ended(&mut self, key: &ObjectKey, how: Ended, now: Duration) -> i32 {
        let known = self.known(key);
        let key = known.unwrap_or_else(|| Arc::new(key.clone()));
        let entry = self.entries.entry(Arc::clone(&key)).or_default();
        let is_dirty = entry.state == State::Dirty;
        entry.state = State::Idle;
        entry.failures = match how {
            Ended::Rested(_) => 0,
            Ended::Overtaken | Ended::Failed | Ended::Unreachable => {
                entry.failures.saturating_add(1)
            }
        };
        let failures = entry.failures;
        self.note_reach(&key, how, now);
        if is_dirty {
            self.add_known(key);
            return failures;
        }
        let pause = match how {
            Ended::Rested(pause) => pause,
            Ended::Overtaken => Some(after_overtaken(failures)),
            Ended::Failed => Some(after_failed(failures, &key)),
            Ended::Unreachable => Some(self.after_unreachable(failures, &key, now)),
        };
        match pause {
            Some(pause) => {
                let at = now.saturating_add(pause);
                self.entries.entry(Arc::clone(&key)).or_default().timer = Some(at);
                self.timers.insert((at, key));
            }
            None => {
                self.entries.remove(&key);
            }
        }
        failures
    }

    /// Schedules a retry of all objects that could not reach the API server, once one of them seems
    /// to reach it again. This happens not more often than the check itself, because that one run
    /// may have made no call.
    fn note_reach(&mut self, key: &Arc<ObjectKey>, how: Ended, now: Duration) {
        if how == Ended::Unreachable {
            self.unreached.insert(Arc::clone(key));
        } else if self.unreached.remove(key) {
            self.probe.take_if(|(other, _)| other == key);
            let earliest = self.retried.map_or(now, |last| (last + PROBE).max(now));
            self.retry = Some(earliest);
        }
    }

    fn after_unreachable(
        &mut self,
        failures: i32,
        key: &Arc<ObjectKey>,
        now: Duration,
    ) -> Duration {
        let usual = after_failed(failures, key);
        let probe = self.probe.as_ref();
        if probe.is_some_and(|(other, at)| other != key && *at > now) {
            return usual;
        }
        let pause = usual.min(PROBE);
        self.probe = Some((Arc::clone(key), now + pause));
        pause
    }

    /// Returns the time of the next timer.
    #[must_use]
    pub fn next_timer(&self) -> Option<Duration> {
        let timer = self.timers.first().map(|(at, _)| *at);
        self.retry.into_iter().chain(timer).min()
    }

    /// Whether no run is in progress and the last run of each object succeeded.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let is_settled = |entry: &Entry| entry.failures == 0 && entry.state == State::Idle;
        self.entries.values().all(is_settled)
    }
}

/// Returns the pause after this many failed runs in a row: a second, doubling to a minute.
fn after_failed(failures: i32, key: &ObjectKey) -> Duration {
    let wait = renewal::backoff(failures, None, &key.to_string());
    wait.try_into().unwrap_or_default()
}

/// Returns the pause after this many overtaken runs in a row: 200 ms, doubling to a minute.
fn after_overtaken(attempts: i32) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(0);
    let pause = Duration::from_millis(200).saturating_mul(1 << doublings.min(9));
    pause.min(Duration::from_mins(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::AcsToken;
    use kube::runtime::reflector::ObjectRef;

    fn key(name: &str) -> ObjectKey {
        ObjectRef::<AcsToken>::new(name).within("ns").into()
    }

    const fn second(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn what_is_asked_for_often_runs_once_and_again_if_asked_for_meanwhile() {
        let mut queue = Queue::default();
        for _ in 0..3 {
            queue.add(key("a"));
        }
        assert_eq!(queue.tick(second(0)), 1);
        assert_eq!(queue.start(0), Some((key("a"), 0)));
        assert_eq!(queue.start(0), None);
        queue.add(key("a"));
        assert_eq!(queue.tick(second(0)), 0, "one run of an object at a time");
        queue.ended(&key("a"), Ended::Rested(Some(second(9))), second(1));
        assert_eq!(queue.start(0), Some((key("a"), 0)));
        queue.ended(&key("a"), Ended::Rested(None), second(2));
        assert!(queue.entries.is_empty() && queue.timers.is_empty());
    }

    #[test]
    fn a_timer_runs_the_object_unless_something_else_did() {
        let mut queue = Queue::default();
        queue.add(key("a"));
        queue.start(0);
        queue.ended(&key("a"), Ended::Rested(Some(second(10))), second(1));
        assert_eq!(queue.next_timer(), Some(second(11)));
        assert_eq!(queue.tick(second(10)), 0);
        queue.add(key("a"));
        assert_eq!(queue.next_timer(), None);
        queue.start(0);
        queue.ended(&key("a"), Ended::Rested(Some(second(10))), second(12));
        assert_eq!(queue.tick(second(22)), 1);
    }

    #[test]
    fn failures_in_a_row_wait_longer_and_longer_and_success_forgets_them() {
        let mut queue = Queue::default();
        let fail = |queue: &mut Queue| {
            queue.add(key("a"));
            queue.start(0);
            queue.ended(&key("a"), Ended::Failed, second(0));
            queue.next_timer().unwrap_or_default()
        };
        let waits = [fail(&mut queue), fail(&mut queue), fail(&mut queue)];
        assert!(waits.is_sorted() && waits[0] < waits[2], "{waits:?}");
        assert!(!queue.is_settled());
        queue.add(key("a"));
        queue.start(0);
        queue.ended(&key("a"), Ended::Rested(Some(second(60))), second(0));
        assert!(queue.is_settled());
        assert_eq!(fail(&mut queue), waits[0]);
    }

    #[test]
    fn one_object_finds_that_the_api_server_is_back_and_all_try_again() {
        let mut queue = Queue::default();
        let names = ["a", "b", "c"].map(key);
        names.iter().cloned().for_each(|key| queue.add(key));
        let (mut now, mut runs) = (Duration::ZERO, 0);
        while now < second(3600) {
            while let Some((key, _)) = queue.start(0) {
                queue.ended(&key, Ended::Unreachable, now);
                runs += 1;
            }
            let next = queue.next_timer().unwrap();
            assert!(next <= now + PROBE, "{next:?} after {now:?}");
            now = next;
            queue.tick(now);
        }
        assert!(runs < 3600 / 5, "{runs} runs");
        let rest = |queue: &mut Queue, now| {
            let (key, _) = queue.start(0).unwrap();
            queue.ended(&key, Ended::Rested(None), now);
            queue.tick(now)
        };
        assert_eq!(rest(&mut queue, now), 2);
        // Objects that only seem to reach the API server do not keep each other running.
        for _ in 0..2 {
            let (key, _) = queue.start(0).unwrap();
            queue.ended(&key, Ended::Unreachable, now);
        }
        queue.add(names[0].clone());
        assert_eq!(rest(&mut queue, now), 0);
        assert!(queue.next_timer().unwrap() <= now + PROBE);
    }

    #[test]
    fn who_fails_just_before_the_api_server_is_back_tries_again_soon() {
        let mut queue = Queue::default();
        let end = |queue: &mut Queue, key: &ObjectKey, how, now| {
            let place = queue.ready.iter().position(|it| **it == *key).unwrap();
            queue.start(place);
            queue.ended(key, how, now);
        };
        let names = ["a", "b", "c"].map(key);
        let mut now = Duration::ZERO;
        for _ in 0..8 {
            for key in &names {
                queue.add(key.clone());
                end(&mut queue, key, Ended::Unreachable, now);
            }
            now += PROBE;
        }
        now -= PROBE / 2;
        let (probe, at) = queue.probe.clone().unwrap();
        assert!(at > now, "the probe runs later");
        let mut others = names.iter().filter(|key| **key != *probe);
        let (first, second) = (others.next().unwrap(), others.next().unwrap());
        // The first needs no call, and the others run.
        queue.add(first.clone());
        end(&mut queue, first, Ended::Rested(None), now);
        queue.tick(now);
        end(&mut queue, second, Ended::Unreachable, now);
        end(&mut queue, &probe, Ended::Rested(None), now);
        assert!(queue.next_timer().unwrap() <= now + PROBE);
    }
}
