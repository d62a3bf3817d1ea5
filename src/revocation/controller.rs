use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use tracing::{info, warn};

use super::{
    decide::{self, Next},
    kinds::{AnyRevocation, namespace_of},
    observe::{first_sight, progress},
};
use crate::{
    cluster::{
        self,
        view::{View, object_ref},
    },
    context::Context,
    crd::{AcsIdentity, Conditions, Reason, RevocationStatus, Verdict},
    engine::{Rested, write_status},
    metrics::ReasonLabels,
    renewal,
};

/// Minimum time between two writes of the progress; the completion is written at once.
const TELLING: SignedDuration = SignedDuration::from_secs(2);
/// Interval at which the operator updates what a revocation waits for.
const LOOKING: SignedDuration = SignedDuration::from_secs(30);

/// Reconciles one revocation and returns when to requeue it.
pub async fn reconcile<R: AnyRevocation>(
    context: &Context,
    view: &View<R>,
    reference: ObjectRef<R>,
) -> Result<Rested, cluster::Error> {
    let Some(revocation) = view.get(&reference) else {
        return Ok(Rested::Until(None));
    };
    let now = context.now();
    let uid = revocation.uid().unwrap_or_default();
    let former = revocation.status().cloned().unwrap_or_default();
    let is_new = former.started_at.is_none();
    let is_of_others = is_new && context.cache.get(&uid).is_order_told;
    let is_leaving = revocation.meta().deletion_timestamp.is_some();
    if former.completed_at.is_some() || is_of_others || is_leaving {
        return Ok(Rested::Until(None));
    }
    let next = if is_new {
        let Some(seen) = first_sight(context, revocation.as_ref(), now).await? else {
            if !was_told(context, &uid) {
                elsewhere(context, revocation.as_ref()).await;
            }
            return Ok(Rested::Until(None));
        };
        decide::begin(&seen)
    } else {
        let Some(seen) = progress(context, revocation.as_ref(), now) else {
            return Ok(Rested::Until(None));
        };
        if !was_told(context, &uid) {
            requeue_targets(context, revocation.as_ref(), &RevocationStatus::default());
        }
        decide::go_on(&former, &seen)
    };
    let is_over = next.is_over();
    let with_conditions = with_conditions(revocation.as_ref(), &former, next.clone(), now);
    if with_conditions == former {
        return Ok(Rested::Until(Some(renewal::add(now, LOOKING))));
    }
    let told_at = context.cache.get(&uid).progress_told;
    let due = told_at.map(|told_at| renewal::add(told_at, TELLING));
    // A clock that was set back must not delay the progress.
    let due = due.filter(|due| *due > now && *due <= renewal::add(now, TELLING));
    if let (false, Some(due)) = (is_over, due) {
        return Ok(Rested::Until(Some(due)));
    }
    let revocation = revocation.with_status(with_conditions);
    write_status(&*context.world, view, &revocation).await?;
    context
        .cache
        .change(&uid, |cache| cache.progress_told = Some(now));
    report(context, &revocation, &next, is_new).await;
    if is_over {
        context.cache.forget(&uid);
        return Ok(Rested::Until(None));
    }
    was_told(context, &uid);
    requeue_targets(context, &revocation, &former);
    Ok(Rested::Until(Some(renewal::add(now, LOOKING))))
}

/// Returns the complete next status.
fn with_conditions<R: AnyRevocation>(
    revocation: &R,
    former: &RevocationStatus,
    next: Next,
    now: Timestamp,
) -> RevocationStatus {
    let generation = revocation.meta().generation;
    RevocationStatus {
        observed_generation: generation,
        conditions: Conditions {
            former: &former.conditions,
            generation,
            now: renewal::whole_seconds(now),
        }
        .for_verdict(&next.verdict),
        ..next.status
    }
}

/// Requeues the identities that have become open targets, once per process: from then on each of
/// them finds the revocation by itself.
fn requeue_targets<R: AnyRevocation>(context: &Context, revocation: &R, former: &RevocationStatus) {
    let own = revocation.namespace();
    let known: HashSet<_> = former.open_targets().map(|target| &target.uid).collect();
    let new = revocation
        .open_targets()
        .filter(|target| !known.contains(&target.uid));
    for target in new {
        let namespace = namespace_of(target, own.as_deref());
        let identity: ObjectRef<AcsIdentity> = object_ref(Some(namespace), &target.name);
        context.requeue.send(identity);
    }
}

/// Whether the identities were already requeued for the revocation; sets the mark.
fn was_told(context: &Context, uid: &str) -> bool {
    let mut was_told = false;
    context.cache.change(uid, |cache| {
        was_told = std::mem::replace(&mut cache.is_order_told, true);
    });
    was_told
}

async fn report<R: AnyRevocation>(context: &Context, revocation: &R, next: &Next, is_new: bool) {
    let message = next.verdict.message();
    if is_new && !next.is_over() {
        let total = next.status.total.unwrap_or(0);
        info!(total, "started a revocation");
        let note = format!("revoking all tokens of {total} identities");
        context
            .inform(revocation, Reason::RevocationStarted, note)
            .await;
    }
    if !next.is_over() {
        return;
    }
    let reason = next.verdict.reason();
    let kind: &'static str = if revocation.namespace().is_some() {
        "AcsRevocation"
    } else {
        "ClusterAcsRevocation"
    };
    if matches!(next.verdict, Verdict::Stalled { .. }) {
        warn!(%reason, message, "completed a revocation");
        context.warn(revocation, reason, message).await;
    } else {
        info!(%reason, message, "completed a revocation");
        if reason == Reason::Revoked {
            context
                .inform(revocation, Reason::RevocationCompleted, message)
                .await;
        }
    }
    let labels = ReasonLabels { kind, reason };
    context.metrics.revocations.get_or_create(&labels).inc();
}

/// Reports that a revocation selects no identity here; another operator may find some.
async fn elsewhere<R: AnyRevocation>(context: &Context, revocation: &R) {
    let note = format!(
        "this revocation selects no AcsIdentity in the namespaces that this operator watches ({})",
        context.config.watch_namespaces.join(", ")
    );
    info!(note);
    context
        .inform(revocation, Reason::NothingSelected, note)
        .await;
}
