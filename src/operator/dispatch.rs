//! Dispatch of objects to their slices.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    cluster::{
        Error, Kind, ObjectKey,
        row::Packable,
        view::{View, object_ref},
    },
    connection,
    context::{Context, Views},
    crd::{AcsIdentity, Conditions, ConnectionKey, ConnectionKind, RECONCILING, Reason},
    engine::{Rested, Stored, write_status},
    identity, renewal, revocation, token,
};

/// Problem that is reported on an object in addition to what its own slice reports.
#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    /// The API server refuses the operator's writes to the object.
    WriteRefused,
    /// The operator cannot finish the reconciliation of the object.
    NoProgress,
}

impl Trouble {
    const fn reason(self) -> Reason {
        match self {
            Self::WriteRefused => Reason::WriteRefused,
            Self::NoProgress => Reason::NoProgress,
        }
    }
}

/// Number of the run without progress at which the problem is reported; the first is 0.
const TOLD_AFTER: i32 = 2;

/// Reconciles one object, of which `attempts` runs in a row have failed, and returns when to
/// requeue it. Writes that the API server refuses, and changes that others undo, are reported on
/// the object.
pub async fn reconcile(
    context: Arc<Context>,
    key: ObjectKey,
    attempts: i32,
) -> Result<Rested, Error> {
    let ended = dispatch(Arc::clone(&context), key.clone()).await;
    context.calls.give_back_turn(&key);
    match &ended {
        Err(error) if error.is_refusal() => {
            warn(&context, &key, Trouble::WriteRefused, &error.to_string()).await;
        }
        Ok(Rested::NoProgress(step)) if attempts == TOLD_AFTER => {
            let text = format!(
                "the operator repeated the same step without effect ({step}): an admission \
                 policy, another controller or another operator may revert it. The operator tries \
                 again with growing pauses"
            );
            warn(&context, &key, Trouble::NoProgress, &text).await;
        }
        _ => {}
    }
    ended
}

async fn warn(context: &Context, key: &ObjectKey, trouble: Trouble, text: &str) {
    let views = &context.views;
    match key.kind {
        Kind::Connection => warn_on(context, &views.connections, key, trouble, text).await,
        Kind::ClusterConnection => {
            warn_on(context, &views.cluster_connections, key, trouble, text).await;
        }
        Kind::Identity => warn_on(context, &views.identities, key, trouble, text).await,
        Kind::Token => warn_on(context, &views.tokens, key, trouble, text).await,
        Kind::Revocation => warn_on(context, &views.revocations, key, trouble, text).await,
        Kind::ClusterRevocation => {
            warn_on(context, &views.cluster_revocations, key, trouble, text).await;
        }
    }
}

/// Whether everything that the object depends on is known. While a kind cannot be listed, an object
/// of it that seems absent may only be unknown, and nothing may be decided from that.
fn is_known(views: &Views, key: &ObjectKey) -> bool {
    let uses_cluster = |identity: &AcsIdentity| {
        let kept = identity.status.as_ref();
        let kept = kept.and_then(|status| status.connection_ref.as_ref());
        let namespace = identity.namespace().unwrap_or_default();
        let named = identity.spec.connection_ref.as_ref();
        let all = ConnectionKey::candidates(named, kept, &namespace);
        // The former connection still counts the objects that remain on it.
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

/// Whether the first existing one of these connections may be a `ClusterAcsConnection`.
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

async fn warn_on<K: Stored + Packable>(
    context: &Context,
    view: &View<K>,
    key: &ObjectKey,
    trouble: Trouble,
    text: &str,
) {
    let Some(object) = view.get(&key.reference()) else {
        return;
    };
    context.warn(object.as_ref(), trouble.reason(), text).await;
    if trouble == Trouble::NoProgress
        && let Some(next) = with_no_progress(object.as_ref(), text, context.now())
    {
        // If this write is refused, too, the Event has already reported the problem.
        let _ = write_status(&*context.world, view, &next).await;
    }
}

/// Returns the object with a condition that reports the problem. The next run that rests removes
/// the condition.
fn with_no_progress<K: Stored>(object: &K, text: &str, now: Timestamp) -> Option<K> {
    let mut next = object.clone();
    let generation = object.meta().generation;
    let conditions = next.conditions_mut()?;
    let condition = Conditions {
        former: conditions,
        generation,
        now: renewal::whole_seconds(now),
    }
    .one(RECONCILING, true, Reason::NoProgress, text);
    if conditions.contains(&condition) {
        return None;
    }
    conditions.retain(|condition| condition.type_ != RECONCILING);
    conditions.push(condition);
    Some(next)
}

async fn dispatch(context: Arc<Context>, key: ObjectKey) -> Result<Rested, Error> {
    let views = &context.views;
    if !is_known(views, &key) {
        // The first list of the missing kind requeues the object.
        return Ok(Rested::Until(None));
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
