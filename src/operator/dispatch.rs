//! Which slice looks at an object.

use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    cluster::{Error, Kind, ObjectKey},
    connection,
    context::Context,
    identity, revocation, token,
};

/// Looks at one object; when to look again.
pub async fn reconcile(context: Arc<Context>, key: ObjectKey) -> Result<Option<Timestamp>, Error> {
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
