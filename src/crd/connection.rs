use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::policy::{ClusterPolicy, Policy};

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

/// How to authenticate to ACS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = without_one_of)]
pub enum Auth {
    /// A connection string, as the Azure portal shows it.
    ConnectionString(ConnectionStringAuth),
    /// One of the resource's two access keys; `endpoint` says which resource.
    AccessKey(AccessKeyAuth),
    /// An application or managed identity of Microsoft Entra ID that trusts a `ServiceAccount` of
    /// this cluster. No secret is stored anywhere.
    WorkloadIdentity(WorkloadIdentityAuth),
    /// The managed identity of the machine that the operator runs on. Like every credential of the
    /// operator itself it is for a `ClusterAcsConnection`, unless the operator runs with
    /// `--namespaced-ambient-credentials`.
    ManagedIdentity(ManagedIdentityAuth),
    /// An application of Microsoft Entra ID with a client secret.
    ClientSecret(ClientSecretAuth),
}

/// "Exactly one" is a rule with a sentence of its own; `oneOf` would tell users of schemas.
fn without_one_of(schema: &mut schemars::Schema) {
    if let Some(all) = schema.remove("oneOf") {
        let mut properties = serde_json::Map::new();
        for variant in all.as_array().into_iter().flatten() {
            let members = variant.get("properties").and_then(|it| it.as_object());
            for (name, member) in members.into_iter().flatten() {
                let mut member = member.clone();
                // The variant says what it is for, its type only what it holds.
                if let (Some(member), Some(text)) =
                    (member.as_object_mut(), variant.get("description"))
                {
                    member.insert("description".to_owned(), text.clone());
                }
                properties.insert(name.clone(), member);
            }
        }
        schema.insert("type".to_owned(), "object".into());
        schema.insert("properties".to_owned(), properties.into());
    }
}

/// A connection string in a Secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionStringAuth {
    /// The Secret and the key in it that hold the connection string.
    pub secret_ref: SecretKeyRef,
}

/// An access key in a Secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessKeyAuth {
    /// The Secret and the key in it that hold the access key, in base64 as the Azure portal shows it.
    pub secret_ref: SecretKeyRef,
}

/// An identity of Microsoft Entra ID that trusts a `ServiceAccount`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadIdentityAuth {
    /// The directory (tenant): its id, or one of its domain names.
    #[schemars(length(max = 253))]
    #[x_kube(validation = ("self.matches('^[0-9A-Za-z][0-9A-Za-z.-]*$') && !(self in ['common', 'organizations', 'consumers'])", "tenantId must be the id of a directory or one of its domain names, such as contoso.onmicrosoft.com; common, organizations and consumers name no directory"))]
    pub tenant_id: String,
    /// The client id of the application or user-assigned managed identity. It needs a federated
    /// credential for the `ServiceAccount`: subject `system:serviceaccount:<namespace>:<name>`.
    #[schemars(length(max = 36))]
    #[x_kube(validation = ("self.matches('^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$')", "clientId must be the application (client) id, a GUID such as 11111111-2222-3333-4444-555555555555"))]
    pub client_id: String,
    /// The `ServiceAccount` whose tokens prove the identity; the operator must be allowed to create
    /// them. Default: the operator's own, which is for a `ClusterAcsConnection`, unless the operator
    /// runs with `--namespaced-ambient-credentials`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_ref: Option<ServiceAccountRef>,
}

/// A `ServiceAccount`, in the namespace of the object that names it (for a `ClusterAcsConnection`,
/// in the operator's own).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountRef {
    /// The `ServiceAccount`'s name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A managed identity of Azure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedIdentityAuth {
    /// The client id of a user-assigned identity. Default: the machine's system-assigned one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    #[x_kube(validation = ("self.matches('^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$')", "clientId must be the client id of a user-assigned managed identity, a GUID such as 11111111-2222-3333-4444-555555555555"))]
    pub client_id: Option<String>,
}

/// An application of Microsoft Entra ID with a client secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientSecretAuth {
    /// The directory (tenant): its id, or one of its domain names.
    #[schemars(length(max = 253))]
    #[x_kube(validation = ("self.matches('^[0-9A-Za-z][0-9A-Za-z.-]*$') && !(self in ['common', 'organizations', 'consumers'])", "tenantId must be the id of a directory or one of its domain names, such as contoso.onmicrosoft.com; common, organizations and consumers name no directory"))]
    pub tenant_id: String,
    /// The application's client id.
    #[schemars(length(max = 36))]
    #[x_kube(validation = ("self.matches('^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$')", "clientId must be the application (client) id, a GUID such as 11111111-2222-3333-4444-555555555555"))]
    pub client_id: String,
    /// The Secret and the key in it that hold the client secret's value (not its id).
    pub secret_ref: SecretKeyRef,
}

impl Auth {
    /// The Secret that the credential is read from, if it is.
    #[must_use]
    pub fn secret_ref(&self) -> Option<&SecretKeyRef> {
        match self {
            Self::ConnectionString(auth) => Some(&auth.secret_ref),
            Self::AccessKey(auth) => Some(&auth.secret_ref),
            Self::ClientSecret(auth) => Some(&auth.secret_ref),
            Self::WorkloadIdentity(_) | Self::ManagedIdentity(_) => None,
        }
    }
}

/// One key of one Secret, in the namespace of the object that names it (for a
/// `ClusterAcsConnection`, in the operator's own).
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in the Secret's data.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// Names a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionRef {
    /// `AcsConnection` (of the same namespace) or `ClusterAcsConnection`.
    pub kind: ConnectionKind,
    /// The connection's name.
    #[schemars(length(min = 1, max = 253))]
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

/// What the operator knows of a connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionStatus {
    /// The endpoint in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Fingerprint of the credential in use; shown once the service has accepted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// Fingerprint of a credential that worked once and that the service refuses now: tokens made
    /// with it may be dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_credential: Option<String>,
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
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and `Reconciling` or `Stalled` while they are True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
