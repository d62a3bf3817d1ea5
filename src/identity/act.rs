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
    acs,
    cluster::{self, ObjectKey, index, view::object_ref},
    context::Context,
    crd::{AcsIdentity, AcsIdentityStatus},
    engine::{
        AcsAnswer, AcsCall, AcsOperation, Answered, Outcome, add_finalizer, remove_finalizer,
        write_status,
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
            let uid = identity.uid().unwrap_or_default();
            let operation = AcsOperation::CreateIdentity {
                custom_id: custom_id.clone(),
                is_first: context.memory.of(&uid).intent.is_some(),
            };
            let created_at = identity.creation_timestamp();
            let deadline = created_at.map_or_else(|| context.now(), |time| time.0);
            return Ok(begin(context, identity, operation, deadline));
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
        Step::Revoke { id } => {
            let operation = AcsOperation::RevokeTokens {
                identity_id: id.clone(),
            };
            return Ok(begin(context, identity, operation, context.now()));
        }
        Step::DeleteSecrets => delete_secrets(context, identity).await?,
        Step::Delete { id } => {
            let operation = AcsOperation::DeleteIdentity {
                identity_id: id.clone(),
            };
            return Ok(begin(context, identity, operation, context.now()));
        }
        Step::RemoveFinalizer { abandoned } => {
            return release(context, identity, abandoned.as_deref()).await;
        }
    }
    Ok(Outcome::Done)
}

/// Sends the call if it is the identity's turn; else it waits for that.
fn begin(
    context: &Context,
    identity: &AcsIdentity,
    operation: AcsOperation,
    deadline: Timestamp,
) -> Outcome {
    let Some((connection, via)) = connection_of(context, identity, context.now()) else {
        return Outcome::Overtaken;
    };
    let call = AcsCall {
        via,
        connection,
        by: ObjectRef::from_obj(identity).into(),
        uid: identity.uid().unwrap_or_default(),
        operation,
        deadline,
    };
    let (calls, world) = (&context.calls, &*context.world);
    if calls.has_turn(world, &call) && calls.begin(world, call) {
        // From here on the intent is used up: whatever comes, it is not fresh any longer.
        remember_intent(context, identity, None);
    }
    Outcome::Waits
}

/// Lets the object go; unless something is left behind anyway, not before every token that is on its
/// way has arrived and had its say.
async fn release(
    context: &Context,
    identity: &AcsIdentity,
    abandoned: Option<&str>,
) -> Result<Outcome, cluster::Error> {
    let status = identity.status.as_ref();
    let id = status.and_then(|status| status.identity_id.as_deref());
    let guard = match (abandoned, id) {
        (None, Some(id)) => {
            let key = ObjectRef::from_obj(identity).into();
            let Some(guard) = context.locks.revoke(id, &key) else {
                return Ok(Outcome::Waits);
            };
            Some(guard)
        }
        _ => None,
    };
    if let Some(why) = abandoned
        && context.tells_abandonment(&identity.uid().unwrap_or_default())
    {
        report::abandoned(context, identity, why).await;
    }
    let gone = let_go(context, identity, abandoned.map(ToOwned::to_owned)).await;
    drop(guard);
    gone
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

/// Records what ACS has answered; an answer that can't be recorded yet is kept.
pub async fn absorb(
    context: &Context,
    identity: &AcsIdentity,
    answered: Answered,
) -> Result<Outcome, cluster::Error> {
    let absorbed = match &answered.call.operation {
        AcsOperation::CreateIdentity {
            custom_id,
            is_first,
        } => created(context, identity, &answered, custom_id.is_some(), *is_first).await,
        AcsOperation::RevokeTokens { identity_id } => {
            revoked(context, identity, identity_id, &answered).await
        }
        AcsOperation::DeleteIdentity { identity_id } => {
            deleted(context, identity, identity_id, &answered).await
        }
        AcsOperation::IssueToken(_) | AcsOperation::ExchangeTeamsToken { .. } => Ok(Outcome::Done),
    };
    if absorbed.is_err() {
        context.calls.keep(answered);
    }
    absorbed
}

/// The answer to the one call of the object's life (I1): the intent is in the status, the id goes
/// there before anything else.
async fn created(
    context: &Context,
    identity: &AcsIdentity,
    answered: &Answered,
    has_custom_id: bool,
    is_first: bool,
) -> Result<Outcome, cluster::Error> {
    let AcsCall {
        via,
        connection,
        by,
        uid,
        ..
    } = &answered.call;
    match &answered.result {
        Ok(AcsAnswer::Created(created)) => {
            context.note_success(connection, via);
            info!(identity_id = created.id, "created an identity");
            let unrecorded = Created {
                uid: uid.clone(),
                id: created.id.clone(),
                via: via.clone(),
                connection: connection.clone(),
            };
            context.memory.remember_created(by.clone(), unrecorded);
            record_created(context, identity, &created.id).await?;
        }
        Ok(_) => {}
        Err(error) => {
            context.note_failure(connection, via, error);
            let next = tell::create_failed(identity, error.outcome(), has_custom_id, is_first);
            let unknown =
                next.unknown_creates != identity.status.as_ref().and_then(|s| s.unknown_creates);
            report::failed(context, identity, next, error).await?;
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
pub fn delete_unrecorded(context: &Context, key: &ObjectKey, created: Created) -> Outcome {
    let call = AcsCall {
        via: created.via,
        connection: created.connection,
        by: key.clone(),
        uid: created.uid,
        operation: AcsOperation::DeleteIdentity {
            identity_id: created.id,
        },
        deadline: context.now(),
    };
    if context.calls.has_turn(&*context.world, &call) {
        context.calls.begin(&*context.world, call);
    }
    Outcome::Rest(None)
}

/// Takes in an answer whose object is gone, or has left its name to another one.
pub fn absorb_of_gone(context: &Context, answered: Answered) -> Outcome {
    let AcsCall {
        via,
        connection,
        by,
        uid,
        operation,
        ..
    } = answered.call;
    match (operation, answered.result) {
        (AcsOperation::CreateIdentity { .. }, Ok(AcsAnswer::Created(created))) => {
            let unrecorded = Created {
                uid,
                id: created.id,
                via,
                connection,
            };
            context.memory.remember_created(by, unrecorded);
        }
        (AcsOperation::DeleteIdentity { identity_id }, result) => {
            if context.memory.created(&by).is_none() {
                return Outcome::Done;
            }
            match result {
                Err(error) if error.kind() != acs::Kind::IdentityNotOwned => {
                    warn!(identity_id, %error, "an identity of an object that is gone could not be deleted yet");
                    return Outcome::Rest(Some(renewal::add(context.now(), UNRECORDED)));
                }
                _ => {
                    info!(
                        identity_id,
                        "deleted the identity of an object that is gone"
                    );
                    context.memory.forget_created(&by);
                }
            }
        }
        _ => {}
    }
    Outcome::Done
}

/// All tokens are revoked, or not: the answer is in the status before one is issued again (R3).
async fn revoked(
    context: &Context,
    identity: &AcsIdentity,
    id: &str,
    answered: &Answered,
) -> Result<Outcome, cluster::Error> {
    let AcsCall {
        via, connection, ..
    } = &answered.call;
    let revoked = match &answered.result {
        Ok(AcsAnswer::Revoked(revoked)) => {
            context.note_success(connection, via);
            context.note_existence(id, via.endpoint.as_str(), false);
            *revoked
        }
        // Of an identity that does not exist no token works: a revocation of it is done (T8).
        Err(error) if error.kind() == acs::Kind::IdentityNotFound => {
            context.note_success(connection, via);
            context.note_existence(id, via.endpoint.as_str(), true);
            let now = context.service_now(Some(via.endpoint.as_str()));
            acs::Revoked {
                date: now.unwrap_or_else(|| context.now()),
                earlier_attempt_lost: false,
            }
        }
        Ok(_) => return Ok(Outcome::Done),
        Err(error) => {
            context.note_failure(connection, via, error);
            let now = context.now();
            let next = tell::revoke_failed(identity, error.outcome(), error.is_lost(), now);
            report::failed(context, identity, next, error).await?;
            return Ok(Outcome::Done);
        }
    };
    let now = context.now();
    let claims = observe(context, identity, now).claims;
    let newest = claims.iter().map(|claim| claim.newest_issue).max();
    let next = tell::revoked(identity, &revoked, newest, now);
    let is_over = next.pending_revocation.is_none();
    let reason = next
        .last_revocation
        .as_ref()
        .map(|last| last.reason.clone());
    let reason = reason.unwrap_or_default();
    let orders = next.last_revocation.as_ref().map(|last| &last.orders);
    let mut ordered_by = revocation::orders_of(context, identity);
    ordered_by.retain(|order| orders.is_some_and(|orders| orders.contains(&order.uid)));
    info!(reason, is_over, "revoked all tokens of the identity");
    write_siblings(context, identity, &next).await?;
    report::ready(context, identity, next).await?;
    if is_over {
        report::revoked(context, identity, &reason, &ordered_by).await;
    }
    Ok(Outcome::Done)
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

/// The identity is deleted in ACS, or not.
async fn deleted(
    context: &Context,
    identity: &AcsIdentity,
    id: &str,
    answered: &Answered,
) -> Result<Outcome, cluster::Error> {
    let AcsCall {
        via, connection, ..
    } = &answered.call;
    match &answered.result {
        Ok(_) => {
            context.note_success(connection, via);
            info!(identity_id = id, "deleted the identity in ACS");
        }
        // At the recorded endpoint, and only there, this means that there is nothing to delete (I4).
        Err(error) if error.kind() == acs::Kind::IdentityNotOwned => {
            info!(identity_id = id, %error, "the identity does not exist in ACS any longer");
        }
        Err(error) => {
            context.note_failure(connection, via, error);
            let next = identity.status.clone().unwrap_or_default();
            report::failed(context, identity, next, error).await?;
            return Ok(Outcome::Done);
        }
    }
    let_go(context, identity, None).await
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
