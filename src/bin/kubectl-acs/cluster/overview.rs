//! Objects that `status` shows, read once.

use std::{collections::BTreeSet, fmt::Debug};

use acs_identity_operator::{
    consumers::{ConsumerPod, NOT_TERMINATED},
    crd::{
        AcsConnection, AcsIdentity, AcsRevocation, AcsToken, ClusterAcsConnection,
        ClusterAcsRevocation, TOKEN_UID_LABEL,
    },
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt as _, api::ListParams, core::PartialObjectMeta};
use serde::de::DeserializeOwned;

use crate::{
    cluster::session::{Kind, Session},
    failure::{Exit, Failure},
};

/// Pods per page of a list.
const PAGE: u32 = 500;

/// Snapshot of the cluster.
#[derive(Debug, Default)]
pub struct Overview {
    /// Connections in the namespaces.
    pub connections: Vec<AcsConnection>,
    /// Cluster-scoped connections; `None` if the user may not list them.
    pub cluster_connections: Option<Vec<ClusterAcsConnection>>,
    /// Identities.
    pub identities: Vec<AcsIdentity>,
    /// Tokens.
    pub tokens: Vec<AcsToken>,
    /// Revocations; `None` if the user may not list them.
    pub revocations: Option<Vec<AcsRevocation>>,
    /// Cluster-scoped revocations with targets in the namespaces; `None` if the user may not list
    /// them.
    pub cluster_revocations: Option<Vec<ClusterAcsRevocation>>,
    /// Namespace and name of each Secret that the operator created; `None` if the user may not list
    /// them.
    pub secrets: Option<BTreeSet<(String, String)>>,
    /// Pods, if the operator counted some that hold a former token; `None` if the user may not list
    /// them.
    pub pods: Option<Vec<ConsumerPod>>,
}

/// Returns an `Api` for a kind, in the session's namespace or in all.
pub fn objects<K: Kind>(session: &Session, in_all_namespaces: bool) -> Api<K> {
    if in_all_namespaces {
        Api::all(session.client.clone())
    } else {
        session.api()
    }
}

/// Reads all objects.
pub async fn load(session: &Session, in_all_namespaces: bool) -> Result<Overview, Failure> {
    let connections = list(session, objects(session, in_all_namespaces));
    let identities = list(session, objects(session, in_all_namespaces));
    let tokens = list(session, objects(session, in_all_namespaces));
    let (connections, identities, tokens) = futures::try_join!(connections, identities, tokens)?;
    let cluster = list(session, Api::all(session.client.clone()));
    let orders = list(session, objects(session, in_all_namespaces));
    let cluster_orders = list(session, Api::all(session.client.clone()));
    let secrets = owned_secrets(session, in_all_namespaces);
    let (cluster, orders, cluster_orders, secrets) =
        futures::join!(cluster, orders, cluster_orders, secrets);
    let mut cluster_revocations: Option<Vec<ClusterAcsRevocation>> = if_allowed(cluster_orders)?;
    if let (Some(orders), false) = (&mut cluster_revocations, in_all_namespaces) {
        orders.retain(|revocation| concerns(revocation, &session.namespace));
    }
    let pods = if tokens.iter().any(has_outdated_pods) {
        if_allowed(pods(session, in_all_namespaces).await)?
    } else {
        Some(Vec::new())
    };
    Ok(Overview {
        connections,
        cluster_connections: if_allowed(cluster)?,
        identities,
        tokens,
        revocations: if_allowed(orders)?,
        cluster_revocations,
        secrets: if_allowed(secrets)?,
        pods,
    })
}

/// Whether the operator counted pods that hold a former token.
fn has_outdated_pods(token: &AcsToken) -> bool {
    let status = token.status.as_ref();
    let consumers = status.and_then(|status| status.consumers);
    consumers.is_some_and(|consumers| consumers.outdated > 0)
}

/// Lists the pods that have not terminated, page by page, with their uses of Secrets only.
async fn pods(session: &Session, in_all_namespaces: bool) -> Result<Vec<ConsumerPod>, Failure> {
    let api = objects::<ConsumerPod>(session, in_all_namespaces);
    let mut parameters = ListParams::default().fields(NOT_TERMINATED).limit(PAGE);
    let mut pods = Vec::new();
    loop {
        let page = session.call("list", "pods", api.list(&parameters)).await?;
        pods.extend(page.items.into_iter().map(|mut pod| {
            pod.slim();
            pod
        }));
        parameters.continue_token = page.metadata.continue_.filter(|next| !next.is_empty());
        if parameters.continue_token.is_none() {
            return Ok(pods);
        }
    }
}

/// Whether a cluster-scoped revocation has a target in the namespace.
fn concerns(revocation: &ClusterAcsRevocation, namespace: &str) -> bool {
    let status = revocation.status.as_ref();
    let targets = status.into_iter().flat_map(|status| &status.targets);
    let queued = status.into_iter().flat_map(|status| &status.queued);
    let namespaces = targets.map(|target| target.namespace.as_deref());
    let mut namespaces = namespaces.chain(queued.map(|group| group.namespace.as_deref()));
    namespaces.any(|of_target| of_target == Some(namespace))
}

/// Whether the user may list revocations.
pub async fn may_list_revocations(
    session: &Session,
    in_all_namespaces: bool,
) -> Result<bool, Failure> {
    let orders = objects::<AcsRevocation>(session, in_all_namespaces);
    Ok(if_allowed(list(session, orders).await)?.is_some())
}

/// Lists all objects of an `Api`.
pub async fn list<K>(session: &Session, api: Api<K>) -> Result<Vec<K>, Failure>
where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let what = K::plural(&());
    let listed = session
        .call("list", &what, api.list(&ListParams::default()))
        .await?;
    Ok(listed.items)
}

/// Lists the names of the Secrets only: `status` needs no permission to read Secrets and receives
/// no data of them.
async fn owned_secrets(
    session: &Session,
    in_all_namespaces: bool,
) -> Result<BTreeSet<(String, String)>, Failure> {
    let api: Api<PartialObjectMeta<Secret>> = if in_all_namespaces {
        Api::all(session.client.clone())
    } else {
        session.api()
    };
    let ours = ListParams::default().labels(TOKEN_UID_LABEL);
    let listed = session.call("list", "secrets", api.list(&ours)).await?;
    let names = listed
        .iter()
        .map(|secret| (secret.namespace().unwrap_or_default(), secret.name_any()));
    Ok(names.collect())
}

/// Converts a "forbidden" error to `None`.
fn if_allowed<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(failure) if failure.exit == Exit::Forbidden => Ok(None),
        Err(failure) => Err(failure),
    }
}
