use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::cluster::view::lock;

/// One lock per identity in ACS: many may issue side by side, one may revoke alone (R3).
#[derive(Debug, Default)]
pub struct Locks {
    locks: Mutex<HashMap<String, Weak<RwLock<()>>>>,
}

impl Locks {
    /// Waits until no revocation is on the wire; none begins before the guard is dropped.
    pub async fn issue(&self, identity_id: &str) -> OwnedRwLockReadGuard<()> {
        self.of_identity(identity_id).read_owned().await
    }

    /// Waits until no issue is on the wire; none begins before the guard is dropped.
    pub async fn revoke(&self, identity_id: &str) -> OwnedRwLockWriteGuard<()> {
        self.of_identity(identity_id).write_owned().await
    }

    fn of_identity(&self, identity_id: &str) -> Arc<RwLock<()>> {
        let mut locks = lock(&self.locks);
        if let Some(held) = locks.get(identity_id).and_then(Weak::upgrade) {
            return held;
        }
        // Locks that nobody holds any longer go when the map would have to grow.
        if locks.len() == locks.capacity() {
            locks.retain(|_, held| held.strong_count() > 0);
        }
        let new = Arc::default();
        locks.insert(identity_id.to_owned(), Arc::downgrade(&new));
        new
    }
}
