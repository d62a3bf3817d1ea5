//! Watch caches, with the operator's own writes on top.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use kube::{Resource, ResourceExt, runtime::reflector::ObjectRef};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{row::Packable, rows::Rows};

/// Cache of all objects of one kind: one for all watched namespaces, with the operator's own writes
/// on top.
///
/// A watch reports a write of the operator some time after the API server confirmed it. A decision
/// based on the older object would repeat an action; so a confirmed write is kept until the watch
/// has caught up, or has listed again since: an object that is not in the list no longer exists, as
/// after a restore of etcd.
#[derive(Debug)]
pub struct View<K: Packable> {
    rows: Mutex<Rows<K>>,
    written: Mutex<HashMap<ObjectRef<K>, Written<K>>>,
    /// Newest resource version that a watch has reported, by namespace.
    newest_reported: Mutex<HashMap<Option<String>, u64>>,
    lists: AtomicU32,
    lists_missing: AtomicUsize,
    lists_done: Notify,
}

/// Result of the operator's last write of an object, confirmed by the API server.
#[derive(Debug)]
struct Written<K> {
    what: What<K>,
    /// Number of the latest list that had begun when the write was confirmed.
    list: u32,
}

#[derive(Debug)]
enum What<K> {
    Object(Arc<K>),
    /// The object with this UID was deleted.
    Deleted(Option<String>),
}

impl<K: Packable> View<K> {
    /// Creates an empty view that `watches` watches will fill.
    #[must_use]
    pub fn new(watches: usize) -> Self {
        Self {
            rows: Mutex::default(),
            written: Mutex::default(),
            newest_reported: Mutex::default(),
            lists: AtomicU32::new(0),
            lists_missing: AtomicUsize::new(watches),
            lists_done: Notify::new(),
        }
    }

    /// Waits until every watch has listed once; before that, a missing object may exist.
    pub async fn ready(&self) {
        loop {
            let done = self.lists_done.notified();
            if self.is_ready() {
                return;
            }
            done.await;
        }
    }

    /// Whether every watch has listed once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.lists_missing.load(Ordering::Acquire) == 0
    }

    /// Returns the newest known version of the object.
    #[must_use]
    pub fn get(&self, key: &ObjectRef<K>) -> Option<Arc<K>> {
        let cached = self.cached(key);
        let mut written = self.written.lock();
        let newest = match (cached, written.get(key).map(|it| &it.what)) {
            (Some(cached), Some(What::Object(ours))) if !is_newer(&**ours, &*cached) => cached,
            (_, Some(What::Object(ours))) => return Some(Arc::clone(ours)),
            (Some(cached), Some(What::Deleted(uid))) if cached.uid() == *uid => return None,
            (cached, _) => cached?,
        };
        written.remove(key);
        Some(newest)
    }

    fn cached(&self, key: &ObjectRef<K>) -> Option<Arc<K>> {
        let mut rows = self.rows.lock();
        let handle = rows.named(key.namespace.as_deref(), &key.name)?;
        rows.get(handle)
    }

    /// Returns the newest version of all objects that are found by `key`, sorted by name. Each is
    /// decompressed when the iterator reaches it.
    pub fn find<'a>(&'a self, key: &str) -> impl Iterator<Item = Arc<K>> + use<'a, K> {
        let refs = self.find_refs(key);
        refs.into_iter().filter_map(|key| self.get(&key))
    }

    /// Returns the references of all objects that are found by `key`.
    #[must_use]
    pub fn find_refs(&self, key: &str) -> Vec<ObjectRef<K>> {
        let rows = self.rows.lock();
        let found = rows.found_by(key).into_iter();
        found.filter_map(|handle| rows.reference(handle)).collect()
    }

    /// Whether an object is found by `key`.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.rows.lock().has(key)
    }

    /// Returns the number of objects that are found by `key`. Visits each of them.
    #[must_use]
    pub fn count(&self, key: &str) -> usize {
        self.rows.lock().count(key)
    }

    /// Returns the references of all objects that watches reported in the namespace `scope`, or in
    /// all.
    #[must_use]
    pub fn refs(&self, scope: Option<&str>) -> Vec<ObjectRef<K>> {
        let rows = self.rows.lock();
        let reported = rows.reported(scope);
        reported
            .filter_map(|handle| rows.reference(handle))
            .collect()
    }

    /// Returns all objects that watches reported in the namespace `scope`, or in all. Each is
    /// decompressed when the iterator reaches it.
    pub fn all<'a>(&'a self, scope: Option<&str>) -> impl Iterator<Item = Arc<K>> + use<'a, K> {
        let reported: Vec<_> = self.rows.lock().reported(scope).collect();
        reported
            .into_iter()
            .filter_map(|handle| self.rows.lock().get(handle))
    }

    /// Records the result of a confirmed write of the operator.
    pub fn wrote(&self, mut object: K) {
        object.slim();
        let key = ObjectRef::from_obj(&object);
        let reported = self.newest_reported.lock().get(&key.namespace).copied();
        // An object without keys is not selected by its watch, such as a Secret that lost the
        // operator's label.
        let is_watched = !object.index_keys().is_empty();
        if is_watched && !self.is_reported(&key) && version(&object) <= reported {
            // The watch was faster than the answer: it has already reported this write, and the
            // deletion that followed.
            return;
        }
        self.index(&key, Some(&object));
        self.overlay(key, What::Object(Arc::new(object)));
    }

    fn is_reported(&self, key: &ObjectRef<K>) -> bool {
        let rows = self.rows.lock();
        let handle = rows.named(key.namespace.as_deref(), &key.name);
        handle.is_some_and(|handle| rows.is_reported(handle))
    }

    /// Drops the recorded write of an object that no longer exists.
    fn forget(&self, key: &ObjectRef<K>) {
        self.index(key, None);
        self.written.lock().remove(key);
    }

    /// Records a confirmed deletion by the operator.
    pub fn deleted(&self, key: &ObjectRef<K>, uid: Option<String>) {
        self.index(key, None);
        self.overlay(key.clone(), What::Deleted(uid));
    }

    fn overlay(&self, key: ObjectRef<K>, what: What<K>) {
        let list = self.lists.load(Ordering::Relaxed);
        self.written.lock().insert(key, Written { what, list });
    }

    /// Records an object that a watch reported as added, changed or deleted.
    pub fn receive(&self, object: &K, is_there: bool) {
        if is_there {
            self.apply(object);
        } else {
            self.delete(object);
        }
    }

    /// Records an object that a watch reported.
    pub fn apply(&self, object: &K) {
        self.record_version(object);
        self.put(object, None);
    }

    /// Records an object that a watch reported as deleted.
    pub fn delete(&self, object: &K) {
        self.record_version(object);
        let key = ObjectRef::from_obj(object);
        self.forget(&key);
        let mut rows = self.rows.lock();
        if let Some(handle) = rows.named(key.namespace.as_deref(), &key.name) {
            rows.remove(handle);
        }
    }

    /// Records that a watch begins to list. Returns the number of the list.
    pub fn list(&self) -> u32 {
        self.lists.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Records an object of a list that is not complete yet.
    pub fn apply_listed(&self, object: &K, list: u32) {
        self.put(object, Some(list));
    }

    /// Records that the list of the namespace `scope`, or of all, is complete: objects that were
    /// not in it no longer exist. Returns these objects.
    pub fn end_list(&self, list: u32, scope: Option<&str>) -> Vec<Arc<K>> {
        self.forget_before(list, scope);
        for object in self.all(scope) {
            self.record_version(&*object);
        }
        let gone: Vec<_> = {
            let mut rows = self.rows.lock();
            let gone: Vec<_> = rows.reported(scope).collect();
            let gone = gone.into_iter();
            let gone = gone.filter_map(|handle| {
                if rows.is_in_list(handle, list) {
                    None
                } else {
                    rows.get(handle)
                }
            });
            gone.collect()
        };
        for object in &gone {
            self.delete(object);
        }
        gone
    }

    /// Drops recorded writes that the list would have shown: its content is newer.
    fn forget_before(&self, list: u32, scope: Option<&str>) {
        let is_of = |key: &ObjectRef<K>| scope.is_none() || key.namespace.as_deref() == scope;
        let mut written = self.written.lock();
        let outdated = written.extract_if(|key, it| is_of(key) && it.list < list);
        let outdated: Vec<_> = outdated.map(|(key, _)| key).collect();
        drop(written);
        for key in outdated {
            let listed = self.cached(&key);
            self.index(&key, listed.as_deref());
        }
    }

    /// Records that a watch has listed for the first time.
    pub fn listed(&self) {
        self.lists_missing.fetch_sub(1, Ordering::Release);
        self.lists_done.notify_waiters();
    }

    fn record_version(&self, object: &K) {
        if let Some(version) = version(object) {
            let mut reported = self.newest_reported.lock();
            let newest = reported.entry(object.namespace()).or_default();
            *newest = version.max(*newest);
        }
    }

    fn put(&self, object: &K, list: Option<u32>) {
        let mut kept = object.clone();
        kept.slim();
        self.rows.lock().put(Arc::new(kept), list);
        let key = ObjectRef::from_obj(object);
        self.index(&key, Some(object));
        let mut written = self.written.lock();
        if let Some(What::Object(ours)) = written.get(&key).map(|it| &it.what)
            && !is_newer(&**ours, object)
        {
            written.remove(&key);
        }
    }

    fn index(&self, key: &ObjectRef<K>, object: Option<&K>) {
        let keys = object.map(Packable::index_keys).unwrap_or_default();
        self.rows
            .lock()
            .index(key.namespace.as_deref(), &key.name, &keys);
    }
}

/// Returns the reference of an object.
#[must_use]
pub fn object_ref<K: Resource<DynamicType = ()>>(
    namespace: Option<&str>,
    name: &str,
) -> ObjectRef<K> {
    let mut key = ObjectRef::new(name);
    key.namespace = namespace.map(ToOwned::to_owned);
    key
}

/// Whether `left` is newer than `right`, or another object of the same name.
fn is_newer<K: Resource>(left: &K, right: &K) -> bool {
    version(left) > version(right)
}

/// Since Kubernetes 1.35, resource versions of one kind are guaranteed to compare as numbers;
/// earlier servers do it too.
fn version<K: Resource>(object: &K) -> Option<u64> {
    object
        .resource_version()
        .and_then(|version| version.parse().ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{cluster::index, crd::AcsToken};

    fn token(namespace: &str, name: &str, version: u64) -> AcsToken {
        let object = json!({
            "metadata": {
                "name": name, "namespace": namespace, "uid": format!("uid-{name}"),
                "resourceVersion": version.to_string(),
            },
            "spec": {"identityRef": {"name": "alice"}},
        });
        serde_json::from_value(object).unwrap()
    }

    fn names(found: impl IntoIterator<Item = ObjectRef<AcsToken>>) -> Vec<String> {
        let name = |it: ObjectRef<_>| format!("{}/{}", it.namespace.unwrap_or_default(), it.name);
        found.into_iter().map(name).collect()
    }

    fn version_of(view: &View<AcsToken>, name: &str) -> Option<String> {
        view.get(&object_ref(Some("ns"), name))?.resource_version()
    }

    #[test]
    fn what_a_complete_list_does_not_hold_is_gone_from_its_namespace_only() {
        let view = View::new(2);
        for (namespace, name) in [("ns", "a"), ("ns", "b"), ("other", "c")] {
            view.apply(&token(namespace, name, 1));
        }
        // The list is interrupted, and its content does not count.
        let broken = view.list();
        view.apply_listed(&token("ns", "a", 1), broken);
        let list = view.list();
        view.apply_listed(&token("ns", "b", 5), list);
        assert_eq!(version_of(&view, "a").as_deref(), Some("1"), "not complete");
        let gone = view.end_list(list, Some("ns"));
        assert_eq!(
            names(gone.iter().map(|it| ObjectRef::from_obj(&**it))),
            ["ns/a"]
        );
        assert_eq!(version_of(&view, "b").as_deref(), Some("5"));
        assert_eq!(names(view.refs(None)).len(), 2);
        assert_eq!(
            names(view.find_refs(&index::of_identity("ns", "alice"))),
            ["ns/b"]
        );
        // The free row belongs to another object.
        view.apply(&token("ns", "d", 6));
        assert_eq!(version_of(&view, "a"), None);
        assert_eq!(
            names(view.find_refs(&index::of_identity("ns", "alice"))),
            ["ns/b", "ns/d"]
        );
    }

    #[test]
    fn our_write_counts_until_the_watch_has_caught_up() {
        let view = View::new(1);
        view.apply(&token("ns", "a", 1));
        view.wrote(token("ns", "a", 3));
        view.apply(&token("ns", "a", 2));
        assert_eq!(version_of(&view, "a").as_deref(), Some("3"));
        view.apply(&token("ns", "a", 3));
        assert!(view.written.lock().is_empty());
        view.deleted(&object_ref(Some("ns"), "a"), Some("uid-a".to_owned()));
        view.apply(&token("ns", "a", 3));
        assert_eq!(version_of(&view, "a"), None);
    }

    #[test]
    fn a_list_that_began_after_our_write_is_believed_whatever_its_versions_are() {
        let view = View::new(1);
        for name in ["a", "b"] {
            view.apply(&token("ns", name, 1));
        }
        view.wrote(token("ns", "a", 8));
        view.wrote(token("ns", "new", 9));
        view.deleted(&object_ref(Some("ns"), "b"), Some("uid-b".to_owned()));
        let list = view.list();
        view.wrote(token("ns", "late", 12));
        // After a restore of etcd, later writes and deletions are undone.
        for name in ["a", "b"] {
            view.apply_listed(&token("ns", name, 1), list);
        }
        assert!(view.end_list(list, Some("ns")).is_empty());
        assert_eq!(version_of(&view, "a").as_deref(), Some("1"));
        assert_eq!(version_of(&view, "b").as_deref(), Some("1"));
        assert_eq!(version_of(&view, "new"), None);
        assert_eq!(version_of(&view, "late").as_deref(), Some("12"));
        assert_eq!(
            names(view.find_refs(&index::of_identity("ns", "alice"))),
            ["ns/a", "ns/b", "ns/late"]
        );
    }

    #[test]
    fn a_list_that_is_not_complete_outdates_no_write_of_an_object_that_it_may_still_bring() {
        let view = View::new(1);
        let list = view.list();
        view.apply_listed(&token("ns", "a", 9), list);
        view.wrote(token("ns", "b", 4));
        assert_eq!(version_of(&view, "b").as_deref(), Some("4"));
        view.apply_listed(&token("ns", "b", 4), list);
        assert!(view.end_list(list, None).is_empty());
        // The watch has now reported everything up to 9: what it does not contain was created and
        // deleted meanwhile.
        view.wrote(token("ns", "c", 8));
        assert_eq!(version_of(&view, "c"), None);
    }
}
