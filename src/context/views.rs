use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::core::PartialObjectMeta;

use crate::{
    cluster::{index, view::View},
    crd::{
        AcsConnection, AcsIdentity, AcsRevocation, AcsToken, ClusterAcsConnection,
        ClusterAcsRevocation,
    },
};

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
        let found = self.identities.find(&index::with_id(id));
        found
            .filter(|identity| {
                let status = identity.status.as_ref();
                status.and_then(|status| status.endpoint.as_deref()) == Some(endpoint)
            })
            .collect()
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
