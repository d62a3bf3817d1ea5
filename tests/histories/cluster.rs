//! API server: objects with resource versions, finalizers, statuses and watches.

use std::collections::{BTreeMap, VecDeque};

use crate::events::Admission;
use acs_identity_operator::{
    consumers::ConsumerPod,
    crd::{
        AcsConnection, AcsIdentity, AcsRevocation, AcsToken, ClusterAcsConnection, TOKEN_UID_LABEL,
    },
};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Time};
use kube::{Resource, ResourceExt, core::PartialObjectMeta};

/// Namespace of all objects.
pub const NAMESPACE: &str = "ns";

/// Reason why the API server rejected a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Conflict,
    AlreadyExists,
    NotFound,
    /// Change of an immutable Secret's data, or a creation in a namespace that is being deleted.
    Forbidden,
    /// The quota is exceeded.
    Quota,
    /// An admission policy denied it.
    Denied,
    /// There was no answer: it was done or not.
    NoAnswer,
}

/// Message of a watch.
#[derive(Clone, Debug)]
pub enum Change {
    /// All existing objects, listed again.
    Listed,
    Identity(AcsIdentity, bool),
    Token(AcsToken, bool),
    Secret(PartialObjectMeta<Secret>, bool),
    Revocation(AcsRevocation, bool),
    /// A Secret of this name changed, regardless of its owner; with its resource version, if it
    /// exists.
    Named(String, Option<String>),
    Connection(AcsConnection, bool),
    ClusterConnection(ClusterAcsConnection, bool),
    Pod(ConsumerPod, bool),
}

/// Kind that the API server stores.
pub trait Kind: Resource<DynamicType = ()> + Clone + PartialEq {
    const WATCH: usize;
    const IS_NAMESPACED: bool = true;
    fn all(cluster: &mut Cluster) -> &mut BTreeMap<String, Self>;
    fn changes(&self, former: Option<&Self>, is_there: bool) -> Option<Change>;
}

/// Number of watches.
pub const WATCHES: usize = 8;
/// Index of the watch of single Secrets by name.
pub const NAMED: usize = 3;

#[derive(Debug, Default)]
pub struct Cluster {
    pub identities: BTreeMap<String, AcsIdentity>,
    pub tokens: BTreeMap<String, AcsToken>,
    pub secrets: BTreeMap<String, Secret>,
    pub orders: BTreeMap<String, AcsRevocation>,
    pub connections: BTreeMap<String, AcsConnection>,
    pub global_connections: BTreeMap<String, ClusterAcsConnection>,
    pub pods: BTreeMap<String, ConsumerPod>,
    /// Changes that the watches have not delivered yet.
    pub unrecorded: [VecDeque<Change>; WATCHES],
    /// Whether the namespace is being deleted: nothing can be created in it.
    pub is_terminating: bool,
    /// Treatment of Secrets that the operator writes.
    pub admission: Admission,
    /// Whether a policy denies updates of the operator's own objects.
    pub denies_ours: bool,
    /// Number of the operator's writes that changed something.
    pub writes: usize,
    version: u64,
    uids: u64,
}

impl Cluster {
    /// Stores a new object.
    pub fn create<K: Kind>(&mut self, object: K, now: Timestamp) -> Result<K, Refused> {
        self.create_in(object, NAMESPACE, now)
    }

    /// Applies the admission policies to a Secret that the operator writes; fails if they reject
    /// it.
    pub fn admit(&self, mut secret: Secret, is_new: bool) -> Result<Secret, Refused> {
        match self.admission {
            Admission::Quota if is_new => return Err(Refused::Quota),
            Admission::Denied => return Err(Refused::Denied),
            Admission::Relabelled => {
                let label = "app.kubernetes.io/managed-by".to_owned();
                secret.labels_mut().insert(label, "platform".to_owned());
                if let Some(team) = secret.labels_mut().get_mut("team") {
                    "platform".clone_into(team);
                }
            }
            Admission::Stripped => {
                secret.annotations_mut().remove("acs-identity.dev/renew-at");
            }
            Admission::Open | Admission::Quota => {}
        }
        Ok(secret)
    }

    /// Returns the number of objects that the operator manages.
    pub fn objects(&self) -> usize {
        self.tokens.len()
            + self.identities.len()
            + self.orders.len()
            + self.connections.len()
            + self.global_connections.len()
    }

    /// Stores a new object of this namespace.
    pub fn create_in<K: Kind>(
        &mut self,
        mut object: K,
        namespace: &str,
        now: Timestamp,
    ) -> Result<K, Refused> {
        let name = object.name_any();
        if K::all(self).contains_key(&name) {
            return Err(Refused::AlreadyExists);
        }
        if self.is_terminating {
            return Err(Refused::Forbidden);
        }
        self.uids += 1;
        let meta = object.meta_mut();
        meta.namespace = K::IS_NAMESPACED.then(|| namespace.to_owned());
        meta.uid = Some(format!("uid-{}", self.uids));
        meta.creation_timestamp = Some(Time(seconds(now)));
        meta.generation = Some(1);
        Ok(self.store(object, None))
    }

    /// Updates an object, if it is still at `version` (when given); an update without a change has
    /// no effect.
    pub fn update<K: Kind>(
        &mut self,
        name: &str,
        version: Option<&str>,
        edit: impl FnOnce(&mut K),
    ) -> Result<(K, bool), Refused> {
        let former = K::all(self).get(name).cloned().ok_or(Refused::NotFound)?;
        if version.is_some() && version != former.meta().resource_version.as_deref() {
            return Err(Refused::Conflict);
        }
        let mut next = former.clone();
        edit(&mut next);
        if next == former {
            return Ok((former, false));
        }
        Ok((self.store(next, Some(&former)), true))
    }

    /// Deletes an object, if it has this UID (when given); one with finalizers is only marked.
    pub fn delete<K: Kind>(
        &mut self,
        name: &str,
        uid: Option<&str>,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let former = K::all(self).get(name).cloned().ok_or(Refused::NotFound)?;
        if uid.is_some() && uid != former.meta().uid.as_deref() {
            return Err(Refused::Conflict);
        }
        if former.meta().deletion_timestamp.is_some() {
            return Ok(());
        }
        let mut next = former.clone();
        let meta = next.meta_mut();
        meta.deletion_timestamp = Some(Time(seconds(now)));
        meta.generation = meta.generation.map(|generation| generation + 1);
        self.store(next, Some(&former));
        Ok(())
    }

    /// Deletes what the object of a token left behind.
    pub fn collect_garbage(&mut self) {
        if let Some(name) = self.garbage() {
            let _ = self.delete::<Secret>(&name, None, Timestamp::UNIX_EPOCH);
        }
    }

    /// Returns a Secret whose owner does not exist.
    pub fn garbage(&self) -> Option<String> {
        let is_garbage = |secret: &Secret| {
            let mut owners = secret.metadata.owner_references.iter().flatten();
            owners.any(|owner| {
                owner.kind == "AcsToken"
                    && self
                        .tokens
                        .values()
                        .all(|token| token.uid().as_ref() != Some(&owner.uid))
            })
        };
        let mut secrets = self.secrets.iter();
        secrets
            .find(|(_, secret)| is_garbage(secret))
            .map(|(name, _)| name.clone())
    }

    /// Starts the watch of a single Secret, which first reports the current state.
    pub fn begin_watch(&mut self, name: &str) {
        let found = self.secrets.get(name);
        let version = found.and_then(ResourceExt::resource_version);
        self.unrecorded[NAMED].push_back(Change::Named(name.to_owned(), version));
    }

    /// Whether the watch has reported the current state of this token's object.
    pub fn is_told(&self, object: &AcsToken) -> bool {
        let mut unrecorded = self.unrecorded[AcsToken::WATCH].iter();
        !unrecorded.any(|change| matches!(change, Change::Token(it, _) if it.uid() == object.uid()))
    }

    /// Returns a number that changes with every write that changes something.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Breaks every watch, so that it must list again.
    pub fn break_watches(&mut self, names: impl IntoIterator<Item = String>) {
        for watch in (0..WATCHES).filter(|watch| *watch != NAMED) {
            self.unrecorded[watch] = [Change::Listed].into();
        }
        self.unrecorded[NAMED].clear();
        for name in names {
            self.begin_watch(&name);
        }
    }

    fn store<K: Kind>(&mut self, mut object: K, former: Option<&K>) -> K {
        self.version += 1;
        let version = self.version.to_string();
        let meta = object.meta_mut();
        meta.resource_version = Some(version);
        let is_gone =
            meta.deletion_timestamp.is_some() && meta.finalizers.as_ref().is_none_or(Vec::is_empty);
        let name = object.name_any();
        if is_gone {
            K::all(self).remove(&name);
        } else {
            K::all(self).insert(name.clone(), object.clone());
        }
        if let Some(change) = object.changes(former, !is_gone) {
            self.unrecorded[K::WATCH].push_back(change);
        }
        if K::WATCH == Secret::WATCH {
            let version = (!is_gone).then(|| self.version.to_string());
            self.unrecorded[NAMED].push_back(Change::Named(name, version));
        }
        object
    }
}

impl Kind for AcsIdentity {
    const WATCH: usize = 0;
    fn all(cluster: &mut Cluster) -> &mut BTreeMap<String, Self> {
        &mut cluster.identities
    }
    fn changes(&self, _: Option<&Self>, is_there: bool) -> Option<Change> {
        Some(Change::Identity(self.clone(), is_there))
    }
}

impl Kind for AcsToken {
    const WATCH: usize = 1;
    fn all(cluster: &mut Cluster) -> &mut BTreeMap<String, Self> {
        &mut cluster.tokens
    }
    fn changes(&self, _: Option<&Self>, is_there: bool) -> Option<Change> {
        Some(Change::Token(self.clone(), is_there))
    }
}

impl Kind for Secret {
    const WATCH: usize = 2;
    fn all(cluster: &mut Cluster) -> &mut BTreeMap<String, Self> {
        &mut cluster.secrets
    }
    /// Secrets are watched by the operator's label: a Secret that loses it is reported as deleted.
    fn changes(&self, former: Option<&Self>, is_there: bool) -> Option<Change> {
        let is_seen = is_there && is_labelled(self);
        (is_seen || former.is_some_and(is_labelled))
            .then(|| Change::Secret(without_data(self), is_seen))
    }
}

impl Kind for AcsConnection {
    const WATCH: usize = 4;
    fn all(cluster: &mut Cluster) -> &mut BTreeMap<String, Self> {
        &mut cluster.connections
    }
    fn changes(&self, _: Option<&Self>, is_there: bool) -> Option<Change> {
        Some(Change::Connection(self.clone(), is_there))
    }
}

impl Kind for ClusterAcsConnection {
    const WATCH: usize = 6;
    const IS_NAMESPACED: bool = false;
    fn all(cluster: &mut Cluster) -> &mut BTreeMap<String, Self> {
        &mut cluster.global_connections
    }
    fn changes(&self, _: Option<&Self>, is_there: bool) -> Option<Change> {
        Some(Change::ClusterConnection(self.clone(), is_there))
    }
}

impl Kind for ConsumerPod {
    const WATCH: usize = 7;
    fn all(cluster: &mut Cluster) -> &mut BTreeMap<String, Self> {
        &mut cluster.pods
    }
    fn changes(&self, _: Option<&Self>, is_there: bool) -> Option<Change> {
        Some(Change::Pod(self.clone(), is_there))
    }
}

impl Kind for AcsRevocation {
    const WATCH: usize = 5;
    fn all(cluster: &mut Cluster) -> &mut BTreeMap<String, Self> {
        &mut cluster.orders
    }
    fn changes(&self, _: Option<&Self>, is_there: bool) -> Option<Change> {
        Some(Change::Revocation(self.clone(), is_there))
    }
}

pub fn is_labelled(secret: &Secret) -> bool {
    secret.labels().contains_key(TOKEN_UID_LABEL)
}

pub fn without_data(secret: &Secret) -> PartialObjectMeta<Secret> {
    PartialObjectMeta {
        metadata: secret.metadata.clone(),
        ..PartialObjectMeta::default()
    }
}

/// Truncates a time to whole seconds, as Kubernetes stores it.
pub fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap()
}
