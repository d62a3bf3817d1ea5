use std::fmt;

use super::{ConnectionKind, ConnectionRef, DEFAULT_CONNECTION};

/// Key of a connection in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    /// Kind of the connection.
    pub kind: ConnectionKind,
    /// Namespace of the connection; `None` for a `ClusterAcsConnection`.
    pub namespace: Option<String>,
    /// Name of the connection.
    pub name: String,
}

impl ConnectionKey {
    /// Returns the key of the connection that `reference` names in an object of `namespace`.
    #[must_use]
    pub fn from_reference(reference: &ConnectionRef, namespace: &str) -> Self {
        let namespace =
            (reference.kind == ConnectionKind::AcsConnection).then(|| namespace.to_owned());
        Self {
            kind: reference.kind,
            namespace,
            name: reference.name.clone(),
        }
    }

    /// Returns the reference by which an object names this connection.
    #[must_use]
    pub fn reference(&self) -> ConnectionRef {
        ConnectionRef {
            kind: self.kind,
            name: self.name.clone(),
        }
    }

    /// Returns all connections that concern an object of `namespace`: the one that it names, the
    /// one recorded in its status (`kept`), which issued its tokens, and the connections named
    /// `default` if there is neither.
    #[must_use]
    pub fn candidates(
        named: Option<&ConnectionRef>,
        kept: Option<&ConnectionRef>,
        namespace: &str,
    ) -> Vec<Self> {
        if named.or(kept).is_some() {
            let kept = kept.filter(|kept| Some(*kept) != named);
            let concern = named.into_iter().chain(kept);
            return concern
                .map(|one| Self::from_reference(one, namespace))
                .collect();
        }
        [
            ConnectionKind::AcsConnection,
            ConnectionKind::ClusterAcsConnection,
        ]
        .map(|kind| ConnectionRef {
            kind,
            name: DEFAULT_CONNECTION.to_owned(),
        })
        .map(|reference| Self::from_reference(&reference, namespace))
        .into()
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
