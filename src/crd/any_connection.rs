use std::fmt::Debug;

use kube::{Resource, ResourceExt, core::object::HasStatus};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    AcsConnection, Adoption, Auth, ClusterAcsConnection, ConnectionKey, ConnectionKind,
    ConnectionStatus, NamespacePolicy, TokenPolicy,
};

/// What the two kinds of connection have in common.
pub trait AnyConnection:
    Resource<DynamicType = ()>
    + HasStatus<Status = ConnectionStatus>
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
