use kube::{ResourceExt, runtime::reflector::ObjectRef};
use tracing::warn;

use super::{
    report,
    resolve::{Found, resolve, resolve_secondary},
};
use crate::{
    cluster::{
        self, ObjectKey, index,
        input::{Follower, Presence, Role},
        row::Packable,
        view::View,
    },
    context::Context,
    crd::{AnyConnection, ConnectionKey, FINALIZER, SecretKeyRef, is_finalizer},
    credentials::Source,
    engine::{ApiRequest, Object, Rested, Stored, add_finalizer, keep_finalizers},
};

/// Reconciles one connection and returns when to requeue it.
pub async fn reconcile<C: AnyConnection + Stored + Packable>(
    context: &Context,
    view: &View<C>,
    reference: ObjectRef<C>,
) -> Result<Rested, cluster::Error> {
    let Some(connection) = view.get(&reference) else {
        return Ok(Rested::Until(None));
    };
    let key = connection.key();
    let is_used = context.views.identities.has(&index::of_connection(&key));
    let ours = context.finalizer_on(&key);
    let is_held = connection.finalizers().iter().any(|name| name == ours);

    if connection.meta().deletion_timestamp.is_some() {
        let deadline = context.deletion_deadline(connection.meta(), context.now());
        let is_overdue = context.now() >= deadline;
        let (released, kept) = released(context, connection.as_ref(), is_overdue);
        let is_last = kept.iter().all(|name| !is_finalizer(name));
        if released.is_empty() {
            return Ok(Rested::Until((!is_last).then_some(deadline)));
        }
        if !is_used || is_overdue {
            keep_finalizers(&*context.world, view, connection.as_ref(), kept, None).await?;
            context.world.unfollow(&follower(&key));
            let uid = connection.uid().unwrap_or_default();
            let uncount = |cache: &mut _| report::measure(context, cache, 0);
            context.cache.change(&uid, uncount);
            context.cache.forget(&uid);
            return Ok(Rested::Until((!is_last).then_some(deadline)));
        }
        resolve_if_changed(context, connection.as_ref(), &key).await?;
        report::deleting(context, view, connection.as_ref(), &key, deadline).await?;
        return Ok(Rested::Until(Some(deadline)));
    }
    resolve_if_changed(context, connection.as_ref(), &key).await?;
    if is_used && !is_held {
        add_finalizer(&*context.world, view, connection.as_ref(), ours).await?;
    }
    let Some(connection) = view.get(&reference) else {
        return Ok(Rested::Until(None));
    };
    let until = report::update_status(context, view, connection.as_ref(), &key).await?;
    Ok(Rested::Until(until))
}

/// Divides the finalizers of a connection into those that this release removes and the others.
/// Each release removes its own; the one that writes the status also removes that of a release for
/// all namespaces, which it may have been before. Once the deletion is overdue, all are removed: a
/// release may no longer exist.
fn released<C: AnyConnection>(
    context: &Context,
    connection: &C,
    is_overdue: bool,
) -> (Vec<String>, Vec<String>) {
    let key = connection.key();
    let ours = context.finalizer_on(&key);
    let leads = context.tells_of(&key);
    let finalizers = connection.finalizers().iter().cloned();
    finalizers.partition(|name| {
        name == ours || leads && name == FINALIZER || is_overdue && is_finalizer(name)
    })
}

/// Resolves the connection again if its spec or its Secrets have changed.
async fn resolve_if_changed<C: AnyConnection + Packable>(
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
    let presences = context.world.follow(namespace, &names, &follower(key));
    let versions = presences.into_iter().map(|presence| match presence {
        Presence::Unknown => None,
        Presence::Absent => Some(String::new()),
        Presence::At(version) => Some(version),
    });
    let versions: Option<Vec<_>> = versions.collect();
    let source = versions.map(|versions| Source {
        uid: connection.uid(),
        generation: connection.meta().generation,
        versions: versions.join("/"),
    });
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
    // A Secret that could not be read is read again in the next run.
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
        warn!(connection = %key, "the secondary key cannot be used: {}", why.message);
    }
    if context
        .registry
        .set(key, source, resolved, spare, connection.status())
    {
        context.requeue_users(key);
    }
    Ok(())
}

async fn read(context: &Context, namespace: &str, reference: &SecretKeyRef) -> Found {
    let request = ApiRequest::ReadSecret {
        namespace: namespace.to_owned(),
        name: reference.name.clone(),
    };
    match context.world.ask(request).await {
        Ok(Some(Object::Secret(secret))) => Found::from_secret(Some(*secret)),
        Ok(_) => Found::from_secret(None),
        Err(error) => Found::Unreadable(error.reason(), error.to_string()),
    }
}

fn follower(key: &ConnectionKey) -> Follower {
    Follower {
        key: ObjectKey::from(key),
        role: Role::Credential,
    }
}
