//! Whether the process is alive and every watch works: `/livez`, `/readyz` and `/metrics`.

use std::{
    collections::BTreeMap,
    fmt::Display,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Router, http::StatusCode, routing::get};
use tracing::warn;

use crate::{cluster::view::lock, metrics::Metrics};

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
        .route("/metrics", get(move || async move { metrics.text() }));
    let listener = tokio::net::TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "serving /livez, /readyz and /metrics");
    axum::serve(listener, router).await
}
