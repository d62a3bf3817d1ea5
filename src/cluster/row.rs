//! What a view keeps of an object, and how.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Serialize, de::DeserializeOwned};
use tracing::error;

use crate::crd::GROUP;

/// Texts that rows are made of, in their order: what a row has in common with them costs a few bytes.
const DICTIONARY: &[u8] = include_bytes!("row.dictionary");

/// An object that a view keeps.
///
/// A row keeps what decisions read, and what is written back: all of spec and status, and the metadata
/// that [`Kept::slim`] leaves. Statuses and finalizers are written so that nothing else of the object
/// changes, so what is not kept is not lost.
pub trait Kept:
    Resource<DynamicType = ()>
    + Serialize
    + DeserializeOwned
    + Clone
    + Debug
    + Send
    + Sync
    + 'static
{
    /// The keys that it is found by, beside its name.
    fn index_keys(&self) -> Vec<String>;

    /// Takes away what is not kept.
    fn slim(&mut self) {
        slim_read(self.meta_mut());
    }
}

/// Takes away what is read of no kind.
pub fn slim_read(metadata: &mut ObjectMeta) {
    slim_written(metadata);
    metadata.owner_references = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|key, _| key.starts_with(GROUP));
    }
}

/// The same of an object whose metadata is written back as it is kept: what others have put there stays.
pub fn slim_written(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.generate_name = None;
    metadata.self_link = None;
    metadata.deletion_grace_period_seconds = None;
}

/// The object in some hundred bytes.
pub fn pack(object: &impl Serialize) -> Box<[u8]> {
    // Only maps whose keys are no texts can't be written.
    let text = serde_json::to_vec(object).unwrap_or_default();
    lz4_flex::block::compress_prepend_size_with_dict(&text, DICTIONARY).into_boxed_slice()
}

/// The object that was packed.
pub fn unpack<K: DeserializeOwned>(packed: &[u8]) -> Option<K> {
    let text = lz4_flex::block::decompress_size_prepended_with_dict(packed, DICTIONARY);
    let read = text.map_err(|error| error.to_string());
    let read = read.and_then(|text| serde_json::from_slice(&text).map_err(|it| it.to_string()));
    read.inspect_err(|error| error!(error, "a row can't be read: please report this"))
        .ok()
}
