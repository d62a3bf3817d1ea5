//! `release`: removes the operator's finalizers after the operator was uninstalled.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use acs_identity_operator::crd::{
    AcsConnection, AcsIdentity, AcsToken, ClusterAcsConnection, OPERATOR, WATCHED_NAMESPACES,
    is_finalizer,
};
use clap::Args;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{
    actions::user::confirm,
    cluster::{
        leases,
        overview::{list, objects},
        session::{ClusterArgs, Kind, Session, named},
    },
    failure::{Exit, Failure},
    view::output,
};

/// Interval of reading a Lease.
const LOOK: Duration = Duration::from_millis(500);
/// Safety margin added to the duration of a Lease, after which it counts as expired.
const SPARE: Duration = Duration::from_secs(1);

/// Remove the operator's finalizers after it was uninstalled, so that objects can be deleted
///
/// Refuses while an operator runs, because the operator would clean up ACS: in that case delete the
/// objects first and uninstall the operator afterwards. Deletes nothing itself, and lists the users
/// and tokens that remain in ACS.
#[derive(Clone, Debug, Args)]
pub struct Release {
    /// Release objects in all namespaces, and ClusterAcsConnections
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
    /// Only list the users and tokens that remain in ACS
    #[arg(long)]
    dry_run: bool,
}

/// Objects that have a finalizer of the operator.
struct Held {
    identities: Vec<AcsIdentity>,
    tokens: Vec<AcsToken>,
    connections: Vec<AcsConnection>,
    cluster_connections: Vec<ClusterAcsConnection>,
}

/// Runs `release`.
pub async fn release(place: &ClusterArgs, command: &Release) -> Result<(), Failure> {
    let session = place.connect().await?;
    let namespace = (!command.all_namespaces).then_some(session.namespace.as_str());
    nobody_runs(&session, namespace).await?;
    let held = held(&session, command.all_namespaces).await?;
    output::print(&held.stays());
    let count = held.count();
    if command.dry_run || count == 0 {
        return Ok(());
    }
    if !command.yes {
        confirm(&format!(
            "Remove the operator's finalizers from {count} objects?"
        ))?;
    }
    // Connections last: by then the objects that use them are released.
    take_off(&session, &held.tokens, namespaced).await?;
    take_off(&session, &held.identities, namespaced).await?;
    take_off(&session, &held.connections, namespaced).await?;
    take_off(&session, &held.cluster_connections, |client, _| {
        Api::all(client)
    })
    .await?;
    anstream::eprintln!("removed the operator's finalizers from {count} objects");
    Ok(())
}

/// Fails if an operator watches the namespace (or any, if there is none).
async fn nobody_runs(session: &Session, namespace: Option<&str>) -> Result<(), Failure> {
    let pods = Api::<Pod>::all(session.client.clone());
    let ours = ListParams::default().labels(&format!("app.kubernetes.io/name={OPERATOR}"));
    let pods = session.call("list", "pods", pods.list(&ours)).await?;
    if let Some(pod) = pods.iter().find(|pod| runs_without_a_lease(pod, namespace)) {
        return Err(runs(&format!(
            "pod {}/{}",
            pod.namespace().unwrap_or_default(),
            pod.name_any()
        )));
    }
    let before = leases_of(session, namespace).await?;
    let longest = before
        .values()
        .filter_map(|lease| lease.spec.as_ref()?.lease_duration_seconds);
    let longest = u64::try_from(longest.max().unwrap_or(0)).unwrap_or(0);
    // Observing whether a Lease is renewed is more reliable than its timestamps: clocks differ.
    let end = tokio::time::Instant::now() + Duration::from_secs(longest) + SPARE;
    while !before.is_empty() && tokio::time::Instant::now() < end {
        tokio::time::sleep(LOOK).await;
        for (name, lease) in leases_of(session, namespace).await? {
            let renewed = |lease: &Lease| lease.spec.as_ref().and_then(|it| it.renew_time.clone());
            if before.get(&name).map(renewed) != Some(renewed(&lease)) {
                return Err(runs(&format!("the holder of Lease {name}")));
            }
        }
    }
    Ok(())
}

fn runs(who: &str) -> Failure {
    let message = format!(
        "an operator is running: {who}. Delete the objects, so that it cleans up ACS; or, to \
         change nothing in ACS, stop it first with kubectl scale deployment {OPERATOR} --replicas \
         0 in its namespace"
    );
    Failure::new(Exit::Conflict, message)
}

/// Whether an operator that runs without a Lease watches the namespace.
fn runs_without_a_lease(pod: &Pod, namespace: Option<&str>) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let arguments: Vec<_> = containers.flat_map(|it| it.args.iter().flatten()).collect();
    let watched = arguments
        .iter()
        .filter_map(|it| it.strip_prefix("--watch-namespace="));
    ["Pending", "Running"].map(Some).contains(&phase)
        && arguments.iter().any(|it| *it == "--no-leader-elect")
        && watches(watched, namespace)
}

/// Returns the held Leases of releases that watch the namespace.
async fn leases_of(
    session: &Session,
    namespace: Option<&str>,
) -> Result<BTreeMap<String, Lease>, Failure> {
    let is_ours = |lease: &Lease| {
        let watched = lease.annotations().get(WATCHED_NAMESPACES);
        watches(watched.map_or("", String::as_str).split(','), namespace)
    };
    let named = |lease: Lease| {
        let namespace = lease.namespace().unwrap_or_default();
        (format!("{namespace}/{}", lease.name_any()), lease)
    };
    let held = leases::held(session).await?.into_iter();
    Ok(held
        .map(|(lease, _)| lease)
        .filter(is_ours)
        .map(named)
        .collect())
}

/// Whether an operator that watches these namespaces (all if there are none) watches `namespace`
/// (any if `None`).
fn watches<'a>(watched: impl Iterator<Item = &'a str>, namespace: Option<&str>) -> bool {
    let watched: Vec<_> = watched.filter(|it| !it.is_empty()).collect();
    watched.is_empty() || namespace.is_none_or(|namespace| watched.contains(&namespace))
}

async fn held(session: &Session, all: bool) -> Result<Held, Failure> {
    let mut held = Held {
        identities: list(session, objects(session, all)).await?,
        tokens: list(session, objects(session, all)).await?,
        connections: list(session, objects(session, all)).await?,
        cluster_connections: Vec::new(),
    };
    if all {
        held.cluster_connections = list(session, Api::all(session.client.clone())).await?;
    }
    held.identities.retain(is_held);
    held.tokens.retain(is_held);
    held.connections.retain(is_held);
    held.cluster_connections.retain(is_held);
    Ok(held)
}

fn is_held<K: Resource>(object: &K) -> bool {
    object.finalizers().iter().any(|name| is_finalizer(name))
}

impl Held {
    fn count(&self) -> usize {
        self.identities.len()
            + self.tokens.len()
            + self.connections.len()
            + self.cluster_connections.len()
    }

    /// Returns what will remain in ACS without being revoked or deleted, one line each.
    fn stays(&self) -> String {
        let users = self.identities.iter().filter_map(|identity| {
            let status = identity.status.as_ref()?;
            let (id, endpoint) = (status.identity_id.as_ref()?, status.endpoint.as_ref()?);
            let named = named(identity);
            Some(format!("{named}: user {id} remains at {endpoint}\n"))
        });
        let tokens = self.tokens.iter().filter_map(|token| {
            let status = token.status.as_ref()?;
            let end = &status.expires_at.as_ref()?.0;
            let named = named(token);
            Some(format!("{named}: its token is valid until {end}\n"))
        });
        users.chain(tokens).collect()
    }
}

fn namespaced<K: Kind>(client: Client, object: &K) -> Api<K> {
    Api::namespaced(client, &object.namespace().unwrap_or_default())
}

/// Removes the finalizer from each object, unless the object has changed since it was listed.
async fn take_off<K>(
    session: &Session,
    objects: &[K],
    api: impl Fn(Client, &K) -> Api<K>,
) -> Result<(), Failure>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let parameters = PatchParams::default();
    for object in objects {
        let others = object
            .finalizers()
            .iter()
            .filter(|name| !is_finalizer(name));
        let patch = Patch::Merge(json!({"metadata": {
            "resourceVersion": object.resource_version(),
            "finalizers": others.collect::<Vec<_>>(),
        }}));
        let (api, name) = (api(session.client.clone(), object), object.name_any());
        let patched = api.patch(&name, &parameters, &patch);
        match session.call("change", &named(object), patched).await {
            Err(failure) if failure.exit == Exit::NotFound => {}
            patched => patched.map(|_| ())?,
        }
    }
    Ok(())
}
