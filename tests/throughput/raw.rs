//! Raw writer: the same objects and writes as the operator's, without logic. It shows the limit of
//! the machine.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use acs_identity_operator::crd::{AcsIdentity, AcsToken};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::setup::{CLIENTS, identity, name, token};

/// Makes the objects and the writes; returns the time that it took.
pub async fn raw_writer(client: &Client, namespace: &str, n: usize) -> Duration {
    let identities: Api<AcsIdentity> = Api::namespaced(client.clone(), namespace);
    let tokens: Api<AcsToken> = Api::namespaced(client.clone(), namespace);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let body = Arc::new("x".repeat(800));
    let begun = Instant::now();
    stream::iter(0..n)
        .for_each_concurrent(CLIENTS, |number| {
            let (identities, tokens, secrets) =
                (identities.clone(), tokens.clone(), secrets.clone());
            let body = Arc::clone(&body);
            async move {
                let name = name(number);
                let post = PostParams::default();
                let finalizer = json!({"metadata": {"finalizers": ["acs-identity.dev/cleanup"]}});
                let finalizer = Patch::Merge(&finalizer);
                let patch = PatchParams::default();
                identities
                    .create(&post, &identity(number, 1))
                    .await
                    .expect("created");
                tokens.create(&post, &token(number)).await.expect("created");
                let mut identity = identities
                    .patch(&name, &patch, &finalizer)
                    .await
                    .expect("patched");
                for id in [None, Some(format!("8:acs:raw_{number}"))] {
                    let status = identity.status.get_or_insert_default();
                    status.identity_id = id;
                    status.endpoint = Some("http://127.0.0.1".to_owned());
                    identity = identities
                        .replace_status(&name, &post, &identity)
                        .await
                        .expect("written");
                }
                let mut token = tokens
                    .patch(&name, &patch, &finalizer)
                    .await
                    .expect("patched");
                let secret: Secret = serde_json::from_value(json!({
                    "metadata": {"name": name, "labels": {"raw": "true"}},
                    "stringData": {"token": *body},
                }))
                .expect("a Secret");
                secrets.create(&post, &secret).await.expect("created");
                token.status.get_or_insert_default().identity_id =
                    Some(format!("8:acs:raw_{number}"));
                tokens
                    .replace_status(&name, &post, &token)
                    .await
                    .expect("written");
            }
        })
        .await;
    begun.elapsed()
}
