//! API client for watches.
//!
//! kube's watcher does not report that a broken watch was re-established, and a quiet watch may
//! receive nothing for a minute and more. Its HTTP requests and answers show this at once.

use std::{future::pending, sync::Arc};

use futures::{FutureExt as _, StreamExt as _};
use http::{Request, Response};
use http_body_util::{BodyStream, StreamBody};
use kube::{Client, client::Body};
use tower::service_fn;

use crate::health::Health;

/// Returns a client that sends its requests through `inner` and calls `established` for each watch
/// that the API server accepts. When the API server answers again after an outage, older
/// connections may be dead without a sign: those watches are ended, and the watcher resumes where
/// it was.
pub(crate) fn reporting(
    inner: &Client,
    health: &Health,
    established: impl Fn() + Send + Sync + 'static,
) -> Client {
    let namespace = inner.default_namespace().to_owned();
    let (inner, health) = (inner.clone(), health.clone());
    let established = Arc::new(established);
    let service = service_fn(move |request: Request<Body>| {
        let (inner, health) = (inner.clone(), health.clone());
        let established = Arc::clone(&established);
        async move {
            let is_watch = is_watch(request.uri().query());
            let response: Response<Body> = inner.send(request).await?;
            let end = if is_watch && response.status().is_success() {
                established();
                async move { health.returns().await }.boxed()
            } else {
                pending().boxed()
            };
            let cut = |body| StreamBody::new(BodyStream::new(body).take_until(end));
            Ok::<_, kube::Error>(response.map(cut))
        }
    });
    Client::new(service, namespace)
}

fn is_watch(query: Option<&str>) -> bool {
    let parameters = query.into_iter().flat_map(|query| query.split('&'));
    let mut parameters = parameters.filter_map(|parameter| parameter.split_once('='));
    parameters.any(|(name, value)| name == "watch" && matches!(value, "true" | "1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_told_from_a_list() {
        for query in ["watch=true", "limit=1&watch=1&resourceVersion=7"] {
            assert!(is_watch(Some(query)), "{query}");
        }
        for query in ["", "limit=1", "watch=false", "labelSelector=watch%3Dtrue"] {
            assert!(!is_watch(Some(query)), "{query}");
        }
        assert!(!is_watch(None));
    }
}
