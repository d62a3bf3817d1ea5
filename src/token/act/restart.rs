//! Restart of a workload.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use tracing::{info, warn};

use crate::{
    cluster,
    context::Context,
    crd::{AcsToken, RESTARTED_AT, Reason, RolloutRestartStatus, WorkloadKey},
    engine::{ApiRequest, Object, StepOutcome, Workload},
    metrics::ReasonLabels,
    token::{
        report,
        restart::{Judgement, Restart, is_undone, judge},
    },
};

/// Reads the workload and restarts it if that is needed. One workload per run, so that a call that
/// hangs delays the token by one call only.
pub(super) async fn restart(
    context: &Arc<Context>,
    token: &AcsToken,
    due: &Restart,
) -> Result<StepOutcome, cluster::Error> {
    let workload = WorkloadKey {
        namespace: token.namespace().unwrap_or_default(),
        kind: due.done.kind,
        name: due.done.name.clone(),
    };
    let cache = &context.cache;
    let read = context
        .world
        .ask(ApiRequest::ReadWorkload(workload.clone()));
    let found = match read.await {
        Ok(Some(Object::Workload(found))) => found,
        Ok(_) => {
            let text = format!("{} does not exist in this namespace", named(due));
            return not_restarted(context, token, due, &text, true).await;
        }
        Err(error) => return failed(context, token, due, &workload, error).await,
    };
    match judge(&found, due.since, context.now()) {
        Judgement::Rereads => {
            report(context, token, due, &due.done).await?;
        }
        Judgement::IsRestarted(at) => {
            cache.remember_restart(&workload, context.now(), Some(at));
            let restarted_at = Some(Time(at));
            let reported = RolloutRestartStatus {
                restarted_at,
                ..due.done.clone()
            };
            report(context, token, due, &reported).await?;
        }
        Judgement::TooSoon(at) => {
            cache.remember_restart(&workload, at, Some(at));
        }
        Judgement::Restart(at) => {
            // Whatever the result, the next attempt is five minutes later.
            cache.remember_restart(&workload, context.now(), None);
            let request = ApiRequest::RestartWorkload {
                workload: workload.clone(),
                version: found.version.clone(),
                at,
            };
            match context.world.ask(request).await {
                Ok(_) => {
                    cache.remember_restart(&workload, context.now(), Some(at));
                    restarted(context, token, due, &found, Time(at)).await?;
                }
                Err(error) => return failed(context, token, due, &workload, error).await,
            }
        }
    }
    Ok(StepOutcome::Rest(Some(context.now())))
}

/// Name of the workload in messages, such as `Deployment web`.
fn named(due: &Restart) -> String {
    format!("{} {}", due.done.kind.as_str(), due.done.name)
}

async fn restarted(
    context: &Context,
    token: &AcsToken,
    due: &Restart,
    found: &Workload,
    at: Time,
) -> Result<(), cluster::Error> {
    let workload = named(due);
    let message = is_undone(found, &due.now).then(|| {
        format!(
            "another writer removed the annotation {RESTARTED_AT} of the last restart from the \
             pod template of {workload}, which replaces the pods once more; configure the tool \
             that deploys the workload to ignore this annotation"
        )
    });
    let reported = RolloutRestartStatus {
        restarted_at: Some(at),
        message,
        ..due.done.clone()
    };
    count(context, due, Reason::WorkloadRestarted);
    info!(workload, why = due.why, "restarted a workload");
    report(context, token, due, &reported).await?;
    let note = format!("restarted {workload}, because {}", due.why);
    context.inform(token, Reason::WorkloadRestarted, note).await;
    Ok(())
}

/// Handles a failed read or restart. A call that the API server refuses is not repeated before the
/// next cause; one that failed is repeated after five minutes.
async fn failed(
    context: &Context,
    token: &AcsToken,
    due: &Restart,
    workload: &WorkloadKey,
    error: cluster::Error,
) -> Result<StepOutcome, cluster::Error> {
    if matches!(error, cluster::Error::Withheld) {
        return Err(error);
    }
    if error.is_conflict() {
        // The API server has changed nothing.
        context.cache.forget_try(workload);
        return Ok(StepOutcome::Overtaken);
    }
    let cache = &context.cache;
    cache.remember_restart(workload, context.now(), None);
    let is_final = error.is_refusal() || error.is_not_found();
    not_restarted(context, token, due, &error.to_string(), is_final).await
}

async fn not_restarted(
    context: &Context,
    token: &AcsToken,
    due: &Restart,
    text: &str,
    is_final: bool,
) -> Result<StepOutcome, cluster::Error> {
    count(context, due, Reason::WorkloadNotRestarted);
    let reported = RolloutRestartStatus {
        message: Some(text.to_owned()),
        ..if is_final { &due.done } else { &due.now }.clone()
    };
    warn!(
        workload = named(due),
        error = text,
        "a workload was not restarted"
    );
    report(context, token, due, &reported).await?;
    Ok(StepOutcome::Rest(Some(context.now())))
}

/// Writes the status, and an Event if its message is new.
async fn report(
    context: &Context,
    token: &AcsToken,
    due: &Restart,
    reported: &RolloutRestartStatus,
) -> Result<(), cluster::Error> {
    report::restarted(context, token, reported).await?;
    if let Some(message) = reported
        .message
        .as_ref()
        .filter(|it| Some(*it) != due.now.message.as_ref())
    {
        let note = format!("{message} (a restart is due because {})", due.why);
        context
            .warn(token, Reason::WorkloadNotRestarted, note)
            .await;
    }
    Ok(())
}

fn count(context: &Context, due: &Restart, reason: Reason) {
    let labels = ReasonLabels {
        kind: due.done.kind.as_str(),
        reason,
    };
    context
        .metrics
        .rollout_restarts
        .get_or_create(&labels)
        .inc();
}
