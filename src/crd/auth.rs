use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rule;

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

/// An access key in a Secret, and perhaps the other one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.secondarySecretRef) || self.secondarySecretRef.name != self.secretRef.name || self.secondarySecretRef.key != self.secretRef.key", "secondarySecretRef must name another key than secretRef: it holds the resource's other access key"))]
pub struct AccessKeyAuth {
    /// The Secret and the key in it that hold the access key, in base64 as the Azure portal shows it.
    pub secret_ref: SecretKeyRef,
    /// Where the resource's other access key is. It is used as soon as ACS refuses the first one,
    /// until `secretRef` holds another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secondary_secret_ref: Option<SecretKeyRef>,
}

/// An identity of Microsoft Entra ID that trusts a `ServiceAccount`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadIdentityAuth {
    /// The directory (tenant): its id, or one of its domain names.
    #[schemars(length(max = 253))]
    #[x_kube(validation = ("self.matches('^[0-9A-Za-z][0-9A-Za-z.-]*$') && !(self.lowerAscii() in ['common', 'organizations', 'consumers'])", "tenantId must be the id of a directory or one of its domain names, such as contoso.onmicrosoft.com; common, organizations and consumers name no directory"))]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountRef {
    /// The `ServiceAccount`'s name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::NAME, rule::NAME_MESSAGE))]
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
    #[x_kube(validation = ("self.matches('^[0-9A-Za-z][0-9A-Za-z.-]*$') && !(self.lowerAscii() in ['common', 'organizations', 'consumers'])", "tenantId must be the id of a directory or one of its domain names, such as contoso.onmicrosoft.com; common, organizations and consumers name no directory"))]
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

    /// The Secret that the second key is read from, if there is one.
    #[must_use]
    pub fn secondary_secret_ref(&self) -> Option<&SecretKeyRef> {
        match self {
            Self::AccessKey(auth) => auth.secondary_secret_ref.as_ref(),
            _ => None,
        }
    }
}

/// One key of one Secret, in the namespace of the object that names it (for a
/// `ClusterAcsConnection`, in the operator's own).
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, KubeSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::NAME, rule::NAME_MESSAGE))]
    pub name: String,
    /// The key in the Secret's data.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::DATA_KEY, rule::DATA_KEY_MESSAGE))]
    pub key: String,
}
