use std::collections::BTreeSet;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{rule, scope::Scope};

/// What tokens may be asked for. Narrowing it revokes what is no longer allowed, tokens with
/// `revocation: Never` too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenPolicy {
    /// The scopes that tokens may have; default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 5))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = (rule::DISTINCT, rule::DISTINCT_MESSAGE))]
    pub scopes: Option<BTreeSet<Scope>>,
    /// The longest `expiresIn`, 1h to 24h, in hours and minutes; default `24h`. An `AcsToken` without
    /// `expiresIn` gets this.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = ("self.matches('^([0-9]{1,4}h)?([0-9]{1,4}m)?(0s)?$') && self.size() > 0 && duration(self) >= duration('1h') && duration(self) <= duration('24h')", "maxExpiresIn must be a duration from 1h to 24h in hours and minutes, for example 90m or 12h"))]
    pub max_expires_in: Option<String>,
    /// How many `AcsTokens` may use one identity at once, 1 to 100; default: any number. Of too
    /// many the oldest keep their place.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_tokens_per_identity: Option<i64>,
}

/// What may be asked of a connection of one namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Rules for tokens.
    #[serde(flatten)]
    pub tokens: TokenPolicy,
    /// Whether an `AcsIdentity` may take over an identity that exists in ACS (`identityId`);
    /// default `Allow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adoption: Option<Adoption>,
    /// Whether several `AcsIdentity` objects of the namespace may use one identity of ACS; default
    /// `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_identities: Option<bool>,
}

/// What may be asked of a cluster's connection, and by whom.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterPolicy {
    /// Rules for tokens.
    #[serde(flatten)]
    pub tokens: TokenPolicy,
    /// Whether an `AcsIdentity` may take over an identity that exists in ACS (`identityId`);
    /// default `Deny`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adoption: Option<Adoption>,
    /// Whether several `AcsIdentity` objects, of any namespace, may use one identity of ACS; default
    /// `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_identities: Option<bool>,
    /// Which namespaces may use the connection; absent means none. One of `names` and `selector`
    /// suffices; `selector: {}` means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<NamespacePolicy>,
}

/// A set of namespaces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespacePolicy {
    /// Namespaces by name, at most 250.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 250), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(validation = (rule::NAMESPACES, rule::NAMESPACES_MESSAGE))]
    #[x_kube(validation = (rule::DISTINCT, rule::DISTINCT_MESSAGE))]
    pub names: Option<Vec<String>>,
    /// Namespaces by label.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = MapMerge::Atomic)]
    pub selector: Option<LabelSelector>,
}

/// Whether an identity that exists in ACS may be taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Adoption {
    #[allow(missing_docs, reason = "per-variant docs are dropped from the schema")]
    Allow,
    #[allow(missing_docs, reason = "as above")]
    Deny,
}

/// How long tokens live on after the policy has ceased to allow their identity: one mistyped selector
/// must not destroy a fleet in seconds.
pub const POLICY_GRACE: SignedDuration = SignedDuration::from_mins(5);
