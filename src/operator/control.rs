//! Start of the runs: once everything that they need is known, and this process may act.

use std::sync::Arc;

use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::info;

use super::reconcile;
use crate::{
    cluster::{ObjectKey, row::Packable, view::View},
    context::Context,
    engine::{Claim, Stop, run_all},
    health::Health,
};

/// Runs objects once everything that every run needs is known. A kind that cannot be listed,
/// because its CRD or a permission is missing, delays only the objects that need it (`dispatch`).
/// Until then the views are kept current, and requeued objects are dropped.
pub(super) async fn control(
    context: Arc<Context>,
    health: Health,
    claim: Claim,
    mut requeued: UnboundedReceiver<ObjectKey>,
    stop: Stop,
) {
    let views = &context.views;
    let may_begin = async {
        views.ready().await;
        or_missing(&health, &views.cluster_connections).await;
        or_missing(&health, &views.revocations).await;
        or_missing(&health, &views.cluster_revocations).await;
        claim.held().await;
    };
    tokio::select! {
        () = may_begin => {}
        // Everything is requeued afterwards.
        () = async { while requeued.recv().await.is_some() {} } => {}
        () = stop.clone() => return,
    }
    while requeued.try_recv().is_ok() {}
    requeue_everything(&context);
    info!(
        identities = views.identities.refs(None).len(),
        tokens = views.tokens.refs(None).len(),
        "reconciling begins"
    );
    let world = Arc::clone(&context.world);
    let metrics = Arc::clone(&context.metrics);
    let calls = context.calls.clone();
    let late = Arc::clone(&context);
    let run = move |key, attempts| reconcile(Arc::clone(&context), key, attempts);
    tokio::select! {
        () = run_all(requeued, calls, metrics, stop, move || world.now(), run) => {}
        () = release_held_back(&late) => {}
    }
}

fn requeue_everything(context: &Context) {
    let views = &context.views;
    requeue_all(context, &views.connections);
    requeue_all(context, &views.cluster_connections);
    requeue_all(context, &views.identities);
    requeue_all(context, &views.tokens);
    requeue_all(context, &views.revocations);
    requeue_all(context, &views.cluster_revocations);
}

/// Requeues the delayed objects as soon as a missing kind is known. Never returns.
async fn release_held_back(context: &Context) {
    let views = &context.views;
    let connections = async {
        views.cluster_connections.ready().await;
        requeue_all(context, &views.cluster_connections);
        requeue_all(context, &views.identities);
        requeue_all(context, &views.tokens);
    };
    let revocations = async {
        views.revocations.ready().await;
        requeue_all(context, &views.revocations);
    };
    let cluster_revocations = async {
        views.cluster_revocations.ready().await;
        requeue_all(context, &views.cluster_revocations);
    };
    tokio::join!(connections, revocations, cluster_revocations);
    std::future::pending::<()>().await;
}

fn requeue_all<K>(context: &Context, view: &View<K>)
where
    K: Packable,
    ObjectKey: From<ObjectRef<K>>,
{
    for object in view.refs(None) {
        context.requeue.send(object);
    }
}

/// Waits until a kind is known, or cannot be.
async fn or_missing<K>(health: &Health, view: &View<K>)
where
    K: Packable,
{
    let plural = K::plural(&());
    tokio::select! {
        () = view.ready() => {}
        () = health.is_missing(&plural) => {}
    }
}
