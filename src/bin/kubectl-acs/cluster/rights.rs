//! Permissions of the user (`SelfSubjectAccessReview`).

use k8s_openapi::api::{
    authentication::v1::SelfSubjectReview,
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
};
use kube::{Api, Resource, api::PostParams};

use crate::{cluster::session::Session, failure::Failure};

/// Permission.
pub struct Right<'a> {
    verb: &'a str,
    group: String,
    resource: String,
    /// Namespace; empty means all namespaces.
    namespace: &'a str,
    name: Option<&'a str>,
}

impl<'a> Right<'a> {
    /// Permission for `verb` on objects of a kind, or on the object named `name`; in all namespaces
    /// if `namespace` is empty.
    pub fn new<K: Resource<DynamicType = ()>>(
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

    /// Returns the permission as a sentence, if the user lacks it.
    pub async fn missing(&self, session: &Session) -> Result<Option<String>, Failure> {
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
        let answer = session.call("check", "your permissions", asked).await?;
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

/// Returns the user's name, if the API server reveals it.
pub async fn user(session: &Session) -> Option<String> {
    let api: Api<SelfSubjectReview> = Api::all(session.client.clone());
    let (parameters, review) = (PostParams::default(), SelfSubjectReview::default());
    let asked = api.create(&parameters, &review);
    let answer = session.call("check", "your name", asked).await.ok()?;
    answer.status?.user_info?.username
}
