//! A run of an `AcsRevocation`: the real selection, decisions and statuses.

use acs_identity_operator::{
    crd::AcsRevocation,
    renewal,
    revocation::{AnyRevocation, decide, first_sight, progress, told, wake_targets},
};
use jiff::{SignedDuration, Timestamp};
use kube::runtime::reflector::ObjectRef;

use crate::{cluster::Refused, wire::Wire};

pub async fn reconcile(
    wire: Wire,
    key: ObjectRef<AcsRevocation>,
) -> Result<Option<Timestamp>, Refused> {
    let Some(order) = wire.context.views.revocations.get(&key) else {
        return Ok(None);
    };
    let (context, now) = (&wire.context, wire.now());
    let former = order.status.clone().unwrap_or_default();
    if former.completed_at.is_some() {
        return Ok(None);
    }
    let next = if former.started_at.is_none() {
        first_sight(context, order.as_ref(), now).map(|seen| decide::begin(&seen))
    } else {
        wake_targets(context, order.as_ref());
        progress(context, order.as_ref(), now).map(|seen| decide::go_on(&former, &seen))
    };
    let Some(next) = next else { return Ok(None) };
    let (is_over, again) = (next.is_over(), SignedDuration::from_secs(30));
    let told = told(order.as_ref(), &former, next, now);
    if told != former {
        let order = order.with_status(told);
        wire.write_order(&order).await?;
        wake_targets(&wire.context, &order);
    }
    Ok((!is_over).then(|| renewal::add(wire.now(), again)))
}
