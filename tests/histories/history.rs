//! Execution of a history in the world, with the operator in it.

use std::{cell::RefCell, rc::Rc};

use acs_identity_operator::crd::{
    AcsIdentity, AcsIdentitySpec, AcsRevocation, AcsRevocationSpec, AcsToken, AcsTokenSpec,
    ConnectionRef, DeletionPolicy, IdentityRef, REQUEST, REQUESTED_AT, Revocation, Scope,
    SecretTemplate, ShortText, TokenPolicy,
};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt;

use crate::{
    backup,
    cluster::Kind,
    connection::{self, Connection, keys},
    door,
    events::{Edit, Event, Meddling, Setup, SignIn},
    operator::Operator,
    others, pods, rest, running,
    service::{Identity, Millis, Revoker, Service},
    successor, teams,
    truth::{Cause, Truth},
    workloads::{self, Deed},
    world::World,
};

pub const IDENTITIES: [&str; 2] = ["alice", "bob"];
/// Tokens: the first two share an identity; the last belongs to a Teams user.
pub const TOKENS: [(&str, Option<&str>); 4] = [
    ("t0", Some("alice")),
    ("t1", Some("alice")),
    ("t2", Some("bob")),
    ("t3", None),
];
/// Time after which a silent watch is restarted.
const LONGEST_SILENCE: Millis = 210_000;
/// Maximum number of steps without the passing of time.
const MOST_STEPS: usize = 3000;

pub struct History {
    pub world: Rc<RefCell<World>>,
    pub operator: Operator,
    setup: Setup,
}

/// Result of a history: the number of steps, or the violated invariant, and the story if requested.
pub struct Outcome {
    pub steps: u64,
    pub broken: Option<String>,
    pub story: Vec<String>,
}

/// Executes all events, then ends all faults and checks the final state.
pub fn happen(setup: Setup, events: &[Event], with_story: bool) -> Outcome {
    let mut history = History::begin(setup, with_story);
    for event in events {
        history.world.borrow_mut().tell(|| format!("--- {event:?}"));
        history.apply(*event);
        if history.is_broken() {
            break;
        }
    }
    if !history.is_broken() {
        rest::conclude(&mut history);
    }
    let mut world = history.world.borrow_mut();
    Outcome {
        steps: world.steps,
        broken: world.broken.take(),
        story: world.story.take().unwrap_or_default(),
    }
}

impl History {
    /// Creates a world with a connection, an identity and two tokens, for which the operator has
    /// done nothing yet.
    pub fn begin(setup: Setup, with_story: bool) -> Self {
        let minute = if setup.is_fast { 1000 } else { 60_000 };
        let mut service = Service::new(minute, if setup.is_stingy { 120 } else { 1440 });
        service.keys.insert(keys()[0].0.clone());
        if setup.is_shared {
            service.make(None, None);
        }
        let user = teams::user().identity_id();
        service.identities.insert(user, Identity::default());
        service.exchange_outlives = (setup.policies & 64 != 0).then_some(600_000);
        let connection = Connection {
            key: Some(0),
            spare: None,
            knows_custom_id: setup.knows_custom_id,
            is_of_cluster: setup.is_of_cluster,
            serves: true,
            is_shared: setup.is_shared,
            allows_adoption: true,
            policy: TokenPolicy::default(),
            told: TokenPolicy::default(),
            changed_at: 0,
            read: None,
        };
        let mut world = World::new(service, connection);
        world.local_offset = setup.local_offset * 1000;
        world.service_offset = setup.service_offset * 1000;
        world.is_fast = setup.is_fast;
        world.story = with_story.then(Vec::new);
        let world = Rc::new(RefCell::new(world));
        door::enter(&world);
        connection::create(&mut world.borrow_mut());
        let operator = Operator::start(&world);
        let mut history = Self {
            world,
            operator,
            setup,
        };
        for event in [
            Event::CreateIdentity(0),
            Event::CreateToken(0),
            Event::CreateToken(1),
        ] {
            history.apply(event);
        }
        for number in 0..2 {
            workloads::happen(&mut history.world.borrow_mut(), number, Deed::Create);
        }
        if setup.policies & 128 != 0 {
            history.apply(Event::CreateToken(3));
            history.apply(Event::SignIn(SignIn::For(4500)));
        }
        history.apply(Event::Backup);
        history
    }

    pub fn is_broken(&self) -> bool {
        self.world.borrow().broken.is_some()
    }

    /// Executes everything that can happen without the passing of time, in order.
    pub fn settle(&mut self) {
        for _ in 0..MOST_STEPS {
            if self.is_broken() || !self.operator.step(0) {
                rest::check(self);
                running::check(self);
                return;
            }
        }
        let running = self.operator.running();
        let mut world = self.world.borrow_mut();
        world.break_with(format!("K4: there is no end of steps; last: {running:?}"));
    }

    /// Lets time pass, in milliseconds, and executes everything that is due.
    pub fn wait(&mut self, span: Millis) {
        self.settle();
        let until = self.world.borrow().now + span;
        let mut moments = 0;
        while let Some(next) = self.operator.next_moment().filter(|next| *next <= until) {
            self.world.borrow_mut().pass_to(next);
            running::check(self);
            self.settle();
            moments += 1;
            if self.is_broken() {
                return;
            }
            // Each object: a renewal per third of a lifetime, or a retry per 40 s; and while the
            // API server is unreachable, a retry of one of them per 8 s.
            let objects = Millis::try_from(self.world.borrow().cluster.objects()).unwrap();
            if moments > 300 + span / 7_500 + span / 40_000 * objects {
                let mut world = self.world.borrow_mut();
                world.break_with(format!("K4: {moments} wake-ups in {span} ms"));
            }
        }
        self.world.borrow_mut().pass_to(until);
        self.settle();
    }

    pub fn apply(&mut self, event: Event) {
        if !event.is_time() {
            self.world.borrow_mut().truth.events += 1;
        }
        match event {
            Event::Settle => self.settle(),
            Event::Steps(count, choice) => {
                for number in 0..count {
                    let choice = usize::from(choice).wrapping_mul(usize::from(number) + 7) / 5;
                    if self.is_broken() || !self.operator.step(choice) {
                        return;
                    }
                }
            }
            Event::Pass(span) => {
                let mut world = self.world.borrow_mut();
                let then = world.now + span;
                world.pass_to(then);
                world.truth.stood_still = then;
            }
            // With lifetimes reduced to a sixtieth, days are not needed.
            Event::Wait(seconds) if self.setup.is_fast => self.wait(seconds.min(1500) * 1000),
            Event::Wait(seconds) => self.wait(seconds * 1000),
            Event::Crash(fates) => self.operator.crash(fates),
            Event::TakeOver(how, fates) => successor::take_over(self, how, fates),
            Event::Hold(watch) => {
                let mut world = self.world.borrow_mut();
                let until = world.now + LONGEST_SILENCE;
                world.truth.came_back = until;
                self.operator.held[usize::from(watch)] = until;
            }
            Event::Busy(seconds) => {
                let mut world = self.world.borrow_mut();
                world.busy_until = world.now + seconds * 1000;
            }
            Event::Free => {
                self.world.borrow_mut().busy_until = 0;
                self.operator.held = Default::default();
                let mut world = self.world.borrow_mut();
                world.truth.came_back = world.now;
            }
            Event::Resync => self.operator.resync(),
            event => {
                if event == Event::Rewind {
                    self.operator.held = Default::default();
                }
                let setup = self.setup;
                happen_outside(&mut self.world.borrow_mut(), setup, event);
            }
        }
    }
}

fn happen_outside(world: &mut World, setup: Setup, event: Event) {
    happen_to(world, setup, event);
    // What the policy allows for one token may depend on the others.
    if world.connection.told.max_tokens_per_identity.is_some() {
        Truth::policy_told(world);
    }
}

fn happen_to(world: &mut World, setup: Setup, event: Event) {
    match event {
        Event::Jump(seconds) => {
            world.local_offset += seconds * 1000;
            world.jumped += seconds.abs() * 1000;
            world.jumped_at = Some(world.now);
        }
        Event::CreateIdentity(number) => create_identity(world, setup, number),
        Event::DeleteIdentity(number) => {
            let now = world.time();
            let name = IDENTITIES[usize::from(number)];
            let _ = world.cluster.delete::<AcsIdentity>(name, None, now);
            for (token, identity) in TOKENS {
                if identity == Some(name) {
                    reconsider(world, token, Cause::IdentityDeleted);
                }
            }
        }
        Event::CreateToken(number) => create_token(world, setup, number),
        Event::DeleteToken(number) => {
            let (name, now) = (TOKENS[usize::from(number)].0, world.time());
            let _ = world.cluster.delete::<AcsToken>(name, None, now);
            reconsider(world, name, Cause::Edited);
        }
        Event::Edit(number, edit) => {
            let name = TOKENS[usize::from(number)].0;
            let _ = world.cluster.update::<AcsToken>(name, None, |token| {
                let former = token.spec.clone();
                let is_of_user = token.spec.teams_user.is_some();
                if !(is_of_user && edit.is_of_identities_only()) {
                    change(&mut token.spec, edit);
                }
                if token.spec != former {
                    token.metadata.generation = token.metadata.generation.map(|g| g + 1);
                }
            });
            let why = match edit {
                Edit::Revocation(_) => Cause::PolicyChanged,
                _ => Cause::Edited,
            };
            reconsider(world, name, why);
        }
        Event::Policy(number) => {
            let connection = &mut world.connection;
            connection.policy = policy(number);
            connection.allows_adoption = number != 6;
            connection.is_shared = setup.is_shared && number != 7;
            connection.serves = !setup.is_of_cluster || number < 8;
            connection::write_policy(world);
        }
        Event::SuspendIdentity(number, is_suspended) => {
            let name = IDENTITIES[usize::from(number)];
            let _ = world.cluster.update::<AcsIdentity>(name, None, |identity| {
                if identity.spec.suspend != Some(is_suspended) {
                    identity.spec.suspend = Some(is_suspended);
                    identity.metadata.generation = identity.metadata.generation.map(|g| g + 1);
                }
            });
        }
        Event::RequestRenewal(number) => {
            request::<AcsToken>(world, TOKENS[usize::from(number)].0, None);
        }
        Event::RequestRevocation(number) => {
            request::<AcsIdentity>(world, IDENTITIES[usize::from(number)], Some("revoke"));
            Truth::revocation_requested(world, IDENTITIES[usize::from(number)]);
        }
        Event::Revocation(number) => {
            let names = match number {
                0 | 1 => &IDENTITIES[usize::from(number)..=usize::from(number)],
                _ => &IDENTITIES[..],
            };
            let spec = AcsRevocationSpec {
                names: Some(names.iter().map(ToString::to_string).collect()),
                ..AcsRevocationSpec::default()
            };
            let name = format!("order-{}", world.cluster.orders.len());
            let now = world.time();
            let _ = world.cluster.create(AcsRevocation::new(&name, spec), now);
        }
        Event::Swap => {
            for (number, name) in [(0, TOKENS[1].0), (1, TOKENS[0].0)] {
                let token = TOKENS[number].0;
                let _ = world.cluster.update::<AcsToken>(token, None, |token| {
                    let secret = token.spec.secret.get_or_insert_default();
                    secret.name = Some(name.to_owned());
                    token.metadata.generation = token.metadata.generation.map(|g| g + 1);
                });
                reconsider(world, token, Cause::Edited);
            }
        }
        Event::DenyOurs(is_denied) => {
            world.cluster.denies_ours = is_denied;
            world.truth.came_back = world.truth.came_back.max(world.now);
            world.truth.denied_until = world.now + running::DENIED;
        }
        Event::StripFinalizer(number) => others::strip_finalizer(world, number),
        Event::SignIn(how) => teams::sign_in(world, how),
        Event::Workload(number, deed) => workloads::happen(world, number, deed),
        Event::Pod(number, deed) => pods::happen(world, number, deed),
        Event::RefuseWorkloads(refusal) => world.workloads.refusal = refusal,
        Event::Admission(admission) => world.cluster.admission = admission,
        Event::Copy(number) => others::copy(world, TOKENS[usize::from(number)].0),
        Event::Annotate(number, how) => {
            others::annotate(world, TOKENS[usize::from(number)].0, how);
        }
        Event::Step(seconds) => {
            world.service_offset += seconds * 1000;
            world.jumped += seconds.abs() * 1000;
            world.stepped += (-seconds).max(0) * 1000;
            world.has_stepped_unseen = true;
        }
        Event::RemakeConnection => connection::remake(world),
        Event::Backup => backup::take(world),
        Event::Rewind => backup::rewind(world),
        Event::Restore(with_status, with_secrets) => {
            backup::restore(world, with_status, with_secrets);
        }
        Event::Secret(number, meddling) => meddle(world, number, meddling),
        Event::Fault(fault) => world.faults.push_back(fault),
        Event::ApiFault { done } => world.api_faults.push_back(done),
        Event::ServiceDown(is_down) => world.service.is_down = is_down,
        Event::ApiDown(is_down) => {
            world.is_api_down = is_down;
            world.truth.came_back = world.truth.came_back.max(world.now);
        }
        Event::UseKey(index) => {
            let (fingerprint, _) = &keys()[usize::from(index)];
            world.service.keys.insert(fingerprint.clone());
            use_key(world, Some(usize::from(index)));
        }
        Event::AddKey(index) => {
            let (fingerprint, _) = &keys()[usize::from(index)];
            world.service.keys.insert(fingerprint.clone());
            world.connection.spare = Some(usize::from(index));
            connection::write_keys(world);
        }
        Event::DropKey => use_key(world, None),
        Event::Regenerate => {
            if let Some(credential) = world.connection.credential() {
                world.service.keys.remove(credential);
            }
        }
        Event::RevokeBehind(number) => {
            if let Some(id) = id_of(world, number) {
                let now = world.service_time();
                let _ = world.service.revoke(&id, now, Revoker::Stranger);
            }
        }
        Event::DeleteBehind(number) => {
            let id = id_of(world, number);
            if let Some(identity) = id.and_then(|id| world.service.identities.get_mut(&id)) {
                identity.is_deleted = true;
            }
        }
        Event::Disown(number) => {
            let id = id_of(world, number);
            if let Some(identity) = id.and_then(|id| world.service.identities.get_mut(&id)) {
                identity.is_not_owned = true;
            }
        }
        _ => {}
    }
}

fn policy(number: u8) -> TokenPolicy {
    let scopes: &[Scope] = match number {
        1 => &[Scope::Chat],
        2 => &[Scope::Chat, Scope::Voip],
        _ => &[],
    };
    TokenPolicy {
        scopes: (!scopes.is_empty()).then(|| scopes.iter().copied().collect()),
        max_expires_in: match number {
            3 => Some("90m".to_owned()),
            4 => Some("12h".to_owned()),
            _ => None,
        },
        max_tokens_per_identity: (number == 4 || number == 5).then_some(1),
    }
}

/// Annotates an object with a new request.
fn request<K: Kind>(world: &mut World, name: &str, what: Option<&str>) {
    let value = world.now.to_string();
    let _ = world.cluster.update::<K>(name, None, |object| {
        let annotations = object.annotations_mut();
        annotations.insert(REQUESTED_AT.to_owned(), value);
        annotations.extend(what.map(|what| (REQUEST.to_owned(), what.to_owned())));
    });
}

fn use_key(world: &mut World, key: Option<usize>) {
    if world.connection.key != key {
        world.connection.key = key;
        connection::write_keys(world);
    }
}

fn id_of(world: &World, number: u8) -> Option<String> {
    let identity = world
        .cluster
        .identities
        .get(IDENTITIES[usize::from(number)])?;
    identity.status.as_ref()?.identity_id.clone()
}

fn reconsider(world: &mut World, name: &str, why: Cause) {
    let uid = world.cluster.tokens.get(name).and_then(ResourceExt::uid);
    if let Some(uid) = uid {
        Truth::reconsider(world, &uid, why);
    }
}

fn create_identity(world: &mut World, setup: Setup, number: u8) {
    let spec = AcsIdentitySpec {
        connection_ref: named_connection(world),
        identity_id: setup.is_shared.then(|| "8:acs:r_1".to_owned()),
        deletion_policy: match (setup.policies / 16) % 4 {
            0 | 1 => None,
            2 => Some(DeletionPolicy::Delete),
            _ => Some(DeletionPolicy::Orphan),
        },
        ..AcsIdentitySpec::default()
    };
    let now = world.time();
    let identity = AcsIdentity::new(IDENTITIES[usize::from(number)], spec);
    let _ = world.cluster.create(identity, now);
}

/// A `ClusterAcsConnection` is named; an `AcsConnection` is the default.
fn named_connection(world: &World) -> Option<ConnectionRef> {
    let connection = &world.connection;
    connection.is_of_cluster.then(|| connection.reference())
}

fn create_token(world: &mut World, setup: Setup, number: u8) {
    let (name, identity) = TOKENS[usize::from(number)];
    let mut spec = AcsTokenSpec {
        identity_ref: identity.map(|name| IdentityRef {
            name: name.to_owned(),
        }),
        teams_user: identity.is_none().then(teams::user),
        connection_ref: identity
            .is_none()
            .then(|| named_connection(world))
            .flatten(),
        scopes: identity.map(|_| [Scope::Chat, Scope::Voip].into()),
        expires_in: None,
        renew_before: None,
        secret: None,
        revocation: None,
        rollout_restart: (setup.policies & 8 != 0)
            .then(|| workloads::targets(number + 1))
            .flatten(),
        suspend: None,
    };
    if identity.is_some() {
        change(&mut spec, Edit::Revocation(setup.policies % 8));
    }
    let now = world.time();
    let _ = world.cluster.create(AcsToken::new(name, spec), now);
}

fn change(spec: &mut AcsTokenSpec, edit: Edit) {
    let secret = |spec: &mut AcsTokenSpec, edit: &dyn Fn(&mut SecretTemplate)| {
        edit(spec.secret.get_or_insert_default());
    };
    match edit {
        Edit::Scopes(number) => {
            spec.scopes = Some(match number % 4 {
                0 => [Scope::Chat].into(),
                1 => [Scope::Chat, Scope::Voip].into(),
                2 => [Scope::Voip].into(),
                _ => [Scope::Chat, Scope::Voip, Scope::VoipJoin].into(),
            });
        }
        Edit::ExpiresIn(number) => {
            let texts = [None, Some("1h"), Some("90m"), Some("24h")];
            spec.expires_in = texts[usize::from(number) % 4].map(ToOwned::to_owned);
        }
        Edit::RenewBefore(number) => {
            let texts = [None, Some("1m"), Some("20m"), Some("16h")];
            spec.renew_before = texts[usize::from(number) % 4].map(ToOwned::to_owned);
        }
        Edit::Revocation(number) => {
            spec.revocation = [
                None,
                Some(Revocation::OnChange),
                Some(Revocation::OnNarrowing),
                Some(Revocation::Never),
            ][usize::from(number) % 4];
        }
        Edit::SecretName(number) => {
            let names = [None, Some("s"), Some("t0"), Some("other")];
            let name = names[usize::from(number) % 4].map(ToOwned::to_owned);
            secret(spec, &|secret| secret.name.clone_from(&name));
        }
        Edit::Label(number) => {
            let label = ("team".to_owned(), ShortText(number.to_string()));
            secret(spec, &|secret| secret.labels = Some([label.clone()].into()));
        }
        Edit::Keys(number) => {
            let keys = workloads::keys(number);
            secret(spec, &|secret| secret.keys.clone_from(&keys));
        }
        Edit::Restarts(number) => spec.rollout_restart = workloads::targets(number),
        Edit::Suspend(is_suspended) => spec.suspend = Some(is_suspended),
        Edit::Forbidden(is_there) => {
            let label = ("argocd.argoproj.io/x".to_owned(), ShortText("y".to_owned()));
            let labels = is_there.then(|| [label].into());
            secret(spec, &|secret| secret.labels.clone_from(&labels));
        }
    }
}

fn meddle(world: &mut World, number: u8, meddling: Meddling) {
    let names = ["t0", "t1", "t2", "s", "t3"];
    let (name, now) = (names[usize::from(number)], world.time());
    match meddling {
        Meddling::Delete => {
            Truth::lose(world, name);
            let _ = world.cluster.delete::<Secret>(name, None, now);
        }
        Meddling::EditToken => {
            Truth::lose(world, name);
            let _ = world.cluster.update::<Secret>(name, None, |secret| {
                let data = secret.data.get_or_insert_default();
                data.insert("token".to_owned(), ByteString(b"edited".to_vec()));
            });
        }
        Meddling::EditFacts => {
            Truth::lose(world, name);
            let _ = world.cluster.update::<Secret>(name, None, |secret| {
                let key = "acs-identity.dev/fingerprint".to_owned();
                secret.annotations_mut().insert(key, "edited".to_owned());
            });
        }
        Meddling::Label => {
            let _ = world.cluster.update::<Secret>(name, None, |secret| {
                secret
                    .labels_mut()
                    .insert("other".to_owned(), "theirs".to_owned());
            });
        }
        Meddling::Take => {
            Truth::lose(world, name);
            let _ = world.cluster.delete::<Secret>(name, None, now);
            let mut secret = Secret::default();
            secret.metadata.name = Some(name.to_owned());
            let _ = world.cluster.create(secret, now);
        }
        Meddling::MakeImmutable => {
            let _ = world
                .cluster
                .update::<Secret>(name, None, |secret| secret.immutable = Some(true));
        }
    }
}
