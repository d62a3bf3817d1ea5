use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rule;

/// How to authenticate to ACS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = without_one_of)]
pub enum Auth {
    /// Connection string, as shown in the Azure portal.
    ConnectionString(ConnectionStringAuth),
    /// One of the two access keys of the resource in `endpoint`.
    AccessKey(AccessKeyAuth),
    /// Application or managed identity in Microsoft Entra ID that trusts a `ServiceAccount` of this
    /// cluster. No secret is stored anywhere.
    WorkloadIdentity(WorkloadIdentityAuth),
    /// Managed identity of the machine that the operator runs on. This is a credential of the
    /// operator itself, so an `AcsConnection` may use it only if the operator runs with
    /// `--namespaced-ambient-credentials`.
    ManagedIdentity(ManagedIdentityAuth),
    /// Application in Microsoft Entra ID with a client secret.
    ClientSecret(ClientSecretAuth),
}

/// A rule refuses more than one member with a clear message; `oneOf` would show users a schema
/// error.
fn without_one_of(schema: &mut schemars::Schema) {
    if let Some(all) = schema.remove("oneOf") {
        let mut properties = serde_json::Map::new();
        for variant in all.as_array().into_iter().flatten() {
            let members = variant.get("properties").and_then(|it| it.as_object());
            for (name, member) in members.into_iter().flatten() {
                let mut member = member.clone();
                // The variant's description says more than the description of its type.
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
    /// Secret, and the key in it, that hold the connection string.
    pub secret_ref: SecretKeyRef,
}

/// An access key in a Secret, and optionally the second access key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.secondarySecretRef) || self.secondarySecretRef.name != self.secretRef.name || self.secondarySecretRef.key != self.secretRef.key", "secondarySecretRef \
 must refer to another key than secretRef: it holds the other access key of the resource"))]
pub struct AccessKeyAuth {
    /// Secret, and the key in it, that hold the access key, in base64 as shown in the Azure portal.
    pub secret_ref: SecretKeyRef,
    /// Secret, and the key in it, that hold the second access key. The operator uses it as soon as
    /// ACS rejects the first one, until `secretRef` holds a new key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secondary_secret_ref: Option<SecretKeyRef>,
}

/// Identity in Microsoft Entra ID that trusts a `ServiceAccount`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadIdentityAuth {
    /// Id of the tenant (directory), or one of its domain names.
    #[schemars(length(max = 253))]
    #[x_kube(validation = ("self.matches('^[0-9A-Za-z][0-9A-Za-z.-]*$') && !(self.lowerAscii() in ['common', 'organizations', 'consumers'])", "tenantId \
     must be the id of a tenant or one of its domain names, such as contoso.onmicrosoft.com; \
     common, organizations and consumers are not tenants"))]
    pub tenant_id: String,
    /// Client id of the application or user-assigned managed identity. It needs a federated
    /// credential with the subject `system:serviceaccount:<namespace>:<name>`.
    #[schemars(length(max = 36))]
    #[x_kube(validation = ("self.matches('^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$')", "clientId must be the application (client) id, a GUID such as 11111111-2222-3333-4444-555555555555"))]
    pub client_id: String,
    /// `ServiceAccount` that authenticates to Microsoft Entra ID. The operator must be allowed to
    /// create tokens for it. Default: the operator's own `ServiceAccount`, which an `AcsConnection`
    /// may use only if the operator runs with `--namespaced-ambient-credentials`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_ref: Option<ServiceAccountRef>,
}

/// Reference to a `ServiceAccount` in the namespace of this object (for a `ClusterAcsConnection`:
/// in the operator's namespace).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountRef {
    /// Name of the `ServiceAccount`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::NAME, rule::NAME_MESSAGE))]
    pub name: String,
}

/// Managed identity in Azure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedIdentityAuth {
    /// Client id of a user-assigned identity. Default: the system-assigned identity of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    #[x_kube(validation = ("self.matches('^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$')", "clientId must be the client id of a user-assigned managed identity, a GUID such as 11111111-2222-3333-4444-555555555555"))]
    pub client_id: Option<String>,
}

/// Application in Microsoft Entra ID with a client secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientSecretAuth {
    /// Id of the tenant (directory), or one of its domain names.
    #[schemars(length(max = 253))]
    #[x_kube(validation = ("self.matches('^[0-9A-Za-z][0-9A-Za-z.-]*$') && !(self.lowerAscii() in ['common', 'organizations', 'consumers'])", "tenantId \
     must be the id of a tenant or one of its domain names, such as contoso.onmicrosoft.com; \
     common, organizations and consumers are not tenants"))]
    pub tenant_id: String,
    /// Client id of the application.
    #[schemars(length(max = 36))]
    #[x_kube(validation = ("self.matches('^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$')", "clientId must be the application (client) id, a GUID such as 11111111-2222-3333-4444-555555555555"))]
    pub client_id: String,
    /// Secret, and the key in it, that hold the value of the client secret (not its id).
    pub secret_ref: SecretKeyRef,
}

impl Auth {
    /// Secret that the credential is read from, if any.
    #[must_use]
    pub fn secret_ref(&self) -> Option<&SecretKeyRef> {
        match self {
            Self::ConnectionString(auth) => Some(&auth.secret_ref),
            Self::AccessKey(auth) => Some(&auth.secret_ref),
            Self::ClientSecret(auth) => Some(&auth.secret_ref),
            Self::WorkloadIdentity(_) | Self::ManagedIdentity(_) => None,
        }
    }

    /// Secret that the second access key is read from, if any.
    #[must_use]
    pub fn secondary_secret_ref(&self) -> Option<&SecretKeyRef> {
        match self {
            Self::AccessKey(auth) => auth.secondary_secret_ref.as_ref(),
            _ => None,
        }
    }
}

/// Reference to a key of a Secret in the namespace of this object (for a `ClusterAcsConnection`: in
/// the operator's namespace).
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, KubeSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::NAME, rule::NAME_MESSAGE))]
    pub name: String,
    /// Key in the Secret's data.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::DATA_KEY, rule::DATA_KEY_MESSAGE))]
    pub key: String,
}
