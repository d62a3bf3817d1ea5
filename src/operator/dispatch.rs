//! Which slice looks at an object.

use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    cluster::{
        Error, Kind, ObjectKey,
        view::{Indexed, View},
    },
    connection,
    context::Context,
    engine::Stored,
    identity, revocation, token,
};

/// Looks at one object; when to look again. What the API server refuses to write is told on it.
pub async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Result<Option<Timestamp>, Error> {
    let ended = dispatch(Arc::clone(&context), key.clone()).await;
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

async fn warn<K: Stored + Indexed>(context: &Context, view: &View<K>, key: &ObjectKey, text: &str) {
    if let Some(object) = view.get(&key.reference()) {
        context.warn(object.as_ref(), "WriteRefused", text).await;
    }
}

async fn dispatch(context: Arc<Context>, key: ObjectKey) -> Result<Option<Timestamp>, Error> {
    let views = &context.views;
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
