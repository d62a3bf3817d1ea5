//! Wiring of the operator: watches requeue objects, and runs reconcile them.

mod control;
mod dispatch;
pub mod events;
mod inventory;
mod leader;
mod lease;
mod releases;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use futures::FutureExt;
use kube::{Api, Client, Resource, core::NamespaceResourceScope, runtime::watcher};
use tokio::{
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};
use tracing::{info, warn};

use crate::{
    acs::Service,
    cache::Cache,
    cluster::{ObjectKey, input::Inputs, row::Packable, view::View, watch, watch_client},
    consumers::NOT_TERMINATED,
    context::{Config, Context, Views},
    crd::TOKEN_UID_LABEL,
    credentials::Registry,
    engine::{Calls, Claim, Live, Locks, Requeue, Stop},
    health::{self, Health},
    metrics::Metrics,
};
use control::control;
pub use dispatch::reconcile;
use events::{
    connection_changed, identity_changed, namespace_changed, pod_changed, revocation_changed,
    secret_changed, token_changed,
};
use inventory::Inventory;
pub use leader::Leadership;
use leader::{Leader, Shared};
pub use lease::LeaseConfig;

/// Time that runs have to end after the request to stop.
pub const DRAIN: Duration = Duration::from_secs(30);
/// Time that the release of the Lease may take afterwards.
const RELEASE: Duration = Duration::from_secs(5);

/// Why the operator ended without a request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is in use or cannot be bound.
    #[error(
        "could not serve /metrics, /livez and /readyz at {address}: {source}; choose another --address"
    )]
    Serve {
        /// Address to serve.
        address: std::net::SocketAddr,
        /// Error of the system.
        source: std::io::Error,
    },
    /// Another process may lead.
    #[error("lost the Lease, so this process exits at once; another process becomes the leader")]
    LeaseLost,
    /// The certificate cannot be used, or the address is in use or cannot be bound.
    #[error("could not serve /metrics over TLS: {0}")]
    SecureMetrics(std::io::Error),
    /// A task ended that should never end.
    #[error("bug: a task of the operator ended unexpectedly; please report this")]
    Ended,
}

/// Runs the operator until `stop`, then waits for runs in progress to end.
pub async fn run(
    client: Client,
    config: Config,
    leadership: Leadership,
    acs: Service,
    mut metrics: Metrics,
    stop: Stop,
) -> Result<(), Error> {
    let health = Health::default();
    let Leadership { claim, lease } = leadership;
    let (requeue, requeued) = Requeue::channel();
    let scopes: Vec<_> = if config.watch_namespaces.is_empty() {
        vec![None]
    } else {
        config.watch_namespaces.iter().cloned().map(Some).collect()
    };
    let for_inputs = requeue.clone();
    // Watches of single Secrets do not affect readiness: the object that uses the Secret reports
    // what it waits for.
    let for_watches = watch_client::reporting(&client, &health, || {});
    let inputs = Inputs::new(for_watches, move |key: &ObjectKey| {
        for_inputs.send(key.clone());
    });
    let live = Live::new(client.clone(), claim.clone(), acs.clone(), inputs);
    let locks = Locks::new(requeue.clone());
    let views = Views::new(scopes.len());
    metrics.collect(Box::new(Inventory::new(&views)));
    let metrics = Arc::new(metrics);
    let context = Arc::new(Context {
        world: Arc::new(live),
        acs,
        views,
        registry: Registry::default(),
        calls: Calls::new(locks.clone(), requeue.clone()),
        locks,
        requeue,
        cache: Cache::default(),
        metrics,
        leads_cluster: Arc::new(AtomicBool::new(lease.is_none())),
        config,
    });

    let mut tasks = JoinSet::new();
    serve(&mut tasks, &client, &context, &health);
    let mut watches = Watches {
        tasks: &mut tasks,
        client: &client,
        context: &context,
        health: &health,
        scope: None,
    };
    watches.start_of_cluster();
    for scope in &scopes {
        watches.scope = scope.as_deref();
        watches.start_of_scope();
    }
    tasks.spawn(health::probe(client.clone(), health.clone()).map(Ok));
    let mut runs = tokio::spawn(control(
        Arc::clone(&context),
        health.clone(),
        claim.clone(),
        requeued,
        stop.clone(),
    ));
    let (done, is_done) = oneshot::channel();
    let leader = lead(&client, lease, &context, (claim.clone(), health), is_done);
    tokio::select! {
        biased;
        () = claim.lost() => return Err(Error::LeaseLost),
        () = stop => {}
        _ = &mut runs => return Err(Error::Ended),
        ended = tasks.join_next() => {
            return match ended {
                Some(Ok(Err(error))) => Err(error),
                _ => Err(Error::Ended),
            };
        }
    }
    info!("stopping: finishing and recording calls in flight");
    tokio::select! {
        biased;
        () = claim.lost() => return Err(Error::LeaseLost),
        ended = tokio::time::timeout(DRAIN, runs) => if ended.is_err() {
            // The next process waits as long as after a process that was killed.
            warn!("some calls have no answer yet, so the Lease is not released and expires");
            return Ok(());
        }
    }
    let _ = done.send(());
    let _ = tokio::time::timeout(RELEASE, leader).await;
    Ok(())
}

/// Keeps the Lease until `is_done`, if there is a Lease.
fn lead(
    client: &Client,
    lease: Option<LeaseConfig>,
    context: &Context,
    (claim, health): (Claim, Health),
    is_done: oneshot::Receiver<()>,
) -> JoinHandle<()> {
    let metrics = Arc::clone(&context.metrics);
    let Some(lease) = lease else {
        metrics.leader.set(1);
        return tokio::spawn(async {});
    };
    let shared = Shared {
        claim,
        health,
        metrics,
        leads_cluster: Arc::clone(&context.leads_cluster),
    };
    let leader = Leader::new(client, lease, &context.config.watch_namespaces, shared);
    tokio::spawn(leader.run(is_done))
}

type Tasks = JoinSet<Result<(), Error>>;

/// Serves health and metrics.
fn serve(tasks: &mut Tasks, client: &Client, context: &Context, health: &Health) {
    let mut metrics = Some(Arc::clone(&context.metrics));
    if let Some(secure) = context.config.secure_metrics.clone()
        && let Some(metrics) = metrics.take()
    {
        let served = health::serve_securely(secure, client.clone(), metrics);
        tasks.spawn(served.map(|ended| ended.map_err(Error::SecureMetrics)));
    }
    let address = context.config.address;
    let served = health::serve(address, health.clone(), metrics);
    tasks.spawn(served.map(move |ended| ended.map_err(|source| Error::Serve { address, source })));
}

/// Starter of watches, with what they have in common.
struct Watches<'a> {
    tasks: &'a mut Tasks,
    client: &'a Client,
    context: &'a Arc<Context>,
    health: &'a Health,
    /// Namespace of the next watches; `None` for all.
    scope: Option<&'a str>,
}

impl Watches<'_> {
    /// Starts the watches of the scope, and connects their events to the affected objects.
    fn start_of_scope(&mut self) {
        let views = &self.context.views;
        let every = watch::config;
        self.start(&views.connections, scoped, every(), connection_changed);
        self.start(&views.identities, scoped, every(), |context, object, _| {
            identity_changed(context, object);
        });
        self.start(&views.tokens, scoped, every(), token_changed);
        self.start(&views.revocations, scoped, every(), revocation_changed);
        let ours = every().labels(TOKEN_UID_LABEL);
        self.start(&views.secrets, scoped, ours, |context, object, _| {
            secret_changed(context, object);
        });
        if self.context.config.consumers.counts_pods {
            let running = every().fields(NOT_TERMINATED);
            self.start(&views.pods, scoped, running, |context, object, _| {
                pod_changed(context, object);
            });
        }
        // Only the watched namespaces matter here.
        let named = match self.scope {
            Some(namespace) => every().fields(&format!("metadata.name={namespace}")),
            None => every(),
        };
        self.start(
            &views.namespaces,
            of_cluster,
            named,
            |context, object, _| {
                namespace_changed(context, object);
            },
        );
    }

    /// Starts the watches of cluster-scoped kinds.
    fn start_of_cluster(&mut self) {
        let views = &self.context.views;
        let every = watch::config;
        let connections = &views.cluster_connections;
        self.start(connections, of_cluster, every(), connection_changed);
        let revocations = &views.cluster_revocations;
        self.start(revocations, of_cluster, every(), revocation_changed);
    }

    fn start<K: Packable>(
        &mut self,
        view: &Arc<View<K>>,
        api: MakeApi<K>,
        config: watcher::Config,
        changed: fn(&Context, &K, bool),
    ) {
        let context = Arc::clone(self.context);
        let watch = watch::keep(
            self.client.clone(),
            api,
            config,
            self.scope.map(ToOwned::to_owned),
            Arc::clone(view),
            self.health.clone(),
            move |object, is_there| changed(&context, object, is_there),
        );
        self.tasks.spawn(watch.map(Ok));
    }
}

/// Function that returns the API of a kind in a namespace, or in all.
type MakeApi<K> = fn(Client, Option<&str>) -> Api<K>;

fn scoped<K>(client: Client, scope: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match scope {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}

fn of_cluster<K: Resource<DynamicType = ()>>(client: Client, _: Option<&str>) -> Api<K> {
    Api::all(client)
}
