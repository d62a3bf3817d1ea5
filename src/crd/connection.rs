use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Auth,
    policy::{ClusterPolicy, Policy},
    rule,
};

/// An ACS resource and how to authenticate to it, for the objects of one namespace.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "acs-identity.dev",
    version = "v1alpha1",
    kind = "AcsConnection",
    namespaced,
    status = "ConnectionStatus",
    shortname = "acsconn",
    category = "acs",
    derive = "PartialEq",
    doc = "An Azure Communication Services resource and how to authenticate to it, for the \
     objects of one namespace.",
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
    printcolumn(
        name = "Identities",
        type_ = "integer",
        json_path = ".status.identities"
    ),
    printcolumn(name = "Tokens", type_ = "integer", json_path = ".status.tokens"),
    printcolumn(
        name = "Former",
        type_ = "integer",
        json_path = ".status.formerTokens.left"
    ),
    printcolumn(
        name = "Regenerate",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"SafeToRegenerate\")].reason"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Endpoint",
        type_ = "string",
        json_path = ".status.endpoint",
        priority = "1"
    ),
    printcolumn(
        name = "Credential",
        type_ = "string",
        json_path = ".status.credential",
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
#[x_kube(validation = ("!has(self.auth.accessKey) || has(self.endpoint)", "endpoint is required \
 with auth.accessKey: an access key does not contain the endpoint"))]
#[x_kube(validation = ("has(self.endpoint) || !(has(self.auth.workloadIdentity) || has(self.auth.managedIdentity) || has(self.auth.clientSecret))", "endpoint \
 is required with auth.workloadIdentity, auth.managedIdentity and auth.clientSecret: an Entra \
 identity does not contain the endpoint"))]
pub struct AcsConnectionSpec {
    /// Endpoint of the ACS resource, for example `https://contoso.communication.azure.com`.
    /// Required unless `auth.connectionString` contains one. If both are given, they must agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = ("self.matches('^https?://[^/?#@ ]+/?$')", "endpoint must be an absolute URL without path, query or user, for example https://contoso.communication.azure.com"))]
    pub endpoint: Option<String>,
    /// Version of the ACS REST API. Default: `2023-10-01`. With `2025-03-02-preview` the operator
    /// creates identities exactly once (custom ids), but Azure may withdraw a preview version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = ("self.matches('^20[0-9]{2}-[0-9]{2}-[0-9]{2}$') && self >= '2022-10-01' || self == '2025-03-02-preview'", "apiVersion \
     must be a stable version of the ACS REST API, 2022-10-01 or later, for example 2023-10-01; \
     or 2025-03-02-preview"))]
    pub api_version: Option<String>,
    /// How to authenticate. Exactly one member must be set.
    #[x_kube(validation = ("[has(self.connectionString), has(self.accessKey), has(self.workloadIdentity), has(self.managedIdentity), has(self.clientSecret)].filter(is, is).size() == 1", "auth must have exactly one of connectionString, accessKey, workloadIdentity, managedIdentity and clientSecret"))]
    pub auth: Auth,
    /// Limits on the use of this connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
}

/// An ACS resource and how to authenticate to it, for the namespaces that its policy allows.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "acs-identity.dev",
    version = "v1alpha1",
    kind = "ClusterAcsConnection",
    status = "ConnectionStatus",
    shortname = "cacsconn",
    category = "acs",
    derive = "PartialEq",
    doc = "An Azure Communication Services resource and how to authenticate to it, for the \
     objects of the namespaces in policy.namespaces. Its Secrets are in the operator's namespace.",
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
    printcolumn(
        name = "Identities",
        type_ = "integer",
        json_path = ".status.identities"
    ),
    printcolumn(name = "Tokens", type_ = "integer", json_path = ".status.tokens"),
    printcolumn(
        name = "Former",
        type_ = "integer",
        json_path = ".status.formerTokens.left"
    ),
    printcolumn(
        name = "Regenerate",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"SafeToRegenerate\")].reason"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Endpoint",
        type_ = "string",
        json_path = ".status.endpoint",
        priority = "1"
    ),
    printcolumn(
        name = "Credential",
        type_ = "string",
        json_path = ".status.credential",
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
#[x_kube(validation = ("!has(self.auth.accessKey) || has(self.endpoint)", "endpoint is required \
 with auth.accessKey: an access key does not contain the endpoint"))]
#[x_kube(validation = ("has(self.endpoint) || !(has(self.auth.workloadIdentity) || has(self.auth.managedIdentity) || has(self.auth.clientSecret))", "endpoint \
 is required with auth.workloadIdentity, auth.managedIdentity and auth.clientSecret: an Entra \
 identity does not contain the endpoint"))]
pub struct ClusterAcsConnectionSpec {
    /// Endpoint of the ACS resource, for example `https://contoso.communication.azure.com`.
    /// Required unless `auth.connectionString` contains one. If both are given, they must agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = ("self.matches('^https?://[^/?#@ ]+/?$')", "endpoint must be an absolute URL without path, query or user, for example https://contoso.communication.azure.com"))]
    pub endpoint: Option<String>,
    /// Version of the ACS REST API. Default: `2023-10-01`. With `2025-03-02-preview` the operator
    /// creates identities exactly once (custom ids), but Azure may withdraw a preview version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = ("self.matches('^20[0-9]{2}-[0-9]{2}-[0-9]{2}$') && self >= '2022-10-01' || self == '2025-03-02-preview'", "apiVersion \
     must be a stable version of the ACS REST API, 2022-10-01 or later, for example 2023-10-01; \
     or 2025-03-02-preview"))]
    pub api_version: Option<String>,
    /// How to authenticate. Exactly one member must be set. Secrets and `ServiceAccounts` are
    /// looked up in the operator's namespace.
    #[x_kube(validation = ("[has(self.connectionString), has(self.accessKey), has(self.workloadIdentity), has(self.managedIdentity), has(self.clientSecret)].filter(is, is).size() == 1", "auth must have exactly one of connectionString, accessKey, workloadIdentity, managedIdentity and clientSecret"))]
    pub auth: Auth,
    /// Limits on the use of this connection, and the namespaces that may use it. Without
    /// `policy.namespaces` no namespace may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<ClusterPolicy>,
}

/// Reference to a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionRef {
    /// `AcsConnection` (in the same namespace) or `ClusterAcsConnection`.
    pub kind: ConnectionKind,
    /// Name of the connection.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::NAME, rule::NAME_MESSAGE))]
    pub name: String,
}

/// Kind of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ConnectionKind {
    #[allow(missing_docs, reason = "per-variant docs are dropped from the schema")]
    AcsConnection,
    #[allow(missing_docs, reason = "as above")]
    ClusterAcsConnection,
}

impl ConnectionKind {
    /// The kind's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AcsConnection => "AcsConnection",
            Self::ClusterAcsConnection => "ClusterAcsConnection",
        }
    }
}

/// Tokens that were issued with credentials the connection no longer uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FormerTokens {
    /// Number of `AcsTokens` that still hold such a token. The operator replaces them, the most
    /// urgent first.
    pub left: i64,
    /// Time at which the last Secret with such a token was rewritten, by the operator's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_rewrite: Option<Time>,
    /// Time at which the last of these tokens expires, including tokens that are no longer in any
    /// Secret, by the operator's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expire_at: Option<Time>,
}

/// Observed state of a connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionStatus {
    /// Endpoint in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Fingerprint of the credential that ACS accepted last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// Fingerprints of credentials that worked before and that ACS rejects now. If another
    /// credential works, tokens issued with these are dead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused_credentials: Vec<String>,
    /// Difference between the clock of ACS and the operator's: `+` if ACS is ahead, `-` if it is
    /// behind. Set if it is over a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_offset: Option<String>,
    /// Number of `AcsIdentity` objects that use the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identities: Option<i64>,
    /// Number of `AcsToken` objects that use the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<i64>,
    /// Progress of replacing tokens of former credentials. Absent until the credential changes for
    /// the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub former_tokens: Option<FormerTokens>,
    /// Generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready` and `SafeToRegenerate`; `Reconciling`, `Stalled` and `ServiceLimitExceeded` only
    /// while they are True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
