use parking_lot::Mutex;
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::Requeue;
use crate::cluster::ObjectKey;

/// One lock per identity in ACS: many tokens may be issued at a time, but a revocation is exclusive
/// (R3). No run waits for a lock: an object that does not get it is requeued when it is free.
#[derive(Clone, Debug)]
pub struct Locks {
    held: Arc<Mutex<HashMap<String, Held>>>,
    requeue: Requeue,
}

#[derive(Debug, Default)]
struct Held {
    issues: usize,
    is_revoking: bool,
    refused: BTreeSet<ObjectKey>,
}

/// Held lock. Dropping it requeues the objects that wait for it.
#[derive(Debug)]
pub struct Guard {
    locks: Locks,
    identity_id: String,
}

impl Locks {
    /// Returns a set of locks, all free.
    #[must_use]
    pub fn new(requeue: Requeue) -> Self {
        Self {
            held: Arc::default(),
            requeue,
        }
    }

    /// Returns a guard that keeps revocations from beginning; `None` while a revocation is in
    /// progress.
    #[must_use]
    pub fn issue(&self, identity_id: &str, by: &ObjectKey) -> Option<Guard> {
        self.take(identity_id, by, |held| {
            let is_free = !held.is_revoking;
            held.issues += usize::from(is_free);
            is_free
        })
    }

    /// Returns a guard that keeps issues and other revocations from beginning; `None` while one is
    /// in progress.
    #[must_use]
    pub fn revoke(&self, identity_id: &str, by: &ObjectKey) -> Option<Guard> {
        self.take(identity_id, by, |held| {
            let is_free = !held.is_revoking && held.issues == 0;
            held.is_revoking |= is_free;
            is_free
        })
    }

    fn take(
        &self,
        identity_id: &str,
        by: &ObjectKey,
        take: impl FnOnce(&mut Held) -> bool,
    ) -> Option<Guard> {
        let mut all = self.held.lock();
        let held = all.entry(identity_id.to_owned()).or_default();
        if !take(held) {
            held.refused.insert(by.clone());
            return None;
        }
        drop(all);
        Some(Guard {
            locks: self.clone(),
            identity_id: identity_id.to_owned(),
        })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut all = self.locks.held.lock();
        let Some(held) = all.get_mut(&self.identity_id) else {
            return;
        };
        // A revocation is exclusive, so no issue is in progress beside it.
        held.is_revoking = false;
        held.issues = held.issues.saturating_sub(1);
        if held.issues > 0 {
            return;
        }
        let refused = all.remove(&self.identity_id).unwrap_or_default().refused;
        drop(all);
        for key in refused {
            self.locks.requeue.send(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::AcsToken;
    use kube::runtime::reflector::ObjectRef;

    fn key(name: &str) -> ObjectKey {
        ObjectRef::<AcsToken>::new(name).within("ns").into()
    }

    #[test]
    fn a_revocation_is_alone_and_whom_it_refuses_is_requeued_once() {
        let (requeue, mut requeued) = Requeue::channel();
        let locks = Locks::new(requeue);
        let issues = [locks.issue("1", &key("a")), locks.issue("1", &key("b"))];
        assert!(issues.iter().all(Option::is_some));
        assert!(locks.revoke("1", &key("r")).is_none());
        let other = locks.revoke("2", &key("r"));
        assert!(other.is_some(), "another identity is another lock");
        let [first, second] = issues;
        drop(first);
        assert!(requeued.try_recv().is_err(), "one issue is under way");
        drop(second);
        assert_eq!(requeued.try_recv().ok(), Some(key("r")));
        let revoking = locks.revoke("1", &key("r"));
        assert!(revoking.is_some());
        for _ in 0..2 {
            assert!(locks.issue("1", &key("a")).is_none());
        }
        assert!(locks.revoke("1", &key("s")).is_none());
        drop(revoking);
        let requeued: Vec<_> = std::iter::from_fn(|| requeued.try_recv().ok()).collect();
        assert_eq!(requeued, [key("a"), key("s")]);
        assert_eq!(locks.held.lock().len(), 1, "of the other identity");
    }
}
