use std::{collections::BTreeMap, net::SocketAddr};

use jiff::SignedDuration;

use crate::{acs::Allowed, health::SecureMetrics};

/// What a person can set.
#[derive(Clone, Debug)]
pub struct Config {
    /// The namespaces to watch; none means all.
    pub watch_namespaces: Vec<String>,
    /// Where `/livez` and `/readyz` are served, and `/metrics` unless they are served securely.
    pub address: SocketAddr,
    /// Where `/metrics` is served over TLS, if it is.
    pub secure_metrics: Option<SecureMetrics>,
    /// Where `ClusterAcsConnection`s find their Secrets.
    pub cluster_resource_namespace: String,
    /// After this long a deletion goes on without ACS (I3).
    pub deletion_deadline: SignedDuration,
    /// How long pods may take to read a rewritten Secret (C1).
    pub pods_reread_within: SignedDuration,
    /// Where a credential may be sent.
    pub allowed: Allowed,
    /// Prefixes of label and annotation keys that users may not put on Secrets.
    pub forbidden_metadata: Vec<String>,
    /// Labels of every Secret that holds a token.
    pub secret_labels: BTreeMap<String, String>,
    /// Whether an `AcsConnection` may use the credentials of the operator itself.
    pub namespaced_ambient_credentials: bool,
    /// The audience of `ServiceAccount` tokens that prove an identity to Entra ID.
    pub service_account_token_audience: String,
}
