//! Compressed objects of a view, and their indexes.

use std::{
    collections::{BTreeSet, HashSet},
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::{
    row::{Packable, Packer},
    view::object_ref,
};

/// Index of a row. The handle of a removed row is reused.
pub type Handle = u32;

/// Number of objects that are also kept uncompressed: a reconcile reads the same few several times.
const RECENT: usize = 128;

/// Rows of one kind. Indexes hold handles, and hashes instead of names and keys: with a random seed
/// per process, two of a million collide once in ten million processes.
#[derive(Debug)]
pub struct Rows<K> {
    slots: Vec<Option<Row>>,
    free: Vec<Handle>,
    /// Handles of all rows, by the hash of their name and of each of their keys.
    index: BTreeSet<(u64, Handle)>,
    hasher: RandomState,
    namespaces: HashSet<Arc<str>>,
    packer: Packer,
    recent: Vec<Option<(Handle, Arc<K>)>>,
}

#[derive(Debug)]
struct Row {
    namespace: Option<Arc<str>>,
    name: Box<str>,
    /// Hashes of the keys by which the row is found.
    keys: Box<[u64]>,
    /// Object as last reported by a watch; `None` if only a write of the operator is known.
    packed: Option<Box<[u8]>>,
    /// Number of the last list that contained the row.
    list: u32,
}

impl<K> Default for Rows<K> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: BTreeSet::new(),
            hasher: RandomState::new(),
            namespaces: HashSet::new(),
            packer: Packer::default(),
            recent: vec![const { None }; RECENT],
        }
    }
}

impl<K: Packable> Rows<K> {
    /// Returns the row of this name.
    pub fn named(&self, namespace: Option<&str>, name: &str) -> Option<Handle> {
        let mut found = self.with_hash(self.hash_name(namespace, name));
        found.find(|handle| {
            let row = self.row(*handle);
            row.is_some_and(|row| row.namespace.as_deref() == namespace && *row.name == *name)
        })
    }

    /// Returns the rows that are found by `key`, sorted by name.
    pub fn found_by(&self, key: &str) -> Vec<Handle> {
        let mut found: Vec<_> = self.with_hash(self.hasher.hash_one(key)).collect();
        found.sort_by_key(|handle| self.row(*handle).map(|row| (&row.namespace, &row.name)));
        found
    }

    /// Whether a row is found by `key`.
    pub fn has(&self, key: &str) -> bool {
        self.with_hash(self.hasher.hash_one(key)).next().is_some()
    }

    /// Returns the number of rows that are found by `key`. Visits each of them.
    pub fn count(&self, key: &str) -> usize {
        self.with_hash(self.hasher.hash_one(key)).count()
    }

    /// Returns all rows that a watch reported in the namespace `scope`, or in all; in the order of
    /// handles.
    pub fn reported(&self, scope: Option<&str>) -> impl Iterator<Item = Handle> {
        let rows = (0..).zip(&self.slots);
        rows.filter_map(move |(handle, row)| {
            let row = row.as_ref()?;
            // A `Namespace` object belongs to the scope of its own name.
            let lies_in = row.namespace.as_deref().unwrap_or(&row.name);
            let is_in_scope = scope.is_none_or(|scope| scope == lies_in);
            (is_in_scope && row.packed.is_some()).then_some(handle)
        })
    }

    /// Whether a watch has reported the row.
    pub fn is_reported(&self, handle: Handle) -> bool {
        self.row(handle).is_some_and(|row| row.packed.is_some())
    }

    /// Whether the row was in this list.
    pub fn is_in_list(&self, handle: Handle, list: u32) -> bool {
        self.row(handle).is_some_and(|row| row.list == list)
    }

    /// Returns the reference of the row's object.
    pub fn reference(&self, handle: Handle) -> Option<ObjectRef<K>> {
        let row = self.row(handle)?;
        Some(object_ref(row.namespace.as_deref(), &row.name))
    }

    /// Returns the object as last reported by a watch.
    pub fn get(&mut self, handle: Handle) -> Option<Arc<K>> {
        if let Some(object) = self.recent(handle) {
            return Some(Arc::clone(object));
        }
        let packed = self.row(handle)?.packed.as_deref()?;
        let object = Arc::new(self.packer.unpack(packed)?);
        self.set_recent(handle, Some(Arc::clone(&object)));
        Some(object)
    }

    /// Stores an object that a watch reported, as part of a list or on its own.
    pub fn put(&mut self, object: Arc<K>, list: Option<u32>) {
        let handle = self.row_of(object.namespace().as_deref(), &object.name_any());
        let packed = self.packer.pack(object.as_ref());
        if let Some(row) = self.row_mut(handle) {
            row.packed = Some(packed);
            row.list = list.unwrap_or(row.list);
        }
        self.set_recent(handle, Some(object));
    }

    /// Removes an object that a watch reported as deleted.
    pub fn remove(&mut self, handle: Handle) {
        self.set_recent(handle, None);
        if let Some(row) = self.row_mut(handle) {
            row.packed = None;
        }
        self.free_if_empty(handle);
    }

    /// Replaces the index keys of the object of this name.
    pub fn index(&mut self, namespace: Option<&str>, name: &str, keys: &[String]) {
        let handle = match self.named(namespace, name) {
            None if keys.is_empty() => return,
            Some(handle) => handle,
            None => self.row_of(namespace, name),
        };
        let keys: BTreeSet<_> = keys.iter().map(|key| self.hasher.hash_one(key)).collect();
        let Some(row) = self.row_mut(handle) else {
            return;
        };
        if !keys.iter().eq(&row.keys) {
            let former = std::mem::replace(&mut row.keys, keys.iter().copied().collect());
            for key in former {
                self.index.remove(&(key, handle));
            }
            self.index.extend(keys.into_iter().map(|key| (key, handle)));
        }
        self.free_if_empty(handle);
    }

    fn hash_name(&self, namespace: Option<&str>, name: &str) -> u64 {
        self.hasher.hash_one((namespace, name))
    }

    fn with_hash(&self, hash: u64) -> impl Iterator<Item = Handle> {
        let all = self.index.range((hash, 0)..=(hash, Handle::MAX));
        all.map(|(_, handle)| *handle)
    }

    fn row(&self, handle: Handle) -> Option<&Row> {
        self.slots.get(handle as usize)?.as_ref()
    }

    fn row_mut(&mut self, handle: Handle) -> Option<&mut Row> {
        self.slots.get_mut(handle as usize)?.as_mut()
    }

    /// Returns the row of this name, creating it if there is none.
    fn row_of(&mut self, namespace: Option<&str>, name: &str) -> Handle {
        if let Some(handle) = self.named(namespace, name) {
            return handle;
        }
        let row = Row {
            namespace: namespace.map(|namespace| self.shared(namespace)),
            name: name.into(),
            keys: Box::default(),
            packed: None,
            list: 0,
        };
        let handle = self.free.pop().unwrap_or_else(|| {
            if self.slots.len() == self.slots.capacity() {
                // Doubling the capacity would waste too much memory.
                self.slots.reserve_exact(16 + self.slots.len() / 8);
            }
            self.slots.push(None);
            Handle::try_from(self.slots.len() - 1).unwrap_or(Handle::MAX)
        });
        if let Some(free) = self.slots.get_mut(handle as usize) {
            *free = Some(row);
        }
        self.index.insert((self.hash_name(namespace, name), handle));
        handle
    }

    fn free_if_empty(&mut self, handle: Handle) {
        let Some(slot) = self.slots.get_mut(handle as usize) else {
            return;
        };
        let Some(row) = slot.take_if(|row| row.packed.is_none() && row.keys.is_empty()) else {
            return;
        };
        self.free.push(handle);
        let name = self.hash_name(row.namespace.as_deref(), &row.name);
        self.index.remove(&(name, handle));
        // The row's own reference and the one in the set.
        if let Some(last) = row.namespace.filter(|it| Arc::strong_count(it) <= 2) {
            self.namespaces.remove(&last);
        }
    }

    fn shared(&mut self, namespace: &str) -> Arc<str> {
        if let Some(known) = self.namespaces.get(namespace) {
            return Arc::clone(known);
        }
        let shared: Arc<str> = namespace.into();
        self.namespaces.insert(Arc::clone(&shared));
        shared
    }

    fn recent(&self, handle: Handle) -> Option<&Arc<K>> {
        let (its, object) = self.recent.get(handle as usize % RECENT)?.as_ref()?;
        (*its == handle).then_some(object)
    }

    fn set_recent(&mut self, handle: Handle, object: Option<Arc<K>>) {
        if let Some(recent) = self.recent.get_mut(handle as usize % RECENT) {
            *recent = object.map(|object| (handle, object));
        }
    }
}
