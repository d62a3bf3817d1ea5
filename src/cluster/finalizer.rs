use std::fmt::Debug;

use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{
    Error, call,
    status::{named, remember},
    view::{Indexed, View},
};
use crate::crd::FINALIZER;

/// Adds our finalizer, on condition that nobody has changed the object since it was read.
pub async fn add<K>(api: &Api<K>, view: &View<K>, object: &K) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Indexed + Clone + Debug + DeserializeOwned + 'static,
{
    let mut finalizers = object.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    remember(
        view,
        object,
        patch(api, object, &finalizers, "add the finalizer of").await,
    )
}

/// Removes our finalizer; an object that is gone already is fine.
pub async fn remove<K>(api: &Api<K>, view: &View<K>, object: &K) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Indexed + Clone + Debug + DeserializeOwned + 'static,
{
    let finalizers: Vec<_> = object
        .finalizers()
        .iter()
        .filter(|name| *name != FINALIZER)
        .cloned()
        .collect();
    let is_last = finalizers.is_empty();
    match patch(api, object, &finalizers, "remove the finalizer of").await {
        // With the last finalizer the object goes: the answer is its last state, not a newer one.
        Ok(_) if is_last => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        written => remember(view, object, written),
    }
}

async fn patch<K>(
    api: &Api<K>,
    object: &K,
    finalizers: &[String],
    operation: &'static str,
) -> Result<K, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let body = json!({"metadata": {
        "finalizers": finalizers,
        "resourceVersion": object.resource_version(),
    }});
    let patch = Patch::Merge(&body);
    let name = object.name_any();
    call(
        operation,
        &named(object),
        api.patch(&name, &PatchParams::default(), &patch),
    )
    .await
}
