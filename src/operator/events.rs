//! Where an event enters: which objects a change of another one concerns.

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{ResourceExt, core::PartialObjectMeta, runtime::reflector::ObjectRef};

use crate::{
    cluster::{ObjectKey, index},
    context::Context,
    crd::{
        AcsIdentity, AcsToken, AnyConnection, ConnectionKey, DEFAULT_CONNECTION, TOKEN_UID_LABEL,
    },
    revocation::AnyRevocation,
};

/// A connection came, changed or went. What its status counts is its own affair; a credential that
/// changed requeues its users by itself.
pub fn connection_changed(context: &Context, connection: &impl AnyConnection, is_there: bool) {
    let uid = connection.uid().unwrap_or_default();
    let generation = connection.meta().generation;
    let mut is_another_spec = false;
    context.cache.change(&uid, |cache| {
        is_another_spec = cache.generation != generation;
        cache.generation = generation;
    });
    context.requeue_connection(&connection.key());
    if is_another_spec || !is_there {
        context.requeue_users(&connection.key());
        let namespace = connection.namespace();
        if let (DEFAULT_CONNECTION, Some(namespace)) = (connection.name_any().as_str(), namespace) {
            // It may have been awaited, or come too late.
            let all = index::in_namespace(&namespace);
            for identity in context.views.identities.find_refs(&all) {
                context.requeue.send(identity);
            }
        }
    }
    if !is_there {
        context.cache.forget(&uid);
    }
}

/// A revocation came, changed or went. It has no finalizer: it is forgotten when it is gone.
pub fn revocation_changed<R>(context: &Context, revocation: &R, is_there: bool)
where
    R: AnyRevocation,
    ObjectKey: From<ObjectRef<R>>,
{
    if !is_there {
        let uid = revocation.uid().unwrap_or_default();
        context.cache.forget(&uid);
    }
    context.requeue.send(ObjectRef::from_obj(revocation));
}

/// A namespace came, changed or went.
pub fn namespace_changed(context: &Context, namespace: &PartialObjectMeta<Namespace>) {
    let key = index::in_namespace(&namespace.name_any());
    for identity in context.views.identities.find_refs(&key) {
        context.requeue_tokens(&identity);
        context.requeue.send(identity);
    }
    for token in context.views.tokens.find_refs(&key) {
        context.requeue.send(token);
    }
}

/// An identity came, changed or went.
pub fn identity_changed(context: &Context, identity: &AcsIdentity) {
    let reference = ObjectRef::from_obj(identity);
    context.requeue_tokens(&reference);
    context.requeue_revocations(&reference);
    let status = identity.status.as_ref();
    if let Some(id) = status.and_then(|status| status.identity_id.as_deref()) {
        // Also those that wait for the id and have no status of it yet.
        for sibling in context.views.identities.find_refs(&index::with_id(id)) {
            if sibling != reference {
                context.requeue_tokens(&sibling);
                context.requeue.send(sibling);
            }
        }
    }
    context.requeue_connections_of_identity(identity);
    context.requeue.send(reference);
}

/// A token came, changed or went.
pub fn token_changed(context: &Context, token: &AcsToken, is_there: bool) {
    let comes_or_goes = !is_there || token.finalizers().is_empty();
    let makes_room = !is_there || token.metadata.deletion_timestamp.is_some();
    if comes_or_goes {
        // That changes the connection's count.
        context.requeue_connections_of(token);
    }
    if let Some(identity) = token.identity_reference() {
        if makes_room {
            requeue_next_in_line(context, &identity);
        }
        context.requeue.send(identity);
    }
    if let Some(user) = token.spec.teams_user.as_ref().filter(|_| makes_room) {
        for other in context.views.tokens.find_refs(&index::of_user(user)) {
            context.requeue.send(other);
        }
    }
    // Whoever names the same Secret may have it now, or has lost it.
    let namespace = token.namespace().unwrap_or_default();
    for rival in context
        .views
        .tokens
        .find_refs(&index::into_secret(&namespace, &token.secret_name()))
    {
        context.requeue.send(rival);
    }
    context.requeue.send(ObjectRef::from_obj(token));
}

/// Where the policy lets an identity have so many tokens only, one that goes makes room.
fn requeue_next_in_line(context: &Context, identity: &ObjectRef<AcsIdentity>) {
    let Some(identity) = context.views.identities.get(identity) else {
        return;
    };
    let status = identity.status.clone().unwrap_or_default();
    let (Some(id), Some(used)) = (status.identity_id, status.connection_ref) else {
        return;
    };
    let key = ConnectionKey::from_reference(&used, &identity.namespace().unwrap_or_default());
    if context.token_policy(&key).max_tokens_per_identity.is_some() {
        for sibling in context.views.identities.find_refs(&index::with_id(&id)) {
            context.requeue_tokens(&sibling);
        }
    }
}

/// A Secret with our label came, changed or went.
pub fn secret_changed(context: &Context, secret: &PartialObjectMeta<Secret>) {
    let uid = secret.labels().get(TOKEN_UID_LABEL);
    let uid = uid.cloned().unwrap_or_default();
    let namespace = secret.namespace().unwrap_or_default();
    // Its owner, and those that want its name: it may have been another's.
    for key in [
        index::of_token(&uid),
        index::into_secret(&namespace, &secret.name_any()),
    ] {
        for token in context.views.tokens.find_refs(&key) {
            context.requeue.send(token);
        }
    }
}
