//! Tokens of `ServiceAccount`s, the assertions of workload identities in Microsoft Entra ID.

use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, Client, api::PostParams};
use secrecy::SecretString;

use super::{Error, call};
use crate::acs::{AssertionSource, NoAssertion};

/// Minimum lifetime that the API server accepts, in seconds. Each token is sent to Entra ID once,
/// immediately.
const LIFE_S: i64 = 600;

/// Returns a source of tokens of a `ServiceAccount` for an audience; each token is created when it
/// is requested.
#[must_use]
pub fn tokens(client: &Client, namespace: &str, name: &str, audience: &str) -> AssertionSource {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec![audience.to_owned()],
            expiration_seconds: Some(LIFE_S),
            bound_object_ref: None,
        },
        ..TokenRequest::default()
    };
    Arc::new(move || {
        let (api, request) = (api.clone(), request.clone());
        let (namespace, name) = (namespace.clone(), name.clone());
        async move {
            let account = format!("ServiceAccount {namespace}/{name}");
            let parameters = PostParams::default();
            let made = api.create_token_request(&name, &parameters, &request);
            let made = call("create a token of", &account, made).await;
            let token = made
                .map_err(|error| why(&error, &account))?
                .status
                .map(|status| status.token)
                .unwrap_or_default();
            Ok(SecretString::from(token))
        }
        .boxed()
    })
}

fn why(error: &Error, account: &str) -> NoAssertion {
    let (message, advice) = if error.is_not_found() {
        (
            format!("{account} does not exist"),
            "Create it, or correct serviceAccountRef".to_owned(),
        )
    } else if error.is_forbidden() {
        (
            format!("the operator may not create tokens of {account}"),
            "An administrator can allow it: the chart's value serviceAccountTokens, or a Role with create on serviceaccounts/token of that name".to_owned(),
        )
    } else {
        (error.to_string(), "The operator tries again".to_owned())
    };
    NoAssertion { message, advice }
}
