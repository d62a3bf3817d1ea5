//! Wires it all: watches in, controllers out.

use std::{sync::Arc, time::Duration};

use futures::FutureExt;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{NamespaceResourceScope, PartialObjectMeta},
    runtime::{reflector::ObjectRef, watcher},
};
use tokio::task::JoinSet;
use tracing::info;

use crate::{
    acs::Service,
    cluster::{
        control::Stop,
        event::Events,
        input::{Follower, Inputs},
        view::{Indexed, View, object_ref},
        watch, watch_client,
    },
    connection::{self, AnyConnection, ConnectionKey},
    context::{Config, Context, Views},
    crd::{AcsIdentity, AcsRevocation, AcsToken, ClusterAcsRevocation, TOKEN_UID_LABEL},
    gate::Gates,
    health::{self, Health},
    hold_back, identity,
    memory::Memory,
    metrics::Metrics,
    revocation::{self, AnyRevocation},
    token,
    wake::{Triggers, Wake},
};

/// After the request to stop, runs have this long to end.
pub const DRAIN: Duration = Duration::from_secs(30);

/// Why the operator ended on its own.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours.
    #[error(
        "could not serve /metrics, /livez and /readyz at {address}: {source}; choose another --address"
    )]
    Serve {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A task ended that never should.
    #[error("a task of the operator ended unexpectedly: please report this")]
    Ended,
}

/// Runs the operator until `stop`, then lets runs that have begun end.
pub async fn run(
    client: Client,
    config: Config,
    acs: Service,
    metrics: Arc<Metrics>,
    stop: Stop,
) -> Result<(), Error> {
    let health = Health::default();
    let (wake, triggers) = Wake::channels();
    let scopes: Vec<_> = if config.watch_namespaces.is_empty() {
        vec![None]
    } else {
        config.watch_namespaces.iter().cloned().map(Some).collect()
    };
    let for_inputs = wake.clone();
    // A watch of one Secret is no condition of readiness: its object says what it waits for.
    let for_watches = watch_client::reporting(&client, &health, || {});
    let inputs = Inputs::new(for_watches, move |follower| {
        wake_follower(&for_inputs, follower);
    });
    let address = config.address;
    let context = Arc::new(Context {
        events: Events::new(client.clone()),
        client,
        acs,
        views: Views::new(scopes.len()),
        wake,
        registry: connection::Registry::default(),
        gates: Gates::default(),
        memory: Memory::default(),
        inputs,
        metrics: Arc::clone(&metrics),
        config,
    });

    let mut tasks = JoinSet::new();
    tasks.spawn(health::serve(address, health.clone(), metrics));
    for scope in scopes {
        watch_scope(&mut tasks, &context, &health, scope.as_deref());
    }
    watch_cluster(&mut tasks, &context, &health);
    tasks.spawn(health::probe(context.client.clone(), health.clone()).map(Ok));
    let mut controllers = tokio::spawn(control(
        Arc::clone(&context),
        health,
        triggers,
        stop.clone(),
    ));
    tokio::select! {
        biased;
        _ = &mut controllers => return Ok(()),
        () = stop => {}
        ended = tasks.join_next() => {
            return match ended {
                Some(Ok(Err(source))) => Err(Error::Serve { address, source }),
                _ => Err(Error::Ended),
            };
        }
    }
    info!("stopping: runs that have begun are ended");
    let _ = tokio::time::timeout(DRAIN, controllers).await;
    Ok(())
}

/// Runs the controllers once everything is known that they need.
///
/// What every run needs is waited for. A kind that can't be listed, because its CRD or a right is
/// missing, holds up only what needs it.
async fn control(context: Arc<Context>, health: Health, triggers: Triggers, stop: Stop) {
    let views = &context.views;
    tokio::select! {
        () = async {
            views.ready().await;
            or_missing(&health, &views.cluster_connections).await;
            or_missing(&health, &views.revocations).await;
            or_missing(&health, &views.cluster_revocations).await;
        } => {}
        () = stop.clone() => return,
    }
    info!(
        identities = views.identities.all().len(),
        tokens = views.tokens.all().len(),
        "the controllers start"
    );
    let identities = hold_back::until_connections_are_known(
        &context,
        triggers.identities,
        hold_back::identity_may_use_cluster,
    );
    let tokens = hold_back::until_connections_are_known(
        &context,
        triggers.tokens,
        hold_back::token_may_use_cluster,
    );
    let client = context.client.clone();
    let of_namespaces = namespaced(&client);
    let orders_of_namespaces = namespaced(&client);
    let orders_client = client.clone();
    tokio::join!(
        connection::run(
            Arc::clone(&context),
            Arc::clone(&context.views.connections),
            of_namespaces,
            triggers.connections,
            stop.clone(),
        ),
        when_known(
            &views.cluster_connections,
            &stop,
            connection::run(
                Arc::clone(&context),
                Arc::clone(&views.cluster_connections),
                move |_: &ObjectRef<_>| Api::all(client.clone()),
                triggers.cluster_connections,
                stop.clone(),
            )
        ),
        identity::run(Arc::clone(&context), identities, stop.clone()),
        token::run(Arc::clone(&context), tokens, stop.clone()),
        when_known(
            &views.revocations,
            &stop,
            revocation::run(
                Arc::clone(&context),
                Arc::clone(&views.revocations),
                orders_of_namespaces,
                triggers.revocations,
                stop.clone(),
            )
        ),
        when_known(
            &views.cluster_revocations,
            &stop,
            revocation::run(
                Arc::clone(&context),
                Arc::clone(&views.cluster_revocations),
                move |_: &ObjectRef<_>| Api::all(orders_client.clone()),
                triggers.cluster_revocations,
                stop.clone(),
            )
        ),
    );
}

/// Waits until a kind is known, or can't be.
async fn or_missing<K>(health: &Health, view: &View<K>)
where
    K: Resource<DynamicType = ()> + Indexed + Clone + std::fmt::Debug + 'static,
{
    let plural = K::plural(&());
    tokio::select! {
        () = view.ready() => {}
        () = health.is_missing(&plural) => {}
    }
}

/// Runs a controller once its kind is known.
async fn when_known<K>(view: &View<K>, stop: &Stop, controller: impl Future<Output = ()>)
where
    K: Resource<DynamicType = ()> + Indexed + Clone + std::fmt::Debug + 'static,
{
    tokio::select! {
        () = view.ready() => controller.await,
        () = stop.clone() => {}
    }
}

/// Where an object of a namespace is written.
fn namespaced<K>(client: &Client) -> impl Fn(&ObjectRef<K>) -> Api<K> + Clone + use<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let client = client.clone();
    move |key| Api::namespaced(client.clone(), key.namespace.as_deref().unwrap_or_default())
}

type Tasks = JoinSet<std::io::Result<()>>;

/// The watches of one namespace, or of all, and whom each of them wakes.
fn watch_scope(tasks: &mut Tasks, context: &Arc<Context>, health: &Health, scope: Option<&str>) {
    let ours = watch::config().labels(TOKEN_UID_LABEL);
    let views = &context.views;
    let on = Arc::clone(context);
    keep(
        tasks,
        health,
        (context, scoped, scope),
        watch::config(),
        &views.connections,
        move |object, _| {
            on.wake_connection(&object.key());
            on.wake_users(&object.key());
        },
    );
    let on = Arc::clone(context);
    keep(
        tasks,
        health,
        (context, scoped, scope),
        watch::config(),
        &views.identities,
        move |object, _| {
            identity_changed(&on, object);
        },
    );
    let on = Arc::clone(context);
    keep(
        tasks,
        health,
        (context, scoped, scope),
        watch::config(),
        &views.tokens,
        move |object, is_there| {
            token_changed(&on, object, is_there);
        },
    );
    let on = Arc::clone(context);
    keep(
        tasks,
        health,
        (context, scoped, scope),
        watch::config(),
        &views.revocations,
        move |object: &AcsRevocation, is_there| {
            order_changed(&on, object, is_there);
            let _ = on.wake.revocations.send(ObjectRef::from_obj(object));
        },
    );
    let on = Arc::clone(context);
    keep(
        tasks,
        health,
        (context, scoped, scope),
        ours,
        &views.secrets,
        move |object, _| {
            secret_changed(&on, object);
        },
    );
    // Of namespaces only those that we watch are anyone's business here.
    let named = match scope {
        Some(namespace) => watch::config().fields(&format!("metadata.name={namespace}")),
        None => watch::config(),
    };
    let on = Arc::clone(context);
    keep(
        tasks,
        health,
        (context, of_cluster, scope),
        named,
        &views.namespaces,
        move |object: &PartialObjectMeta<Namespace>, _| {
            for identity in on
                .views
                .identities
                .find_refs(&identity::namespace_key(&object.name_any()))
            {
                on.wake_tokens(&identity);
                let _ = on.wake.identities.send(identity);
            }
            let of_users = token::namespace_key(&object.name_any());
            for token in on.views.tokens.find_refs(&of_users) {
                let _ = on.wake.tokens.send(token);
            }
        },
    );
}

/// The watches of what has no namespace.
fn watch_cluster(tasks: &mut Tasks, context: &Arc<Context>, health: &Health) {
    let views = &context.views;
    let on = Arc::clone(context);
    keep(
        tasks,
        health,
        (context, of_cluster, None),
        watch::config(),
        &views.cluster_connections,
        move |object, _| {
            on.wake_connection(&object.key());
            on.wake_users(&object.key());
        },
    );
    let on = Arc::clone(context);
    keep(
        tasks,
        health,
        (context, of_cluster, None),
        watch::config(),
        &views.cluster_revocations,
        move |object: &ClusterAcsRevocation, is_there| {
            order_changed(&on, object, is_there);
            let order = ObjectRef::from_obj(object);
            let _ = on.wake.cluster_revocations.send(order);
        },
    );
}

/// An order has no finalizer: it is forgotten when its watch tells that it is gone.
fn order_changed(context: &Context, order: &impl AnyRevocation, is_there: bool) {
    if !is_there {
        context.memory.forget(&order.uid().unwrap_or_default());
    }
}

fn keep<K>(
    tasks: &mut Tasks,
    health: &Health,
    (context, api, scope): (&Context, MakeApi<K>, Option<&str>),
    config: watcher::Config,
    view: &Arc<View<K>>,
    changed: impl Fn(&K, bool) + Send + 'static,
) where
    K: Resource<DynamicType = ()>
        + Indexed
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let scope = scope.map(ToOwned::to_owned);
    let keep = watch::keep(
        context.client.clone(),
        api,
        config,
        scope,
        Arc::clone(view),
        health.clone(),
        changed,
    );
    tasks.spawn(keep.map(Ok));
}

/// Makes the API of a kind in a namespace, or in all.
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

/// Wakes all whom a change of an identity concerns.
pub fn identity_changed(context: &Context, identity: &AcsIdentity) {
    let reference = ObjectRef::from_obj(identity);
    context.wake_tokens(&reference);
    context.wake_orders(&reference);
    let status = identity.status.as_ref();
    if let Some(id) = status.and_then(|status| status.identity_id.as_deref()) {
        // Also those that wait for the id and have no status of it yet.
        for sibling in context.views.identities.find_refs(&identity::id_key(id)) {
            if sibling != reference {
                context.wake_tokens(&sibling);
                let _ = context.wake.identities.send(sibling);
            }
        }
    }
    wake_connection_of(context, identity);
    let _ = context.wake.identities.send(reference);
}

fn wake_connection_of(context: &Context, identity: &AcsIdentity) {
    let namespace = identity.namespace().unwrap_or_default();
    let status = identity.status.as_ref();
    let used = status.and_then(|status| status.connection_ref.as_ref());
    if let Some(used) = used.or(identity.spec.connection_ref.as_ref()) {
        context.wake_connection(&ConnectionKey::of(used, &namespace));
    }
}

/// Wakes all whom a change of a token concerns.
pub fn token_changed(context: &Context, token: &AcsToken, is_there: bool) {
    let comes_or_goes = !is_there || token.finalizers().is_empty();
    let makes_room = !is_there || token.metadata.deletion_timestamp.is_some();
    if let Some(identity) = token::identity_of(token) {
        if comes_or_goes {
            // That changes the connection's count.
            if let Some(identity) = context.views.identities.get(&identity) {
                wake_connection_of(context, &identity);
            }
        }
        if makes_room {
            wake_who_may_come_next(context, &identity);
        }
        let _ = context.wake.identities.send(identity);
    }
    if let Some(user) = &token.spec.teams_user {
        if comes_or_goes {
            for key in token::connections(token) {
                context.wake_connection(&key);
            }
        }
        if makes_room {
            for other in context.views.tokens.find_refs(&token::user_key(user)) {
                let _ = context.wake.tokens.send(other);
            }
        }
    }
    // Whoever names the same Secret may have it now, or has lost it.
    for rival in context.views.tokens.find_refs(&token::secret_key(token)) {
        let _ = context.wake.tokens.send(rival);
    }
    let _ = context.wake.tokens.send(ObjectRef::from_obj(token));
}

/// Where the policy lets an identity have so many tokens only, one that goes makes room.
fn wake_who_may_come_next(context: &Context, identity: &ObjectRef<AcsIdentity>) {
    let Some(identity) = context.views.identities.get(identity) else {
        return;
    };
    let status = identity.status.clone().unwrap_or_default();
    let (Some(id), Some(used)) = (status.identity_id, status.connection_ref) else {
        return;
    };
    let key = ConnectionKey::of(&used, &identity.namespace().unwrap_or_default());
    if context.token_policy(&key).max_tokens_per_identity.is_some() {
        for sibling in context.views.identities.find_refs(&identity::id_key(&id)) {
            context.wake_tokens(&sibling);
        }
    }
}

/// Wakes the token whose Secret has changed.
pub fn secret_changed(context: &Context, secret: &PartialObjectMeta<Secret>) {
    let uid = secret.labels().get(TOKEN_UID_LABEL);
    let uid = uid.cloned().unwrap_or_default();
    for token in context.views.tokens.find_refs(&token::uid_key(&uid)) {
        let _ = context.wake.tokens.send(token);
    }
}

fn wake_follower(wake: &Wake, follower: &Follower) {
    match follower {
        Follower::Token(token) | Follower::UserToken(token) => {
            let _ = wake.tokens.send(token.clone());
        }
        Follower::Connection(key) => {
            let _ = match &key.namespace {
                Some(namespace) => wake
                    .connections
                    .send(object_ref(Some(namespace), &key.name))
                    .is_ok(),
                None => wake
                    .cluster_connections
                    .send(object_ref(None, &key.name))
                    .is_ok(),
            };
        }
    }
}
