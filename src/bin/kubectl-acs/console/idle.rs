//! Detection of an unused console.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Visible pages, and the time since which there are none. Clones share it.
#[derive(Clone)]
pub struct Idle {
    timeout: Duration,
    state: Arc<Mutex<State>>,
}

struct State {
    /// Number of visible pages: a hidden page closes its stream of changes.
    watchers: usize,
    last: Instant,
}

/// A visible page, counted until this is dropped.
pub struct Watcher(Idle);

impl Idle {
    /// Starts as unused.
    pub fn new(timeout: Duration) -> Self {
        let state = State {
            watchers: 0,
            last: Instant::now(),
        };
        Self {
            timeout,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Records a request.
    pub fn touch(&self) {
        self.change(|_| {});
    }

    /// Counts a visible page until the watcher is dropped.
    pub fn watch(&self) -> Watcher {
        self.change(|state| state.watchers += 1);
        Watcher(self.clone())
    }

    /// Resolves when no page was visible and no request came for the whole timeout.
    pub async fn over(&self) {
        while let Some(end) = self.end() {
            tokio::time::sleep_until(end).await;
        }
    }

    /// Returns the earliest time at which the timeout elapses; `None` if it has elapsed.
    fn end(&self) -> Option<Instant> {
        let now = Instant::now();
        let state = self.state.lock();
        let last = if state.watchers > 0 { now } else { state.last };
        Some(last + self.timeout).filter(|end| *end > now)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        state.last = Instant::now();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0
            .change(|state| state.watchers = state.watchers.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_over_when_nobody_has_looked_for_the_whole_timeout() {
        let start = Instant::now();
        let idle = Idle::new(Duration::from_mins(30));
        let watcher = idle.watch();
        let looking = idle.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_mins(50)).await;
            drop(watcher);
            tokio::time::sleep(Duration::from_mins(10)).await;
            looking.touch();
        });
        idle.over().await;
        assert_eq!(start.elapsed().as_secs() / 60, 90);
    }
}
