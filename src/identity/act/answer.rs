//! Handling of the answers of ACS.

use jiff::SignedDuration;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use tracing::{info, warn};

use super::{
    super::{next_status, observe::observe, report},
    let_go, write,
};
use crate::{
    acs,
    cache::Created,
    cluster,
    context::Context,
    crd::{AcsIdentity, AcsIdentityStatus},
    engine::{AcsAnswer, AcsCall, AcsOperation, Answered, StepOutcome},
    renewal, revocation,
};

/// Interval of the attempts to delete an identity after its object was deleted.
const UNRECORDED: SignedDuration = SignedDuration::from_secs(30);

/// Records the answer of ACS; an answer that cannot be recorded yet is kept.
pub async fn absorb(
    context: &Context,
    identity: &AcsIdentity,
    answered: Answered,
) -> Result<StepOutcome, cluster::Error> {
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
        AcsOperation::IssueToken(_) | AcsOperation::ExchangeTeamsToken { .. } => {
            Ok(StepOutcome::Done)
        }
    };
    if absorbed.is_err() {
        context.calls.store_answer(answered);
    }
    absorbed
}

/// Records the answer to the only create call of an object (I1). The intent is already in the
/// status, and the id is written there before anything else.
async fn created(
    context: &Context,
    identity: &AcsIdentity,
    answered: &Answered,
    has_custom_id: bool,
    is_first: bool,
) -> Result<StepOutcome, cluster::Error> {
    match &answered.result {
        Ok(AcsAnswer::Created(created)) => {
            info!(identity_id = created.id, "created an identity");
            remember_created(context, &answered.call, &created.id);
            record_created(context, identity).await?;
        }
        Ok(_) => {}
        Err(error) => {
            let next =
                next_status::create_failed(identity, error.outcome(), has_custom_id, is_first);
            let unknown =
                next.unknown_creates != identity.status.as_ref().and_then(|s| s.unknown_creates);
            report::failed(context, identity, next, error).await?;
            if unknown {
                report::unknown_create(context, identity).await;
            }
        }
    }
    Ok(StepOutcome::Done)
}

/// Keeps the id of the created identity in memory until a status records it (I6).
fn remember_created(context: &Context, call: &AcsCall, id: &str) {
    let created = Created {
        uid: call.uid.clone(),
        id: id.to_owned(),
        via: call.via.clone(),
        connection: call.connection.clone(),
    };
    context.cache.remember_created(call.by.clone(), created);
}

/// Writes the id to the status. It stays in memory until it is there.
pub(super) async fn record_created(
    context: &Context,
    identity: &AcsIdentity,
) -> Result<(), cluster::Error> {
    let key = ObjectRef::from_obj(identity).into();
    let Some(created) = context.cache.created(&key) else {
        return Ok(());
    };
    let reference = created.connection.reference();
    let endpoint = created.via.endpoint.as_str();
    let next = next_status::created(identity, &created.id, &reference, endpoint);
    report::ready(context, identity, next).await?;
    context.cache.forget_created(&key);
    Ok(())
}

/// Handles an answer for an object that was deleted or replaced by another one of the same name.
pub fn absorb_of_gone(context: &Context, answered: &Answered) -> StepOutcome {
    let by = &answered.call.by;
    match (&answered.call.operation, &answered.result) {
        (AcsOperation::CreateIdentity { .. }, Ok(AcsAnswer::Created(created))) => {
            remember_created(context, &answered.call, &created.id);
        }
        (AcsOperation::DeleteIdentity { identity_id }, result) => {
            if context.cache.created(by).is_none() {
                return StepOutcome::Done;
            }
            match result {
                Err(error) if error.kind() != acs::Kind::IdentityNotOwned => {
                    warn!(identity_id, %error, "the identity of a deleted object could not be \
                     deleted yet");
                    return StepOutcome::Rest(Some(renewal::add(context.now(), UNRECORDED)));
                }
                _ => {
                    info!(identity_id, "deleted the identity of a deleted object");
                    context.cache.forget_created(by);
                }
            }
        }
        _ => {}
    }
    StepOutcome::Done
}

/// Records the answer to a revocation. It is in the status before another token is issued (R3).
async fn revoked(
    context: &Context,
    identity: &AcsIdentity,
    id: &str,
    answered: &Answered,
) -> Result<StepOutcome, cluster::Error> {
    let via = &answered.call.via;
    let revoked = match &answered.result {
        Ok(AcsAnswer::Revoked(revoked)) => {
            context.note_existence(id, via.endpoint.as_str(), false);
            *revoked
        }
        // An identity that does not exist has no valid tokens: its revocation is complete (T8).
        Err(error) if error.kind() == acs::Kind::IdentityNotFound => {
            context.note_existence(id, via.endpoint.as_str(), true);
            let now = context.service_now(Some(via.endpoint.as_str()));
            acs::Revoked {
                date: now.unwrap_or_else(|| context.now()),
                earlier_attempt_lost: false,
            }
        }
        Ok(_) => return Ok(StepOutcome::Done),
        Err(error) => {
            let now = context.now();
            let next = next_status::revoke_failed(identity, error.outcome(), error.is_lost(), now);
            report::failed(context, identity, next, error).await?;
            return Ok(StepOutcome::Done);
        }
    };
    let now = context.now();
    let demands = observe(context, identity, now).demands;
    let newest = demands.iter().map(|demand| demand.newest_issue).max();
    let siblings = context.views.siblings(id, via.endpoint.as_str());
    let pending = siblings
        .iter()
        .filter_map(|sibling| sibling.status.as_ref()?.pending_revocation.as_ref());
    let beside = pending.filter_map(|pending| Some(pending.unsettled_until.as_ref()?.0));
    let next = next_status::revoked(identity, &revoked, newest, beside.max(), now);
    let is_over = next.pending_revocation.is_none();
    let reason = next
        .last_revocation
        .as_ref()
        .map(|last| last.reason.clone());
    let reason = reason.unwrap_or_default();
    let orders = next.last_revocation.as_ref().map(|last| &last.orders);
    let mut ordered_by = revocation::revocations_of(context, identity);
    ordered_by.retain(|revocation| orders.is_some_and(|orders| orders.contains(&revocation.uid)));
    info!(reason, is_over, "revoked all tokens of the identity");
    write_siblings(context, identity, &next).await?;
    report::ready(context, identity, next).await?;
    if is_over {
        report::revoked(context, identity, &reason, &ordered_by).await;
    }
    Ok(StepOutcome::Done)
}

/// Writes the statuses of the other objects that share the id, because their tokens were revoked
/// too; each token reads only its own object.
async fn write_siblings(
    context: &Context,
    identity: &AcsIdentity,
    recorded: &AcsIdentityStatus,
) -> Result<(), cluster::Error> {
    let (Some(id), Some(endpoint)) = (&recorded.identity_id, &recorded.endpoint) else {
        return Ok(());
    };
    for sibling in context.views.siblings(id, endpoint) {
        if sibling.uid() == identity.uid() {
            continue;
        }
        write(
            context,
            &sibling,
            next_status::revoked_beside(&sibling, recorded),
        )
        .await?;
    }
    Ok(())
}

/// Handles the answer to the deletion of the identity in ACS.
async fn deleted(
    context: &Context,
    identity: &AcsIdentity,
    id: &str,
    answered: &Answered,
) -> Result<StepOutcome, cluster::Error> {
    let via = &answered.call.via;
    match &answered.result {
        Ok(_) => {
            info!(identity_id = id, "deleted the identity in ACS");
        }
        // At the recorded endpoint, and only there, this means that there is nothing to delete
        // (I4).
        Err(error) if error.kind() == acs::Kind::IdentityNotOwned => {
            info!(identity_id = id, %error, "the identity no longer exists in ACS");
        }
        Err(error) => {
            let next = identity.status.clone().unwrap_or_default();
            report::failed(context, identity, next, error).await?;
            return Ok(StepOutcome::Done);
        }
    }
    if identity.metadata.deletion_timestamp.is_none() {
        // etcd was restored meanwhile: the object is back, and its identity is gone (T8).
        context.note_existence(id, via.endpoint.as_str(), true);
        return Ok(StepOutcome::Done);
    }
    let_go(context, identity, None).await
}
