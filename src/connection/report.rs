use jiff::{
    SignedDuration, Timestamp,
    fmt::friendly::{Direction, SpanPrinter},
};
use kube::{Api, ResourceExt};

use super::kinds::{AnyConnection, ConnectionKey};
use crate::{
    cluster::{self, status, view::View},
    context::Context,
    crd::{Conditions, ConnectionStatus, Verdict, is_ready},
    renewal, token,
};

/// Counts are written at most this often, and only when they have changed.
const COUNTING: SignedDuration = SignedDuration::from_secs(10);
/// A service's clock that is off by more than this is worth telling (C3).
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(1);
/// A connection whose Secret could not be read is looked at again after this.
const UNREADABLE: SignedDuration = SignedDuration::from_secs(30);

/// Tells how the connection is, if that is something new (K4), and when to look again.
pub async fn tell<C: AnyConnection>(
    context: &Context,
    view: &View<C>,
    api: &Api<C>,
    connection: &C,
    key: &ConnectionKey,
    users: usize,
) -> Result<Option<Timestamp>, cluster::Error> {
    let now = Timestamp::now();
    let uid = connection.uid().unwrap_or_default();
    let former = connection.status().cloned().unwrap_or_default();
    let current = context.registry.current(key);
    let generation = connection.meta().generation;
    let verdict = match &current {
        Ok(()) => Verdict::ready("ConnectionReady", "the credential is there and not refused"),
        Err(why) if why.is_stalled => Verdict::stalled(why.reason.clone(), why.message.clone()),
        Err(why) => Verdict::reconciling(why.reason.clone(), why.message.clone()),
    };
    let credential = context.registry.credential(key);
    let endpoint = context.registry.endpoint(key);
    let offset = endpoint
        .as_ref()
        .and_then(|endpoint| context.acs.clock_offset(endpoint));
    let told_at = renewal::whole_seconds(now);
    let mut next = ConnectionStatus {
        endpoint: endpoint.map(|endpoint| endpoint.to_string()),
        credential: credential.accepted,
        refused_credential: credential.refused,
        clock_offset: offset
            .filter(|offset| offset.abs() > CLOCK_TOLERANCE)
            .map(|offset| {
                let offset = SignedDuration::from_secs(offset.as_secs());
                SpanPrinter::new()
                    .direction(Direction::ForceSign)
                    .duration_to_string(&offset)
            }),
        observed_generation: generation,
        conditions: Conditions {
            former: &former.conditions,
            generation,
            now: told_at,
        }
        .of(&verdict),
        ..former.clone()
    };
    let is_offset_news = next.clock_offset.is_some() != former.clock_offset.is_some();
    if !is_offset_news {
        // The seconds of an offset waver; only that there is one is worth a write.
        next.clock_offset.clone_from(&former.clock_offset);
    }
    let identities = context.views.identities.find_refs(&key.index_key());
    let tokens: usize = identities
        .iter()
        .map(|identity| {
            let namespace = identity.namespace.clone().unwrap_or_default();
            context
                .views
                .tokens
                .count(&token::identity_key(&namespace, &identity.name))
        })
        .sum();
    let is_news = next != former;
    next.identities = i64::try_from(users).ok();
    next.tokens = i64::try_from(tokens).ok();
    if next == former {
        return Ok(again(&current, now));
    }
    let counted = context.memory.of(&uid).counted;
    let due = counted
        .map(|counted| renewal::add(counted, COUNTING))
        .filter(|due| *due > now);
    if let (false, Some(due)) = (is_news, due) {
        return Ok(Some(due));
    }
    context
        .memory
        .change(&uid, |memory| memory.counted = Some(now));
    let was_ready = is_ready(&former.conditions);
    status::write(api, view, &connection.with_status(next)).await?;
    if let Err(why) = &current
        && was_ready
    {
        context
            .events
            .warning(connection, &why.reason, why.message.clone())
            .await;
    }
    Ok(again(&current, now))
}

fn again(current: &Result<(), super::Unusable>, now: Timestamp) -> Option<Timestamp> {
    let why = current.as_ref().err()?;
    let is_unreadable = ["Forbidden", "ApiServerError"].contains(&why.reason.as_ref());
    is_unreadable.then(|| renewal::add(now, UNREADABLE))
}
