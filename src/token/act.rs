use std::sync::Arc;

use jiff::Timestamp;
use kube::{Api, ResourceExt, runtime::reflector::ObjectRef};
use tracing::{info, warn};

use super::{
    decide::{self, Decision, IdentityView, IssueOrder, SecretView, Step, Why},
    facts::TokenFacts,
    observe::{Findings, connection_of, endpoint_of, identity_of, observe},
    report, teams,
};
use crate::{
    acs::{self, UserToken},
    cluster::{
        self, finalizer,
        input::Follower,
        secret::{Owner, Secrets, SeenSecret, Wanted, owner},
        view::object_ref,
    },
    context::Context,
    crd::AcsToken,
    metrics::{KindLabels, ReasonLabels},
};

/// What a step led to.
#[derive(Debug)]
pub enum Outcome {
    /// The cluster is another one: look again.
    Done,
    /// Nothing was done, because something has changed since the decision.
    Overtaken,
    /// The object is gone.
    Gone,
}

/// Carries out one step.
pub async fn carry_out(
    context: &Arc<Context>,
    token: &AcsToken,
    decision: &Decision,
    findings: &mut Findings,
) -> Result<Outcome, cluster::Error> {
    let namespace = token.namespace().unwrap_or_default();
    let api: Api<AcsToken> = Api::namespaced(context.client.clone(), &namespace);
    let secrets = Secrets::of(&context.client, &namespace);
    match &decision.step {
        Step::Rest => {}
        Step::Mark => report::rest(context, token, decision).await?,
        Step::AddFinalizer => finalizer::add(&api, &context.views.tokens, token).await?,
        Step::ReadUserToken => {
            read_user_token(context, token, findings).await?;
        }
        Step::Fail { reason, message } => {
            report::failed(context, token, reason, message, None).await?;
        }
        Step::ReadSecret => read_secret(context, token, &secrets, findings).await?,
        Step::Record(facts) => report::record(context, token, facts).await?,
        Step::Issue(order) => return issue(context, token, order, findings).await,
        Step::RewriteSecret => {
            let name = token.secret_name();
            rewrite(context, token, &secrets, &name, findings).await?;
        }
        Step::CopySecret { from } => rewrite(context, token, &secrets, from, findings).await?,
        Step::DeleteSecret {
            name,
            only_without_identity,
        } => {
            if *only_without_identity && identity_exists(context, token, &namespace).await? {
                return Ok(Outcome::Overtaken);
            }
            let key = object_ref(Some(&namespace), name);
            let uid = context
                .views
                .secrets
                .get(&key)
                .and_then(|secret| secret.uid());
            match secrets.delete(name, uid.clone()).await {
                Ok(()) => info!(secret = name, "deleted a Secret"),
                // It goes with its owner, and isn't looked for again.
                Err(error) if context.is_moot(&error, &token.metadata) => {
                    findings.found(name.clone(), SecretView::Absent);
                }
                Err(error) => return Err(error),
            }
            context.views.secrets.deleted(&key, uid);
        }
        Step::RefuseRequest { request } => report::refused(context, token, request).await?,
        Step::RemoveFinalizer { abandoned } => {
            if let Some(why) = abandoned {
                report::abandoned(context, token, why).await;
            } else if token.spec.teams_user.is_some() {
                report::left_alive(context, token).await;
            }
            finalizer::remove(&api, &context.views.tokens, token).await?;
            let reference = ObjectRef::from_obj(token);
            for follower in [
                Follower::Token(reference.clone()),
                Follower::UserToken(reference),
            ] {
                context.inputs.unfollow(&follower);
            }
            context.memory.forget(&token.uid().unwrap_or_default());
            return Ok(Outcome::Gone);
        }
    }
    Ok(Outcome::Done)
}

/// Asks the API server itself, before Secrets go because of an absence.
async fn identity_exists(
    context: &Context,
    token: &AcsToken,
    namespace: &str,
) -> Result<bool, cluster::Error> {
    let api: Api<crate::crd::AcsIdentity> = Api::namespaced(context.client.clone(), namespace);
    let Some(name) = token.identity_name() else {
        return Ok(false);
    };
    let named = format!("AcsIdentity {namespace}/{name}");
    Ok(cluster::call("read", &named, api.get_metadata_opt(name))
        .await?
        .is_some())
}

/// Reads a Teams user's Entra token, and remembers what is to be seen of it.
async fn read_user_token(
    context: &Context,
    token: &AcsToken,
    findings: &mut Findings,
) -> Result<Option<UserToken>, cluster::Error> {
    let Some(user) = &token.spec.teams_user else {
        return Ok(None);
    };
    let namespace = token.namespace().unwrap_or_default();
    let secrets = Secrets::of(&context.client, &namespace);
    let (read, user_token) = teams::read(&secrets, &namespace, user).await?;
    findings.read_user_token();
    context
        .memory
        .change(&token.uid().unwrap_or_default(), |memory| {
            memory.user_token = Some(read);
        });
    Ok(user_token)
}

async fn read_secret(
    context: &Context,
    token: &AcsToken,
    secrets: &Secrets,
    findings: &mut Findings,
) -> Result<(), cluster::Error> {
    let name = token.secret_name();
    let read = match secrets.read(&name).await {
        Err(error) if context.is_moot(&error, &token.metadata) => None,
        read => read?,
    };
    let found = match read {
        None => SecretView::Absent,
        Some(seen) => match owner(&seen.0.metadata, token) {
            Owner::Ours => {
                remember(context, token, seen, findings);
                return Ok(());
            }
            Owner::Other(owner) => SecretView::Foreign { owner },
        },
    };
    // An earlier answer may have come after the watch had told that ours is gone. Another token's
    // stays in the view, where that token looks for it.
    let key = object_ref(token.namespace().as_deref(), &name);
    let believed = context.views.secrets.get(&key);
    if let Some(gone) = believed.filter(|gone| owner(&gone.metadata, token) == Owner::Ours) {
        context.views.secrets.deleted(&key, gone.uid());
    }
    findings.found(name, found);
    Ok(())
}

/// The view learns of the Secret at once, so that it is not read again.
fn remember(
    context: &Context,
    token: &AcsToken,
    (metadata, read): SeenSecret,
    findings: &mut Findings,
) {
    findings.forget();
    context
        .memory
        .change(&token.uid().unwrap_or_default(), |memory| {
            memory.secret = Some(read);
        });
    context.views.secrets.wrote(metadata);
}

/// Issues a token and puts it where pods find it. The gate is held until the status tells it, so
/// that a revocation never overtakes a token on its way into the Secret (R3).
async fn issue(
    context: &Arc<Context>,
    token: &AcsToken,
    order: &IssueOrder,
    findings: &mut Findings,
) -> Result<Outcome, cluster::Error> {
    let _guard = context.gates.issue(&order.identity_id).await;
    let user_token = read_user_token(context, token, findings).await?;
    // While we waited, a revocation may have begun or ended, or the Entra token have changed.
    let reference = object_ref(token.namespace().as_deref(), &token.name_any());
    let Some(token) = context.views.tokens.get(&reference) else {
        return Ok(Outcome::Gone);
    };
    let observed = observe(context, &token, findings, Timestamp::now());
    let still_wanted = matches!(
        decide::decide(&observed).step,
        Step::Issue(now) if now.is_same_as(order)
    );
    let connection = connection_of(context, &token, Timestamp::now());
    let Some((key, resolved)) = connection.filter(|_| still_wanted) else {
        return Ok(Outcome::Overtaken);
    };
    if !context
        .registry
        .may_call(&key, &resolved.credential, observed.now)
    {
        return Ok(Outcome::Overtaken);
    }
    let client = context
        .acs
        .client(&resolved.endpoint, &resolved.version, &resolved.key);
    let issued = if let (Some(user), Some(held)) = (&token.spec.teams_user, &user_token) {
        let (app_id, user_id) = (&user.app_id, &user.user_id);
        client
            .exchange_teams_token(&held.token, app_id, user_id, order.deadline)
            .await
    } else {
        let scopes: Vec<_> = order.shape.scopes.iter().map(|it| it.as_str()).collect();
        let minutes = order.shape.minutes();
        client
            .issue_token(&order.identity_id, &scopes, minutes, order.deadline)
            .await
    };
    let issued = match issued {
        Ok(issued) => issued,
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
        context.wake_connection(&key);
    }
    Ok(Outcome::Done)
}

async fn store(
    context: &Arc<Context>,
    token: &AcsToken,
    why: Why,
    facts: &TokenFacts,
    issued: &acs::IssuedToken,
    endpoint: &str,
    findings: &mut Findings,
) -> Result<(), cluster::Error> {
    let namespace = token.namespace().unwrap_or_default();
    let secrets = Secrets::of(&context.client, &namespace);
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
        let late = Timestamp::now().duration_since(planned.0);
        context.metrics.renewal_lateness.set(late.as_secs_f64());
    }
    info!(why = why.as_str(), secret = token.secret_name(), expires = %facts.expires_at, "issued a token");
    if why == Why::SecretEdited {
        let uid = token.uid().unwrap_or_default();
        context
            .memory
            .change(&uid, |memory| memory.repaired = Some(Timestamp::now()));
        report::repaired(context, token).await;
    }
    report::record(context, token, facts).await?;
    report::told_if_capped(context, token, facts).await;
    Ok(())
}

/// Writes the wanted Secret around the token that the Secret `from` holds.
async fn rewrite(
    context: &Arc<Context>,
    token: &AcsToken,
    secrets: &Secrets,
    from: &str,
    findings: &mut Findings,
) -> Result<(), cluster::Error> {
    let namespace = token.namespace().unwrap_or_default();
    let source = object_ref(Some(&namespace), from);
    let annotations = context
        .views
        .secrets
        .get(&source)
        .and_then(|s| s.metadata.annotations.clone());
    let identity = identity_of(token).and_then(|it| context.views.identities.get(&it));
    let endpoint = endpoint_of(token, identity.as_deref());
    let facts = annotations.and_then(|all| TokenFacts::from_annotations(&all));
    let (Some(facts), Some(endpoint)) = (facts, endpoint) else {
        return Ok(());
    };
    // A token on its way into another Secret is as one on its way from the service (I5).
    let _guard = context.gates.issue(&facts.identity_id).await;
    let observed = observe(context, token, findings, Timestamp::now());
    if !matches!(observed.identity, IdentityView::Usable(_)) {
        return Ok(());
    }
    let Some(bytes) = secrets.token(from, &facts.fingerprint).await? else {
        // The bytes are not what they were: the next look finds that out.
        context
            .memory
            .change(&token.uid().unwrap_or_default(), |memory| {
                memory.secret = None;
            });
        if from != token.secret_name() {
            let uid = context
                .views
                .secrets
                .get(&source)
                .and_then(|secret| secret.uid());
            secrets.delete(from, uid.clone()).await?;
            context.views.secrets.deleted(&source, uid);
        }
        return Ok(());
    };
    let key = object_ref(Some(&namespace), &token.secret_name());
    let existing = context
        .views
        .secrets
        .get(&key)
        .map(|secret| secret.metadata.clone());
    let wanted = Wanted {
        token,
        facts: &facts,
        endpoint: &endpoint,
    };
    if let Some(seen) = secrets.write(&wanted, &bytes, existing).await? {
        remember(context, token, seen, findings);
        info!(
            secret = token.secret_name(),
            from, "wrote the Secret around the same token"
        );
    } else {
        read_secret(context, token, secrets, findings).await?;
    }
    Ok(())
}

/// Counts what is left behind.
pub fn count_abandoned(context: &Context) {
    context
        .metrics
        .abandoned
        .get_or_create(&KindLabels { kind: "AcsToken" })
        .inc();
}
