use std::fmt;

use kube::{Resource, runtime::reflector::ObjectRef};

use super::view::object_ref;
use crate::crd::ConnectionKey;
use crate::crd::{
    AcsConnection, AcsIdentity, AcsRevocation, AcsToken, ClusterAcsConnection,
    ClusterAcsRevocation, ConnectionKind,
};

/// Kind that the operator reconciles.
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
    /// Returns the name of the kind in manifests, logs and metrics.
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

/// Key of an object that the operator reconciles.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Kind of the object.
    pub kind: Kind,
    /// Namespace of the object; `None` if it is cluster-scoped.
    pub namespace: Option<String>,
    /// Name of the object.
    pub name: String,
}

impl ObjectKey {
    /// Returns the reference for looking up the object in a view.
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
