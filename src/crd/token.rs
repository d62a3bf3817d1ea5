use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema, runtime::reflector::ObjectRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    auth::SecretKeyRef,
    connection::ConnectionRef,
    connection_key::ConnectionKey,
    identity::AcsIdentity,
    request::Request,
    rollout_restart::{RolloutRestart, RolloutRestartStatus},
    rule,
    scope::Scope,
};

/// What a token of a Teams user allows (ACS REST 2023-10-01 leaves no choice).
const TEAMS_SCOPES: [Scope; 2] = [Scope::Chat, Scope::Voip];

/// A token of an identity or of a Teams user, kept alive in a Secret.
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
    doc = "An access token of an AcsIdentity or of a Teams user, kept valid in a Secret: issued, renewed before it expires, and, for an AcsIdentity, revoked when its scopes or life change or this object is deleted.",
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
        name = "Teams User",
        type_ = "string",
        json_path = ".spec.teamsUser.userId",
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
#[x_kube(validation = ("!has(self.renewBefore) || has(self.teamsUser) || duration(self.renewBefore) < duration(has(self.expiresIn) ? self.expiresIn : '24h')", "renewBefore must be shorter than the token's life (expiresIn, default 24h)"))]
#[x_kube(validation = ("has(self.identityRef) != has(self.teamsUser)", "name whose token it is: exactly one of identityRef and teamsUser"))]
#[x_kube(validation = ("has(self.identityRef) == has(oldSelf.identityRef)", "identityRef and teamsUser can't take each other's place: a token belongs to one identity or user; make another AcsToken"))]
#[x_kube(validation = ("has(self.scopes) || !has(self.identityRef)", "scopes is needed beside identityRef: say what the token allows, for example [chat, voip]"))]
#[x_kube(validation = ("!has(self.teamsUser) || !(has(self.scopes) || has(self.expiresIn) || has(self.revocation))", "scopes, expiresIn and revocation don't go with teamsUser: a Teams user's token allows chat and voip, ends with the Entra token and can't be revoked; remove them"))]
#[x_kube(validation = ("has(self.teamsUser) || !has(self.connectionRef)", "connectionRef goes with teamsUser only: an identity's token uses the connection of its AcsIdentity"))]
pub struct AcsTokenSpec {
    /// The identity that the token is for; this or `teamsUser`. Immutable.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self == oldSelf", "identityRef is immutable: a token belongs to one identity; make another AcsToken"))]
    pub identity_ref: Option<IdentityRef>,
    /// The Teams user that the token is for, by whose Entra token it is had; this or `identityRef`.
    /// Such a token can't be revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teams_user: Option<TeamsUser>,
    /// The connection to use with `teamsUser`. Default: the `AcsConnection` called `default` in this
    /// namespace, else the `ClusterAcsConnection` called `default`. Another connection is followed
    /// later only if it leads to the same endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_ref: Option<ConnectionRef>,
    /// What the token allows: a set, at least one. Not with `teamsUser`, whose token allows `chat`
    /// and `voip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 5))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = (rule::DISTINCT, rule::DISTINCT_MESSAGE))]
    pub scopes: Option<BTreeSet<Scope>>,
    /// The life to ask for, 1h to 24h, in hours and minutes (`90m`, `24h`); default `24h`. Not with
    /// `teamsUser`, whose token ends with the Entra token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = ("self.matches('^([0-9]{1,4}h)?([0-9]{1,4}m)?(0s)?$') && self.size() > 0 && duration(self) >= duration('1h') && duration(self) <= duration('24h')", "expiresIn must be a duration from 1h to 24h in hours and minutes, for example 90m or 24h"))]
    pub expires_in: Option<String>,
    /// How long before its end the token is renewed, in hours and minutes. Default: a third of the
    /// life. At least 12 minutes or half the life, at most two thirds of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = ("self.matches('^([0-9]{1,4}h)?([0-9]{1,4}m)?(0s)?$') && self.size() > 0 && duration(self) >= duration('1m')", "renewBefore must be a duration of at least 1m in hours and minutes, for example 30m or 8h"))]
    pub renew_before: Option<String>,
    /// The Secret that holds the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretTemplate>,
    /// When tokens are revoked: `OnChange` (default) when scopes or life change or this object is
    /// deleted; `OnNarrowing` only when something is taken away or this object is deleted; `Never`:
    /// old tokens run out. ACS revokes per identity: all tokens of the identity are made anew. Not
    /// with `teamsUser`, whose tokens can't be revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocation: Option<Revocation>,
    /// Workloads of this namespace to restart when their pods can't see by themselves that the token
    /// or the Secret is another; at most 16. Each is restarted once in 5 minutes at most, never for the
    /// first token, and never if its pod template has the annotation `acs-identity.dev/rereads: "true"`.
    /// The operator's administrator has to switch this on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "name".into()]))]
    pub rollout_restart: Option<Vec<RolloutRestart>>,
    /// While true, no token is issued or renewed; the Secret stays until its token ends. Revocation
    /// and deletion go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// Names an `AcsIdentity` of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdentityRef {
    /// The `AcsIdentity`'s name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::NAME, rule::NAME_MESSAGE))]
    pub name: String,
}

/// A user of Microsoft Teams, and the Entra token that stands for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TeamsUser {
    /// The application (client) id of the Entra application that the Entra token was obtained with,
    /// a GUID. Immutable.
    #[schemars(length(max = 36))]
    #[x_kube(validation = ("self.matches('^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$')", "teamsUser.appId must be the application (client) id, a GUID such as 11111111-2222-3333-4444-555555555555"))]
    #[x_kube(validation = ("self == oldSelf", "teamsUser.appId is immutable; make another AcsToken"))]
    pub app_id: String,
    /// The user's object id in Entra, a GUID. Immutable.
    #[schemars(length(max = 36))]
    #[x_kube(validation = ("self.matches('^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$')", "teamsUser.userId must be the user's object id in Microsoft Entra ID, a GUID such as 11111111-2222-3333-4444-555555555555"))]
    #[x_kube(validation = ("self == oldSelf", "teamsUser.userId is immutable: a token belongs to one user; make another AcsToken"))]
    pub user_id: String,
    /// The Secret, in this namespace, that holds the user's Entra token. Whoever signs the user in
    /// keeps it fresh; each new Entra token is exchanged at once.
    pub secret_ref: SecretKeyRef,
}

impl TeamsUser {
    /// The user's id in ACS.
    #[must_use]
    pub fn identity_id(&self) -> String {
        format!("8:orgid:{}", self.user_id.to_ascii_lowercase())
    }
}

/// The Secret that holds a token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretTemplate {
    /// The Secret's name; default: the `AcsToken`'s name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::NAME, rule::NAME_MESSAGE))]
    pub name: Option<String>,
    /// Labels for the Secret. Keys under acs-identity.dev, kubernetes.io and k8s.io are refused, except
    /// app.kubernetes.io/name, instance, version, component and part-of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16))]
    #[x_kube(validation = (rule::LABEL_KEYS, rule::LABEL_KEYS_MESSAGE))]
    #[x_kube(validation = (rule::OWN_LABELS, rule::OWN_LABELS_MESSAGE))]
    pub labels: Option<BTreeMap<String, ShortText>>,
    /// Annotations for the Secret. Keys under acs-identity.dev, kubernetes.io and k8s.io are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16))]
    #[x_kube(validation = (rule::ANNOTATION_KEYS, rule::ANNOTATION_KEYS_MESSAGE))]
    #[x_kube(validation = (rule::OWN_ANNOTATIONS, rule::OWN_ANNOTATIONS_MESSAGE))]
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
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::DATA_KEY, rule::DATA_KEY_MESSAGE))]
    pub token: Option<String>,
    /// The key that holds the token's end (RFC 3339, UTC, whole seconds); default `expiresOn`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::DATA_KEY, rule::DATA_KEY_MESSAGE))]
    pub expires_on: Option<String>,
    /// The key that holds the identity's id in ACS; default `identityId`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::DATA_KEY, rule::DATA_KEY_MESSAGE))]
    pub identity_id: Option<String>,
    /// The key that holds the resource's endpoint; default `endpoint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::DATA_KEY, rule::DATA_KEY_MESSAGE))]
    pub endpoint: Option<String>,
    /// The key that holds the token's scopes, sorted and comma-joined; default `scopes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::DATA_KEY, rule::DATA_KEY_MESSAGE))]
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

/// The Entra token that the token of a Teams user was exchanged for; never the token itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserTokenStatus {
    /// A hash of it.
    pub fingerprint: String,
    /// When it ends, by the operator's clock.
    pub expires_at: Time,
}

/// A Secret as the operator wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WrittenSecret {
    /// Its `metadata.resourceVersion`.
    pub resource_version: String,
    /// Digest of its data, with the fingerprint in place of the token.
    pub digest: String,
}

/// What the operator knows of a token; never the token itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcsTokenStatus {
    /// With `teamsUser`: the connection that the first token was had through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_ref: Option<ConnectionRef>,
    /// With `teamsUser`: the endpoint that the first token was had from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// With `teamsUser`: the Entra token that the token was exchanged for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_token: Option<UserTokenStatus>,
    /// With `teamsUser`: since when the connection's policy does not serve this namespace. Five
    /// minutes later the Secret is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denied_since: Option<Time>,
    /// The Secret that holds the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// The Secret as it was written with the token: while it is of this version, nobody has changed it,
    /// and the operator has no need to read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_secret: Option<WrittenSecret>,
    /// The identity in ACS that the token is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_id: Option<String>,
    /// The token's scopes, sorted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<BTreeSet<Scope>>,
    /// The life that was asked for; with `teamsUser`, the life that ACS gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
    /// When the service issued the token, by the service's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<Time>,
    /// When the newest of its tokens was issued, if the service's clock has stepped back since: a
    /// revocation is repeated until the clock has passed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest_issued_at: Option<Time>,
    /// When the token ends, by the operator's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// How long the token lives from its issue on, as the service said, in seconds: `86400s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub life: Option<String>,
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
    /// Revision of the newest token that took the place of one that no longer worked, such as after a
    /// revocation: workloads are restarted for it. Kept while the spec names workloads to restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_revision: Option<i64>,
    /// The workloads of `spec.rolloutRestart`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "name".into()]))]
    pub rollout_restarts: Vec<RolloutRestartStatus>,
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
    /// The workloads to restart.
    pub fn rollout_restarts(&self) -> impl Iterator<Item = &RolloutRestart> {
        self.spec.rollout_restart.iter().flatten()
    }

    /// The renewal that is asked for and not done yet.
    #[must_use]
    pub fn open_request(&self) -> Option<Request<'_>> {
        let status = self.status.as_ref()?;
        let last = status.last_handled_request.as_deref();
        Request::open(self, status.observed_generation, last)
    }

    /// The name of the `AcsIdentity` that it is for, unless it is for a Teams user.
    #[must_use]
    pub fn identity_name(&self) -> Option<&str> {
        let identity = self.spec.identity_ref.as_ref()?;
        Some(&identity.name)
    }

    /// The `AcsIdentity` that it is for, unless it is for a Teams user.
    #[must_use]
    pub fn identity_reference(&self) -> Option<ObjectRef<AcsIdentity>> {
        let mut reference = ObjectRef::new(self.identity_name()?);
        reference.namespace.clone_from(&self.metadata.namespace);
        Some(reference)
    }

    /// With `teamsUser`: all connections that it may turn out to use.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionKey> {
        let kept = self.status.as_ref();
        ConnectionKey::candidates(
            self.spec.connection_ref.as_ref(),
            kept.and_then(|status| status.connection_ref.as_ref()),
            self.metadata.namespace.as_deref().unwrap_or_default(),
        )
    }

    /// What the token allows.
    #[must_use]
    pub fn scopes(&self) -> BTreeSet<Scope> {
        if self.spec.teams_user.is_some() {
            return TEAMS_SCOPES.into();
        }
        self.spec.scopes.clone().unwrap_or_default()
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
