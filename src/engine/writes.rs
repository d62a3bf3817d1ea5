//! Conditional writes of the operator's own objects. The view keeps what the API server answered.

use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::{ApiRequest, Object, Stored, World};
use crate::{
    cluster::{Error, row::Packable, view::View},
    crd::FINALIZER,
};

/// Writes the status of `object`, on condition that it has not changed since it was read (K2).
pub async fn write_status<K: Stored + Packable>(
    world: &dyn World,
    view: &View<K>,
    object: &K,
) -> Result<(), Error> {
    let request = ApiRequest::WriteStatus(object.clone().into_object());
    update_view(world, view, object, world.ask(request).await).await
}

/// Adds a finalizer, on the same condition.
pub async fn add_finalizer<K: Stored + Packable>(
    world: &dyn World,
    view: &View<K>,
    object: &K,
    finalizer: &str,
) -> Result<(), Error> {
    let mut finalizers = object.finalizers().to_vec();
    finalizers.push(finalizer.to_owned());
    let request = ApiRequest::WriteFinalizers {
        object: object.clone().into_object(),
        finalizers,
        abandoned: None,
    };
    update_view(world, view, object, world.ask(request).await).await
}

/// Removes the operator's finalizer from an object of its namespaces, as [`keep_finalizers`] does.
pub async fn remove_finalizer<K: Stored + Packable>(
    world: &dyn World,
    view: &View<K>,
    object: &K,
    abandoned: Option<String>,
) -> Result<(), Error> {
    let others = object.finalizers().iter().filter(|it| *it != FINALIZER);
    let others = others.cloned().collect();
    keep_finalizers(world, view, object, others, abandoned).await
}

/// Keeps only some `finalizers` of an object. An object that no longer exists is not an error. `abandoned`
/// says why something is left behind in ACS, if anything is.
pub async fn keep_finalizers<K: Stored + Packable>(
    world: &dyn World,
    view: &View<K>,
    object: &K,
    finalizers: Vec<String>,
    abandoned: Option<String>,
) -> Result<(), Error> {
    // An object that is being deleted disappears with its last finalizer.
    let goes = finalizers.is_empty() && object.meta().deletion_timestamp.is_some();
    let request = ApiRequest::WriteFinalizers {
        object: object.clone().into_object(),
        finalizers,
        abandoned,
    };
    match world.ask(request).await {
        Ok(_) if goes => view.deleted(&ObjectRef::from_obj(object), object.uid()),
        Err(error) if error.is_not_found() => {
            view.deleted(&ObjectRef::from_obj(object), object.uid());
        }
        written => return update_view(world, view, object, written).await,
    }
    Ok(())
}

async fn update_view<K: Stored + Packable>(
    world: &dyn World,
    view: &View<K>,
    object: &K,
    written: Result<Option<Object>, Error>,
) -> Result<(), Error> {
    match written {
        Ok(written) => {
            if let Some(written) = written.and_then(K::from_object) {
                view.wrote(written);
            }
            Ok(())
        }
        Err(error) if error.is_not_found() => {
            view.deleted(&ObjectRef::from_obj(object), object.uid());
            Err(error)
        }
        Err(error) if error.is_conflict() => {
            // If the read fails, the watch will report the object.
            let _ = reread(world, view, object).await;
            Err(error)
        }
        Err(error) => Err(error),
    }
}

/// Reads an object that has changed since the decision if the watch has not reported the change
/// yet. Otherwise an object that was created again under its name would be handled like the former
/// one until the watch catches up.
async fn reread<K: Stored + Packable>(
    world: &dyn World,
    view: &View<K>,
    object: &K,
) -> Result<(), Error> {
    let key = ObjectRef::from_obj(object);
    let known = view.get(&key).and_then(|known| known.resource_version());
    if known != object.resource_version() {
        return Ok(());
    }
    let request = ApiRequest::Reread(object.clone().into_object());
    match world.ask(request).await?.and_then(K::from_object) {
        Some(found) => view.wrote(found),
        None => view.deleted(&key, object.uid()),
    }
    Ok(())
}
