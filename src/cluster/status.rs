//! Status writes, compare-and-swap.

use std::fmt::Debug;

use kube::{Api, Resource, ResourceExt, api::PostParams};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Error, call,
    view::{Indexed, View},
};

/// Writes `object`'s status, on condition that nobody has changed the object since it was read
/// (K2), and remembers the answer.
pub async fn write<K>(api: &Api<K>, view: &View<K>, object: &K) -> Result<(), Error>
where
    K: Resource<DynamicType = ()>
        + Indexed
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Sync
        + 'static,
{
    let named = named(object);
    let name = object.name_any();
    let written = call(
        "write the status of",
        &named,
        api.replace_status(&name, &PostParams::default(), object),
    )
    .await;
    remember(view, object, written)
}

/// Keeps what the API server answered to a write of `object`.
pub fn remember<K>(view: &View<K>, object: &K, written: Result<K, Error>) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Indexed + Clone + Debug + 'static,
{
    match written {
        Ok(mut written) => {
            written.meta_mut().managed_fields = None;
            view.wrote(written);
            Ok(())
        }
        Err(error) => {
            if error.is_not_found() {
                view.forget(&kube::runtime::reflector::ObjectRef::from_obj(object));
            }
            Err(error)
        }
    }
}

/// `Kind namespace/name`, for errors and logs.
#[must_use]
pub fn named<K: Resource<DynamicType = ()>>(object: &K) -> String {
    match object.namespace() {
        Some(namespace) => format!("{} {namespace}/{}", K::kind(&()), object.name_any()),
        None => format!("{} {}", K::kind(&()), object.name_any()),
    }
}
