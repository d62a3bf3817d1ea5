//! Objects that commands create, and their YAML.

use std::collections::BTreeSet;

use acs_identity_operator::crd::{
    AcsIdentity, AcsIdentitySpec, AcsToken, AcsTokenSpec, ConnectionKind, ConnectionRef,
    DeletionPolicy, IdentityRef, Scope, SecretTemplate, TeamsUser,
};
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::failure::{Exit, Failure};

/// Annotation of `kubectl apply`.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// All scopes.
pub const SCOPES: [Scope; 5] = [
    Scope::Chat,
    Scope::ChatJoin,
    Scope::ChatJoinLimited,
    Scope::Voip,
    Scope::VoipJoin,
];

/// Connection of a new object.
#[derive(Clone, Debug, Default, Args)]
pub struct Connection {
    /// AcsConnection to use [default: the AcsConnection named default, else the
    /// ClusterAcsConnection named default]
    #[arg(long, value_name = "NAME", conflicts_with = "cluster_connection", value_parser = name)]
    pub connection: Option<String>,
    /// ClusterAcsConnection to use
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub cluster_connection: Option<String>,
}

impl Connection {
    /// Whether a connection was named.
    pub fn is_given(&self) -> bool {
        self.reference().is_some()
    }

    /// Returns the reference to the named connection, if any.
    pub fn reference(&self) -> Option<ConnectionRef> {
        let named = |kind, name: &Option<String>| {
            let name = name.clone();
            name.map(|name| ConnectionRef { kind, name })
        };
        named(ConnectionKind::AcsConnection, &self.connection).or_else(|| {
            named(
                ConnectionKind::ClusterAcsConnection,
                &self.cluster_connection,
            )
        })
    }
}

/// Builds an identity: to be created in ACS, or to adopt the id `adopts`.
pub fn identity(
    name: &str,
    connection: &Connection,
    adopts: Option<&str>,
    deletion_policy: Option<DeletionPolicy>,
) -> AcsIdentity {
    let spec = AcsIdentitySpec {
        connection_ref: connection.reference(),
        identity_id: adopts.map(ToOwned::to_owned),
        deletion_policy,
        suspend: None,
    };
    AcsIdentity::new(name, spec)
}

/// Builds a token of the `AcsIdentity` named `identity`.
pub fn token(
    name: &str,
    identity: &str,
    scopes: BTreeSet<Scope>,
    expires_in: Option<String>,
    secret_name: Option<String>,
) -> AcsToken {
    let spec = AcsTokenSpec {
        identity_ref: Some(IdentityRef {
            name: identity.to_owned(),
        }),
        teams_user: None,
        connection_ref: None,
        scopes: Some(scopes),
        expires_in,
        renew_before: None,
        secret: secret_name.map(secret),
        revocation: None,
        rollout_restart: None,
        suspend: None,
    };
    AcsToken::new(name, spec)
}

/// Builds a token of a Teams user.
pub fn teams_token(
    name: &str,
    user: TeamsUser,
    connection: &Connection,
    secret_name: Option<String>,
) -> AcsToken {
    let spec = AcsTokenSpec {
        identity_ref: None,
        teams_user: Some(user),
        connection_ref: connection.reference(),
        scopes: None,
        expires_in: None,
        renew_before: None,
        secret: secret_name.map(secret),
        revocation: None,
        rollout_restart: None,
        suspend: None,
    };
    AcsToken::new(name, spec)
}

fn secret(name: String) -> SecretTemplate {
    SecretTemplate {
        name: Some(name),
        ..SecretTemplate::default()
    }
}

/// Returns an object as a YAML document, with `namespace` if it was given.
pub fn document<K>(mut object: K, namespace: Option<&str>) -> Result<String, Failure>
where
    K: kube::Resource<DynamicType = ()> + Serialize,
{
    object.meta_mut().namespace = namespace.map(ToOwned::to_owned);
    let yaml = serde_saphyr::to_string(&object);
    let yaml = yaml.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    Ok(format!("---\n{}\n", yaml.trim_end()))
}

/// Returns an existing object with a merge patch applied, as a YAML document, without the fields
/// that the API server and the operator add.
pub fn changed<K: Serialize>(object: &K, change: &Value) -> Result<String, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::Failed, error.to_string());
    let mut object = serde_json::to_value(object).map_err(|error| failed(&error))?;
    merge(&mut object, change);
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    if let Some(metadata) = metadata {
        metadata.retain(|key, _| {
            ["annotations", "labels", "name", "namespace"].contains(&key.as_str())
        });
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.remove(LAST_APPLIED);
        }
        metadata.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
    }
    let yaml = serde_saphyr::to_string(&object).map_err(|error| failed(&error))?;
    Ok(format!("---\n{}\n", yaml.trim_end()))
}

/// Applies a merge patch as the API server does (RFC 7396).
fn merge(into: &mut Value, change: &Value) {
    let Value::Object(change) = change else {
        *into = change.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    for (key, value) in change {
        let Some(into) = into.as_object_mut() else {
            return;
        };
        if value.is_null() {
            into.remove(key);
        } else {
            merge(into.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// Generates a unique name: ACS needs none, Kubernetes does.
pub fn new_name(begin: &str) -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("{begin}-{}", random.get(..8).unwrap_or(&random))
}

/// Parses a Kubernetes name (RFC 1123 subdomain).
pub fn name(text: &str) -> Result<String, String> {
    let is_word = |word: &str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        word.starts_with(plain)
            && word.ends_with(plain)
            && word.chars().all(|c| plain(c) || c == '-')
    };
    if text.len() <= 253 && text.split('.').all(is_word) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{text}` is not a Kubernetes name: use lower-case letters, digits, - and ., and \
             begin and end with a letter or digit"
        ))
    }
}

/// Parses a scope.
pub fn scope(text: &str) -> Result<Scope, String> {
    let found = SCOPES.into_iter().find(|scope| scope.as_str() == text);
    found.ok_or_else(|| {
        let all: Vec<_> = SCOPES.iter().map(|scope| scope.as_str()).collect();
        format!("`{text}` is not a scope; the scopes are {}", all.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_changed_object_is_what_a_person_commits() {
        let object = json!({
            "apiVersion": "acs-identity.dev/v1alpha1", "kind": "AcsToken",
            "metadata": {"name": "web", "namespace": "shop", "uid": "1", "resourceVersion": "2",
                "annotations": {LAST_APPLIED: "{}"}, "managedFields": [], "finalizers": ["x"]},
            "spec": {"scopes": ["chat"], "suspend": true},
            "status": {"secretName": "web"}
        });
        let yaml = changed(&object, &json!({"spec": {"suspend": null}})).unwrap();
        assert_eq!(
            yaml,
            "---\napiVersion: acs-identity.dev/v1alpha1\nkind: AcsToken\nmetadata:\n  name: web\n  namespace: shop\nspec:\n  scopes:\n  - chat\n"
        );
        let change = json!({"metadata": {"annotations": {"asked": "now"}}});
        let yaml = changed(&object, &change).unwrap();
        assert!(
            yaml.contains("  annotations:\n    asked: now\n  name: web\n"),
            "{yaml}"
        );
    }
}
