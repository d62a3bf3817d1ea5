use std::sync::Arc;

use jiff::{
    SignedDuration, Timestamp,
    fmt::friendly::{Direction, SpanPrinter},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::{
    former::{self, Regeneration},
    load::Load,
};
use crate::{
    cache::ObservedState,
    cluster::{self, index, row::Packable, view::View},
    context::Context,
    crd::{
        AcsToken, AnyConnection, Conditions, ConnectionKey, ConnectionRef, ConnectionStatus,
        Reason, SAFE_TO_REGENERATE, SERVICE_LIMIT_EXCEEDED, Verdict, is_ready, ready_reason,
    },
    credentials::{CredentialState, Unusable},
    engine::{Stored, write_status},
    renewal,
};

/// Minimum time between two counts. Counts are written only if they have changed. With many tokens
/// the interval is longer, because a count visits each token.
const COUNTING: SignedDuration = SignedDuration::from_secs(10);
/// Addition to the interval per token: 50 s for 10,000 tokens.
const COUNTING_PER_TOKEN: SignedDuration = SignedDuration::from_millis(5);
/// Minimum difference between the clocks of ACS and the operator that the status reports (C3).
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(1);
/// Interval of the runs for a connection while another release writes its status, in case that
/// release is gone.
const TOLD_BY_ANOTHER: SignedDuration = SignedDuration::from_secs(30);
/// Interval of the runs for a connection while its Secret cannot be read.
const UNREADABLE: SignedDuration = SignedDuration::from_secs(30);

/// Writes the status of the connection, if anything changes (K4), and returns when to requeue it.
pub async fn update_status<C: AnyConnection + Stored + Packable>(
    context: &Context,
    view: &View<C>,
    connection: &C,
    key: &ConnectionKey,
) -> Result<Option<Timestamp>, cluster::Error> {
    let now = context.now();
    let uid = connection.uid().unwrap_or_default();
    let former = connection.status().cloned().unwrap_or_default();
    let current = context.registry.current(key);
    let generation = connection.meta().generation;
    let credential = context.registry.credential(key);
    let verdict = verdict(&current, &credential);
    let is_accepted = current.is_ok() && credential.is_accepted();
    let conditions = Conditions {
        former: &former.conditions,
        generation,
        now: renewal::whole_seconds(now),
    };
    let counted_before = former.conditions.iter().filter(|it| is_counted(it));
    let mut next = ConnectionStatus {
        credential: credential.accepted.clone(),
        refused_credentials: credential.refused.clone(),
        observed_generation: generation,
        conditions: conditions
            .for_verdict(&verdict)
            .into_iter()
            .chain(counted_before.cloned())
            .collect(),
        ..with_endpoint(context, key, &former)
    };
    let was_accepted = former
        .conditions
        .iter()
        .find(|condition| condition.type_ == SAFE_TO_REGENERATE)
        .is_some_and(|condition| {
            Reason::parse(&condition.reason) != Some(Reason::CredentialNotAccepted)
        });
    let is_changed = next != former || is_accepted != was_accepted;
    let counted = context.cache.get(&uid).counted;
    let tokens = i32::try_from(former.tokens.unwrap_or(0)).unwrap_or(i32::MAX);
    let pause = COUNTING.max(COUNTING_PER_TOKEN * tokens);
    let due = counted.and_then(|counted| renewal::pause(counted, pause, now));
    if let (false, Some(due)) = (is_changed, due) {
        return Ok(Some(due));
    }
    let load = count(context, key, &credential, &mut next);
    let users = context.views.identities.count(&index::of_connection(key));
    next.identities = i64::try_from(users).ok();
    let left = next.former_tokens.as_ref().map_or(0, |former| former.left);
    context
        .cache
        .change(&uid, |cache| measure(context, cache, left));
    let settling = context.config.pods_reread_within;
    let regeneration =
        former::regeneration(next.former_tokens.as_ref(), is_accepted, settling, now);
    replace_counted(&mut next.conditions, &conditions, &regeneration, &load);
    let requeue_at = again(&current, now)
        .into_iter()
        .chain(regeneration.changes_at)
        .min();
    // The count is done only once the status is written; a failed write is repeated like any
    // failure (K4).
    let record_count = || {
        context
            .cache
            .change(&uid, |cache| cache.counted = Some(now));
    };
    if next == former {
        record_count();
        return Ok(requeue_at);
    }
    if !context.tells_of(key) {
        record_count();
        return Ok(Some(renewal::add(now, TOLD_BY_ANOTHER)));
    }
    write_status(&*context.world, view, &connection.with_status(next)).await?;
    record_count();
    warn(context, connection, &former, &current, &verdict).await;
    Ok(requeue_at)
}

/// Whether a condition depends on the count of the tokens.
fn is_counted(condition: &Condition) -> bool {
    [SAFE_TO_REGENERATE, SERVICE_LIMIT_EXCEEDED].contains(&condition.type_.as_str())
}

/// Returns the former status with the current endpoint and the offset of its clock.
fn with_endpoint(
    context: &Context,
    key: &ConnectionKey,
    former: &ConnectionStatus,
) -> ConnectionStatus {
    let endpoint = context.registry.endpoint(key);
    let offset = endpoint
        .as_ref()
        .and_then(|endpoint| context.world.clock_offset(endpoint));
    let mut next = ConnectionStatus {
        endpoint: endpoint.map(|endpoint| endpoint.to_string()),
        // After a restart the offset is unknown until ACS answers; the status keeps the former one.
        clock_offset: match offset {
            Some(offset) if offset.abs() > CLOCK_TOLERANCE => Some(offset_text(offset)),
            Some(_) => None,
            None => former.clock_offset.clone(),
        },
        ..former.clone()
    };
    let offset_appears = next.clock_offset.is_some() != former.clock_offset.is_some();
    if !offset_appears {
        // The offset varies by seconds; only its appearance or disappearance is worth a write.
        next.clock_offset.clone_from(&former.clock_offset);
    }
    next
}

/// Replaces the conditions that depend on the count of the tokens.
fn replace_counted(
    all: &mut Vec<Condition>,
    conditions: &Conditions<'_>,
    regeneration: &Regeneration,
    load: &Load,
) {
    all.retain(|condition| !is_counted(condition));
    all.push(conditions.one(
        SAFE_TO_REGENERATE,
        regeneration.is_safe,
        regeneration.reason,
        &regeneration.message,
    ));
    if let Some(warning) = load.warning() {
        let reason = Reason::TooManyRenewals;
        all.push(conditions.one(SERVICE_LIMIT_EXCEEDED, true, reason, &warning));
    }
}

/// Counts the tokens of the connection and those of former credentials, and returns the calls that
/// their renewals need.
fn count(
    context: &Context,
    key: &ConnectionKey,
    credential: &CredentialState,
    next: &mut ConnectionStatus,
) -> Load {
    let (mut count, mut load) = (0, Load::default());
    let tokens = tokens_of(context, key).inspect(|token| {
        count += 1;
        token.status.iter().for_each(|status| load.add(status));
    });
    if let Some(accepted) = &credential.accepted {
        let statuses = tokens.filter_map(|token| token.status.clone());
        let former = next.former_tokens.take();
        next.former_tokens = former::count(statuses, accepted, &credential.dead(), former.as_ref());
    } else {
        tokens.for_each(drop);
    }
    next.tokens = Some(count);
    load
}

/// Reports what the deletion of the connection waits for.
pub async fn deleting<C: AnyConnection + Stored + Packable>(
    context: &Context,
    view: &View<C>,
    connection: &C,
    key: &ConnectionKey,
    deadline: Timestamp,
) -> Result<(), cluster::Error> {
    let users = context
        .views
        .identities
        .find_refs(&index::of_connection(key));
    let named: Vec<_> = users
        .iter()
        .take(3)
        .map(|user| {
            format!(
                "{}/{}",
                user.namespace.as_deref().unwrap_or_default(),
                user.name
            )
        })
        .collect();
    let message = format!(
        "waiting until {} AcsIdentities no longer use this connection ({}{}); delete them, or set \
         their connectionRef to another connection with the same endpoint. The connection is \
         deleted at {} in any case",
        users.len(),
        named.join(", "),
        if users.len() > named.len() {
            ", ..."
        } else {
            ""
        },
        renewal::whole_seconds(deadline)
    );
    let former = connection.status().cloned().unwrap_or_default();
    let generation = connection.meta().generation;
    let conditions = Conditions {
        former: &former.conditions,
        generation,
        now: renewal::whole_seconds(context.now()),
    };
    let next = ConnectionStatus {
        observed_generation: generation,
        conditions: conditions.for_verdict(&Verdict::reconciling(Reason::Deleting, message)),
        ..former.clone()
    };
    if next == former || !context.tells_of(key) {
        return Ok(());
    }
    write_status(&*context.world, view, &connection.with_status(next)).await
}

/// Adds the connection's share to the metric of former tokens.
pub fn measure(context: &Context, cache: &mut ObservedState, left: i64) {
    let change = left.saturating_sub(cache.former_tokens);
    context.metrics.former_tokens.inc_by(change);
    cache.former_tokens = left;
}

/// Publishes an Event if the connection got worse.
async fn warn<C: AnyConnection>(
    context: &Context,
    connection: &C,
    former: &ConnectionStatus,
    current: &Result<(), Unusable>,
    verdict: &Verdict,
) {
    let (reason, message) = match (current, verdict) {
        (Err(why), _) if is_ready(&former.conditions) => (why.reason, &why.message),
        (Ok(()), Verdict::Ready { reason, message })
            if *reason != Reason::ConnectionReady
                && Some(*reason) != ready_reason(&former.conditions) =>
        {
            (*reason, message)
        }
        _ => return,
    };
    context.warn(connection, reason, message.clone()).await;
}

fn verdict(current: &Result<(), Unusable>, credential: &CredentialState) -> Verdict {
    let fault = credential.spare_fault.as_ref();
    match current {
        Ok(()) if credential.is_replaced => Verdict::ready(
            Reason::SecondaryKeyInUse,
            "ACS rejects the key in secretRef, so the key in secondarySecretRef is in use; store \
             the new key of the ACS resource in secretRef",
        ),
        Ok(()) => match fault {
            Some(fault) => Verdict::ready(
                Reason::SecondaryKeyUnusable,
                format!(
                    "the key in secretRef is accepted, but secondarySecretRef cannot be used: \
                     {fault}"
                ),
            ),
            None => Verdict::ready(
                Reason::ConnectionReady,
                "the credential exists and ACS has not rejected it",
            ),
        },
        Err(why) if why.is_stalled => Verdict::stalled(why.reason, why.message.clone()),
        Err(why) => {
            let message = match fault {
                Some(fault) => {
                    format!("{} secondarySecretRef cannot be used: {fault}", why.message)
                }
                None => why.message.clone(),
            };
            Verdict::reconciling(why.reason, message)
        }
    }
}

/// Returns all tokens that the connection issues. The connection that an identity was created with
/// counts, not the one that its spec names now. Tokens are unpacked one by one, because there may
/// be thousands.
fn tokens_of<'a>(
    context: &'a Context,
    key: &'a ConnectionKey,
) -> impl Iterator<Item = Arc<AcsToken>> + 'a {
    let users = index::of_connection(key);
    let is_made_with = |kept: Option<&ConnectionRef>, namespace: Option<String>| {
        let namespace = namespace.unwrap_or_default();
        kept.is_some_and(|kept| ConnectionKey::from_reference(kept, &namespace) == *key)
    };
    let of_users = context.views.tokens.find(&users).filter(move |token| {
        let kept = token.status.as_ref();
        is_made_with(
            kept.and_then(|it| it.connection_ref.as_ref()),
            token.namespace(),
        )
    });
    let identities = context.views.identities.find(&users);
    let identities = identities.filter(move |identity| {
        let kept = identity.status.as_ref();
        is_made_with(
            kept.and_then(|it| it.connection_ref.as_ref()),
            identity.namespace(),
        )
    });
    identities
        .flat_map(|identity| {
            let namespace = identity.namespace().unwrap_or_default();
            let key = index::of_identity(&namespace, &identity.name_any());
            context.views.tokens.find(&key)
        })
        .chain(of_users)
}

fn offset_text(offset: SignedDuration) -> String {
    let offset = SignedDuration::from_secs(offset.as_secs());
    SpanPrinter::new()
        .direction(Direction::ForceSign)
        .duration_to_string(&offset)
}

fn again(current: &Result<(), Unusable>, now: Timestamp) -> Option<Timestamp> {
    let why = current.as_ref().err()?;
    let is_unreadable = matches!(why.reason, Reason::Forbidden | Reason::ApiServerError);
    is_unreadable.then(|| renewal::add(now, UNREADABLE))
}
