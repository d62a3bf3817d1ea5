use std::{collections::HashSet, fmt::Debug, pin::pin, sync::Arc};

use futures::StreamExt;
use kube::{
    Api, Resource,
    runtime::{
        WatchStreamExt,
        reflector::{ObjectRef, store::Writer},
        watcher,
    },
};
use serde::de::DeserializeOwned;

use super::view::{Indexed, View};
use crate::health::Health;

/// Quiet watches are dropped by some load balancers after four minutes; ours end before (seconds).
const WATCH_SECONDS: u32 = 200;
/// Objects per page of a list: large pages cost memory that is never given back.
const PAGE: u32 = 100;

/// What every watch asks for.
#[must_use]
pub fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE)
}

/// Keeps a cache current, and tells `changed` of every object that came, changed or went.
///
/// `changed` is called *after* the cache knows; whoever it wakes sees what woke it. That is why one
/// watch serves all controllers, and why an initial list is told only when it is complete.
/// Never returns.
pub async fn keep<K>(
    api: Api<K>,
    config: watcher::Config,
    mut writer: Writer<K>,
    view: Arc<View<K>>,
    health: Health,
    what: String,
    changed: impl Fn(&ObjectRef<K>, Option<&K>),
) where
    K: Resource<DynamicType = ()> + Indexed + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let reader = writer.as_reader();
    let watch = health.watch(what);
    let mut listed: Vec<K> = Vec::new();
    // Two thirds of a cached object would be field managers, which no decision reads.
    let events = watcher(api, config)
        .default_backoff()
        .modify(|object| object.meta_mut().managed_fields = None);
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                watch.failed(&error);
                continue;
            }
        };
        let before: Vec<_> = match &event {
            watcher::Event::InitDone => reader.state(),
            _ => Vec::new(),
        };
        writer.apply_watcher_event(&event);
        watch.works(!matches!(event, watcher::Event::Init | watcher::Event::InitApply(_)));
        match event {
            watcher::Event::Init => listed.clear(),
            watcher::Event::InitApply(object) => listed.push(object),
            watcher::Event::Apply(object) => tell(&view, &changed, &object, true),
            watcher::Event::Delete(object) => tell(&view, &changed, &object, false),
            watcher::Event::InitDone => {
                view.forget_all();
                let there: HashSet<_> = listed.iter().map(ObjectRef::from_obj).collect();
                for gone in before.iter().filter(|old| !there.contains(&ObjectRef::from_obj(&***old))) {
                    tell(&view, &changed, gone, false);
                }
                for object in listed.drain(..) {
                    tell(&view, &changed, &object, true);
                }
            }
        }
    }
}

fn tell<K>(view: &View<K>, changed: &impl Fn(&ObjectRef<K>, Option<&K>), object: &K, is_there: bool)
where
    K: Resource<DynamicType = ()> + Indexed + Clone + Debug + 'static,
{
    let key = ObjectRef::from_obj(object);
    view.told(&key, is_there.then_some(object));
    changed(&key, is_there.then_some(object));
}
