//! Issue of a token, and its storage in the Secret that pods read.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use secrecy::SecretString;
use tracing::info;

use super::{read_secret, read_user_token, remember};
use crate::{
    acs::{self, IssuedToken, Resolved},
    cache::HeldToken,
    cluster::{self, view::object_ref},
    context::Context,
    crd::{AcsToken, Reason, TeamsUser, TokenRecord},
    engine::{AcsAnswer, AcsCall, AcsOperation, Answered, IssueRequest, StepOutcome, Why},
    metrics::ReasonLabels,
    token::{
        decide::{self, Observed, Step},
        nudge,
        observe::{Findings, connection_of, observe},
        report,
        secret::Secrets,
        wanted::Wanted,
    },
};

/// Sends the request for a token when it is the object's turn, or stores the token that is held
/// already.
pub(super) async fn issue(
    context: &Arc<Context>,
    token: &AcsToken,
    request: &IssueRequest,
    findings: &mut Findings,
) -> Result<StepOutcome, cluster::Error> {
    let Some((connection, via)) = connection_of(context, token, context.now()) else {
        return Ok(StepOutcome::Overtaken);
    };
    let observed = observe(context, token, findings, context.now());
    if let Some(held) = in_hand(context, token, &observed, request, &via) {
        let key = ObjectRef::from_obj(token).into();
        let Some(_guard) = context.locks.issue(&request.identity_id, &key) else {
            return Ok(StepOutcome::Waits);
        };
        store(context, token, request.why, &held, findings).await?;
        return Ok(StepOutcome::Done);
    }
    let user = token.spec.teams_user.as_ref();
    let mut call = AcsCall {
        via,
        connection,
        by: ObjectRef::from_obj(token).into(),
        uid: token.uid().unwrap_or_default(),
        operation: match user {
            // The Entra token is read only when it is the object's turn.
            Some(user) => exchange(user, request, SecretString::default()),
            None => AcsOperation::IssueToken(request.clone()),
        },
        deadline: request.deadline,
    };
    if !context.calls.has_turn(&*context.world, &call) {
        return Ok(StepOutcome::Waits);
    }
    if let Some(error) = is_still_refused(context, token, request, &call.via).await? {
        return refused(context, token, &error, findings).await;
    }
    if let Some(user) = user {
        let Some(found) = read_user_token(context, token, findings).await? else {
            return Ok(StepOutcome::Done);
        };
        call.operation = exchange(user, request, found.token);
    }
    if !is_still_wanted(context, token, request, findings) {
        return Ok(StepOutcome::Done);
    }
    Ok(context.begin(call))
}

fn exchange(user: &TeamsUser, request: &IssueRequest, token: SecretString) -> AcsOperation {
    AcsOperation::ExchangeTeamsToken {
        request: request.clone(),
        token,
        app_id: user.app_id.clone(),
        user_id: user.user_id.clone(),
    }
}

/// Whether the request is still wanted. During a read, a revocation may have begun or ended, or the
/// Entra token may have changed.
fn is_still_wanted(
    context: &Context,
    token: &AcsToken,
    request: &IssueRequest,
    findings: &Findings,
) -> bool {
    let reference = object_ref(token.namespace().as_deref(), &token.name_any());
    let token = context.views.tokens.get(&reference);
    token.is_some_and(|token| {
        let observed = observe(context, &token, findings, context.now());
        let step = decide::decide(&observed).step;
        matches!(step, Step::Issue(now) if now.is_same_as(request))
    })
}

/// Processes the answer of ACS and writes the token to the Secret that pods read. The lock is held
/// until the status records the token, so that a revocation never overtakes a token on its way into
/// the Secret (R3).
pub async fn absorb(
    context: &Arc<Context>,
    token: &AcsToken,
    answered: Answered,
    findings: &mut Findings,
) -> Result<StepOutcome, cluster::Error> {
    let AcsCall {
        via,
        connection,
        operation:
            AcsOperation::IssueToken(request) | AcsOperation::ExchangeTeamsToken { request, .. },
        ..
    } = &answered.call
    else {
        return Ok(StepOutcome::Done);
    };
    let issued = match &answered.result {
        Ok(AcsAnswer::Issued(issued)) => issued,
        Ok(_) => return Ok(StepOutcome::Done),
        Err(error) => {
            let reported = not_issued(context, token, &answered, request, error).await;
            if reported.is_err() {
                // Otherwise the call would be repeated at once, as if it had not failed.
                context.calls.store_answer(answered);
            }
            return reported.map(|()| StepOutcome::Done);
        }
    };
    context.note_existence(&request.identity_id, via.endpoint.as_str(), false);
    let observed = observe(context, token, findings, context.now());
    let record = TokenRecord::issued(token, request, issued, connection, via);
    if observed.service_now.is_none() && decide::is_issued_before_revocation(&observed, &record) {
        info!("discarded a token that was issued in the second of the revocation");
        return Ok(StepOutcome::Done);
    }
    if let Some((reason, text)) = useless(&observed, &record) {
        report::failed(context, token, reason, &text, None).await?;
        return Ok(StepOutcome::Done);
    }
    let held = hold(context, token, record, issued, via);
    store(context, token, request.why, &held, findings).await?;
    Ok(StepOutcome::Done)
}

/// Records that ACS issued no token. If the credential is at fault, the connection reports it.
async fn not_issued(
    context: &Context,
    token: &AcsToken,
    answered: &Answered,
    request: &IssueRequest,
    error: &acs::Error,
) -> Result<(), cluster::Error> {
    if error.kind() == acs::Kind::IdentityNotFound {
        let endpoint = answered.call.via.endpoint.as_str();
        context.note_existence(&request.identity_id, endpoint, true);
    }
    if answered.is_overtaken == Some(true) {
        return Ok(());
    }
    remember_failed(context, token, request);
    let (reason, text) = (Reason::from(error.kind()), error.to_string());
    report::failed(context, token, reason, &text, error.retry_after()).await
}

/// Returns the token that was issued earlier and could not be written, if it still matches the
/// request.
fn in_hand(
    context: &Context,
    token: &AcsToken,
    observed: &Observed<'_>,
    request: &IssueRequest,
    resolved: &Resolved,
) -> Option<Arc<HeldToken>> {
    let held = context.cache.get(&token.uid()?).held?;
    let record = &held.record;
    let user_token = record.exchange.as_ref().map(|it| &it.user_token);
    // The request does not set the lifetime of a Teams user's token.
    let is_same_shape = if user_token.is_some() {
        record.parameters.scopes == request.parameters.scopes
    } else {
        record.parameters.is_same_as(&request.parameters)
    };
    let is_wanted = record.identity_id == request.identity_id
        && is_same_shape
        && record.credential == resolved.credential
        && held.endpoint == resolved.endpoint.as_str()
        && user_token == request.user_token.as_ref().map(|it| &it.fingerprint)
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
    issued: &IssuedToken,
    via: &Resolved,
) -> Arc<HeldToken> {
    let held = Arc::new(HeldToken {
        record,
        token: issued.token.clone(),
        endpoint: via.endpoint.to_string(),
    });
    let uid = token.uid().unwrap_or_default();
    context.cache.change(&uid, |cache| {
        cache.held = Some(Arc::clone(&held));
        // Later failures are not the fault of the Entra token.
        cache.failed_user_token = None;
    });
    held
}

/// Why a token that was just issued cannot be used. The next attempt comes after the backoff, not
/// at once.
fn useless(observed: &Observed<'_>, record: &TokenRecord) -> Option<(Reason, String)> {
    if decide::is_issued_before_revocation(observed, record) {
        let message = format!(
            "ACS dated the new token {}, which is not after the last revocation of the identity, \
             so the token may be revoked. The clocks of ACS may differ. The operator tries again",
            record.issued_at
        );
        return Some((Reason::IssuedBeforeRevocation, message));
    }
    (!record.life.is_positive()).then(|| {
        let message = format!(
            "ACS issued a token that expires {} s before its issue. The operator tries again",
            record.life.as_secs().abs()
        );
        (Reason::InvalidAnswer, message)
    })
}

/// Returns the refusal of the API server if it would still refuse the Secret. After a restart no
/// token is held; after an earlier refusal, a token is issued only if the API server accepts the
/// Secret now (T7).
async fn is_still_refused(
    context: &Context,
    token: &AcsToken,
    request: &IssueRequest,
    resolved: &Resolved,
) -> Result<Option<cluster::Error>, cluster::Error> {
    let failure = token
        .status
        .as_ref()
        .and_then(|status| status.last_failure.as_ref());
    if !failure.is_some_and(|failure| failure.reason().is_refusal()) {
        return Ok(None);
    }
    let namespace = token.namespace().unwrap_or_default();
    let record = TokenRecord::placeholder(request, resolved, context.now());
    let wanted = Wanted {
        token,
        record: &record,
        endpoint: resolved.endpoint.as_str(),
        labels: &context.config.secret_labels,
    };
    let secrets = Secrets::new(&*context.world, &namespace);
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

fn remember_failed(context: &Context, token: &AcsToken, request: &IssueRequest) {
    let uid = token.uid().unwrap_or_default();
    let user_token = request.user_token.as_ref().map(|it| it.fingerprint.clone());
    context
        .cache
        .change(&uid, |cache| cache.failed_user_token = user_token);
}

/// Records that the API server refused the Secret. The token stays held.
async fn refused(
    context: &Context,
    token: &AcsToken,
    error: &cluster::Error,
    findings: &mut Findings,
) -> Result<StepOutcome, cluster::Error> {
    // The Secret may exist nevertheless: read it before another token is issued.
    findings.forget();
    let uid = token.uid().unwrap_or_default();
    context.cache.change(&uid, |cache| {
        cache.secret = None;
        cache.doubts_secret = true;
    });
    let text = format!("the Secret of the token cannot be written: {error}");
    report::failed(context, token, error.reason(), &text, None).await?;
    Ok(StepOutcome::Done)
}

async fn store(
    context: &Arc<Context>,
    token: &AcsToken,
    why: Why,
    held: &HeldToken,
    findings: &mut Findings,
) -> Result<(), cluster::Error> {
    let namespace = token.namespace().unwrap_or_default();
    let secrets = Secrets::new(&*context.world, &namespace);
    let record = &held.record;
    let wanted = Wanted {
        token,
        record,
        endpoint: &held.endpoint,
        labels: &context.config.secret_labels,
    };
    let existing = existing(context, token);
    let written = secrets.write(&wanted, &held.token, existing.as_ref());
    match written.await {
        Ok(Some(seen)) => remember(context, token, seen, findings),
        Ok(None) => {
            // The token is held in memory.
            info!(
                secret = token.secret_name(),
                "the Secret changed in the meantime; reading it again"
            );
            return read_secret(context, token, &secrets, findings).await;
        }
        Err(error) => {
            refused(context, token, &error, findings).await?;
            return Ok(());
        }
    }
    count(context, token, why);
    info!(why = %why.reason(), secret = token.secret_name(), expires = %record.expires_at, "issued a token");
    let (uid, now) = (token.uid().unwrap_or_default(), context.now());
    context.cache.change(&uid, |cache| match why {
        Why::SecretEdited => cache.repaired = Some(now),
        Why::SecretMissing => cache.recreated = Some(now),
        _ => {}
    });
    if why == Why::SecretEdited {
        report::repaired(context, token).await;
    }
    report::record(context, token, record).await?;
    nudge::after_revocation(context, token, (why, record));
    report::report_if_capped(context, token, record).await;
    Ok(())
}

fn count(context: &Context, token: &AcsToken, why: Why) {
    let labels = ReasonLabels {
        kind: "AcsToken",
        reason: why.reason(),
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
