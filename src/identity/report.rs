use kube::ResourceExt;
use tracing::warn;

use super::{
    act,
    decide::{Decision, OTHER_DEFAULT},
    next_status,
};
use crate::{
    acs, cluster,
    context::Context,
    crd::{
        AcsIdentity, AcsIdentityStatus, ConnectionKind, ConnectionRef, POLICY_GRACE, REQUEST,
        REQUESTED_AT, Reason,
    },
    metrics::{KindLabels, ReasonLabels},
    renewal,
    revocation::RevocationRef,
};

/// Writes the status of a run that rests, if anything changes (K4).
pub async fn rest(
    context: &Context,
    identity: &AcsIdentity,
    decision: &Decision,
) -> Result<(), cluster::Error> {
    let next = next_status::rested(identity, decision, context.now());
    let since = |status: Option<&AcsIdentityStatus>| status?.denied_since.clone();
    let is_first = since(identity.status.as_ref()).is_none();
    let denied = since(next.as_ref()).filter(|_| is_first);
    let says_other_default = |status: Option<&AcsIdentityStatus>| {
        let mut conditions = status.into_iter().flat_map(|status| &status.conditions);
        conditions.any(|condition| condition.message.ends_with(OTHER_DEFAULT))
    };
    let is_late =
        says_other_default(next.as_ref()) && !says_other_default(identity.status.as_ref());
    write(context, identity, next).await?;
    if is_late {
        context
            .warn(identity, Reason::DefaultConnectionAppeared, OTHER_DEFAULT)
            .await;
    }
    if let (Some(since), Some(verdict)) = (denied, &decision.verdict) {
        let end = renewal::add(since.0, POLICY_GRACE);
        let note = format!(
            "{}; no token is issued any more, and the tokens of this identity are revoked at {end}",
            verdict.message()
        );
        warn!(note);
        context.warn(identity, Reason::PolicyDenied, note).await;
    }
    Ok(())
}

/// Writes the status `next` after a successful call, without the last failure.
pub async fn ready(
    context: &Context,
    identity: &AcsIdentity,
    next: AcsIdentityStatus,
) -> Result<(), cluster::Error> {
    context
        .cache
        .change(&identity.uid().unwrap_or_default(), |cache| {
            cache.retry_after = None;
        });
    write(
        context,
        identity,
        next_status::ready(identity, next, context.is_missing(identity), context.now()),
    )
    .await
}

/// Writes the status `next` with a failed call. The failure is stored, so that the backoff survives
/// a restart of the operator.
pub async fn failed(
    context: &Context,
    identity: &AcsIdentity,
    next: AcsIdentityStatus,
    error: &acs::Error,
) -> Result<(), cluster::Error> {
    let now = context.now();
    let (reason, message) = (Reason::from(error.kind()), error.to_string());
    warn!(
        %reason,
        error = message,
        ms_cv = error.ms_cv(),
        "a call to ACS failed"
    );
    let labels = ReasonLabels {
        kind: "AcsIdentity",
        reason,
    };
    context.metrics.failures.get_or_create(&labels).inc();
    context
        .cache
        .change(&identity.uid().unwrap_or_default(), |cache| {
            cache.retry_after = error.retry_after().map(|wait| (now, wait));
        });
    let is_changed = next
        .last_failure
        .as_ref()
        .is_none_or(|failure| failure.reason() != reason);
    let next = next_status::failed(identity, next, reason, &message, now);
    write(context, identity, next).await?;
    if is_changed {
        context.warn(identity, Reason::CallFailed, message).await;
    }
    Ok(())
}

async fn write(
    context: &Context,
    identity: &AcsIdentity,
    next: Option<AcsIdentityStatus>,
) -> Result<(), cluster::Error> {
    match next {
        Some(next) => act::write(context, identity, next).await,
        None => Ok(()),
    }
}

/// Reports that an identity without a connection in its spec uses the `ClusterAcsConnection`. It
/// keeps that connection until it is deleted.
pub async fn fallback(
    context: &Context,
    identity: &AcsIdentity,
    reference: &ConnectionRef,
    endpoint: &str,
) {
    let is_first = identity
        .status
        .as_ref()
        .is_none_or(|it| it.connection_ref.is_none());
    let is_of_cluster = reference.kind == ConnectionKind::ClusterAcsConnection;
    if identity.spec.connection_ref.is_none() && is_of_cluster && is_first {
        let note = format!(
            "spec.connectionRef is not set and this namespace has no AcsConnection named default: \
             this identity uses ClusterAcsConnection {} at {endpoint} for its whole life",
            reference.name
        );
        context
            .inform(identity, Reason::ClusterDefaultUsed, note)
            .await;
    }
}

/// Warns that a create call may have left an identity with an unknown id (I1).
pub async fn unknown_create(context: &Context, identity: &AcsIdentity) {
    context.metrics.unknown_creates.inc();
    let note = "a call to create the identity got no answer: it may have left an identity without \
     tokens in ACS that cannot be found; status.unknownCreates counts such calls";
    warn!(note);
    context.warn(identity, Reason::UnknownCreate, note).await;
}

/// Reports that all tokens of the identity were revoked, and why.
pub async fn revoked(
    context: &Context,
    identity: &AcsIdentity,
    reason: &str,
    ordered_by: &[RevocationRef],
) {
    let orders: Vec<_> = ordered_by.iter().map(|it| it.named.as_str()).collect();
    let orders = if orders.is_empty() {
        String::new()
    } else {
        format!(", for {}", orders.join(", "))
    };
    let note = format!(
        "all tokens of the identity were revoked ({reason}{orders}); tokens in use are issued again"
    );
    context.inform(identity, Reason::TokensRevoked, note).await;
}

/// Warns about a request that the operator does not know.
pub async fn refused(context: &Context, identity: &AcsIdentity) {
    let note = format!(
        "{REQUESTED_AT} alone is not a request that an AcsIdentity handles; to revoke all its \
         tokens, set {REQUEST}: revoke and a new value of {REQUESTED_AT}"
    );
    warn!(note);
    context.warn(identity, Reason::UnknownRequest, note).await;
}

/// Warns about what is left behind in ACS.
pub async fn abandoned(context: &Context, identity: &AcsIdentity, why: &str) {
    let namespace = identity.namespace().unwrap_or_default();
    let status = identity.status.clone().unwrap_or_default();
    let message = format!(
        "AcsIdentity {namespace}/{} was released and {} remains at {}: {why}",
        identity.name_any(),
        status
            .identity_id
            .as_deref()
            .unwrap_or("an identity of unknown id"),
        status.endpoint.as_deref().unwrap_or("an unknown endpoint"),
    );
    warn!(message);
    context
        .metrics
        .abandoned
        .get_or_create(&KindLabels {
            kind: "AcsIdentity",
        })
        .inc();
    context.warn_abandoned(identity, &namespace, &message).await;
}
