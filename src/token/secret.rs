//! Secrets that we own: whose they are, what is in them, how they are written (T3, T5, T6).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{Resource, ResourceExt, core::PartialObjectMeta};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::{decide::renew_at, record::fingerprint};
use crate::{
    cluster::{Error, index, view::object_ref},
    context::{Context, Views},
    crd::{
        AcsToken, FORMER, MANAGED_BY_LABEL, OPERATOR, TOKEN_UID_LABEL, TokenRecord, scopes_text,
    },
    engine::{ApiRequest, Object, World},
    memory::ReadSecret,
};

/// Names the key that holds the token: bytes under another key are not the token.
pub const TOKEN_KEY: &str = "acs-identity.dev/token-key";
/// Names the labels and annotations that come from the spec, so that they go when it drops them.
const APPLIED: &str = "acs-identity.dev/applied";

/// Whose a Secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The `AcsToken`'s that asks.
    Ours,
    /// Someone else's; says whose, as the end of the sentence "Secret x exists and ...".
    Other(String),
}

/// Whose the Secret with `metadata` is (T5): ours when its controller is `token`, or when it has no
/// controller and carries our UID.
#[must_use]
pub fn owner(metadata: &ObjectMeta, token: &AcsToken) -> Owner {
    let uid = token.metadata.uid.as_deref().unwrap_or_default();
    let controller = metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true));
    if let Some(controller) = controller {
        return if controller.uid == uid {
            Owner::Ours
        } else {
            Owner::Other(format!(
                "belongs to {} {}",
                controller.kind, controller.name
            ))
        };
    }
    match metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(TOKEN_UID_LABEL))
    {
        Some(claimed) if claimed == uid => Owner::Ours,
        _ => Owner::Other("was not made by this operator".to_owned()),
    }
}

/// The Secrets that are `token`'s own, whatever else carries its label: copies that others made are
/// neither touched nor waited for (K6).
pub fn owned_by(
    views: &Views,
    token: &AcsToken,
) -> impl Iterator<Item = Arc<PartialObjectMeta<Secret>>> + use<> {
    let uid = token.uid().unwrap_or_default();
    let mut found = views.secrets.find(&index::of_token(&uid));
    found.retain(|secret| {
        secret.namespace() == token.namespace() && owner(&secret.metadata, token) == Owner::Ours
    });
    found.into_iter()
}

/// What the Secret with `metadata` says of the token of its `token`, no more than the status allows.
#[must_use]
pub fn record_of(metadata: &ObjectMeta, token: &AcsToken) -> Option<TokenRecord> {
    let record = TokenRecord::from_annotations(metadata.annotations.as_ref()?)?;
    Some(match &token.status {
        Some(status) => record.bounded_by(status),
        None => record,
    })
}

/// What around the data of the wanted Secret is not as it should be, as far as the view knows.
#[must_use]
pub fn disagreement(context: &Context, token: &AcsToken) -> Option<String> {
    let key = object_ref(token.namespace().as_deref(), &token.secret_name());
    let found = context.views.secrets.get(&key)?;
    let record = record_of(&found.metadata, token);
    let record = record.or_else(|| {
        let held = context.memory.of(&token.uid()?).held?;
        Some(held.record.clone())
    });
    let Some(record) = record else {
        return Some("an annotation of the operator is missing or another".to_owned());
    };
    let wanted = Wanted {
        token,
        facts: &record,
        endpoint: "",
    };
    wanted.disagreement(&found.metadata)
}

/// A label that only describes the Secret to people and their tools.
fn is_description(key: &str) -> bool {
    key.starts_with("app.kubernetes.io/")
}

/// What the Secret is meant to hold beside the token, and around it.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Whose it is.
    pub token: &'a AcsToken,
    /// What it tells of its token.
    pub facts: &'a TokenRecord,
    /// The resource's endpoint.
    pub endpoint: &'a str,
}

impl Wanted<'_> {
    /// The key of the data that holds the token.
    fn token_key(&self) -> String {
        self.key(|keys| keys.token.as_ref(), "token")
    }

    fn key(
        &self,
        renamed: impl Fn(&crate::crd::SecretKeys) -> Option<&String>,
        default: &str,
    ) -> String {
        let keys = self
            .token
            .spec
            .secret
            .as_ref()
            .and_then(|secret| secret.keys.as_ref());
        keys.and_then(renamed)
            .map_or_else(|| default.to_owned(), Clone::clone)
    }

    /// The data but for the token.
    fn plain_data(&self) -> BTreeMap<String, String> {
        let expires_on = self.facts.issued_at.as_second() + self.facts.life.as_secs();
        let expires_on = jiff::Timestamp::from_second(expires_on).unwrap_or(self.facts.expires_at);
        [
            (
                self.key(|keys| keys.expires_on.as_ref(), "expiresOn"),
                expires_on.to_string(),
            ),
            (
                self.key(|keys| keys.identity_id.as_ref(), "identityId"),
                self.facts.identity_id.clone(),
            ),
            (
                self.key(|keys| keys.endpoint.as_ref(), "endpoint"),
                self.endpoint.to_owned(),
            ),
            (
                self.key(|keys| keys.scopes.as_ref(), "scopes"),
                scopes_text(&self.facts.shape.scopes),
            ),
        ]
        .into()
    }

    /// Digest of the data as it should be.
    fn digest(&self) -> String {
        let mut data = self.plain_data();
        data.insert(self.token_key(), self.facts.fingerprint.clone());
        digest(
            data.iter()
                .map(|(key, value)| (key.as_str(), value.as_bytes())),
        )
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let uid = self.token.uid().unwrap_or_default();
        let template = self
            .token
            .spec
            .secret
            .as_ref()
            .and_then(|secret| secret.labels.as_ref());
        let described = [
            ("app.kubernetes.io/name", "acs-token".to_owned()),
            ("app.kubernetes.io/component", "token".to_owned()),
            ("app.kubernetes.io/instance", instance(self.token)),
        ];
        let mut labels: BTreeMap<_, _> = described
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        let template = template.into_iter().flatten();
        labels.extend(template.map(|(key, value)| (key.clone(), value.0.clone())));
        labels.insert(MANAGED_BY_LABEL.to_owned(), OPERATOR.to_owned());
        labels.insert(TOKEN_UID_LABEL.to_owned(), uid);
        labels
    }

    fn annotations(&self) -> BTreeMap<String, String> {
        let template = self.token.spec.secret.as_ref();
        let labels = template.and_then(|secret| secret.labels.as_ref());
        let notes = template.and_then(|secret| secret.annotations.as_ref());
        let applied: Vec<_> = labels
            .into_iter()
            .flat_map(BTreeMap::keys)
            .map(|key| format!("label:{key}"))
            .chain(
                notes
                    .into_iter()
                    .flat_map(BTreeMap::keys)
                    .map(|key| format!("annotation:{key}")),
            )
            .collect();
        let mut annotations = self.facts.annotations(renew_at(self.token, self.facts));
        annotations.extend(
            notes
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.clone(), value.0.clone())),
        );
        annotations.insert(
            TOKEN_UID_LABEL.to_owned(),
            self.token.uid().unwrap_or_default(),
        );
        annotations.insert(TOKEN_KEY.to_owned(), self.token_key());
        annotations.insert(APPLIED.to_owned(), applied.join(" "));
        annotations
    }

    /// Whether the Secret with `metadata`, whose data was read as `read`, is all that it should be.
    #[must_use]
    pub fn is_met_by(&self, metadata: &ObjectMeta, read: &ReadSecret) -> bool {
        read.digest == self.digest() && self.disagreement(metadata).is_none()
    }

    /// What around the data is not as it should be: the first difference. A description that others
    /// have put in place of ours is none.
    #[must_use]
    pub fn disagreement(&self, metadata: &ObjectMeta) -> Option<String> {
        let differs = |all: Option<&BTreeMap<String, String>>, (key, value): (&str, &str)| {
            all.and_then(|all| all.get(key)).map(String::as_str) != Some(value)
        };
        let (labels, annotations) = (self.labels(), self.annotations());
        let mut wanted = labels.iter().filter(|(key, _)| !is_description(key));
        let is_label = |(key, value): &(&String, &String)| {
            differs(metadata.labels.as_ref(), (key.as_str(), value.as_str()))
        };
        if let Some((key, value)) = wanted.find(is_label) {
            return Some(format!("label {key} is not {value}"));
        }
        let mut wanted = annotations.iter();
        let is_annotation = |(key, value): &(&String, &String)| {
            differs(
                metadata.annotations.as_ref(),
                (key.as_str(), value.as_str()),
            )
        };
        if let Some((key, _)) = wanted.find(is_annotation) {
            return Some(format!("annotation {key} is missing or another"));
        }
        let owners = metadata.owner_references.iter().flatten();
        let is_owned = owners
            .into_iter()
            .any(|owner| owner.controller == Some(true));
        (!is_owned).then(|| "it has no owner".to_owned())
    }

    /// The Secret as it should be, around `token`; labels and annotations of others stay. `None`
    /// where the existing one is someone else's, which is never touched (T5).
    #[must_use]
    pub fn build(&self, token: &SecretString, existing: Option<&ObjectMeta>) -> Option<Secret> {
        if existing.is_some_and(|metadata| owner(metadata, self.token) != Owner::Ours) {
            return None;
        }
        let mut labels = existing
            .and_then(|meta| meta.labels.clone())
            .unwrap_or_default();
        let mut annotations = existing
            .and_then(|meta| meta.annotations.clone())
            .unwrap_or_default();
        let applied = annotations.get(APPLIED).cloned().unwrap_or_default();
        for entry in applied.split(' ') {
            if let Some(key) = entry.strip_prefix("label:") {
                labels.remove(key);
            } else if let Some(key) = entry.strip_prefix("annotation:") {
                annotations.remove(key);
            }
        }
        labels.extend(self.labels());
        for key in FORMER {
            annotations.remove(key);
        }
        annotations.extend(self.annotations());
        let mut data: BTreeMap<_, _> = self
            .plain_data()
            .into_iter()
            .map(|(key, value)| (key, ByteString(value.into_bytes())))
            .collect();
        data.insert(
            self.token_key(),
            ByteString(token.expose_secret().as_bytes().to_vec()),
        );
        let others = existing
            .into_iter()
            .flat_map(|meta| meta.owner_references.iter().flatten());
        let owners = others
            .filter(|owner| owner.controller != Some(true))
            .cloned()
            .chain(owner_reference(self.token))
            .collect();
        Some(Secret {
            metadata: ObjectMeta {
                name: Some(self.token.secret_name()),
                namespace: self.token.namespace(),
                labels: Some(labels),
                annotations: Some(annotations),
                owner_references: Some(owners),
                resource_version: existing.and_then(|meta| meta.resource_version.clone()),
                uid: existing.and_then(|meta| meta.uid.clone()),
                finalizers: existing.and_then(|meta| meta.finalizers.clone()),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            data: Some(data),
            ..Secret::default()
        })
    }
}

/// The name of the `AcsToken`, as far as it fits into a label.
fn instance(token: &AcsToken) -> String {
    let name = token.name_any();
    let end = name.floor_char_boundary(63);
    let text = name.get(..end).unwrap_or_default();
    text.trim_end_matches(['-', '.']).to_owned()
}

fn owner_reference(token: &AcsToken) -> Option<OwnerReference> {
    token.controller_owner_ref(&())
}

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
    pub fn of(world: &'a dyn World, namespace: &'a str) -> Self {
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

    /// Writes the wanted Secret around `token`: a new one, or over one of ours that was last seen
    /// with the metadata `existing`. Someone else's is never touched; that is `None`.
    pub async fn write(
        &self,
        wanted: &Wanted<'_>,
        token: &SecretString,
        existing: Option<ObjectMeta>,
    ) -> Result<Option<SeenSecret>, Error> {
        let mut existing = existing;
        // Who else writes the Secret does so rarely; a token in hand is worth more than one try.
        for _ in 0..4 {
            let Some(secret) = wanted.build(token, existing.as_ref()) else {
                return Ok(None);
            };
            match self.put(secret, existing.is_none(), false).await {
                Ok(secret) => return Ok(secret.map(see)),
                Err(error)
                    if error.is_conflict() || error.is_already_exists() || error.is_not_found() =>
                {
                    existing = self.metadata(&wanted.token.secret_name()).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
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

    async fn metadata(&self, name: &str) -> Result<Option<ObjectMeta>, Error> {
        let request = ApiRequest::ReadSecretMetadata {
            namespace: self.namespace.to_owned(),
            name: name.to_owned(),
        };
        Ok(secret_in(self.world.ask(request).await?).map(|found| found.metadata))
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

fn digest<'a>(entries: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut hasher = Sha256::new();
    let entries: BTreeSet<_> = entries.collect();
    for (key, value) in entries {
        hasher.update(key.len().to_be_bytes());
        hasher.update(key);
        hasher.update(value.len().to_be_bytes());
        hasher.update(value);
    }
    format!("{:x}", hasher.finalize())
}
