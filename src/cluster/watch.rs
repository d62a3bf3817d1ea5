//! Watches that keep the views current.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Resource,
    api::ListParams,
    runtime::{
        WatchStreamExt,
        utils::ResetTimerBackoff,
        watcher::{self, Event, ExponentialBackoff, watcher},
    },
};

use super::{call, row::Packable, view::View, watch_client::reporting};
use crate::health::{Health, Problem, innermost};

/// Duration of a watch, in seconds. Some load balancers drop idle connections after four minutes;
/// these watches end before.
const WATCH_SECONDS: u32 = 200;
/// Maximum pause before a failed watch is retried: the pause starts at 0.8 s and doubles, plus up
/// to the same again at random. So a recovered API server or CRD is noticed within 10 s.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Time after which a working watch resets the pause.
const SETTLED: Duration = Duration::from_mins(2);
/// Objects per page of a list: large pages use memory that is never returned to the system.
const PAGE: u32 = 100;

/// Returns the common configuration of all watches.
#[must_use]
pub fn config() -> watcher::Config {
    watcher::Config::default()
        .timeout(WATCH_SECONDS)
        .page_size(PAGE)
}

/// Keeps a view current, and calls `changed` for every object that was added, changed or deleted.
///
/// `changed` is called *after* the view was updated, so that a requeued controller sees the change.
/// For the same reason one watch serves all controllers, and a list is reported only when it is
/// complete. `scope` is the watched namespace, `None` for all. Never returns.
pub async fn keep<K>(
    client: Client,
    api: impl FnOnce(Client, Option<&str>) -> Api<K>,
    config: watcher::Config,
    scope: Option<String>,
    view: Arc<View<K>>,
    health: Health,
    changed: impl Fn(&K, bool),
) where
    K: Packable,
{
    let what = match &scope {
        Some(namespace) => format!("{} in {namespace}", K::plural(&())),
        None => K::plural(&()).into_owned(),
    };
    let watch = Arc::new(health.watch(what));
    let established = Arc::clone(&watch);
    let reporting = reporting(&client, &health, move || established.works());
    let api = api(reporting, scope.as_deref());
    let namespaces = Api::all(client);
    let mut list = view.list();
    let mut has_listed = false;
    // Managed fields, which no decision reads, would be two thirds of a cached object.
    let events = watcher(api, config)
        .backoff(pauses())
        .modify(|object| object.meta_mut().managed_fields = None);
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Err(error) => {
                watch.failed(problem::<K>(&error, scope.as_deref()));
                // The operator's Role is deleted with the namespace: a missing namespace must not
                // block the others.
                if !has_listed && is_ending(&namespaces, scope.as_deref()).await {
                    has_listed = true;
                    view.listed();
                }
            }
            Ok(Event::Init) => list = view.list(),
            Ok(Event::InitApply(object)) => view.apply_listed(&object, list),
            Ok(Event::InitDone) => {
                take_over(&view, scope.as_deref(), list, &changed);
                if !has_listed {
                    has_listed = true;
                    view.listed();
                }
                watch.works();
            }
            Ok(Event::Apply(object)) => {
                view.apply(&object);
                changed(&object, true);
                watch.works();
            }
            Ok(Event::Delete(object)) => {
                view.delete(&object);
                changed(&object, false);
                watch.works();
            }
        }
    }
}

/// Returns the pauses before a failed watch is retried.
pub(super) fn pauses() -> ResetTimerBackoff<ExponentialBackoff> {
    let pauses = backon::ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(800))
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times();
    ResetTimerBackoff::new(pauses.into(), SETTLED)
}

/// Returns why a watch fails and, if a person must act, what to do.
fn problem<K: Resource<DynamicType = ()>>(error: &watcher::Error, scope: Option<&str>) -> Problem {
    use watcher::Error as E;
    let status = match error {
        E::WatchError(status)
        | E::InitialListFailed(kube::Error::Api(status))
        | E::WatchStartFailed(kube::Error::Api(status))
        | E::WatchFailed(kube::Error::Api(status)) => Some(&**status),
        _ => None,
    };
    let kind = match K::group(&()) {
        group if group.is_empty() => K::plural(&()).into_owned(),
        group => format!("{}.{group}", K::plural(&())),
    };
    let message = match status.map(|status| status.code) {
        Some(404) => {
            format!("the API server does not know {kind}: apply the CRDs of this release (crds/)")
        }
        Some(403) => {
            let place = scope.map_or_else(
                || "in all namespaces".to_owned(),
                |namespace| format!("in namespace {namespace}"),
            );
            format!(
                "the operator is not allowed to list and watch {kind} {place}: grant its \
                 ServiceAccount this permission, as the Helm chart does"
            )
        }
        _ => status.map_or_else(|| innermost(error), |status| status.message.clone()),
    };
    Problem {
        message,
        is_missing: status.is_some_and(|status| matches!(status.code, 403 | 404)),
    }
}

/// Whether the watched namespace is being deleted, or does not exist.
async fn is_ending(namespaces: &Api<Namespace>, scope: Option<&str>) -> bool {
    let Some(scope) = scope else { return false };
    let named = ListParams::default().fields(&format!("metadata.name={scope}"));
    let found = call("read", scope, namespaces.list_metadata(&named)).await;
    found.is_ok_and(|found| {
        let namespace = found.items.first();
        namespace.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some())
    })
}

/// Calls `changed` for all objects of a complete list, and for those that no longer exist because
/// they were not in it.
pub fn take_over<K: Packable>(
    view: &View<K>,
    scope: Option<&str>,
    list: u32,
    changed: &impl Fn(&K, bool),
) {
    for object in view.end_list(list, scope) {
        changed(&object, false);
    }
    for object in view.all(scope) {
        changed(&object, true);
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;
    use crate::crd::AcsToken;

    fn failed(code: u16, scope: Option<&str>) -> Problem {
        let status = Status::failure("the API server's words", "Reason").with_code(code);
        let error = watcher::Error::InitialListFailed(kube::Error::Api(status.boxed()));
        problem::<AcsToken>(&error, scope)
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        for (code, scope, expected) in [
            (
                404,
                None,
                "the API server does not know acstokens.acs-identity.dev: apply the CRDs of this \
                 release (crds/)",
            ),
            (
                403,
                Some("team"),
                "the operator is not allowed to list and watch acstokens.acs-identity.dev in \
                 namespace team: grant its ServiceAccount this permission, as the Helm chart does",
            ),
            (
                403,
                None,
                "the operator is not allowed to list and watch acstokens.acs-identity.dev in all \
                 namespaces: grant its ServiceAccount this permission, as the Helm chart does",
            ),
        ] {
            let problem = failed(code, scope);
            assert_eq!(problem.message, expected);
            assert!(problem.is_missing);
        }
        let problem = failed(500, None);
        assert_eq!(problem.message, "the API server's words");
        assert!(!problem.is_missing);
    }
}
