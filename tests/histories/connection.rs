//! The connection that everything uses, and what its controller does, in one go.

use std::sync::OnceLock;

use acs_identity_operator::{
    acs::{AccessKey, Endpoint},
    connection::{ConnectionKey, Resolved, Unusable},
    context::Context,
    crd::{AcsConnection, Adoption, ConnectionKind, ConnectionStatus, Policy, TokenPolicy},
};

use kube::runtime::reflector::ObjectRef;

use crate::{cluster::NAMESPACE, truth::Truth, world::World};

pub const ENDPOINT: &str = "https://contoso.communication.azure.com";

/// What the cluster says of the connection.
#[derive(Debug)]
pub struct Connection {
    /// Which of the keys its Secret holds; none when the Secret is gone.
    pub key: Option<usize>,
    /// Which of them is the second one, if any.
    pub spare: Option<usize>,
    /// Changes with each change of the Secret.
    pub version: u64,
    pub knows_custom_id: bool,
    pub is_shared: bool,
    pub allows_adoption: bool,
    /// What tokens may be asked for.
    pub policy: TokenPolicy,
    /// The same as the operator was told last: of more it can't know when it lets a token go.
    pub told: TokenPolicy,
    /// What its status tells.
    pub status: Option<ConnectionStatus>,
}

pub fn connection_key() -> ConnectionKey {
    ConnectionKey {
        kind: ConnectionKind::AcsConnection,
        namespace: Some(NAMESPACE.to_owned()),
        name: "default".to_owned(),
    }
}

/// The keys that the resource can have: fingerprints and what signs.
pub fn keys() -> &'static [(String, AccessKey)] {
    static KEYS: OnceLock<Vec<(String, AccessKey)>> = OnceLock::new();
    KEYS.get_or_init(|| {
        ["a2V5LTA=", "a2V5LTE=", "a2V5LTI=", "a2V5LTM="]
            .map(|text| AccessKey::parse(text).unwrap())
            .map(|key| (key.fingerprint(), key))
            .into()
    })
}

impl Connection {
    /// The fingerprint of the credential.
    pub fn credential(&self) -> Option<&'static str> {
        Some(keys()[self.key?].0.as_str())
    }

    /// The fingerprints of all that may be used: the second one only instead of the first.
    pub fn credentials(&self) -> impl Iterator<Item = &'static str> {
        let spare = self.key.and(self.spare);
        let all = [self.key, spare].into_iter().flatten();
        all.map(|index| keys()[index].0.as_str())
    }

    /// The second key is in use, and the first was refused before it was ever accepted: nothing may
    /// tell its fingerprint, so the next process tries it again.
    pub fn is_first_key_unknown(&self) -> bool {
        let status = self.status.clone().unwrap_or_default();
        let first = self.credential().map(ToOwned::to_owned);
        let is_told = first
            .iter()
            .any(|it| status.refused_credentials.contains(it));
        let is_spare_in_use = status.credential.is_some() && status.credential != first;
        self.spare.is_some() && is_spare_in_use && !is_told
    }

    fn object(&self) -> AcsConnection {
        let mut object: AcsConnection = serde_json::from_value(serde_json::json!({
            "apiVersion": "acs-identity.dev/v1alpha1", "kind": "AcsConnection",
            "metadata": {"name": "default", "namespace": NAMESPACE, "uid": "uid-connection", "generation": 1},
            "spec": {
                "auth": {"connectionString": {"secretRef": {"name": "acs", "key": "connectionString"}}},
            },
        }))
        .unwrap();
        object.spec.policy = Some(Policy {
            tokens: self.policy.clone(),
            adoption: (!self.allows_adoption).then_some(Adoption::Deny),
            shared_identities: Some(self.is_shared),
        });
        object.status.clone_from(&self.status);
        object
    }
}

/// Resolves the connection anew.
pub fn look(context: &Context, world: &mut World) {
    let connection = &world.connection;
    let key = connection_key();
    let reference = ObjectRef::new("default").within(NAMESPACE);
    let former = context.views.connections.get(&reference);
    let object = connection.object();
    world.connection.told = world.connection.policy.clone();
    Truth::policy_told(world);
    let connection = &world.connection;
    let is_other = former.is_some_and(|former| former.spec != object.spec);
    context.views.connections.apply(&object);
    if is_other {
        context.wake_users(&key);
    }
    let version = if connection.knows_custom_id {
        "2025-03-02-preview"
    } else {
        "2023-10-01"
    };
    let resolve = |index: usize| {
        let (credential, key) = &keys()[index];
        Resolved {
            endpoint: Endpoint::parse(ENDPOINT).unwrap(),
            version: version.parse().unwrap(),
            key: key.clone().into(),
            credential: credential.clone(),
        }
    };
    let spare = connection
        .spare
        .filter(|spare| Some(*spare) != connection.key);
    let resolved = match connection.key {
        Some(index) => Ok(resolve(index)),
        None => Err(Unusable {
            reason: "SecretNotFound".into(),
            message: "waiting for Secret ns/acs, which does not exist".to_owned(),
            is_stalled: false,
            retry_at: None,
        }),
    };
    let source = Some((Some(1), connection.version.to_string()));
    if context.registry.source(&key) != source {
        let told = connection.status.as_ref();
        if context
            .registry
            .set(&key, source, resolved, Ok(spare.map(resolve)), told)
        {
            context.wake_users(&key);
        }
    }
    report(context, world);
}

/// Tells the credential in the status, from where the next process has it.
pub fn report(context: &Context, world: &mut World) {
    let state = context.registry.credential(&connection_key());
    world.connection.status = Some(ConnectionStatus {
        credential: state.accepted,
        refused_credentials: state.refused,
        ..ConnectionStatus::default()
    });
}
