use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{connection::ConnectionRef, request::Request};

/// One user of ACS: created, or adopted, and deleted with this object.
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
    doc = "One user (identity) of an Azure Communication Services resource: created with this object, or adopted, and deleted with it.",
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
#[x_kube(validation = ("has(self.identityId) == has(oldSelf.identityId)", "identityId can neither be added nor removed later: an AcsIdentity keeps one identity for life; make another AcsIdentity"))]
pub struct AcsIdentitySpec {
    /// The connection to use. Default: the `AcsConnection` called `default` in this namespace, else
    /// the `ClusterAcsConnection` called `default`. Another connection is followed later only if it
    /// leads to the same endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_ref: Option<ConnectionRef>,
    /// An identity that exists in ACS, to adopt instead of creating one. Immutable.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = ("self.matches('^8:[a-z0-9-]+:[^/?#% ]+$')", "identityId must be a whole id of ACS, for example 8:acs:11111111-2222-3333-4444-555555555555_00000006-19e0-2727-80f5-8b3a0d003502"))]
    #[x_kube(validation = ("self == oldSelf", "identityId is immutable: an AcsIdentity keeps one identity for life; make another AcsIdentity"))]
    pub identity_id: Option<String>,
    /// What happens in ACS when this object is deleted: `Delete` the identity, or `Orphan` it.
    /// Default: `Delete` for a created identity, `Orphan` for an adopted one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// While true, no identity is created or adopted and no token of it is issued or renewed;
    /// Secrets stay until their tokens end. Revocation and deletion go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// What happens to the identity in ACS when its object is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    #[allow(missing_docs, reason = "per-variant docs are dropped from the schema")]
    Delete,
    #[allow(missing_docs, reason = "as above")]
    Orphan,
}

/// Where an identity came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Origin {
    #[allow(missing_docs, reason = "per-variant docs are dropped from the schema")]
    Created,
    #[allow(missing_docs, reason = "as above")]
    Adopted,
}

/// A revocation that has been answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastRevocation {
    /// When the service answered it, by the service's clock.
    pub time: Time,
    /// Why it was sent.
    pub reason: String,
    /// An earlier call of this revocation got no answer and may have taken effect until this time
    /// (service's clock): tokens issued before it are issued once more when it has passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsettled_until: Option<Time>,
    /// The UIDs of the orders (`AcsRevocation`, `ClusterAcsRevocation`) that it obeyed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<String>,
}

/// A revocation that is about to be sent, or whose answer is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingRevocation {
    /// When it was last recorded, by the operator's clock.
    pub time: Time,
    /// Why it is sent.
    pub reason: String,
    /// A call of this revocation got no answer and may take effect until this time (operator's
    /// clock).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsettled_until: Option<Time>,
    /// The request (annotation acs-identity.dev/requested-at) that this revocation obeys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The UIDs of the orders (`AcsRevocation`, `ClusterAcsRevocation`) that it obeys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<String>,
}

/// What the operator knows of an identity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcsIdentityStatus {
    /// The connection that was resolved when the identity was made or adopted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_ref: Option<ConnectionRef>,
    /// The endpoint that the identity belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The identity's id in ACS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_id: Option<String>,
    /// `Created` by us or `Adopted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// A create call is being made, or was made with an unknown outcome, since this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_create: Option<Time>,
    /// How many create calls ended without a known outcome: at most so many identities, all
    /// without tokens, were left in ACS that nobody can find.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_creates: Option<i64>,
    /// Tokens issued at this time or before are dead; by the service's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_valid_after: Option<Time>,
    /// The revocation that is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_revocation: Option<PendingRevocation>,
    /// Since when the connection's policy does not allow this identity: five minutes later its
    /// tokens are revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denied_since: Option<Time>,
    /// The last revocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_revocation: Option<LastRevocation>,
    /// The value of the annotation acs-identity.dev/requested-at that was last obeyed: all tokens
    /// were revoked after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_request: Option<String>,
    /// Calls that failed in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_attempts: Option<i32>,
    /// The last call that failed, while none has succeeded since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<super::LastFailure>,
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and `Reconciling` or `Stalled` while they are True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

impl AcsIdentity {
    /// The revocation that is asked for and not done yet, or a request that nobody can obey.
    #[must_use]
    pub fn open_request(&self) -> Option<Request<'_>> {
        let status = self.status.as_ref()?;
        let last = status.last_handled_request.as_deref();
        Request::open(self, status.observed_generation, last)
    }
}
