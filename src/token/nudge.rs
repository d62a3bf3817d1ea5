//! Annotation of pods after a revocation. Pods hold a revoked token until their kubelet reads the
//! Secret again, which takes up to 90 seconds. If this is enabled, the pods that mount the Secret
//! are annotated, so that their kubelets read it at once. This happens outside the runs, and
//! nothing depends on it.

use std::{collections::BTreeSet, sync::Arc};

use futures::FutureExt;
use kube::ResourceExt;
use tracing::{info, warn};

use super::record::replaces_useless;
use crate::{
    cluster::Error,
    consumers::ConsumerPod,
    context::Context,
    crd::{AcsToken, TokenRecord},
    engine::{ApiRequest, Object, Why},
    metrics::ReasonLabels,
    renewal,
};

/// Maximum number of pods annotated per namespace and pass. The kubelets of the others read the
/// Secret at their usual interval.
const MOST_PODS: usize = 500;

/// Annotates the pods that mount the Secret of `token`, if the token of `record` replaced one that
/// no longer worked. Namespaces are processed one after another, and one list of pods serves all
/// Secrets written until it began.
pub fn after_revocation(
    context: &Arc<Context>,
    token: &AcsToken,
    (why, record): (Why, &TokenRecord),
) {
    if !context.config.consumers.nudges_pods || !replaces_useless(why, record.revision) {
        return;
    }
    let namespace = token.namespace().unwrap_or_default();
    let is_first = context.cache.queue_nudge(namespace, token.secret_name());
    if is_first {
        context.world.spawn(work(Arc::clone(context)).boxed());
    }
}

async fn work(context: Arc<Context>) {
    while let Some((namespace, secrets)) = context.cache.next_nudge() {
        match nudge(&context, &namespace, &secrets).await {
            Ok(0) => {}
            Ok(pods) => info!(
                namespace,
                pods,
                "annotated pods so that their kubelets read the \
             Secret"
            ),
            Err(error) => {
                let kind = "Pod";
                let reason = error.reason();
                let labels = ReasonLabels { kind, reason };
                context.metrics.failures.get_or_create(&labels).inc();
                warn!(namespace, %error, "pods could not be annotated; their kubelets read the \
                 Secret later");
            }
        }
    }
}

/// Annotates the pods of a namespace that mount one of the `secrets`, and returns their number.
async fn nudge(
    context: &Context,
    namespace: &str,
    secrets: &BTreeSet<String>,
) -> Result<usize, Error> {
    let mut nudged = 0;
    let mut after = None;
    loop {
        let request = ApiRequest::ListPods {
            namespace: namespace.to_owned(),
            after,
        };
        let Some(Object::Pods(page)) = context.world.ask(request).await? else {
            return Ok(nudged);
        };
        for pod in chosen(page.items, secrets) {
            if nudged == MOST_PODS {
                return Ok(nudged);
            }
            let request = ApiRequest::NudgePod {
                namespace: namespace.to_owned(),
                pod: Box::new(pod),
                at: renewal::whole_seconds(context.now()),
            };
            match context.world.ask(request).await {
                Ok(_) => {
                    nudged += 1;
                    context.metrics.pods_nudged.inc();
                }
                // The pod is gone, or another pod has its name.
                Err(error) if error.is_not_found() || error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(nudged);
        }
    }
}

fn chosen(pods: Vec<ConsumerPod>, secrets: &BTreeSet<String>) -> impl Iterator<Item = ConsumerPod> {
    let mounts_one = |pod: &ConsumerPod| pod.mounted().any(|name| secrets.contains(name));
    pods.into_iter().filter(mounts_one)
}
