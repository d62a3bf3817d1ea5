use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::core::PartialObjectMeta;

use crate::{
    cluster::{index, view::View},
    consumers::ConsumerPod,
    crd::{
        AcsConnection, AcsIdentity, AcsRevocation, AcsToken, ClusterAcsConnection,
        ClusterAcsRevocation,
    },
};

/// Views of everything that the operator watches.
#[derive(Debug)]
pub struct Views {
    /// All `AcsConnection` objects.
    pub connections: Arc<View<AcsConnection>>,
    /// All `ClusterAcsConnection` objects.
    pub cluster_connections: Arc<View<ClusterAcsConnection>>,
    /// All `AcsIdentity` objects.
    pub identities: Arc<View<AcsIdentity>>,
    /// All `AcsToken` objects.
    pub tokens: Arc<View<AcsToken>>,
    /// All `AcsRevocation` objects.
    pub revocations: Arc<View<AcsRevocation>>,
    /// All `ClusterAcsRevocation` objects.
    pub cluster_revocations: Arc<View<ClusterAcsRevocation>>,
    /// Secrets that the operator owns, without their data.
    pub secrets: Arc<View<PartialObjectMeta<Secret>>>,
    /// Pods that have not terminated, with their uses of Secrets. Empty if they are not counted.
    pub pods: Arc<View<ConsumerPod>>,
    /// Watched namespaces, without spec and status.
    pub namespaces: Arc<View<PartialObjectMeta<Namespace>>>,
}

impl Views {
    /// Returns empty views, to be filled by one watch per namespace.
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
            pods: Arc::new(View::new(scopes)),
            namespaces: Arc::new(View::new(scopes)),
        }
    }

    /// Returns all identities with this id at this endpoint.
    #[must_use]
    pub fn siblings(&self, id: &str, endpoint: &str) -> Vec<Arc<AcsIdentity>> {
        let found = self.identities.find(&index::with_id(id));
        found
            .filter(|identity| {
                let status = identity.status.as_ref();
                status.and_then(|status| status.endpoint.as_deref()) == Some(endpoint)
            })
            .collect()
    }

    /// Waits until everything that every run needs is known; before that, absent means unknown.
    /// Kinds that only some runs need are not waited for here.
    pub async fn ready(&self) {
        self.connections.ready().await;
        self.identities.ready().await;
        self.tokens.ready().await;
        self.secrets.ready().await;
        self.namespaces.ready().await;
    }
}
