use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{request::Request, scope::Scope};

/// A token of an identity, kept alive in a Secret.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "acs-identity.dev",
    version = "v1alpha1",
    kind = "AcsToken",
    namespaced,
    status = "AcsTokenStatus",
    shortname = "acstok",
    category = "acs",
    derive = "PartialEq",
    doc = "An access token of an AcsIdentity, kept valid in a Secret: issued, renewed before it expires, and revoked when its scopes or life change or this object is deleted.",
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
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.expiresAt"),
    printcolumn(name = "Renews", type_ = "string", json_path = ".status.renewAt"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Secret",
        type_ = "string",
        json_path = ".status.secretName",
        priority = "1"
    ),
    printcolumn(
        name = "Identity",
        type_ = "string",
        json_path = ".spec.identityRef.name",
        priority = "1"
    ),
    printcolumn(
        name = "Scopes",
        type_ = "string",
        json_path = ".status.scopes",
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
#[x_kube(validation = ("!has(self.renewBefore) || duration(self.renewBefore) < duration(has(self.expiresIn) ? self.expiresIn : '24h')", "renewBefore must be shorter than the token's life (expiresIn, default 24h)"))]
pub struct AcsTokenSpec {
    /// The identity that the token is for. Immutable.
    #[x_kube(validation = ("self == oldSelf", "identityRef is immutable: a token belongs to one identity; make another AcsToken"))]
    pub identity_ref: IdentityRef,
    /// What the token allows: a set, at least one.
    #[schemars(length(min = 1, max = 5))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub scopes: BTreeSet<Scope>,
    /// The life to ask for, 1h to 24h, in hours and minutes (`90m`, `24h`); default `24h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = ("self.matches('^([0-9]{1,4}h)?([0-9]{1,4}m)?$') && self.size() > 0 && duration(self) >= duration('1h') && duration(self) <= duration('24h')", "expiresIn must be a duration from 1h to 24h in hours and minutes, for example 90m or 24h"))]
    pub expires_in: Option<String>,
    /// How long before its end the token is renewed, in hours and minutes. Default: a third of the
    /// life. At least 12 minutes or half the life, at most two thirds of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = ("self.matches('^([0-9]{1,4}h)?([0-9]{1,4}m)?$') && self.size() > 0 && duration(self) >= duration('1m')", "renewBefore must be a duration of at least 1m in hours and minutes, for example 30m or 8h"))]
    pub renew_before: Option<String>,
    /// The Secret that holds the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretTemplate>,
    /// When tokens are revoked: `OnChange` (default) when scopes or life change or this object is
    /// deleted; `OnNarrowing` only when something is taken away or this object is deleted; `Never`:
    /// old tokens run out. ACS revokes per identity: all tokens of the identity are made anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocation: Option<Revocation>,
    /// While true, no token is issued or renewed; the Secret stays until its token ends. Revocation
    /// and deletion go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// Names an `AcsIdentity` of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdentityRef {
    /// The `AcsIdentity`'s name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The Secret that holds a token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretTemplate {
    /// The Secret's name; default: the `AcsToken`'s name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = ("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')", "secret.name must be a name of Kubernetes: lower-case letters, digits, - and ."))]
    pub name: Option<String>,
    /// Labels for the Secret. Keys under acs-identity.dev, kubernetes.io and k8s.io are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16))]
    #[x_kube(validation = ("self.all(key, key.size() <= 316 && key.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))", "secret.labels must have keys of Kubernetes, like team or example.com/team"))]
    #[x_kube(validation = ("!self.exists(key, key.contains('/') && (key.split('/')[0] in ['acs-identity.dev', 'kubernetes.io', 'k8s.io'] || key.split('/')[0].endsWith('.acs-identity.dev') || key.split('/')[0].endsWith('.kubernetes.io') || key.split('/')[0].endsWith('.k8s.io')))", "secret.labels must not use keys under acs-identity.dev, kubernetes.io or k8s.io: other controllers obey them"))]
    pub labels: Option<BTreeMap<String, ShortText>>,
    /// Annotations for the Secret. Keys under acs-identity.dev, kubernetes.io and k8s.io are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16))]
    #[x_kube(validation = ("self.all(key, key.size() <= 316 && key.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))", "secret.annotations must have keys of Kubernetes, like note or example.com/note"))]
    #[x_kube(validation = ("!self.exists(key, key.contains('/') && (key.split('/')[0] in ['acs-identity.dev', 'kubernetes.io', 'k8s.io'] || key.split('/')[0].endsWith('.acs-identity.dev') || key.split('/')[0].endsWith('.kubernetes.io') || key.split('/')[0].endsWith('.k8s.io')))", "secret.annotations must not use keys under acs-identity.dev, kubernetes.io or k8s.io: other controllers obey them"))]
    pub annotations: Option<BTreeMap<String, LongText>>,
    /// Other names for the keys of the Secret's data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<SecretKeys>,
}

/// The value of a label: at most 63 characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$')",
    "message": "the value of a label must be letters, digits, -, _ and ., beginning and ending with a letter or digit"
}]))]
pub struct ShortText(#[schemars(length(max = 63))] pub String);

/// The value of an annotation: at most 1024 characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct LongText(#[schemars(length(max = 1024))] pub String);

/// Names of the keys of the Secret's data; distinct.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("[has(self.token) ? self.token : 'token', has(self.expiresOn) ? self.expiresOn : 'expiresOn', has(self.identityId) ? self.identityId : 'identityId', has(self.endpoint) ? self.endpoint : 'endpoint', has(self.scopes) ? self.scopes : 'scopes'].all(name, [has(self.token) ? self.token : 'token', has(self.expiresOn) ? self.expiresOn : 'expiresOn', has(self.identityId) ? self.identityId : 'identityId', has(self.endpoint) ? self.endpoint : 'endpoint', has(self.scopes) ? self.scopes : 'scopes'].exists_one(other, other == name))", "secret.keys must be distinct, the default names of the others included"))]
pub struct SecretKeys {
    /// The key that holds the token; default `token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub token: Option<String>,
    /// The key that holds the token's end (RFC 3339, UTC, whole seconds); default `expiresOn`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub expires_on: Option<String>,
    /// The key that holds the identity's id in ACS; default `identityId`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub identity_id: Option<String>,
    /// The key that holds the resource's endpoint; default `endpoint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub endpoint: Option<String>,
    /// The key that holds the token's scopes, sorted and comma-joined; default `scopes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub scopes: Option<String>,
}

/// When tokens are revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Revocation {
    #[allow(missing_docs, reason = "per-variant docs are dropped from the schema")]
    #[default]
    OnChange,
    #[allow(missing_docs, reason = "as above")]
    OnNarrowing,
    #[allow(missing_docs, reason = "as above")]
    Never,
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastFailure {
    /// When, by the operator's clock.
    pub time: Time,
    /// One word.
    pub reason: String,
    /// What happened and what to do.
    pub message: String,
}

/// A token of a former credential whose place was taken by one of the credential in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FormerToken {
    /// When the last token of a former credential ends that the Secret held, by the operator's clock.
    pub expires_at: Time,
    /// When a token of another credential took its place, by the operator's clock.
    pub replaced_at: Time,
}

/// What the operator knows of a token; never the token itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcsTokenStatus {
    /// The Secret that holds the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// The identity in ACS that the token is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_id: Option<String>,
    /// The token's scopes, sorted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<BTreeSet<Scope>>,
    /// The life that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
    /// When the service issued the token, by the service's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<Time>,
    /// When the token ends, by the operator's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// When the token will be renewed, by the operator's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_at: Option<Time>,
    /// Fingerprint of the token: a hash that the bytes in the Secret must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Fingerprint of the credential that the token was made with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// The token of a former credential that was replaced, while it may be alive: who read the
    /// Secret before may use it still.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub former_token: Option<FormerToken>,
    /// How many tokens have been issued for this object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// The value of the annotation acs-identity.dev/requested-at that was last obeyed: a token was
    /// issued after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_request: Option<String>,
    /// Issue calls that failed in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_attempts: Option<i32>,
    /// The last call that failed, while none has succeeded since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LastFailure>,
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and `Reconciling` or `Stalled` while they are True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

impl AcsToken {
    /// The renewal that is asked for and not done yet.
    #[must_use]
    pub fn open_request(&self) -> Option<Request<'_>> {
        let status = self.status.as_ref()?;
        let last = status.last_handled_request.as_deref();
        Request::open(self, status.observed_generation, last)
    }

    /// The name of the Secret that the spec asks for.
    #[must_use]
    pub fn secret_name(&self) -> String {
        self.spec
            .secret
            .as_ref()
            .and_then(|secret| secret.name.clone())
            .or_else(|| self.metadata.name.clone())
            .unwrap_or_default()
    }
}
