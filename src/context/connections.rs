//! Connections of objects: the one that an object uses, its policy, and the state of its
//! credential.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{Selector, SelectorExt};

use super::Context;
use crate::{
    acs::{self, Resolved},
    cluster::{ObjectKey, view::object_ref},
    crd::{
        AcsConnection, AnyConnection, ClusterAcsConnection, ConnectionKey, ConnectionKind,
        ConnectionRef, DEFAULT_CONNECTION, Reason, TokenPolicy,
    },
    credentials::{Refused, Unusable},
    engine::{AcsCall, Answered, StepOutcome},
    renewal,
};

impl Context {
    /// Returns what a call through the connection needs, if an object of `namespace` may make one
    /// now.
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
                reason: Reason::ConnectionNotFound,
                message: format!("waiting for {key}, which does not exist"),
                is_stalled: false,
                retry_at: None,
            });
        }
        self.registry.usable(key, now)
    }

    /// Returns the connection that an object of `namespace` uses: the `named` one, the one `kept`
    /// from before, or the one called `default`.
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

    /// Returns until when an object that names no connection waits for an `AcsConnection` called
    /// `default` before it uses the `ClusterAcsConnection`; `None` if it has waited. The wait makes
    /// the result of one `kubectl apply` independent of the order of its objects; it is longer in a
    /// namespace that was created together with the object.
    #[must_use]
    pub fn fallback_waits(&self, object: &ObjectMeta, now: Timestamp) -> Option<Timestamp> {
        let uid = object.uid.as_deref().unwrap_or_default();
        let mut seen_at = now;
        self.cache.change(uid, |cache| {
            seen_at = cache.first_seen.map_or(now, |seen| seen.min(now));
            cache.first_seen = Some(seen_at);
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
                "its policy.namespaces is not set, so no namespace may use it",
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
            "neither names nor selector in its policy.namespaces match",
        ))
    }

    /// Whether existing identities may be adopted through the connection.
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

    /// Returns the token policy of the connection; it allows everything if there is no such
    /// connection.
    #[must_use]
    pub fn token_policy(&self, key: &ConnectionKey) -> TokenPolicy {
        self.policy(
            key,
            AnyConnection::token_policy,
            AnyConnection::token_policy,
        )
    }

    /// Returns a part of the connection's policy; its default if there is no such connection.
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

    /// Takes the answer to the call of an object. What it says about the credential is passed on to
    /// all users of the credential once, however often the answer is kept because it cannot be
    /// recorded yet (I4, K5).
    #[must_use]
    pub fn take_answer(&self, object: &ObjectKey) -> Option<Answered> {
        let mut answered = self.calls.take_answer(object)?;
        if answered.is_overtaken.is_none() {
            let AcsCall {
                connection, via, ..
            } = &answered.call;
            let is_overtaken = match &answered.result {
                Ok(_) => {
                    self.note_success(connection, via);
                    false
                }
                Err(error) => self.note_failure(connection, via, error),
            };
            answered.is_overtaken = Some(is_overtaken);
        }
        Some(answered)
    }

    /// Records that ACS accepted the credential of a call.
    fn note_success(&self, key: &ConnectionKey, resolved: &Resolved) {
        if self.registry.accepted(key, &resolved.credential) {
            self.requeue_connection(key);
            self.requeue_users(key);
        }
    }

    /// Sends a call that has its turn, and returns the outcome of the step. A credential that may
    /// not work is tried by one caller at a time.
    pub fn begin(&self, call: AcsCall) -> StepOutcome {
        let (connection, credential) = (call.connection.clone(), call.via.credential.clone());
        if !self.registry.may_call(&connection, &credential, self.now()) {
            return StepOutcome::Overtaken;
        }
        if !self.calls.begin(&*self.world, call) {
            self.registry.untried(&connection, &credential);
        }
        StepOutcome::Waits
    }

    /// Records a failed call. If the failure concerns the credential, its users are requeued (I4).
    /// Returns true if another credential is in use now, so that the call must be decided on again.
    fn note_failure(&self, key: &ConnectionKey, resolved: &Resolved, error: &acs::Error) -> bool {
        let credential = &resolved.credential;
        match error.kind() {
            acs::Kind::CredentialRefused
            | acs::Kind::TokenRefused
            | acs::Kind::TokenUnavailable
            | acs::Kind::NoAssertion => {
                let (reason, message) = (error.kind().into(), error.to_string());
                let refused = self
                    .registry
                    .refused(key, credential, reason, &message, self.now());
                if matches!(
                    refused,
                    Refused::Replaced | Refused::Failed { is_changed: true }
                ) {
                    self.requeue_connection(key);
                }
                if refused == Refused::Replaced {
                    self.requeue_users(key);
                }
                return !matches!(refused, Refused::Failed { .. });
            }
            // ACS returns these errors only after it has accepted the signature.
            acs::Kind::IdentityNotOwned | acs::Kind::IdentityNotFound | acs::Kind::Invalid => {
                self.note_success(key, resolved);
            }
            _ => self.registry.untried(key, credential),
        }
        false
    }
}

fn denied(key: &ConnectionKey, namespace: &str, why: &str) -> Unusable {
    Unusable {
        reason: Reason::PolicyDenied,
        message: format!(
            "{key} may not be used in namespace {namespace}: {why}; ask the owner of \
         the connection to allow it"
        ),
        is_stalled: true,
        retry_at: None,
    }
}
