use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Auth,
    policy::{ClusterPolicy, Policy},
    rule,
};

/// Where one ACS resource is and how to authenticate, for the objects of one namespace.
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
    doc = "Where one Azure Communication Services resource is, and how to authenticate to it. Objects of the same namespace use it.",
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
#[x_kube(validation = ("!has(self.auth.accessKey) || has(self.endpoint)", "endpoint is required with auth.accessKey: an access key does not say which resource it belongs to"))]
#[x_kube(validation = ("has(self.endpoint) || !(has(self.auth.workloadIdentity) || has(self.auth.managedIdentity) || has(self.auth.clientSecret))", "endpoint is required with auth.workloadIdentity, auth.managedIdentity and auth.clientSecret: an identity does not say which resource it is to use"))]
pub struct AcsConnectionSpec {
    /// The resource's endpoint, for example `https://contoso.communication.azure.com`. Required
    /// unless `auth.connectionString` brings one; if both are given they must agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = ("self.matches('^https?://[^/?#@ ]+/?$')", "endpoint must be an absolute URL without path, query or user, for example https://contoso.communication.azure.com"))]
    pub endpoint: Option<String>,
    /// The date of the REST API to speak; default `2023-10-01`. `2025-03-02-preview` makes the
    /// creation of identities exactly-once (custom ids); being a preview, Azure may withdraw it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = ("self.matches('^20[0-9]{2}-[0-9]{2}-[0-9]{2}$') && self >= '2022-10-01' || self == '2025-03-02-preview'", "apiVersion must be a stable date of the ACS REST API from 2022-10-01 on, for example 2023-10-01, or 2025-03-02-preview"))]
    pub api_version: Option<String>,
    /// How to authenticate: exactly one of the members.
    #[x_kube(validation = ("[has(self.connectionString), has(self.accessKey), has(self.workloadIdentity), has(self.managedIdentity), has(self.clientSecret)].filter(is, is).size() == 1", "auth must have exactly one of connectionString, accessKey, workloadIdentity, managedIdentity and clientSecret"))]
    pub auth: Auth,
    /// What may be asked of this connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
}

/// Where one ACS resource is and how to authenticate, for the namespaces that its policy names.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "acs-identity.dev",
    version = "v1alpha1",
    kind = "ClusterAcsConnection",
    status = "ConnectionStatus",
    shortname = "cacsconn",
    category = "acs",
    derive = "PartialEq",
    doc = "Where one Azure Communication Services resource is, and how to authenticate to it. Objects of the namespaces in policy.namespaces use it; its Secrets are read from the operator's own namespace.",
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
#[x_kube(validation = ("!has(self.auth.accessKey) || has(self.endpoint)", "endpoint is required with auth.accessKey: an access key does not say which resource it belongs to"))]
#[x_kube(validation = ("has(self.endpoint) || !(has(self.auth.workloadIdentity) || has(self.auth.managedIdentity) || has(self.auth.clientSecret))", "endpoint is required with auth.workloadIdentity, auth.managedIdentity and auth.clientSecret: an identity does not say which resource it is to use"))]
pub struct ClusterAcsConnectionSpec {
    /// The resource's endpoint, for example `https://contoso.communication.azure.com`. Required
    /// unless `auth.connectionString` brings one; if both are given they must agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = ("self.matches('^https?://[^/?#@ ]+/?$')", "endpoint must be an absolute URL without path, query or user, for example https://contoso.communication.azure.com"))]
    pub endpoint: Option<String>,
    /// The date of the REST API to speak; default `2023-10-01`. `2025-03-02-preview` makes the
    /// creation of identities exactly-once (custom ids); being a preview, Azure may withdraw it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = ("self.matches('^20[0-9]{2}-[0-9]{2}-[0-9]{2}$') && self >= '2022-10-01' || self == '2025-03-02-preview'", "apiVersion must be a stable date of the ACS REST API from 2022-10-01 on, for example 2023-10-01, or 2025-03-02-preview"))]
    pub api_version: Option<String>,
    /// How to authenticate: exactly one of the members. Secrets and `ServiceAccounts` are those of
    /// the operator's own namespace.
    #[x_kube(validation = ("[has(self.connectionString), has(self.accessKey), has(self.workloadIdentity), has(self.managedIdentity), has(self.clientSecret)].filter(is, is).size() == 1", "auth must have exactly one of connectionString, accessKey, workloadIdentity, managedIdentity and clientSecret"))]
    pub auth: Auth,
    /// What may be asked of this connection, and by which namespaces. Without
    /// `policy.namespaces` nobody may use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<ClusterPolicy>,
}

/// Names a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionRef {
    /// `AcsConnection` (of the same namespace) or `ClusterAcsConnection`.
    pub kind: ConnectionKind,
    /// The connection's name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::NAME, rule::NAME_MESSAGE))]
    pub name: String,
}

/// The kinds of connection.
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

/// Tokens of credentials that the connection no longer uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FormerTokens {
    /// How many `AcsToken`s still hold one; they are made anew, the most urgent first.
    pub left: i64,
    /// When the last Secret was rewritten that held one, by the operator's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_rewrite: Option<Time>,
    /// When the last of them ends, those included that are in no Secret any more, by the operator's
    /// clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expire_at: Option<Time>,
}

/// What the operator knows of a connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionStatus {
    /// The endpoint in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Fingerprint of the credential that the service accepted last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// Fingerprints of credentials that worked once and that the service refuses now; where another
    /// works, tokens made with them are dead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused_credentials: Vec<String>,
    /// By how much the service's clock is ahead (`+`) or behind (`-`) of the operator's; shown when
    /// it is over a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_offset: Option<String>,
    /// How many `AcsIdentity` objects use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identities: Option<i64>,
    /// How many `AcsToken` objects use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<i64>,
    /// What is left of credentials that the connection no longer uses; absent until its key was
    /// changed once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub former_tokens: Option<FormerTokens>,
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `SafeToRegenerate`, and `Reconciling`, `Stalled` or `ServiceLimitExceeded` while they
    /// are True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
