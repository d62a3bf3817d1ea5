//! One process of the operator: its views, its watches, its queue and its runs. It ends with a
//! crash, and another begins.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    rc::Rc,
    sync::{Arc, OnceLock},
    task::{Context as Task, Poll, Waker},
};

use acs_identity_operator::{
    acs::{Allowed, Service as Acs, ServiceConfig},
    cluster::{
        control::after_conflict,
        event::Events,
        input::{Inputs, Presence},
        view::object_ref,
    },
    connection::Registry,
    context::{Config, Context, Views},
    crd::{AcsRevocation, AcsToken},
    gate::Gates,
    memory::Memory,
    metrics::Metrics,
    operator::{identity_changed, secret_changed, token_changed},
    renewal,
    token::namespace_key,
    wake::{Triggers, Wake},
};
use jiff::{SignedDuration, Timestamp};
use kube::{Client, runtime::reflector::ObjectRef};
use tokio::runtime::{Builder, Runtime};

use crate::{
    cluster::{Change, NAMESPACE, Refused, WATCHES, is_labelled, without_data},
    connection, identity, order,
    service::Millis,
    teams::ENTRA,
    token,
    wire::Wire,
    world::{Key, Reply, State, TRIP, World},
};

/// After this long a deletion goes on without ACS (I3).
pub const DEADLINE: SignedDuration = SignedDuration::from_mins(10);

/// As the controllers have it: no object needs more steps before it rests.
pub const MOST_STEPS: usize = 12;

type Run = Pin<Box<dyn Future<Output = Result<Option<Timestamp>, Refused>>>>;

pub struct Operator {
    pub context: Arc<Context>,
    world: Rc<RefCell<World>>,
    triggers: Triggers,
    queue: VecDeque<Key>,
    runs: BTreeMap<Key, Run>,
    /// When objects want to be run again, by the API server's clock: a monotonic one.
    timers: BTreeMap<Key, Millis>,
    /// Runs that failed in a row.
    pub failures: BTreeMap<Key, i32>,
    /// Until when watches tell nothing.
    pub held: [Millis; WATCHES],
    /// Runs that were begun.
    pub started: usize,
    /// Secrets of others that tokens wait for.
    followed: Rc<RefCell<BTreeMap<Key, String>>>,
    /// What the watch of the Teams user's Entra token knows, once it is followed.
    user_token: Rc<RefCell<Option<Presence>>>,
}

/// What may happen next.
#[derive(Clone, Debug)]
enum Action {
    Return(usize),
    Arrive(usize),
    Tell(usize),
    Start(usize),
    CollectGarbage,
}

impl Operator {
    /// A process that has just listed everything.
    pub fn start(world: &Rc<RefCell<World>>) -> Self {
        let (wake, triggers) = Wake::channels();
        let context = Arc::new(context(wake));
        let mut operator = Self {
            context,
            world: Rc::clone(world),
            triggers,
            queue: VecDeque::new(),
            runs: BTreeMap::new(),
            timers: BTreeMap::new(),
            failures: BTreeMap::new(),
            held: [0; WATCHES],
            started: 0,
            followed: Rc::default(),
            user_token: Rc::default(),
        };
        operator.list();
        operator
    }

    fn list(&mut self) {
        let mut world = self.world.borrow_mut();
        world.cluster.untold = Default::default();
        world.learned = None;
        let (views, cluster) = (&self.context.views, &world.cluster);
        for identity in cluster.identities.values() {
            views.identities.apply(identity);
        }
        for token in cluster.tokens.values() {
            views.tokens.apply(token);
        }
        for secret in cluster.secrets.values().filter(|s| is_labelled(s)) {
            views.secrets.apply(&without_data(secret));
        }
        for order in cluster.orders.values() {
            views.revocations.apply(order);
        }
        connection::look(&self.context, &mut world);
        for identity in world.cluster.identities.values() {
            identity_changed(&self.context, identity);
        }
        for token in world.cluster.tokens.values() {
            token_changed(&self.context, token, true);
        }
        for order in world.cluster.orders.values() {
            order_changed(&self.context, order);
        }
    }

    /// The process ends; calls on the wire get there or not.
    pub fn crash(&mut self, fates: u8) {
        self.runs.clear();
        let mut world = self.world.borrow_mut();
        world.tell(|| "the operator crashes".to_owned());
        world.lose_calls(fates);
        world.truth.restarted = Some(world.now);
        drop(world);
        *self = Self::start(&Rc::clone(&self.world));
    }

    /// Wakes every object, as a resync does.
    pub fn resync(&self) {
        let world = self.world.borrow();
        for identity in world.cluster.identities.values() {
            identity_changed(&self.context, identity);
        }
    }

    /// Does one of the things that may happen next; false when there is none.
    pub fn step(&mut self, choice: usize) -> bool {
        self.drain();
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

    fn actions(&self) -> Vec<Action> {
        let world = self.world.borrow();
        let mut actions = Vec::new();
        for (index, call) in world.calls.iter().enumerate() {
            match call.state {
                State::Answered(_) => actions.push(Action::Return(index)),
                State::Sent => actions.push(Action::Arrive(index)),
                State::Hung(..) => {}
            }
        }
        for (watch, untold) in world.cluster.untold.iter().enumerate() {
            if self.held[watch] <= world.now && !untold.is_empty() {
                actions.push(Action::Tell(watch));
            }
        }
        for (place, key) in self.queue.iter().enumerate() {
            if !self.runs.contains_key(key) {
                actions.push(Action::Start(place));
            }
        }
        if actions.is_empty() && world.cluster.garbage().is_some() {
            actions.push(Action::CollectGarbage);
        }
        actions
    }

    /// Takes in who was woken.
    fn drain(&mut self) {
        let mut woken = Vec::new();
        while let Ok(identity) = self.triggers.identities.try_recv() {
            woken.push(Key::Identity(identity.name));
        }
        while let Ok(token) = self.triggers.tokens.try_recv() {
            woken.push(Key::Token(token.name));
        }
        while let Ok(order) = self.triggers.revocations.try_recv() {
            woken.push(Key::Order(order.name));
        }
        let mut is_connection_woken = false;
        while self.triggers.connections.try_recv().is_ok() {
            is_connection_woken = true;
        }
        let world = self.world.borrow();
        let now = world.now;
        let due = self.timers.iter().filter(|(_, at)| **at <= now);
        woken.extend(due.map(|(key, _)| key.clone()));
        drop(world);
        for key in woken {
            self.wake(key);
        }
        if is_connection_woken {
            connection::report(&self.context, &mut self.world.borrow_mut());
        }
    }

    fn wake(&mut self, key: Key) {
        // One entry per object: what wakes it takes the place of its timer.
        self.timers.remove(&key);
        if !self.queue.contains(&key) {
            self.queue.push_back(key);
        }
    }

    /// When something happens by itself: a timer, or the end of a call that hangs.
    pub fn next_moment(&self) -> Option<Millis> {
        let world = self.world.borrow();
        let calls = world.calls.iter().filter_map(|call| match call.state {
            State::Hung(until, _) => Some(until),
            _ => None,
        });
        let timers = self.timers.values().copied();
        let stragglers = world.stragglers.iter().map(|(at, ..)| *at);
        let held = self.held.iter().copied().filter(|until| *until > world.now);
        calls.chain(timers).chain(stragglers).chain(held).min()
    }

    /// Whether every run has ended, and well.
    pub fn is_idle(&self) -> bool {
        self.runs.is_empty() && self.failures.is_empty()
    }

    /// Who runs now.
    pub fn running(&self) -> Vec<Key> {
        self.runs.keys().cloned().collect()
    }

    fn tell(&mut self, watch: usize) {
        let Some(change) = self.world.borrow_mut().cluster.untold[watch].pop_front() else {
            return;
        };
        let (context, views) = (&self.context, &self.context.views);
        match change {
            Change::Identity(object, is_there) => {
                if is_there {
                    views.identities.apply(&object);
                } else {
                    views.identities.delete(&object);
                }
                identity_changed(context, &object);
            }
            Change::Token(object, is_there) => {
                if is_there {
                    views.tokens.apply(&object);
                } else {
                    views.tokens.delete(&object);
                }
                token_changed(context, &object, is_there);
            }
            Change::Secret(object, is_there) => {
                if is_there {
                    views.secrets.apply(&object);
                } else {
                    views.secrets.delete(&object);
                }
                secret_changed(context, &object);
            }
            Change::Order(object, is_there) => {
                if is_there {
                    views.revocations.apply(&object);
                } else {
                    views.revocations.delete(&object);
                }
                order_changed(context, &object);
            }
            Change::Named(name, version) => {
                let mut known = self.user_token.borrow_mut();
                if let (Some(known), ENTRA) = (&mut *known, name.as_str()) {
                    *known = version.map_or(Presence::Absent, Presence::At);
                    for token in views.tokens.find_refs(&namespace_key(NAMESPACE)) {
                        let _ = context.wake.tokens.send(token);
                    }
                }
                let followed = self.followed.borrow();
                let followers = followed.iter().filter(|(_, followed)| **followed == name);
                for (key, _) in followers {
                    if let Key::Token(token) = key {
                        let token: ObjectRef<AcsToken> = object_ref(Some(NAMESPACE), token);
                        let _ = context.wake.tokens.send(token);
                    }
                }
            }
            Change::Connection => connection::look(context, &mut self.world.borrow_mut()),
        }
    }

    fn start_run(&mut self, place: usize) {
        let Some(key) = self.queue.remove(place) else {
            return;
        };
        let wire = Wire {
            context: Arc::clone(&self.context),
            world: Rc::clone(&self.world),
            by: key.clone(),
            followed: Rc::clone(&self.followed),
            user_token: Rc::clone(&self.user_token),
        };
        let run: Run = match &key {
            Key::Identity(name) => {
                let reference = object_ref(Some(NAMESPACE), name);
                Box::pin(identity::reconcile(wire, reference))
            }
            Key::Order(name) => {
                let reference = object_ref(Some(NAMESPACE), name);
                Box::pin(order::reconcile(wire, reference))
            }
            Key::Token(name) => {
                let reference = object_ref(Some(NAMESPACE), name);
                Box::pin(token::reconcile(wire, reference))
            }
        };
        self.started += 1;
        self.runs.insert(key.clone(), run);
        self.poll(&key);
        self.poll_gates();
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
        world.replies.insert(call.id, reply);
        drop(world);
        self.poll(&call.by);
        self.poll_gates();
    }

    fn poll(&mut self, key: &Key) {
        let Some(run) = self.runs.get_mut(key) else {
            return;
        };
        let Poll::Ready(ended) = run.as_mut().poll(&mut Task::from_waker(Waker::noop())) else {
            return;
        };
        self.runs.remove(key);
        // As the controller does: what it wants, or another try after a pause.
        let world = self.world.borrow();
        let (now, local) = (world.now, world.local());
        let again = match ended {
            Ok(wake) => {
                self.failures.remove(key);
                wake.map(|at| at.duration_since(local).as_millis().max(0) + 20)
            }
            Err(refused) => {
                let attempts = self.failures.entry(key.clone()).or_default();
                *attempts += 1;
                Some(if refused == Refused::Conflict {
                    after_conflict(*attempts).as_millis().cast_signed()
                } else {
                    renewal::backoff(*attempts, None, "any").as_millis()
                })
            }
        };
        if let Some(pause) = again.and_then(|pause| Millis::try_from(pause).ok()) {
            self.timers.insert(key.clone(), now.saturating_add(pause));
        }
    }

    /// Runs that wait at a gate may go on after any other did.
    fn poll_gates(&mut self) {
        loop {
            let world = self.world.borrow();
            let at_gates: Vec<Key> = self
                .runs
                .keys()
                .filter(|key| world.calls.iter().all(|call| call.by != **key))
                .cloned()
                .collect();
            drop(world);
            let progress = |it: &Self| (it.world.borrow().calls.len(), it.runs.len());
            let former = progress(self);
            for key in &at_gates {
                self.poll(key);
            }
            if progress(self) == former {
                return;
            }
        }
    }
}

/// As the operator's watch has it.
fn order_changed(context: &Context, order: &AcsRevocation) {
    let _ = context.wake.revocations.send(ObjectRef::from_obj(order));
}

fn context(wake: Wake) -> Context {
    /// What talks to the outside is never used, and made once.
    static OUTSIDE: OnceLock<(Client, Acs, Arc<Metrics>, Runtime)> = OnceLock::new();
    let (client, acs, metrics, _) = OUTSIDE.get_or_init(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let inside = runtime.enter();
        let nowhere = kube::Config::new("http://localhost:1".parse().unwrap());
        let client = Client::try_from(nowhere).unwrap();
        let acs = Acs::new(ServiceConfig::default()).unwrap();
        drop(inside);
        (client, acs, Arc::default(), runtime)
    });
    Context {
        client: client.clone(),
        acs: acs.clone(),
        config: Config {
            watch_namespaces: Vec::new(),
            address: ([127, 0, 0, 1], 0).into(),
            cluster_resource_namespace: NAMESPACE.to_owned(),
            deletion_deadline: DEADLINE,
            pods_reread_within: SignedDuration::from_mins(5),
            allowed: Allowed::new(Vec::new(), Vec::new()).unwrap(),
            forbidden_metadata: vec!["argocd.argoproj.io".to_owned()],
            namespaced_ambient_credentials: false,
            service_account_token_audience: String::new(),
        },
        views: Views::new(1),
        wake,
        registry: Registry::default(),
        gates: Gates::default(),
        memory: Memory::default(),
        inputs: Inputs::new(client.clone(), |_| {}),
        events: Events::new(client.clone()),
        metrics: Arc::clone(metrics),
    }
}
