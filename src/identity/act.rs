use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use tracing::{info, warn};

use super::{
    decide::{Decision, Observed, Step},
    observe::{connection_of, observe},
    report, tell,
};
use crate::{
    acs::{self, Resolved},
    cluster::{self, ObjectKey, index, view::object_ref},
    context::Context,
    crd::{AcsIdentity, AcsIdentityStatus},
    engine::{
        AcsAnswer, AcsCall, AcsOperation, Outcome, add_finalizer, remove_finalizer, write_status,
    },
    memory::Created,
    renewal, revocation,
    token::{owner::owned_by, secret::Secrets},
};

/// An identity whose object is gone is tried to be deleted this far apart.
const UNRECORDED: SignedDuration = SignedDuration::from_secs(30);

/// Carries out one step.
pub async fn carry_out(
    context: &Arc<Context>,
    identity: &AcsIdentity,
    observed: &Observed<'_>,
    decision: &Decision,
) -> Result<Outcome, cluster::Error> {
    match &decision.step {
        Step::Rest => {}
        Step::AddFinalizer => {
            add_finalizer(&*context.world, &context.views.identities, identity).await?;
        }
        Step::RecordCreate {
            reference,
            endpoint,
            was_lost,
        } => {
            let next = tell::creating(identity, reference, endpoint, *was_lost, observed.now);
            let intent = next.pending_create.clone();
            write(context, identity, next).await?;
            remember_intent(context, identity, intent);
            report::fallback(context, identity, reference, endpoint).await;
            if *was_lost {
                report::unknown_create(context, identity).await;
            }
        }
        Step::RecordCreated { id } => record_created(context, identity, id).await?,
        Step::Create { custom_id } => {
            return create(context, identity, custom_id.as_deref()).await;
        }
        Step::Adopt {
            reference,
            endpoint,
            id,
        } => {
            let next = tell::adopted(identity, reference, endpoint, id);
            info!(identity_id = id, "adopted an identity");
            report::ready(context, identity, next).await?;
            report::fallback(context, identity, reference, endpoint).await;
        }
        Step::FollowConnection { reference } => {
            write(context, identity, tell::following(identity, reference)).await?;
        }
        Step::RecordRevocation {
            reason,
            unsettled_until,
        } => {
            let orders = &observed.orders;
            let next = tell::revoking(identity, reason, orders, *unsettled_until, observed.now);
            let intent = next
                .pending_revocation
                .as_ref()
                .map(|intent| intent.time.clone());
            write(context, identity, next).await?;
            remember_intent(context, identity, intent);
        }
        Step::RefuseRequest { request } => {
            write(context, identity, tell::refused(identity, request)).await?;
            report::refused(context, identity).await;
        }
        Step::Revoke { id } => return revoke(context, identity, id).await,
        Step::DeleteSecrets => delete_secrets(context, identity).await?,
        Step::Delete { id } => return delete(context, identity, id).await,
        Step::RemoveFinalizer { abandoned } => {
            let uid = identity.uid().unwrap_or_default();
            if let Some(why) = abandoned
                && context.tells_abandonment(&uid)
            {
                report::abandoned(context, identity, why).await;
            }
            return release(context, identity, &decision.step).await;
        }
    }
    Ok(Outcome::Done)
}

/// Lets the object go; unless something is left behind anyway, not before every token that is on its
/// way has arrived and had its say.
async fn release(
    context: &Context,
    identity: &AcsIdentity,
    step: &Step,
) -> Result<Outcome, cluster::Error> {
    let status = identity.status.as_ref();
    let id = status.and_then(|status| status.identity_id.as_deref());
    let _guard = match (step, id) {
        (Step::RemoveFinalizer { abandoned: None }, Some(id)) => {
            let guard = context.locks.revoke(id).await;
            if still(context, identity, step).is_none() {
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
    let_go(context, identity, abandoned).await
}

async fn let_go(
    context: &Context,
    identity: &AcsIdentity,
    abandoned: Option<String>,
) -> Result<Outcome, cluster::Error> {
    let views = &context.views;
    remove_finalizer(&*context.world, &views.identities, identity, abandoned).await?;
    context.memory.forget(&identity.uid().unwrap_or_default());
    Ok(Outcome::Gone)
}

/// The identity as it is now, if `step` is still its next one: while a gate kept us waiting, tokens
/// have got into their Secrets, or the intent has grown old.
fn still(context: &Context, identity: &AcsIdentity, step: &Step) -> Option<Arc<AcsIdentity>> {
    let reference = object_ref(identity.namespace().as_deref(), &identity.name_any());
    let identity = context.views.identities.get(&reference)?;
    let next = super::decide::decide(&observe(context, &identity, context.now())).step;
    (next == *step).then_some(identity)
}

/// Makes the one call of the object's life (I1): the intent is in the status, the id goes there
/// before anything else.
async fn create(
    context: &Context,
    identity: &AcsIdentity,
    custom_id: Option<&str>,
) -> Result<Outcome, cluster::Error> {
    // From here on the intent is used up: whatever comes, it is not fresh any longer.
    let uid = identity.uid().unwrap_or_default();
    let is_first = context.memory.of(&uid).intent.is_some();
    remember_intent(context, identity, None);
    let Some((key, resolved)) = connection_of(context, identity, context.now()) else {
        return Ok(Outcome::Overtaken);
    };
    let deadline = identity
        .creation_timestamp()
        .map_or_else(|| context.now(), |time| time.0);
    let operation = AcsOperation::CreateIdentity {
        custom_id: custom_id.map(ToOwned::to_owned),
    };
    let call = call_of(identity, &resolved, operation, deadline);
    match context.world.call(call).await {
        Ok(AcsAnswer::Created(created)) => {
            context.note_success(&key, &resolved);
            info!(identity_id = created.id, "created an identity");
            let unrecorded = Created {
                uid,
                id: created.id.clone(),
                via: resolved,
            };
            let key = ObjectRef::from_obj(identity).into();
            context.memory.remember_created(key, unrecorded);
            record_created(context, identity, &created.id).await?;
        }
        Ok(_) => {}
        Err(error) if error.kind() == acs::Kind::Withheld => {
            // An intent that stays counts as a call that may have been made.
            if error.outcome() == acs::Outcome::NotDone {
                let is_repeatable = custom_id.is_some();
                let next = tell::create_failed(identity, error.outcome(), is_repeatable, is_first);
                write(context, identity, next).await?;
            }
            return Err(cluster::Error::Withheld);
        }
        Err(error) => {
            context.note_failure(&key, &resolved, &error);
            let next =
                tell::create_failed(identity, error.outcome(), custom_id.is_some(), is_first);
            let unknown =
                next.unknown_creates != identity.status.as_ref().and_then(|s| s.unknown_creates);
            report::failed(context, identity, next, &error).await?;
            if unknown {
                report::unknown_create(context, identity).await;
            }
        }
    }
    Ok(Outcome::Done)
}

/// The id goes into the status; it stays in memory until it is there.
async fn record_created(
    context: &Context,
    identity: &AcsIdentity,
    id: &str,
) -> Result<(), cluster::Error> {
    report::ready(context, identity, tell::created(identity, id)).await?;
    let key = ObjectRef::from_obj(identity).into();
    context.memory.forget_created(&key);
    Ok(())
}

/// The object is gone, or another one has its name: an identity that was created for it meanwhile is
/// deleted in ACS at once (I6).
pub async fn delete_unrecorded(context: &Context, key: &ObjectKey, created: Created) -> Outcome {
    let operation = AcsOperation::DeleteIdentity {
        identity_id: created.id.clone(),
    };
    let now = context.now();
    let call = AcsCall {
        via: created.via,
        by: key.clone(),
        uid: created.uid,
        operation,
        why: "Unrecorded",
        deadline: now,
    };
    match context.world.call(call).await {
        Err(error) if error.kind() != acs::Kind::IdentityNotOwned => {
            warn!(identity_id = created.id, %error, "an identity of an object that is gone could not be deleted yet");
            Outcome::Rest(Some(renewal::add(now, UNRECORDED)))
        }
        _ => {
            info!(
                identity_id = created.id,
                "deleted the identity of an object that is gone"
            );
            context.memory.forget_created(key);
            Outcome::Done
        }
    }
}

/// Revokes all tokens, while none is being issued, and has the answer in the status before one is
/// issued again (R3).
async fn revoke(
    context: &Arc<Context>,
    identity: &AcsIdentity,
    id: &str,
) -> Result<Outcome, cluster::Error> {
    let _guard = context.locks.revoke(id).await;
    let step = Step::Revoke { id: id.to_owned() };
    let Some(identity) = still(context, identity, &step) else {
        return Ok(Outcome::Overtaken);
    };
    let Some((key, resolved)) = connection_of(context, &identity, context.now()) else {
        return Ok(Outcome::Overtaken);
    };
    remember_intent(context, &identity, None);
    let operation = AcsOperation::RevokeTokens {
        identity_id: id.to_owned(),
    };
    let call = call_of(&identity, &resolved, operation, context.now());
    let answer = context.call(call).await?;
    match existing_or_not(context, &identity, id, answer) {
        Ok(AcsAnswer::Revoked(revoked)) => {
            context.note_success(&key, &resolved);
            let now = context.now();
            let claims = observe(context, &identity, now).claims;
            let newest = claims.iter().map(|claim| claim.issued_at).max();
            let next = tell::revoked(&identity, &revoked, newest, now);
            let is_over = next.pending_revocation.is_none();
            let reason = next
                .last_revocation
                .as_ref()
                .map(|last| last.reason.clone());
            let reason = reason.unwrap_or_default();
            let orders = next.last_revocation.as_ref().map(|last| &last.orders);
            let mut ordered_by = revocation::orders_of(context, &identity);
            ordered_by.retain(|order| orders.is_some_and(|orders| orders.contains(&order.uid)));
            info!(reason, is_over, "revoked all tokens of the identity");
            write_siblings(context, &identity, &next).await?;
            report::ready(context, &identity, next).await?;
            if is_over {
                report::revoked(context, &identity, &reason, &ordered_by).await;
            }
        }
        Ok(_) => {}
        Err(error) => {
            context.note_failure(&key, &resolved, &error);
            let now = context.now();
            let next = tell::revoke_failed(&identity, error.outcome(), error.is_lost(), now);
            report::failed(context, &identity, next, &error).await?;
        }
    }
    Ok(Outcome::Done)
}

/// Of an identity that does not exist no token works: a revocation of it is done (T8).
fn existing_or_not(
    context: &Context,
    identity: &AcsIdentity,
    id: &str,
    answer: Result<AcsAnswer, acs::Error>,
) -> Result<AcsAnswer, acs::Error> {
    let endpoint = identity.status.as_ref().and_then(|it| it.endpoint.clone());
    let endpoint = endpoint.unwrap_or_default();
    let is_missing = match &answer {
        Ok(_) => false,
        Err(error) if error.kind() == acs::Kind::IdentityNotFound => true,
        Err(_) => return answer,
    };
    context.note_existence(id, &endpoint, is_missing);
    if !is_missing {
        return answer;
    }
    let now = context.now();
    Ok(AcsAnswer::Revoked(acs::Revoked {
        date: context.service_now(Some(&endpoint)).unwrap_or(now),
        earlier_attempt_lost: false,
    }))
}

/// Where an id is shared, the tokens of the other objects died too: they look at their own object.
async fn write_siblings(
    context: &Context,
    identity: &AcsIdentity,
    told: &AcsIdentityStatus,
) -> Result<(), cluster::Error> {
    let (Some(id), Some(endpoint)) = (&told.identity_id, &told.endpoint) else {
        return Ok(());
    };
    for sibling in context.views.siblings(id, endpoint) {
        if sibling.uid() == identity.uid() {
            continue;
        }
        write(context, &sibling, tell::revoked_beside(&sibling, told)).await?;
    }
    Ok(())
}

/// Deletes the Secrets of the identity's tokens: they are about to hold dead tokens (I5).
async fn delete_secrets(context: &Context, identity: &AcsIdentity) -> Result<(), cluster::Error> {
    let namespace = identity.namespace().unwrap_or_default();
    let secrets = Secrets::of(&*context.world, &namespace);
    for token in context
        .views
        .tokens
        .find(&index::of_identity(&namespace, &identity.name_any()))
    {
        for secret in owned_by(&context.views, &token) {
            let name = secret.name_any();
            match secrets.delete(&name, secret.uid()).await {
                Ok(()) => info!(secret = name, token = token.name_any(), "deleted a Secret"),
                Err(error) if context.is_moot(&error, &identity.metadata) => {}
                Err(error) => return Err(error),
            }
            context
                .views
                .secrets
                .deleted(&object_ref(Some(&namespace), &name), secret.uid());
        }
    }
    Ok(())
}

async fn delete(
    context: &Arc<Context>,
    identity: &AcsIdentity,
    id: &str,
) -> Result<Outcome, cluster::Error> {
    // A token on its way into a Secret would outlive its identity's object.
    let _guard = context.locks.revoke(id).await;
    let step = Step::Delete { id: id.to_owned() };
    let Some(identity) = still(context, identity, &step) else {
        return Ok(Outcome::Done);
    };
    let identity = identity.as_ref();
    let Some((key, resolved)) = connection_of(context, identity, context.now()) else {
        return Ok(Outcome::Overtaken);
    };
    let next = identity.status.clone().unwrap_or_default();
    let operation = AcsOperation::DeleteIdentity {
        identity_id: id.to_owned(),
    };
    let call = call_of(identity, &resolved, operation, context.now());
    match context.call(call).await? {
        Ok(_) => {
            context.note_success(&key, &resolved);
            info!(identity_id = id, "deleted the identity in ACS");
        }
        // At the recorded endpoint, and only there, this means that there is nothing to delete (I4).
        Err(error) if error.kind() == acs::Kind::IdentityNotOwned => {
            info!(identity_id = id, %error, "the identity does not exist in ACS any longer");
        }
        Err(error) => {
            context.note_failure(&key, &resolved, &error);
            report::failed(context, identity, next, &error).await?;
            return Ok(Outcome::Done);
        }
    }
    let_go(context, identity, None).await
}

fn call_of(
    identity: &AcsIdentity,
    via: &Resolved,
    operation: AcsOperation,
    deadline: Timestamp,
) -> AcsCall {
    AcsCall {
        via: via.clone(),
        by: ObjectRef::from_obj(identity).into(),
        uid: identity.uid().unwrap_or_default(),
        operation,
        why: "",
        deadline,
    }
}

fn remember_intent(context: &Context, identity: &AcsIdentity, intent: Option<Time>) {
    context
        .memory
        .change(&identity.uid().unwrap_or_default(), |memory| {
            memory.intent = intent.map(|intent| intent.0);
        });
}

/// Writes the status, if it is another one: an intent may be recorded again in the same second.
pub async fn write(
    context: &Context,
    identity: &AcsIdentity,
    next: AcsIdentityStatus,
) -> Result<(), cluster::Error> {
    if identity.status.as_ref() == Some(&next) {
        return Ok(());
    }
    let object = AcsIdentity {
        status: Some(next),
        ..identity.clone()
    };
    write_status(&*context.world, &context.views.identities, &object).await
}
