//! A run of an `AcsIdentity`: the real observe, decide and statuses; the effects as `act` has them.

use std::sync::Arc;

use acs_identity_operator::{
    acs::{Kind, Revoked},
    cluster::{secret::owned_by, view::object_ref},
    connection::{ConnectionKey, Resolved},
    crd::{AcsIdentity, AcsIdentityStatus},
    identity::{
        Decision, Observed, Step, connection_of, decide, observe, remember_asking, siblings, tell,
    },
    token,
};
use jiff::Timestamp;
use kube::{ResourceExt, runtime::reflector::ObjectRef};

use crate::{
    cluster::{NAMESPACE, Refused},
    operator::MOST_STEPS,
    service::{Failure, Request, Success},
    token::Outcome,
    wire::Wire,
    world::timestamp,
};

pub async fn reconcile(
    wire: Wire,
    key: ObjectRef<AcsIdentity>,
) -> Result<Option<Timestamp>, Refused> {
    for _ in 0..MOST_STEPS {
        let Some(identity) = wire.context.views.identities.get(&key) else {
            return Ok(None);
        };
        let mut observed = look(&wire, &identity);
        observed.asked_since = remember_asking(&wire.context, &identity, &observed);
        let decision = decide(&observed);
        wire.tell(|| {
            format!(
                "{} decides on {:?}, wake {:?}",
                wire.by, decision.step, decision.wake
            )
        });
        if decision.step == Step::Rest {
            let news = tell::rested(&identity, &decision, wire.now());
            write(&wire, &identity, news).await?;
            return Ok(decision.wake);
        }
        match carry_out(&wire, &identity, &observed, &decision).await? {
            Outcome::Done => {}
            Outcome::Gone => return Ok(None),
            Outcome::Overtaken => return Ok(Some(wire.in_a_moment())),
        }
    }
    wire.never_rests();
    Ok(Some(wire.in_a_moment()))
}

fn look<'a>(wire: &Wire, identity: &'a AcsIdentity) -> Observed<'a> {
    let mut observed = observe(&wire.context, identity, wire.now());
    observed.service_now = wire.service_now();
    observed
}

async fn carry_out(
    wire: &Wire,
    identity: &AcsIdentity,
    observed: &Observed<'_>,
    decision: &Decision,
) -> Result<Outcome, Refused> {
    match &decision.step {
        Step::Rest => {}
        Step::AddFinalizer => wire.hold_identity(identity).await?,
        Step::RecordCreate {
            reference,
            endpoint,
            was_lost,
        } => {
            let next = tell::creating(identity, reference, endpoint, *was_lost, observed.now);
            let intent = next.pending_create.as_ref().map(|intent| intent.0);
            write(wire, identity, Some(next)).await?;
            remember_intent(wire, identity, intent);
        }
        Step::Create { custom_id } => return create(wire, identity, custom_id.clone()).await,
        Step::Adopt {
            reference,
            endpoint,
            id,
        } => {
            ready(
                wire,
                identity,
                tell::adopted(identity, reference, endpoint, id),
            )
            .await?;
        }
        Step::FollowConnection { reference } => {
            write(wire, identity, Some(tell::following(identity, reference))).await?;
        }
        Step::RecordRevocation {
            reason,
            unsettled_until,
        } => {
            let orders = &observed.orders;
            let next = tell::revoking(identity, reason, orders, *unsettled_until, observed.now);
            let intent = next.pending_revocation.as_ref().map(|intent| intent.time.0);
            write(wire, identity, Some(next)).await?;
            remember_intent(wire, identity, intent);
        }
        Step::RefuseRequest { request } => {
            write(wire, identity, Some(tell::refused(identity, request))).await?;
        }
        Step::Revoke { id } => return revoke(wire, identity, id).await,
        Step::DeleteSecrets => delete_secrets(wire, identity).await?,
        Step::Delete { id } => return delete(wire, identity, id).await,
        Step::RemoveFinalizer { .. } => return release(wire, identity, &decision.step).await,
    }
    Ok(Outcome::Done)
}

async fn release(wire: &Wire, identity: &AcsIdentity, step: &Step) -> Result<Outcome, Refused> {
    let status = identity.status.as_ref();
    let id = status.and_then(|status| status.identity_id.as_deref());
    let _guard = match (step, id) {
        (Step::RemoveFinalizer { abandoned: None }, Some(id)) => {
            let guard = wire.context.gates.revoke(id).await;
            if still(wire, identity, step).is_none() {
                return Ok(Outcome::Done);
            }
            Some(guard)
        }
        _ => None,
    };
    let abandoned = match step {
        Step::RemoveFinalizer { abandoned } => abandoned.as_ref().map(ToString::to_string),
        _ => None,
    };
    wire.release_identity(identity, abandoned).await?;
    let uid = identity.uid().unwrap_or_default();
    wire.context.memory.forget(&uid);
    Ok(Outcome::Gone)
}

fn still(wire: &Wire, identity: &AcsIdentity, step: &Step) -> Option<Arc<AcsIdentity>> {
    let reference = object_ref(Some(NAMESPACE), &identity.name_any());
    let identity = wire.context.views.identities.get(&reference)?;
    let next = decide(&look(wire, &identity)).step;
    (next == *step).then_some(identity)
}

async fn create(
    wire: &Wire,
    identity: &AcsIdentity,
    custom_id: Option<String>,
) -> Result<Outcome, Refused> {
    let uid = identity.uid().unwrap_or_default();
    let is_first = wire.context.memory.of(&uid).intent.is_some();
    remember_intent(wire, identity, None);
    let Some((key, resolved)) = connection_of(&wire.context, identity, wire.now()) else {
        return Ok(Outcome::Overtaken);
    };
    let has_custom_id = custom_id.is_some();
    let request = Request::Create {
        custom_id,
        uid: identity.uid().unwrap_or_default(),
    };
    match wire.acs(request, &resolved.credential).await.0 {
        Ok(Success::Created(id)) => {
            wire.context.note_success(&key, &resolved);
            ready(wire, identity, tell::created(identity, &id)).await?;
        }
        Ok(_) => {}
        Err(failure) => {
            let next = tell::create_failed(identity, failure.outcome, has_custom_id, is_first);
            failed(wire, identity, next, &failure, (&key, &resolved)).await?;
        }
    }
    Ok(Outcome::Done)
}

async fn revoke(wire: &Wire, identity: &AcsIdentity, id: &str) -> Result<Outcome, Refused> {
    let _guard = wire.context.gates.revoke(id).await;
    let Some(identity) = still(wire, identity, &Step::Revoke { id: id.to_owned() }) else {
        return Ok(Outcome::Overtaken);
    };
    let Some((key, resolved)) = connection_of(&wire.context, &identity, wire.now()) else {
        return Ok(Outcome::Overtaken);
    };
    remember_intent(wire, &identity, None);
    let request = Request::Revoke { id: id.to_owned() };
    let (answer, date) = wire.acs(request, &resolved.credential).await;
    match answer {
        Ok(Success::Revoked {
            earlier_attempt_lost,
        }) => {
            wire.context.note_success(&key, &resolved);
            let answer = Revoked {
                date: timestamp(date * 1000),
                earlier_attempt_lost,
            };
            let next = tell::revoked(&identity, &answer, wire.now());
            tell_siblings(wire, &identity, &next).await?;
            ready(wire, &identity, next).await?;
        }
        Ok(_) => {}
        Err(failure) => {
            let next = tell::revoke_failed(&identity, failure.outcome, failure.is_lost, wire.now());
            failed(wire, &identity, next, &failure, (&key, &resolved)).await?;
        }
    }
    Ok(Outcome::Done)
}

async fn tell_siblings(
    wire: &Wire,
    identity: &AcsIdentity,
    told: &AcsIdentityStatus,
) -> Result<(), Refused> {
    let (Some(id), Some(endpoint)) = (&told.identity_id, &told.endpoint) else {
        return Ok(());
    };
    for sibling in siblings(&wire.context, id, endpoint) {
        if sibling.uid() == identity.uid() {
            continue;
        }
        let mut next = sibling.status.clone().unwrap_or_default();
        next.tokens_valid_after.clone_from(&told.tokens_valid_after);
        next.last_revocation.clone_from(&told.last_revocation);
        write(wire, &sibling, Some(next)).await?;
    }
    Ok(())
}

async fn delete_secrets(wire: &Wire, identity: &AcsIdentity) -> Result<(), Refused> {
    let views = &wire.context.views;
    let key = token::identity_key(NAMESPACE, &identity.name_any());
    for token in views.tokens.find(&key) {
        let owned = owned_by(&token.uid().unwrap_or_default());
        for secret in views.secrets.find(&owned) {
            let name = secret.name_any();
            wire.delete_secret(&name, secret.uid()).await?;
            views
                .secrets
                .deleted(&object_ref(Some(NAMESPACE), &name), secret.uid());
        }
    }
    Ok(())
}

async fn delete(wire: &Wire, identity: &AcsIdentity, id: &str) -> Result<Outcome, Refused> {
    let _guard = wire.context.gates.revoke(id).await;
    let Some(identity) = still(wire, identity, &Step::Delete { id: id.to_owned() }) else {
        return Ok(Outcome::Done);
    };
    let identity = identity.as_ref();
    let Some((key, resolved)) = connection_of(&wire.context, identity, wire.now()) else {
        return Ok(Outcome::Overtaken);
    };
    let request = Request::Delete { id: id.to_owned() };
    match wire.acs(request, &resolved.credential).await.0 {
        Ok(_) => wire.context.note_success(&key, &resolved),
        Err(failure) if failure.kind == Kind::IdentityNotOwned => {}
        Err(failure) => {
            let next = identity.status.clone().unwrap_or_default();
            failed(wire, identity, next, &failure, (&key, &resolved)).await?;
            return Ok(Outcome::Done);
        }
    }
    wire.release_identity(identity, None).await?;
    let uid = identity.uid().unwrap_or_default();
    wire.context.memory.forget(&uid);
    Ok(Outcome::Gone)
}

fn remember_intent(wire: &Wire, identity: &AcsIdentity, intent: Option<Timestamp>) {
    let uid = identity.uid().unwrap_or_default();
    let memory = &wire.context.memory;
    memory.change(&uid, |memory| memory.intent = intent);
}

async fn ready(
    wire: &Wire,
    identity: &AcsIdentity,
    next: AcsIdentityStatus,
) -> Result<(), Refused> {
    let uid = identity.uid().unwrap_or_default();
    let memory = &wire.context.memory;
    memory.change(&uid, |memory| memory.retry_after = None);
    write(wire, identity, tell::ready(identity, next, wire.now())).await
}

async fn failed(
    wire: &Wire,
    identity: &AcsIdentity,
    next: AcsIdentityStatus,
    failure: &Failure,
    (key, resolved): (&ConnectionKey, &Resolved),
) -> Result<(), Refused> {
    let (now, reason) = (wire.now(), failure.kind.reason());
    wire.context
        .note_kind(key, resolved, failure.kind, reason, now);
    let uid = identity.uid().unwrap_or_default();
    wire.context.memory.change(&uid, |memory| {
        memory.retry_after = failure.retry_after.map(|wait| (now, wait));
    });
    let next = tell::failed(identity, next, reason, reason, now);
    write(wire, identity, next).await
}

async fn write(
    wire: &Wire,
    identity: &AcsIdentity,
    news: Option<AcsIdentityStatus>,
) -> Result<(), Refused> {
    if news.is_none() || identity.status == news {
        return Ok(());
    }
    let object = AcsIdentity {
        status: news,
        ..identity.clone()
    };
    wire.write_identity(&object).await
}
