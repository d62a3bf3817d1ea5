//! A run of an `AcsToken`: the real observe, decide and statuses; the effects as `act` has them.

use acs_identity_operator::{
    acs::{IssuedToken, UserToken},
    cluster::{
        secret::{Owner, SeenSecret, Wanted, owner, see},
        view::object_ref,
    },
    connection::Resolved,
    crd::{AcsToken, AcsTokenStatus},
    token::{
        Decision, Findings, Observed, Step, TokenFacts, connection_of, decide,
        decide::{IdentityView, IssueOrder, SecretView, Why, is_stillborn},
        endpoint_of, identity_of, observe, see_user_token, tell,
    },
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    cluster::{NAMESPACE, Refused},
    operator::MOST_STEPS,
    service::{Request, Success},
    wire::Wire,
    world::{text_in, timestamp},
};

pub enum Outcome {
    Done,
    Overtaken,
    Gone,
}

pub async fn reconcile(wire: Wire, key: ObjectRef<AcsToken>) -> Result<Option<Timestamp>, Refused> {
    let mut findings = Findings::default();
    let token = wire.context.views.tokens.get(&key);
    if token.is_some_and(|token| token.spec.teams_user.is_some()) {
        findings.watched(wire.follow_user_token());
    }
    for _ in 0..MOST_STEPS {
        let Some(token) = wire.context.views.tokens.get(&key) else {
            return Ok(None);
        };
        let observed = look(&wire, &token, &findings);
        let decision = decide(&observed);
        wire.tell(|| {
            format!(
                "{} decides on {:?}, wake {:?}",
                wire.by, decision.step, decision.wake
            )
        });
        if decision.step == Step::Rest {
            wire.follow(match observed.secret {
                SecretView::Foreign { .. } => Some(token.secret_name()),
                _ => None,
            });
            let is_leaving = token.metadata.deletion_timestamp.is_some();
            if !(is_leaving && wire.context.is_terminating(NAMESPACE)) {
                write(&wire, &token, tell::rested(&token, &decision, wire.now())).await?;
            }
            return Ok(decision.wake);
        }
        match carry_out(&wire, &token, &decision, &mut findings).await? {
            Outcome::Done => {}
            Outcome::Gone => return Ok(None),
            Outcome::Overtaken => return Ok(Some(wire.in_a_moment())),
        }
    }
    wire.never_rests();
    Ok(Some(wire.in_a_moment()))
}

fn look<'a>(wire: &Wire, token: &'a AcsToken, findings: &Findings) -> Observed<'a> {
    let mut observed = observe(&wire.context, token, findings, wire.now());
    observed.service_now = wire.service_now();
    observed
}

async fn carry_out(
    wire: &Wire,
    token: &AcsToken,
    decision: &Decision,
    findings: &mut Findings,
) -> Result<Outcome, Refused> {
    match &decision.step {
        Step::Rest => {}
        Step::ReadUserToken => {
            read_user_token(wire, token, findings).await?;
        }
        Step::Mark => write(wire, token, tell::rested(token, decision, wire.now())).await?,
        Step::AddFinalizer => wire.hold_token(token).await?,
        Step::Fail { reason, message } => fail(wire, token, reason, message, None).await?,
        Step::ReadSecret => read_secret(wire, token, findings).await?,
        Step::Record(facts) => record(wire, token, facts).await?,
        Step::Issue(order) => return issue(wire, token, order, findings).await,
        Step::RewriteSecret => rewrite(wire, token, &token.secret_name(), findings).await?,
        Step::CopySecret { from } => rewrite(wire, token, from, findings).await?,
        Step::DeleteSecret {
            name,
            only_without_identity,
        } => {
            let identity = token.identity_name().unwrap_or_default();
            if *only_without_identity && wire.identity_exists(identity).await? {
                return Ok(Outcome::Overtaken);
            }
            delete_secret(wire, name).await?;
        }
        Step::RefuseRequest { request } => {
            write(wire, token, tell::refused(token, request, wire.now())).await?;
        }
        Step::RemoveFinalizer { abandoned } => {
            let why = abandoned.map(ToOwned::to_owned);
            wire.release_token(token, why).await?;
            wire.context.memory.forget(&token.uid().unwrap_or_default());
            return Ok(Outcome::Gone);
        }
    }
    Ok(Outcome::Done)
}

async fn delete_secret(wire: &Wire, name: &str) -> Result<(), Refused> {
    let secrets = &wire.context.views.secrets;
    let key = object_ref(Some(NAMESPACE), name);
    let uid = secrets.get(&key).and_then(|secret| secret.uid());
    wire.delete_secret(name, uid.clone()).await?;
    secrets.deleted(&key, uid);
    Ok(())
}

async fn read_user_token(
    wire: &Wire,
    token: &AcsToken,
    findings: &mut Findings,
) -> Result<Option<UserToken>, Refused> {
    let Some(user) = &token.spec.teams_user else {
        return Ok(None);
    };
    let found = wire.read_secret(&user.secret_ref.name).await?;
    let (read, user_token) = see_user_token(user, NAMESPACE, found);
    findings.read_user_token();
    let uid = token.uid().unwrap_or_default();
    let memory = &wire.context.memory;
    memory.change(&uid, |memory| memory.user_token = Some(read));
    Ok(user_token)
}

async fn read_secret(
    wire: &Wire,
    token: &AcsToken,
    findings: &mut Findings,
) -> Result<(), Refused> {
    let name = token.secret_name();
    let found = match wire.read_secret(&name).await?.map(see) {
        None => SecretView::Absent,
        Some(seen) => match owner(&seen.0.metadata, token) {
            Owner::Ours => {
                remember(wire, token, seen, findings);
                return Ok(());
            }
            Owner::Other(owner) => SecretView::Foreign { owner },
        },
    };
    let key = object_ref(Some(NAMESPACE), &name);
    let secrets = &wire.context.views.secrets;
    let believed = secrets.get(&key);
    if let Some(gone) = believed.filter(|gone| owner(&gone.metadata, token) == Owner::Ours) {
        secrets.deleted(&key, gone.uid());
    }
    findings.found(name, found);
    Ok(())
}

fn remember(wire: &Wire, token: &AcsToken, (metadata, read): SeenSecret, findings: &mut Findings) {
    findings.forget();
    let uid = token.uid().unwrap_or_default();
    let memory = &wire.context.memory;
    memory.change(&uid, |memory| memory.secret = Some(read));
    wire.context.views.secrets.wrote(metadata);
}

async fn issue(
    wire: &Wire,
    token: &AcsToken,
    order: &IssueOrder,
    findings: &mut Findings,
) -> Result<Outcome, Refused> {
    let context = &wire.context;
    let _guard = context.gates.issue(&order.identity_id).await;
    let user_token = read_user_token(wire, token, findings).await?;
    let reference = object_ref(Some(NAMESPACE), &token.name_any());
    let Some(token) = context.views.tokens.get(&reference) else {
        return Ok(Outcome::Gone);
    };
    let observed = look(wire, &token, findings);
    let still_wanted = matches!(
        decide(&observed).step,
        Step::Issue(now) if now.is_same_as(order)
    );
    let connection = connection_of(context, &token, wire.now());
    let Some((key, resolved)) = connection.filter(|_| still_wanted) else {
        return Ok(Outcome::Overtaken);
    };
    let may_call = context
        .registry
        .may_call(&key, &resolved.credential, observed.now);
    if !may_call {
        return Ok(Outcome::Overtaken);
    }
    let request = Request::Issue {
        id: order.identity_id.clone(),
        shape: order.shape.clone(),
        uid: token.uid().unwrap_or_default(),
        why: order.why,
        user_token: user_token
            .as_ref()
            .map(|it| it.token.expose_secret().to_owned()),
    };
    let (answer, date) = wire.acs(request, &resolved.credential).await;
    let (text, expires) = match answer {
        Ok(Success::Issued { text, expires }) => (text, expires),
        Ok(_) => return Ok(Outcome::Done),
        Err(failure) => {
            let reason = failure.kind.reason();
            if context.note_kind(&key, &resolved, failure.kind, reason, wire.now()) {
                return Ok(Outcome::Done);
            }
            let uid = token.uid().unwrap_or_default();
            context.memory.change(&uid, |memory| {
                memory.failed_user_token = user_token.map(|it| it.fingerprint);
            });
            fail(wire, &token, reason, reason, failure.retry_after).await?;
            return Ok(Outcome::Done);
        }
    };
    context.note_success(&key, &resolved);
    let issued = IssuedToken {
        token: SecretString::from(text),
        expires_on: timestamp(expires),
        date: timestamp(date * 1000),
        received_at: wire.now(),
    };
    let facts = TokenFacts::issued(&token, order, &issued, &key, &resolved);
    if is_stillborn(&observed, &facts) {
        return Ok(Outcome::Done);
    }
    store(
        wire,
        &token,
        order.why,
        (&facts, &issued.token),
        &resolved,
        findings,
    )
    .await?;
    Ok(Outcome::Done)
}

async fn store(
    wire: &Wire,
    token: &AcsToken,
    why: Why,
    (facts, text): (&TokenFacts, &SecretString),
    resolved: &Resolved,
    findings: &mut Findings,
) -> Result<(), Refused> {
    let wanted = Wanted {
        token,
        facts,
        endpoint: resolved.endpoint.as_str(),
    };
    match write_secret(wire, &wanted, text).await {
        Ok(Some(seen)) => remember(wire, token, see(seen), findings),
        Ok(None) => return read_secret(wire, token, findings).await,
        Err(_) => {
            findings.forget();
            let uid = token.uid().unwrap_or_default();
            wire.context
                .memory
                .change(&uid, |memory| memory.secret = None);
            return fail(wire, token, "ApiServerError", "", None).await;
        }
    }
    if why == Why::SecretEdited {
        let uid = token.uid().unwrap_or_default();
        let now = wire.now();
        let memory = &wire.context.memory;
        memory.change(&uid, |memory| memory.repaired = Some(now));
    }
    record(wire, token, facts).await
}

/// As `Secrets::write`: over what was last seen, and never over someone else's.
async fn write_secret(
    wire: &Wire,
    wanted: &Wanted<'_>,
    text: &SecretString,
) -> Result<Option<Secret>, Refused> {
    let name = wanted.token.secret_name();
    let key = object_ref(Some(NAMESPACE), &name);
    let seen = wire.context.views.secrets.get(&key);
    let mut existing = seen.map(|secret| secret.metadata.clone());
    for _ in 0..4 {
        let Some(secret) = wanted.build(text, existing.as_ref()) else {
            return Ok(None);
        };
        match wire.put_secret(secret, existing.is_none()).await {
            Ok(written) => return Ok(Some(written)),
            Err(Refused::Conflict | Refused::AlreadyExists | Refused::NotFound) => {
                let found = wire.read_secret(&name).await?;
                existing = found.map(|found| found.metadata);
            }
            Err(refused) => return Err(refused),
        }
    }
    Ok(None)
}

async fn rewrite(
    wire: &Wire,
    token: &AcsToken,
    from: &str,
    findings: &mut Findings,
) -> Result<(), Refused> {
    let context = &wire.context;
    let source = object_ref(Some(NAMESPACE), from);
    let seen = context.views.secrets.get(&source);
    let annotations = seen.and_then(|secret| secret.metadata.annotations.clone());
    let identity = identity_of(token).and_then(|it| context.views.identities.get(&it));
    let endpoint = endpoint_of(token, identity.as_deref());
    let facts = annotations.and_then(|all| TokenFacts::from_annotations(&all));
    let (Some(facts), Some(endpoint)) = (facts, endpoint) else {
        return Ok(());
    };
    let _guard = context.gates.issue(&facts.identity_id).await;
    if !matches!(
        look(wire, token, findings).identity,
        IdentityView::Usable(_)
    ) {
        return Ok(());
    }
    let found = wire.read_secret(from).await?;
    let fits =
        |secret: &Secret| see(secret.clone()).1.fingerprint.as_ref() == Some(&facts.fingerprint);
    let Some(text) = found
        .filter(fits)
        .and_then(|found| text_in(&found, "token"))
    else {
        let uid = token.uid().unwrap_or_default();
        context.memory.change(&uid, |memory| memory.secret = None);
        if from != token.secret_name() {
            delete_secret(wire, from).await?;
        }
        return Ok(());
    };
    let wanted = Wanted {
        token,
        facts: &facts,
        endpoint: &endpoint,
    };
    if let Some(written) = write_secret(wire, &wanted, &SecretString::from(text)).await? {
        remember(wire, token, see(written), findings);
    } else {
        read_secret(wire, token, findings).await?;
    }
    Ok(())
}

async fn record(wire: &Wire, token: &AcsToken, facts: &TokenFacts) -> Result<(), Refused> {
    let uid = token.uid().unwrap_or_default();
    wire.context
        .memory
        .change(&uid, |memory| memory.retry_after = None);
    write(wire, token, tell::recorded(token, facts, wire.now())).await
}

async fn fail(
    wire: &Wire,
    token: &AcsToken,
    reason: &str,
    message: &str,
    retry_after: Option<SignedDuration>,
) -> Result<(), Refused> {
    let now = wire.now();
    let uid = token.uid().unwrap_or_default();
    wire.context.memory.change(&uid, |memory| {
        memory.retry_after = retry_after.map(|wait| (now, wait));
    });
    write(wire, token, tell::failed(token, reason, message, now)).await
}

async fn write(wire: &Wire, token: &AcsToken, news: Option<AcsTokenStatus>) -> Result<(), Refused> {
    if news.is_none() {
        return Ok(());
    }
    let object = AcsToken {
        status: news,
        ..token.clone()
    };
    wire.write_token(&object).await
}
