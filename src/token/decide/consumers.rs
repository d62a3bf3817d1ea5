//! Counts of the pods that use the Secret.

use super::{ConsumersView, Counts, Decision, Observed, Step};
use crate::consumers::{self, UsedSecret};

/// Adds the counts of pods to a decision that rests with a token in the Secret, and when to count
/// again if they may not be written yet: a rollout changes them many times within seconds.
pub(super) fn with_counts(observed: &Observed<'_>, decision: Decision) -> Decision {
    if decision.step != Step::Rest || decision.record.is_none() {
        return decision;
    }
    let (pods, pause, written_at) = match (&observed.consumers, observed.token.written_at()) {
        (ConsumersView::Disabled, _) => {
            let counts = Some(Counts(None));
            return Decision { counts, ..decision };
        }
        (ConsumersView::Unknown, _) | (_, None) => return decision,
        (ConsumersView::Known { pods, pause }, Some(written_at)) => (pods, *pause, written_at),
    };
    let secret = UsedSecret::of_token(observed.token);
    let counts = consumers::count(pods.iter().map(AsRef::as_ref), &secret, written_at);
    let status = observed.token.status.as_ref();
    let reported = status.and_then(|status| status.consumers);
    // A Secret that no pod has ever used costs no write.
    if counts == reported.unwrap_or_default() {
        return decision;
    }
    match pause {
        Some(pause) => Decision {
            requeue_at: Some(decision.requeue_at.map_or(pause, |at| at.min(pause))),
            ..decision
        },
        None => Decision {
            counts: Some(Counts(Some(counts))),
            ..decision
        },
    }
}
