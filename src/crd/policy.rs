use std::collections::BTreeSet;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{rule, scope::Scope};

/// Rules for tokens. After a stricter rule the operator revokes tokens that are no longer allowed,
/// even those with `revocation: Never`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenPolicy {
    /// Scopes that tokens may have. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 5))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = (rule::DISTINCT, rule::DISTINCT_MESSAGE))]
    pub scopes: Option<BTreeSet<Scope>>,
    /// Maximum of `expiresIn`, 1h to 24h, in hours and minutes. Default: `24h`. An `AcsToken`
    /// without `expiresIn` gets this lifetime.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = ("self.matches('^([0-9]{1,4}h)?([0-9]{1,4}m)?(0s)?$') && self.size() > 0 && duration(self) >= duration('1h') && duration(self) <= duration('24h')", "maxExpiresIn must be a duration from 1h to 24h in hours and minutes, for example 90m or 12h"))]
    pub max_expires_in: Option<String>,
    /// Maximum number of `AcsTokens` per identity, 1 to 100. Default: no limit. If there are too
    /// many, the oldest are served.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_tokens_per_identity: Option<i64>,
}

/// Limits on the use of an `AcsConnection`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Rules for tokens.
    #[serde(flatten)]
    pub tokens: TokenPolicy,
    /// Whether an `AcsIdentity` may adopt an existing identity in ACS (`identityId`). Default:
    /// `Allow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adoption: Option<Adoption>,
    /// Whether several `AcsIdentity` objects of the namespace may use the same identity in ACS.
    /// Default: `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_identities: Option<bool>,
}

/// Policy of a `ClusterAcsConnection`: allowed requests and namespaces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterPolicy {
    /// Rules for tokens.
    #[serde(flatten)]
    pub tokens: TokenPolicy,
    /// Whether an `AcsIdentity` may adopt an existing identity in ACS (`identityId`). Default:
    /// `Deny`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adoption: Option<Adoption>,
    /// Whether several `AcsIdentity` objects, in any namespace, may use the same identity in ACS.
    /// Default: `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_identities: Option<bool>,
    /// Namespaces that may use the connection: those in `names` and those that `selector` matches.
    /// If absent, no namespace may; `selector: {}` matches all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<NamespacePolicy>,
}

/// Set of namespaces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespacePolicy {
    /// Names of namespaces, at most 250.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 250), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = (rule::NAMESPACES, rule::NAMESPACES_MESSAGE))]
    #[x_kube(validation = (rule::DISTINCT, rule::DISTINCT_MESSAGE))]
    pub names: Option<Vec<String>>,
    /// Selects namespaces by label.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = MapMerge::Atomic)]
    pub selector: Option<LabelSelector>,
}

/// Whether an existing identity in ACS may be adopted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Adoption {
    #[allow(missing_docs, reason = "per-variant docs are dropped from the schema")]
    Allow,
    #[allow(missing_docs, reason = "as above")]
    Deny,
}

/// Time that tokens stay valid after the policy stops allowing their identity, so that a mistyped
/// selector does not destroy a fleet within seconds.
pub const POLICY_GRACE: SignedDuration = SignedDuration::from_mins(5);
