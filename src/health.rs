//! Health of the process and its watches, served as `/livez`, `/readyz` and `/metrics`.

mod secure_metrics;

use std::{
    collections::BTreeMap,
    fmt,
    io::{Error, ErrorKind},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    routing::get,
};
use kube::Client;
pub use secure_metrics::{SecureMetrics, serve as serve_securely};
use tokio::{
    net::TcpListener,
    sync::watch::Sender,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::metrics::{self, Metrics};

/// Interval and timeout of the checks whether the API server answers. `/readyz` is right within
/// twice that time, even if no watch receives anything.
const PROBE: Duration = Duration::from_secs(5);

/// State of the API server and of every watch.
#[derive(Clone, Debug, Default)]
pub struct Health {
    state: Arc<Sender<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Watches, by what they watch.
    watches: BTreeMap<String, Watch>,
    /// Why the API server does not answer.
    unanswered: Option<String>,
    /// Number of times that the API server answered again after it had not.
    returns: u64,
    /// Why this process does not act, if another one does.
    stands_by: Option<String>,
    /// Why this process could not act even if no other process did.
    lacks_lease: Option<String>,
}

#[derive(Debug)]
enum Watch {
    /// The first list is not complete.
    Starting,
    Working,
    Failing(Problem),
}

/// Failure of a watch. It is displayed as a sentence that says what to do, if that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Message as a sentence.
    pub message: String,
    /// Whether the kind or the permission to watch it is missing, so that nothing is known of its
    /// objects until a person acts.
    pub is_missing: bool,
}

/// Reporter of the health of one watch.
#[derive(Debug)]
pub struct WatchHealth {
    health: Health,
    what: String,
}

impl Health {
    /// Registers a watch. It counts as failing until its first list is complete.
    #[must_use]
    pub fn watch(&self, what: String) -> WatchHealth {
        self.state.send_modify(|state| {
            state.watches.insert(what.clone(), Watch::Starting);
        });
        WatchHealth {
            health: self.clone(),
            what,
        }
    }

    /// Returns what fails, one line each; `None` if all works.
    #[must_use]
    pub fn problems(&self) -> Option<String> {
        let state = self.state.borrow();
        if state.watches.is_empty() {
            return Some("starting".to_owned());
        }
        if let Some(why) = &state.unanswered {
            return Some(format!("the API server does not answer: {why}"));
        }
        let problems = state
            .watches
            .iter()
            .filter_map(|(what, watch)| match watch {
                Watch::Working => None,
                Watch::Starting => Some(format!("watch of {what}: the first list is not complete")),
                Watch::Failing(problem) => Some(format!("watch of {what}: {problem}")),
            });
        let problems: Vec<_> = problems.chain(state.lacks_lease.clone()).collect();
        (!problems.is_empty()).then(|| problems.join("\n"))
    }

    /// Records why this process stands by; `None` if it acts.
    pub fn stands_by(&self, why: Option<String>) {
        self.state.send_modify(|state| {
            state.stands_by = why;
            state.lacks_lease = None;
        });
    }

    /// Records why the Lease cannot be read or written.
    pub fn lacks_lease(&self, why: String) {
        self.state
            .send_modify(|state| state.lacks_lease = Some(why));
    }

    /// Returns the text of `/readyz` while all works.
    fn role(&self) -> String {
        match &self.state.borrow().stands_by {
            Some(why) => format!("standby: {why}\n"),
            None => "ok\n".to_owned(),
        }
    }

    /// Waits until a watch of the kind with this plural name cannot start, because the kind or a
    /// permission is missing.
    pub async fn is_missing(&self, plural: &str) {
        let is_missing = |state: &State| {
            state.watches.iter().any(|(what, watch)| {
                what.split(' ').next() == Some(plural)
                    && matches!(watch, Watch::Failing(problem) if problem.is_missing)
            })
        };
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.state.subscribe().wait_for(is_missing).await;
    }

    /// Waits until the API server answers again after it had not.
    pub(crate) async fn returns(&self) {
        let mut state = self.state.subscribe();
        let returns = state.borrow_and_update().returns;
        let _ = state.wait_for(|state| state.returns > returns).await;
    }

    /// Records whether the API server answers.
    fn answers(&self, answer: Result<(), String>) {
        self.state.send_if_modified(|state| {
            let why = answer.err();
            match (&state.unanswered, &why) {
                (None, Some(why)) => warn!(error = why, "the API server does not answer"),
                (Some(_), None) => {
                    info!("the API server answers again");
                    state.returns += 1;
                }
                _ => {}
            }
            let is_new = state.unanswered != why;
            state.unanswered = why;
            is_new
        });
    }
}

impl WatchHealth {
    /// Records that the watch failed; it is retried automatically.
    pub fn failed(&self, problem: Problem) {
        self.health.state.send_if_modified(|state| {
            let former = state.watches.get(&self.what);
            let is_new = !matches!(former, Some(Watch::Failing(former)) if *former == problem);
            if is_new {
                warn!(
                    watch = self.what,
                    error = %problem,
                    "a watch failed; trying again"
                );
                let watch = Watch::Failing(problem);
                state.watches.insert(self.what.clone(), watch);
            }
            is_new
        });
    }

    /// Records that the watch works: the API server accepted it after its list was complete, or an
    /// event came.
    pub fn works(&self) {
        self.health.state.send_if_modified(|state| {
            let Some(watch) = state.watches.get_mut(&self.what) else {
                return false;
            };
            let is_new = !matches!(watch, Watch::Working);
            if matches!(watch, Watch::Failing(_)) {
                info!(watch = self.what, "a watch works again");
            }
            *watch = Watch::Working;
            is_new
        });
    }
}

impl Drop for WatchHealth {
    fn drop(&mut self) {
        self.health.state.send_modify(|state| {
            state.watches.remove(&self.what);
        });
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Checks repeatedly whether the API server answers. Never returns.
pub async fn probe(client: Client, health: Health) {
    loop {
        let answer = match timeout(PROBE, client.apiserver_version()).await {
            Err(_) => Err(format!("no answer in {} s", PROBE.as_secs())),
            Ok(Ok(_)) => Ok(()),
            // The API server refuses the request, but it answers.
            Ok(Err(kube::Error::Api(status))) if status.code < 500 => Ok(()),
            Ok(Err(kube::Error::Api(status))) => Err(status.message.clone()),
            Ok(Err(error)) => Err(innermost(&error)),
        };
        health.answers(answer);
        sleep(PROBE).await;
    }
}

/// Returns the innermost cause of an error.
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.last().map(ToString::to_string).unwrap_or_default()
}

/// Serves `/livez` and `/readyz` at `address`, and `/metrics` if `metrics` is given. Returns only
/// with an error.
pub async fn serve(
    address: SocketAddr,
    health: Health,
    metrics: Option<Arc<Metrics>>,
) -> std::io::Result<()> {
    let mut router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || async move {
                match health.problems() {
                    None => (StatusCode::OK, health.role()),
                    Some(problems) => (StatusCode::SERVICE_UNAVAILABLE, format!("{problems}\n")),
                }
            }),
        );
    let mut served = "/livez and /readyz";
    if let Some(metrics) = metrics {
        served = "/metrics, /livez and /readyz";
        let text =
            get(move || async move { ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.text()) });
        router = router.route("/metrics", text);
    }
    let listener = bind(address).await?;
    info!(address = %listener.local_addr()?, "serving {served}");
    axum::serve(listener, router).await
}

/// Binds `address`; if that is `[::]` and the machine has no IPv6, binds `0.0.0.0` instead.
async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) => match fallback(address, &error) {
            Some(fallback) => TcpListener::bind(fallback).await,
            None => Err(error),
        },
        bound => bound,
    }
}

/// Returns the address to bind instead of `address`, for which `error` was returned.
fn fallback(address: SocketAddr, error: &Error) -> Option<SocketAddr> {
    let every_address = address.is_ipv6() && address.ip().is_unspecified();
    // These errors mean that the machine has IPv6.
    let is_refused = matches!(
        error.kind(),
        ErrorKind::AddrInUse | ErrorKind::PermissionDenied
    );
    (every_address && !is_refused).then(|| (Ipv4Addr::UNSPECIFIED, address.port()).into())
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn problem(is_missing: bool) -> Problem {
        Problem {
            message: "a sentence".to_owned(),
            is_missing,
        }
    }

    #[test]
    fn what_fails_is_named_until_it_works() {
        let health = Health::default();
        assert!(health.problems().is_some());
        let watch = health.watch("acstokens in team".to_owned());
        watch.works();
        assert_eq!(health.problems(), None);
        watch.failed(problem(false));
        assert_eq!(
            health.problems().unwrap(),
            "watch of acstokens in team: a sentence"
        );
        watch.works();
        health.answers(Err("no answer in 5 s".to_owned()));
        assert_eq!(
            health.problems().unwrap(),
            "the API server does not answer: no answer in 5 s"
        );
        health.answers(Ok(()));
        assert_eq!(health.problems(), None);
    }

    #[test]
    fn one_that_stands_by_says_so_and_one_that_could_never_act_is_not_ready() {
        let health = Health::default();
        let watch = health.watch("acstokens in team".to_owned());
        watch.works();
        assert_eq!(health.role(), "ok\n");
        health.stands_by(Some("a leads".to_owned()));
        assert_eq!(health.role(), "standby: a leads\n");
        health.lacks_lease("forbidden".to_owned());
        assert_eq!(health.problems().unwrap(), "forbidden");
        health.stands_by(None);
        assert_eq!(health.problems(), None);
        assert_eq!(health.role(), "ok\n");
    }

    #[test]
    fn a_kind_is_missing_only_when_a_person_must_act() {
        let health = Health::default();
        let watch = health.watch("acstokens in team".to_owned());
        for (is_missing, plural, expected) in [
            (false, "acstokens", false),
            (true, "acstokens", true),
            (true, "acsidentities", false),
        ] {
            watch.failed(problem(is_missing));
            let waited = health.is_missing(plural).now_or_never();
            assert_eq!(waited.is_some(), expected, "{plural}");
        }
    }

    #[test]
    fn a_return_is_told_once() {
        let health = Health::default();
        let mut returns = Box::pin(health.returns());
        assert_eq!((&mut returns).now_or_never(), None);
        health.answers(Ok(()));
        health.answers(Err("refused".to_owned()));
        assert_eq!((&mut returns).now_or_never(), None);
        health.answers(Ok(()));
        assert_eq!(returns.now_or_never(), Some(()));
        assert_eq!(health.returns().now_or_never(), None);
    }

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
