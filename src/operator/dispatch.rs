//! Which slice looks at an object.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    cluster::{
        Error, Kind, ObjectKey,
        view::{Indexed, View, object_ref},
    },
    connection,
    context::{Context, Views},
    crd::{AcsIdentity, ConnectionKey, ConnectionKind},
    engine::Stored,
    identity, revocation, token,
};

/// Looks at one object; when to look again. What the API server refuses to write is told on it.
pub async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Result<Option<Timestamp>, Error> {
    let ended = dispatch(Arc::clone(&context), key.clone()).await;
    context.calls.give_back_turn(&key);
    if let Err(error) = &ended
        && error.is_refusal()
    {
        let views = &context.views;
        let text = error.to_string();
        match key.kind {
            Kind::Connection => warn(&context, &views.connections, &key, &text).await,
            Kind::ClusterConnection => {
                warn(&context, &views.cluster_connections, &key, &text).await;
            }
            Kind::Identity => warn(&context, &views.identities, &key, &text).await,
            Kind::Token => warn(&context, &views.tokens, &key, &text).await,
            Kind::Revocation => warn(&context, &views.revocations, &key, &text).await,
            Kind::ClusterRevocation => {
                warn(&context, &views.cluster_revocations, &key, &text).await;
            }
        }
    }
    ended
}

/// Whether all is known that the object depends on. While a kind can't be listed, an object of it that
/// is absent may only be unknown, and nothing may be decided from that.
fn is_known(views: &Views, key: &ObjectKey) -> bool {
    let uses_cluster = |identity: &AcsIdentity| {
        let kept = identity.status.as_ref();
        let kept = kept.and_then(|status| status.connection_ref.as_ref());
        let namespace = identity.namespace().unwrap_or_default();
        let named = identity.spec.connection_ref.as_ref();
        let all = ConnectionKey::candidates(named, kept, &namespace);
        // What it used before still counts for what is left there.
        kept.is_some_and(|kept| kept.kind == ConnectionKind::ClusterAcsConnection)
            || may_be_of_cluster(views, &all)
    };
    let may_use_cluster = || match key.kind {
        Kind::Identity => views
            .identities
            .get(&key.reference())
            .is_some_and(|identity| uses_cluster(&identity)),
        Kind::Token => views.tokens.get(&key.reference()).is_some_and(|token| {
            let identity = token.identity_reference();
            let identity = identity.and_then(|identity| views.identities.get(&identity));
            let is_of_user = token.spec.teams_user.is_some();
            identity.is_some_and(|identity| uses_cluster(&identity))
                || is_of_user && may_be_of_cluster(views, &token.connections())
        }),
        _ => false,
    };
    match key.kind {
        Kind::Connection => true,
        Kind::ClusterConnection => views.cluster_connections.is_ready(),
        Kind::Revocation => views.revocations.is_ready(),
        Kind::ClusterRevocation => views.cluster_revocations.is_ready(),
        Kind::Identity | Kind::Token => views.cluster_connections.is_ready() || !may_use_cluster(),
    }
}

/// Whether the first of the connections that is there may be a `ClusterAcsConnection`.
fn may_be_of_cluster(views: &Views, connections: &[ConnectionKey]) -> bool {
    let is_there = |key: &ConnectionKey| {
        let reference = object_ref(key.namespace.as_deref(), &key.name);
        views.connections.get(&reference).is_some()
    };
    let first = connections
        .iter()
        .find(|key| key.kind == ConnectionKind::ClusterAcsConnection || is_there(key));
    first.is_some_and(|key| key.kind == ConnectionKind::ClusterAcsConnection)
}

async fn warn<K: Stored + Indexed>(context: &Context, view: &View<K>, key: &ObjectKey, text: &str) {
    if let Some(object) = view.get(&key.reference()) {
        context.warn(object.as_ref(), "WriteRefused", text).await;
    }
}

async fn dispatch(context: Arc<Context>, key: ObjectKey) -> Result<Option<Timestamp>, Error> {
    let views = &context.views;
    if !is_known(views, &key) {
        // Its first list requeues it.
        return Ok(None);
    }
    match key.kind {
        Kind::Connection => {
            connection::reconcile(&context, &views.connections, key.reference()).await
        }
        Kind::ClusterConnection => {
            connection::reconcile(&context, &views.cluster_connections, key.reference()).await
        }
        Kind::Identity => identity::reconcile(Arc::clone(&context), key.reference()).await,
        Kind::Token => token::reconcile(Arc::clone(&context), key.reference()).await,
        Kind::Revocation => {
            revocation::reconcile(&context, &views.revocations, key.reference()).await
        }
        Kind::ClusterRevocation => {
            revocation::reconcile(&context, &views.cluster_revocations, key.reference()).await
        }
    }
}
