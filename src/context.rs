//! What all runs share. Knows no slice.

mod config;
mod connections;
mod views;

use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering::Relaxed};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Resource, ResourceExt, runtime::reflector::ObjectRef};

pub use config::{Config, SecretLabel, SecretLabelError};
pub use views::Views;

use crate::{
    acs::{self, Service},
    cache::Cache,
    cluster::{self, event::Notice, index, view::object_ref},
    crd::{AcsIdentity, AcsToken, ConnectionKey, ConnectionKind, Reason, ready_reason},
    credentials::Registry,
    engine::{ApiRequest, Calls, Locks, Requeue, World},
    metrics::Metrics,
    renewal,
};

/// What all runs share.
#[derive(Debug)]
pub struct Context {
    /// The API server, ACS and the clock.
    pub world: Arc<dyn World>,
    /// Makes credentials of Microsoft Entra ID.
    pub acs: Service,
    /// What a person has set.
    pub config: Config,
    /// What the watches know.
    pub views: Views,
    /// Asks that objects be looked at.
    pub requeue: Requeue,
    /// The credentials.
    pub registry: Registry,
    /// Keeps issuing and revoking apart.
    pub locks: Locks,
    /// What was asked of ACS.
    pub calls: Calls,
    /// What is remembered of single objects.
    pub cache: Cache,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Whether the statuses of `ClusterAcsConnection`s are ours to write: of several releases one does.
    pub leads_cluster: Arc<AtomicBool>,
}

impl Context {
    /// The operator's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.world.now()
    }

    /// Whether the status of a connection is ours to write.
    #[must_use]
    pub fn tells_of(&self, connection: &ConnectionKey) -> bool {
        connection.kind == ConnectionKind::AcsConnection || self.leads_cluster.load(Relaxed)
    }

    /// The service's clock, or up to a second earlier; unknown before its first answer.
    #[must_use]
    pub fn service_now(&self, endpoint: Option<&str>) -> Option<Timestamp> {
        let endpoint = acs::Endpoint::parse(endpoint?).ok()?;
        self.world.service_now(&endpoint)
    }

    /// When the deletion of an object goes on without ACS, by the operator's clock (I3).
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

    /// Whether the namespace is being deleted: nothing can be created in it any more.
    #[must_use]
    pub fn is_terminating(&self, namespace: &str) -> bool {
        let namespace = self.views.namespaces.get(&object_ref(None, namespace));
        namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some())
    }

    /// Whether the refusal of a call on a Secret is no obstacle for the object with `metadata` (I3):
    /// in a namespace that is being deleted our rights may go before our objects, and no deletion
    /// waits for rights past its deadline. Kubernetes deletes the Secret with its owner.
    #[must_use]
    pub fn is_ignorable(&self, error: &cluster::Error, metadata: &ObjectMeta) -> bool {
        let now = self.now();
        let is_late = || {
            metadata.deletion_timestamp.is_some() && now >= self.deletion_deadline(metadata, now)
        };
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        error.is_forbidden() && (self.is_terminating(namespace) || is_late())
    }

    /// ACS has said whether the identity exists: that holds for all its objects (T8).
    pub fn note_existence(&self, identity_id: &str, endpoint: &str, is_missing: bool) {
        for identity in self.views.siblings(identity_id, endpoint) {
            // What was said before is no news, whether its status could be written or not (K5).
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

    /// Whether the identity does not exist in ACS, as far as that was said (T8).
    #[must_use]
    pub fn is_missing(&self, identity: &AcsIdentity) -> bool {
        let uid = identity.uid().unwrap_or_default();
        let said = self.cache.get(&uid).is_missing;
        said.unwrap_or_else(|| is_told_missing(identity))
    }

    /// Asks that the connection be looked at.
    pub fn requeue_connection(&self, key: &ConnectionKey) {
        self.requeue.send(key);
    }

    /// Asks that all connections be looked at that count the identity among their users.
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

    /// Asks that all connections be looked at that count the token.
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

    /// Asks that everything be looked at that uses the connection.
    pub fn requeue_users(&self, key: &ConnectionKey) {
        let users = index::of_connection(key);
        for identity in self.views.identities.find_refs(&users) {
            self.requeue_tokens(&identity);
            self.requeue.send(identity);
        }
        // Those of Teams users.
        for token in self.views.tokens.find_refs(&users) {
            self.requeue.send(token);
        }
    }

    /// Asks that all tokens of an identity be looked at.
    pub fn requeue_tokens(&self, identity: &ObjectRef<AcsIdentity>) {
        let namespace = identity.namespace.as_deref().unwrap_or_default();
        let tokens = index::of_identity(namespace, &identity.name);
        for token in self.views.tokens.find_refs(&tokens) {
            self.requeue.send(token);
        }
    }

    /// Asks that all revocations be looked at that have the identity as an open target.
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

    /// Publishes an Event of what went as wanted.
    pub async fn inform<K>(&self, object: &K, reason: Reason, note: impl Into<String>)
    where
        K: Resource<DynamicType = ()>,
    {
        self.publish(object, false, reason, note.into()).await;
    }

    /// Publishes an Event of what a person should look at.
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
        // One that can't be published is logged, and never a reason to fail.
        let _ = self.world.ask(ApiRequest::Publish(notice)).await;
    }

    /// Whether what is left behind in ACS is to be told now: once, however often the object is let go
    /// until the API server has taken that.
    #[must_use]
    pub fn tells_abandonment(&self, uid: &str) -> bool {
        let mut is_told = false;
        self.cache.change(uid, |cache| {
            is_told = std::mem::replace(&mut cache.is_abandonment_told, true);
        });
        !is_told
    }

    /// Tells on an object what is left behind in ACS; on its namespace where the object's own
    /// Events can no longer be created (I3).
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

fn is_told_missing(identity: &AcsIdentity) -> bool {
    let status = identity.status.as_ref();
    status.is_some_and(|status| ready_reason(&status.conditions) == Some(Reason::IdentityNotFound))
}
