//! What the watches know, with our own writes on top.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt::Debug,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use kube::{
    Resource, ResourceExt,
    runtime::{
        reflector::{
            ObjectRef, Store,
            store::{Writer, store},
        },
        watcher::Event,
    },
};
use tokio::sync::Notify;

/// An object that other objects look up by more than its name.
pub trait Indexed {
    /// The keys that it is found by.
    fn index_keys(&self) -> Vec<String>;
}

/// What we know of all objects of one kind: one cache for all watched namespaces, with our own
/// writes on top.
///
/// A watch tells us of our own write some time after the API server confirmed it. Deciding from the
/// older object would do things twice; so a confirmed write is kept until the watch has caught up.
#[derive(Debug)]
pub struct View<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + 'static,
{
    reader: Store<K>,
    writer: Mutex<Writer<K>>,
    written: Mutex<HashMap<ObjectRef<K>, Written<K>>>,
    index: Mutex<Index<K>>,
    /// The newest version that a watch has told, by namespace.
    told: Mutex<HashMap<Option<String>, u64>>,
    lists_missing: AtomicUsize,
    lists_done: Notify,
}

/// What the API server confirmed of our last write of an object.
#[derive(Debug)]
enum Written<K> {
    Object(Arc<K>),
    /// The object of this UID was deleted.
    Deleted(Option<String>),
}

#[derive(Debug)]
struct Index<K>
where
    K: Resource<DynamicType = ()> + 'static,
{
    by_key: HashMap<String, BTreeSet<(Option<String>, String)>>,
    keys_of: HashMap<ObjectRef<K>, Vec<String>>,
}

impl<K> View<K>
where
    K: Resource<DynamicType = ()> + Indexed + Clone + Debug + 'static,
{
    /// An empty view that `watches` watches will fill.
    #[must_use]
    pub fn new(watches: usize) -> Self {
        let (reader, mut writer) = store();
        // Several watches share the cache, so none of them may replace it as a whole; whether all
        // have listed is counted here instead.
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        Self {
            reader,
            writer: Mutex::new(writer),
            written: Mutex::default(),
            index: Mutex::new(Index {
                by_key: HashMap::new(),
                keys_of: HashMap::new(),
            }),
            told: Mutex::default(),
            lists_missing: AtomicUsize::new(watches),
            lists_done: Notify::new(),
        }
    }

    /// Waits until every watch has listed once; before that, absent means unknown.
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

    /// The newest that we know of the object.
    #[must_use]
    pub fn get(&self, key: &ObjectRef<K>) -> Option<Arc<K>> {
        let cached = self.reader.get(key);
        let mut written = lock(&self.written);
        let newest = match (cached, written.get(key)) {
            (Some(cached), Some(Written::Object(ours))) if !is_newer(&**ours, &*cached) => cached,
            (_, Some(Written::Object(ours))) => return Some(Arc::clone(ours)),
            (Some(cached), Some(Written::Deleted(uid))) if cached.uid() == *uid => return None,
            (cached, _) => cached?,
        };
        written.remove(key);
        Some(newest)
    }

    /// The newest of all objects that are found by `key`.
    #[must_use]
    pub fn find(&self, key: &str) -> Vec<Arc<K>> {
        let refs = self.find_refs(key);
        refs.iter().filter_map(|key| self.get(key)).collect()
    }

    /// The names of all objects that are found by `key`.
    #[must_use]
    pub fn find_refs(&self, key: &str) -> Vec<ObjectRef<K>> {
        let index = lock(&self.index);
        let names = index.by_key.get(key).into_iter().flatten();
        names
            .map(|(namespace, name)| object_ref(namespace.as_deref(), name))
            .collect()
    }

    /// How many objects are found by `key`.
    #[must_use]
    pub fn count(&self, key: &str) -> usize {
        lock(&self.index).by_key.get(key).map_or(0, BTreeSet::len)
    }

    /// Everything that the watches hold.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<K>> {
        self.reader.state()
    }

    /// Remembers what the API server confirmed of a write of ours.
    pub fn wrote(&self, object: K) {
        let key = ObjectRef::from_obj(&object);
        let told = lock(&self.told).get(&key.namespace).copied();
        // One without keys is one that its watch does not select, as a Secret that lost our label.
        let is_watched = !object.index_keys().is_empty();
        if is_watched && self.reader.get(&key).is_none() && version(&object) <= told {
            // The watch was faster than the answer: it has told this write, and its end as well.
            return;
        }
        self.index(&key, Some(&object));
        lock(&self.written).insert(key, Written::Object(Arc::new(object)));
    }

    /// Forgets our write of an object that is gone.
    pub fn forget(&self, key: &ObjectRef<K>) {
        self.index(key, None);
        lock(&self.written).remove(key);
    }

    /// Remembers that the API server confirmed a deletion of ours.
    pub fn deleted(&self, key: &ObjectRef<K>, uid: Option<String>) {
        self.index(key, None);
        lock(&self.written).insert(key.clone(), Written::Deleted(uid));
    }

    /// A watch tells that an object came or changed, or is gone.
    pub fn told(&self, object: &K, is_there: bool) {
        if is_there {
            self.apply(object);
        } else {
            self.delete(object);
        }
    }

    /// A watch tells an object.
    pub fn apply(&self, object: &K) {
        self.tell(object);
        lock(&self.writer).apply_watcher_event(&Event::Apply(object.clone()));
        self.index(&ObjectRef::from_obj(object), Some(object));
    }

    /// A watch tells that an object is gone.
    pub fn delete(&self, object: &K) {
        self.tell(object);
        lock(&self.writer).apply_watcher_event(&Event::Delete(object.clone()));
        self.forget(&ObjectRef::from_obj(object));
    }

    /// A watch has listed for the first time.
    pub fn listed(&self) {
        self.lists_missing.fetch_sub(1, Ordering::Release);
        self.lists_done.notify_waiters();
    }

    fn tell(&self, object: &K) {
        if let Some(version) = version(object) {
            let mut told = lock(&self.told);
            let newest = told.entry(object.namespace()).or_default();
            *newest = version.max(*newest);
        }
    }

    fn index(&self, key: &ObjectRef<K>, object: Option<&K>) {
        let keys = object.map(Indexed::index_keys).unwrap_or_default();
        // An order may have thousands.
        let stays: HashSet<_> = keys.iter().cloned().collect();
        let mut index = lock(&self.index);
        let name = (key.namespace.clone(), key.name.clone());
        let former = if keys.is_empty() {
            index.keys_of.remove(key)
        } else {
            index.keys_of.insert(key.clone(), keys.clone())
        };
        for gone in former
            .into_iter()
            .flatten()
            .filter(|former| !stays.contains(former))
        {
            if let Some(names) = index.by_key.get_mut(&gone) {
                names.remove(&name);
                if names.is_empty() {
                    index.by_key.remove(&gone);
                }
            }
        }
        for key in keys {
            index.by_key.entry(key).or_default().insert(name.clone());
        }
    }
}

/// Names an object.
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

/// Kubernetes promises since 1.35 that resource versions of one kind compare as numbers; earlier
/// servers do it too.
fn version<K: Resource>(object: &K) -> Option<u64> {
    object
        .resource_version()
        .and_then(|version| version.parse().ok())
}

/// A lock that a panic elsewhere does not poison: what our locks guard is never half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
