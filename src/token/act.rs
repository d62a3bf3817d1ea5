mod issue;
mod restart;

pub use issue::absorb;

use std::sync::Arc;

use kube::{ResourceExt, runtime::reflector::ObjectRef};
use tracing::info;

use super::{
    controller::follower,
    decide::{Decision, SecretView, Step},
    observe::{Findings, endpoint_of},
    owner::{Owner, owner},
    report,
    secret::{Secrets, SeenSecret},
    teams,
    wanted::{Wanted, record_of},
};
use crate::{
    acs::UserToken,
    cache::HeldToken,
    cluster::{self, input::Role, view::object_ref},
    context::Context,
    crd::{AcsToken, FINALIZER},
    engine::{ApiRequest, StepOutcome, add_finalizer, remove_finalizer},
};

/// Carries out one step.
pub async fn carry_out(
    context: &Arc<Context>,
    token: &AcsToken,
    decision: &Decision,
    findings: &mut Findings,
) -> Result<StepOutcome, cluster::Error> {
    let namespace = token.namespace().unwrap_or_default();
    let secrets = Secrets::new(&*context.world, &namespace);
    match &decision.step {
        Step::Rest => {}
        Step::Mark => report::rest(context, token, decision).await?,
        Step::AddFinalizer => {
            add_finalizer(&*context.world, &context.views.tokens, token, FINALIZER).await?;
        }
        Step::ReadUserToken => {
            read_user_token(context, token, findings).await?;
        }
        Step::Fail { reason, message } => {
            report::failed(context, token, *reason, message, None).await?;
        }
        Step::ReadSecret => read_secret(context, token, &secrets, findings).await?,
        Step::Record(record) => report::record(context, token, record).await?,
        Step::Issue(request) => return issue::issue(context, token, request, findings).await,
        Step::RewriteSecret => {
            let name = token.secret_name();
            let outcome = rewrite(context, token, &secrets, &name, findings).await?;
            if outcome == StepOutcome::Done {
                report::rewritten(context, token).await;
            }
            return Ok(outcome);
        }
        Step::CopySecret { from } => {
            return rewrite(context, token, &secrets, from, findings).await;
        }
        Step::DeleteSecret {
            name,
            only_without_identity,
        } => {
            if *only_without_identity && identity_exists(context, token, &namespace).await? {
                return Ok(StepOutcome::Overtaken);
            }
            let key = object_ref(Some(&namespace), name);
            let uid = context
                .views
                .secrets
                .get(&key)
                .and_then(|secret| secret.uid());
            match secrets.delete(name, uid.clone()).await {
                Ok(()) => info!(secret = name, "deleted a Secret"),
                // The Secret is deleted together with its owner and does not have to be read again.
                Err(error) if context.is_ignorable(&error, &token.metadata) => {
                    findings.found(name.clone(), SecretView::Absent);
                }
                Err(error) => return Err(error),
            }
            context.views.secrets.deleted(&key, uid);
        }
        Step::RestartWorkload(due) => return restart::restart(context, token, due).await,
        Step::RefuseRequest { request } => report::refused(context, token, request).await?,
        Step::RemoveFinalizer { abandoned } => {
            let uid = token.uid().unwrap_or_default();
            if let Some(why) = abandoned {
                if context.tells_abandonment(&uid) {
                    report::abandoned(context, token, why).await;
                }
            } else if token.spec.teams_user.is_some() {
                report::left_alive(context, token).await;
            }
            let why = abandoned.map(ToOwned::to_owned);
            remove_finalizer(&*context.world, &context.views.tokens, token, why).await?;
            for role in [Role::Conflict, Role::UserToken] {
                context.world.unfollow(&follower(token, role));
            }
            context.cache.forget(&token.uid().unwrap_or_default());
            return Ok(StepOutcome::Gone);
        }
    }
    Ok(StepOutcome::Done)
}

/// Whether the identity exists, according to the API server itself. The watch is not enough here:
/// Secrets are deleted because the identity is absent.
async fn identity_exists(
    context: &Context,
    token: &AcsToken,
    namespace: &str,
) -> Result<bool, cluster::Error> {
    let Some(name) = token.identity_name() else {
        return Ok(false);
    };
    let request = ApiRequest::ReadIdentity {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    Ok(context.world.ask(request).await?.is_some())
}

/// Reads the Entra token of a Teams user and caches its state.
async fn read_user_token(
    context: &Context,
    token: &AcsToken,
    findings: &mut Findings,
) -> Result<Option<UserToken>, cluster::Error> {
    let Some(user) = &token.spec.teams_user else {
        return Ok(None);
    };
    let namespace = token.namespace().unwrap_or_default();
    let secrets = Secrets::new(&*context.world, &namespace);
    let found = secrets.get(&user.secret_ref.name).await?;
    let (read, user_token) = teams::see_user_token(user, &namespace, found);
    findings.read_user_token();
    context
        .cache
        .change(&token.uid().unwrap_or_default(), |cache| {
            cache.user_token = Some(read);
        });
    Ok(user_token)
}

async fn read_secret(
    context: &Context,
    token: &AcsToken,
    secrets: &Secrets<'_>,
    findings: &mut Findings,
) -> Result<(), cluster::Error> {
    let name = token.secret_name();
    let read = match secrets.read(&name).await {
        Err(error) if context.is_ignorable(&error, &token.metadata) => None,
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
    // An earlier API response may have arrived after the watch reported that our Secret is gone. A
    // Secret of another token stays in the view, where that token finds it.
    let key = object_ref(token.namespace().as_deref(), &name);
    let believed = context.views.secrets.get(&key);
    if let Some(gone) = believed.filter(|gone| owner(&gone.metadata, token) == Owner::Ours) {
        context.views.secrets.deleted(&key, gone.uid());
    }
    findings.found(name, found);
    Ok(())
}

/// Caches what was read of the Secret and updates the view at once, so that the Secret is not read
/// again.
fn remember(
    context: &Context,
    token: &AcsToken,
    (metadata, read): SeenSecret,
    findings: &mut Findings,
) {
    findings.forget();
    context
        .cache
        .change(&token.uid().unwrap_or_default(), |cache| {
            let is_written =
                |held: &Arc<HeldToken>| read.fingerprint.as_ref() == Some(&held.record.fingerprint);
            cache.held.take_if(|held| is_written(held));
            cache.secret = Some(Arc::new(read));
            cache.doubts_secret = false;
        });
    context.views.secrets.wrote(metadata);
}

/// Writes the wanted Secret with the token that the Secret `from` holds.
async fn rewrite(
    context: &Arc<Context>,
    token: &AcsToken,
    secrets: &Secrets<'_>,
    from: &str,
    findings: &mut Findings,
) -> Result<StepOutcome, cluster::Error> {
    let namespace = token.namespace().unwrap_or_default();
    let source = object_ref(Some(&namespace), from);
    let found = context.views.secrets.get(&source);
    let identity = token
        .identity_reference()
        .and_then(|it| context.views.identities.get(&it));
    let endpoint = endpoint_of(token, identity.as_deref());
    let record = found.and_then(|found| record_of(&found.metadata, token));
    let (Some(record), Some(endpoint)) = (record, endpoint) else {
        return Ok(StepOutcome::Done);
    };
    // A token that is being copied into another Secret needs the same lock as one that is being
    // issued (I5).
    let key = ObjectRef::from_obj(token).into();
    let Some(_guard) = context.locks.issue(&record.identity_id, &key) else {
        return Ok(StepOutcome::Waits);
    };
    let Some(bytes) = secrets.token(from, &record.fingerprint).await? else {
        // The data has changed since it was read: the next run reads it again.
        context
            .cache
            .change(&token.uid().unwrap_or_default(), |cache| {
                cache.secret = None;
                cache.doubts_secret = true;
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
        return Ok(StepOutcome::Done);
    };
    let key = object_ref(Some(&namespace), &token.secret_name());
    let existing = context
        .views
        .secrets
        .get(&key)
        .map(|secret| secret.metadata.clone());
    let wanted = Wanted {
        token,
        record: &record,
        endpoint: &endpoint,
        labels: &context.config.secret_labels,
    };
    match secrets.write(&wanted, &bytes, existing.as_ref()).await {
        Ok(Some(seen)) => {
            remember(context, token, seen, findings);
            info!(
                secret = token.secret_name(),
                from, "rewrote the Secret with the same token"
            );
        }
        Ok(None) => read_secret(context, token, secrets, findings).await?,
        Err(error) if error.is_refusal() => {
            let text = format!("the Secret of the token cannot be written: {error}");
            report::failed(context, token, error.reason(), &text, None).await?;
        }
        Err(error) => return Err(error),
    }
    Ok(StepOutcome::Done)
}
