use std::sync::Arc;

use jiff::SignedDuration;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use tracing::{info, warn};

use super::{decide::Decision, next_status, restart, wanted};
use crate::{
    cache::Rewrites,
    cluster,
    context::Context,
    crd::{
        AcsToken, AcsTokenStatus, POLICY_GRACE, REQUEST, REQUESTED_AT, Reason,
        RolloutRestartStatus, TokenRecord, WrittenSecret, parse_duration,
    },
    engine::write_status,
    metrics::{KindLabels, ReasonLabels},
    renewal,
};

/// Writes the status of a run that rests, if anything changes (K4).
pub async fn rest(
    context: &Context,
    token: &AcsToken,
    decision: &Decision,
) -> Result<(), cluster::Error> {
    if token.metadata.deletion_timestamp.is_some() && context.is_terminating(&namespace(token)) {
        // The object is about to be deleted with its namespace; nobody reads its status.
        return Ok(());
    }
    let next = next_status::rested(token, decision, context.now());
    let since = |status: Option<&AcsTokenStatus>| status?.denied_since.clone();
    let is_first = since(token.status.as_ref()).is_none();
    let denied = since(next.as_ref()).filter(|_| is_first);
    let restarts_nothing =
        restart::is_switched_off(next.as_ref()) && !restart::is_switched_off(token.status.as_ref());
    let consumers = |status: Option<&AcsTokenStatus>| status?.consumers;
    let is_counted = next.is_some() && consumers(next.as_ref()) != consumers(token.status.as_ref());
    write(context, token, next).await?;
    if is_counted {
        let uid = token.uid().unwrap_or_default();
        let now = context.now();
        context
            .cache
            .change(&uid, |cache| cache.counted = Some(now));
    }
    if restarts_nothing {
        let note = format!(
            "spec.rolloutRestart has no effect: {}",
            restart::SWITCHED_OFF
        );
        context
            .warn(token, Reason::RolloutRestartDisabled, note)
            .await;
    }
    if let (Some(since), Some(verdict)) = (denied, &decision.verdict) {
        let end = renewal::add(since.0, POLICY_GRACE);
        let note = format!(
            "{}; the token is not renewed, and its Secret is deleted at {end}",
            verdict.message()
        );
        warn!(note);
        context.warn(token, Reason::PolicyDenied, note).await;
    }
    Ok(())
}

/// Records the token of the Secret in the status.
pub async fn record(
    context: &Context,
    token: &AcsToken,
    record: &TokenRecord,
) -> Result<(), cluster::Error> {
    let uid = token.uid().unwrap_or_default();
    context.cache.change(&uid, |cache| cache.retry_after = None);
    let read = context.cache.get(&uid).secret;
    let read = read.filter(|read| {
        let is_it = read.name == token.secret_name() && !read.is_immutable;
        is_it && read.fingerprint.as_ref() == Some(&record.fingerprint)
    });
    let secret = read.map(|read| WrittenSecret {
        resource_version: read.version.clone(),
        digest: read.digest.clone(),
    });
    let next = next_status::recorded(token, record, secret.clone(), context.now());
    write(context, token, next).await?;
    // CRDs of an earlier release do not have the field, and the API server drops it.
    let reported = context.views.tokens.get(&ObjectRef::from_obj(token));
    let reported = reported.and_then(|token| token.status.as_ref()?.written_secret.clone());
    if reported.is_some() && reported == secret {
        // From now on the status keeps the value, also across a restart.
        context.cache.change(&uid, |cache| cache.secret = None);
    }
    Ok(())
}

/// Records that no token could be issued. The failure is stored, so that the backoff survives a
/// restart of the operator.
pub async fn failed(
    context: &Context,
    token: &AcsToken,
    reason: Reason,
    message: &str,
    retry_after: Option<SignedDuration>,
) -> Result<(), cluster::Error> {
    let now = context.now();
    warn!(%reason, error = message, "a token could not be issued");
    let labels = ReasonLabels {
        kind: "AcsToken",
        reason,
    };
    context.metrics.failures.get_or_create(&labels).inc();
    context
        .cache
        .change(&token.uid().unwrap_or_default(), |cache| {
            cache.retry_after = retry_after.map(|wait| (now, wait));
        });
    let is_changed = token
        .status
        .as_ref()
        .and_then(|status| status.last_failure.as_ref())
        .is_none_or(|failure| failure.reason() != reason);
    write(
        context,
        token,
        next_status::failed(token, reason, message, now),
    )
    .await?;
    if is_changed {
        context.warn(token, Reason::IssueFailed, message).await;
    }
    Ok(())
}

/// Writes the result of a workload restart to the status, if it has changed.
pub async fn restarted(
    context: &Context,
    token: &AcsToken,
    restart: &RolloutRestartStatus,
) -> Result<(), cluster::Error> {
    let next = next_status::restarted(token, restart, context.now());
    write(context, token, next).await
}

/// Records a request that the operator does not know, with an Event.
pub async fn refused(
    context: &Context,
    token: &AcsToken,
    request: &str,
) -> Result<(), cluster::Error> {
    write(
        context,
        token,
        next_status::refused(token, request, context.now()),
    )
    .await?;
    let note = format!(
        "{REQUESTED_AT} together with this {REQUEST} is not a request that an AcsToken handles. \
         Remove {REQUEST} to request a renewal; to revoke tokens, annotate the AcsIdentity"
    );
    warn!(note);
    context.warn(token, Reason::UnknownRequest, note).await;
    Ok(())
}

async fn write(
    context: &Context,
    token: &AcsToken,
    next: Option<AcsTokenStatus>,
) -> Result<(), cluster::Error> {
    if next.is_none() {
        return Ok(());
    }
    let object = AcsToken {
        status: next,
        ..token.clone()
    };
    write_status(&*context.world, &context.views.tokens, &object).await?;
    if is_counted_anew(token, &object) {
        context.requeue_connections_of(&object);
    }
    Ok(())
}

/// Whether a connection has one more token to count, or one less that a former credential issued.
fn is_counted_anew(former: &AcsToken, token: &AcsToken) -> bool {
    let (former, reported) = (former.status.as_ref(), token.status.as_ref());
    let credential = |status: Option<&AcsTokenStatus>| status?.credential.clone();
    let has_connection =
        |status: Option<&AcsTokenStatus>| status.is_some_and(|it| it.connection_ref.is_some());
    let is_first_of_user = !has_connection(former) && has_connection(reported);
    let had = credential(former);
    is_first_of_user || had.is_some() && had != credential(reported)
}

/// Warns that tokens may stay valid in ACS although their object is deleted.
pub async fn abandoned(context: &Arc<Context>, token: &AcsToken, why: &str) {
    let namespace = namespace(token);
    let message = format!(
        "AcsToken {namespace}/{} was released before its tokens were revoked, because {why}; the \
         tokens stay valid until they expire",
        token.name_any()
    );
    warn!(message);
    let labels = KindLabels { kind: "AcsToken" };
    context.metrics.abandoned.get_or_create(&labels).inc();
    context.warn_abandoned(token, &namespace, &message).await;
}

/// Reports that the token of a Teams user stays valid although its object is deleted.
pub async fn left_alive(context: &Context, token: &AcsToken) {
    let status = token.status.as_ref();
    let Some(end) = status.and_then(|status| status.expires_at.as_ref()) else {
        return;
    };
    if end.0 <= context.now() || context.is_terminating(&namespace(token)) {
        return;
    }
    let note = format!(
        "ACS cannot revoke tokens of Teams users: everybody who has read Secret {} can use its \
         token until {}",
        token.secret_name(),
        end.0
    );
    info!(note);
    context.inform(token, Reason::NotRevoked, note).await;
}

/// Counts a rewrite of the Secret with the same token, and warns once there were too many, because
/// another writer keeps changing its metadata or other data.
pub async fn rewritten(context: &Context, token: &AcsToken) {
    let uid = token.uid().unwrap_or_default();
    let former = context.cache.get(&uid).rewrites;
    let rewrites = Rewrites::after(former, token, context.now());
    context
        .cache
        .change(&uid, |cache| cache.rewrites = Some(rewrites));
    if rewrites.count != Rewrites::MOST {
        return;
    }
    let disagreement = wanted::disagreement(context, token);
    let note = format!(
        "another writer, such as an admission policy or a controller, keeps changing Secret {}{}. \
         The operator repairs it every 5 minutes; the token in it is valid",
        token.secret_name(),
        disagreement.map_or_else(String::new, |what| format!(" ({what})")),
    );
    warn!(note);
    context.warn(token, Reason::SecretContested, note).await;
}

/// Warns that another writer edits the Secret.
pub async fn repaired(context: &Context, token: &AcsToken) {
    let note = format!(
        "another writer edited Secret {}, so the operator issued a new token for it; further \
         repairs are 5 minutes apart",
        token.secret_name()
    );
    context.warn(token, Reason::SecretRepaired, note).await;
}

/// Warns that `renewBefore` is longer than the lifetime that ACS gave the token allows.
pub async fn report_if_capped(context: &Context, token: &AcsToken, record: &TokenRecord) {
    let wanted = token
        .spec
        .renew_before
        .as_deref()
        .and_then(|text| parse_duration(text).ok());
    if renewal::is_capped(record.life, wanted) {
        let margin = renewal::margin(record.life, wanted);
        let note = format!(
            "renewBefore is longer than two thirds of the token's lifetime ({}s); the token is \
             renewed {}s before its expiry",
            record.life.as_secs(),
            margin.as_secs()
        );
        context.warn(token, Reason::RenewBeforeCapped, note).await;
    }
}

fn namespace(token: &AcsToken) -> String {
    token.namespace().unwrap_or_default()
}
