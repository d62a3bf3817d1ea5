//! Workloads that are restarted when their pods cannot notice a new token by themselves.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rule;

/// Annotation of a pod template: time at which the operator last restarted the workload.
pub const RESTARTED_AT: &str = "acs-identity.dev/restarted-at";
/// Annotation of a pod template: `true` declares that the pods read the Secret again by themselves,
/// so the workload is never restarted.
pub const REREADS: &str = "acs-identity.dev/rereads";

/// A workload in the token's namespace to restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutRestart {
    /// Kind of the workload.
    pub kind: WorkloadKind,
    /// Name of the workload.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::NAME, rule::NAME_MESSAGE))]
    pub name: String,
    /// When to restart it. `Change` (default): after the token in its pods was revoked, and after
    /// the name or the keys of the Secret changed. `Renewal`: also after every new token, for pods
    /// that read the token from an environment variable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<RestartAfter>,
}

/// Kind of a workload that can be restarted.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[allow(missing_docs, reason = "per-variant docs are dropped from the schema")]
pub enum WorkloadKind {
    Deployment,
    StatefulSet,
    DaemonSet,
}

impl WorkloadKind {
    /// Name of the kind.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
        }
    }
}

/// Cause of the restarts of a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "as above")]
pub enum RestartAfter {
    #[default]
    Change,
    Renewal,
}

/// State of a workload in `rolloutRestart`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutRestartStatus {
    /// Kind of the workload.
    pub kind: WorkloadKind,
    /// Name of the workload.
    pub name: String,
    /// Revision of the token that was handled last: the workload was restarted for it, or `message`
    /// says why not. At first, the revision when the workload was added to the list.
    pub revision: i64,
    /// Hash of the Secret's name and keys at that time.
    pub secret: String,
    /// Restart that is due, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingRestart>,
    /// Time of the last restart for this token, by the operator's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<Time>,
    /// Reason why the workload was not restarted, or who reverts the restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A restart that is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingRestart {
    /// Time at which its cause was seen, by the operator's clock. Any later restart of the workload
    /// satisfies it.
    pub since: Time,
    /// Revision of the token that the restart is due for.
    pub revision: i64,
    /// Hash of the Secret's name and keys that the restart is due for.
    pub secret: String,
}

/// Key of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkloadKey {
    /// Namespace of the workload.
    pub namespace: String,
    /// Kind of the workload.
    pub kind: WorkloadKind,
    /// Name of the workload.
    pub name: String,
}

impl std::fmt::Display for WorkloadKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind.as_str(), self.namespace, self.name)
    }
}
