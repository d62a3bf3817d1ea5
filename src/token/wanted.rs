//! Wanted content and metadata of a Secret (T5, T6).

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{Resource, ResourceExt};
use secrecy::{ExposeSecret, SecretString};

use super::{
    decide::renew_at,
    owner::{Owner, owner},
    secret::data_digest,
};
use crate::{
    cache::ReadSecret,
    cluster::view::object_ref,
    context::Context,
    crd::{
        AcsToken, FORMER, MANAGED_BY_LABEL, OPERATOR, RESTART_REVISION, TOKEN_KEY, TOKEN_UID_LABEL,
        TokenRecord, scopes_text,
    },
};

/// Annotation that lists the labels and annotations from the spec, so that they are removed once
/// the spec drops them.
const APPLIED: &str = "acs-identity.dev/applied";

/// Returns the token record in the `metadata` of a Secret of `token`, limited to what the status
/// allows.
#[must_use]
pub fn record_of(metadata: &ObjectMeta, token: &AcsToken) -> Option<TokenRecord> {
    let record = TokenRecord::from_annotations(metadata.annotations.as_ref()?)?;
    Some(match &token.status {
        Some(status) => record.bounded_by(status),
        None => record,
    })
}

/// Returns which part of the metadata differs from the wanted Secret, as far as the view knows.
#[must_use]
pub fn disagreement(context: &Context, token: &AcsToken) -> Option<String> {
    let key = object_ref(token.namespace().as_deref(), &token.secret_name());
    let found = context.views.secrets.get(&key)?;
    let record = record_of(&found.metadata, token);
    let record = record.or_else(|| {
        let held = context.cache.get(&token.uid()?).held?;
        Some(held.record.clone())
    });
    let Some(record) = record else {
        return Some("an annotation of the operator is missing or changed".to_owned());
    };
    let wanted = Wanted {
        token,
        record: &record,
        endpoint: "",
        labels: &context.config.secret_labels,
    };
    wanted.disagreement(&found.metadata)
}

/// Whether a label only describes the Secret to people and their tools.
fn is_description(key: &str) -> bool {
    key.starts_with("app.kubernetes.io/")
}

/// What a Secret is built from, beside the token itself.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// `AcsToken` that owns the Secret.
    pub token: &'a AcsToken,
    /// Record of its token.
    pub record: &'a TokenRecord,
    /// Endpoint of the resource.
    pub endpoint: &'a str,
    /// Labels that the operator's flags add to every Secret.
    pub labels: &'a BTreeMap<String, String>,
}

impl Wanted<'_> {
    /// Returns the data without the token.
    fn plain_data(&self) -> BTreeMap<String, String> {
        let expires_on = self.record.issued_at.as_second() + self.record.life.as_secs();
        let expires_on = jiff::Timestamp::from_second(expires_on).unwrap_or(self.record.expires_at);
        [
            (self.token.expires_on_key(), expires_on.to_string()),
            (
                self.token
                    .secret_key(|keys| keys.identity_id.as_ref(), "identityId"),
                self.record.identity_id.clone(),
            ),
            (
                self.token
                    .secret_key(|keys| keys.endpoint.as_ref(), "endpoint"),
                self.endpoint.to_owned(),
            ),
            (
                self.token.secret_key(|keys| keys.scopes.as_ref(), "scopes"),
                scopes_text(&self.record.parameters.scopes),
            ),
        ]
        .into()
    }

    /// Returns the digest of the wanted data.
    fn digest(&self) -> String {
        let mut data = self.plain_data();
        data.insert(self.token.token_key(), self.record.fingerprint.clone());
        data_digest(
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
        for (key, value) in self.labels {
            labels.insert(key.clone(), value.clone());
        }
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
        let mut annotations = self.record.annotations(renew_at(self.token, self.record));
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
        annotations.insert(TOKEN_KEY.to_owned(), self.token.token_key());
        annotations.insert(APPLIED.to_owned(), applied.join(" "));
        annotations
    }

    /// Whether the Secret with `metadata`, and with the data described by `read`, matches the
    /// wanted one.
    #[must_use]
    pub fn is_met_by(&self, metadata: &ObjectMeta, read: &ReadSecret) -> bool {
        read.digest == self.digest() && self.disagreement(metadata).is_none()
    }

    /// Returns the first difference between `metadata` and the wanted metadata. A descriptive label
    /// that others have replaced is not a difference.
    #[must_use]
    pub fn disagreement(&self, metadata: &ObjectMeta) -> Option<String> {
        let differs = |all: Option<&BTreeMap<String, String>>, (key, value): (&str, &str)| {
            all.and_then(|all| all.get(key)).map(String::as_str) != Some(value)
        };
        let (labels, annotations) = (self.labels(), self.annotations());
        // Labels of the flags are added with the next token: a changed flag must not rewrite all
        // Secrets.
        let mut wanted = labels
            .iter()
            .filter(|(key, value)| !is_description(key) && self.labels.get(*key) != Some(*value));
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
            return Some(format!("annotation {key} is missing or changed"));
        }
        let owners = metadata.owner_references.iter().flatten();
        let is_owned = owners
            .into_iter()
            .any(|owner| owner.controller == Some(true));
        (!is_owned).then(|| "it has no owner".to_owned())
    }

    /// Returns the wanted Secret with `token`; labels and annotations of others stay. Returns
    /// `None` if the existing Secret belongs to another owner, because such a Secret is never
    /// touched (T5).
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
        for key in FORMER.into_iter().chain([RESTART_REVISION]) {
            annotations.remove(key);
        }
        annotations.extend(self.annotations());
        let mut data: BTreeMap<_, _> = self
            .plain_data()
            .into_iter()
            .map(|(key, value)| (key, ByteString(value.into_bytes())))
            .collect();
        data.insert(
            self.token.token_key(),
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

/// Returns the name of the `AcsToken`, shortened to the length of a label value.
fn instance(token: &AcsToken) -> String {
    let name = token.name_any();
    let end = name.floor_char_boundary(63);
    let text = name.get(..end).unwrap_or_default();
    text.trim_end_matches(['-', '.']).to_owned()
}

fn owner_reference(token: &AcsToken) -> Option<OwnerReference> {
    token.controller_owner_ref(&())
}
