//! What all controllers share.

use std::{net::SocketAddr, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Namespace, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Client, Resource,
    core::{PartialObjectMeta, Selector, SelectorExt},
    runtime::reflector::ObjectRef,
};

use crate::{
    acs::{self, Allowed, Service},
    cluster::{
        self,
        event::Events,
        input::Inputs,
        view::{Indexed, View, object_ref},
    },
    connection::{AnyConnection, ConnectionKey, Refused, Registry, Resolved, Unusable},
    crd::{
        AcsConnection, AcsIdentity, AcsRevocation, AcsToken, ClusterAcsConnection,
        ClusterAcsRevocation, ConnectionKind, ConnectionRef, DEFAULT_CONNECTION, TokenPolicy,
    },
    gate::Gates,
    memory::Memory,
    metrics::Metrics,
    renewal, revocation, token,
    wake::Wake,
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

/// What all controllers share.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The ACS identity service.
    pub acs: Service,
    /// What a person has set.
    pub config: Config,
    /// What the watches know.
    pub views: Views,
    /// Asks for runs.
    pub wake: Wake,
    /// The credentials.
    pub registry: Registry,
    /// Keeps issuing and revoking apart.
    pub gates: Gates,
    /// What is remembered of single objects.
    pub memory: Memory,
    /// Watches of single Secrets that are not ours.
    pub inputs: Inputs,
    /// Publishes Events.
    pub events: Events,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Context {
    /// The service's clock, or up to a second earlier; unknown before its first answer.
    #[must_use]
    pub fn service_now(&self, endpoint: Option<&str>) -> Option<Timestamp> {
        let endpoint = acs::Endpoint::parse(endpoint?).ok()?;
        self.acs.endpoint_now(&endpoint)
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
        let now = Timestamp::now();
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
            self.wake_connection(key);
            self.wake_users(key);
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
        self.note_kind(key, resolved, error.kind(), &message, Timestamp::now())
    }

    /// As [`Self::note_failure`], for an error that is known by its kind.
    pub fn note_kind(
        &self,
        key: &ConnectionKey,
        resolved: &Resolved,
        kind: acs::Kind,
        message: &str,
        now: Timestamp,
    ) -> bool {
        let credential = &resolved.credential;
        match kind {
            acs::Kind::CredentialRefused
            | acs::Kind::TokenRefused
            | acs::Kind::TokenUnavailable
            | acs::Kind::NoAssertion => {
                let reason = kind.reason();
                let refused = self.registry.refused(key, credential, reason, message, now);
                if matches!(
                    refused,
                    Refused::Replaced | Refused::Failed { is_news: true }
                ) {
                    self.wake_connection(key);
                }
                if refused == Refused::Replaced {
                    self.wake_users(key);
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

    /// Asks for a run of the connection.
    pub fn wake_connection(&self, key: &ConnectionKey) {
        // A closed channel means that the process is ending.
        let _ = match key.kind {
            ConnectionKind::AcsConnection => {
                let reference = object_ref(key.namespace.as_deref(), &key.name);
                self.wake.connections.send(reference).is_ok()
            }
            ConnectionKind::ClusterAcsConnection => self
                .wake
                .cluster_connections
                .send(object_ref(None, &key.name))
                .is_ok(),
        };
    }

    /// Asks for a run of everything that uses the connection.
    pub fn wake_users(&self, key: &ConnectionKey) {
        for identity in self.views.identities.find_refs(&key.index_key()) {
            self.wake_tokens(&identity);
            let _ = self.wake.identities.send(identity);
        }
        // Those of Teams users.
        for token in self.views.tokens.find_refs(&key.index_key()) {
            let _ = self.wake.tokens.send(token);
        }
    }

    /// Asks for a run of all tokens of an identity.
    pub fn wake_tokens(&self, identity: &ObjectRef<AcsIdentity>) {
        let namespace = identity.namespace.clone().unwrap_or_default();
        let key = token::identity_key(&namespace, &identity.name);
        for token in self.views.tokens.find_refs(&key) {
            let _ = self.wake.tokens.send(token);
        }
    }

    /// Asks for a run of all orders that have the identity as an open target.
    pub fn wake_orders(&self, identity: &ObjectRef<AcsIdentity>) {
        let namespace = identity.namespace.as_deref().unwrap_or_default();
        let key = revocation::target_key(namespace, &identity.name);
        for order in self.views.revocations.find_refs(&key) {
            let _ = self.wake.revocations.send(order);
        }
        for order in self.views.cluster_revocations.find_refs(&key) {
            let _ = self.wake.cluster_revocations.send(order);
        }
    }

    /// Tells on an object what is left behind in ACS; on its namespace where the object's own
    /// Events can no longer be created (I3).
    pub async fn tell_abandoned<K>(&self, object: &K, namespace: &str, message: &str)
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
            self.events.warning(&namespace, "Abandoned", message).await;
        } else {
            self.events.warning(object, "Abandoned", message).await;
        }
    }
}

fn denied(key: &ConnectionKey, namespace: &str, why: &str) -> Unusable {
    Unusable {
        reason: "PolicyDenied".into(),
        message: format!("{key} may not be used in namespace {namespace}: {why}; ask who owns it"),
        is_stalled: true,
        retry_at: None,
    }
}

impl Indexed for PartialObjectMeta<Namespace> {
    fn index_keys(&self) -> Vec<String> {
        Vec::new()
    }
}
