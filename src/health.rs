//! Health of the process and its watches, served as `/livez`, `/readyz` and `/metrics`.

use std::{
    collections::BTreeMap,
    fmt::Display,
    io::{Error, ErrorKind},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    routing::get,
};
use tokio::net::TcpListener;
use tracing::warn;

use crate::{
    cluster::view::lock,
    metrics::{self, Metrics},
};

/// The state of every watch, by what it watches.
#[derive(Clone, Debug, Default)]
pub struct Health {
    watches: Arc<Mutex<BTreeMap<String, Option<String>>>>,
}

/// Reports of one watch.
#[derive(Debug)]
pub struct WatchHealth {
    health: Health,
    what: String,
}

impl Health {
    /// Registers a watch; it counts as failing until its first list is complete.
    #[must_use]
    pub fn watch(&self, what: String) -> WatchHealth {
        lock(&self.watches).insert(
            what.clone(),
            Some("its first list is not complete".to_owned()),
        );
        WatchHealth {
            health: self.clone(),
            what,
        }
    }

    /// What fails, a line each; `None` when all works.
    #[must_use]
    pub fn problems(&self) -> Option<String> {
        let watches = lock(&self.watches);
        if watches.is_empty() {
            return Some("starting".to_owned());
        }
        let problems: Vec<_> = watches
            .iter()
            .filter_map(|(what, problem)| Some(format!("watch of {what}: {}", problem.as_ref()?)))
            .collect();
        (!problems.is_empty()).then(|| problems.join("\n"))
    }
}

impl WatchHealth {
    /// The watch failed; it is tried again by itself.
    pub fn failed(&self, error: &dyn Display) {
        let text = error.to_string();
        let former = lock(&self.health.watches).insert(self.what.clone(), Some(text.clone()));
        if former.flatten().as_deref() != Some(text.as_str()) {
            warn!(
                watch = self.what,
                error = text,
                "a watch fails and is tried again"
            );
        }
    }

    /// The watch works: its list is complete, or an event came.
    pub fn works(&self) {
        if let Some(problem) = lock(&self.health.watches).get_mut(&self.what) {
            *problem = None;
        }
    }
}

impl Drop for WatchHealth {
    fn drop(&mut self) {
        lock(&self.health.watches).remove(&self.what);
    }
}

/// Serves `/livez`, `/readyz` and `/metrics` at `address`. Never returns but with an error.
pub async fn serve(
    address: SocketAddr,
    health: Health,
    metrics: Arc<Metrics>,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || async move {
                match health.problems() {
                    None => (StatusCode::OK, "ok\n".to_owned()),
                    Some(problems) => (StatusCode::SERVICE_UNAVAILABLE, format!("{problems}\n")),
                }
            }),
        )
        .route(
            "/metrics",
            get(move || async move { ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.text()) }),
        );
    let listener = bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "serving /livez, /readyz and /metrics");
    axum::serve(listener, router).await
}

/// Binds `address`; where that is `[::]` and the machine has no IPv6, binds `0.0.0.0` instead.
async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) => match fallback(address, &error) {
            Some(fallback) => TcpListener::bind(fallback).await,
            None => Err(error),
        },
        bound => bound,
    }
}

/// The address to bind instead of `address`, for which `error` was returned.
fn fallback(address: SocketAddr, error: &Error) -> Option<SocketAddr> {
    let every_address = address.is_ipv6() && address.ip().is_unspecified();
    // These mean that the machine has IPv6.
    let is_refused = matches!(
        error.kind(),
        ErrorKind::AddrInUse | ErrorKind::PermissionDenied
    );
    (every_address && !is_refused).then(|| (Ipv4Addr::UNSPECIFIED, address.port()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_address_that_means_every_one_falls_back_and_only_without_ipv6() {
        let of = |address: &str, error| {
            let fallback = fallback(address.parse().unwrap(), &error);
            fallback.map(|address| address.to_string())
        };
        // EAFNOSUPPORT, which Linux returns without IPv6.
        let no_ipv6 = || Error::from_raw_os_error(97);
        assert_eq!(of("[::]:80", no_ipv6()).as_deref(), Some("0.0.0.0:80"));
        assert_eq!(of("[::1]:80", no_ipv6()), None);
        assert_eq!(of("0.0.0.0:80", no_ipv6()), None);
        assert_eq!(of("[::]:80", ErrorKind::AddrInUse.into()), None);
        assert_eq!(of("[::]:80", ErrorKind::PermissionDenied.into()), None);
    }

    #[tokio::test]
    async fn the_default_address_accepts_ipv4() {
        let listener = bind("[::]:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connected = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
        connected.unwrap();
    }
}
