//! Holds back the runs of objects that may use a `ClusterAcsConnection` while those can't be listed:
//! a connection that is absent may only be unknown, and nothing may be decided from that.

use std::{collections::HashSet, pin::pin, sync::Arc};

use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::{
    cluster::view::object_ref,
    connection::ConnectionKey,
    context::Context,
    crd::{AcsIdentity, AcsToken, ConnectionKind},
    token,
};

/// Returns the triggers that may run now. The others follow when all `ClusterAcsConnection`s are
/// known.
pub fn until_connections_are_known<K>(
    context: &Arc<Context>,
    mut triggers: UnboundedReceiver<ObjectRef<K>>,
    may_use_cluster: fn(&Context, &ObjectRef<K>) -> bool,
) -> UnboundedReceiver<ObjectRef<K>>
where
    K: kube::Resource<DynamicType = ()> + 'static,
{
    let context = Arc::clone(context);
    let (send, receive) = unbounded_channel();
    tokio::spawn(async move {
        let mut held = HashSet::new();
        let mut known = pin!(context.views.cluster_connections.ready());
        loop {
            tokio::select! {
                biased;
                () = &mut known => break,
                key = triggers.recv() => match key {
                    Some(key) if may_use_cluster(&context, &key) => {
                        held.insert(key);
                    }
                    // A closed channel means that the process is ending.
                    Some(key) => {
                        let _ = send.send(key);
                    }
                    None => return,
                },
            }
        }
        for key in held {
            let _ = send.send(key);
        }
        while let Some(key) = triggers.recv().await {
            let _ = send.send(key);
        }
    });
    receive
}

/// Whether an identity may use a `ClusterAcsConnection`.
#[must_use]
pub fn identity_may_use_cluster(context: &Context, key: &ObjectRef<AcsIdentity>) -> bool {
    let Some(identity) = context.views.identities.get(key) else {
        return false;
    };
    let kept = identity.status.as_ref();
    let candidates = ConnectionKey::candidates(
        identity.spec.connection_ref.as_ref(),
        kept.and_then(|status| status.connection_ref.as_ref()),
        &identity.namespace().unwrap_or_default(),
    );
    // What it used before still counts for what is left there.
    let used = kept.and_then(|status| status.connection_ref.as_ref());
    used.is_some_and(|used| used.kind == ConnectionKind::ClusterAcsConnection)
        || one_is_of_cluster(context, &candidates)
}

/// Whether a token, or its identity, may use a `ClusterAcsConnection`.
#[must_use]
pub fn token_may_use_cluster(context: &Context, key: &ObjectRef<AcsToken>) -> bool {
    let Some(token) = context.views.tokens.get(key) else {
        return false;
    };
    match token::identity_of(&token) {
        Some(identity) => identity_may_use_cluster(context, &identity),
        None => one_is_of_cluster(context, &token::connections(&token)),
    }
}

/// Whether one of the candidates, the first first, is a `ClusterAcsConnection` and none before it
/// exists.
fn one_is_of_cluster(context: &Context, candidates: &[ConnectionKey]) -> bool {
    let exists = |key: &ConnectionKey| {
        let reference = object_ref(key.namespace.as_deref(), &key.name);
        context.views.connections.get(&reference).is_some()
    };
    let mut candidates = candidates.iter();
    let first = candidates.find(|key| match key.kind {
        ConnectionKind::AcsConnection => exists(key),
        ConnectionKind::ClusterAcsConnection => true,
    });
    first.is_some_and(|key| key.kind == ConnectionKind::ClusterAcsConnection)
}
