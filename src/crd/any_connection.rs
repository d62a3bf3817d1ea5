use std::fmt::Debug;

use kube::{Resource, ResourceExt, core::object::HasStatus};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    AcsConnection, Adoption, Auth, ClusterAcsConnection, ConnectionKey, ConnectionKind,
    ConnectionStatus, NamespacePolicy, TokenPolicy,
};

/// Common interface of the two kinds of connection.
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
    /// Kind of the connection.
    const KIND: ConnectionKind;

    /// `spec.endpoint`.
    fn endpoint(&self) -> Option<&str>;
    /// `spec.apiVersion`.
    fn api_version(&self) -> Option<&str>;
    /// `spec.auth`.
    fn auth(&self) -> &Auth;
    /// Whether existing identities may be adopted.
    fn allows_adoption(&self) -> bool;
    /// Whether several `AcsIdentity` objects may use one identity in ACS.
    fn shares_identities(&self) -> bool;
    /// Rules for tokens.
    fn token_policy(&self) -> TokenPolicy;
    /// Namespaces that may use the connection; `None` for a kind that has no such rule.
    fn namespaces(&self) -> Option<Option<&NamespacePolicy>>;
    /// Copy of the object with `status` in place of its own.
    #[must_use]
    fn with_status(&self, status: ConnectionStatus) -> Self {
        let mut next = self.clone();
        *next.status_mut() = Some(status);
        next
    }

    /// Key of the connection.
    fn key(&self) -> ConnectionKey {
        ConnectionKey {
            kind: Self::KIND,
            namespace: self.namespace(),
            name: self.name_any(),
        }
    }
}

/// Fields that have the same names in the specs of both kinds.
macro_rules! common_fields {
    () => {
        fn endpoint(&self) -> Option<&str> {
            self.spec.endpoint.as_deref()
        }
        fn api_version(&self) -> Option<&str> {
            self.spec.api_version.as_deref()
        }
        fn auth(&self) -> &Auth {
            &self.spec.auth
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
    };
}

impl AnyConnection for AcsConnection {
    const KIND: ConnectionKind = ConnectionKind::AcsConnection;

    common_fields!();

    fn allows_adoption(&self) -> bool {
        self.spec.policy.as_ref().and_then(|policy| policy.adoption) != Some(Adoption::Deny)
    }
    fn namespaces(&self) -> Option<Option<&NamespacePolicy>> {
        None
    }
}

impl AnyConnection for ClusterAcsConnection {
    const KIND: ConnectionKind = ConnectionKind::ClusterAcsConnection;

    common_fields!();

    fn allows_adoption(&self) -> bool {
        self.spec.policy.as_ref().and_then(|policy| policy.adoption) == Some(Adoption::Allow)
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
