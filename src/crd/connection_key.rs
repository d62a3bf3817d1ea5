use std::fmt;

use super::{ConnectionKind, ConnectionRef, DEFAULT_CONNECTION};

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

    /// All connections that concern an object of `namespace`: the one that it names, the one `kept`
    /// from before, which its tokens are from, and whichever `default` comes first if there is neither.
    #[must_use]
    pub fn candidates(
        named: Option<&ConnectionRef>,
        kept: Option<&ConnectionRef>,
        namespace: &str,
    ) -> Vec<Self> {
        if named.or(kept).is_some() {
            let kept = kept.filter(|kept| Some(*kept) != named);
            let concern = named.into_iter().chain(kept);
            return concern.map(|one| Self::of(one, namespace)).collect();
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
}

impl fmt::Display for ConnectionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind.as_str(), self.name),
            None => write!(f, "{} {}", self.kind.as_str(), self.name),
        }
    }
}
