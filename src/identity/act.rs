mod answer;

use answer::record_created;
pub use answer::{absorb, absorb_of_gone};

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use tracing::info;

use super::{
    decide::{Decision, Observed, Step},
    next_status,
    observe::connection_of,
    report,
};
use crate::{
    acs::Resolved,
    cache::Created,
    cluster::{self, ObjectKey, index, view::object_ref},
    context::Context,
    crd::{AcsIdentity, AcsIdentityStatus, ConnectionKey, ConnectionRef, FINALIZER},
    engine::{AcsCall, AcsOperation, StepOutcome, add_finalizer, remove_finalizer, write_status},
    token::{owner::owned_by, secret::Secrets},
};

/// Carries out one step.
pub async fn carry_out(
    context: &Arc<Context>,
    identity: &AcsIdentity,
    observed: &Observed<'_>,
    decision: &Decision,
) -> Result<StepOutcome, cluster::Error> {
    match &decision.step {
        Step::Rest => {}
        Step::AddFinalizer => {
            add_finalizer(
                &*context.world,
                &context.views.identities,
                identity,
                FINALIZER,
            )
            .await?;
        }
        Step::RecordCreate {
            reference,
            endpoint,
            was_lost,
        } => {
            let place = (reference, endpoint.as_str());
            return record_create(context, identity, place, *was_lost, observed.now).await;
        }
        Step::RecordCreated => record_created(context, identity).await?,
        Step::Create { custom_id } => {
            let Some(via) = connection_of(context, identity, context.now()) else {
                return Ok(StepOutcome::Overtaken);
            };
            let connection = (via.connection, via.resolved);
            let call = creation(context, identity, custom_id.clone(), connection);
            return Ok(send(context, identity, call, false));
        }
        Step::Adopt {
            reference,
            endpoint,
            id,
        } => {
            let next = next_status::adopted(identity, reference, endpoint, id);
            info!(identity_id = id, "adopted an identity");
            report::ready(context, identity, next).await?;
            report::fallback(context, identity, reference, endpoint).await;
        }
        Step::FollowConnection {
            reference,
            endpoint,
        } => {
            let next = next_status::resolved(identity, reference, endpoint);
            write(context, identity, next).await?;
        }
        Step::RecordRevocation {
            reason,
            unsettled_until,
        } => {
            let revocations = &observed.revocations;
            let next = next_status::revoking(
                identity,
                reason,
                revocations,
                *unsettled_until,
                observed.now,
            );
            let intent = next
                .pending_revocation
                .as_ref()
                .map(|intent| intent.time.clone());
            write(context, identity, next).await?;
            remember_intent(context, identity, intent);
        }
        Step::RefuseRequest { request } => {
            write(context, identity, next_status::refused(identity, request)).await?;
            report::refused(context, identity).await;
        }
        Step::Revoke { id } => {
            let operation = AcsOperation::RevokeTokens {
                identity_id: id.clone(),
            };
            return Ok(begin(context, identity, operation));
        }
        Step::DeleteSecrets => delete_secrets(context, identity).await?,
        Step::Delete { id } => {
            let operation = AcsOperation::DeleteIdentity {
                identity_id: id.clone(),
            };
            return Ok(begin(context, identity, operation));
        }
        Step::RemoveFinalizer { abandoned } => {
            return release(context, identity, abandoned.as_deref()).await;
        }
    }
    Ok(StepOutcome::Done)
}

/// Records in the status that the identity is about to be created, if its call has a turn.
async fn record_create(
    context: &Context,
    identity: &AcsIdentity,
    (reference, endpoint): (&ConnectionRef, &str),
    was_lost: bool,
    now: Timestamp,
) -> Result<StepOutcome, cluster::Error> {
    // The call follows its record at once: nothing comes in between, not even the end of the
    // process.
    let namespace = identity.namespace().unwrap_or_default();
    let connection = ConnectionKey::from_reference(reference, &namespace);
    let Ok(via) = context.usable_connection(&connection, &namespace, now) else {
        return Ok(StepOutcome::Overtaken);
    };
    let call = creation(context, identity, None, (connection, via));
    if !context.calls.has_turn(&*context.world, &call) {
        return Ok(StepOutcome::Waits);
    }
    let next = next_status::creating(identity, reference, endpoint, was_lost, now);
    let intent = next.pending_create.clone();
    write(context, identity, next).await?;
    remember_intent(context, identity, intent);
    report::fallback(context, identity, reference, endpoint).await;
    if was_lost {
        report::unknown_create(context, identity).await;
    }
    Ok(StepOutcome::Done)
}

/// Returns the only create call of an object.
fn creation(
    context: &Context,
    identity: &AcsIdentity,
    custom_id: Option<String>,
    (connection, via): (ConnectionKey, Resolved),
) -> AcsCall {
    let uid = identity.uid().unwrap_or_default();
    let created_at = identity.creation_timestamp();
    AcsCall {
        via,
        connection,
        by: ObjectRef::from_obj(identity).into(),
        operation: AcsOperation::CreateIdentity {
            custom_id,
            is_first: context.cache.get(&uid).intent.is_some(),
        },
        uid,
        deadline: created_at.map_or_else(|| context.now(), |time| time.0),
    }
}

/// Sends the call that revokes all tokens or deletes the identity.
fn begin(context: &Context, identity: &AcsIdentity, operation: AcsOperation) -> StepOutcome {
    let Some(via) = connection_of(context, identity, context.now()) else {
        return StepOutcome::Overtaken;
    };
    let call = AcsCall {
        via: via.resolved,
        connection: via.connection,
        by: ObjectRef::from_obj(identity).into(),
        uid: identity.uid().unwrap_or_default(),
        operation,
        deadline: context.now(),
    };
    send(context, identity, call, via.is_cleanup)
}

/// Sends the call if it is the identity's turn; otherwise the identity waits for its turn.
fn send(context: &Context, identity: &AcsIdentity, call: AcsCall, is_cleanup: bool) -> StepOutcome {
    let key = call.by.clone();
    let (calls, world) = (&context.calls, &*context.world);
    if !calls.has_turn(world, &call) {
        return StepOutcome::Waits;
    }
    let outcome = if is_cleanup {
        calls.begin(world, call);
        StepOutcome::Waits
    } else {
        context.begin(call)
    };
    if calls.stage(&key).is_on_the_wire() {
        // From here on the intent counts as used, whatever the result of the call.
        remember_intent(context, identity, None);
    }
    outcome
}

/// What is left behind if a token is still being issued at the deadline of the deletion.
const UNSTORED: &str = "a token was being issued, which may remain valid";

/// Removes the finalizer. Unless something is abandoned anyway, it waits until every token that is
/// being issued has been stored and considered, or until the deadline (I3).
async fn release(
    context: &Context,
    identity: &AcsIdentity,
    abandoned: Option<&str>,
) -> Result<StepOutcome, cluster::Error> {
    let status = identity.status.as_ref();
    let id = status.and_then(|status| status.identity_id.as_deref());
    let now = context.now();
    let is_overdue = now >= context.deletion_deadline(&identity.metadata, now);
    let (guard, abandoned) = match (abandoned, id) {
        (None, Some(id)) => {
            let key = ObjectRef::from_obj(identity).into();
            match context.locks.revoke(id, &key) {
                Some(guard) => (Some(guard), None),
                None if is_overdue => (None, Some(UNSTORED)),
                None => return Ok(StepOutcome::Waits),
            }
        }
        _ => (None, abandoned),
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
) -> Result<StepOutcome, cluster::Error> {
    let views = &context.views;
    remove_finalizer(&*context.world, &views.identities, identity, abandoned).await?;
    context.cache.forget(&identity.uid().unwrap_or_default());
    Ok(StepOutcome::Gone)
}

/// Deletes an identity in ACS after its object was deleted or replaced by another one of the same
/// name: it was created for the former object meanwhile (I6).
pub fn delete_unrecorded(context: &Context, key: &ObjectKey, created: Created) -> StepOutcome {
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
    StepOutcome::Rest(None)
}

/// Deletes the Secrets of the identity's tokens, because these tokens are about to be revoked (I5).
async fn delete_secrets(context: &Context, identity: &AcsIdentity) -> Result<(), cluster::Error> {
    let namespace = identity.namespace().unwrap_or_default();
    let secrets = Secrets::new(&*context.world, &namespace);
    for token in context
        .views
        .tokens
        .find(&index::of_identity(&namespace, &identity.name_any()))
    {
        for secret in owned_by(&context.views, &token) {
            let name = secret.name_any();
            match secrets.delete(&name, secret.uid()).await {
                Ok(()) => info!(secret = name, token = token.name_any(), "deleted a Secret"),
                Err(error) if context.is_ignorable(&error, &identity.metadata) => {}
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

fn remember_intent(context: &Context, identity: &AcsIdentity, intent: Option<Time>) {
    context
        .cache
        .change(&identity.uid().unwrap_or_default(), |cache| {
            cache.intent = intent.map(|intent| intent.0);
        });
}

/// Writes the status if it differs: an intent may be recorded again in the same second.
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
