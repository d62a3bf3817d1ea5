use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON,
};
use kube::CustomResourceExt;
use serde_json::json;

use super::{
    AcsConnection, AcsIdentity, AcsRevocation, AcsToken, ClusterAcsConnection, ClusterAcsRevocation,
};

/// All kinds as one YAML text, as it stands in `crds/`.
pub fn manifests() -> Result<String, serde_saphyr::ser::Error> {
    let mut yaml = String::new();
    for mut crd in [
        AcsConnection::crd(),
        ClusterAcsConnection::crd(),
        AcsIdentity::crd(),
        AcsToken::crd(),
        AcsRevocation::crd(),
        ClusterAcsRevocation::crd(),
    ] {
        mark_new_objects_as_unobserved(&mut crd);
        yaml.push_str("---\n");
        yaml.push_str(serde_saphyr::to_string(&crd)?.trim_end());
        yaml.push('\n');
    }
    Ok(yaml)
}

/// A new object's status says generation -1, so that kstatus does not take it for current before
/// we have seen it. A default of the whole status is the only one that applies when none is sent.
fn mark_new_objects_as_unobserved(crd: &mut CustomResourceDefinition) {
    for version in &mut crd.spec.versions {
        let status = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
            .and_then(|root| root.properties.as_mut())
            .and_then(|properties| properties.get_mut("status"));
        if let Some(status) = status {
            status.default = Some(JSON(json!({"observedGeneration": -1})));
        }
    }
}
