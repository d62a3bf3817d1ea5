use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Api, ResourceExt};
use tracing::warn;

use super::{
    decide::{self, Decision},
    facts::TokenFacts,
};
use crate::{
    cluster::{self, status},
    context::Context,
    crd::{AcsToken, AcsTokenStatus, Conditions, LastFailure, Verdict, parse_duration},
    metrics::ReasonLabels,
    renewal,
};

/// Tells the decision of a run that rests, if it says something new (K4).
pub async fn rest(
    context: &Context,
    token: &AcsToken,
    decision: &Decision,
) -> Result<(), cluster::Error> {
    let Some(verdict) = &decision.verdict else {
        return Ok(());
    };
    if token.metadata.deletion_timestamp.is_some() && context.is_terminating(&namespace(token)) {
        // The object is about to go with its namespace; nobody reads what it says.
        return Ok(());
    }
    let mut next = token.status.clone().unwrap_or_default();
    if let Some(facts) = &decision.facts {
        tell(&mut next, token, facts);
    } else if matches!(verdict, Verdict::Reconciling { reason, .. } if reason == "IdentityNotFound")
    {
        // Its tokens went with the identity: there is nothing left to revoke.
        let conditions = std::mem::take(&mut next.conditions);
        next = AcsTokenStatus {
            conditions,
            revision: next.revision,
            ..AcsTokenStatus::default()
        };
    }
    write(context, token, next, Some(verdict)).await
}

/// Brings the status up to a token that is in the Secret.
pub async fn record(
    context: &Context,
    token: &AcsToken,
    facts: Option<&TokenFacts>,
) -> Result<(), cluster::Error> {
    let Some(facts) = facts else { return Ok(()) };
    let mut next = token.status.clone().unwrap_or_default();
    tell(&mut next, token, facts);
    next.failed_attempts = None;
    next.last_failure = None;
    context
        .memory
        .change(&token.uid().unwrap_or_default(), |memory| {
            memory.not_before = None;
        });
    let verdict = Verdict::ready(
        "TokenIssued",
        format!("Secret {} holds a valid token", token.secret_name()),
    );
    // A token that is recorded on the way out, or that no longer fits, is not called good.
    let is_good = token.metadata.deletion_timestamp.is_none()
        && Timestamp::now() < facts.expires_at
        && facts.shape.is_same_as(&super::Shape::wanted(token));
    write(context, token, next, is_good.then_some(&verdict)).await
}

fn tell(next: &mut AcsTokenStatus, token: &AcsToken, facts: &TokenFacts) {
    next.secret_name = Some(token.secret_name());
    next.identity_id = Some(facts.identity_id.clone());
    next.scopes = Some(facts.shape.scopes.clone());
    next.expires_in = Some(facts.shape.expires_in.clone());
    next.issued_at = Some(Time(facts.issued_at));
    next.expires_at = Some(Time(facts.expires_at));
    next.renew_at = Some(Time(decide::renew_at(token, facts)));
    next.fingerprint = Some(facts.fingerprint.clone());
    next.credential = Some(facts.credential.clone());
    next.revision = Some(facts.revision);
}

/// Tells that no token could be had: durable, so that the pause before the next try survives us.
pub async fn failed(
    context: &Context,
    token: &AcsToken,
    reason: &str,
    message: &str,
    retry_after: Option<SignedDuration>,
) -> Result<(), cluster::Error> {
    let now = Timestamp::now();
    warn!(reason, error = message, "no token could be issued");
    let labels = ReasonLabels {
        kind: "AcsToken",
        reason: reason.to_owned(),
    };
    context.metrics.failures.get_or_create(&labels).inc();
    context
        .memory
        .change(&token.uid().unwrap_or_default(), |memory| {
            memory.not_before = retry_after.map(|wait| renewal::add(now, wait));
        });
    let mut next = token.status.clone().unwrap_or_default();
    let is_same_spec = next.observed_generation == token.metadata.generation;
    let former = next.failed_attempts.filter(|_| is_same_spec).unwrap_or(0);
    let is_news = next
        .last_failure
        .as_ref()
        .is_none_or(|failure| failure.reason != reason);
    next.failed_attempts = Some(former.saturating_add(1));
    next.last_failure = Some(LastFailure {
        time: Time(renewal::whole_seconds(now)),
        reason: reason.to_owned(),
        message: message.to_owned(),
    });
    next.observed_generation = token.metadata.generation;
    write(context, token, next, None).await?;
    if is_news {
        context.events.warning(token, "IssueFailed", message).await;
    }
    Ok(())
}

async fn write(
    context: &Context,
    token: &AcsToken,
    mut next: AcsTokenStatus,
    verdict: Option<&Verdict>,
) -> Result<(), cluster::Error> {
    let former = token.status.clone().unwrap_or_default();
    if let Some(verdict) = verdict {
        let generation = token.metadata.generation;
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
    let api: Api<AcsToken> = Api::namespaced(context.client.clone(), &namespace(token));
    let object = AcsToken {
        status: Some(next),
        ..token.clone()
    };
    status::write(&api, &context.views.tokens, &object).await
}

/// Tells that tokens may live on in ACS although their object goes.
pub async fn abandoned(context: &Arc<Context>, token: &AcsToken, why: &str) {
    let namespace = namespace(token);
    let message = format!(
        "AcsToken {namespace}/{} was let go before its tokens were revoked, because {why}; \
         they stay valid until they expire",
        token.name_any()
    );
    warn!(message);
    super::act::count_abandoned(context);
    context.tell_abandoned(token, &namespace, &message).await;
}

/// Tells that somebody edits the Secret.
pub async fn repaired(context: &Context, token: &AcsToken) {
    let note = format!(
        "Secret {} was edited by someone else and holds a new token now; further repairs are 5 minutes apart",
        token.secret_name()
    );
    context.events.warning(token, "SecretRepaired", note).await;
}

/// Tells that `renewBefore` asks for more than the service's life allows.
pub async fn told_if_capped(context: &Context, token: &AcsToken, facts: &TokenFacts) {
    let wanted = token
        .spec
        .renew_before
        .as_deref()
        .and_then(|text| parse_duration(text).ok());
    if renewal::is_capped(facts.life, wanted) {
        let margin = renewal::margin(facts.life, wanted);
        let note = format!(
            "renewBefore is longer than two thirds of the token's life ({}s); it is renewed {}s before its end",
            facts.life.as_secs(),
            margin.as_secs()
        );
        context
            .events
            .warning(token, "RenewBeforeCapped", note)
            .await;
    }
}

fn namespace(token: &AcsToken) -> String {
    token.namespace().unwrap_or_default()
}
