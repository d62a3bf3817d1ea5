use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::debug;

use super::{
    act::{self, Outcome},
    decide::{Observed, Step, decide},
    observe::observe,
    report,
};
use crate::{
    cluster::{
        self,
        control::{self, Stop},
    },
    context::Context,
    crd::AcsIdentity,
    renewal,
};

/// No object needs more steps than this before it rests; one that does is looked at again later.
const MOST_STEPS: usize = 12;

/// Runs the controller of `AcsIdentity`s until `stop`.
pub async fn run(
    context: Arc<Context>,
    triggers: UnboundedReceiver<ObjectRef<AcsIdentity>>,
    stop: Stop,
) {
    let reader = context.views.identities.reader();
    let metrics = Arc::clone(&context.metrics);
    control::run(reader, triggers, metrics, stop, move |key| {
        reconcile(Arc::clone(&context), key)
    })
    .await;
}

async fn reconcile(
    context: Arc<Context>,
    key: ObjectRef<AcsIdentity>,
) -> Result<Option<Timestamp>, cluster::Error> {
    for _ in 0..MOST_STEPS {
        let Some(identity) = context.views.identities.get(&key) else {
            return Ok(None);
        };
        let mut observed = observe(&context, &identity, Timestamp::now());
        observed.asked_since = remember_asking(&context, &identity, &observed);
        let decision = decide(&observed);
        debug!(step = ?decision.step, "decided");
        if decision.step == Step::Rest {
            report::rest(&context, &identity, &decision).await?;
            return Ok(decision.wake);
        }
        match act::carry_out(&context, &identity, &observed, &decision).await? {
            Outcome::Done => {}
            Outcome::Gone => return Ok(None),
            // What overtook us wakes us as well; the pause is for what does not.
            Outcome::Overtaken => return Ok(Some(pause())),
        }
    }
    Ok(Some(pause()))
}

fn pause() -> Timestamp {
    renewal::add(Timestamp::now(), SignedDuration::from_millis(500))
}

/// Since when a token asks for a revocation: the batch of R2 begins with the first of them.
pub fn remember_asking(
    context: &Context,
    identity: &AcsIdentity,
    observed: &Observed<'_>,
) -> Option<Timestamp> {
    let after = identity
        .status
        .as_ref()
        .and_then(|status| status.tokens_valid_after.as_ref());
    let asks = observed
        .claims
        .iter()
        .any(|claim| claim.asks.is_some() && after.is_none_or(|after| claim.issued_at > after.0));
    let former = observed.asked_since.filter(|since| *since <= observed.now);
    let since = asks.then(|| former.unwrap_or(observed.now));
    if since != observed.asked_since {
        let uid = identity.uid().unwrap_or_default();
        context
            .memory
            .change(&uid, |memory| memory.asked_since = since);
    }
    since
}
