//! Writes of our own objects, compare-and-swap, with what the API server answered kept in the view.

use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::{ApiRequest, Object, Stored, World};
use crate::{
    cluster::{Error, row::Kept, view::View},
    crd::FINALIZER,
};

/// Writes `object`'s status, on condition that nobody has changed the object since it was read (K2).
pub async fn write_status<K: Stored + Kept>(
    world: &dyn World,
    view: &View<K>,
    object: &K,
) -> Result<(), Error> {
    let request = ApiRequest::WriteStatus(object.clone().into_object());
    keep(view, object, world.ask(request).await)
}

/// Adds our finalizer, on the same condition.
pub async fn add_finalizer<K: Stored + Kept>(
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
    keep(view, object, world.ask(request).await)
}

/// Removes our finalizer; an object that is gone already is fine. `abandoned` says why something is
/// left behind in ACS, if anything is.
pub async fn remove_finalizer<K: Stored + Kept>(
    world: &dyn World,
    view: &View<K>,
    object: &K,
    abandoned: Option<String>,
) -> Result<(), Error> {
    let others = object.finalizers().iter().filter(|it| *it != FINALIZER);
    let finalizers: Vec<_> = others.cloned().collect();
    let is_last = finalizers.is_empty();
    let request = ApiRequest::WriteFinalizers {
        object: object.clone().into_object(),
        finalizers,
        abandoned,
    };
    match world.ask(request).await {
        // With the last finalizer the object goes.
        Ok(_) if is_last => view.deleted(&ObjectRef::from_obj(object), object.uid()),
        Err(error) if error.is_not_found() => {
            view.deleted(&ObjectRef::from_obj(object), object.uid());
        }
        written => return keep(view, object, written),
    }
    Ok(())
}

fn keep<K: Stored + Kept>(
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
        Err(error) => {
            if error.is_not_found() {
                view.forget(&ObjectRef::from_obj(object));
            }
            Err(error)
        }
    }
}
