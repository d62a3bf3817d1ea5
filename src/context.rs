//! What all runs share. Knows no slice.

use std::{net::SocketAddr, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Namespace, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Resource, ResourceExt,
    core::{PartialObjectMeta, Selector, SelectorExt},
    runtime::reflector::ObjectRef,
};

use crate::{
    acs::{self, Allowed, Resolved, Service},
    cluster::{
        self,
        event::Notice,
        index,
        view::{View, object_ref},
    },
    crd::{
        AcsConnection, AcsIdentity, AcsRevocation, AcsToken, AnyConnection, ClusterAcsConnection,
        ClusterAcsRevocation, ConnectionKey, ConnectionKind, ConnectionRef, DEFAULT_CONNECTION,
        IDENTITY_NOT_FOUND, TokenPolicy, ready_reason,
    },
    credentials::{Refused, Registry, Unusable},
    engine::{ApiRequest, Locks, Requeue, World},
    memory::Memory,
    metrics::Metrics,
    renewal,
};

/// What a person can set.
#[derive(Clone, Debug)]
pub struct Config {
    /// The namespaces to watch; none means all.
    pub watch_namespaces: Vec<String>,
    /// Where `/metrics`, `/livez` and `/readyz` are served.
    pub address: SocketAddr,
    /// Where `ClusterAcsConnection`s find their Secrets.
    pub cluster_resource_namespace: String,
    /// After this long a deletion goes on without ACS (I3).
    pub deletion_deadline: SignedDuration,
    /// How long pods may take to read a rewritten Secret (C1).
    pub pods_reread_within: SignedDuration,
    /// Where a credential may be sent.
    pub allowed: Allowed,
    /// Prefixes of label and annotation keys that users may not put on Secrets.
    pub forbidden_metadata: Vec<String>,
    /// Whether an `AcsConnection` may use the credentials of the operator itself.
    pub namespaced_ambient_credentials: bool,
    /// The audience of `ServiceAccount` tokens that prove an identity to Entra ID.
    pub service_account_token_audience: String,
}

/// The views of everything that we watch.
#[derive(Debug)]
pub struct Views {
    /// All `AcsConnection`s.
    pub connections: Arc<View<AcsConnection>>,
    /// All `ClusterAcsConnection`s.
    pub cluster_connections: Arc<View<ClusterAcsConnection>>,
    /// All `AcsIdentity`s.
    pub identities: Arc<View<AcsIdentity>>,
    /// All `AcsToken`s.
    pub tokens: Arc<View<AcsToken>>,
    /// All `AcsRevocation`s.
    pub revocations: Arc<View<AcsRevocation>>,
    /// All `ClusterAcsRevocation`s.
    pub cluster_revocations: Arc<View<ClusterAcsRevocation>>,
    /// The Secrets that we own, without their data.
    pub secrets: Arc<View<PartialObjectMeta<Secret>>>,
    /// The watched namespaces, without spec and status.
    pub namespaces: Arc<View<PartialObjectMeta<Namespace>>>,
}

impl Views {
    /// Empty views, to be filled by one watch per namespace.
    #[must_use]
    pub fn new(scopes: usize) -> Self {
        Self {
            connections: Arc::new(View::new(scopes)),
            cluster_connections: Arc::new(View::new(1)),
            identities: Arc::new(View::new(scopes)),
            tokens: Arc::new(View::new(scopes)),
            revocations: Arc::new(View::new(scopes)),
            cluster_revocations: Arc::new(View::new(1)),
            secrets: Arc::new(View::new(scopes)),
            namespaces: Arc::new(View::new(scopes)),
        }
    }

    /// All identities with this id at this endpoint.
    #[must_use]
    pub fn siblings(&self, id: &str, endpoint: &str) -> Vec<Arc<AcsIdentity>> {
        let mut found = self.identities.find(&index::with_id(id));
        found.retain(|identity| {
            let status = identity.status.as_ref();
            status.and_then(|status| status.endpoint.as_deref()) == Some(endpoint)
        });
        found
    }

    /// Waits until all is known that every run needs; before that, absent means unknown. What only
    /// some runs need is not waited for here.
    pub async fn ready(&self) {
        self.connections.ready().await;
        self.identities.ready().await;
        self.tokens.ready().await;
        self.secrets.ready().await;
        self.namespaces.ready().await;
    }
}

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
    /// What is remembered of single objects.
    pub memory: Memory,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Context {
    /// The operator's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.world.now()
    }

    /// The service's clock, or up to a second earlier; unknown before its first answer.
    #[must_use]
    pub fn service_now(&self, endpoint: Option<&str>) -> Option<Timestamp> {
        let endpoint = acs::Endpoint::parse(endpoint?).ok()?;
        self.world.service_now(&endpoint)
    }

    /// What a call through the connection needs, if an object of `namespace` may make one now.
    pub fn usable_connection(
        &self,
        key: &ConnectionKey,
        namespace: &str,
        now: Timestamp,
    ) -> Result<Resolved, Unusable> {
        let reference = object_ref(key.namespace.as_deref(), &key.name);
        let is_there = match key.kind {
            ConnectionKind::AcsConnection => self.views.connections.get(&reference).is_some(),
            ConnectionKind::ClusterAcsConnection => {
                let reference = object_ref(None, &key.name);
                let connection = self.views.cluster_connections.get(&reference);
                if let Some(connection) = &connection {
                    self.check_namespace(connection, key, namespace)?;
                }
                connection.is_some()
            }
        };
        if !is_there {
            return Err(Unusable {
                reason: "ConnectionNotFound".into(),
                message: format!("waiting for {key}, which does not exist"),
                is_stalled: false,
                retry_at: None,
            });
        }
        self.registry.usable(key, now)
    }

    /// The connection that an object of `namespace` uses: the `named` one, the one `kept` from
    /// before, or the one called `default`.
    #[must_use]
    pub fn connection_reference(
        &self,
        named: Option<&ConnectionRef>,
        kept: Option<&ConnectionRef>,
        namespace: &str,
    ) -> ConnectionRef {
        if let Some(reference) = named.or(kept) {
            return reference.clone();
        }
        let name = DEFAULT_CONNECTION.to_owned();
        let own = object_ref(Some(namespace), &name);
        let own = self.views.connections.get(&own);
        let of_cluster = object_ref(None, &name);
        let of_cluster = self.views.cluster_connections.get(&of_cluster);
        let kind = match (own, of_cluster) {
            (None, Some(_)) => ConnectionKind::ClusterAcsConnection,
            _ => ConnectionKind::AcsConnection,
        };
        ConnectionRef { kind, name }
    }

    /// Until when an object that names no connection waits for an `AcsConnection` called `default`
    /// before it uses the `ClusterAcsConnection`, so that one `kubectl apply` of everything gives the
    /// same in any order; longer in a namespace that came with it. `None` when it has waited.
    #[must_use]
    pub fn fallback_waits(&self, object: &ObjectMeta, now: Timestamp) -> Option<Timestamp> {
        let uid = object.uid.as_deref().unwrap_or_default();
        let mut seen_at = now;
        self.memory.change(uid, |memory| {
            seen_at = memory.first_seen.map_or(now, |seen| seen.min(now));
            memory.first_seen = Some(seen_at);
        });
        let namespace = object.namespace.as_deref().unwrap_or_default();
        let namespace = self.views.namespaces.get(&object_ref(None, namespace));
        let made_at = |metadata: &ObjectMeta| Some(metadata.creation_timestamp.as_ref()?.0);
        let is_young = namespace
            .and_then(|namespace| made_at(&namespace.metadata))
            .zip(made_at(object))
            .is_some_and(|(namespace, object)| {
                object.duration_since(namespace) < SignedDuration::from_mins(1)
            });
        let span = if is_young { 10 } else { 3 };
        renewal::pause(seen_at, SignedDuration::from_secs(span), now)
    }

    /// Whether the namespace has an `AcsConnection` called `default`.
    #[must_use]
    pub fn has_default(&self, namespace: &str) -> bool {
        let own = object_ref(Some(namespace), DEFAULT_CONNECTION);
        self.views.connections.get(&own).is_some()
    }

    fn check_namespace(
        &self,
        connection: &ClusterAcsConnection,
        key: &ConnectionKey,
        namespace: &str,
    ) -> Result<(), Unusable> {
        let Some(Some(policy)) = connection.namespaces() else {
            return Err(denied(
                key,
                namespace,
                "its policy.namespaces is not set, so nobody may",
            ));
        };
        let is_named = policy.names.iter().flatten().any(|name| name == namespace);
        let is_selected = policy.selector.as_ref().is_some_and(|selector| {
            let labels = self.views.namespaces.get(&object_ref(None, namespace));
            let labels = labels.and_then(|namespace| namespace.metadata.labels.clone());
            let selector = Selector::try_from(selector.clone());
            selector.is_ok_and(|selector| selector.matches(&labels.unwrap_or_default()))
        });
        if is_named || is_selected {
            return Ok(());
        }
        Err(denied(
            key,
            namespace,
            "neither names nor selector of its policy.namespaces fit",
        ))
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
        self.memory.change(uid, |memory| {
            seen_at = memory.deleted.map_or(now, |seen| seen.min(now));
            memory.deleted = Some(seen_at);
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
    pub fn is_moot(&self, error: &cluster::Error, metadata: &ObjectMeta) -> bool {
        let now = self.now();
        let is_late = || {
            metadata.deletion_timestamp.is_some() && now >= self.deletion_deadline(metadata, now)
        };
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        error.is_forbidden() && (self.is_terminating(namespace) || is_late())
    }

    /// Whether identities that exist may be taken over through the connection.
    #[must_use]
    pub fn allows_adoption(&self, key: &ConnectionKey) -> bool {
        self.policy(
            key,
            AnyConnection::allows_adoption,
            AnyConnection::allows_adoption,
        )
    }

    /// Whether several objects may use one identity of the connection.
    #[must_use]
    pub fn shares_identities(&self, key: &ConnectionKey) -> bool {
        self.policy(
            key,
            AnyConnection::shares_identities,
            AnyConnection::shares_identities,
        )
    }

    /// What tokens may be asked for through the connection; everything where there is none.
    #[must_use]
    pub fn token_policy(&self, key: &ConnectionKey) -> TokenPolicy {
        self.policy(
            key,
            AnyConnection::token_policy,
            AnyConnection::token_policy,
        )
    }

    /// A part of the connection's policy; its default where there is no such connection.
    fn policy<T: Default>(
        &self,
        key: &ConnectionKey,
        namespaced: fn(&AcsConnection) -> T,
        of_cluster: fn(&ClusterAcsConnection) -> T,
    ) -> T {
        match key.kind {
            ConnectionKind::AcsConnection => {
                let reference = object_ref(key.namespace.as_deref(), &key.name);
                self.views
                    .connections
                    .get(&reference)
                    .map(|found| namespaced(&found))
                    .unwrap_or_default()
            }
            ConnectionKind::ClusterAcsConnection => {
                let reference = object_ref(None, &key.name);
                self.views
                    .cluster_connections
                    .get(&reference)
                    .map(|found| of_cluster(&found))
                    .unwrap_or_default()
            }
        }
    }

    /// A call went through: the credential is good.
    pub fn note_success(&self, key: &ConnectionKey, resolved: &Resolved) {
        if self.registry.accepted(key, &resolved.credential) {
            self.requeue_connection(key);
            self.requeue_users(key);
        }
    }

    /// A call failed; where that speaks of the credential, everybody who uses it has to know (I4).
    /// True when another credential is in use now: the call is to be decided on again.
    pub fn note_failure(
        &self,
        key: &ConnectionKey,
        resolved: &Resolved,
        error: &acs::Error,
    ) -> bool {
        let message = error.to_string();
        self.note_kind(key, resolved, error.kind(), &message)
    }

    fn note_kind(
        &self,
        key: &ConnectionKey,
        resolved: &Resolved,
        kind: acs::Kind,
        message: &str,
    ) -> bool {
        let credential = &resolved.credential;
        match kind {
            acs::Kind::CredentialRefused
            | acs::Kind::TokenRefused
            | acs::Kind::TokenUnavailable
            | acs::Kind::NoAssertion => {
                let reason = kind.reason();
                let refused = self
                    .registry
                    .refused(key, credential, reason, message, self.now());
                if matches!(
                    refused,
                    Refused::Replaced | Refused::Failed { is_news: true }
                ) {
                    self.requeue_connection(key);
                }
                if refused == Refused::Replaced {
                    self.requeue_users(key);
                }
                return !matches!(refused, Refused::Failed { .. });
            }
            // These come only after the service has accepted the signature.
            acs::Kind::IdentityNotOwned | acs::Kind::IdentityNotFound | acs::Kind::Invalid => {
                self.note_success(key, resolved);
            }
            _ => self.registry.untried(key, credential),
        }
        false
    }

    /// ACS has said whether the identity exists: that holds for all its objects (T8).
    pub fn note_existence(&self, identity_id: &str, endpoint: &str, is_missing: bool) {
        for identity in self.views.siblings(identity_id, endpoint) {
            let uid = identity.uid().unwrap_or_default();
            let mut is_news = false;
            self.memory.change(&uid, |memory| {
                is_news = memory.is_missing.unwrap_or(false) != is_missing
                    || is_missing != is_told_missing(&identity);
                memory.is_missing = Some(is_missing);
            });
            if is_news {
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
        let said = self.memory.of(&uid).is_missing;
        said.unwrap_or_else(|| is_told_missing(identity))
    }

    /// Asks that the connection be looked at.
    pub fn requeue_connection(&self, key: &ConnectionKey) {
        self.requeue.send(key);
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
    pub async fn inform<K>(&self, object: &K, reason: &str, note: impl Into<String>)
    where
        K: Resource<DynamicType = ()>,
    {
        self.publish(object, false, reason, note.into()).await;
    }

    /// Publishes an Event of what a person should look at.
    pub async fn warn<K>(&self, object: &K, reason: &str, note: impl Into<String>)
    where
        K: Resource<DynamicType = ()>,
    {
        self.publish(object, true, reason, note.into()).await;
    }

    async fn publish<K>(&self, object: &K, is_warning: bool, reason: &str, note: String)
    where
        K: Resource<DynamicType = ()>,
    {
        let notice = Notice {
            about: object.object_ref(&()),
            is_warning,
            reason: reason.to_owned(),
            note,
        };
        // One that can't be published is logged, and never a reason to fail.
        let _ = self.world.ask(ApiRequest::Publish(notice)).await;
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
            self.warn(&namespace, "Abandoned", message).await;
        } else {
            self.warn(object, "Abandoned", message).await;
        }
    }
}

fn is_told_missing(identity: &AcsIdentity) -> bool {
    let status = identity.status.as_ref();
    status.is_some_and(|status| ready_reason(&status.conditions) == IDENTITY_NOT_FOUND)
}

fn denied(key: &ConnectionKey, namespace: &str, why: &str) -> Unusable {
    Unusable {
        reason: "PolicyDenied".into(),
        message: format!("{key} may not be used in namespace {namespace}: {why}; ask who owns it"),
        is_stalled: true,
        retry_at: None,
    }
}
