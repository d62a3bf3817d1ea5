//! Per identity in ACS, issuing and revoking exclude each other (R3).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::cluster::view::lock;

/// One gate per identity in ACS: many may issue side by side, one may revoke alone.
#[derive(Debug, Default)]
pub struct Gates {
    gates: Mutex<HashMap<String, Weak<RwLock<()>>>>,
}

impl Gates {
    /// Waits until no revocation is on the wire; none begins before the guard is dropped.
    pub async fn issue(&self, identity_id: &str) -> OwnedRwLockReadGuard<()> {
        self.gate(identity_id).read_owned().await
    }

    /// Waits until no issue is on the wire; none begins before the guard is dropped.
    pub async fn revoke(&self, identity_id: &str) -> OwnedRwLockWriteGuard<()> {
        self.gate(identity_id).write_owned().await
    }

    fn gate(&self, identity_id: &str) -> Arc<RwLock<()>> {
        let mut gates = lock(&self.gates);
        if let Some(gate) = gates.get(identity_id).and_then(Weak::upgrade) {
            return gate;
        }
        // Gates that nobody holds any longer go when the map would have to grow.
        if gates.len() == gates.capacity() {
            gates.retain(|_, gate| gate.strong_count() > 0);
        }
        let gate = Arc::default();
        gates.insert(identity_id.to_owned(), Arc::downgrade(&gate));
        gate
    }
}
