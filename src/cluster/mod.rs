//! Access to the API server: calls, watches, and caches of its objects. Independent of the
//! controllers.

#[cfg(feature = "operator")]
pub mod event;
#[cfg(feature = "operator")]
pub mod index;
#[cfg(feature = "operator")]
pub mod input;
#[cfg(feature = "operator")]
mod key;
#[cfg(feature = "operator")]
pub mod row;
#[cfg(feature = "operator")]
mod rows;
#[cfg(feature = "operator")]
pub mod service_account;
#[cfg(feature = "operator")]
pub mod view;
#[cfg(feature = "operator")]
pub mod watch;
#[cfg(feature = "operator")]
pub(crate) mod watch_client;

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
#[cfg(feature = "operator")]
pub use key::{Kind, ObjectKey};
use kube::{Resource, ResourceExt, core::Status};
use tokio::sync::Semaphore;

use crate::crd::Reason;

/// Maximum duration of a single call to the API server; the default of kube is minutes.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Returns `Kind namespace/name`, for errors and logs.
#[must_use]
pub fn named<K: Resource<DynamicType = ()>>(object: &K) -> String {
    match object.namespace() {
        Some(namespace) => format!("{} {namespace}/{}", K::kind(&()), object.name_any()),
        None => format!("{} {}", K::kind(&()), object.name_any()),
    }
}

/// Error of a call to the API server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server rejected the call, or is unreachable.
    #[error("could not {operation} {object}: {}", sentence(source))]
    Api {
        /// Verb, for use in a sentence.
        operation: &'static str,
        /// `Kind namespace/name`.
        object: String,
        /// Error of kube.
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("could not {operation} {object}: the API server did not answer in time")]
    Timeout {
        /// Verb, for use in a sentence.
        operation: &'static str,
        /// `Kind namespace/name`.
        object: String,
    },
    /// Nothing was sent: this process is not the leader any more, or it is shutting down. Never
    /// reported on an object.
    #[error("this process is no longer the leader, so nothing was sent")]
    Withheld,
}

impl Error {
    fn status(&self) -> Option<&Status> {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            Self::Timeout { .. } | Self::Withheld => None,
        }
    }

    /// Whether another client changed the object since it was read.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(Status::is_conflict)
    }

    /// Whether the object exists already.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(Status::is_already_exists)
    }

    /// Whether the object does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(Status::is_not_found)
    }

    /// Whether RBAC, a quota, or a namespace that is being deleted forbids the call.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.status().is_some_and(Status::is_forbidden)
    }

    /// Whether the API server rejects the write itself ([`Reason::is_refusal`]).
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.reason().is_refusal()
    }

    /// Whether the API server gave no answer at all.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        self.status().is_none() && !matches!(self, Self::Withheld)
    }

    /// Returns the reason, one word, for conditions and metrics.
    #[must_use]
    pub fn reason(&self) -> Reason {
        if matches!(self, Self::Withheld) {
            return Reason::Withheld;
        }
        let Some(status) = self.status() else {
            return Reason::ApiServerError;
        };
        let says = |words: &str| status.message.contains(words);
        if status.is_conflict() {
            Reason::Conflict
        } else if says("exceeded quota") {
            Reason::QuotaExceeded
        } else if says("is being terminated") {
            Reason::NamespaceTerminating
        } else if says("ValidatingAdmissionPolicy") || says("denied the request") {
            Reason::AdmissionDenied
        } else if status.is_forbidden() {
            Reason::Forbidden
        } else if status.code == 422 {
            Reason::InvalidObject
        } else {
            Reason::ApiServerError
        }
    }
}

/// Returns what went wrong, in the words of the API server if they are its own.
fn sentence(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Maximum number of concurrent calls to the API server (K3): each holds a connection of its own,
/// with buffers of some 40 KiB.
const MOST_CALLS: usize = 24;
static CALLS: Semaphore = Semaphore::const_new(MOST_CALLS);

/// Makes one call to the API server when a slot is free, with a timeout. `operation` and `object`
/// describe it in errors.
///
/// Boxed, since a reconcile future is as large as the largest call that it may make, and thousands
/// of them may wait for their turn at ACS.
pub fn call<'a, T: 'a>(
    operation: &'static str,
    object: &'a str,
    call: impl Future<Output = kube::Result<T>> + Send + 'a,
) -> BoxFuture<'a, Result<T, Error>> {
    effect(operation, object, || Some(CALL_TIMEOUT), call)
}

/// Makes a call that writes: once a slot is free, `left` returns the time that the call may take,
/// or `None` to forbid it (K2).
pub fn effect<'a, T: 'a>(
    operation: &'static str,
    object: &'a str,
    left: impl Fn() -> Option<Duration> + Send + 'a,
    call: impl Future<Output = kube::Result<T>> + Send + 'a,
) -> BoxFuture<'a, Result<T, Error>> {
    let called = async move {
        // The semaphore is never closed, so this only waits.
        let _turn = CALLS.acquire().await;
        let left = left().ok_or(Error::Withheld)?;
        match tokio::time::timeout(left.min(CALL_TIMEOUT), call).await {
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
    async fn an_effect_begins_only_with_time_left_and_ends_within_it() {
        let begun = AtomicUsize::new(0);
        let write = |left: Option<Duration>| {
            let call = async {
                begun.fetch_add(1, Relaxed);
                std::future::pending::<kube::Result<()>>().await
            };
            effect("write", "it", move || left, call)
        };
        assert!(matches!(write(None).await, Err(Error::Withheld)));
        assert_eq!(begun.load(Relaxed), 0);
        let left = Some(Duration::from_millis(1));
        assert!(matches!(write(left).await, Err(Error::Timeout { .. })));
        assert_eq!(begun.load(Relaxed), 1);
    }

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
        // Another test may hold a slot.
        let most = most.into_inner();
        assert!((MOST_CALLS - 1..=MOST_CALLS).contains(&most), "{most}");
    }
}
