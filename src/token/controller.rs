use std::sync::Arc;

use jiff::Timestamp;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::debug;

use super::{
    act::{self, Outcome},
    decide::{SecretView, Step, decide},
    observe::{Findings, observe},
    report,
};
use crate::{
    cluster::{
        self,
        control::{self, Stop},
        input::{Follower, Presence},
    },
    context::Context,
    crd::AcsToken,
};

/// No object needs more steps than this before it rests; one that does is looked at again later.
const MOST_STEPS: usize = 12;

/// Runs the controller of `AcsToken`s until `stop`.
pub async fn run(
    context: Arc<Context>,
    triggers: UnboundedReceiver<ObjectRef<AcsToken>>,
    stop: Stop,
) {
    let reader = context.views.tokens.reader();
    let metrics = Arc::clone(&context.metrics);
    control::run(reader, triggers, metrics, stop, move |key| {
        reconcile(Arc::clone(&context), key)
    })
    .await;
}

async fn reconcile(
    context: Arc<Context>,
    key: ObjectRef<AcsToken>,
) -> Result<Option<Timestamp>, cluster::Error> {
    let mut findings = Findings::default();
    if let Some(token) = context.views.tokens.get(&key) {
        findings.watched(follow_user_token(&context, &token));
    }
    for _ in 0..MOST_STEPS {
        let Some(token) = context.views.tokens.get(&key) else {
            return Ok(None);
        };
        let observed = observe(&context, &token, &findings, Timestamp::now());
        let decision = decide(&observed);
        debug!(step = ?decision.step, "decided");
        if decision.step == Step::Rest {
            follow_conflict(&context, &token, &observed.secret);
            report::rest(&context, &token, &decision).await?;
            return Ok(decision.wake);
        }
        match act::carry_out(&context, &token, &decision, &mut findings).await? {
            Outcome::Done => {}
            Outcome::Gone => return Ok(None),
            // What overtook us wakes us as well; the pause is for what does not.
            Outcome::Overtaken => return Ok(Some(pause())),
        }
    }
    Ok(Some(pause()))
}

fn pause() -> Timestamp {
    crate::renewal::add(Timestamp::now(), jiff::SignedDuration::from_millis(500))
}

/// The Secret of a Teams user's Entra token is watched, so that a new one is exchanged at once.
fn follow_user_token(context: &Context, token: &AcsToken) -> Presence {
    let Some(user) = &token.spec.teams_user else {
        return Presence::Unknown;
    };
    let namespace = token.namespace().unwrap_or_default();
    let follower = Follower::UserToken(ObjectRef::from_obj(token));
    let presences = context
        .inputs
        .follow(&namespace, &[&user.secret_ref.name], &follower);
    presences.into_iter().next().unwrap_or_default()
}

/// While someone else holds the Secret's name, that one Secret is watched, so that the token heals
/// when it goes (T5).
fn follow_conflict(context: &Context, token: &AcsToken, secret: &SecretView) {
    let follower = Follower::Token(ObjectRef::from_obj(token));
    if matches!(secret, SecretView::Foreign { .. }) {
        let namespace = token.namespace().unwrap_or_default();
        let _ = context
            .inputs
            .follow(&namespace, &[&token.secret_name()], &follower);
    } else {
        context.inputs.unfollow(&follower);
    }
}
