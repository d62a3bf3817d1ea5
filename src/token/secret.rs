//! Secrets that we own: how they are read and written (T3, T5).

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{ResourceExt, core::PartialObjectMeta};
use secrecy::SecretString;
use sha2::{Digest, Sha256};

use super::wanted::Wanted;
use crate::{
    cache::ReadSecret,
    cluster::Error,
    crd::{TOKEN_KEY, fingerprint},
    engine::{ApiRequest, Object, World},
};

/// A Secret without its data, and what was seen of the data.
pub type SeenSecret = (PartialObjectMeta<Secret>, ReadSecret);

/// Secrets of one namespace.
#[derive(Clone, Copy)]
pub struct Secrets<'a> {
    world: &'a dyn World,
    namespace: &'a str,
}

impl<'a> Secrets<'a> {
    /// Secrets of `namespace`.
    #[must_use]
    pub fn new(world: &'a dyn World, namespace: &'a str) -> Self {
        Self { world, namespace }
    }

    /// Reads a Secret and tells what is in it, not the token itself.
    pub async fn read(&self, name: &str) -> Result<Option<SeenSecret>, Error> {
        Ok(self.get(name).await?.map(see))
    }

    /// Reads all of a Secret.
    pub async fn get(&self, name: &str) -> Result<Option<Secret>, Error> {
        let request = ApiRequest::ReadSecret {
            namespace: self.namespace.to_owned(),
            name: name.to_owned(),
        };
        Ok(secret_in(self.world.ask(request).await?))
    }

    /// Reads the token out of a Secret of ours, if its bytes match the `fingerprint`.
    pub async fn token(&self, name: &str, wanted: &str) -> Result<Option<SecretString>, Error> {
        let token = self.get(name).await?.as_ref().and_then(token_in);
        Ok(token.filter(|token| fingerprint(token) == wanted))
    }

    /// Writes the wanted Secret around `token`: a new one, or over one of ours that is as it was seen
    /// with the metadata `existing`. `None` where the name is someone else's, or the Secret has
    /// changed since: what to do about that is decided anew (K2).
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

    /// Whether the API server would take the wanted Secret, with another token in it.
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
            // The write itself sorts that out.
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

    /// Deletes the Secret of ours with this UID, and none that took its place; without a UID, none.
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

/// Keeps of a Secret what may be kept (C2): metadata, digests, no bytes.
#[must_use]
pub fn see(mut secret: Secret) -> SeenSecret {
    let token = token_in(&secret).map(|token| fingerprint(&token));
    let token_key = secret.annotations().get(TOKEN_KEY).cloned();
    let data = secret.data.take().unwrap_or_default();
    let digest = digest(data.iter().map(|(key, value)| match (&token_key, &token) {
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

pub(super) fn digest<'a>(entries: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut hasher = Sha256::new();
    let entries: BTreeSet<_> = entries.collect();
    for (key, value) in entries {
        hasher.update(key.len().to_be_bytes());
        hasher.update(key);
        hasher.update(value.len().to_be_bytes());
        hasher.update(value);
    }
    let digest = hasher.finalize();
    URL_SAFE_NO_PAD.encode(digest.get(..16).unwrap_or(&digest))
}
