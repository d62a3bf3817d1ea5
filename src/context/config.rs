use std::{collections::BTreeMap, net::SocketAddr, str::FromStr};

use jiff::SignedDuration;

use crate::{acs::Allowed, health::SecureMetrics};

/// Configuration of the operator.
#[derive(Clone, Debug)]
pub struct Config {
    /// Namespaces to watch; empty stands for all.
    pub watch_namespaces: Vec<String>,
    /// Address of `/livez` and `/readyz`, and of `/metrics` unless they are served over TLS.
    pub address: SocketAddr,
    /// Address and certificate of `/metrics` over TLS, if enabled.
    pub secure_metrics: Option<SecureMetrics>,
    /// Namespace of the Secrets of `ClusterAcsConnection` objects.
    pub cluster_resource_namespace: String,
    /// Finalizer on `ClusterAcsConnection` objects. Releases with different namespaces have one each.
    pub cluster_finalizer: String,
    /// Time after which a deletion proceeds without ACS (I3).
    pub deletion_deadline: SignedDuration,
    /// Maximum time that pods need to read a rewritten Secret (C1).
    pub pods_reread_within: SignedDuration,
    /// What the operator does for the pods that use a Secret.
    pub consumers: ConsumerConfig,
    /// Endpoints that a credential may be sent to.
    pub allowed: Allowed,
    /// Prefixes of label and annotation keys that users may not put on Secrets.
    pub forbidden_metadata: Vec<String>,
    /// Labels of every Secret that holds a token.
    pub secret_labels: BTreeMap<String, String>,
    /// Whether an `AcsConnection` may use the credentials of the operator itself.
    pub namespaced_ambient_credentials: bool,
    /// Audience of the `ServiceAccount` tokens that authenticate to Microsoft Entra ID.
    pub service_account_token_audience: String,
}

/// What the operator does for the pods that use a Secret.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerConfig {
    /// Whether workloads may be restarted.
    pub restarts_workloads: bool,
    /// Whether pods are annotated after a revocation, so that their kubelets sync them.
    pub nudges_pods: bool,
    /// Whether pods are counted.
    pub counts_pods: bool,
}

/// Label of every Secret that holds a token, in the form of the flag; an empty text stands for no
/// label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretLabel(pub Option<(String, String)>);

/// The text is not a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write a label as KEY=VALUE, for example team=chat; both may have up to 63 letters, digits, \
     -, _ and ., and the key may have a prefix that ends in /"
)]
pub struct SecretLabelError;

impl FromStr for SecretLabel {
    type Err = SecretLabelError;

    fn from_str(text: &str) -> Result<Self, SecretLabelError> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let (key, value) = text.split_once('=').ok_or(SecretLabelError)?;
        let (prefix, name) = key.rsplit_once('/').unwrap_or(("", key));
        let is_fit = !name.is_empty() && is_label_text(name) && is_label_text(value);
        if !is_fit || prefix.contains('/') {
            return Err(SecretLabelError);
        }
        Ok(Self(Some((key.to_owned(), value.to_owned()))))
    }
}

/// Whether Kubernetes accepts the text as the value of a label.
fn is_label_text(text: &str) -> bool {
    let is_end = |letter: Option<char>| letter.is_none_or(|letter| letter.is_ascii_alphanumeric());
    let is_inner = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    text.len() <= 63
        && text.chars().all(is_inner)
        && is_end(text.chars().next())
        && is_end(text.chars().next_back())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_as_kubernetes_takes_them() {
        let label = |text: &str| text.parse::<SecretLabel>().map(|label| label.0);
        let pair = |key: &str, value: &str| Ok(Some((key.to_owned(), value.to_owned())));
        assert_eq!(
            label("velero.io/exclude-from-backup=true"),
            pair("velero.io/exclude-from-backup", "true")
        );
        assert_eq!(label("team="), pair("team", ""));
        assert_eq!(label(""), Ok(None));
        for bad in [
            "team",
            "=x",
            "a/b/c=x",
            "team=two words",
            "team=-x",
            "-team=x",
        ] {
            assert_eq!(label(bad), Err(SecretLabelError), "{bad}");
        }
    }
}
