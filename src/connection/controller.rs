use std::sync::Arc;

use jiff::Timestamp;
use kube::{Api, ResourceExt, runtime::reflector::ObjectRef};
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::warn;

use super::{
    kinds::{AnyConnection, ConnectionKey},
    report,
    resolve::{Found, resolve},
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
    let namespace = key
        .namespace
        .as_deref()
        .unwrap_or(&context.config.cluster_resource_namespace);
    let follower = Follower::Connection(key.clone());
    let reference = connection.auth().secret_ref();
    let presence = if let Some(reference) = reference {
        context.inputs.follow(namespace, &reference.name, &follower)
    } else {
        context.inputs.unfollow(&follower);
        Presence::Absent
    };
    let version = match presence {
        Presence::Unknown => None,
        Presence::Absent => Some(String::new()),
        Presence::At(version) => Some(version),
    };
    let source = version.map(|version| (connection.meta().generation, version));
    if source.is_some() && context.registry.source(key) == source {
        return Ok(());
    }
    let found = match reference {
        Some(reference) => read(context, namespace, reference).await,
        None => Found::NotNeeded,
    };
    let resolved = resolve(context, connection, namespace, &found);
    if let Err(why) = &resolved {
        warn!(connection = %key, reason = %why.reason, "{}", why.message);
    }
    // What could not be read is read again at the next look.
    let source = source.filter(|_| !matches!(found, Found::Unreadable(..)));
    if context
        .registry
        .set(key, source, resolved, connection.status())
    {
        context.wake_users(key);
    }
    Ok(())
}

async fn read(context: &Context, namespace: &str, reference: &SecretKeyRef) -> Found {
    match Secrets::of(&context.client, namespace)
        .data(&reference.name)
        .await
    {
        Ok(Some(data)) => Found::Data(data),
        Ok(None) => Found::Missing,
        Err(error) => Found::Unreadable(error.reason(), error.to_string()),
    }
}
