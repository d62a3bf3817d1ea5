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

/// Selection of the identities that a revocation concerns.
#[derive(Clone, Debug, PartialEq)]
pub enum Selection<'a> {
    /// Identities of one namespace, by name.
    Names(&'a [String]),
    /// Identities by label, in the namespace of the revocation if it has one.
    Labels(&'a LabelSelector),
    /// Identities that use this connection.
    Connection(ConnectionKey),
    /// Identities of these namespaces.
    Namespaces(&'a [String]),
}

/// Terms of a revocation besides its selection.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// Time after which the revocation is not started.
    pub not_after: Option<jiff::Timestamp>,
    /// Whether it only lists the targets.
    pub is_dry_run: bool,
}

/// Common interface of the two kinds of revocation.
pub trait AnyRevocation: Packable + Stored + HasStatus<Status = RevocationStatus> {
    /// Identities to select.
    fn selection(&self) -> Selection<'_>;
    /// Other terms.
    fn terms(&self) -> Terms;
    /// Returns the object with `status` in place of its own.
    #[must_use]
    fn with_status(&self, status: RevocationStatus) -> Self {
        let mut next = self.clone();
        *next.status_mut() = Some(status);
        next
    }
    /// Returns the targets that still have tokens to revoke.
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

/// Returns the namespace of a revocation's target.
#[must_use]
pub fn namespace_of<'a>(target: &'a RevocationTarget, own: Option<&'a str>) -> &'a str {
    target.namespace.as_deref().or(own).unwrap_or_default()
}
