use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch::Sender;

/// Right of this process to act, checked right before each effect (K2). Clones share it.
///
/// It depends on a monotonic clock and ends before another process may take over the Lease. Once a
/// process has lost it, it does not get it back: effects that were refused in between must not be
/// reported as failures.
#[derive(Clone, Debug)]
pub struct Claim {
    right: Arc<Sender<Right>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// Another process may act.
    Waiting,
    /// No other process acts; there is no Lease.
    Undisputed,
    /// Effects may begin until `until`, and another process may act from `lapses` on.
    Held {
        until: Instant,
        lapses: Instant,
    },
    Lost,
}

impl Claim {
    /// Returns the claim of a process that may not act yet.
    #[must_use]
    pub fn waiting() -> Self {
        Self::new(Right::Waiting)
    }

    /// Returns the claim of a process that is certain to be the only one.
    #[must_use]
    pub fn undisputed() -> Self {
        Self::new(Right::Undisputed)
    }

    fn new(right: Right) -> Self {
        Self {
            right: Arc::new(Sender::new(right)),
        }
    }

    /// Extends the claim: effects may begin until `until`, and another process may act from
    /// `lapses` on. A lost claim stays lost.
    pub fn extend(&self, until: Instant, lapses: Instant) {
        self.right.send_if_modified(|right| {
            let is_open = matches!(right, Right::Waiting | Right::Held { .. });
            if is_open {
                *right = Right::Held { until, lapses };
            }
            is_open
        });
    }

    /// Gives up the claim permanently.
    pub fn lose(&self) {
        self.right
            .send_if_modified(|right| std::mem::replace(right, Right::Lost) != Right::Lost);
    }

    /// Returns the maximum duration of an effect that begins now, so that it ends before another
    /// process may act; `None` if it may not begin.
    #[must_use]
    pub fn left(&self, now: Instant) -> Option<Duration> {
        let right = *self.right.borrow();
        match right {
            Right::Waiting | Right::Lost => None,
            Right::Undisputed => Some(Duration::MAX),
            Right::Held { until, lapses } if now < until => Some(lapses.duration_since(now)),
            Right::Held { .. } => {
                self.lose();
                None
            }
        }
    }

    /// Waits until this process may act.
    pub async fn held(&self) {
        self.wait(|right| matches!(right, Right::Undisputed | Right::Held { .. }))
            .await;
    }

    /// Waits until the claim is lost.
    pub async fn lost(&self) {
        self.wait(|right| right == Right::Lost).await;
    }

    async fn wait(&self, is_so: impl Fn(Right) -> bool) {
        let mut right = self.right.subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let _ = right.wait_for(|right| is_so(*right)).await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn effects_begin_while_the_claim_is_held_and_end_before_it_lapses() {
        let (claim, begin) = (Claim::waiting(), Instant::now());
        assert_eq!(claim.left(begin), None);
        assert_eq!(claim.held().now_or_never(), None);
        claim.extend(begin + seconds(10), begin + seconds(15));
        assert_eq!(claim.held().now_or_never(), Some(()));
        assert_eq!(claim.left(begin), Some(seconds(15)));
        assert_eq!(claim.left(begin + seconds(9)), Some(seconds(6)));
        claim.extend(begin + seconds(19), begin + seconds(24));
        assert_eq!(claim.left(begin + seconds(18)), Some(seconds(6)));
    }

    #[test]
    fn a_claim_that_was_refused_once_never_comes_back() {
        let (claim, begin) = (Claim::waiting(), Instant::now());
        claim.extend(begin + seconds(10), begin + seconds(15));
        assert_eq!(claim.left(begin + seconds(10)), None);
        assert_eq!(claim.lost().now_or_never(), Some(()));
        claim.extend(begin + seconds(30), begin + seconds(35));
        assert_eq!(claim.left(begin + seconds(11)), None);
    }
}
