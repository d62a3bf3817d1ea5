//! What the process remembers of single objects. Never a fact that a decision can't do without:
//! a restart forgets all of it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;

use crate::{
    acs::Resolved,
    cluster::{ObjectKey, view::lock},
    crd::{AcsToken, ConnectionKey, Reason, SecretKeyRef, TokenRecord, WorkloadKey},
    renewal,
};

/// What is remembered of one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedState {
    /// The intent in the status that this process recorded, while its call is not sent yet.
    pub intent: Option<Timestamp>,
    /// When it was first seen that a revocation is asked for.
    pub asked_since: Option<Timestamp>,
    /// When it was first seen that the object is being deleted, by the operator's clock.
    pub deleted: Option<Timestamp>,
    /// The service asked, then, not to be called for so long.
    pub retry_after: Option<(Timestamp, SignedDuration)>,
    /// When this process first saw the object.
    pub first_seen: Option<Timestamp>,
    /// Whether ACS said last that the identity does not exist, or that it does (T8).
    pub is_missing: Option<bool>,
    /// A token that was issued and is in no Secret yet: it is written later, not issued again (T7).
    pub held: Option<Arc<HeldToken>>,
    /// The Secret as it was last read or written, until the status tells it.
    pub secret: Option<Arc<ReadSecret>>,
    /// The Secret may be another than the status and the watch tell, so it is read.
    pub doubts_secret: bool,
    /// The Entra token of a Teams user as it was last read.
    pub user_token: Option<ReadUserToken>,
    /// Fingerprint of the Entra token with which the last call failed.
    pub failed_user_token: Option<String>,
    /// Rewrites of the Secret around the same token.
    pub rewrites: Option<Rewrites>,
    /// When an edit of the Secret was last repaired.
    pub repaired: Option<Timestamp>,
    /// When the Secret was last written again after it had been deleted.
    pub recreated: Option<Timestamp>,
    /// What is left behind in ACS has been told.
    pub is_abandonment_told: bool,
    /// The generation of a connection's spec that its users were told.
    pub generation: Option<i64>,
    /// When the tokens of a connection were last counted.
    pub counted: Option<Timestamp>,
    /// How many of them were of a former credential.
    pub former_tokens: i64,
    /// When the progress of an order was last told.
    pub progress_told: Option<Timestamp>,
    /// Whether those whom an order concerns were told of it.
    pub is_order_told: bool,
}

impl ObservedState {
    /// The service asked not to be called before this time.
    #[must_use]
    pub fn not_before(&self, now: Timestamp) -> Option<Timestamp> {
        let (since, wait) = self.retry_after?;
        renewal::pause(since, wait, now)
    }
}

/// How often a Secret was rewritten around the same token, because others change what is around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrites {
    /// The generation of the spec that they were for.
    pub generation: Option<i64>,
    /// How many there were within an hour of each other.
    pub count: i32,
    /// When the last one was.
    pub last: Timestamp,
}

impl Rewrites {
    /// After this many of one spec, whoever else writes the Secret is told, and the next one waits.
    pub const MOST: i32 = 3;
    /// How far apart further ones are.
    const INTERVAL: SignedDuration = SignedDuration::from_mins(5);

    /// The same with one more at `now`.
    #[must_use]
    pub fn after(former: Option<Self>, token: &AcsToken, now: Timestamp) -> Self {
        let generation = token.metadata.generation;
        let is_recent =
            |former: &Self| renewal::pause(former.last, Self::INTERVAL * 12, now).is_some();
        let count = match former.filter(is_recent) {
            Some(former) if former.generation == generation => former.count.saturating_add(1),
            // Where others kept on before, a new spec is worth one more.
            Some(former) if former.count >= Self::MOST => Self::MOST,
            _ => 1,
        };
        Self {
            generation,
            count,
            last: now,
        }
    }

    /// When the next one is due, unless it is now.
    #[must_use]
    pub fn pause(&self, token: &AcsToken, now: Timestamp) -> Option<Timestamp> {
        let is_over = self.count >= Self::MOST && self.generation == token.metadata.generation;
        is_over
            .then(|| renewal::pause(self.last, Self::INTERVAL, now))
            .flatten()
    }
}

/// When a workload was restarted, for whatever token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastRestart {
    /// When that was last tried.
    pub tried: Timestamp,
    /// When it was last restarted, as its annotation says it.
    pub restarted: Option<Timestamp>,
}

impl LastRestart {
    /// For how long it is remembered.
    const COUNTS: SignedDuration = SignedDuration::from_hours(1);
}

/// Secrets whose pods are to be looked at, by namespace.
#[derive(Debug, Default)]
struct Nudges {
    queued: BTreeMap<String, BTreeSet<String>>,
    is_worked_on: bool,
}

/// A token in hand.
#[derive(Debug)]
pub struct HeldToken {
    /// What is known of it.
    pub record: TokenRecord,
    /// The token itself.
    pub token: SecretString,
    /// Where it was issued.
    pub endpoint: String,
}

impl PartialEq for HeldToken {
    fn eq(&self, other: &Self) -> bool {
        // Which has the token's fingerprint.
        self.record == other.record && self.endpoint == other.endpoint
    }
}

/// What was seen of a Secret's bytes; good as long as its version is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadSecret {
    /// Its name.
    pub name: String,
    /// Its resource version.
    pub version: String,
    /// Digest of its data, with the token's fingerprint in place of the token.
    pub digest: String,
    /// Fingerprint of the token's bytes, if there are any.
    pub fingerprint: Option<String>,
    /// Whether it is immutable.
    pub is_immutable: bool,
}

/// What was seen of a Teams user's Entra token; good as long as its Secret's version is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadUserToken {
    /// Where it was looked for.
    pub reference: SecretKeyRef,
    /// The Secret's resource version; `None` where there was no Secret.
    pub version: Option<String>,
    /// What was found.
    pub view: UserTokenView,
}

/// An identity that was created and that no status tells yet (I6).
#[derive(Clone, Debug)]
pub struct Created {
    /// The UID of the object that it was created for.
    pub uid: String,
    /// Its id.
    pub id: String,
    /// By what it can be deleted, should the object be gone.
    pub via: Resolved,
    /// The connection that this was had from.
    pub connection: ConnectionKey,
}

/// What is remembered of all objects, by UID; and identities that were created, by the object's name,
/// for the object may be gone; and workloads that were restarted a short time ago.
#[derive(Debug, Default)]
pub struct Cache {
    objects: Mutex<HashMap<Box<str>, Entry>>,
    created: Mutex<HashMap<ObjectKey, Created>>,
    restarts: Mutex<HashMap<WorkloadKey, LastRestart>>,
    nudges: Mutex<Nudges>,
}

/// What is remembered of one object. At rest that is a token's Secret, so only that has a place.
#[derive(Debug)]
struct Entry {
    secret: Option<Arc<ReadSecret>>,
    others: Option<Box<ObservedState>>,
}

impl Cache {
    /// What is remembered of an object.
    #[must_use]
    pub fn get(&self, uid: &str) -> ObservedState {
        let objects = lock(&self.objects);
        let Some(kept) = objects.get(uid) else {
            return ObservedState::default();
        };
        ObservedState {
            secret: kept.secret.clone(),
            ..kept.others.as_deref().cloned().unwrap_or_default()
        }
    }

    /// Remembers something of an object.
    pub fn change(&self, uid: &str, change: impl FnOnce(&mut ObservedState)) {
        let mut objects = lock(&self.objects);
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

    /// The identity that was created for the object of this name and is in no status.
    #[must_use]
    pub fn created(&self, key: &ObjectKey) -> Option<Created> {
        lock(&self.created).get(key).cloned()
    }

    /// Remembers an identity until it is in a status, or deleted.
    pub fn remember_created(&self, key: ObjectKey, created: Created) {
        lock(&self.created).insert(key, created);
    }

    /// The identity is in a status, or deleted.
    pub fn forget_created(&self, key: &ObjectKey) {
        lock(&self.created).remove(key);
    }

    /// When the workload was last restarted, or that was tried.
    #[must_use]
    pub fn last_restart(&self, workload: &WorkloadKey) -> Option<LastRestart> {
        lock(&self.restarts).get(workload).copied()
    }

    /// Remembers that a restart of the workload is tried at `now`; and when it was restarted, if it
    /// was.
    pub fn remember_restart(
        &self,
        workload: &WorkloadKey,
        now: Timestamp,
        restarted: Option<Timestamp>,
    ) {
        let mut all = lock(&self.restarts);
        all.retain(|_, it| renewal::pause(it.tried, LastRestart::COUNTS, now).is_some());
        let former = all.get(workload).and_then(|it| it.restarted);
        let last = LastRestart {
            tried: now,
            restarted: restarted.or(former),
        };
        all.insert(workload.clone(), last);
    }

    /// Forgets that a restart was tried, since it did nothing.
    pub fn forget_try(&self, workload: &WorkloadKey) {
        let mut all = lock(&self.restarts);
        let restarted = all.get(workload).and_then(|it| it.restarted);
        match (restarted, all.get_mut(workload)) {
            (Some(restarted), Some(last)) => last.tried = restarted,
            _ => {
                all.remove(workload);
            }
        }
    }

    /// Asks that the pods of a namespace be looked at that mount the Secret; whether nobody does so yet.
    #[must_use]
    pub fn queue_nudge(&self, namespace: String, secret: String) -> bool {
        let mut nudges = lock(&self.nudges);
        nudges.queued.entry(namespace).or_default().insert(secret);
        !std::mem::replace(&mut nudges.is_worked_on, true)
    }

    /// A namespace whose pods are to be looked at, and the Secrets; without one, nobody does so any
    /// longer.
    #[must_use]
    pub fn next_nudge(&self) -> Option<(String, BTreeSet<String>)> {
        let mut nudges = lock(&self.nudges);
        let next = nudges.queued.pop_first();
        nudges.is_worked_on = next.is_some();
        next
    }

    /// Forgets an object.
    pub fn forget(&self, uid: &str) {
        lock(&self.objects).remove(uid);
    }
}

/// What is known of the Entra token of a Teams user; never the token itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserTokenView {
    /// Its Secret was not looked at since it last changed.
    Unknown,
    /// It is not there (yet).
    Missing {
        /// Why, for machines.
        reason: Reason,
        /// What is waited for, in a sentence.
        message: String,
    },
    /// What is there is not the Entra token of the user; says what to do, in a sentence.
    Wrong(String),
    /// It is there.
    There(SeenUserToken),
}

/// An Entra token as far as decisions go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenUserToken {
    /// A hash of it.
    pub fingerprint: String,
    /// When it ends, by Entra's clock, which is taken for the service's.
    pub expires_on: Timestamp,
}
