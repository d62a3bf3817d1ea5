//! Compressed storage of the objects in a view.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use lz4_flex::block::{compress_prepend_size_with_dict, decompress_size_prepended_with_dict};
use serde::{Serialize, de::DeserializeOwned};
use tracing::error;

use crate::crd::GROUP;

/// Maximum number of dictionaries, and maximum length of one in bytes.
const DICTIONARIES: u8 = 16;
const LONGEST_DICTIONARY: usize = 16 * 1024;

/// Object that a view can store.
///
/// A row contains what decisions read and what is written back: all of spec and status, and the
/// metadata that [`Packable::slim`] leaves. Statuses and finalizers are written such that nothing
/// else of the object changes, so that dropped fields are not lost.
pub trait Packable:
    Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static
{
    /// Returns the keys by which the object is found, besides its name.
    fn index_keys(&self) -> Vec<String>;

    /// Drops the fields that are not kept.
    fn slim(&mut self) {
        slim_read(self.meta_mut());
    }
}

/// Drops the metadata that is not read of any kind.
pub fn slim_read(metadata: &mut ObjectMeta) {
    slim_written(metadata);
    metadata.owner_references = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|key, _| key.starts_with(GROUP));
    }
    metadata.annotations.take_if(|it| it.is_empty());
}

/// Drops the same from an object whose metadata is written back as it is stored: entries of other
/// clients are kept.
pub fn slim_written(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.generate_name = None;
    metadata.self_link = None;
    metadata.deletion_grace_period_seconds = None;
}

/// Compressor for the objects of one kind, which have most of their text in common. An object that
/// has little in common with the latest dictionary becomes the next dictionary.
#[derive(Debug)]
pub struct Packer {
    dictionaries: Vec<Box<[u8]>>,
}

impl Default for Packer {
    fn default() -> Self {
        Self {
            dictionaries: vec![Box::default()],
        }
    }
}

impl Packer {
    /// Compresses the object to some hundred bytes. The first byte is the number of the dictionary.
    pub fn pack(&mut self, object: &impl Serialize) -> Box<[u8]> {
        // Only maps with keys that are not text cannot be serialized.
        let text = serde_json::to_vec(object).unwrap_or_default();
        let number = self.dictionaries.len().saturating_sub(1);
        let dictionary = self.dictionaries.last().map_or(&[][..], |it| it);
        let packed = compress_prepend_size_with_dict(&text, dictionary);
        let number = u8::try_from(number).unwrap_or(DICTIONARIES);
        let row = [&[number], packed.as_slice()].concat().into_boxed_slice();
        // Two fifths is more than a name, UIDs and times need.
        let is_strange = row.len() * 5 > text.len() * 2;
        if is_strange && text.len() <= LONGEST_DICTIONARY && number + 1 < DICTIONARIES {
            self.dictionaries.push(text.into_boxed_slice());
        }
        row
    }

    /// Returns the object that was packed.
    #[must_use]
    pub fn unpack<K: DeserializeOwned>(&self, row: &[u8]) -> Option<K> {
        let (number, packed) = row.split_first()?;
        let dictionary = self.dictionaries.get(usize::from(*number))?;
        let text = decompress_size_prepended_with_dict(packed, dictionary);
        let read = text.map_err(|error| error.to_string());
        let read = read.and_then(|text| serde_json::from_slice(&text).map_err(|it| it.to_string()));
        read.inspect_err(|error| {
            error!(
                error,
                "bug: an object in memory cannot be read; please report this"
            );
        })
        .ok()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;
    use kube::core::PartialObjectMeta;
    use serde_json::{Value, json};

    use super::*;
    use crate::crd::{AcsIdentity, AcsToken};

    fn condition(reason: &str, message: &str) -> Value {
        json!({
            "lastTransitionTime": "2026-11-27T20:14:31Z", "message": message,
            "observedGeneration": 1, "reason": reason, "status": "True", "type": "Ready",
        })
    }

    /// Returns the metadata of an object as the API server sends it.
    fn metadata(uid: &str, others: &Value) -> Value {
        let mut metadata = json!({
            "creationTimestamp": "2026-11-27T20:14:29Z", "generation": 1, "name": "user-4711",
            "namespace": "bench-15479-fleet", "resourceVersion": "48211", "uid": uid,
            "managedFields": [{"manager": "kubectl", "operation": "Update"}],
        });
        let all = metadata.as_object_mut().unwrap();
        all.extend(others.as_object().unwrap().clone());
        metadata
    }

    const ID: &str =
        "8:acs:1b5cbd41-8c9b-4e43-9c39-aa3a1b7b7bbe_00000006-19e0-2727-80f5-8b3a0d003502";

    fn identity() -> AcsIdentity {
        let object = json!({
            "metadata": metadata("5c1d6a52-3f8e-4a57-8d51-0b1f0c2a9e11", &json!({
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
                "finalizers": ["acs-identity.dev/cleanup"],
                "labels": {"team": "chat"},
            })),
            "spec": {},
            "status": {
                "connectionRef": {"kind": "AcsConnection", "name": "default"},
                "endpoint": "https://contoso.communication.azure.com", "identityId": ID,
                "origin": "Created", "observedGeneration": 1,
                "conditions": [condition("IdentityReady", "the identity exists in ACS")],
            },
        });
        serde_json::from_value(object).unwrap()
    }

    fn token() -> AcsToken {
        let object = json!({
            "metadata": metadata("0d3b8f0e-67a5-4c1c-9a0b-3ef1f2a4c6d8", &json!({
                "annotations": {"acs-identity.dev/requested-at": "1", "someone.else/note": "x"},
                "finalizers": ["acs-identity.dev/cleanup"],
                "labels": {"app.kubernetes.io/name": "chat"},
            })),
            "spec": {"identityRef": {"name": "user-4711"}, "scopes": ["chat"], "expiresIn": "1h"},
            "status": {
                "secretName": "user-4711",
                "writtenSecret": {"resourceVersion": "48209", "digest": "mI7nq1yLr5H2oWb0Xc3DfA"},
                "identityId": ID, "scopes": ["chat"], "expiresIn": "1h",
                "issuedAt": "2026-11-27T20:14:30Z", "expiresAt": "2026-11-27T21:14:30Z",
                "renewAt": "2026-11-27T20:52:07Z", "fingerprint": "q0ZPyXr0vJ8mS1uK",
                "credential": "90713960c5c41601", "revision": 1, "observedGeneration": 1,
                "conditions": [condition("TokenIssued", "Secret user-4711 holds a valid token")],
            },
        });
        serde_json::from_value(object).unwrap()
    }

    fn secret() -> PartialObjectMeta<Secret> {
        let token = token().metadata.uid.unwrap();
        let object = json!({"metadata": metadata("b7a6b0f4-10d6-4d0c-a3f5-6fd0d1c7a2e9", &json!({
            "annotations": {
                "acs-identity.dev/applied": "", "acs-identity.dev/credential": "90713960c5c41601",
                "acs-identity.dev/expires-at": "2026-11-27T21:14:30Z",
                "acs-identity.dev/expires-in": "1h",
                "acs-identity.dev/fingerprint": "q0ZPyXr0vJ8mS1uK",
                "acs-identity.dev/identity-id": ID,
                "acs-identity.dev/issued-at": "2026-11-27T20:14:30Z",
                "acs-identity.dev/life": "3600s",
                "acs-identity.dev/renew-at": "2026-11-27T20:52:07Z",
                "acs-identity.dev/revision": "1", "acs-identity.dev/scopes": "chat",
                "acs-identity.dev/token-key": "token", "acs-identity.dev/token-uid": token,
                "someone.else/note": "x",
            },
            "labels": {
                "acs-identity.dev/token-uid": token, "app.kubernetes.io/component": "token",
                "app.kubernetes.io/instance": "user-4711",
                "app.kubernetes.io/managed-by": "acs-identity-operator",
                "app.kubernetes.io/name": "acs-token", "velero.io/exclude-from-backup": "true",
            },
            "ownerReferences": [{
                "apiVersion": "acs-identity.dev/v1alpha1", "controller": true, "kind": "AcsToken",
                "name": "user-4711", "uid": token,
            }],
        }))});
        serde_json::from_value(object).unwrap()
    }

    fn slimmed<K: Packable>(mut object: K) -> K {
        object.slim();
        object
    }

    /// Returns the size of the second of two such objects.
    fn packed<K: Packable>(object: K) -> usize {
        let object = slimmed(object);
        let text = serde_json::to_string(&object).unwrap();
        // Another name, another id and other times.
        let second = text
            .replace("user-4711", "user-17")
            .replace(
                "00000006-19e0-2727-80f5-8b3a0d003502",
                "00000006-19e1-9d3e-f2a7-1c084a00b21e",
            )
            .replace("0d3b8f0e-67a5-4c1c-9a0b", "3f4e9c11-08d7-4f6e-b7c2")
            .replace("20:14:", "20:33:")
            .replace("q0ZPyXr0vJ8mS1uK", "b3WqkT9cLx2hYv5E");
        let second: K = serde_json::from_str(&second).unwrap();
        let mut packer = Packer::default();
        let [first, row] = [&object, &second].map(|object| packer.pack(object));
        for (row, object) in [(&first, &object), (&row, &second)] {
            let read: K = packer.unpack(row).unwrap();
            let text = |object: &K| serde_json::to_value(object).unwrap();
            assert_eq!(text(&read), text(object));
        }
        row.len()
    }

    #[test]
    fn the_rows_of_an_identity_its_token_and_its_secret_take_less_than_800_bytes() {
        let sizes = [packed(identity()), packed(token()), packed(secret())];
        assert!(sizes.iter().sum::<usize>() < 800, "{sizes:?}");
    }

    #[test]
    fn dictionaries_are_few() {
        let mut packer = Packer::default();
        for number in 0..100 {
            // Without anything in common.
            let random = |it: u64| it.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let text: Vec<_> = (0..50).map(|it| random(it + 50 * number)).collect();
            let row = packer.pack(&text);
            assert_eq!(packer.unpack::<Vec<u64>>(&row), Some(text));
        }
        assert_eq!(packer.dictionaries.len(), usize::from(DICTIONARIES));
    }

    #[test]
    fn what_others_put_on_an_object_is_kept_only_where_it_is_read_or_written_back() {
        let identity = slimmed(identity());
        assert_eq!(identity.metadata.annotations, None);
        assert!(
            identity.metadata.labels.is_some(),
            "revocations select by them"
        );
        let token = slimmed(token());
        let annotations = token.metadata.annotations.unwrap();
        assert_eq!(
            annotations.into_keys().collect::<Vec<_>>(),
            ["acs-identity.dev/requested-at"]
        );
        assert_eq!(token.metadata.labels, None);
        let secret = slimmed(secret());
        assert!(secret.metadata.managed_fields.is_none());
        let annotations = secret.metadata.annotations.unwrap();
        assert!(
            annotations.contains_key("someone.else/note"),
            "it is written back"
        );
        assert!(secret.metadata.owner_references.is_some());
    }
}
