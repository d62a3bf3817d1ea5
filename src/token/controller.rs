use std::sync::Arc;

use kube::{ResourceExt, runtime::reflector::ObjectRef};
use tracing::debug;

use super::{
    act,
    decide::{SecretView, Step, decide, waits},
    observe::{Findings, observe},
    report,
};
use crate::{
    cluster::{
        self,
        input::{Follower, Presence, Role},
    },
    context::Context,
    crd::AcsToken,
    engine::{Reconcile, Rested, StepOutcome, to_rest},
};

/// Reconciles one token and returns when to requeue it.
pub async fn reconcile(
    context: Arc<Context>,
    key: ObjectRef<AcsToken>,
) -> Result<Rested, cluster::Error> {
    let mut findings = Findings::default();
    if let Some(token) = context.views.tokens.get(&key) {
        findings.watched(follow_user_token(&context, &token));
    }
    to_rest(Run {
        context,
        key,
        findings,
    })
    .await
}

struct Run {
    context: Arc<Context>,
    key: ObjectRef<AcsToken>,
    findings: Findings,
}

impl Reconcile for Run {
    type Step = Step;

    async fn step(&mut self) -> Result<(Option<Step>, StepOutcome), cluster::Error> {
        let context = &self.context;
        let key = self.key.clone().into();
        let token = context.views.tokens.get(&self.key);
        let answered = context.take_answer(&key);
        let Some(token) = token else {
            context.calls.give_up(&key);
            return Ok((None, StepOutcome::Gone));
        };
        // The answer to a call of a former object of this name is of no use.
        if let Some(answered) = answered.filter(|it| token.uid().as_ref() == Some(&it.call.uid)) {
            let absorbed = act::absorb(context, &token, answered, &mut self.findings).await;
            return absorbed.map(|outcome| (None, outcome));
        }
        let mut observed = observe(context, &token, &self.findings, context.now());
        let decision = decide(&observed);
        debug!(step = ?decision.step, "decided");
        if decision.step == Step::Rest {
            if !observed.call.is_on_the_wire() {
                context.calls.give_up(&key);
            }
            follow_conflict(context, &token, &observed.secret);
            report::rest(context, &token, &decision).await?;
            return Ok((None, StepOutcome::Rest(decision.requeue_at)));
        }
        let findings = &mut self.findings;
        let outcome = act::carry_out(context, &token, &decision, findings).await?;
        if outcome != StepOutcome::Waits {
            return Ok((Some(decision.step), outcome));
        }
        // The wait has begun after the observation.
        observed.call = context.calls.stage(&key);
        observed.now = context.now();
        let decision = waits(&observed);
        report::rest(context, &token, &decision).await?;
        Ok((None, StepOutcome::Rest(decision.requeue_at)))
    }

    fn name(step: &Step) -> &'static str {
        step.name()
    }
}

/// Key under which a token follows a Secret that is not its own.
pub(super) fn follower(token: &AcsToken, role: Role) -> Follower {
    Follower {
        key: ObjectRef::from_obj(token).into(),
        role,
    }
}

/// Watches the Secret of a Teams user's Entra token, so that a new Entra token is exchanged at
/// once.
fn follow_user_token(context: &Context, token: &AcsToken) -> Presence {
    let Some(user) = &token.spec.teams_user else {
        return Presence::Unknown;
    };
    let namespace = token.namespace().unwrap_or_default();
    let follower = follower(token, Role::UserToken);
    let name = user.secret_ref.name.as_str();
    let presences = context.world.follow(&namespace, &[name], &follower);
    presences.into_iter().next().unwrap_or_default()
}

/// Watches the Secret while another owner holds its name, so that the token recovers when that
/// Secret is deleted (T5).
fn follow_conflict(context: &Context, token: &AcsToken, secret: &SecretView) {
    let follower = follower(token, Role::Conflict);
    if matches!(secret, SecretView::Foreign { .. }) {
        let namespace = token.namespace().unwrap_or_default();
        let name = token.secret_name();
        let _ = context.world.follow(&namespace, &[&name], &follower);
    } else {
        context.world.unfollow(&follower);
    }
}
