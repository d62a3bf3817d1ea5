//! Effects on the cluster that every slice shares.

pub mod control;
pub mod event;
pub mod finalizer;
pub mod input;
pub mod secret;
pub mod service_account;
pub mod status;
pub mod view;
pub mod watch;
pub(crate) mod watch_client;

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
use kube::core::Status;
use tokio::sync::Semaphore;

/// No single call to the API server takes longer; kube itself would wait for minutes.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// A call to the API server that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused, or can't be reached.
    #[error("could not {operation} {object}: {source}")]
    Api {
        /// The verb, as one would say it.
        operation: &'static str,
        /// `Kind namespace/name`.
        object: String,
        /// What the API server said.
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("could not {operation} {object}: no answer from the API server in {} s", CALL_TIMEOUT.as_secs())]
    Timeout {
        /// The verb, as one would say it.
        operation: &'static str,
        /// `Kind namespace/name`.
        object: String,
    },
}

impl Error {
    fn status(&self) -> Option<&Status> {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            Self::Timeout { .. } => None,
        }
    }

    /// Someone else changed the object since we read it.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(Status::is_conflict)
    }

    /// There is one already.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(Status::is_already_exists)
    }

    /// It is gone.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(Status::is_not_found)
    }

    /// Our rights, or a quota, or a namespace that is being deleted, do not allow it.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.status().is_some_and(Status::is_forbidden)
    }

    /// One word for conditions and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        if self.is_conflict() {
            "Conflict"
        } else if self.is_forbidden() {
            "Forbidden"
        } else {
            "ApiServerError"
        }
    }
}

/// So many calls to the API server are under way at most (K3): each holds a connection of its own, with
/// buffers of some 40 KiB.
const MOST_CALLS: usize = 64;
static CALLS: Semaphore = Semaphore::const_new(MOST_CALLS);

/// Makes one call to the API server when its turn comes, bounded in time and named for its errors.
///
/// In a box, since a run is as large as the largest call that it may make, and thousands of them may
/// wait for their turn at ACS.
pub fn call<'a, T: 'a>(
    operation: &'static str,
    object: &'a str,
    call: impl Future<Output = kube::Result<T>> + Send + 'a,
) -> BoxFuture<'a, Result<T, Error>> {
    let called = async move {
        // Nobody closes it, so this only ever waits.
        let _turn = CALLS.acquire().await;
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => Err(Error::Api {
                operation,
                object: object.to_owned(),
                source: Box::new(source),
            }),
            Err(_) => Err(Error::Timeout {
                operation,
                object: object.to_owned(),
            }),
        }
    };
    called.boxed()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn no_more_calls_are_under_way_than_may_be() {
        let (under_way, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let calls = (0..3 * MOST_CALLS).map(|_| {
            call("read", "it", async {
                most.fetch_max(under_way.fetch_add(1, Relaxed) + 1, Relaxed);
                tokio::task::yield_now().await;
                under_way.fetch_sub(1, Relaxed);
                Ok(())
            })
        });
        assert!(join_all(calls).await.iter().all(Result::is_ok));
        assert_eq!(most.into_inner(), MOST_CALLS);
    }
}
