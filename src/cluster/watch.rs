//! Keeps a view current.

use std::{collections::HashSet, fmt::Debug, pin::pin, sync::Arc};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Resource,
    api::ListParams,
    runtime::{
        WatchStreamExt,
        reflector::ObjectRef,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;

use super::{
    call,
    view::{Indexed, View},
};
use crate::health::Health;

/// Quiet watches are dropped by some load balancers after four minutes; ours end before (seconds).
const WATCH_SECONDS: u32 = 200;
/// Objects per page of a list: large pages cost memory that is never given back.
const PAGE: u32 = 100;

/// What every watch asks for.
#[must_use]
pub fn config() -> watcher::Config {
    watcher::Config::default()
        .timeout(WATCH_SECONDS)
        .page_size(PAGE)
}

/// Keeps a view current, and tells `changed` of every object that came, changed or went.
///
/// `changed` is called *after* the view knows, so whoever it wakes sees what woke it. That is why
/// one watch serves all controllers, and why a list is told only when it is complete.
/// `scope` is the watched namespace, `None` for all. Never returns.
pub async fn keep<K>(
    api: Api<K>,
    config: watcher::Config,
    scope: Option<String>,
    view: Arc<View<K>>,
    health: Health,
    changed: impl Fn(&K, bool),
) where
    K: Resource<DynamicType = ()> + Indexed + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let what = match &scope {
        Some(namespace) => format!("{} in {namespace}", K::plural(&())),
        None => K::plural(&()).into_owned(),
    };
    let watch = health.watch(what);
    let namespaces = Api::all(api.clone().into_client());
    let mut listed: Option<Vec<K>> = None;
    let mut has_listed = false;
    // Two thirds of a cached object would be field managers, which no decision reads.
    let events = watcher(api, config)
        .default_backoff()
        .modify(|object| object.meta_mut().managed_fields = None);
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Err(error) => {
                watch.failed(&error);
                // Its Role goes with a namespace: what is not there must not hold up the others.
                if !has_listed && is_ending(&namespaces, scope.as_deref()).await {
                    has_listed = true;
                    view.listed();
                }
            }
            Ok(Event::Init) => listed = Some(Vec::new()),
            Ok(Event::InitApply(object)) => listed.get_or_insert_default().push(object),
            Ok(Event::InitDone) => {
                take_over(
                    &view,
                    scope.as_deref(),
                    &listed.take().unwrap_or_default(),
                    &changed,
                );
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

/// Whether the watched namespace is being deleted, or is gone.
async fn is_ending(namespaces: &Api<Namespace>, scope: Option<&str>) -> bool {
    let Some(scope) = scope else { return false };
    let named = ListParams::default().fields(&format!("metadata.name={scope}"));
    let found = call("read", scope, namespaces.list_metadata(&named)).await;
    found.is_ok_and(|found| {
        let namespace = found.items.first();
        namespace.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some())
    })
}

/// Takes a complete list over: what is not in it is gone.
fn take_over<K>(view: &View<K>, scope: Option<&str>, listed: &[K], changed: &impl Fn(&K, bool))
where
    K: Resource<DynamicType = ()> + Indexed + Clone + Debug + 'static,
{
    let there: HashSet<_> = listed.iter().map(ObjectRef::from_obj).collect();
    let is_gone = |object: &K| {
        let key = ObjectRef::from_obj(object);
        // A Namespace is in the scope that it is.
        let lies_in = key.namespace.as_deref().unwrap_or(&key.name);
        scope.is_none_or(|scope| scope == lies_in) && !there.contains(&key)
    };
    let gone: Vec<_> = view
        .all()
        .into_iter()
        .filter(|object| is_gone(object))
        .collect();
    for object in listed {
        view.apply(object);
    }
    for object in gone {
        view.delete(&object);
        changed(&object, false);
    }
    for object in listed {
        changed(object, true);
    }
}
