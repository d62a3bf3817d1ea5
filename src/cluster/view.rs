use std::{
    collections::{BTreeSet, HashMap},
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::{
    Resource, ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};

/// An object that other objects look up by more than its name.
pub trait Indexed {
    /// The keys that it is found by.
    fn index_keys(&self) -> Vec<String>;
}

/// What we know of all objects of one kind: the caches of our watches, with our own writes on top.
///
/// A watch tells us of our own write some time after the API server confirmed it. Deciding from the
/// older object would do things twice; so a confirmed write is kept until the watch has caught up.
#[derive(Debug)]
pub struct View<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + 'static,
{
    scopes: Vec<(Option<String>, Store<K>)>,
    written: Mutex<HashMap<ObjectRef<K>, Arc<K>>>,
    index: Mutex<Index<K>>,
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
    /// A view of the given caches, one per watched namespace (`None` = all of them).
    #[must_use]
    pub fn new(scopes: Vec<(Option<String>, Store<K>)>) -> Self {
        let index = Index { by_key: HashMap::new(), keys_of: HashMap::new() };
        Self { scopes, written: Mutex::default(), index: Mutex::new(index) }
    }

    /// Waits until every cache was filled once; before that, absent means unknown.
    pub async fn ready(&self) {
        for (_, store) in &self.scopes {
            // An error means that the watch ended, and with it the process.
            let _ = store.wait_until_ready().await;
        }
    }

    /// The newest that we know of the object.
    #[must_use]
    pub fn get(&self, key: &ObjectRef<K>) -> Option<Arc<K>> {
        let cached = self
            .scopes
            .iter()
            .find(|(scope, _)| scope.is_none() || *scope == key.namespace)
            .and_then(|(_, store)| store.get(key));
        let mut written = lock(&self.written);
        match (cached, written.get(key)) {
            (Some(cached), Some(ours)) if !is_newer(ours.as_ref(), cached.as_ref()) => {
                written.remove(key);
                Some(cached)
            }
            (_, Some(ours)) => Some(Arc::clone(ours)),
            (cached, None) => cached,
        }
    }

    /// The newest of all objects that are found by `key`.
    #[must_use]
    pub fn find(&self, key: &str) -> Vec<Arc<K>> {
        let names = lock(&self.index).by_key.get(key).cloned().unwrap_or_default();
        names
            .into_iter()
            .filter_map(|(namespace, name)| {
                let mut key = ObjectRef::new(&name);
                key.namespace = namespace;
                self.get(&key)
            })
            .collect()
    }

    /// Everything that the watches hold.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<K>> {
        self.scopes.iter().flat_map(|(_, store)| store.state()).collect()
    }

    /// Remembers what the API server confirmed of a write of ours.
    pub fn wrote(&self, object: K) {
        let key = ObjectRef::from_obj(&object);
        self.index(&key, Some(&object));
        lock(&self.written).insert(key, Arc::new(object));
    }

    /// Forgets our write of an object that is gone.
    pub fn forget(&self, key: &ObjectRef<K>) {
        self.index(key, None);
        lock(&self.written).remove(key);
    }

    /// Forgets our writes: a list that was made after them has just told everything.
    pub(super) fn forget_all(&self) {
        lock(&self.written).clear();
    }

    /// Takes in what a watch tells: the object, or `None` for one that is gone.
    pub(super) fn told(&self, key: &ObjectRef<K>, object: Option<&K>) {
        match object {
            Some(_) => self.index(key, object),
            None => self.forget(key),
        }
    }

    fn index(&self, key: &ObjectRef<K>, object: Option<&K>) {
        let keys = object.map(Indexed::index_keys).unwrap_or_default();
        let mut index = lock(&self.index);
        let name = (key.namespace.clone(), key.name.clone());
        let former = if keys.is_empty() {
            index.keys_of.remove(key)
        } else {
            index.keys_of.insert(key.clone(), keys.clone())
        };
        for gone in former.into_iter().flatten().filter(|former| !keys.contains(former)) {
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

/// Whether `left` is newer than `right`, or another object of the same name.
///
/// Kubernetes promises since 1.35 that resource versions of one kind compare as numbers; earlier
/// servers do it too.
fn is_newer<K: Resource>(left: &K, right: &K) -> bool {
    let version = |object: &K| object.resource_version().and_then(|v| v.parse::<u64>().ok());
    version(left) > version(right)
}

/// A lock that a panic elsewhere does not poison: what it guards is replaced as a whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
