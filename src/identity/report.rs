use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use tracing::warn;

use super::{act, decide::Decision};
use crate::{
    acs,
    cluster::{self, status},
    context::Context,
    crd::{AcsIdentity, AcsIdentityStatus, Conditions, LastFailure, Verdict},
    metrics::{KindLabels, ReasonLabels},
    renewal,
};

/// Tells the decision of a run that rests, if it says something new (K4).
pub async fn rest(
    context: &Context,
    identity: &AcsIdentity,
    decision: &Decision,
) -> Result<(), cluster::Error> {
    let Some(verdict) = &decision.verdict else {
        return Ok(());
    };
    write(
        context,
        identity,
        identity.status.clone().unwrap_or_default(),
        Some(verdict),
    )
    .await
}

/// Writes `next`, which a call has just led to: nothing has failed since.
pub async fn ready(
    context: &Context,
    identity: &AcsIdentity,
    mut next: AcsIdentityStatus,
) -> Result<(), cluster::Error> {
    next.failed_attempts = None;
    next.last_failure = None;
    context
        .memory
        .change(&identity.uid().unwrap_or_default(), |memory| {
            memory.not_before = None;
        });
    let verdict = Verdict::ready("IdentityReady", "the identity exists in ACS");
    let is_live = identity.metadata.deletion_timestamp.is_none();
    write(context, identity, next, is_live.then_some(&verdict)).await
}

/// Writes `next` and that a call failed: durable, so that the pause before the next try survives us.
pub async fn failed(
    context: &Context,
    identity: &AcsIdentity,
    mut next: AcsIdentityStatus,
    error: &acs::Error,
) -> Result<(), cluster::Error> {
    let now = Timestamp::now();
    let (reason, message) = (error.reason(), error.to_string());
    warn!(
        reason,
        error = message,
        ms_cv = error.ms_cv(),
        "a call to ACS failed"
    );
    let labels = ReasonLabels {
        kind: "AcsIdentity",
        reason: reason.to_owned(),
    };
    context.metrics.failures.get_or_create(&labels).inc();
    context
        .memory
        .change(&identity.uid().unwrap_or_default(), |memory| {
            memory.not_before = error.retry_after().map(|wait| renewal::add(now, wait));
        });
    let is_same_spec = next.observed_generation == identity.metadata.generation;
    let former = next.failed_attempts.filter(|_| is_same_spec).unwrap_or(0);
    let is_news = next
        .last_failure
        .as_ref()
        .is_none_or(|failure| failure.reason != reason);
    next.failed_attempts = Some(former.saturating_add(1));
    next.last_failure = Some(LastFailure {
        time: Time(renewal::whole_seconds(now)),
        reason: reason.to_owned(),
        message: message.clone(),
    });
    next.observed_generation = identity.metadata.generation;
    write(context, identity, next, None).await?;
    if is_news {
        context
            .events
            .warning(identity, "CallFailed", message)
            .await;
    }
    Ok(())
}

async fn write(
    context: &Context,
    identity: &AcsIdentity,
    mut next: AcsIdentityStatus,
    verdict: Option<&Verdict>,
) -> Result<(), cluster::Error> {
    let former = identity.status.clone().unwrap_or_default();
    if let Some(verdict) = verdict {
        let generation = identity.metadata.generation;
        let now = renewal::whole_seconds(Timestamp::now());
        next.conditions = Conditions {
            former: &former.conditions,
            generation,
            now,
        }
        .of(verdict);
        next.observed_generation = generation;
    }
    if next == former {
        return Ok(());
    }
    let object = AcsIdentity {
        status: Some(next),
        ..identity.clone()
    };
    status::write(
        &act::api(context, identity),
        &context.views.identities,
        &object,
    )
    .await
}

/// Tells that a create call may have left an identity that nobody can find (I1).
pub async fn unknown_create(context: &Context, identity: &AcsIdentity) {
    context.metrics.unknown_creates.inc();
    let note = "a call that creates the identity got no answer: it may have left an identity \
                without tokens in ACS that nobody can find; status.unknownCreates counts them";
    warn!(note);
    context
        .events
        .warning(identity, "UnknownCreate", note)
        .await;
}

/// Tells that all tokens of the identity were revoked, and why.
pub async fn revoked(context: &Context, identity: &AcsIdentity, reason: &str) {
    let note =
        format!("all tokens of the identity were revoked ({reason}); those in use are made anew");
    context.events.normal(identity, "TokensRevoked", note).await;
}

/// Tells what is left behind in ACS.
pub async fn abandoned(context: &Context, identity: &AcsIdentity, why: &str) {
    let namespace = identity.namespace().unwrap_or_default();
    let status = identity.status.clone().unwrap_or_default();
    let message = format!(
        "AcsIdentity {namespace}/{} was let go and {} stays behind at {}: {why}",
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
    context.tell_abandoned(identity, &namespace, &message).await;
}
