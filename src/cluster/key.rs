use std::fmt;

use kube::{Resource, runtime::reflector::ObjectRef};

use super::view::object_ref;
use crate::crd::ConnectionKey;
use crate::crd::{
    AcsConnection, AcsIdentity, AcsRevocation, AcsToken, ClusterAcsConnection,
    ClusterAcsRevocation, ConnectionKind,
};

/// The kinds that the operator reconciles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `AcsConnection`.
    Connection,
    /// `ClusterAcsConnection`.
    ClusterConnection,
    /// `AcsIdentity`.
    Identity,
    /// `AcsToken`.
    Token,
    /// `AcsRevocation`.
    Revocation,
    /// `ClusterAcsRevocation`.
    ClusterRevocation,
}

impl Kind {
    /// The kind as it stands in manifests, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "AcsConnection",
            Self::ClusterConnection => "ClusterAcsConnection",
            Self::Identity => "AcsIdentity",
            Self::Token => "AcsToken",
            Self::Revocation => "AcsRevocation",
            Self::ClusterRevocation => "ClusterAcsRevocation",
        }
    }
}

/// Names one object that the operator reconciles.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; none for a cluster-scoped object.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl ObjectKey {
    /// The reference by which a view finds the object.
    #[must_use]
    pub fn reference<K: Resource<DynamicType = ()>>(&self) -> ObjectRef<K> {
        object_ref(self.namespace.as_deref(), &self.name)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind.as_str(), self.name),
            None => write!(f, "{} {}", self.kind.as_str(), self.name),
        }
    }
}

macro_rules! keys {
    ($($object:ty => $kind:ident),*) => {$(
        impl From<ObjectRef<$object>> for ObjectKey {
            fn from(reference: ObjectRef<$object>) -> Self {
                Self {
                    kind: Kind::$kind,
                    namespace: reference.namespace,
                    name: reference.name,
                }
            }
        }
    )*};
}

keys!(
    AcsConnection => Connection,
    ClusterAcsConnection => ClusterConnection,
    AcsIdentity => Identity,
    AcsToken => Token,
    AcsRevocation => Revocation,
    ClusterAcsRevocation => ClusterRevocation
);

impl From<&ConnectionKey> for ObjectKey {
    fn from(key: &ConnectionKey) -> Self {
        let kind = match key.kind {
            ConnectionKind::AcsConnection => Kind::Connection,
            ConnectionKind::ClusterAcsConnection => Kind::ClusterConnection,
        };
        Self {
            kind,
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        }
    }
}
