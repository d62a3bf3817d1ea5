//! Reads and writes of the Secrets that tokens own (T3, T5).

use std::collections::BTreeSet;

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{ResourceExt, core::PartialObjectMeta};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};

use super::wanted::Wanted;
use crate::{
    cache::ReadSecret,
    cluster::Error,
    crd::{TOKEN_KEY, fingerprint},
    digest,
    engine::{ApiRequest, Object, World},
};

/// Metadata of a Secret, and what was read of its data.
pub type SeenSecret = (PartialObjectMeta<Secret>, ReadSecret);

/// Secrets of one namespace.
#[derive(Clone, Copy)]
pub struct Secrets<'a> {
    world: &'a dyn World,
    namespace: &'a str,
}

impl<'a> Secrets<'a> {
    /// Returns the Secrets of `namespace`.
    #[must_use]
    pub fn new(world: &'a dyn World, namespace: &'a str) -> Self {
        Self { world, namespace }
    }

    /// Reads a Secret and returns a description of its data, without the token.
    pub async fn read(&self, name: &str) -> Result<Option<SeenSecret>, Error> {
        Ok(self.get(name).await?.map(see))
    }

    /// Reads a whole Secret.
    pub async fn get(&self, name: &str) -> Result<Option<Secret>, Error> {
        let request = ApiRequest::ReadSecret {
            namespace: self.namespace.to_owned(),
            name: name.to_owned(),
        };
        Ok(secret_in(self.world.ask(request).await?))
    }

    /// Reads the token from a Secret, if it matches the `fingerprint`.
    pub async fn token(&self, name: &str, wanted: &str) -> Result<Option<SecretString>, Error> {
        let token = self.get(name).await?.as_ref().and_then(token_in);
        Ok(token.filter(|token| fingerprint(token) == wanted))
    }

    /// Writes the wanted Secret with `token`: a new one, or an update of the Secret with the
    /// metadata `existing`. Returns `None` if the name belongs to another owner or the Secret has
    /// changed since: the next decision handles that (K2).
    pub async fn write(
        &self,
        wanted: &Wanted<'_>,
        token: &SecretString,
        existing: Option<&ObjectMeta>,
    ) -> Result<Option<SeenSecret>, Error> {
        let Some(secret) = wanted.build(token, existing) else {
            return Ok(None);
        };
        match self.put(secret, existing.is_none(), false).await {
            Err(error)
                if error.is_conflict() || error.is_already_exists() || error.is_not_found() =>
            {
                Ok(None)
            }
            put => Ok(put?.map(see)),
        }
    }

    /// Checks with a dry run whether the API server would accept the wanted Secret with another
    /// token in it.
    pub async fn probe(
        &self,
        wanted: &Wanted<'_>,
        existing: Option<ObjectMeta>,
    ) -> Result<(), Error> {
        let token = SecretString::from("placeholder");
        let Some(secret) = wanted.build(&token, existing.as_ref()) else {
            return Ok(());
        };
        match self.put(secret, existing.is_none(), true).await {
            // The write itself handles these errors.
            Err(error)
                if error.is_conflict() || error.is_already_exists() || error.is_not_found() =>
            {
                Ok(())
            }
            put => put.map(drop),
        }
    }

    async fn put(
        &self,
        secret: Secret,
        is_new: bool,
        is_dry_run: bool,
    ) -> Result<Option<Secret>, Error> {
        let secret = Box::new(secret);
        let request = if is_new {
            ApiRequest::CreateSecret { secret, is_dry_run }
        } else {
            ApiRequest::ReplaceSecret { secret, is_dry_run }
        };
        Ok(secret_in(self.world.ask(request).await?))
    }

    /// Deletes the Secret with this UID, but no other Secret of the same name. Deletes nothing if
    /// there is no UID.
    pub async fn delete(&self, name: &str, uid: Option<String>) -> Result<(), Error> {
        let Some(uid) = uid else {
            return Ok(());
        };
        let request = ApiRequest::DeleteSecret {
            namespace: self.namespace.to_owned(),
            name: name.to_owned(),
            uid,
        };
        match self.world.ask(request).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }
}

fn secret_in(answer: Option<Object>) -> Option<Secret> {
    match answer? {
        Object::Secret(secret) => Some(*secret),
        _ => None,
    }
}

fn token_in(secret: &Secret) -> Option<SecretString> {
    let key = secret.annotations().get(TOKEN_KEY)?;
    let bytes = secret.data.as_ref()?.get(key)?;
    Some(SecretString::from(String::from_utf8(bytes.0.clone()).ok()?))
}

/// Reduces a Secret to what may be kept in memory (C2): metadata and digests, no data.
#[must_use]
pub fn see(mut secret: Secret) -> SeenSecret {
    let token = token_in(&secret).map(|token| fingerprint(&token));
    let token_key = secret.annotations().get(TOKEN_KEY).cloned();
    let data = secret.data.take().unwrap_or_default();
    let digest = data_digest(data.iter().map(|(key, value)| match (&token_key, &token) {
        (Some(token_key), Some(token)) if token_key == key => (key.as_str(), token.as_bytes()),
        _ => (key.as_str(), value.0.as_slice()),
    }));
    let read = ReadSecret {
        name: secret.name_any(),
        version: secret.resource_version().unwrap_or_default(),
        digest,
        fingerprint: token,
        is_immutable: secret.immutable == Some(true),
    };
    let metadata = ObjectMeta {
        managed_fields: None,
        ..secret.metadata
    };
    (
        PartialObjectMeta {
            metadata,
            ..PartialObjectMeta::default()
        },
        read,
    )
}

pub(super) fn data_digest<'a>(entries: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let entries: BTreeSet<_> = entries.collect();
    let mut hasher = Sha256::new();
    for (key, value) in entries {
        for part in [key.as_bytes(), value] {
            hasher.update(part.len().to_be_bytes());
            hasher.update(part);
        }
    }
    digest::short(hasher, 16)
}
