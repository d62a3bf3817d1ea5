//! By what tokens are found.

use kube::ResourceExt;

use super::teams;
use crate::{cluster::view::Indexed, connection::ConnectionKey, crd::AcsToken};

/// The key by which tokens are indexed that name the same Secret.
#[must_use]
pub fn secret_key(token: &AcsToken) -> String {
    format!(
        "secret:{}/{}",
        token.namespace().unwrap_or_default(),
        token.secret_name()
    )
}

/// The key by which the tokens of an identity are indexed.
#[must_use]
pub fn identity_key(namespace: &str, identity: &str) -> String {
    format!("identity:{namespace}/{identity}")
}

/// The key by which a token is found from its Secret.
#[must_use]
pub fn uid_key(uid: &str) -> String {
    format!("uid:{uid}")
}

impl Indexed for AcsToken {
    fn index_keys(&self) -> Vec<String> {
        let namespace = self.namespace().unwrap_or_default();
        let mut keys = vec![secret_key(self), uid_key(&self.uid().unwrap_or_default())];
        if let Some(name) = self.identity_name() {
            keys.push(identity_key(&namespace, name));
        }
        if let Some(user) = &self.spec.teams_user {
            let connections = teams::connections(self);
            keys.extend(connections.iter().map(ConnectionKey::index_key));
            keys.extend([teams::user_key(user), teams::namespace_key(&namespace)]);
        }
        keys
    }
}
