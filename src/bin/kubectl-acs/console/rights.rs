//! What the user may do, as the API server says (`SelfSubjectAccessReview`).

use acs_identity_operator::crd::{AcsIdentity, AcsToken};
use futures::future::try_join_all;
use k8s_openapi::api::{
    authentication::v1::SelfSubjectReview,
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::{Namespace, Secret},
};
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, PostParams},
    core::PartialObjectMeta,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{failure::Failure, session::Session};

/// The objects that actions are about.
#[derive(Deserialize)]
pub struct About {
    /// Their namespace.
    pub namespace: String,
    identity: Option<String>,
    token: Option<String>,
    secret: Option<String>,
}

/// One right.
struct Right<'a> {
    verb: &'a str,
    group: String,
    resource: String,
    /// Empty means all namespaces.
    namespace: &'a str,
    name: Option<&'a str>,
}

impl<'a> Right<'a> {
    fn new<K: Resource<DynamicType = ()>>(
        verb: &'a str,
        namespace: &'a str,
        name: Option<&'a str>,
    ) -> Self {
        Self {
            verb,
            group: K::group(&()).into_owned(),
            resource: K::plural(&()).into_owned(),
            namespace,
            name,
        }
    }

    /// The right as a sentence, if the user lacks it.
    async fn missing(&self, session: &Session) -> Result<Option<String>, Failure> {
        let attributes = ResourceAttributes {
            verb: Some(self.verb.to_owned()),
            group: Some(self.group.clone()),
            resource: Some(self.resource.clone()),
            namespace: Some(self.namespace.to_owned()),
            name: self.name.map(ToOwned::to_owned),
            ..ResourceAttributes::default()
        };
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(attributes),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let api: Api<SelfSubjectAccessReview> = Api::all(session.client.clone());
        let parameters = PostParams::default();
        let asked = api.create(&parameters, &review);
        let answer = session.call("ask for", "your rights", asked).await?;
        let is_allowed = answer.status.is_some_and(|status| status.allowed);
        Ok((!is_allowed).then(|| self.text()))
    }

    fn text(&self) -> String {
        let name = self.name.map(|name| format!(" {name}")).unwrap_or_default();
        let place = match self.namespace {
            "" => "all namespaces".to_owned(),
            namespace => format!("namespace {namespace}"),
        };
        format!("{} {}{name} in {place}", self.verb, self.resource)
    }
}

/// The rights that the user lacks, by the action that needs them.
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

/// The right to see all namespaces, if the user lacks it.
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

/// The user's name, as far as the API server tells it.
pub async fn user(session: &Session) -> Option<String> {
    let api: Api<SelfSubjectReview> = Api::all(session.client.clone());
    let (parameters, review) = (PostParams::default(), SelfSubjectReview::default());
    let asked = api.create(&parameters, &review);
    let answer = session.call("ask for", "your name", asked).await.ok()?;
    answer.status?.user_info?.username
}

/// The namespaces that there are, as far as the user may list them.
pub async fn namespaces(session: &Session) -> Vec<String> {
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(session.client.clone());
    let parameters = ListParams::default();
    let listed = session.call("list", "namespaces", api.list(&parameters));
    let listed = listed.await.map(|list| list.items).unwrap_or_default();
    listed.iter().map(ResourceExt::name_any).collect()
}
