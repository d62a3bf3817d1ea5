use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{connection::ConnectionKind, rule};

/// Revokes all tokens of selected identities in its namespace, once.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "acs-identity.dev",
    version = "v1alpha1",
    kind = "AcsRevocation",
    namespaced,
    status = "RevocationStatus",
    shortname = "acsrev",
    category = "acs",
    derive = "PartialEq",
    doc = "Revokes all tokens of selected AcsIdentities in its namespace, once, regardless of the \
     spec.revocation of the tokens. The selection is fixed when the operator first sees the \
     object, which remains as a record.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Revoked", type_ = "integer", json_path = ".status.revoked"),
    printcolumn(name = "Total", type_ = "integer", json_path = ".status.total"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Why",
        type_ = "string",
        json_path = ".spec.reason",
        priority = "1"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = "1"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self == oldSelf", "an AcsRevocation is immutable, because it is the \
 record of a revocation; create another AcsRevocation"))]
#[x_kube(validation = ("has(self.names) != has(self.selector)", "set exactly one of names and \
 selector"))]
#[x_kube(validation = ("!has(self.names) || self.names.size() > 0", "names is empty: add the name \
 of at least one AcsIdentity"))]
#[x_kube(validation = (rule::SELECTS, rule::SELECTS_MESSAGE))]
pub struct AcsRevocationSpec {
    /// Names of `AcsIdentities`, at most 250.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 250), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = (rule::NAMES, rule::NAMES_MESSAGE))]
    #[x_kube(validation = (rule::DISTINCT, rule::DISTINCT_MESSAGE))]
    pub names: Option<Vec<String>>,
    /// Selects `AcsIdentities` by label.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = MapMerge::Atomic)]
    pub selector: Option<LabelSelector>,
    /// Reason of the revocation, for the record; at most 256 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub reason: Option<String>,
    /// If the operator first sees this object after this time, it revokes nothing and reports
    /// `TooLate`. So a revocation that is kept in git does not run again after a restore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
    /// Dry run: while true, the operator lists the selected identities in `status.targets` and
    /// revokes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

/// Revokes all tokens of selected identities in the cluster, once.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "acs-identity.dev",
    version = "v1alpha1",
    kind = "ClusterAcsRevocation",
    status = "RevocationStatus",
    shortname = "cacsrev",
    category = "acs",
    derive = "PartialEq",
    doc = "Revokes all tokens of selected AcsIdentities in all watched namespaces, once, \
     regardless of the spec.revocation of the tokens. The selection is fixed when the operator \
     first sees the object, which remains as a record.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Revoked", type_ = "integer", json_path = ".status.revoked"),
    printcolumn(name = "Total", type_ = "integer", json_path = ".status.total"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Why",
        type_ = "string",
        json_path = ".spec.reason",
        priority = "1"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = "1"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self == oldSelf", "a ClusterAcsRevocation is immutable, because it is the \
 record of a revocation; create another ClusterAcsRevocation"))]
#[x_kube(validation = ("[has(self.connection), has(self.namespaces), has(self.selector)].filter(it, it).size() == 1", "set \
 exactly one of connection, namespaces and selector"))]
#[x_kube(validation = ("!has(self.namespaces) || self.namespaces.size() > 0", "namespaces is \
 empty: add at least one namespace"))]
#[x_kube(validation = (rule::SELECTS, rule::SELECTS_MESSAGE))]
pub struct ClusterAcsRevocationSpec {
    /// Selects the `AcsIdentities` that use this connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<RevokedConnection>,
    /// Selects the `AcsIdentities` in these namespaces, at most 250.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 250), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = (rule::NAMESPACES, rule::NAMESPACES_MESSAGE))]
    #[x_kube(validation = (rule::DISTINCT, rule::DISTINCT_MESSAGE))]
    pub namespaces: Option<Vec<String>>,
    /// Selects `AcsIdentities` by label, in all watched namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = MapMerge::Atomic)]
    pub selector: Option<LabelSelector>,
    /// Reason of the revocation, for the record; at most 256 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub reason: Option<String>,
    /// If the operator first sees this object after this time, it revokes nothing and reports
    /// `TooLate`. So a revocation that is kept in git does not run again after a restore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
    /// Dry run: while true, the operator lists the selected identities in `status.targets` and
    /// revokes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

/// Connection of the identities to revoke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("(self.kind == 'AcsConnection') == has(self.__namespace__)", "connection.namespace \
 is required for an AcsConnection and not allowed for a ClusterAcsConnection"))]
pub struct RevokedConnection {
    /// Kind of the connection.
    pub kind: ConnectionKind,
    /// Name of the connection.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::NAME, rule::NAME_MESSAGE))]
    pub name: String,
    /// Namespace of an `AcsConnection`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = (rule::NAMESPACE, rule::NAMESPACE_MESSAGE))]
    pub namespace: Option<String>,
}

/// Progress of a revocation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevocationStatus {
    /// Time at which the targets were recorded, by the operator's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// Time at which the revocation was completed, by the operator's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// Number of targets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
    /// Number of targets that ACS has confirmed as revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked: Option<i64>,
    /// Identities that were selected when the operator first saw the object. If there are more than
    /// 4000, at most 1000 are listed at a time, and completed ones are only counted in `revoked`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<RevocationTarget>,
    /// Other selected identities, until they are moved to `targets`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queued: Vec<QueuedTargets>,
    /// Generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`; `Reconciling` and `Stalled` only while they are True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// An identity that a revocation selected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevocationTarget {
    /// Namespace of the `AcsIdentity`. Absent if it is the namespace of the revocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name of the `AcsIdentity`.
    pub name: String,
    /// UID of the `AcsIdentity`. Absent if there was no such object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Id of the identity in ACS, if it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_id: Option<String>,
    /// Time at which ACS confirmed that all its tokens are revoked, by the clock of ACS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Time>,
    /// Reason why there is nothing to revoke.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Waiting targets of a revocation in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueuedTargets {
    /// Namespace of the `AcsIdentities`. Absent if it is the namespace of the revocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Names of the `AcsIdentities`.
    pub names: Vec<String>,
}

impl RevocationTarget {
    /// Whether its tokens are still to be revoked.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.revoked_at.is_none() && self.note.is_none()
    }
}

impl RevocationStatus {
    /// Returns the targets whose tokens are still to be revoked.
    pub fn open_targets(&self) -> impl Iterator<Item = &RevocationTarget> {
        let is_done = self.completed_at.is_some();
        let targets = self.targets.iter();
        targets.filter(move |target| !is_done && target.is_open())
    }
}
