//! The custom resources of the group `acs-identity.dev`.
//!
//! `crds/` is generated from these types. The schema has every rule that a schema can express, so
//! that `kubectl apply` refuses invalid input with a clear message. It sets no default in `spec`,
//! so that GitOps tools see no drift. This module depends neither on ACS nor on the controllers.

#![allow(
    clippy::duplicated_attributes,
    reason = "columns of one kind have the same type or priority"
)]

use kube::ResourceExt;
use sha2::{Digest as _, Sha256};

use crate::digest;

mod any_connection;
mod auth;
mod condition;
mod connection;
mod connection_key;
mod consumers;
mod duration;
mod identity;
mod manifest;
mod policy;
mod reason;
mod request;
mod revocation;
mod rollout_restart;
mod rule;
mod scope;
mod token;
mod token_parameters;
mod token_record;

pub use any_connection::AnyConnection;
pub use auth::{
    AccessKeyAuth, Auth, ClientSecretAuth, ConnectionStringAuth, ManagedIdentityAuth, SecretKeyRef,
    ServiceAccountRef, WorkloadIdentityAuth,
};
pub use condition::{
    Conditions, READY, RECONCILING, SAFE_TO_REGENERATE, SERVICE_LIMIT_EXCEEDED, STALLED, Verdict,
    is_ready, ready_reason,
};
pub use connection::{
    AcsConnection, AcsConnectionSpec, ClusterAcsConnection, ClusterAcsConnectionSpec,
    ConnectionKind, ConnectionRef, ConnectionStatus, FormerTokens,
};
pub use connection_key::ConnectionKey;
pub use consumers::ConsumersStatus;
pub use duration::{DurationError, parse_duration};
pub use identity::{
    AcsIdentity, AcsIdentitySpec, AcsIdentityStatus, DeletionPolicy, LastRevocation, Origin,
    PendingRevocation,
};
pub use manifest::manifests;
pub use policy::{Adoption, ClusterPolicy, NamespacePolicy, POLICY_GRACE, Policy, TokenPolicy};
pub use reason::Reason;
pub use request::{REQUEST, REQUESTED_AT, Request, handled_at_first_sight};
pub use revocation::{
    AcsRevocation, AcsRevocationSpec, ClusterAcsRevocation, ClusterAcsRevocationSpec,
    QueuedTargets, RevocationStatus, RevocationTarget, RevokedConnection,
};
pub use rollout_restart::{
    PendingRestart, REREADS, RESTARTED_AT, RestartAfter, RolloutRestart, RolloutRestartStatus,
    WorkloadKey, WorkloadKind,
};
pub use scope::Scope;
pub use token::{
    AcsToken, AcsTokenSpec, AcsTokenStatus, FormerToken, IdentityRef, LastFailure, LongText,
    Revocation, SecretKeys, SecretTemplate, ShortText, TeamsUser, UserTokenStatus, WrittenSecret,
};
pub use token_parameters::TokenParameters;
pub use token_record::{
    Exchange, FORMER, RESTART_REVISION, TOKEN_KEY, TokenRecord, fingerprint, scopes_text,
};

/// API group of all kinds.
pub const GROUP: &str = "acs-identity.dev";
/// Finalizer: keeps an object until the operator has cleaned up ACS and its Secret.
pub const FINALIZER: &str = "acs-identity.dev/cleanup";

/// Returns the finalizer that a release with some watched namespaces puts on a
/// `ClusterAcsConnection`, by the name of its Lease. Other releases do not know when this one no
/// longer needs the connection.
#[must_use]
pub fn finalizer_of_release(lease_namespace: &str, lease: &str) -> String {
    let hasher = Sha256::new().chain_update(format!("{lease_namespace}/{lease}"));
    // A finalizer ends with a letter or digit.
    let release = digest::short(hasher, 9).replace(['-', '_'], "");
    format!("{FINALIZER}.{release}")
}

/// Whether a finalizer belongs to the operator, whichever release put it there.
#[must_use]
pub fn is_finalizer(name: &str) -> bool {
    let rest = name.strip_prefix(FINALIZER);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether the finalizer of an identity or token keeps it until the operator has cleaned up.
#[must_use]
pub fn is_held(object: &impl ResourceExt) -> bool {
    object.finalizers().iter().any(|name| name == FINALIZER)
}

/// Label of every Secret that the operator owns: the UID of its `AcsToken`. The operator watches
/// Secrets with this label.
pub const TOKEN_UID_LABEL: &str = "acs-identity.dev/token-uid";
/// Label that names the operator as the writer of the Secret.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Field manager, Event reporter and value of [`MANAGED_BY_LABEL`].
pub const OPERATOR: &str = "acs-identity-operator";
/// Annotation of a release's Lease: the namespaces that the release watches, separated by commas.
/// Empty: all namespaces.
pub const WATCHED_NAMESPACES: &str = "acs-identity.dev/watch-namespaces";
/// Annotation of a pod: time at which the operator last asked its kubelet to sync the pod.
pub const NUDGED_AT: &str = "acs-identity.dev/nudged-at";
/// Name of the connection that an object without `connectionRef` uses.
pub const DEFAULT_CONNECTION: &str = "default";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finalizer_of_a_release_is_its_own_and_ends_as_kubernetes_wants() {
        let all: Vec<_> = (0..100)
            .map(|number| finalizer_of_release("acs", &format!("release-{number}")))
            .collect();
        for name in &all {
            assert!(is_finalizer(name), "{name}");
            assert!(name.ends_with(|it: char| it.is_ascii_alphanumeric()));
            assert_eq!(all.iter().filter(|other| *other == name).count(), 1);
        }
        assert!(is_finalizer(FINALIZER));
        for other in ["acs-identity.dev/cleanups", "other.example/cleanup", ""] {
            assert!(!is_finalizer(other), "{other}");
        }
    }
}
