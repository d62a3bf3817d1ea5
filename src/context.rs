//! State that all runs share. It depends on no slice.

mod config;
mod connections;
mod views;

use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering::Relaxed};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Resource, ResourceExt, runtime::reflector::ObjectRef};

pub use config::{Config, ConsumerConfig, SecretLabel, SecretLabelError};
pub use views::Views;

use crate::{
    acs::{self, Service},
    cache::Cache,
    cluster::{self, event::Notice, index, view::object_ref},
    crd::{AcsIdentity, AcsToken, ConnectionKey, ConnectionKind, FINALIZER, Reason, ready_reason},
    credentials::Registry,
    engine::{ApiRequest, Calls, Locks, Requeue, World},
    metrics::Metrics,
    renewal,
};

/// State that all runs share.
#[derive(Debug)]
pub struct Context {
    /// API server, ACS and clock.
    pub world: Arc<dyn World>,
    /// Factory of Microsoft Entra ID credentials.
    pub acs: Service,
    /// Configuration.
    pub config: Config,
    /// Views that the watches maintain.
    pub views: Views,
    /// Sender that requeues objects.
    pub requeue: Requeue,
    /// Credentials of the connections.
    pub registry: Registry,
    /// Locks that keep issues and revocations apart.
    pub locks: Locks,
    /// Calls to ACS.
    pub calls: Calls,
    /// Cached state of single objects.
    pub cache: Cache,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Whether this process writes the statuses of `ClusterAcsConnection` objects: of several
    /// releases one does.
    pub leads_cluster: Arc<AtomicBool>,
}

impl Context {
    /// Returns the time by the operator's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.world.now()
    }

    /// Whether this process writes the status of a connection.
    #[must_use]
    pub fn tells_of(&self, connection: &ConnectionKey) -> bool {
        connection.kind == ConnectionKind::AcsConnection || self.leads_cluster.load(Relaxed)
    }

    /// Returns the finalizer that this release puts on a connection.
    #[must_use]
    pub fn finalizer_on(&self, connection: &ConnectionKey) -> &str {
        match connection.kind {
            ConnectionKind::AcsConnection => FINALIZER,
            ConnectionKind::ClusterAcsConnection => &self.config.cluster_finalizer,
        }
    }

    /// Returns the time by the clock of ACS, or up to a second earlier; `None` before its first
    /// answer.
    #[must_use]
    pub fn service_now(&self, endpoint: Option<&str>) -> Option<Timestamp> {
        let endpoint = acs::Endpoint::parse(endpoint?).ok()?;
        self.world.service_now(&endpoint)
    }

    /// Returns when the deletion of an object proceeds without ACS, by the operator's clock (I3).
    #[must_use]
    pub fn deletion_deadline(&self, metadata: &ObjectMeta, now: Timestamp) -> Timestamp {
        let span = self.config.deletion_deadline;
        let Some(deleted_at) = &metadata.deletion_timestamp else {
            return renewal::add(now, span);
        };
        let uid = metadata.uid.as_deref().unwrap_or_default();
        let mut seen_at = now;
        self.cache.change(uid, |cache| {
            seen_at = cache.deleted.map_or(now, |seen| seen.min(now));
            cache.deleted = Some(seen_at);
        });
        renewal::deletion_deadline(deleted_at.0, seen_at, span)
    }

    /// Whether the namespace is being deleted, so that nothing can be created in it any more.
    #[must_use]
    pub fn is_terminating(&self, namespace: &str) -> bool {
        let namespace = self.views.namespaces.get(&object_ref(None, namespace));
        namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some())
    }

    /// Whether the object with `metadata` can ignore the refusal of a call for a Secret (I3). In a
    /// namespace that is being deleted, the operator's permissions may disappear before its
    /// objects, and no deletion waits for permissions past its deadline. Kubernetes deletes the
    /// Secret with its owner.
    #[must_use]
    pub fn is_ignorable(&self, error: &cluster::Error, metadata: &ObjectMeta) -> bool {
        let now = self.now();
        let is_late = || {
            metadata.deletion_timestamp.is_some() && now >= self.deletion_deadline(metadata, now)
        };
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        error.is_forbidden() && (self.is_terminating(namespace) || is_late())
    }

    /// Records whether the identity exists according to ACS, for all its objects (T8).
    pub fn note_existence(&self, identity_id: &str, endpoint: &str, is_missing: bool) {
        for identity in self.views.siblings(identity_id, endpoint) {
            // An unchanged answer requeues nothing, whether the status could be written or not
            // (K5).
            if self.is_missing(&identity) != is_missing {
                let uid = identity.uid().unwrap_or_default();
                self.cache
                    .change(&uid, |cache| cache.is_missing = Some(is_missing));
                let reference = ObjectRef::from_obj(identity.as_ref());
                self.requeue_tokens(&reference);
                self.requeue.send(reference);
            }
        }
    }

    /// Whether ACS last answered that the identity does not exist (T8).
    #[must_use]
    pub fn is_missing(&self, identity: &AcsIdentity) -> bool {
        let uid = identity.uid().unwrap_or_default();
        let said = self.cache.get(&uid).is_missing;
        said.unwrap_or_else(|| is_reported_missing(identity))
    }

    /// Requeues the connection.
    pub fn requeue_connection(&self, key: &ConnectionKey) {
        self.requeue.send(key);
    }

    /// Requeues all connections that count the identity among their users.
    pub fn requeue_connections_of_identity(&self, identity: &AcsIdentity) {
        let status = identity.status.as_ref();
        let concerned = ConnectionKey::candidates(
            identity.spec.connection_ref.as_ref(),
            status.and_then(|status| status.connection_ref.as_ref()),
            identity.metadata.namespace.as_deref().unwrap_or_default(),
        );
        for key in concerned {
            self.requeue_connection(&key);
        }
    }

    /// Requeues all connections that count the token.
    pub fn requeue_connections_of(&self, token: &AcsToken) {
        match token.identity_reference() {
            Some(identity) => {
                if let Some(identity) = self.views.identities.get(&identity) {
                    self.requeue_connections_of_identity(&identity);
                }
            }
            None => {
                for key in token.connections() {
                    self.requeue_connection(&key);
                }
            }
        }
    }

    /// Requeues all objects that use the connection.
    pub fn requeue_users(&self, key: &ConnectionKey) {
        let users = index::of_connection(key);
        for identity in self.views.identities.find_refs(&users) {
            self.requeue_tokens(&identity);
            self.requeue.send(identity);
        }
        // Tokens of Teams users.
        for token in self.views.tokens.find_refs(&users) {
            self.requeue.send(token);
        }
    }

    /// Requeues all tokens of an identity.
    pub fn requeue_tokens(&self, identity: &ObjectRef<AcsIdentity>) {
        let namespace = identity.namespace.as_deref().unwrap_or_default();
        let tokens = index::of_identity(namespace, &identity.name);
        for token in self.views.tokens.find_refs(&tokens) {
            self.requeue.send(token);
        }
    }

    /// Requeues all revocations that have the identity as an open target.
    pub fn requeue_revocations(&self, identity: &ObjectRef<AcsIdentity>) {
        let namespace = identity.namespace.as_deref().unwrap_or_default();
        let key = index::targeting(namespace, &identity.name);
        for revocation in self.views.revocations.find_refs(&key) {
            self.requeue.send(revocation);
        }
        for revocation in self.views.cluster_revocations.find_refs(&key) {
            self.requeue.send(revocation);
        }
    }

    /// Publishes an Event of type Normal.
    pub async fn inform<K>(&self, object: &K, reason: Reason, note: impl Into<String>)
    where
        K: Resource<DynamicType = ()>,
    {
        self.publish(object, false, reason, note.into()).await;
    }

    /// Publishes an Event of type Warning.
    pub async fn warn<K>(&self, object: &K, reason: Reason, note: impl Into<String>)
    where
        K: Resource<DynamicType = ()>,
    {
        self.publish(object, true, reason, note.into()).await;
    }

    async fn publish<K>(&self, object: &K, is_warning: bool, reason: Reason, note: String)
    where
        K: Resource<DynamicType = ()>,
    {
        let notice = Notice {
            about: object.object_ref(&()),
            is_warning,
            reason,
            note,
        };
        // A failure to publish is logged and never fails the run.
        let _ = self.world.ask(ApiRequest::Publish(notice)).await;
    }

    /// Whether to report now what is left behind in ACS. It is reported once, however often the
    /// removal of the finalizer is repeated.
    #[must_use]
    pub fn tells_abandonment(&self, uid: &str) -> bool {
        let mut is_reported = false;
        self.cache.change(uid, |cache| {
            is_reported = std::mem::replace(&mut cache.is_abandonment_reported, true);
        });
        !is_reported
    }

    /// Publishes an Event about what is left behind in ACS: on the object, or on its namespace if
    /// Events can no longer be created in it (I3).
    pub async fn warn_abandoned<K>(&self, object: &K, namespace: &str, message: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        if self.is_terminating(namespace) {
            let namespace = Namespace {
                metadata: ObjectMeta {
                    name: Some(namespace.to_owned()),
                    ..ObjectMeta::default()
                },
                ..Namespace::default()
            };
            self.warn(&namespace, Reason::Abandoned, message).await;
        } else {
            self.warn(object, Reason::Abandoned, message).await;
        }
    }
}

fn is_reported_missing(identity: &AcsIdentity) -> bool {
    let status = identity.status.as_ref();
    status.is_some_and(|status| ready_reason(&status.conditions) == Some(Reason::IdentityNotFound))
}
