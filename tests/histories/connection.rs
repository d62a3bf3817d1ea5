//! Connection that all objects use, and the Secret of its keys.

use std::sync::OnceLock;

use acs_identity_operator::{
    acs::AccessKey,
    crd::{
        AcsConnection, Adoption, ClusterAcsConnection, ConnectionKind, ConnectionRef,
        ConnectionStatus, Policy, TokenPolicy,
    },
};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use serde::de::DeserializeOwned;

use crate::{
    cluster::{Cluster, Kind, NAMESPACE},
    service::Millis,
    world::World,
};

pub const ENDPOINT: &str = "https://contoso.communication.azure.com";

/// State of the connection in the cluster.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Index of the key in its Secret; `None` if the Secret does not exist.
    pub key: Option<usize>,
    /// Index of the second key, if any.
    pub spare: Option<usize>,
    pub knows_custom_id: bool,
    /// Whether it is a `ClusterAcsConnection`.
    pub is_of_cluster: bool,
    /// Whether its policy allows the namespace.
    pub serves: bool,
    pub is_shared: bool,
    pub allows_adoption: bool,
    /// Policy for tokens.
    pub policy: TokenPolicy,
    /// Policy as last reported to the operator, which cannot know a newer one when it gives up a
    /// token.
    pub told: TokenPolicy,
    /// Time of the last change of its policy.
    pub changed_at: Millis,
    /// Resource version of the Secret as last read by the operator; `None` before it has read it,
    /// `Some(None)` if it found none.
    pub read: Option<Option<String>>,
}

/// Name of the connection.
pub const DEFAULT: &str = "default";
/// Name of the Secret of its keys.
pub const SECRET: &str = "acs";
const FIRST: &str = "first";
const SECOND: &str = "second";

/// Returns the possible keys of the resource: their fingerprints and values.
pub fn keys() -> &'static [(String, &'static str)] {
    static KEYS: OnceLock<Vec<(String, &str)>> = OnceLock::new();
    KEYS.get_or_init(|| {
        ["a2V5LTA=", "a2V5LTE=", "a2V5LTI=", "a2V5LTM="]
            .map(|text| (AccessKey::parse(text).unwrap().fingerprint(), text))
            .into()
    })
}

impl Connection {
    /// Returns the fingerprint of the credential.
    pub fn credential(&self) -> Option<&'static str> {
        Some(keys()[self.key?].0.as_str())
    }

    /// Returns the fingerprints of all usable keys: the second one only as a substitute for the
    /// first.
    pub fn credentials(&self) -> impl Iterator<Item = &'static str> {
        let spare = self.key.and(self.spare);
        let all = [self.key, spare].into_iter().flatten();
        all.map(|index| keys()[index].0.as_str())
    }

    /// Whether the second key is in use, and the first was rejected before it was ever accepted:
    /// its fingerprint may not be disclosed, so the next process tries it again.
    pub fn is_first_key_unknown(&self, status: &ConnectionStatus) -> bool {
        let first = self.credential().map(ToOwned::to_owned);
        let is_told = first
            .iter()
            .any(|it| status.refused_credentials.contains(it));
        let is_spare_in_use = status.credential.is_some() && status.credential != first;
        self.spare.is_some() && is_spare_in_use && !is_told
    }

    /// Returns the connection as it is created.
    fn object<K: DeserializeOwned>(&self) -> K {
        let version = if self.knows_custom_id {
            "2025-03-02-preview"
        } else {
            "2023-10-01"
        };
        serde_json::from_value(serde_json::json!({
            "apiVersion": "acs-identity.dev/v1alpha1", "kind": self.reference().kind,
            "metadata": {"name": DEFAULT},
            "spec": {
                "endpoint": ENDPOINT,
                "apiVersion": version,
                "auth": {"accessKey": {
                    "secretRef": {"name": SECRET, "key": FIRST},
                    "secondarySecretRef": {"name": SECRET, "key": SECOND},
                }},
                "policy": self.policy(),
            },
        }))
        .unwrap()
    }

    /// Returns its policy, in the JSON form of both kinds.
    fn policy(&self) -> serde_json::Value {
        let mut policy = serde_json::to_value(Policy {
            tokens: self.policy.clone(),
            adoption: Some(if self.allows_adoption {
                Adoption::Allow
            } else {
                Adoption::Deny
            }),
            shared_identities: Some(self.is_shared),
        })
        .unwrap();
        if self.is_of_cluster {
            let names = if self.serves {
                vec![NAMESPACE]
            } else {
                Vec::new()
            };
            policy["namespaces"] = serde_json::json!({"names": names});
        }
        policy
    }

    /// Returns the reference with which objects name it.
    pub fn reference(&self) -> ConnectionRef {
        ConnectionRef {
            kind: if self.is_of_cluster {
                ConnectionKind::ClusterAcsConnection
            } else {
                ConnectionKind::AcsConnection
            },
            name: DEFAULT.to_owned(),
        }
    }
}

/// Returns the connection's status.
pub fn status(cluster: &Cluster) -> ConnectionStatus {
    let own = cluster.connections.get(DEFAULT);
    let of_cluster = cluster.global_connections.get(DEFAULT);
    let own = own.and_then(|connection| connection.status.clone());
    own.or_else(|| of_cluster.and_then(|connection| connection.status.clone()))
        .unwrap_or_default()
}

/// Whether a watch has yet to report the current state of the connection.
pub fn is_untold(world: &World) -> bool {
    [AcsConnection::WATCH, ClusterAcsConnection::WATCH]
        .into_iter()
        .any(|watch| !world.cluster.unrecorded[watch].is_empty())
}

/// Creates the connection and its Secret.
pub fn create(world: &mut World) {
    let now = world.time();
    if world.connection.is_of_cluster {
        let object: ClusterAcsConnection = world.connection.object();
        world.cluster.create(object, now).unwrap();
    } else {
        let object: AcsConnection = world.connection.object();
        world.cluster.create(object, now).unwrap();
    }
    write_keys(world);
}

/// Deletes the connection, ignoring finalizers, and creates it again with the same Secret.
pub fn remake(world: &mut World) {
    fn delete<K: Kind>(world: &mut World) {
        let now = world.time();
        let strip = |object: &mut K| object.meta_mut().finalizers = None;
        let _ = world.cluster.update(DEFAULT, None, strip);
        let _ = world.cluster.delete::<K>(DEFAULT, None, now);
    }
    if world.connection.is_of_cluster {
        delete::<ClusterAcsConnection>(world);
    } else {
        delete::<AcsConnection>(world);
    }
    create(world);
}

/// Writes another policy, as the owner of the connection.
pub fn write_policy(world: &mut World) {
    world.connection.changed_at = world.now;
    macro_rules! write {
        ($kind:ty) => {{
            let wanted = world.connection.object::<$kind>().spec.policy;
            let _ = world.cluster.update::<$kind>(DEFAULT, None, |object| {
                if object.spec.policy != wanted {
                    object.spec.policy.clone_from(&wanted);
                    object.metadata.generation = object.metadata.generation.map(|it| it + 1);
                }
            });
        }};
    }
    if world.connection.is_of_cluster {
        write!(ClusterAcsConnection);
    } else {
        write!(AcsConnection);
    }
}

/// Writes other keys into its Secret, or deletes it.
pub fn write_keys(world: &mut World) {
    let now = world.time();
    let connection = &world.connection;
    let Some(first) = connection.key else {
        let _ = world.cluster.delete::<Secret>(SECRET, None, now);
        return;
    };
    let second = connection.spare.filter(|spare| *spare != first);
    let text = |index: usize| ByteString(keys()[index].1.as_bytes().to_vec());
    let first = (FIRST.to_owned(), text(first));
    let second = second.map(|second| (SECOND.to_owned(), text(second)));
    let data = Some([first].into_iter().chain(second).collect());
    let put = |secret: &mut Secret| secret.data.clone_from(&data);
    if world.cluster.update::<Secret>(SECRET, None, put).is_err() {
        let mut secret = Secret::default();
        secret.metadata.name = Some(SECRET.to_owned());
        put(&mut secret);
        let _ = world.cluster.create(secret, now);
    }
}
