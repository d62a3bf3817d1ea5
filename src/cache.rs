//! Cached state of single objects. It holds nothing that a correct decision requires, because a
//! restart loses all of it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use secrecy::SecretString;

use crate::{
    acs::Resolved,
    cluster::ObjectKey,
    crd::{AcsToken, ConnectionKey, Reason, SecretKeyRef, TokenRecord, WorkloadKey},
    renewal,
};

/// Cached state of one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedState {
    /// Intent in the status that this process recorded, while its call is not sent yet.
    pub intent: Option<Timestamp>,
    /// Time at which a demand for a revocation was first seen.
    pub asked_since: Option<Timestamp>,
    /// Time at which the deletion of the object was first seen, by the operator's clock.
    pub deleted: Option<Timestamp>,
    /// Time and duration of the last request of ACS not to be called.
    pub retry_after: Option<(Timestamp, SignedDuration)>,
    /// Time at which this process first saw the object.
    pub first_seen: Option<Timestamp>,
    /// Whether ACS last answered that the identity does not exist, or that it does (T8).
    pub is_missing: Option<bool>,
    /// Token that was issued and is in no Secret yet. It is written later, not issued again (T7).
    pub held: Option<Arc<HeldToken>>,
    /// Secret as it was last read or written, until the status records it.
    pub secret: Option<Arc<ReadSecret>>,
    /// Whether the Secret may differ from the status and the watch, so that it has to be read.
    pub doubts_secret: bool,
    /// Entra token of a Teams user as it was last read.
    pub user_token: Option<ReadUserToken>,
    /// Fingerprint of the Entra token of the last failed call.
    pub failed_user_token: Option<String>,
    /// Rewrites of the Secret with the same token.
    pub rewrites: Option<Rewrites>,
    /// Time of the last repair after an edit of the Secret.
    pub repaired: Option<Timestamp>,
    /// Time of the last write after a deletion of the Secret.
    pub recreated: Option<Timestamp>,
    /// Whether it was reported what is left behind in ACS.
    pub is_abandonment_reported: bool,
    /// Generation of a connection's spec at which its users were last requeued.
    pub generation: Option<i64>,
    /// Time at which the tokens of a connection, or the pods that use a Secret, were last counted.
    pub counted: Option<Timestamp>,
    /// Number of those tokens that a former credential issued.
    pub former_tokens: i64,
    /// Time at which the progress of a revocation was last written.
    pub progress_told: Option<Timestamp>,
    /// Whether the targets of a revocation were requeued.
    pub is_order_told: bool,
}

impl ObservedState {
    /// Returns the time before which ACS asked not to be called.
    #[must_use]
    pub fn not_before(&self, now: Timestamp) -> Option<Timestamp> {
        let (since, wait) = self.retry_after?;
        renewal::pause(since, wait, now)
    }
}

/// Number of rewrites of a Secret with the same token, because others change its metadata or other
/// data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrites {
    /// Generation of the spec at the time of the rewrites.
    pub generation: Option<i64>,
    /// Number of rewrites, each within an hour of the one before.
    pub count: i32,
    /// Time of the last rewrite.
    pub last: Timestamp,
}

impl Rewrites {
    /// Number of rewrites for one spec after which a warning names the other writer and further
    /// rewrites are delayed.
    pub const MOST: i32 = 3;
    /// Minimum time between further rewrites.
    const INTERVAL: SignedDuration = SignedDuration::from_mins(5);

    /// Returns the count with another rewrite at `now`.
    #[must_use]
    pub fn after(former: Option<Self>, token: &AcsToken, now: Timestamp) -> Self {
        let generation = token.metadata.generation;
        let is_recent =
            |former: &Self| renewal::pause(former.last, Self::INTERVAL * 12, now).is_some();
        let count = match former.filter(is_recent) {
            Some(former) if former.generation == generation => former.count.saturating_add(1),
            // If others kept changing the Secret before, a new spec gets one rewrite.
            Some(former) if former.count >= Self::MOST => Self::MOST,
            _ => 1,
        };
        Self {
            generation,
            count,
            last: now,
        }
    }

    /// Returns when the next rewrite is due; `None` if it may happen now.
    #[must_use]
    pub fn pause(&self, token: &AcsToken, now: Timestamp) -> Option<Timestamp> {
        let is_over = self.count >= Self::MOST && self.generation == token.metadata.generation;
        is_over
            .then(|| renewal::pause(self.last, Self::INTERVAL, now))
            .flatten()
    }
}

/// Last restart of a workload, for whatever token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastRestart {
    /// Time of the last attempt.
    pub tried: Timestamp,
    /// Time of the last restart, as its annotation has it.
    pub restarted: Option<Timestamp>,
}

impl LastRestart {
    /// Time for which it is kept.
    const COUNTS: SignedDuration = SignedDuration::from_hours(1);
}

/// Secrets with pods to annotate, by namespace.
#[derive(Debug, Default)]
struct Nudges {
    queued: BTreeMap<String, BTreeSet<String>>,
    is_worked_on: bool,
}

/// Token that is held in memory until it is in a Secret.
#[derive(Debug)]
pub struct HeldToken {
    /// Record of the token.
    pub record: TokenRecord,
    /// The token itself.
    pub token: SecretString,
    /// Endpoint that issued it.
    pub endpoint: String,
}

impl PartialEq for HeldToken {
    fn eq(&self, other: &Self) -> bool {
        // The record has the fingerprint of the token.
        self.record == other.record && self.endpoint == other.endpoint
    }
}

/// Description of a Secret's data, valid for one resource version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadSecret {
    /// Name of the Secret.
    pub name: String,
    /// Resource version of the Secret.
    pub version: String,
    /// Digest of its data, with the token's fingerprint in place of the token.
    pub digest: String,
    /// Fingerprint of the token, if the Secret holds one.
    pub fingerprint: Option<String>,
    /// Whether the Secret is immutable.
    pub is_immutable: bool,
}

/// Description of a Teams user's Entra token, valid for one resource version of its Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadUserToken {
    /// Reference to the key of the Secret.
    pub reference: SecretKeyRef,
    /// Resource version of the Secret; `None` if there is no Secret.
    pub version: Option<String>,
    /// State of the Entra token.
    pub view: UserTokenView,
}

/// Identity that was created and that no status records yet (I6).
#[derive(Clone, Debug)]
pub struct Created {
    /// UID of the object that it was created for.
    pub uid: String,
    /// Id in ACS.
    pub id: String,
    /// Resolved connection that can delete it if the object no longer exists.
    pub via: Resolved,
    /// Connection that `via` was resolved from.
    pub connection: ConnectionKey,
}

/// Cached state of all objects, by UID; of created identities, by the name of their object, because
/// the object may no longer exist; and of workloads that were restarted recently.
#[derive(Debug, Default)]
pub struct Cache {
    objects: Mutex<HashMap<Box<str>, Entry>>,
    created: Mutex<HashMap<ObjectKey, Created>>,
    restarts: Mutex<HashMap<WorkloadKey, LastRestart>>,
    nudges: Mutex<Nudges>,
}

/// Cached state of one object. At rest only a token's Secret is left, so it has a field of its own.
#[derive(Debug)]
struct Entry {
    secret: Option<Arc<ReadSecret>>,
    others: Option<Box<ObservedState>>,
}

impl Cache {
    /// Returns the cached state of an object.
    #[must_use]
    pub fn get(&self, uid: &str) -> ObservedState {
        let objects = self.objects.lock();
        let Some(kept) = objects.get(uid) else {
            return ObservedState::default();
        };
        ObservedState {
            secret: kept.secret.clone(),
            ..kept.others.as_deref().cloned().unwrap_or_default()
        }
    }

    /// Changes the cached state of an object.
    pub fn change(&self, uid: &str, change: impl FnOnce(&mut ObservedState)) {
        let mut objects = self.objects.lock();
        let kept = objects.remove(uid);
        let (secret, others) = kept.map_or((None, None), |kept| (kept.secret, kept.others));
        let mut cache = others.map_or_else(ObservedState::default, |others| *others);
        cache.secret = secret;
        change(&mut cache);
        let secret = cache.secret.take();
        let others = (cache != ObservedState::default()).then(|| Box::new(cache));
        if secret.is_some() || others.is_some() {
            objects.insert(uid.into(), Entry { secret, others });
        }
    }

    /// Returns the identity that was created for the object of this name and that no status
    /// records.
    #[must_use]
    pub fn created(&self, key: &ObjectKey) -> Option<Created> {
        self.created.lock().get(key).cloned()
    }

    /// Stores a created identity until it is in a status, or deleted.
    pub fn remember_created(&self, key: ObjectKey, created: Created) {
        self.created.lock().insert(key, created);
    }

    /// Removes a created identity that is in a status, or deleted.
    pub fn forget_created(&self, key: &ObjectKey) {
        self.created.lock().remove(key);
    }

    /// Returns the last restart of the workload, or the last attempt.
    #[must_use]
    pub fn last_restart(&self, workload: &WorkloadKey) -> Option<LastRestart> {
        self.restarts.lock().get(workload).copied()
    }

    /// Stores that a restart of the workload was tried at `now`, and when the workload was
    /// restarted, if it was.
    pub fn remember_restart(
        &self,
        workload: &WorkloadKey,
        now: Timestamp,
        restarted: Option<Timestamp>,
    ) {
        let mut all = self.restarts.lock();
        all.retain(|_, it| renewal::pause(it.tried, LastRestart::COUNTS, now).is_some());
        let former = all.get(workload).and_then(|it| it.restarted);
        let last = LastRestart {
            tried: now,
            restarted: restarted.or(former),
        };
        all.insert(workload.clone(), last);
    }

    /// Removes an attempt to restart that had no effect.
    pub fn forget_try(&self, workload: &WorkloadKey) {
        let mut all = self.restarts.lock();
        let restarted = all.get(workload).and_then(|it| it.restarted);
        match (restarted, all.get_mut(workload)) {
            (Some(restarted), Some(last)) => last.tried = restarted,
            _ => {
                all.remove(workload);
            }
        }
    }

    /// Queues the pods of a namespace that mount the Secret for an annotation. Returns whether a
    /// task to annotate them must be started.
    #[must_use]
    pub fn queue_nudge(&self, namespace: String, secret: String) -> bool {
        let mut nudges = self.nudges.lock();
        nudges.queued.entry(namespace).or_default().insert(secret);
        !std::mem::replace(&mut nudges.is_worked_on, true)
    }

    /// Returns a namespace with pods to annotate, and the Secrets; `None` ends the task that
    /// annotates them.
    #[must_use]
    pub fn next_nudge(&self) -> Option<(String, BTreeSet<String>)> {
        let mut nudges = self.nudges.lock();
        let next = nudges.queued.pop_first();
        nudges.is_worked_on = next.is_some();
        next
    }

    /// Removes the cached state of an object.
    pub fn forget(&self, uid: &str) {
        self.objects.lock().remove(uid);
    }
}

/// State of the Entra token of a Teams user; never the token itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserTokenView {
    /// Its Secret was not read since its last change.
    Unknown,
    /// It does not exist (yet).
    Missing {
        /// Reason, in CamelCase.
        reason: Reason,
        /// Message that says what the operator waits for.
        message: String,
    },
    /// The Secret holds something else than the Entra token of the user; the message says what to
    /// do.
    Wrong(String),
    /// It exists.
    There(SeenUserToken),
}

/// Properties of an Entra token that decisions use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenUserToken {
    /// Hash of the token.
    pub fingerprint: String,
    /// Time at which it expires, by the clock of Entra ID, which is assumed to be that of ACS.
    pub expires_on: Timestamp,
}
