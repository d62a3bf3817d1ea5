//! Writes of our own objects, compare-and-swap, with what the API server answered kept in the view.

use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::{ApiRequest, Object, Stored, World};
use crate::{
    cluster::{Error, row::Packable, view::View},
    crd::FINALIZER,
};

/// Writes `object`'s status, on condition that nobody has changed the object since it was read (K2).
pub async fn write_status<K: Stored + Packable>(
    world: &dyn World,
    view: &View<K>,
    object: &K,
) -> Result<(), Error> {
    let request = ApiRequest::WriteStatus(object.clone().into_object());
    update_view(world, view, object, world.ask(request).await).await
}

/// Adds our finalizer, on the same condition.
pub async fn add_finalizer<K: Stored + Packable>(
    world: &dyn World,
    view: &View<K>,
    object: &K,
) -> Result<(), Error> {
    let mut finalizers = object.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    let request = ApiRequest::WriteFinalizers {
        object: object.clone().into_object(),
        finalizers,
        abandoned: None,
    };
    update_view(world, view, object, world.ask(request).await).await
}

/// Removes our finalizer; an object that is gone already is fine. `abandoned` says why something is
/// left behind in ACS, if anything is.
pub async fn remove_finalizer<K: Stored + Packable>(
    world: &dyn World,
    view: &View<K>,
    object: &K,
    abandoned: Option<String>,
) -> Result<(), Error> {
    let others = object.finalizers().iter().filter(|it| *it != FINALIZER);
    let finalizers: Vec<_> = others.cloned().collect();
    // With the last finalizer an object that is being deleted goes.
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
            // Where it can't be read, the watch will tell.
            let _ = reread(world, view, object).await;
            Err(error)
        }
        Err(error) => Err(error),
    }
}

/// An object that was decided on as it no longer is, which the watch has not told yet, is read: one that
/// was made anew under its name would else be served as the former one for as long as the watch lags.
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
