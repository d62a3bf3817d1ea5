//! A token is issued, and put where pods find it.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use tracing::{info, warn};

use super::{read_secret, read_user_token, remember};
use crate::{
    acs::{self, IssuedToken, Resolved, UserToken},
    cluster::{self, view::object_ref},
    context::Context,
    crd::{AcsToken, ConnectionKey, TokenRecord},
    engine::{AcsAnswer, AcsCall, AcsOperation, Outcome},
    memory::HeldToken,
    metrics::ReasonLabels,
    token::{
        decide::{self, IssueOrder, Observed, Step, Why},
        observe::{Findings, connection_of, observe},
        report,
        secret::Secrets,
        wanted::Wanted,
    },
};

/// Issues a token and puts it where pods find it. The lock is held until the status tells it, so
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
    let held = if let Some(held) = in_hand(context, &token, &observed, order, &resolved) {
        held
    } else {
        let asked = Asked {
            token: &token,
            observed: &observed,
            order,
            key: &key,
            resolved: &resolved,
        };
        match have_issued(context, &asked, user_token, findings).await? {
            Ok(held) => held,
            Err(outcome) => return Ok(outcome),
        }
    };
    store(context, &token, order.why, &held, findings).await?;
    let status = token.status.as_ref();
    let former = status.and_then(|status| status.credential.as_ref());
    let is_first_of_user = token.spec.teams_user.is_some()
        && status.is_none_or(|status| status.connection_ref.is_none());
    if is_first_of_user || former.is_some_and(|former| *former != resolved.credential) {
        // It counts one more, or one less on a former credential.
        context.requeue_connection(&key);
    }
    Ok(Outcome::Done)
}

/// What is asked of ACS, and for what.
struct Asked<'a> {
    token: &'a AcsToken,
    observed: &'a Observed<'a>,
    order: &'a IssueOrder,
    key: &'a ConnectionKey,
    resolved: &'a Resolved,
}

/// Has ACS issue a token, which is in hand then; else what the step led to.
async fn have_issued(
    context: &Context,
    asked: &Asked<'_>,
    user_token: Option<UserToken>,
    findings: &mut Findings,
) -> Result<Result<Arc<HeldToken>, Outcome>, cluster::Error> {
    let Asked {
        token,
        observed,
        order,
        key,
        resolved,
    } = *asked;
    if let Some(error) = is_still_refused(context, token, order, resolved).await? {
        return refused(context, token, &error, findings).await.map(Err);
    }
    let credential = &resolved.credential;
    if !context.registry.may_call(key, credential, observed.now) {
        return Ok(Err(Outcome::Overtaken));
    }
    let endpoint = resolved.endpoint.as_str();
    let issued = match call(context, token, order, resolved, user_token.as_ref()).await {
        Ok(issued) => issued,
        Err(error) => {
            if error.kind() == acs::Kind::IdentityNotFound {
                context.note_existence(&order.identity_id, endpoint, true);
            }
            if !context.note_failure(key, resolved, &error) {
                remember_failed(context, token, user_token);
                let (reason, text) = (error.reason(), error.to_string());
                report::failed(context, token, reason, &text, error.retry_after()).await?;
            }
            return Ok(Err(Outcome::Done));
        }
    };
    context.note_success(key, resolved);
    context.note_existence(&order.identity_id, endpoint, false);
    let record = TokenRecord::issued(token, order, &issued, key, resolved);
    if observed.service_now.is_none() && decide::is_stillborn(observed, &record) {
        info!("a token of the second of the revocation is dropped");
        return Ok(Err(Outcome::Done));
    }
    if let Some((reason, text)) = useless(observed, &record) {
        report::failed(context, token, reason, &text, None).await?;
        return Ok(Err(Outcome::Done));
    }
    Ok(Ok(hold(context, token, record, issued, resolved)))
}

/// The token that was issued before and could not be written, if it is what is wanted now.
fn in_hand(
    context: &Context,
    token: &AcsToken,
    observed: &Observed<'_>,
    order: &IssueOrder,
    resolved: &Resolved,
) -> Option<Arc<HeldToken>> {
    let held = context.memory.of(&token.uid()?).held?;
    let record = &held.record;
    let user_token = record.exchange.as_ref().map(|it| &it.user_token);
    // The life of a Teams user's token is not asked for.
    let is_same_shape = if user_token.is_some() {
        record.shape.scopes == order.shape.scopes
    } else {
        record.shape.is_same_as(&order.shape)
    };
    let is_wanted = record.identity_id == order.identity_id
        && is_same_shape
        && record.credential == resolved.credential
        && held.endpoint == resolved.endpoint.as_str()
        && user_token == order.user_token.as_ref().map(|it| &it.fingerprint)
        && token
            .open_request()
            .is_none_or(|request| record.request.as_deref() == Some(request.value))
        && observed.now < decide::renew_at(token, record)
        && useless(observed, record).is_none();
    is_wanted.then_some(held)
}

fn hold(
    context: &Context,
    token: &AcsToken,
    record: TokenRecord,
    issued: IssuedToken,
    resolved: &Resolved,
) -> Arc<HeldToken> {
    let held = Arc::new(HeldToken {
        record,
        token: issued.token,
        endpoint: resolved.endpoint.to_string(),
    });
    let uid = token.uid().unwrap_or_default();
    context
        .memory
        .change(&uid, |memory| memory.held = Some(Arc::clone(&held)));
    held
}

/// Why a token that was just issued is good for nothing: it is tried again later, not at once.
fn useless(observed: &Observed<'_>, record: &TokenRecord) -> Option<(&'static str, String)> {
    if decide::is_stillborn(observed, record) {
        let message = format!(
            "the service dated the token {}, which is not after the last revocation of the identity, so \
             it may be revoked; the service's clocks may differ. It is tried again",
            record.issued_at
        );
        return Some(("IssuedBeforeRevocation", message));
    }
    (!record.life.is_positive()).then(|| {
        let message = format!(
            "the service issued a token that ends {} s before it was issued; it is tried again",
            record.life.as_secs().abs()
        );
        ("InvalidAnswer", message)
    })
}

/// After a restart no token is in hand. One whose Secret was refused before is issued only when the
/// API server would take the Secret by now (T7); else what it says.
async fn is_still_refused(
    context: &Context,
    token: &AcsToken,
    order: &IssueOrder,
    resolved: &Resolved,
) -> Result<Option<cluster::Error>, cluster::Error> {
    let failure = token
        .status
        .as_ref()
        .and_then(|status| status.last_failure.as_ref());
    if !failure.is_some_and(|failure| cluster::is_refusal(&failure.reason)) {
        return Ok(None);
    }
    let namespace = token.namespace().unwrap_or_default();
    let record = TokenRecord::placeholder(order, resolved, context.now());
    let wanted = Wanted {
        token,
        facts: &record,
        endpoint: resolved.endpoint.as_str(),
    };
    let secrets = Secrets::of(&*context.world, &namespace);
    match secrets.probe(&wanted, existing(context, token)).await {
        Err(error) if error.is_refusal() => Ok(Some(error)),
        probed => probed.map(|()| None),
    }
}

fn existing(context: &Context, token: &AcsToken) -> Option<ObjectMeta> {
    let key = object_ref(token.namespace().as_deref(), &token.secret_name());
    let existing = context.views.secrets.get(&key)?;
    Some(existing.metadata.clone())
}

fn remember_failed(context: &Context, token: &AcsToken, user_token: Option<UserToken>) {
    let uid = token.uid().unwrap_or_default();
    context.memory.change(&uid, |memory| {
        memory.failed_user_token = user_token.map(|it| it.fingerprint);
    });
}

async fn call(
    context: &Context,
    token: &AcsToken,
    order: &IssueOrder,
    resolved: &Resolved,
    user_token: Option<&UserToken>,
) -> Result<IssuedToken, acs::Error> {
    let operation = match (&token.spec.teams_user, user_token) {
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
        by: ObjectRef::from_obj(token).into(),
        uid: token.uid().unwrap_or_default(),
        operation,
        why: order.why.as_str(),
        deadline: order.deadline,
    };
    match context.world.call(call).await? {
        AcsAnswer::Issued(issued) => Ok(issued),
        _ => Err(acs::Error::of_kind(
            acs::Operation::IssueToken,
            &resolved.endpoint,
            acs::Kind::NotTheService,
        )),
    }
}

/// The API server did not take the Secret: that is told, and the token stays in hand.
async fn refused(
    context: &Context,
    token: &AcsToken,
    error: &cluster::Error,
    findings: &mut Findings,
) -> Result<Outcome, cluster::Error> {
    // It may be there all the same: before another is issued, the Secret is read.
    findings.forget();
    let uid = token.uid().unwrap_or_default();
    context.memory.change(&uid, |memory| memory.secret = None);
    let text = format!("the token's Secret can't be written: {error}");
    report::failed(context, token, error.reason(), &text, None).await?;
    Ok(Outcome::Done)
}

async fn store(
    context: &Arc<Context>,
    token: &AcsToken,
    why: Why,
    held: &HeldToken,
    findings: &mut Findings,
) -> Result<(), cluster::Error> {
    let namespace = token.namespace().unwrap_or_default();
    let secrets = Secrets::of(&*context.world, &namespace);
    let record = &held.record;
    let wanted = Wanted {
        token,
        facts: record,
        endpoint: &held.endpoint,
    };
    let written = secrets
        .write(&wanted, &held.token, existing(context, token))
        .await;
    match written {
        Ok(Some(seen)) => remember(context, token, seen, findings),
        Ok(None) => {
            warn!(
                secret = token.secret_name(),
                "someone else took the Secret's name; its token is kept"
            );
            return read_secret(context, token, &secrets, findings).await;
        }
        Err(error) => {
            refused(context, token, &error, findings).await?;
            return Ok(());
        }
    }
    count(context, token, why);
    info!(why = why.as_str(), secret = token.secret_name(), expires = %record.expires_at, "issued a token");
    let (uid, now) = (token.uid().unwrap_or_default(), context.now());
    context.memory.change(&uid, |memory| match why {
        Why::SecretEdited => memory.repaired = Some(now),
        Why::SecretMissing => memory.recreated = Some(now),
        _ => {}
    });
    if why == Why::SecretEdited {
        report::repaired(context, token).await;
    }
    report::record(context, token, record).await?;
    report::told_if_capped(context, token, record).await;
    Ok(())
}

fn count(context: &Context, token: &AcsToken, why: Why) {
    let labels = ReasonLabels {
        kind: "AcsToken",
        reason: why.as_str().to_owned(),
    };
    context.metrics.issued.get_or_create(&labels).inc();
    let planned = token
        .status
        .as_ref()
        .and_then(|status| status.renew_at.as_ref());
    if let (Why::Renewal, Some(planned)) = (why, planned) {
        let late = context.now().duration_since(planned.0);
        context
            .metrics
            .renewal_lateness
            .observe(late.as_secs_f64().max(0.0));
    }
}
