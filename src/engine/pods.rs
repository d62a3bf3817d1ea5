use futures::FutureExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Volume};
use kube::{
    Api, Client,
    api::{ApiResource, ListParams, Patch, PatchParams},
    core::NotUsed,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Object,
    live::{Asked, Writer},
};
use crate::{
    cluster::{call, effect},
    crd::NUDGED_AT,
};

/// Pods per page of a list. Only the fields that are read are in memory.
const PAGE: u32 = 100;

/// Fields that are read of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodMounts {
    /// Name of the pod.
    pub name: String,
    /// UID of the pod.
    pub uid: String,
    /// Secrets that the pod mounts.
    pub secrets: Vec<String>,
}

/// Page of a list of pods.
#[derive(Clone, Debug, Default)]
pub struct PodPage {
    /// Pods of the page.
    pub items: Vec<PodMounts>,
    /// Continue token of the next page, if there is one.
    pub next: Option<String>,
}

/// Pod as the API server sends it, with the fields that are read.
type Found = kube::core::Object<Spec, NotUsed>;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Spec {
    #[serde(default)]
    volumes: Vec<Volume>,
}

fn api(client: Client, namespace: &str) -> Api<Found> {
    Api::namespaced_with(client, namespace, &ApiResource::erase::<Pod>(&()))
}

/// Returns the Secrets of volumes: mounted directly, or as sources of a projected volume.
fn secrets_in(volumes: Vec<Volume>) -> Vec<String> {
    let names = volumes.into_iter().flat_map(|volume| {
        let itself = volume.secret.and_then(|secret| secret.secret_name);
        let sources = volume.projected.and_then(|projected| projected.sources);
        let sources = sources.into_iter().flatten();
        itself
            .into_iter()
            .chain(sources.filter_map(|source| Some(source.secret?.name)))
    });
    names.collect()
}

/// Lists the pods of a namespace that have not terminated, page by page.
pub(super) fn list(client: Client, namespace: String, after: Option<String>) -> Asked {
    async move {
        let mut parameters = ListParams::default()
            .limit(PAGE)
            .fields("status.phase!=Succeeded,status.phase!=Failed");
        parameters.continue_token = after;
        let api = api(client, &namespace);
        let page = call("list", "pods", api.list(&parameters)).await?;
        let next = page.metadata.continue_.filter(|next| !next.is_empty());
        let items = page.items.into_iter().map(|pod| PodMounts {
            name: pod.metadata.name.unwrap_or_default(),
            uid: pod.metadata.uid.unwrap_or_default(),
            secrets: secrets_in(pod.spec.volumes),
        });
        let items = items.collect();
        Ok(Some(Object::Pods(PodPage { items, next })))
    }
    .boxed()
}

/// Annotates the pod with this UID. Its kubelet then syncs the pod at once and updates its mounted
/// Secrets.
pub(super) fn nudge(by: Writer, namespace: String, pod: PodMounts, at: Timestamp) -> Asked {
    async move {
        let object = format!("Pod {namespace}/{}", pod.name);
        let annotations = json!({NUDGED_AT: at.to_string()});
        let body = json!({"metadata": {"uid": pod.uid, "annotations": annotations}});
        let body = Patch::Merge(&body);
        let (api, parameters) = (api(by.client.clone(), &namespace), PatchParams::default());
        let patched = api.patch_metadata(&pod.name, &parameters, &body);
        effect("nudge", &object, || by.left(), patched).await?;
        Ok(None)
    }
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_mounts_the_secrets_of_its_volumes_and_of_projected_ones() {
        let volumes = json!([
            {"name": "a", "secret": {"secretName": "web"}},
            {"name": "b", "projected": {"sources": [
                {"secret": {"name": "bot"}}, {"configMap": {"name": "settings"}},
            ]}},
            {"name": "c", "emptyDir": {}},
        ]);
        let volumes = serde_json::from_value(volumes).unwrap();
        assert_eq!(secrets_in(volumes), ["web", "bot"]);
    }
}
