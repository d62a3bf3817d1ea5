//! Workloads that are restarted when their pods can't see by themselves that the token is another.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rule;

/// Annotation of a pod template: when the operator last restarted the workload.
pub const RESTARTED_AT: &str = "acs-identity.dev/restarted-at";
/// Annotation of a pod template: with `true`, its pods read the Secret again by themselves, and the
/// workload is never restarted.
pub const REREADS: &str = "acs-identity.dev/rereads";

/// A workload of the token's namespace that is restarted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutRestart {
    /// The workload's kind.
    pub kind: WorkloadKind,
    /// The workload's name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::NAME, rule::NAME_MESSAGE))]
    pub name: String,
    /// When to restart it. `Change` (default): after the token that its pods hold was revoked, and
    /// after the Secret's name or keys changed. `Renewal`: after every new token too, for pods that
    /// take the token from a variable of their environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<RestartAfter>,
}

/// The kind of a workload that can be restarted.
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
    /// The kind's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
        }
    }
}

/// After what a workload is restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "as above")]
pub enum RestartAfter {
    #[default]
    Change,
    Renewal,
}

/// A workload of `rolloutRestart`, and what its pods were last restarted for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutRestartStatus {
    /// The workload's kind.
    pub kind: WorkloadKind,
    /// The workload's name.
    pub name: String,
    /// Revision of the token that was last dealt with: the workload was restarted for it, or `message`
    /// tells why not. At first, the revision at the time when the workload was first named.
    pub revision: i64,
    /// A hash of the Secret's name and keys at that time.
    pub secret: String,
    /// The restart that is due, if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingRestart>,
    /// When the workload was last restarted for this token, by the operator's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<Time>,
    /// Why the workload was not restarted, or who undoes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A restart that is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingRestart {
    /// When its cause was seen, by the operator's clock. Any later restart does.
    pub since: Time,
    /// Revision of the token that it is due for.
    pub revision: i64,
    /// A hash of the Secret's name and keys that it is due for.
    pub secret: String,
}

/// Names a workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkloadKey {
    /// Its namespace.
    pub namespace: String,
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for WorkloadKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind.as_str(), self.namespace, self.name)
    }
}
