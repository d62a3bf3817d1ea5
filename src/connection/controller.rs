use std::sync::Arc;

use jiff::Timestamp;
use kube::{Api, ResourceExt, runtime::reflector::ObjectRef};
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::warn;

use super::{
    kinds::{AnyConnection, ConnectionKey},
    report,
    resolve::{Found, resolve, resolve_secondary},
};
use crate::{
    cluster::{
        self,
        control::{self, Stop},
        finalizer,
        input::{Follower, Presence},
        secret::Secrets,
        view::View,
    },
    context::Context,
    crd::{FINALIZER, SecretKeyRef},
};

/// Runs the controller of one kind of connection until `stop`.
pub async fn run<C: AnyConnection>(
    context: Arc<Context>,
    view: Arc<View<C>>,
    api: impl Fn(&ObjectRef<C>) -> Api<C> + Clone + Send + Sync + 'static,
    triggers: UnboundedReceiver<ObjectRef<C>>,
    stop: Stop,
) {
    let metrics = Arc::clone(&context.metrics);
    let reader = view.reader();
    control::run(reader, triggers, metrics, stop, move |key| {
        let api = api(&key);
        reconcile(Arc::clone(&context), Arc::clone(&view), api, key)
    })
    .await;
}

async fn reconcile<C: AnyConnection>(
    context: Arc<Context>,
    view: Arc<View<C>>,
    api: Api<C>,
    reference: ObjectRef<C>,
) -> Result<Option<Timestamp>, cluster::Error> {
    let Some(connection) = view.get(&reference) else {
        return Ok(None);
    };
    let key = connection.key();
    let users = context.views.identities.count(&key.index_key());
    let is_held = connection.finalizers().iter().any(|name| name == FINALIZER);

    if connection.meta().deletion_timestamp.is_some() {
        let deadline = context.deletion_deadline(connection.meta(), Timestamp::now());
        if !is_held {
            return Ok(None);
        }
        if users == 0 || Timestamp::now() >= deadline {
            finalizer::remove(&api, &view, connection.as_ref()).await?;
            context.inputs.unfollow(&Follower::Connection(key));
            let uid = connection.uid().unwrap_or_default();
            let uncount = |memory: &mut _| report::measure(&context, memory, 0);
            context.memory.change(&uid, uncount);
            context.memory.forget(&uid);
            return Ok(None);
        }
        look(&context, connection.as_ref(), &key).await?;
        return Ok(Some(deadline));
    }
    look(&context, connection.as_ref(), &key).await?;
    if users > 0 && !is_held {
        finalizer::add(&api, &view, connection.as_ref()).await?;
    }
    let Some(connection) = view.get(&reference) else {
        return Ok(None);
    };
    report::tell(&context, &view, &api, connection.as_ref(), &key, users).await
}

/// Resolves the connection anew, if its spec or its Secret has changed since.
async fn look<C: AnyConnection>(
    context: &Context,
    connection: &C,
    key: &ConnectionKey,
) -> Result<(), cluster::Error> {
    let first = connection.auth().secret_ref();
    let second = connection.auth().secondary_secret_ref();
    let namespace = key
        .namespace
        .as_deref()
        .unwrap_or(&context.config.cluster_resource_namespace);
    let names: Vec<_> = [first, second]
        .into_iter()
        .flatten()
        .map(|reference| reference.name.as_str())
        .collect();
    let follower = Follower::Connection(key.clone());
    let presences = context.inputs.follow(namespace, &names, &follower);
    let versions = presences.into_iter().map(|presence| match presence {
        Presence::Unknown => None,
        Presence::Absent => Some(String::new()),
        Presence::At(version) => Some(version),
    });
    let versions: Option<Vec<_>> = versions.collect();
    let source = versions.map(|versions| (connection.meta().generation, versions.join("/")));
    if source.is_some() && context.registry.source(key) == source {
        return Ok(());
    }
    let found = match first {
        Some(first) => read(context, namespace, first).await,
        None => Found::NotNeeded,
    };
    let resolved = resolve(context, connection, namespace, &found);
    if let Err(why) = &resolved {
        warn!(connection = %key, reason = %why.reason, "{}", why.message);
    }
    // What could not be read is read again at the next look.
    let mut source = source.filter(|_| !matches!(found, Found::Unreadable(..)));
    let mut spare = Ok(None);
    if let (Some(second), Ok(resolved)) = (second, &resolved) {
        let found = if first.is_some_and(|first| first.name == second.name) {
            found
        } else {
            read(context, namespace, second).await
        };
        source = source.filter(|_| !matches!(found, Found::Unreadable(..)));
        spare = resolve_secondary(second, resolved, namespace, &found).map(Some);
    }
    if let Err(why) = &spare {
        warn!(connection = %key, "the second key can't be used: {}", why.message);
    }
    if context
        .registry
        .set(key, source, resolved, spare, connection.status())
    {
        context.wake_users(key);
    }
    Ok(())
}

async fn read(context: &Context, namespace: &str, reference: &SecretKeyRef) -> Found {
    match Secrets::of(&context.client, namespace)
        .get(&reference.name)
        .await
    {
        Ok(secret) => Found::of(secret),
        Err(error) => Found::Unreadable(error.reason(), error.to_string()),
    }
}
