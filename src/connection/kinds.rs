use std::{fmt, fmt::Debug};

use kube::{Resource, ResourceExt, core::object::HasStatus};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    cluster::view::Indexed,
    crd::{
        AcsConnection, Adoption, Auth, ClusterAcsConnection, ConnectionKind, ConnectionRef,
        ConnectionStatus, DEFAULT_CONNECTION, NamespacePolicy, TokenPolicy,
    },
};

/// Names one connection of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    /// Its kind.
    pub kind: ConnectionKind,
    /// Its namespace; none for a `ClusterAcsConnection`.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl ConnectionKey {
    /// The connection that `reference` names in an object of `namespace`.
    #[must_use]
    pub fn of(reference: &ConnectionRef, namespace: &str) -> Self {
        let namespace =
            (reference.kind == ConnectionKind::AcsConnection).then(|| namespace.to_owned());
        Self {
            kind: reference.kind,
            namespace,
            name: reference.name.clone(),
        }
    }

    /// How an object that may use it names it.
    #[must_use]
    pub fn reference(&self) -> ConnectionRef {
        ConnectionRef {
            kind: self.kind,
            name: self.name.clone(),
        }
    }

    /// All connections that an object of `namespace` may turn out to use, which names the one and
    /// `kept` the other before: whichever `default` comes first, if it names none.
    #[must_use]
    pub fn candidates(
        named: Option<&ConnectionRef>,
        kept: Option<&ConnectionRef>,
        namespace: &str,
    ) -> Vec<Self> {
        if let Some(reference) = named.or(kept) {
            return vec![Self::of(reference, namespace)];
        }
        [
            ConnectionKind::AcsConnection,
            ConnectionKind::ClusterAcsConnection,
        ]
        .map(|kind| ConnectionRef {
            kind,
            name: DEFAULT_CONNECTION.to_owned(),
        })
        .map(|reference| Self::of(&reference, namespace))
        .into()
    }

    /// The key by which what uses it is indexed.
    #[must_use]
    pub fn index_key(&self) -> String {
        format!("connection:{self}")
    }
}

impl fmt::Display for ConnectionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind.as_str(), self.name),
            None => write!(f, "{} {}", self.kind.as_str(), self.name),
        }
    }
}

/// What the two kinds of connection have in common.
pub trait AnyConnection:
    Resource<DynamicType = ()>
    + HasStatus<Status = ConnectionStatus>
    + Indexed
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// The kind.
    const KIND: ConnectionKind;

    /// `spec.endpoint`.
    fn endpoint(&self) -> Option<&str>;
    /// `spec.apiVersion`.
    fn api_version(&self) -> Option<&str>;
    /// `spec.auth`.
    fn auth(&self) -> &Auth;
    /// Whether identities that exist may be taken over.
    fn allows_adoption(&self) -> bool;
    /// Whether several objects may use one identity.
    fn shares_identities(&self) -> bool;
    /// What tokens may be asked for.
    fn token_policy(&self) -> TokenPolicy;
    /// The namespaces that may use it; `None` where that is not for a policy to say.
    fn namespaces(&self) -> Option<Option<&NamespacePolicy>>;
    /// The same object with another status.
    #[must_use]
    fn with_status(&self, status: ConnectionStatus) -> Self {
        let mut next = self.clone();
        *next.status_mut() = Some(status);
        next
    }

    /// Its key.
    fn key(&self) -> ConnectionKey {
        ConnectionKey {
            kind: Self::KIND,
            namespace: self.namespace(),
            name: self.name_any(),
        }
    }
}

impl AnyConnection for AcsConnection {
    const KIND: ConnectionKind = ConnectionKind::AcsConnection;

    fn endpoint(&self) -> Option<&str> {
        self.spec.endpoint.as_deref()
    }
    fn api_version(&self) -> Option<&str> {
        self.spec.api_version.as_deref()
    }
    fn auth(&self) -> &Auth {
        &self.spec.auth
    }
    fn allows_adoption(&self) -> bool {
        self.spec.policy.as_ref().and_then(|policy| policy.adoption) != Some(Adoption::Deny)
    }
    fn shares_identities(&self) -> bool {
        self.spec
            .policy
            .as_ref()
            .and_then(|policy| policy.shared_identities)
            == Some(true)
    }
    fn token_policy(&self) -> TokenPolicy {
        let policy = self.spec.policy.as_ref();
        policy
            .map(|policy| policy.tokens.clone())
            .unwrap_or_default()
    }
    fn namespaces(&self) -> Option<Option<&NamespacePolicy>> {
        None
    }
}

impl AnyConnection for ClusterAcsConnection {
    const KIND: ConnectionKind = ConnectionKind::ClusterAcsConnection;

    fn endpoint(&self) -> Option<&str> {
        self.spec.endpoint.as_deref()
    }
    fn api_version(&self) -> Option<&str> {
        self.spec.api_version.as_deref()
    }
    fn auth(&self) -> &Auth {
        &self.spec.auth
    }
    fn allows_adoption(&self) -> bool {
        self.spec.policy.as_ref().and_then(|policy| policy.adoption) == Some(Adoption::Allow)
    }
    fn shares_identities(&self) -> bool {
        self.spec
            .policy
            .as_ref()
            .and_then(|policy| policy.shared_identities)
            == Some(true)
    }
    fn token_policy(&self) -> TokenPolicy {
        let policy = self.spec.policy.as_ref();
        policy
            .map(|policy| policy.tokens.clone())
            .unwrap_or_default()
    }
    fn namespaces(&self) -> Option<Option<&NamespacePolicy>> {
        Some(
            self.spec
                .policy
                .as_ref()
                .and_then(|policy| policy.namespaces.as_ref()),
        )
    }
}

impl Indexed for AcsConnection {
    fn index_keys(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Indexed for ClusterAcsConnection {
    fn index_keys(&self) -> Vec<String> {
        Vec::new()
    }
}
