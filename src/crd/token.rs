use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema, runtime::reflector::ObjectRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    auth::SecretKeyRef,
    connection::ConnectionRef,
    connection_key::ConnectionKey,
    consumers::ConsumersStatus,
    duration::parse_duration,
    identity::AcsIdentity,
    request::Request,
    rollout_restart::{RolloutRestart, RolloutRestartStatus},
    rule,
    scope::Scope,
};

/// Scopes of a Teams user's token (ACS REST 2023-10-01 offers no choice).
const TEAMS_SCOPES: [Scope; 2] = [Scope::Chat, Scope::Voip];

/// An access token of an identity or of a Teams user. The operator keeps it valid in a Secret.
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
    doc = "An access token of an AcsIdentity or of a Teams user. The operator issues it into a \
     Secret and renews it before it expires. A token of an AcsIdentity is revoked when its scopes \
     or its lifetime change and when this object is deleted.",
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
#[x_kube(validation = ("!has(self.renewBefore) || has(self.teamsUser) || duration(self.renewBefore) < duration(has(self.expiresIn) ? self.expiresIn : '24h')", "renewBefore \
 must be shorter than the lifetime of the token (expiresIn, default 24h)"))]
#[x_kube(validation = ("has(self.identityRef) != has(self.teamsUser)", "set exactly one of \
 identityRef and teamsUser"))]
#[x_kube(validation = ("has(self.identityRef) == has(oldSelf.identityRef)", "identityRef and \
 teamsUser cannot replace each other: a token belongs to one identity or user; create another \
 AcsToken"))]
#[x_kube(validation = ("has(self.scopes) || !has(self.identityRef)", "scopes is required with \
 identityRef, for example [chat, voip]"))]
#[x_kube(validation = ("!has(self.teamsUser) || !(has(self.scopes) || has(self.expiresIn) || has(self.revocation))", "scopes, \
 expiresIn and revocation are not allowed with teamsUser: a Teams user's token has the scopes \
 chat and voip, expires with the Entra token and cannot be revoked; remove them"))]
#[x_kube(validation = ("has(self.teamsUser) || !has(self.connectionRef)", "connectionRef is \
 allowed only with teamsUser: other tokens use the connection of their AcsIdentity"))]
pub struct AcsTokenSpec {
    /// Identity that the token is issued for. Either this or `teamsUser` must be set. Immutable.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("self == oldSelf", "identityRef is immutable: a token belongs to one \
     identity; create another AcsToken"))]
    pub identity_ref: Option<IdentityRef>,
    /// Teams user that the token is issued for, in exchange for the user's Entra token. Either this
    /// or `identityRef` must be set. ACS cannot revoke such a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teams_user: Option<TeamsUser>,
    /// Connection to use with `teamsUser`. Default: the `AcsConnection` named `default` in this
    /// namespace, else the `ClusterAcsConnection` named `default`. It can be changed later only to
    /// a connection with the same endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_ref: Option<ConnectionRef>,
    /// Scopes of the token, at least one, without duplicates. Not allowed with `teamsUser`: such a
    /// token always has the scopes `chat` and `voip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 5))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = (rule::DISTINCT, rule::DISTINCT_MESSAGE))]
    pub scopes: Option<BTreeSet<Scope>>,
    /// Lifetime of the token, 1h to 24h, in hours and minutes (`90m`, `24h`). Default: `24h`. Not
    /// allowed with `teamsUser`: such a token expires with the Entra token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = ("self.matches('^([0-9]{1,4}h)?([0-9]{1,4}m)?(0s)?$') && self.size() > 0 && duration(self) >= duration('1h') && duration(self) <= duration('24h')", "expiresIn must be a duration from 1h to 24h in hours and minutes, for example 90m or 24h"))]
    pub expires_in: Option<String>,
    /// Time before its expiry at which the token is renewed, in hours and minutes. Default: a third
    /// of the lifetime. At least 12 minutes or half the lifetime, at most two thirds of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = ("self.matches('^([0-9]{1,4}h)?([0-9]{1,4}m)?(0s)?$') && self.size() > 0 && duration(self) >= duration('1m')", "renewBefore must be a duration of at least 1m in hours and minutes, for example 30m or 8h"))]
    pub renew_before: Option<String>,
    /// Secret that holds the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretTemplate>,
    /// When to revoke old tokens. `OnChange` (default): when the scopes or the lifetime change and
    /// when this object is deleted. `OnNarrowing`: when a scope is removed or the lifetime is
    /// shortened, and when this object is deleted. `Never`: old tokens stay valid until they
    /// expire. ACS revokes all tokens of an identity at once, so its other tokens are issued again.
    /// Not allowed with `teamsUser`, because ACS cannot revoke such tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocation: Option<Revocation>,
    /// Workloads in this namespace to restart when their pods cannot notice a changed token or
    /// Secret by themselves; at most 16. Each is restarted at most once in 5 minutes, never for the
    /// first token, and never if its pod template has the annotation `acs-identity.dev/rereads:
    /// "true"`. An administrator must enable this feature in the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "name".into()]))]
    pub rollout_restart: Option<Vec<RolloutRestart>>,
    /// While true, the operator issues and renews no token. The Secret stays until its token
    /// expires. Revocation and deletion still work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// Reference to an `AcsIdentity` in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdentityRef {
    /// Name of the `AcsIdentity`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::NAME, rule::NAME_MESSAGE))]
    pub name: String,
}

/// A Microsoft Teams user and the Entra token that authenticates this user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TeamsUser {
    /// Application (client) id, a GUID, of the Entra application that the Entra token was issued
    /// to. Immutable.
    #[schemars(length(max = 36))]
    #[x_kube(validation = ("self.matches('^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$')", "teamsUser.appId must be the application (client) id, a GUID such as 11111111-2222-3333-4444-555555555555"))]
    #[x_kube(validation = ("self == oldSelf", "teamsUser.appId is immutable; create another \
     AcsToken"))]
    pub app_id: String,
    /// Object id of the user in Entra, a GUID. Immutable.
    #[schemars(length(max = 36))]
    #[x_kube(validation = ("self.matches('^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$')", "teamsUser.userId must be the user's object id in Microsoft Entra ID, a GUID such as 11111111-2222-3333-4444-555555555555"))]
    #[x_kube(validation = ("self == oldSelf", "teamsUser.userId is immutable: a token belongs to \
     one user; create another AcsToken"))]
    pub user_id: String,
    /// Secret in this namespace that holds the user's Entra token. The application that signs the
    /// user in must keep it fresh. The operator exchanges each new Entra token at once.
    pub secret_ref: SecretKeyRef,
}

impl TeamsUser {
    /// Id of the user in ACS.
    #[must_use]
    pub fn identity_id(&self) -> String {
        format!("8:orgid:{}", self.user_id.to_ascii_lowercase())
    }
}

/// Secret that holds a token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretTemplate {
    /// Name of the Secret. Default: the name of the `AcsToken`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::NAME, rule::NAME_MESSAGE))]
    pub name: Option<String>,
    /// Labels of the Secret. Keys under acs-identity.dev, kubernetes.io and k8s.io are not allowed,
    /// except app.kubernetes.io/name, instance, version, component and part-of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16))]
    #[x_kube(validation = (rule::LABEL_KEYS, rule::LABEL_KEYS_MESSAGE))]
    #[x_kube(validation = (rule::OWN_LABELS, rule::OWN_LABELS_MESSAGE))]
    pub labels: Option<BTreeMap<String, ShortText>>,
    /// Annotations of the Secret. Keys under acs-identity.dev, kubernetes.io and k8s.io are not
    /// allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16))]
    #[x_kube(validation = (rule::ANNOTATION_KEYS, rule::ANNOTATION_KEYS_MESSAGE))]
    #[x_kube(validation = (rule::OWN_ANNOTATIONS, rule::OWN_ANNOTATIONS_MESSAGE))]
    pub annotations: Option<BTreeMap<String, LongText>>,
    /// Names of the keys in the Secret's data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<SecretKeys>,
}

/// Value of a label: at most 63 characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$')",
    "message": "the value of a label must consist of letters, digits, -, _ and .; it must begin \
     and end with a letter or digit"
}]))]
pub struct ShortText(#[schemars(length(max = 63))] pub String);

/// Value of an annotation: at most 1024 characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct LongText(#[schemars(length(max = 1024))] pub String);

/// Names of the keys in the Secret's data. They must differ from each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("[has(self.token) ? self.token : 'token', has(self.expiresOn) ? self.expiresOn : 'expiresOn', has(self.identityId) ? self.identityId : 'identityId', has(self.endpoint) ? self.endpoint : 'endpoint', has(self.scopes) ? self.scopes : 'scopes'].all(name, [has(self.token) ? self.token : 'token', has(self.expiresOn) ? self.expiresOn : 'expiresOn', has(self.identityId) ? self.identityId : 'identityId', has(self.endpoint) ? self.endpoint : 'endpoint', has(self.scopes) ? self.scopes : 'scopes'].exists_one(other, other == name))", "secret.keys \
 must differ from each other and from the default names of the other keys"))]
pub struct SecretKeys {
    /// Key of the token. Default: `token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::DATA_KEY, rule::DATA_KEY_MESSAGE))]
    pub token: Option<String>,
    /// Key of the expiry time (RFC 3339, UTC, whole seconds). Default: `expiresOn`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::DATA_KEY, rule::DATA_KEY_MESSAGE))]
    pub expires_on: Option<String>,
    /// Key of the identity's id in ACS. Default: `identityId`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::DATA_KEY, rule::DATA_KEY_MESSAGE))]
    pub identity_id: Option<String>,
    /// Key of the endpoint of the ACS resource. Default: `endpoint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::DATA_KEY, rule::DATA_KEY_MESSAGE))]
    pub endpoint: Option<String>,
    /// Key of the scopes, sorted and separated by commas. Default: `scopes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (rule::DATA_KEY, rule::DATA_KEY_MESSAGE))]
    pub scopes: Option<String>,
}

/// When old tokens are revoked.
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

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastFailure {
    /// Time of the failure, by the operator's clock.
    pub time: Time,
    /// Reason of the failure, in CamelCase.
    pub reason: String,
    /// Description of the failure and what to do about it.
    pub message: String,
}

/// A token of a former credential that was replaced by a token of the current credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FormerToken {
    /// Expiry of the last token of a former credential that the Secret held, by the operator's
    /// clock.
    pub expires_at: Time,
    /// Time at which it was replaced, by the operator's clock.
    pub replaced_at: Time,
}

/// The Entra token that a Teams user's token was exchanged for, without the token itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserTokenStatus {
    /// Hash of the Entra token.
    pub fingerprint: String,
    /// Expiry of the Entra token, by the operator's clock.
    pub expires_at: Time,
}

/// State of a Secret after the operator's last write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WrittenSecret {
    /// Its `metadata.resourceVersion`.
    pub resource_version: String,
    /// Digest of its data, computed with the token's fingerprint instead of the token.
    pub digest: String,
}

/// Observed state of a token. It never contains the token itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcsTokenStatus {
    /// Only with `teamsUser`: connection that the first token was issued through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_ref: Option<ConnectionRef>,
    /// Only with `teamsUser`: endpoint that issued the first token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Only with `teamsUser`: Entra token that the token was exchanged for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_token: Option<UserTokenStatus>,
    /// Only with `teamsUser`: time since which the connection's policy does not allow this
    /// namespace. The Secret is deleted five minutes later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denied_since: Option<Time>,
    /// Secret that holds the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// State of the Secret after the token was written. While the Secret has this version, it is
    /// unchanged and the operator does not read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_secret: Option<WrittenSecret>,
    /// Id in ACS of the identity that the token is issued for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_id: Option<String>,
    /// Scopes of the token, sorted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<BTreeSet<Scope>>,
    /// Requested lifetime; with `teamsUser`, the lifetime that ACS chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
    /// Time at which ACS issued the token, by the clock of ACS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<Time>,
    /// Issue time of the newest token, if the clock of ACS has stepped back since then. Revocations
    /// are repeated until that clock has passed this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest_issued_at: Option<Time>,
    /// Expiry of the token, by the operator's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// Lifetime of the token as ACS stated it, in seconds: `86400s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub life: Option<String>,
    /// Time at which the token will be renewed, by the operator's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_at: Option<Time>,
    /// Fingerprint of the token: a hash that the token in the Secret must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Fingerprint of the credential that the token was issued with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// Token of a former credential that was replaced but may still be valid, because pods that
    /// read the Secret earlier may still use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub former_token: Option<FormerToken>,
    /// Time at which the Secret was seen to hold the token, right after it was written; by the
    /// operator's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_at: Option<Time>,
    /// Number of tokens issued for this object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Revision of the newest token that replaced a token that no longer worked, for example after
    /// a revocation. Workloads are restarted for it. Kept while the spec names workloads to
    /// restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_revision: Option<i64>,
    /// State of the workloads in `spec.rolloutRestart`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "name".into()]))]
    pub rollout_restarts: Vec<RolloutRestartStatus>,
    /// Pods that use the Secret. Only if the operator counts them, which an administrator enables
    /// with the chart value `consumers.count`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumers: Option<ConsumersStatus>,
    /// Value of the annotation acs-identity.dev/requested-at that was handled last. A token was
    /// issued after that request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_request: Option<String>,
    /// Number of consecutive failed calls to issue a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_attempts: Option<i32>,
    /// Last failed call. Removed after a call succeeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LastFailure>,
    /// Generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`; `Reconciling` and `Stalled` only while they are True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

impl AcsToken {
    /// Workloads to restart.
    pub fn rollout_restarts(&self) -> impl Iterator<Item = &RolloutRestart> {
        self.spec.rollout_restart.iter().flatten()
    }

    /// Key of the Secret's data with a name that the spec may change from `default`.
    pub fn secret_key(
        &self,
        renamed: impl Fn(&SecretKeys) -> Option<&String>,
        default: &str,
    ) -> String {
        let secret = self.spec.secret.as_ref();
        let keys = secret.and_then(|secret| secret.keys.as_ref());
        let renamed = keys.and_then(renamed);
        renamed.map_or_else(|| default.to_owned(), Clone::clone)
    }

    /// Key of the token in the Secret.
    #[must_use]
    pub fn token_key(&self) -> String {
        self.secret_key(|keys| keys.token.as_ref(), "token")
    }

    /// Key of the expiry time in the Secret.
    #[must_use]
    pub fn expires_on_key(&self) -> String {
        self.secret_key(|keys| keys.expires_on.as_ref(), "expiresOn")
    }

    /// Time at which the token was written to the Secret. For a token that an earlier release
    /// issued, the time at which ACS answered.
    #[must_use]
    pub fn written_at(&self) -> Option<Timestamp> {
        let status = self.status.as_ref()?;
        if let Some(written_at) = &status.written_at {
            return Some(written_at.0);
        }
        let life = parse_duration(status.life.as_deref()?).ok()?;
        status.expires_at.as_ref()?.0.checked_sub(life).ok()
    }

    /// Requested renewal that is still to be done.
    #[must_use]
    pub fn open_request(&self) -> Option<Request<'_>> {
        let status = self.status.as_ref()?;
        let last = status.last_handled_request.as_deref();
        Request::open(self, status.observed_generation, last)
    }

    /// Name of the `AcsIdentity` that the token is issued for; `None` for a Teams user.
    #[must_use]
    pub fn identity_name(&self) -> Option<&str> {
        let identity = self.spec.identity_ref.as_ref()?;
        Some(&identity.name)
    }

    /// `AcsIdentity` that the token is issued for; `None` for a Teams user.
    #[must_use]
    pub fn identity_reference(&self) -> Option<ObjectRef<AcsIdentity>> {
        let mut reference = ObjectRef::new(self.identity_name()?);
        reference.namespace.clone_from(&self.metadata.namespace);
        Some(reference)
    }

    /// All connections that a token with `teamsUser` may use.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionKey> {
        let kept = self.status.as_ref();
        ConnectionKey::candidates(
            self.spec.connection_ref.as_ref(),
            kept.and_then(|status| status.connection_ref.as_ref()),
            self.metadata.namespace.as_deref().unwrap_or_default(),
        )
    }

    /// Scopes of the token.
    #[must_use]
    pub fn scopes(&self) -> BTreeSet<Scope> {
        if self.spec.teams_user.is_some() {
            return TEAMS_SCOPES.into();
        }
        self.spec.scopes.clone().unwrap_or_default()
    }

    /// Name of the Secret, from the spec or by default.
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
