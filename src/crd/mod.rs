//! What users write: the kinds of the group `acs-identity.dev`, as they are stored in the cluster.
//!
//! `crds/` is generated from these types. Everything that a schema can hold is in the schema, so
//! that `kubectl apply` refuses nonsense with a sentence; nothing is defaulted into `spec`, so that
//! GitOps tools see no drift. This module knows neither ACS nor the controllers.

#![allow(
    clippy::duplicated_attributes,
    reason = "columns of one kind have the same type or priority"
)]

mod any_connection;
mod auth;
mod condition;
mod connection;
mod connection_key;
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

/// The API group of all kinds.
pub const GROUP: &str = "acs-identity.dev";
/// Holds an object until ACS and its Secret are cleaned up.
pub const FINALIZER: &str = "acs-identity.dev/cleanup";
/// Labels every Secret that we own with the UID of its `AcsToken`; we watch Secrets by it.
pub const TOKEN_UID_LABEL: &str = "acs-identity.dev/token-uid";
/// Names us as the one who writes the Secret, for people and their tools.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Field manager, Event reporter and value of [`MANAGED_BY_LABEL`].
pub const OPERATOR: &str = "acs-identity-operator";
/// Annotation of a release's Lease: the namespaces that it watches, separated by commas; all, where it
/// is empty.
pub const WATCHED_NAMESPACES: &str = "acs-identity.dev/watch-namespaces";
/// Annotation of a pod: when the operator last had its kubelet look at it.
pub const NUDGED_AT: &str = "acs-identity.dev/nudged-at";
/// The connection that an object without a `connectionRef` uses.
pub const DEFAULT_CONNECTION: &str = "default";
