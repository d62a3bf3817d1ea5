use std::sync::Arc;

use jiff::Timestamp;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use tracing::debug;

use super::{
    act,
    decide::{Observed, Step, decide, waits},
    observe::observe,
    report,
};
use crate::{
    cluster,
    context::Context,
    crd::AcsIdentity,
    engine::{Reconcile, Rested, StepOutcome, to_rest},
};

/// Reconciles one identity and returns when to requeue it.
pub async fn reconcile(
    context: Arc<Context>,
    key: ObjectRef<AcsIdentity>,
) -> Result<Rested, cluster::Error> {
    to_rest(Run { context, key }).await
}

struct Run {
    context: Arc<Context>,
    key: ObjectRef<AcsIdentity>,
}

impl Reconcile for Run {
    type Step = Step;

    async fn step(&mut self) -> Result<(Option<Step>, StepOutcome), cluster::Error> {
        let context = &self.context;
        let identity = context.views.identities.get(&self.key);
        let key = self.key.clone().into();
        let uid = identity.as_ref().and_then(|identity| identity.uid());
        if let Some(answered) = context.take_answer(&key) {
            let outcome = match &identity {
                Some(identity) if uid.as_ref() == Some(&answered.call.uid) => {
                    act::absorb(context, identity, answered).await?
                }
                _ => act::absorb_of_gone(context, &answered),
            };
            return Ok((None, outcome));
        }
        if let Some(created) = context.cache.created(&key)
            && uid.as_ref() != Some(&created.uid)
        {
            return Ok((None, act::delete_unrecorded(context, &key, created)));
        }
        let Some(identity) = identity else {
            context.calls.give_up(&key);
            return Ok((None, StepOutcome::Gone));
        };
        let mut observed = observe(context, &identity, context.now());
        observed.asked_since = remember_asking(context, &identity, &observed);
        let decision = decide(&observed);
        debug!(step = ?decision.step, "decided");
        if decision.step == Step::Rest {
            if !observed.call.is_on_the_wire() {
                context.calls.give_up(&key);
            }
            report::rest(context, &identity, &decision).await?;
            return Ok((None, StepOutcome::Rest(decision.requeue_at)));
        }
        let outcome = act::carry_out(context, &identity, &observed, &decision).await?;
        if outcome != StepOutcome::Waits {
            return Ok((Some(decision.step), outcome));
        }
        // The wait has begun after the observation.
        observed.call = context.calls.stage(&key);
        observed.now = context.now();
        let decision = waits(&observed);
        report::rest(context, &identity, &decision).await?;
        Ok((None, StepOutcome::Rest(decision.requeue_at)))
    }

    fn name(step: &Step) -> &'static str {
        step.name()
    }
}

/// Returns the time since which a token demands a revocation. The batch of R2 begins with the first
/// such token.
fn remember_asking(
    context: &Context,
    identity: &AcsIdentity,
    observed: &Observed<'_>,
) -> Option<Timestamp> {
    let after = identity
        .status
        .as_ref()
        .and_then(|status| status.tokens_valid_after.as_ref());
    let asks = observed.demands.iter().any(|demand| {
        demand.asks.is_some() && after.is_none_or(|after| demand.issued_at > after.0)
    });
    let former = observed.asked_since.filter(|since| *since <= observed.now);
    let since = asks.then(|| former.unwrap_or(observed.now));
    if since != observed.asked_since {
        let uid = identity.uid().unwrap_or_default();
        context
            .cache
            .change(&uid, |cache| cache.asked_since = since);
    }
    since
}
