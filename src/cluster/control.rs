//! Runs a controller: dedupe, repeat, survive.

use std::{
    collections::HashMap, fmt::Debug, panic::AssertUnwindSafe, sync::Arc, sync::Mutex,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::Shared, stream};
use jiff::Timestamp;
use kube::{
    Resource,
    runtime::{
        Controller,
        controller::{Action, Error as ControllerError},
        reflector::{ObjectRef, Store},
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tracing::{Instrument, error, info_span, warn};

use super::{Error, status::named, view::lock};
use crate::{
    metrics::{KindLabels, Metrics, ReasonLabels},
    renewal,
};

/// Ends when the process is asked to stop.
pub type Stop = Shared<futures::future::BoxFuture<'static, ()>>;

/// Runs `reconcile` for every object that is named in `triggers`, and again when it asks for it.
///
/// An object is run by one task at a time, many objects side by side; what bounds them are the
/// queue in front of ACS and the pool in front of the API server, so that nobody's failures take
/// another's place (K3). A run that fails is repeated with growing pauses; one that panics too.
/// Ends after `stop`, when all runs have ended.
pub async fn run<K, F, R>(
    reader: Store<K>,
    triggers: UnboundedReceiver<ObjectRef<K>>,
    metrics: Arc<Metrics>,
    stop: Stop,
    reconcile: F,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    F: Fn(ObjectRef<K>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Option<Timestamp>, Error>> + Send + 'static,
{
    let kind: &'static str = Box::leak(K::kind(&()).into_owned().into_boxed_str());
    let failures: Arc<Mutex<HashMap<ObjectRef<K>, i32>>> = Arc::default();
    let runs = metrics.reconciles.get_or_create_owned(&KindLabels { kind });
    let reconcile = move |object: Arc<K>, _: Arc<()>| {
        let key = ObjectRef::from_obj(object.as_ref());
        let object = named(object.as_ref());
        let span = info_span!("reconcile", object);
        let run = AssertUnwindSafe(reconcile(key.clone()).boxed()).catch_unwind();
        let (failures, metrics) = (Arc::clone(&failures), Arc::clone(&metrics));
        runs.inc();
        async move {
            let ended = run.await;
            if let Ok(Ok(wake)) = ended {
                lock(&failures).remove(&key);
                return Ok(wake.map_or_else(Action::await_change, at));
            }
            let attempts = *lock(&failures)
                .entry(key)
                .and_modify(|attempts| *attempts = attempts.saturating_add(1))
                .or_insert(1);
            let (reason, text) = match ended {
                // Whoever changed the object wakes us again, with what is new, unless the watch is
                // broken.
                Ok(Err(error)) if error.is_conflict() => {
                    return Ok(Action::requeue(after_conflict(attempts)));
                }
                Ok(Err(error)) => (error.reason(), error.to_string()),
                _ => ("Panic", "the run panicked: please report this".to_owned()),
            };
            metrics
                .failures
                .get_or_create(&ReasonLabels {
                    kind,
                    reason: reason.to_owned(),
                })
                .inc();
            warn!(
                reason,
                error = text,
                attempts,
                "a run failed and is repeated"
            );
            Ok::<_, Never>(Action::requeue(
                renewal::backoff(attempts, None, &object)
                    .try_into()
                    .unwrap_or_default(),
            ))
        }
        .instrument(span)
    };
    Controller::for_stream(stream::pending(), reader)
        .reconcile_on(UnboundedReceiverStream::new(triggers))
        .graceful_shutdown_on(stop)
        .run(reconcile, |_, never, _| match *never {}, Arc::new(()))
        .for_each(|ran| async {
            // An object that is gone when its turn comes is everyday life.
            if let Err(error) = ran
                && !matches!(error, ControllerError::ObjectNotFound(_))
            {
                error!(%error, "the controller failed");
            }
        })
        .await;
}

/// How long to wait after so many conflicts in a row: 200 ms, doubling to a minute.
#[must_use]
pub fn after_conflict(attempts: i32) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(0);
    let pause = Duration::from_millis(200).saturating_mul(1 << doublings.min(9));
    pause.min(Duration::from_mins(1))
}

/// A run is repeated at `wake`, a breath later than the clock says, so that it is due then.
fn at(wake: Timestamp) -> Action {
    let wait = wake.duration_since(Timestamp::now());
    let wait = Duration::try_from(wait).unwrap_or_default();
    Action::requeue(wait + Duration::from_millis(20))
}

/// A run has no error of its own: it says when it wants to be repeated.
#[derive(Debug, thiserror::Error)]
enum Never {}
