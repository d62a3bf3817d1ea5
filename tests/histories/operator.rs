//! Process of the operator: the shipped queue and reconciles, with the watches of this world. It
//! ends with a crash, and another begins.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    pin::Pin,
    rc::Rc,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    task::{Context as Task, Poll, Waker},
    time::Duration,
};

use acs_identity_operator::{
    acs::{Allowed, Service as Acs, ServiceConfig},
    cache::Cache,
    cluster::{self, ObjectKey, row::Packable, view::View, watch::take_over},
    consumers::ConsumerPod,
    context::{Config, ConsumerConfig, Context, Views},
    crd::{AcsConnection, AcsIdentity, AcsRevocation, AcsToken, ClusterAcsConnection, FINALIZER},
    credentials::Registry,
    engine::{Calls, Claim, Locks, Object, Queue, Requeue, Rested, ended},
    metrics::Metrics,
    operator::{
        events::{
            connection_changed, identity_changed, pod_changed, revocation_changed, secret_changed,
            token_changed,
        },
        reconcile,
    },
};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc::UnboundedReceiver,
};

use crate::{
    cluster::{Change, Kind, NAMESPACE, WATCHES, is_labelled, without_data},
    connection::{self, SECRET},
    door::{self, ProcessDoor},
    invariants,
    service::{Millis, Success},
    successor,
    truth::Truth,
    world::{ApiAnswer, ApiCall, BEGIN, Key, Message, Reply, State, TRIP, World},
};

/// Time after which a deletion continues without ACS (I3).
pub const DEADLINE: SignedDuration = SignedDuration::from_mins(10);

type Run = Pin<Box<dyn Future<Output = Result<Rested, cluster::Error>>>>;

pub struct Operator {
    pub context: Arc<Context>,
    /// Whether it can reach the Lease.
    pub renews: bool,
    is_stopping: bool,
    world: Rc<RefCell<World>>,
    door: ProcessDoor,
    requeued: UnboundedReceiver<ObjectKey>,
    queue: Queue,
    runs: BTreeMap<Key, Run>,
    /// Times until which watches deliver nothing.
    pub held: [Millis; WATCHES],
    /// Number of started reconciles.
    pub started: usize,
}

/// Possible next step.
#[derive(Clone, Debug)]
enum Action {
    Return(usize),
    Arrive(usize),
    Tell(usize),
    Start(usize),
    CollectGarbage,
}

impl Operator {
    /// Starts a process, which has just listed everything.
    pub fn start(world: &Rc<RefCell<World>>) -> Self {
        let (requeue, requeued) = Requeue::channel();
        let process = {
            let mut world = world.borrow_mut();
            world.lease.holder += 1;
            world.lease.holder
        };
        let door = ProcessDoor {
            process,
            claim: Claim::waiting(),
            requeue: requeue.clone(),
            spawned: Arc::default(),
            followed: Arc::default(),
        };
        let mut operator = Self {
            context: Arc::new(context(requeue, door.clone())),
            renews: true,
            is_stopping: false,
            world: Rc::clone(world),
            door,
            requeued,
            queue: Queue::default(),
            runs: BTreeMap::new(),
            held: [0; WATCHES],
            started: 0,
        };
        operator.list();
        operator
    }

    fn list(&mut self) {
        let mut world = self.world.borrow_mut();
        world.cluster.unrecorded = Default::default();
        world.learned = None;
        world.connection.read = None;
        world.truth.answered.clear();
        for token in world.service.tokens_mut() {
            token.is_known = false;
        }
        let (context, views, cluster) = (&self.context, &self.context.views, &world.cluster);
        for connection in cluster.connections.values() {
            views.connections.apply(connection);
        }
        for connection in cluster.global_connections.values() {
            views.cluster_connections.apply(connection);
        }
        for identity in cluster.identities.values() {
            views.identities.apply(identity);
        }
        for token in cluster.tokens.values() {
            views.tokens.apply(token);
        }
        for secret in cluster.secrets.values().filter(|s| is_labelled(s)) {
            views.secrets.apply(&without_data(secret));
        }
        for revocation in cluster.orders.values() {
            views.revocations.apply(revocation);
        }
        views.connections.listed();
        views.cluster_connections.listed();
        views.identities.listed();
        views.tokens.listed();
        views.secrets.listed();
        views.revocations.listed();
        views.cluster_revocations.listed();
        for pod in cluster.pods.values() {
            views.pods.apply(pod);
        }
        views.pods.listed();
        views.namespaces.listed();
        for connection in cluster.connections.values() {
            connection_changed(context, connection, true);
        }
        for connection in cluster.global_connections.values() {
            connection_changed(context, connection, true);
        }
        for identity in cluster.identities.values() {
            identity_changed(context, identity);
        }
        for token in cluster.tokens.values() {
            token_changed(context, token, true);
        }
        for revocation in cluster.orders.values() {
            revocation_changed(context, revocation, true);
        }
        knows_policy(&mut world);
    }

    /// Ends the process; calls in flight arrive or not.
    pub fn crash(&mut self, fates: u8) {
        self.runs.clear();
        let mut world = self.world.borrow_mut();
        world.tell(|| "the operator crashes".to_owned());
        world.lose_calls(fates);
        world.truth.restarted = Some(world.now);
        drop(world);
        *self = Self::start(&Rc::clone(&self.world));
    }

    /// Requests the process to stop: it begins no further call.
    pub fn stop(&mut self) {
        self.is_stopping = true;
        self.context.calls.close();
    }

    /// Whether the answers of all begun calls are recorded.
    pub fn is_stopped(&self) -> bool {
        self.runs.is_empty() && self.context.calls.is_idle()
    }

    /// Records answers while the process stops.
    fn record_answers(&mut self) {
        let calls = self.context.calls.clone();
        while let Some((key, attempts)) = self.queue.start_where(|key| calls.has_answer(key)) {
            self.run(key, attempts);
        }
    }

    /// Runs everything that needs no answer.
    pub fn go_on(&mut self) {
        self.drain();
        let keys: Vec<Key> = self.runs.keys().cloned().collect();
        for key in keys {
            self.poll(&key);
        }
        for _ in 0..self.queue.tick(self.elapsed()) {
            self.start_run(0);
        }
    }

    /// Requeues every object.
    pub fn resync(&self) {
        let world = self.world.borrow();
        for identity in world.cluster.identities.values() {
            identity_changed(&self.context, identity);
        }
    }

    /// Executes one of the possible next steps; returns false if there is none.
    pub fn step(&mut self, choice: usize) -> bool {
        if self.renews {
            let mut world = self.world.borrow_mut();
            successor::renew(&mut world, self.door.process, &self.door.claim);
        }
        self.drain();
        if self.is_stopping {
            self.record_answers();
        }
        let actions = self.actions();
        if actions.is_empty() {
            return false;
        }
        self.world.borrow_mut().steps += 1;
        match actions[choice % actions.len()] {
            Action::Return(call) => self.answer(call),
            Action::Arrive(call) => self.world.borrow_mut().arrive(call),
            Action::Tell(watch) => self.tell(watch),
            Action::Start(place) => self.start_run(place),
            Action::CollectGarbage => {
                self.world.borrow_mut().cluster.collect_garbage();
            }
        }
        true
    }

    /// Returns the number of possible next steps.
    pub fn choices(&mut self) -> usize {
        self.drain();
        self.actions().len()
    }

    fn actions(&mut self) -> Vec<Action> {
        let queued = self.queue.tick(self.elapsed());
        let world = self.world.borrow();
        let mut actions = Vec::new();
        for (index, call) in world.calls.iter().enumerate() {
            match call.state {
                State::Answered(_) => actions.push(Action::Return(index)),
                State::Sent => actions.push(Action::Arrive(index)),
                State::Hung(..) => {}
            }
        }
        for (watch, unrecorded) in world.cluster.unrecorded.iter().enumerate() {
            if self.held[watch] <= world.now && !unrecorded.is_empty() {
                actions.push(Action::Tell(watch));
            }
        }
        if !self.is_stopping {
            actions.extend((0..queued).map(Action::Start));
        }
        if actions.is_empty() && world.cluster.garbage().is_some() {
            actions.push(Action::CollectGarbage);
        }
        actions
    }

    /// Takes the objects to reconcile from the channels.
    fn drain(&mut self) {
        self.door.poll_spawned();
        while let Ok(key) = self.requeued.try_recv() {
            self.queue.add(key);
        }
    }

    /// Returns the monotonic time.
    fn elapsed(&self) -> Duration {
        let millis = self.world.borrow().now - BEGIN;
        Duration::from_millis(millis.cast_unsigned())
    }

    /// Returns when something happens by itself: a timer, or the end of a hanging call.
    pub fn next_moment(&self) -> Option<Millis> {
        let world = self.world.borrow();
        let calls = world.calls.iter().filter_map(|call| match call.state {
            State::Hung(until, _) => Some(until),
            _ => None,
        });
        let timer = self.queue.next_timer();
        let in_millis = |timer: Duration| timer.as_nanos().div_ceil(1_000_000);
        let timer = timer.map(|timer| BEGIN + Millis::try_from(in_millis(timer)).unwrap());
        let stragglers = world.stragglers.iter().map(|late| late.at);
        let held = self.held.iter().copied().filter(|until| *until > world.now);
        let busy = Some(world.busy_until).filter(|until| *until > world.now);
        calls
            .chain(timer)
            .chain(stragglers)
            .chain(held)
            .chain(busy)
            .min()
    }

    /// Whether every reconcile has finished successfully; a wait for ACS is allowed.
    pub fn is_idle(&self) -> bool {
        self.runs.is_empty() && self.queue.is_settled()
    }

    /// Returns the objects whose reconcile runs now.
    pub fn running(&self) -> Vec<String> {
        self.runs.keys().map(ToString::to_string).collect()
    }

    fn tell(&mut self, watch: usize) {
        let Some(change) = self.world.borrow_mut().cluster.unrecorded[watch].pop_front() else {
            return;
        };
        let (context, views) = (&self.context, &self.context.views);
        match change {
            Change::Identity(object, is_there) => {
                views.identities.receive(&object, is_there);
                identity_changed(context, &object);
            }
            Change::Token(object, is_there) => {
                views.tokens.receive(&object, is_there);
                token_changed(context, &object, is_there);
            }
            Change::Secret(object, is_there) => {
                views.secrets.receive(&object, is_there);
                secret_changed(context, &object);
            }
            Change::Revocation(object, is_there) => {
                views.revocations.receive(&object, is_there);
                revocation_changed(context, &object, is_there);
            }
            Change::Connection(object, is_there) => {
                views.connections.receive(&object, is_there);
                connection_changed(context, &object, is_there);
                knows_policy(&mut self.world.borrow_mut());
            }
            Change::ClusterConnection(object, is_there) => {
                views.cluster_connections.receive(&object, is_there);
                connection_changed(context, &object, is_there);
                knows_policy(&mut self.world.borrow_mut());
            }
            Change::Pod(object, is_there) => {
                views.pods.receive(&object, is_there);
                pod_changed(context, &object);
            }
            Change::Named(name, version) => self.door.changed(&name, version),
            Change::Listed => self.list_anew(watch),
        }
    }

    /// Lists the objects of a broken watch, which then continues from there.
    fn list_anew(&self, watch: usize) {
        fn list<K: Packable>(
            view: &View<K>,
            objects: impl Iterator<Item = K>,
            changed: impl Fn(&K, bool),
        ) {
            let list = view.list();
            for object in objects {
                view.apply_listed(&object, list);
            }
            take_over(view, None, list, &changed);
        }
        let mut world = self.world.borrow_mut();
        world.cluster.unrecorded[watch].clear();
        let (context, views, cluster) = (&self.context, &self.context.views, &world.cluster);
        match watch {
            AcsIdentity::WATCH => {
                let changed = |object: &_, _| identity_changed(context, object);
                list(
                    &views.identities,
                    cluster.identities.values().cloned(),
                    changed,
                );
            }
            AcsToken::WATCH => {
                let changed = |object: &_, is_there| token_changed(context, object, is_there);
                list(&views.tokens, cluster.tokens.values().cloned(), changed);
            }
            AcsRevocation::WATCH => {
                let changed = |object: &_, is_there| revocation_changed(context, object, is_there);
                list(
                    &views.revocations,
                    cluster.orders.values().cloned(),
                    changed,
                );
            }
            Secret::WATCH => {
                let secrets = cluster
                    .secrets
                    .values()
                    .filter(|secret| is_labelled(secret));
                let changed = |object: &_, _| secret_changed(context, object);
                list(&views.secrets, secrets.map(without_data), changed);
            }
            AcsConnection::WATCH => {
                let changed = |object: &AcsConnection, is_there| {
                    connection_changed(context, object, is_there);
                };
                list(
                    &views.connections,
                    cluster.connections.values().cloned(),
                    changed,
                );
                knows_policy(&mut world);
            }
            ConsumerPod::WATCH => {
                let changed = |object: &_, _| pod_changed(context, object);
                list(&views.pods, cluster.pods.values().cloned(), changed);
            }
            _ => {
                let objects = cluster.global_connections.values().cloned();
                let changed = |object: &ClusterAcsConnection, is_there| {
                    connection_changed(context, object, is_there);
                };
                list(&views.cluster_connections, objects, changed);
                knows_policy(&mut world);
            }
        }
    }

    fn start_run(&mut self, place: usize) {
        if let Some((key, attempts)) = self.queue.start(place) {
            self.run(key, attempts);
        }
    }

    fn run(&mut self, key: Key, attempts: i32) {
        let run = reconcile(Arc::clone(&self.context), key.clone(), attempts);
        self.started += 1;
        self.runs.insert(key.clone(), Box::pin(run));
        self.poll(&key);
    }

    fn answer(&mut self, index: usize) {
        let mut world = self.world.borrow_mut();
        let call = world.calls.remove(index);
        let State::Answered(reply) = call.state else {
            return;
        };
        world.now += if matches!(reply, Reply::Acs(..)) {
            TRIP
        } else {
            1
        };
        if let Reply::Acs(_, Some(date)) = &reply {
            world.learn(*date);
        }
        if let (Message::Api(ApiCall::ReadSecret(name)), Reply::Api(Ok(ApiAnswer::Secret(found)))) =
            (&call.message, &reply)
            && name == SECRET
        {
            world.connection.read = Some(found.as_ref().and_then(|it| it.resource_version()));
        }
        if let Message::Api(ApiCall::Reread(Object::Connection(_) | Object::ClusterConnection(_))) =
            &call.message
        {
            is_told_policy(&mut world);
        }
        if let Reply::Acs(Ok(Success::Created(id)), _) = &reply {
            world.truth.answered.insert(id.clone());
        }
        if let Reply::Acs(Ok(Success::Issued { text, .. }), _) = &reply {
            let mut tokens = world.service.tokens_mut();
            if let Some(token) = tokens.find(|token| token.text == *text) {
                token.is_known = true;
            }
        }
        world.replies.insert(call.id, reply);
        drop(world);
        match call.message {
            Message::Api(_) => self.poll(&call.by),
            // No reconcile waits for it: its completion requeues the object.
            Message::Acs(..) => self.door.poll_spawned(),
        }
    }

    fn poll(&mut self, key: &Key) {
        let Some(run) = self.runs.get_mut(key) else {
            return;
        };
        let poll = || run.as_mut().poll(&mut Task::from_waker(Waker::noop()));
        let Poll::Ready(result) = door::on_behalf_of(key, poll) else {
            return;
        };
        self.runs.remove(key);
        let now = self.world.borrow().local();
        let how = ended(&result, now);
        let attempts = self.queue.ended(key, how, self.elapsed());
        // The first time, something may have changed between the two.
        if let (Ok(Rested::NoProgress(step)), true) = (&result, attempts > 1) {
            let mut world = self.world.borrow_mut();
            let checked = invariants::on_no_progress(&world, key, step);
            world.check(checked);
        }
    }
}

/// Records that the operator knows the current policy, unless its watch has more to deliver.
fn knows_policy(world: &mut World) {
    if !connection::is_untold(world) {
        is_told_policy(world);
    }
}

fn is_told_policy(world: &mut World) {
    world.connection.told = world.connection.policy.clone();
    Truth::policy_told(world);
}

fn context(requeue: Requeue, door: ProcessDoor) -> Context {
    /// Real client for credentials, which sends no requests; created once.
    static OUTSIDE: OnceLock<(Acs, Arc<Metrics>, Runtime)> = OnceLock::new();
    let (acs, metrics, _) = OUTSIDE.get_or_init(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let inside = runtime.enter();
        let acs = Acs::new(ServiceConfig::default()).unwrap();
        drop(inside);
        (acs, Arc::default(), runtime)
    });
    let locks = Locks::new(requeue.clone());
    Context {
        world: Arc::new(door),
        acs: acs.clone(),
        config: Config {
            watch_namespaces: Vec::new(),
            address: ([127, 0, 0, 1], 0).into(),
            secure_metrics: None,
            cluster_resource_namespace: NAMESPACE.to_owned(),
            cluster_finalizer: FINALIZER.to_owned(),
            deletion_deadline: DEADLINE,
            pods_reread_within: SignedDuration::from_mins(5),
            consumers: ConsumerConfig {
                restarts_workloads: true,
                nudges_pods: true,
                counts_pods: true,
            },
            allowed: Allowed::new(Vec::new(), Vec::new()).unwrap(),
            forbidden_metadata: vec!["argocd.argoproj.io".to_owned()],
            secret_labels: BTreeMap::new(),
            namespaced_ambient_credentials: false,
            service_account_token_audience: String::new(),
        },
        views: Views::new(1),
        registry: Registry::default(),
        calls: Calls::new(locks.clone(), requeue.clone()),
        locks,
        requeue,
        cache: Cache::default(),
        metrics: Arc::clone(metrics),
        leads_cluster: Arc::new(AtomicBool::new(true)),
    }
}
