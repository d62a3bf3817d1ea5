use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::object::HasStatus;

use crate::{
    cluster::row::Packable,
    crd::{
        AcsRevocation, ClusterAcsRevocation, ConnectionKey, ConnectionRef, RevocationStatus,
        RevocationTarget, RevokedConnection,
    },
    engine::Stored,
};

/// Whose tokens an order revokes.
#[derive(Clone, Debug, PartialEq)]
pub enum Selection<'a> {
    /// Those of one namespace by name.
    Names(&'a [String]),
    /// By label; those of the order's namespace, if it has one.
    Labels(&'a LabelSelector),
    /// Those that use this connection.
    Connection(ConnectionKey),
    /// Those of these namespaces.
    Namespaces(&'a [String]),
}

/// What an order asks for, besides whose tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// When it is too late to begin.
    pub not_after: Option<jiff::Timestamp>,
    /// Whether it only tells.
    pub is_dry_run: bool,
}

/// What the two kinds of order have in common.
pub trait AnyRevocation: Packable + Stored + HasStatus<Status = RevocationStatus> {
    /// Whose tokens.
    fn selection(&self) -> Selection<'_>;
    /// What else.
    fn terms(&self) -> Terms;
    /// The same object with another status.
    #[must_use]
    fn with_status(&self, status: RevocationStatus) -> Self {
        let mut next = self.clone();
        *next.status_mut() = Some(status);
        next
    }
    /// The targets whose tokens are still to be revoked.
    fn open_targets(&self) -> impl Iterator<Item = &RevocationTarget> {
        self.status()
            .into_iter()
            .flat_map(RevocationStatus::open_targets)
    }
}

impl AnyRevocation for AcsRevocation {
    fn selection(&self) -> Selection<'_> {
        match (&self.spec.names, &self.spec.selector) {
            (None, Some(selector)) => Selection::Labels(selector),
            (names, _) => Selection::Names(names.as_deref().unwrap_or_default()),
        }
    }
    fn terms(&self) -> Terms {
        Terms {
            not_after: self.spec.not_after.as_ref().map(|time| time.0),
            is_dry_run: self.spec.dry_run == Some(true),
        }
    }
}

impl AnyRevocation for ClusterAcsRevocation {
    fn selection(&self) -> Selection<'_> {
        match (&self.spec.connection, &self.spec.selector) {
            (Some(connection), _) => Selection::Connection(key_of(connection)),
            (None, Some(selector)) => Selection::Labels(selector),
            (None, None) => {
                Selection::Namespaces(self.spec.namespaces.as_deref().unwrap_or_default())
            }
        }
    }
    fn terms(&self) -> Terms {
        Terms {
            not_after: self.spec.not_after.as_ref().map(|time| time.0),
            is_dry_run: self.spec.dry_run == Some(true),
        }
    }
}

fn key_of(connection: &RevokedConnection) -> ConnectionKey {
    let reference = ConnectionRef {
        kind: connection.kind,
        name: connection.name.clone(),
    };
    ConnectionKey::from_reference(
        &reference,
        connection.namespace.as_deref().unwrap_or_default(),
    )
}

/// The namespace of an order's target.
#[must_use]
pub fn namespace_of<'a>(target: &'a RevocationTarget, own: Option<&'a str>) -> &'a str {
    target.namespace.as_deref().or(own).unwrap_or_default()
}
