use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::json;

use super::{
    AcsConnection, AcsIdentity, AcsRevocation, AcsToken, ClusterAcsConnection, ClusterAcsRevocation,
};

/// Returns all kinds as YAML, as stored in `crds/`.
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
        for schema in schemas(&mut crd) {
            unwrap_descriptions(schema);
        }
        yaml.push_str("---\n");
        yaml.push_str(serde_saphyr::to_string(&crd)?.trim_end());
        yaml.push('\n');
    }
    Ok(yaml)
}

/// The status of a new object has the generation -1, so that kstatus does not consider it current
/// before the operator has seen it. Only a default for the whole status applies to an object
/// without one.
fn mark_new_objects_as_unobserved(crd: &mut CustomResourceDefinition) {
    for root in schemas(crd) {
        let properties = root.properties.as_mut();
        if let Some(status) = properties.and_then(|properties| properties.get_mut("status")) {
            status.default = Some(JSON(json!({"observedGeneration": -1})));
        }
    }
}

fn schemas(crd: &mut CustomResourceDefinition) -> impl Iterator<Item = &mut JSONSchemaProps> {
    let versions = crd.spec.versions.iter_mut();
    versions.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut())
}

/// Turns every description into one paragraph: `kubectl explain` wraps lines by itself.
fn unwrap_descriptions(schema: &mut JSONSchemaProps) {
    if let Some(description) = &mut schema.description {
        *description = description.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    for property in schema.properties.iter_mut().flat_map(BTreeMap::values_mut) {
        unwrap_descriptions(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        unwrap_descriptions(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        unwrap_descriptions(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a description of `schema` has a line break.
    fn is_broken(schema: &serde_json::Value) -> bool {
        match schema {
            serde_json::Value::Object(members) => members.iter().any(|(name, value)| {
                let text = value.as_str().filter(|_| name == "description");
                text.is_some_and(|text| text.contains(['\n', '\r'])) || is_broken(value)
            }),
            serde_json::Value::Array(items) => items.iter().any(is_broken),
            _ => false,
        }
    }

    #[test]
    fn descriptions_are_single_paragraphs() {
        for crd in serde_saphyr::from_multiple::<serde_json::Value>(&manifests().unwrap()).unwrap()
        {
            assert!(!is_broken(&crd), "{}", crd["metadata"]["name"]);
        }
    }
}
