//! Secrets that the operator does not own, each watched by name.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    pin::pin,
    sync::Arc,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{Event, watcher},
    },
};
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tracing::warn;

use super::{ObjectKey, watch};

/// Object that is requeued when a Secret that it reads changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Follower {
    /// Key of the object.
    pub key: ObjectKey,
    /// Role of the Secret for the object.
    pub role: Role,
}

/// Role of a Secret that the operator does not own, for the object that follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It holds a connection's credential.
    Credential,
    /// It has the name that a token needs for its own Secret.
    Conflict,
    /// It holds the Entra token of a Teams user.
    UserToken,
}

/// Existence of a followed Secret, according to its watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// The watch has not answered yet.
    #[default]
    Unknown,
    /// The Secret does not exist.
    Absent,
    /// The Secret exists, at this resource version.
    At(String),
}

/// Watches of single Secrets that the operator does not own, by name. K1 forbids to watch more, so
/// that memory does not depend on the number of Secrets.
#[derive(Clone)]
pub struct Inputs {
    client: Client,
    requeue: Arc<dyn Fn(&ObjectKey) + Send + Sync>,
    state: Arc<Mutex<State>>,
}

/// Namespace and name of a Secret.
type Key = (String, String);

#[derive(Default)]
struct State {
    followed: HashMap<Key, Followed>,
    /// Secrets followed by each follower. A follower of no Secret has no entry.
    by_follower: HashMap<Follower, Vec<Key>>,
}

struct Followed {
    presence: Presence,
    followers: HashSet<Follower>,
    task: AbortHandle,
}

impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inputs").finish_non_exhaustive()
    }
}

impl Inputs {
    /// Creates the watches, which call `requeue` for their followers.
    pub fn new(client: Client, requeue: impl Fn(&ObjectKey) + Send + Sync + 'static) -> Self {
        Self {
            client,
            requeue: Arc::new(requeue),
            state: Arc::default(),
        }
    }

    /// Follows these Secrets, and no others, for `follower`. Returns what is known of each now.
    #[must_use]
    pub fn follow(&self, namespace: &str, names: &[&str], follower: &Follower) -> Vec<Presence> {
        let keys: Vec<_> = names
            .iter()
            .map(|name| (namespace.to_owned(), (*name).to_owned()))
            .collect();
        let mut state = self.state.lock();
        let follow = |key: &Key| {
            let entry = state.followed.entry(key.clone());
            let entry = entry.or_insert_with(|| Followed {
                presence: Presence::Unknown,
                followers: HashSet::new(),
                task: tokio::spawn(self.clone().run(key.clone())).abort_handle(),
            });
            entry.followers.insert(follower.clone());
            entry.presence.clone()
        };
        let presences = keys.iter().map(follow).collect();
        state.unfollow_but(follower, keys);
        presences
    }

    /// Stops following all Secrets for `follower`.
    pub fn unfollow(&self, follower: &Follower) {
        self.state.lock().unfollow_but(follower, Vec::new());
    }

    async fn run(self, key: Key) {
        let (namespace, name) = &key;
        let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(self.client.clone(), namespace);
        let config = watch::config().fields(&format!("metadata.name={name}"));
        let mut events = pin!(watcher(api, config).backoff(watch::pauses()));
        let mut listed = Presence::Absent;
        while let Some(event) = events.next().await {
            let at = |secret: &PartialObjectMeta<Secret>| {
                Presence::At(secret.resource_version().unwrap_or_default())
            };
            match event {
                Ok(Event::Init) => listed = Presence::Absent,
                Ok(Event::InitApply(secret)) => listed = at(&secret),
                Ok(Event::InitDone) => self.notify(&key, listed.clone()),
                Ok(Event::Apply(secret)) => self.notify(&key, at(&secret)),
                Ok(Event::Delete(_)) => self.notify(&key, Presence::Absent),
                Err(error) => {
                    warn!(namespace, secret = name, %error, "could not watch a Secret; trying again");
                }
            }
        }
    }

    fn notify(&self, key: &Key, presence: Presence) {
        let followers = match self.state.lock().followed.get_mut(key) {
            Some(followed) if followed.presence != presence => {
                followed.presence = presence;
                followed.followers.clone()
            }
            _ => return,
        };
        for follower in &followers {
            (self.requeue)(&follower.key);
        }
    }
}

impl State {
    fn unfollow_but(&mut self, follower: &Follower, but: Vec<Key>) {
        let former = self.by_follower.remove(follower).unwrap_or_default();
        for key in former.into_iter().filter(|key| !but.contains(key)) {
            let Some(secret) = self.followed.get_mut(&key) else {
                continue;
            };
            secret.followers.remove(follower);
            if secret.followers.is_empty() {
                secret.task.abort();
                self.followed.remove(&key);
            }
        }
        if !but.is_empty() {
            self.by_follower.insert(follower.clone(), but);
        }
    }
}
