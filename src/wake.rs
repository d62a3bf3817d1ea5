//! Who is to run.

use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::crd::{
    AcsConnection, AcsIdentity, AcsRevocation, AcsToken, ClusterAcsConnection, ClusterAcsRevocation,
};

/// Asks for a run of an object.
#[derive(Clone, Debug)]
pub struct Wake {
    /// Of an `AcsConnection`.
    pub connections: UnboundedSender<ObjectRef<AcsConnection>>,
    /// Of a `ClusterAcsConnection`.
    pub cluster_connections: UnboundedSender<ObjectRef<ClusterAcsConnection>>,
    /// Of an `AcsIdentity`.
    pub identities: UnboundedSender<ObjectRef<AcsIdentity>>,
    /// Of an `AcsToken`.
    pub tokens: UnboundedSender<ObjectRef<AcsToken>>,
    /// Of an `AcsRevocation`.
    pub revocations: UnboundedSender<ObjectRef<AcsRevocation>>,
    /// Of a `ClusterAcsRevocation`.
    pub cluster_revocations: UnboundedSender<ObjectRef<ClusterAcsRevocation>>,
}

/// The other ends of [`Wake`].
#[derive(Debug)]
pub struct Triggers {
    /// For the controller of `AcsConnection`s.
    pub connections: UnboundedReceiver<ObjectRef<AcsConnection>>,
    /// For the controller of `ClusterAcsConnection`s.
    pub cluster_connections: UnboundedReceiver<ObjectRef<ClusterAcsConnection>>,
    /// For the controller of `AcsIdentity`s.
    pub identities: UnboundedReceiver<ObjectRef<AcsIdentity>>,
    /// For the controller of `AcsToken`s.
    pub tokens: UnboundedReceiver<ObjectRef<AcsToken>>,
    /// For the controller of `AcsRevocation`s.
    pub revocations: UnboundedReceiver<ObjectRef<AcsRevocation>>,
    /// For the controller of `ClusterAcsRevocation`s.
    pub cluster_revocations: UnboundedReceiver<ObjectRef<ClusterAcsRevocation>>,
}

impl Wake {
    /// Both ends.
    #[must_use]
    pub fn channels() -> (Self, Triggers) {
        let (connections, for_connections) = unbounded_channel();
        let (cluster_connections, for_cluster_connections) = unbounded_channel();
        let (identities, for_identities) = unbounded_channel();
        let (tokens, for_tokens) = unbounded_channel();
        let (revocations, for_revocations) = unbounded_channel();
        let (cluster_revocations, for_cluster_revocations) = unbounded_channel();
        (
            Self {
                connections,
                cluster_connections,
                identities,
                tokens,
                revocations,
                cluster_revocations,
            },
            Triggers {
                connections: for_connections,
                cluster_connections: for_cluster_connections,
                identities: for_identities,
                tokens: for_tokens,
                revocations: for_revocations,
                cluster_revocations: for_cluster_revocations,
            },
        )
    }
}
