//! Permissions that the actions of the page need, and those of them that the user lacks.

use acs_identity_operator::crd::{AcsIdentity, AcsToken};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{Api, ResourceExt, api::ListParams, core::PartialObjectMeta};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    cluster::{rights::Right, session::Session},
    failure::Failure,
};

/// Objects that actions apply to.
#[derive(Deserialize)]
pub struct About {
    /// Namespace of the objects.
    pub namespace: String,
    identity: Option<String>,
    token: Option<String>,
    secret: Option<String>,
}

/// Returns the permissions that the user lacks, by the action that needs them.
pub async fn missing(session: &Session, about: &About) -> Result<Value, Failure> {
    let namespace = about.namespace.as_str();
    let (identity, token) = (about.identity.as_deref(), about.token.as_deref());
    let rights = [
        Right::new::<AcsIdentity>("create", namespace, None),
        Right::new::<AcsToken>("create", namespace, None),
        Right::new::<AcsIdentity>("patch", namespace, identity),
        Right::new::<AcsToken>("patch", namespace, token),
        Right::new::<AcsIdentity>("delete", namespace, identity),
        Right::new::<AcsToken>("delete", namespace, token),
        Right::new::<Secret>("get", namespace, about.secret.as_deref()),
    ];
    let missing = try_join_all(rights.iter().map(|right| right.missing(session))).await?;
    let of = |numbers: &[usize]| -> Vec<&str> {
        let texts = numbers.iter().filter_map(|number| missing.get(*number));
        texts.flatten().map(String::as_str).collect()
    };
    Ok(json!({
        "create": of(&[0]),
        "issue": of(&[1]),
        "renew": of(&[3]),
        "revoke": of(&[2]),
        "suspendIdentity": of(&[2]),
        "suspendToken": of(&[3]),
        "deleteIdentity": of(&[4, 5]),
        "deleteToken": of(&[5]),
        "show": of(&[6]),
    }))
}

/// Returns the permission to see all namespaces, if the user lacks it.
pub async fn missing_for_all_namespaces(session: &Session) -> Result<Option<String>, Failure> {
    for verb in ["list", "watch"] {
        let missing = Right::new::<AcsToken>(verb, "", None)
            .missing(session)
            .await?;
        if missing.is_some() {
            return Ok(missing);
        }
    }
    Ok(None)
}

/// Returns the existing namespaces, if the user may list them.
pub async fn namespaces(session: &Session) -> Vec<String> {
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(session.client.clone());
    let parameters = ListParams::default();
    let listed = session.call("list", "namespaces", api.list(&parameters));
    let listed = listed.await.map(|list| list.items).unwrap_or_default();
    listed.iter().map(ResourceExt::name_any).collect()
}
