use std::sync::Arc;

use jiff::Timestamp;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use tracing::debug;

use super::{
    act,
    decide::{Observed, Step, decide},
    observe::observe,
    report,
};
use crate::{
    cluster,
    context::Context,
    crd::AcsIdentity,
    engine::{Outcome, Reconcile, to_rest},
};

/// Looks at one identity; when to look again.
pub async fn reconcile(
    context: Arc<Context>,
    key: ObjectRef<AcsIdentity>,
) -> Result<Option<Timestamp>, cluster::Error> {
    to_rest(Run { context, key }).await
}

struct Run {
    context: Arc<Context>,
    key: ObjectRef<AcsIdentity>,
}

impl Reconcile for Run {
    async fn step(&mut self) -> Result<Outcome, cluster::Error> {
        let context = &self.context;
        let identity = context.views.identities.get(&self.key);
        let key = self.key.clone().into();
        if let Some(created) = context.memory.created(&key)
            && identity.as_ref().and_then(|it| it.uid()).as_ref() != Some(&created.uid)
        {
            return Ok(act::delete_unrecorded(context, &key, created).await);
        }
        let Some(identity) = identity else {
            return Ok(Outcome::Gone);
        };
        let mut observed = observe(context, &identity, context.now());
        observed.asked_since = remember_asking(context, &identity, &observed);
        let decision = decide(&observed);
        debug!(step = ?decision.step, "decided");
        if decision.step == Step::Rest {
            report::rest(context, &identity, &decision).await?;
            return Ok(Outcome::Rest(decision.wake));
        }
        act::carry_out(context, &identity, &observed, &decision).await
    }

    fn now(&self) -> Timestamp {
        self.context.now()
    }
}

/// Since when a token asks for a revocation: the batch of R2 begins with the first of them.
fn remember_asking(
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
