//! Index keys of the watched objects, and the fields that are kept of each kind.

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{ResourceExt, core::PartialObjectMeta};

use super::row::{Packable, slim_read, slim_written};
use crate::consumers::ConsumerPod;
use crate::crd::{
    AcsConnection, AcsIdentity, AcsRevocation, AcsToken, ClusterAcsConnection,
    ClusterAcsRevocation, ConnectionKey, RevocationStatus, TOKEN_UID_LABEL, TeamsUser,
};

/// Returns the index key of the objects that use a connection.
#[must_use]
pub fn of_connection(key: &ConnectionKey) -> String {
    format!("connection:{key}")
}

/// Returns the index key of all identities that have, or want, an id in ACS. It is undocumented
/// whether ACS ignores the letter case; if it does, an id in capitals must not circumvent a policy.
#[must_use]
pub fn with_id(id: &str) -> String {
    format!("id:{}", id.to_ascii_lowercase())
}

/// Returns the index key of all identities, or of all tokens of Teams users, of a namespace.
#[must_use]
pub fn in_namespace(namespace: &str) -> String {
    format!("namespace:{namespace}")
}

/// Returns the index key of the tokens that name the same Secret.
#[must_use]
pub fn into_secret(namespace: &str, secret: &str) -> String {
    format!("secret:{namespace}/{secret}")
}

/// Returns the index key of the pods that use a Secret.
#[must_use]
pub fn using(namespace: &str, secret: &str) -> String {
    format!("pods:{namespace}/{secret}")
}

/// Returns the index key of the tokens of an identity.
#[must_use]
pub fn of_identity(namespace: &str, identity: &str) -> String {
    format!("identity:{namespace}/{identity}")
}

/// Returns the index key of the tokens of a Teams user.
#[must_use]
pub fn of_user(user: &TeamsUser) -> String {
    format!("user:{}", user.identity_id())
}

/// Returns the index key of a token by its UID, and of the Secrets labelled with it.
#[must_use]
pub fn of_token(uid: &str) -> String {
    format!("token:{uid}")
}

/// Returns the index key of the revocations with an identity as an open target.
#[must_use]
pub fn targeting(namespace: &str, name: &str) -> String {
    format!("target:{namespace}/{name}")
}

impl Packable for AcsConnection {
    fn index_keys(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Packable for ClusterAcsConnection {
    fn index_keys(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Packable for AcsIdentity {
    fn index_keys(&self) -> Vec<String> {
        let namespace = self.namespace().unwrap_or_default();
        let status = self.status.as_ref();
        let id = status.and_then(|status| status.identity_id.as_ref());
        let connections = ConnectionKey::candidates(
            self.spec.connection_ref.as_ref(),
            status.and_then(|status| status.connection_ref.as_ref()),
            &namespace,
        );
        id.or(self.spec.identity_id.as_ref())
            .map(|id| with_id(id))
            .into_iter()
            .chain(connections.iter().map(of_connection))
            .chain([in_namespace(&namespace)])
            .collect()
    }
}

impl Packable for AcsToken {
    fn index_keys(&self) -> Vec<String> {
        let namespace = self.namespace().unwrap_or_default();
        let mut keys = vec![
            into_secret(&namespace, &self.secret_name()),
            of_token(&self.uid().unwrap_or_default()),
        ];
        if let Some(name) = self.identity_name() {
            keys.push(of_identity(&namespace, name));
        }
        if let Some(user) = &self.spec.teams_user {
            keys.extend(self.connections().iter().map(of_connection));
            keys.extend([of_user(user), in_namespace(&namespace)]);
        }
        keys
    }

    fn slim(&mut self) {
        slim_read(&mut self.metadata);
        // Selectors apply only to the labels of identities and namespaces.
        self.metadata.labels = None;
    }
}

impl Packable for AcsRevocation {
    fn index_keys(&self) -> Vec<String> {
        open_targets(self.status.as_ref(), self.namespace().as_deref())
    }
}

impl Packable for ClusterAcsRevocation {
    fn index_keys(&self) -> Vec<String> {
        open_targets(self.status.as_ref(), None)
    }
}

fn open_targets(status: Option<&RevocationStatus>, own: Option<&str>) -> Vec<String> {
    let open = status.into_iter().flat_map(RevocationStatus::open_targets);
    open.map(|target| {
        let namespace = target.namespace.as_deref().or(own).unwrap_or_default();
        targeting(namespace, &target.name)
    })
    // Without any key, the object would not be taken for one that a watch reports.
    .chain(["revocation".to_owned()])
    .collect()
}

impl Packable for PartialObjectMeta<Secret> {
    fn index_keys(&self) -> Vec<String> {
        let uid = self.labels().get(TOKEN_UID_LABEL);
        uid.map(|uid| of_token(uid)).into_iter().collect()
    }

    fn slim(&mut self) {
        slim_written(&mut self.metadata);
    }
}

impl Packable for ConsumerPod {
    fn index_keys(&self) -> Vec<String> {
        let namespace = self.namespace().unwrap_or_default();
        let secrets = self.secrets().into_iter();
        secrets.map(|secret| using(&namespace, secret)).collect()
    }

    fn slim(&mut self) {
        Self::slim(self);
    }
}

impl Packable for PartialObjectMeta<Namespace> {
    fn index_keys(&self) -> Vec<String> {
        Vec::new()
    }
}
