//! A token is issued, and put where pods find it.

use std::sync::Arc;

use kube::{ResourceExt, runtime::reflector::ObjectRef};
use tracing::{info, warn};

use super::{read_secret, read_user_token, remember};
use crate::{
    acs::IssuedToken,
    cluster::{self, view::object_ref},
    context::Context,
    crd::AcsToken,
    engine::{AcsAnswer, AcsCall, AcsOperation, Outcome},
    metrics::ReasonLabels,
    token::{
        decide::{self, IssueOrder, Step, Why},
        facts::TokenFacts,
        observe::{Findings, connection_of, observe},
        report,
        secret::{Secrets, Wanted},
    },
};

/// Issues a token and puts it where pods find it. The gate is held until the status tells it, so
/// that a revocation never overtakes a token on its way into the Secret (R3).
pub(super) async fn issue(
    context: &Arc<Context>,
    token: &AcsToken,
    order: &IssueOrder,
    findings: &mut Findings,
) -> Result<Outcome, cluster::Error> {
    let _guard = context.locks.issue(&order.identity_id).await;
    let user_token = read_user_token(context, token, findings).await?;
    // While we waited, a revocation may have begun or ended, or the Entra token have changed.
    let reference = object_ref(token.namespace().as_deref(), &token.name_any());
    let Some(token) = context.views.tokens.get(&reference) else {
        return Ok(Outcome::Gone);
    };
    let observed = observe(context, &token, findings, context.now());
    let still_wanted = matches!(
        decide::decide(&observed).step,
        Step::Issue(now) if now.is_same_as(order)
    );
    let connection = connection_of(context, &token, context.now());
    let Some((key, resolved)) = connection.filter(|_| still_wanted) else {
        return Ok(Outcome::Overtaken);
    };
    if !context
        .registry
        .may_call(&key, &resolved.credential, observed.now)
    {
        return Ok(Outcome::Overtaken);
    }
    let operation = match (&token.spec.teams_user, &user_token) {
        (Some(user), Some(held)) => AcsOperation::ExchangeTeamsToken {
            token: held.token.clone(),
            app_id: user.app_id.clone(),
            user_id: user.user_id.clone(),
        },
        _ => AcsOperation::IssueToken {
            identity_id: order.identity_id.clone(),
            scopes: order.shape.scopes.clone(),
            minutes: order.shape.minutes(),
        },
    };
    let call = AcsCall {
        via: resolved.clone(),
        by: ObjectRef::from_obj(token.as_ref()).into(),
        uid: token.uid().unwrap_or_default(),
        operation,
        why: order.why.as_str(),
        deadline: order.deadline,
    };
    let issued = context.world.call(call).await;
    let issued = match issued {
        Ok(AcsAnswer::Issued(issued)) => issued,
        Ok(_) => return Ok(Outcome::Done),
        Err(error) => {
            if context.note_failure(&key, &resolved, &error) {
                return Ok(Outcome::Done);
            }
            let uid = token.uid().unwrap_or_default();
            context.memory.change(&uid, |memory| {
                memory.failed_user_token = user_token.map(|it| it.fingerprint);
            });
            report::failed(
                context,
                &token,
                error.reason(),
                &error.to_string(),
                error.retry_after(),
            )
            .await?;
            return Ok(Outcome::Done);
        }
    };
    context.note_success(&key, &resolved);
    let facts = TokenFacts::issued(&token, order, &issued, &key, &resolved);
    if decide::is_stillborn(&observed, &facts) {
        info!("a token of the second of the revocation is dropped");
        return Ok(Outcome::Done);
    }
    store(
        context,
        &token,
        order.why,
        &facts,
        &issued,
        resolved.endpoint.as_str(),
        findings,
    )
    .await?;
    let former = token.status.as_ref().and_then(|s| s.credential.as_ref());
    if former.is_some_and(|former| *former != resolved.credential) {
        // One less is left on a former credential.
        context.requeue_connection(&key);
    }
    Ok(Outcome::Done)
}

async fn store(
    context: &Arc<Context>,
    token: &AcsToken,
    why: Why,
    facts: &TokenFacts,
    issued: &IssuedToken,
    endpoint: &str,
    findings: &mut Findings,
) -> Result<(), cluster::Error> {
    let namespace = token.namespace().unwrap_or_default();
    let secrets = Secrets::of(&*context.world, &namespace);
    let key = object_ref(Some(&namespace), &token.secret_name());
    let existing = context
        .views
        .secrets
        .get(&key)
        .map(|secret| secret.metadata.clone());
    let wanted = Wanted {
        token,
        facts,
        endpoint,
    };
    match secrets.write(&wanted, &issued.token, existing).await {
        Ok(Some(seen)) => remember(context, token, seen, findings),
        Ok(None) => {
            warn!(
                secret = token.secret_name(),
                "someone else took the Secret's name; its token is dropped"
            );
            return read_secret(context, token, &secrets, findings).await;
        }
        Err(error) => {
            // It may be there all the same: before another is issued, the Secret is read.
            findings.forget();
            context
                .memory
                .change(&token.uid().unwrap_or_default(), |memory| {
                    memory.secret = None;
                });
            let text = format!("a token was issued but {error}");
            report::failed(context, token, error.reason(), &text, None).await?;
            return Ok(());
        }
    }
    let reason = why.as_str().to_owned();
    context
        .metrics
        .issued
        .get_or_create(&ReasonLabels {
            kind: "AcsToken",
            reason,
        })
        .inc();
    let late = token
        .status
        .as_ref()
        .and_then(|status| status.renew_at.as_ref());
    if let (Why::Renewal, Some(planned)) = (why, late) {
        let late = context.now().duration_since(planned.0);
        context.metrics.renewal_lateness.set(late.as_secs_f64());
    }
    info!(why = why.as_str(), secret = token.secret_name(), expires = %facts.expires_at, "issued a token");
    if why == Why::SecretEdited {
        let uid = token.uid().unwrap_or_default();
        context
            .memory
            .change(&uid, |memory| memory.repaired = Some(context.now()));
        report::repaired(context, token).await;
    }
    report::record(context, token, facts).await?;
    report::told_if_capped(context, token, facts).await;
    Ok(())
}
