//! Ownership of Secrets. Labels only find candidates; the owner reference and the namespace decide
//! (T5, K6).

use std::sync::Arc;

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Resource, ResourceExt, core::PartialObjectMeta};

use crate::{
    cluster::index,
    context::Views,
    crd::{AcsToken, MANAGED_BY_LABEL, OPERATOR, TOKEN_UID_LABEL},
};

/// Owner of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The `AcsToken` in question.
    Ours,
    /// Another owner, described as the end of the sentence "Secret x exists and ...".
    Other(String),
}

/// Returns the owner of the Secret with `metadata` (T5). It is `token` if its controller is
/// `token`, or if it has no controller and carries the UID of `token`.
#[must_use]
pub fn owner(metadata: &ObjectMeta, token: &AcsToken) -> Owner {
    let uid = token.metadata.uid.as_deref().unwrap_or_default();
    let controller = metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true));
    if let Some(controller) = controller {
        return if controller.uid == uid {
            Owner::Ours
        } else if controller.kind == AcsToken::kind(&()) && controller.name == token.name_any() {
            former(token)
        } else {
            Owner::Other(format!(
                "belongs to {} {}",
                controller.kind, controller.name
            ))
        };
    }
    match metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(TOKEN_UID_LABEL))
    {
        Some(claimed) if claimed == uid => Owner::Ours,
        Some(_) => former(token),
        _ => Owner::Other("was not created by this operator".to_owned()),
    }
}

/// Returns the owner for a Secret of an `AcsToken` that no longer exists, as a backup restores it.
/// The Secret is never touched, because its token may be in use (K6).
fn former(token: &AcsToken) -> Owner {
    let namespace = token.namespace().unwrap_or_default();
    Owner::Other(format!(
        "belongs to a deleted AcsToken, as after a restored backup; `kubectl -n {namespace} \
         delete secrets -l {MANAGED_BY_LABEL}={OPERATOR}` deletes all token Secrets in this \
         namespace, and the operator creates each again with a new token"
    ))
}

/// Returns the Secrets that `token` owns. Copies by others that carry its label are neither changed
/// nor waited for (K6).
pub fn owned_by(
    views: &Views,
    token: &AcsToken,
) -> impl Iterator<Item = Arc<PartialObjectMeta<Secret>>> + use<> {
    let uid = token.uid().unwrap_or_default();
    let mut found: Vec<_> = views.secrets.find(&index::of_token(&uid)).collect();
    found.retain(|secret| {
        secret.namespace() == token.namespace() && owner(&secret.metadata, token) == Owner::Ours
    });
    found.into_iter()
}
