use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{connection::ConnectionRef, request::Request};

/// A communication user in ACS. The operator creates or adopts it, and deletes it with this object.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "acs-identity.dev",
    version = "v1alpha1",
    kind = "AcsIdentity",
    namespaced,
    status = "AcsIdentityStatus",
    shortname = "acsid",
    category = "acs",
    derive = "PartialEq",
    doc = "A user (identity) of an Azure Communication Services resource. The operator creates or \
     adopts it, and deletes it with this object.",
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
    printcolumn(name = "Identity", type_ = "string", json_path = ".status.identityId"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Origin",
        type_ = "string",
        json_path = ".status.origin",
        priority = "1"
    ),
    printcolumn(
        name = "Endpoint",
        type_ = "string",
        json_path = ".status.endpoint",
        priority = "1"
    ),
    printcolumn(
        name = "Revoked",
        type_ = "string",
        json_path = ".status.tokensValidAfter",
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
#[x_kube(validation = ("has(self.identityId) == has(oldSelf.identityId)", "identityId cannot be \
 added or removed later: an AcsIdentity keeps its identity for its whole life; create another \
 AcsIdentity"))]
pub struct AcsIdentitySpec {
    /// Connection to use. Default: the `AcsConnection` named `default` in this namespace, else the
    /// `ClusterAcsConnection` named `default`. It can be changed later only to a connection with
    /// the same endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_ref: Option<ConnectionRef>,
    /// Id of an existing identity in ACS to adopt instead of creating a new one. Immutable.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = ("self.matches('^8:[a-z0-9-]+:[^/?#% ]+$')", "identityId must be a \
     complete ACS id, for example \
     8:acs:11111111-2222-3333-4444-555555555555_00000006-19e0-2727-80f5-8b3a0d003502"))]
    #[x_kube(validation = ("self == oldSelf", "identityId is immutable: an AcsIdentity keeps its \
     identity for its whole life; create another AcsIdentity"))]
    pub identity_id: Option<String>,
    /// What happens to the identity in ACS when this object is deleted: `Delete` deletes it,
    /// `Orphan` leaves it. Default: `Delete` for a created identity, `Orphan` for an adopted one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// While true, the operator creates or adopts no identity, and issues and renews no token of
    /// it. Secrets stay until their tokens expire. Revocation and deletion still work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// What happens to the identity in ACS when the object is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    #[allow(missing_docs, reason = "per-variant docs are dropped from the schema")]
    Delete,
    #[allow(missing_docs, reason = "as above")]
    Orphan,
}

/// Origin of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Origin {
    #[allow(missing_docs, reason = "per-variant docs are dropped from the schema")]
    Created,
    #[allow(missing_docs, reason = "as above")]
    Adopted,
}

/// A completed revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastRevocation {
    /// Time at which ACS answered the call, by the clock of ACS.
    pub time: Time,
    /// Reason of the revocation.
    pub reason: String,
    /// Set if an earlier call of this revocation got no answer: that call may have taken effect
    /// until this time, by the clock of ACS. Tokens issued before this time are issued again after
    /// it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsettled_until: Option<Time>,
    /// UIDs of the `AcsRevocation` and `ClusterAcsRevocation` objects that it completed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<String>,
}

/// A revocation that is about to be sent, or that has no known answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingRevocation {
    /// Time at which it was last recorded, by the operator's clock.
    pub time: Time,
    /// Reason of the revocation.
    pub reason: String,
    /// Set if a call of this revocation got no answer: that call may take effect until this time,
    /// by the operator's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsettled_until: Option<Time>,
    /// Request (value of the annotation acs-identity.dev/requested-at) that this revocation
    /// handles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The UIDs of the orders (`AcsRevocation`, `ClusterAcsRevocation`) that it obeys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<String>,
}

/// Observed state of an identity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcsIdentityStatus {
    /// Connection that the identity was created or adopted through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_ref: Option<ConnectionRef>,
    /// Endpoint of the ACS resource that the identity belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Id of the identity in ACS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_id: Option<String>,
    /// `Created` by the operator, or `Adopted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Time since which a create call is under way or has no known outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_create: Option<Time>,
    /// Number of create calls without a known outcome. At most this number of identities was left
    /// in ACS where nobody can find them; none of them has a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_creates: Option<i64>,
    /// Tokens issued at or before this time are revoked, by the clock of ACS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_valid_after: Option<Time>,
    /// Revocation that is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_revocation: Option<PendingRevocation>,
    /// Time since which the connection's policy does not allow this identity. Its tokens are
    /// revoked five minutes later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denied_since: Option<Time>,
    /// Last completed revocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_revocation: Option<LastRevocation>,
    /// Value of the annotation acs-identity.dev/requested-at that was handled last. All tokens were
    /// revoked after that request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_request: Option<String>,
    /// Number of consecutive failed calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_attempts: Option<i32>,
    /// Last failed call. Removed after a call succeeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<super::LastFailure>,
    /// Generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`; `Reconciling` and `Stalled` only while they are True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

impl AcsIdentity {
    /// Requested revocation that is still to be done, or a request that is not valid.
    #[must_use]
    pub fn open_request(&self) -> Option<Request<'_>> {
        let status = self.status.as_ref()?;
        let last = status.last_handled_request.as_deref();
        Request::open(self, status.observed_generation, last)
    }
}
