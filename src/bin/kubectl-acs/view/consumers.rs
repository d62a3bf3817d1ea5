//! Pods that hold a former token (pure).

use acs_identity_operator::{
    consumers::{ConsumerPod, FixedUse, OutdatedContainer, UsedSecret},
    crd::AcsToken,
};
use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::view::span;

/// Maximum number of pods that are named per token.
const MOST: usize = 10;

/// Returns a note for each pod that holds a former token, if the operator counted any; `pods` is
/// `None` if the user may not list pods.
pub fn notes(token: &AcsToken, pods: Option<&[ConsumerPod]>, now: Timestamp) -> Vec<String> {
    let status = token.status.as_ref();
    let counts = status.and_then(|status| status.consumers);
    let counted = counts.map_or(0, |counts| counts.outdated);
    let (Some(written_at), 1..) = (token.written_at(), counted) else {
        return Vec::new();
    };
    let Some(pods) = pods else {
        return vec![format!(
            "pods that use a former token: {counted}; to see which, you need the permission to list \
             pods"
        )];
    };
    let secret = UsedSecret::of_token(token);
    let here = pods
        .iter()
        .filter(|pod| pod.namespace() == token.namespace());
    let outdated = here.filter_map(|pod| {
        let container = pod.outdated(&secret, written_at).into_iter().next()?;
        Some(note(&pod.name_any(), &container, now))
    });
    let mut notes: Vec<_> = outdated.collect();
    let more = notes.len().saturating_sub(MOST);
    notes.truncate(MOST);
    if more > 0 {
        notes.push(format!("more pods that use a former token: {more}"));
    }
    notes
}

fn note(pod: &str, container: &OutdatedContainer, now: Timestamp) -> String {
    let by = match container.by {
        FixedUse::Environment => "an environment variable",
        FixedUse::SubPath => "a file mounted with subPath",
    };
    format!(
        "Pod {pod} uses a former token until it is restarted: container {} started {} and reads \
         {by}",
        container.name,
        span::from_now(container.started_at, now)
    )
}
