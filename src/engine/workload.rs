use std::collections::BTreeMap;

use futures::FutureExt;
use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{DaemonSet, Deployment, StatefulSet},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{ApiResource, Patch, PatchParams},
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
    crd::{RESTARTED_AT, WorkloadKey, WorkloadKind},
};

/// Fields that are read of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Resource version of the workload.
    pub version: String,
    /// Annotations of its pod template.
    pub annotations: BTreeMap<String, String>,
}

/// Workload as the API server sends it, with the fields that are read.
type Found = kube::core::Object<Spec, NotUsed>;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Spec {
    template: Template,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Template {
    metadata: Option<ObjectMeta>,
}

fn api(client: Client, workload: &WorkloadKey) -> Api<Found> {
    let resource = match workload.kind {
        WorkloadKind::Deployment => ApiResource::erase::<Deployment>(&()),
        WorkloadKind::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
        WorkloadKind::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
    };
    Api::namespaced_with(client, &workload.namespace, &resource)
}

fn workload_in(found: Found) -> Workload {
    let template = found.spec.template.metadata;
    Workload {
        version: found.metadata.resource_version.unwrap_or_default(),
        annotations: template.and_then(|it| it.annotations).unwrap_or_default(),
    }
}

/// Reads a workload. A workload that is being deleted counts as absent.
pub(super) fn read(client: Client, workload: WorkloadKey) -> Asked {
    async move {
        let object = workload.to_string();
        let api = api(client, &workload);
        let found = call("read", &object, api.get_opt(&workload.name)).await?;
        let found = found.filter(|found| found.metadata.deletion_timestamp.is_none());
        Ok(found.map(|found| Object::Workload(workload_in(found))))
    }
    .boxed()
}

/// Restarts a workload as `kubectl rollout restart` does: a new annotation changes the pod
/// template, and the controller of the workload replaces the pods according to its strategy.
pub(super) fn restart(by: Writer, workload: WorkloadKey, version: String, at: Timestamp) -> Asked {
    async move {
        let object = workload.to_string();
        let api = api(by.client.clone(), &workload);
        let annotations = json!({RESTARTED_AT: at.to_string()});
        let body = json!({
            "metadata": {"resourceVersion": version},
            "spec": {"template": {"metadata": {"annotations": annotations}}},
        });
        let body = Patch::Merge(&body);
        let parameters = PatchParams::default();
        let patched = api.patch(&workload.name, &parameters, &body);
        let patched = effect("restart", &object, || by.left(), patched).await?;
        Ok(Some(Object::Workload(workload_in(patched))))
    }
    .boxed()
}
