use futures::FutureExt;
use jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;

use super::{
    Object,
    live::{Asked, Writer},
};
use crate::{
    cluster::{call, effect},
    consumers::{ConsumerPod, NOT_TERMINATED},
    crd::NUDGED_AT,
};

/// Pods per page of a list. Only the fields that are read are in memory.
const PAGE: u32 = 100;

/// Page of a list of pods.
#[derive(Clone, Debug, Default)]
pub struct PodPage {
    /// Pods of the page.
    pub items: Vec<ConsumerPod>,
    /// Continue token of the next page, if there is one.
    pub next: Option<String>,
}

/// Lists the pods of a namespace that have not terminated, page by page.
pub(super) fn list(client: Client, namespace: String, after: Option<String>) -> Asked {
    async move {
        let mut parameters = ListParams::default().limit(PAGE).fields(NOT_TERMINATED);
        parameters.continue_token = after;
        let api: Api<ConsumerPod> = Api::namespaced(client, &namespace);
        let page = call("list", "pods", api.list(&parameters)).await?;
        let next = page.metadata.continue_.filter(|next| !next.is_empty());
        let items = page.items;
        Ok(Some(Object::Pods(PodPage { items, next })))
    }
    .boxed()
}

/// Annotates the pod with this UID. Its kubelet then syncs the pod at once and updates its mounted
/// Secrets.
pub(super) fn nudge(by: Writer, namespace: String, pod: Box<ConsumerPod>, at: Timestamp) -> Asked {
    async move {
        let name = pod.name_any();
        let object = format!("Pod {namespace}/{name}");
        let annotations = json!({NUDGED_AT: at.to_string()});
        let body = json!({"metadata": {"uid": pod.metadata.uid, "annotations": annotations}});
        let body = Patch::Merge(&body);
        let api: Api<ConsumerPod> = Api::namespaced(by.client.clone(), &namespace);
        let parameters = PatchParams::default();
        let patched = api.patch_metadata(&name, &parameters, &body);
        effect("nudge", &object, || by.left(), patched).await?;
        Ok(None)
    }
    .boxed()
}
