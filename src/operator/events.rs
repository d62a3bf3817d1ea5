//! Entry of watch events: the objects that a change of another object affects.

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{ResourceExt, core::PartialObjectMeta, runtime::reflector::ObjectRef};

use crate::{
    cluster::{ObjectKey, index},
    consumers::ConsumerPod,
    context::Context,
    crd::{
        AcsIdentity, AcsToken, AnyConnection, ConnectionKey, DEFAULT_CONNECTION, TOKEN_UID_LABEL,
    },
    revocation::AnyRevocation,
};

/// Handles a connection that was created, changed or deleted. Its own run updates the counts in its
/// status; a changed credential requeues the users of the connection separately.
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
            // Identities may have waited for it, or it may have come too late for them.
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

/// Handles a revocation that was created, changed or deleted. It has no finalizer, so its cached
/// state is removed when it is deleted.
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

/// Handles a pod that was created, changed or deleted, if pods are counted.
pub fn pod_changed(context: &Context, pod: &ConsumerPod) {
    let namespace = pod.namespace().unwrap_or_default();
    for secret in pod.secrets() {
        let key = index::into_secret(&namespace, secret);
        for token in context.views.tokens.find_refs(&key) {
            context.requeue.send(token);
        }
    }
}

/// Handles a namespace that was created, changed or deleted.
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

/// Handles an identity that was created, changed or deleted.
pub fn identity_changed(context: &Context, identity: &AcsIdentity) {
    let reference = ObjectRef::from_obj(identity);
    context.requeue_tokens(&reference);
    context.requeue_revocations(&reference);
    let status = identity.status.as_ref();
    if let Some(id) = status.and_then(|status| status.identity_id.as_deref()) {
        // Includes the objects that wait for the id and do not have it in their status yet.
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

/// Handles a token that was created, changed or deleted.
pub fn token_changed(context: &Context, token: &AcsToken, is_there: bool) {
    let comes_or_goes = !is_there || token.finalizers().is_empty();
    let makes_room = !is_there || token.metadata.deletion_timestamp.is_some();
    if comes_or_goes {
        // This changes the count of the connection.
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
    // Tokens that name the same Secret may get it now, or have lost it.
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

/// Requeues the next tokens of an identity if the policy limits their number: a deleted token makes
/// room for another.
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

/// Handles a Secret with the operator's label that was created, changed or deleted.
pub fn secret_changed(context: &Context, secret: &PartialObjectMeta<Secret>) {
    let uid = secret.labels().get(TOKEN_UID_LABEL);
    let uid = uid.cloned().unwrap_or_default();
    let namespace = secret.namespace().unwrap_or_default();
    // Requeues its owner, and the tokens that want its name: it may have had another owner.
    for key in [
        index::of_token(&uid),
        index::into_secret(&namespace, &secret.name_any()),
    ] {
        for token in context.views.tokens.find_refs(&key) {
            context.requeue.send(token);
        }
    }
}
