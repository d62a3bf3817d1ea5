//! World around the operator: the API server, the service, the network between, and time.

use std::collections::{BTreeMap, HashMap, VecDeque};

use acs_identity_operator::{
    acs::{Kind as Wrong, Outcome},
    consumers::ConsumerPod,
    crd::{
        AcsConnection, AcsIdentity, AcsRevocation, AcsToken, ClusterAcsConnection, Origin,
        TokenPolicy,
    },
    engine::{IdentityPage, Object, Stored},
    token::{Limits, rank},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Time};
use kube::ResourceExt;

use crate::{
    backup::Backup,
    cluster::{Cluster, Kind, Refused, seconds},
    connection::Connection,
    events::Admission,
    invariants,
    pods::{self, Pods},
    running,
    service::{Failure, Millis, Request, Revoker, Service, Success},
    story,
    successor::Lease,
    truth::Truth,
    workloads::{self, Workloads},
};

/// Start of the history, by the API server's clock.
pub const BEGIN: Millis = 1_800_000_000_250;
/// Time that the operator waits for an answer of the service.
const PATIENCE: Millis = 20_000;
/// Time after its begin within which a call takes effect: the client's total timeout.
const LATEST: Millis = 30_000;
/// Round-trip time of a call.
pub const TRIP: Millis = 17;

/// Key of a reconciled object.
pub use acs_identity_operator::cluster::ObjectKey as Key;

/// Fault of the next call to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No connection: the call never arrives.
    Unreachable,
    /// No answer. The call was not executed, but may be, at this time after the operator has given
    /// up.
    Silence { lands_after: Option<Millis> },
    /// The call was executed, and the answer was lost.
    LostAnswer,
    /// 503, executed or not.
    Unavailable { done: bool },
    /// 429.
    Throttled { seconds: i64 },
    /// The client's first attempt got no answer (and arrives this much later, if at all), the
    /// second did.
    SecondAttempt { lands_after: Option<Millis> },
}

/// Call to the API server.
#[derive(Clone, Debug)]
pub enum ApiCall {
    ReadSecret(String),
    /// The flag is set for a dry run.
    CreateSecret(Box<Secret>, bool),
    ReplaceSecret(Box<Secret>, bool),
    DeleteSecret(String, String),
    ReadIdentity(String),
    Reread(Object),
    ListIdentities,
    Status(Object),
    ReadWorkload(String),
    ListPods,
    /// Pod, and the time of the annotation.
    Nudge(Box<ConsumerPod>, Timestamp),
    /// Name, resource version, and the time to write into the annotation.
    Restart(String, String, Timestamp),
    /// Object as it was read, remaining finalizers, and why something is left behind in ACS.
    Finalizers(Object, Vec<String>, Option<String>),
}

impl ApiCall {
    pub fn is_write(&self) -> bool {
        match self {
            Self::CreateSecret(_, is_dry_run) | Self::ReplaceSecret(_, is_dry_run) => !is_dry_run,
            Self::DeleteSecret(..) | Self::Status(_) | Self::Finalizers(..) | Self::Restart(..) => {
                true
            }
            // Each nudge is checked for its cause instead.
            Self::Nudge(..)
            | Self::ListPods
            | Self::ReadSecret(_)
            | Self::ReadIdentity(_)
            | Self::Reread(_)
            | Self::ListIdentities
            | Self::ReadWorkload(_) => false,
        }
    }
}

/// Answer of the API server.
#[derive(Clone, Debug)]
pub enum ApiAnswer {
    Secret(Option<Box<Secret>>),
    Object(Object),
    Done,
}

/// Call in flight.
#[derive(Clone, Debug)]
pub enum Message {
    Api(ApiCall),
    /// Request, and the credential that signs it.
    Acs(Request, String),
}

/// Reply; from the service with its `Date` in seconds, unless there was no answer.
#[derive(Clone, Debug)]
pub enum Reply {
    Api(Result<ApiAnswer, Refused>),
    Acs(Result<Success, Failure>, Option<i64>),
}

/// State of a call.
#[derive(Clone, Debug)]
pub enum State {
    /// In flight to the server.
    Sent,
    /// Hanging until this time, then answered.
    Hung(Millis, Reply),
    /// Answer in flight.
    Answered(Reply),
}

/// Call of the current process.
#[derive(Clone, Debug)]
pub struct Call {
    pub id: u64,
    pub by: Key,
    pub sent_at: Millis,
    /// If the service's clock was known at that time: how far it had stepped back.
    pub knew_clock: Option<Millis>,
    pub message: Message,
    pub state: State,
}

/// Call whose answer the operator gave up.
#[derive(Clone, Debug)]
pub struct Straggler {
    /// Time at which it takes effect.
    pub at: Millis,
    pub request: Request,
    /// Credential that signs it.
    key: String,
    sent_at: Millis,
}

pub struct World {
    /// API server's clock, which never jumps.
    pub now: Millis,
    /// Operator's clock minus the API server's.
    pub local_offset: Millis,
    /// Service's clock minus the API server's.
    pub service_offset: Millis,
    /// Sum of the jumps of the operator's clock and the steps of the service's.
    pub jumped: Millis,
    /// Time of the last jump of the operator's clock.
    pub jumped_at: Option<Millis>,
    /// Whether the service's clock has stepped since its last answer, so that the operator cannot
    /// know it.
    pub has_stepped_unseen: bool,
    /// Sum of the backward steps of the service's clock.
    pub stepped: Millis,
    /// `Date` of the last answer that the process received, and its time.
    pub learned: Option<(Millis, Millis)>,
    pub lease: Lease,
    pub cluster: Cluster,
    pub connection: Connection,
    pub service: Service,
    /// Whether a minute of token lifetime lasts a second.
    pub is_fast: bool,
    pub is_api_down: bool,
    /// Time until which no call gets its turn, because others go first.
    pub busy_until: Millis,
    pub faults: VecDeque<Fault>,
    /// Next writes that get no answer; done or not.
    pub api_faults: VecDeque<bool>,
    pub calls: Vec<Call>,
    pub replies: HashMap<u64, Reply>,
    pub stragglers: Vec<Straggler>,
    /// Last backup of the cluster.
    pub backup: Option<Backup>,
    pub truth: Truth,
    pub workloads: Workloads,
    pub pods: Pods,
    /// First violated invariant.
    pub broken: Option<String>,
    /// Story, if it was requested.
    pub story: Option<Vec<String>>,
    /// Number of steps.
    pub steps: u64,
    sent: u64,
}

impl World {
    pub fn new(service: Service, connection: Connection) -> Self {
        Self {
            now: BEGIN,
            local_offset: 0,
            service_offset: 0,
            jumped: 0,
            jumped_at: None,
            stepped: 0,
            has_stepped_unseen: false,
            learned: None,
            lease: Lease {
                holder: 0,
                renewed: BEGIN,
            },
            cluster: Cluster::default(),
            connection,
            service,
            is_fast: false,
            is_api_down: false,
            busy_until: 0,
            faults: VecDeque::new(),
            api_faults: VecDeque::new(),
            calls: Vec::new(),
            replies: HashMap::new(),
            stragglers: Vec::new(),
            backup: None,
            truth: Truth::default(),
            workloads: Workloads::default(),
            pods: Pods::default(),
            broken: None,
            story: None,
            steps: 0,
            sent: 0,
        }
    }

    /// Whether calls wait for their turn.
    pub fn is_busy(&self) -> bool {
        self.busy_until > self.now
    }

    /// Returns the time by the API server's clock.
    pub fn time(&self) -> Timestamp {
        timestamp(self.now)
    }

    /// Returns the time by the operator's clock.
    pub fn local(&self) -> Timestamp {
        timestamp(self.now + self.local_offset)
    }

    /// Returns the time by the service's clock.
    pub fn service_time(&self) -> Millis {
        self.now + self.service_offset
    }

    /// Returns the service's time as the operator estimates it.
    pub fn believed_service_time(&self) -> Option<Timestamp> {
        let (date, at) = self.learned?;
        Some(timestamp(date + self.now - at))
    }

    /// Returns the limits of the policy for a token, according to the whole cluster.
    pub fn limits(&self, object: &AcsToken) -> Limits {
        self.limits_by(&self.connection.policy, object)
    }

    pub fn limits_by(&self, policy: &TokenPolicy, object: &AcsToken) -> Limits {
        let name = object.identity_name().unwrap_or_default();
        let identity = self.cluster.identities.get(name);
        let id = identity.and_then(|identity| identity.status.as_ref()?.identity_id.clone());
        let group: Vec<_> = id
            .iter()
            .flat_map(|id| invariants::with_id(self, id))
            .map(ResourceExt::name_any)
            .collect();
        let older = self.cluster.tokens.values().filter(|other| {
            let is_of_it = other
                .identity_name()
                .is_some_and(|name| group.iter().any(|member| member == name));
            let stays = other.metadata.deletion_timestamp.is_none();
            is_of_it && stays && rank(other) < rank(object)
        });
        let most = policy.max_tokens_per_identity;
        // The lifetime of an exchanged token is not requested.
        let is_of_user = object.spec.teams_user.is_some();
        let longest = policy.max_expires_in.clone().filter(|_| !is_of_user);
        Limits {
            connection: String::new(),
            policy: TokenPolicy {
                max_expires_in: longest,
                ..policy.clone()
            },
            is_one_too_many: most.is_some_and(|most| i64::try_from(older.count()).unwrap() >= most),
        }
    }

    /// Whether the policy no longer allows the identity.
    pub fn is_denied_identity(&self, identity: &AcsIdentity) -> bool {
        let status = identity.status.clone().unwrap_or_default();
        let Some(id) = status.identity_id else {
            return false;
        };
        let age = |it: &AcsIdentity| {
            let created = it.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (created, it.uid())
        };
        let is_first = invariants::with_id(self, &id).all(|it| age(it) >= age(identity));
        let is_adopted = status.origin == Some(Origin::Adopted);
        !self.connection.serves
            || is_adopted && !self.connection.allows_adoption
            || !self.connection.is_shared && !is_first
    }

    /// Records the arrival of an answer with this `Date`.
    pub fn learn(&mut self, date: i64) {
        self.learned = Some((date * 1000, self.now));
        self.has_stepped_unseen = false;
    }

    /// Records the violation of an invariant.
    pub fn break_with(&mut self, what: String) {
        self.tell(|| format!("BROKEN {what}"));
        self.broken.get_or_insert(what);
    }

    pub fn check(&mut self, checked: Result<(), String>) {
        if let Err(what) = checked {
            self.break_with(what);
        }
    }

    /// Adds a line to the story, if it was requested.
    pub fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            let seconds = (self.now - BEGIN) as f64 / 1000.0;
            story.push(format!("{seconds:>10.3}s  {}", what()));
        }
    }

    pub fn send(&mut self, by: &Key, message: Message) -> u64 {
        if let Message::Acs(request, _) = &message {
            let checked = invariants::on_send(self, by, request);
            self.check(checked);
        }
        self.sent += 1;
        self.calls.push(Call {
            id: self.sent,
            by: by.clone(),
            sent_at: self.now,
            knew_clock: (self.learned.is_some() && !self.has_stepped_unseen)
                .then_some(self.stepped),
            message,
            state: State::Sent,
        });
        self.sent
    }

    /// Ends the process; its calls in flight arrive, possibly late, or not.
    pub fn lose_calls(&mut self, fates: u8) {
        let calls = std::mem::take(&mut self.calls);
        for (number, call) in calls.into_iter().enumerate() {
            let gets_there = fates >> (number % 8) & 1 == 1;
            let latest = call.sent_at + LATEST;
            match (call.state, call.message) {
                (State::Sent, Message::Api(request)) if gets_there => {
                    let _ = self.do_in_cluster(&call.by, request);
                }
                (State::Sent, Message::Acs(request, key)) if gets_there => {
                    let at = self.now + Millis::from(fates) * 110;
                    self.stragglers.push(Straggler {
                        at: at.min(latest).max(self.now),
                        request,
                        key,
                        sent_at: call.sent_at,
                    });
                }
                (State::Hung(..), _) => {
                    for late in &mut self.stragglers {
                        late.at = latest.min(late.at).max(self.now);
                    }
                }
                _ => {}
            }
        }
        self.replies.clear();
    }

    /// Lets a call arrive.
    pub fn arrive(&mut self, index: usize) {
        let call = self.calls[index].clone();
        let is_effect = match &call.message {
            // Reads of workloads are counted: a loop would cause many of them.
            Message::Api(ApiCall::ReadWorkload(_)) | Message::Acs(..) => true,
            Message::Api(call) => call.is_write() && !self.is_api_down,
        };
        if is_effect {
            running::spend(self, &call.by);
        }
        self.calls[index].state = match call.message {
            Message::Api(request) => {
                self.now += 1;
                let answer = self.do_in_cluster(&call.by, request);
                State::Answered(Reply::Api(answer))
            }
            Message::Acs(request, key) => {
                self.now += TRIP;
                let state = self.do_in_service(&call.by, &request, &key);
                self.tell(|| format!("{} {}", call.by, story::of_exchange(&request, &state)));
                state
            }
        };
    }

    fn do_in_service(&mut self, by: &Key, request: &Request, key: &str) -> State {
        let answered = |world: &Self, answer| {
            let date = (world.service_time() + TRIP).div_euclid(1000);
            State::Answered(Reply::Acs(answer, Some(date)))
        };
        let failed = |kind, outcome| Reply::Acs(Err(Failure::new(kind, outcome)), None);
        if self.service.is_down {
            return State::Answered(failed(Wrong::Unreachable, Outcome::NotDone));
        }
        match self.faults.pop_front() {
            None => {
                let answer = self.take_effect(by, request, key);
                answered(self, answer)
            }
            Some(Fault::Unreachable) => {
                State::Answered(failed(Wrong::Unreachable, Outcome::NotDone))
            }
            Some(Fault::Silence { lands_after }) => {
                let given_up = self.now + PATIENCE;
                if let Some(later) = lands_after {
                    self.lands(by, given_up + later, request, key);
                }
                State::Hung(given_up, failed(Wrong::NoAnswer, Outcome::Unknown))
            }
            Some(Fault::LostAnswer) => {
                let _ = self.take_effect(by, request, key);
                State::Answered(failed(Wrong::NoAnswer, Outcome::Unknown))
            }
            Some(Fault::Unavailable { done }) => {
                if done {
                    let _ = self.take_effect(by, request, key);
                }
                let failure = Failure::new(Wrong::Unavailable, Outcome::Unknown);
                answered(self, Err(failure))
            }
            Some(Fault::Throttled { seconds }) => {
                let failure = Failure {
                    retry_after: Some(SignedDuration::from_secs(seconds)),
                    ..Failure::new(Wrong::Throttled, Outcome::NotDone)
                };
                answered(self, Err(failure))
            }
            Some(Fault::SecondAttempt { lands_after }) => {
                let is_revoke = matches!(request, Request::Revoke { .. });
                if let Some(later) = lands_after.filter(|_| is_revoke) {
                    self.lands(by, self.now + later, request, key);
                }
                let answer = match self.take_effect(by, request, key) {
                    Ok(Success::Revoked { .. }) => Ok(Success::Revoked {
                        earlier_attempt_lost: true,
                    }),
                    // As in the client: regardless of the last result, an earlier attempt may still
                    // take effect.
                    Err(failure) if is_revoke => Err(Failure {
                        outcome: Outcome::Unknown,
                        is_lost: true,
                        ..failure
                    }),
                    answer => answer,
                };
                answered(self, answer)
            }
        }
    }

    /// Executes a request at the service, after checking whether it was allowed.
    fn take_effect(&mut self, by: &Key, request: &Request, key: &str) -> Result<Success, Failure> {
        if !self.is_forgotten(by) {
            let checked = invariants::on_call(self, by, request);
            self.check(checked);
        }
        let (now, jumped) = (self.service_time(), self.jumped);
        let answer = self.service.answer(request, key, now, jumped);
        if let (Request::Issue { id, .. }, Ok(Success::Issued { text, .. })) = (request, &answer) {
            // The object that revoked in this second may be deleted, together with its status.
            let is_known = invariants::with_id(self, id)
                .filter_map(|it| it.status.as_ref())
                .any(|status| status.tokens_valid_after.is_some());
            if !is_known {
                let mut tokens = self.service.tokens_mut();
                if let Some(token) = tokens.find(|token| token.text == *text) {
                    token.revoked = token.revoked.map(|_| Revoker::Stranger);
                }
            }
        }
        self.truth.called(request, answer.is_ok());
        answer
    }

    /// Returns the call of this object in flight.
    fn call_of(&self, by: &Key) -> Option<&Call> {
        let is_of_it = |call: &&Call| call.by == *by && matches!(call.message, Message::Acs(..));
        self.calls.iter().find(is_of_it)
    }

    /// Whether the state that the call was based on is lost, because a restored backup does not
    /// contain it.
    fn is_forgotten(&self, by: &Key) -> bool {
        // A reconcile that had begun continues with the state that it had read.
        let until = self.truth.rewound.map(|at| at + 1_000);
        let call = self.call_of(by);
        call.is_some_and(|call| Some(call.sent_at) <= until)
    }

    /// Schedules a call that takes effect after the operator stopped waiting for its answer.
    fn lands(&mut self, by: &Key, at: Millis, request: &Request, key: &str) {
        self.stragglers.push(Straggler {
            at,
            request: request.clone(),
            key: key.to_owned(),
            sent_at: self.call_of(by).map_or(self.now, |call| call.sent_at),
        });
    }

    /// Lets time pass until `then`; late calls take effect, hanging calls end.
    pub fn pass_to(&mut self, then: Millis) {
        loop {
            let due = self.stragglers.iter().filter(|late| late.at <= then);
            let Some(at) = due.map(|late| late.at).min() else {
                break;
            };
            let next = self.stragglers.iter().position(|late| late.at == at);
            let late = self.stragglers.remove(next.unwrap_or_default());
            self.now = self.now.max(at);
            self.tell(|| format!("a straggler lands: {}", story::of_request(&late.request)));
            let now = self.service_time();
            if let Request::Revoke { id } = &late.request {
                // If a restored backup does not contain a call, the operator could not wait for it.
                let is_forgotten = Some(late.sent_at) <= self.truth.rewound;
                let revoker = if is_forgotten {
                    Revoker::Stranger
                } else {
                    Revoker::Straggler
                };
                if self.service.keys.contains(&late.key) {
                    let _ = self.service.revoke(id, now, revoker);
                }
            } else {
                let _ = self
                    .service
                    .answer(&late.request, &late.key, now, self.jumped);
            }
        }
        self.now = self.now.max(then);
        for call in &mut self.calls {
            if let State::Hung(until, reply) = &call.state
                && *until <= self.now
            {
                call.state = State::Answered(reply.clone());
            }
        }
    }

    fn do_in_cluster(&mut self, by: &Key, request: ApiCall) -> Result<ApiAnswer, Refused> {
        if self.is_api_down {
            return Err(Refused::NoAnswer);
        }
        let is_write = request.is_write();
        let fault = if is_write {
            self.api_faults.pop_front()
        } else {
            None
        };
        if fault == Some(false) {
            self.truth.lost = Some(self.now);
            return Err(Refused::NoAnswer);
        }
        let told = self.story.is_some().then(|| story::of_call(&request));
        let answer = self.write(by, request);
        if is_write && let Some(told) = told {
            let refused = answer.as_ref().err().copied();
            self.tell(|| format!("{by} {told}: {}", story::of_refusal(refused)));
        }
        match fault {
            Some(_) => {
                self.truth.unanswered = Some(self.now);
                Err(Refused::NoAnswer)
            }
            None => answer,
        }
    }

    fn write(&mut self, by: &Key, request: ApiCall) -> Result<ApiAnswer, Refused> {
        if self.cluster.denies_ours
            && matches!(request, ApiCall::Status(_) | ApiCall::Finalizers(..))
        {
            return Err(Refused::Denied);
        }
        let now = self.time();
        let former = self.cluster.version();
        // A write whose answer was lost is repeated as long as no watch reports it.
        let is_sure = self
            .truth
            .unanswered
            .is_none_or(|at| self.now - at > 60_000);
        let is_known = invariants::is_all_told(self) && is_sure;
        let checked = invariants::on_write(self, by, &request);
        let former_identity = match &request {
            ApiCall::Status(Object::Identity(object))
            | ApiCall::Finalizers(Object::Identity(object), ..) => {
                self.cluster.identities.get(&object.name_any())
            }
            _ => None,
        }
        .cloned();
        let former_token = match &request {
            ApiCall::Status(Object::Token(object)) => {
                self.cluster.tokens.get(&object.name_any()).cloned()
            }
            _ => None,
        };
        let answer = match request.clone() {
            ApiCall::ReadWorkload(name) => {
                let found = workloads::read(self, by, &name)?.map(Object::Workload);
                return Ok(found.map_or(ApiAnswer::Done, ApiAnswer::Object));
            }
            ApiCall::ListPods => {
                let page = Object::Pods(pods::list(self));
                return Ok(ApiAnswer::Object(page));
            }
            ApiCall::Nudge(pod, at) => {
                pods::nudge(self, &pod, at)?;
                return Ok(ApiAnswer::Done);
            }
            ApiCall::Restart(name, version, at) => {
                let restarted = workloads::restart(self, by, (&name, &version, at))?;
                self.cluster.writes += 1;
                return Ok(ApiAnswer::Object(Object::Workload(restarted)));
            }
            ApiCall::ReadSecret(name) => {
                let found = self.cluster.secrets.get(&name).cloned();
                return Ok(ApiAnswer::Secret(found.map(Box::new)));
            }
            ApiCall::ReadIdentity(name) => {
                let found = self.cluster.identities.get(&name).cloned();
                let found = found.map(Stored::into_object);
                return Ok(found.map_or(ApiAnswer::Done, ApiAnswer::Object));
            }
            ApiCall::Reread(object) => {
                let cluster = &self.cluster;
                let found = match object {
                    Object::Identity(it) => again(&cluster.identities, &*it),
                    Object::Token(it) => again(&cluster.tokens, &*it),
                    Object::Revocation(it) => again(&cluster.orders, &*it),
                    Object::Connection(it) => again(&cluster.connections, &*it),
                    Object::ClusterConnection(it) => again(&cluster.global_connections, &*it),
                    other => unreachable!("there is no {} here", other.named()),
                };
                return Ok(found.map_or(ApiAnswer::Done, ApiAnswer::Object));
            }
            ApiCall::ListIdentities => {
                let items = self.cluster.identities.values().cloned().collect();
                let page = IdentityPage { items, next: None };
                return Ok(ApiAnswer::Object(Object::Identities(page)));
            }
            ApiCall::CreateSecret(secret, is_dry_run) => {
                let secret = self.cluster.admit(*secret, true)?;
                if is_dry_run {
                    return Ok(ApiAnswer::Done);
                }
                let made = self.cluster.create(secret, now)?;
                ApiAnswer::Secret(Some(Box::new(made)))
            }
            ApiCall::ReplaceSecret(secret, is_dry_run) => {
                let secret = self.cluster.admit(*secret, false)?;
                if is_dry_run {
                    return Ok(ApiAnswer::Done);
                }
                let name = secret.name_any();
                let (version, uid) = (secret.resource_version(), secret.uid());
                let former = self.cluster.secrets.get(&name).ok_or(Refused::NotFound)?;
                if uid.is_some() && uid != former.uid() {
                    return Err(Refused::Conflict);
                }
                if former.immutable == Some(true) {
                    return Err(Refused::Forbidden);
                }
                let (written, _) =
                    self.cluster
                        .update::<Secret>(&name, version.as_deref(), |former| {
                            let meta = &secret.metadata;
                            former.metadata.labels.clone_from(&meta.labels);
                            former.metadata.annotations.clone_from(&meta.annotations);
                            former
                                .metadata
                                .owner_references
                                .clone_from(&meta.owner_references);
                            former.data.clone_from(&secret.data);
                        })?;
                ApiAnswer::Secret(Some(Box::new(written)))
            }
            ApiCall::DeleteSecret(name, uid) => {
                self.cluster.delete::<Secret>(&name, Some(&uid), now)?;
                ApiAnswer::Done
            }
            ApiCall::Status(object) => ApiAnswer::Object(match object {
                Object::Identity(object) => self.status(*object, |former: &mut AcsIdentity, it| {
                    former.status = it.status.map(in_seconds);
                }),
                Object::Token(object) => self.status(*object, |former: &mut AcsToken, it| {
                    former.status = it.status;
                }),
                Object::Revocation(object) => {
                    self.status(*object, |former: &mut AcsRevocation, it| {
                        former.status = it.status;
                    })
                }
                Object::Connection(object) => {
                    self.status(*object, |former: &mut AcsConnection, it| {
                        former.status = it.status;
                    })
                }
                Object::ClusterConnection(object) => {
                    self.status(*object, |former: &mut ClusterAcsConnection, it| {
                        former.status = it.status;
                    })
                }
                other => unreachable!("there is no {} here", other.named()),
            }?),
            ApiCall::Finalizers(object, left, _) => ApiAnswer::Object(match object {
                Object::Identity(object) => self.finalizers(&*object, left),
                Object::Token(object) => self.finalizers(&*object, left),
                Object::Connection(object) => self.finalizers(&*object, left),
                Object::ClusterConnection(object) => self.finalizers(&*object, left),
                other => unreachable!("{} has no finalizer", other.named()),
            }?),
        };
        // Only an executed call can violate an invariant.
        self.check(checked);
        // A change that a policy reverts is retried from time to time (T5).
        let is_undone = self.cluster.admission != Admission::Open;
        if is_known && !is_undone && self.cluster.version() == former {
            self.break_with(format!("K4: {by} made a write that changes nothing"));
        }
        self.cluster.writes += 1;
        self.truth_of_write(&request, former_identity.as_ref());
        if let ApiCall::Status(Object::Token(object)) = &request {
            workloads::told(self, former_token.as_ref(), object);
        }
        Ok(answer)
    }

    fn status<K: Kind + Stored>(
        &mut self,
        object: K,
        put: impl FnOnce(&mut K, K),
    ) -> Result<Object, Refused> {
        let (name, version) = (object.name_any(), object.resource_version());
        let (written, _) = self
            .cluster
            .update::<K>(&name, version.as_deref(), |former| put(former, object))?;
        Ok(written.into_object())
    }

    fn finalizers<K: Kind + Stored>(
        &mut self,
        object: &K,
        left: Vec<String>,
    ) -> Result<Object, Refused> {
        let (name, version) = (object.name_any(), object.resource_version());
        let (written, _) = self
            .cluster
            .update::<K>(&name, version.as_deref(), |former| {
                former.meta_mut().finalizers = Some(left);
            })?;
        Ok(written.into_object())
    }

    fn truth_of_write(&mut self, request: &ApiCall, former: Option<&AcsIdentity>) {
        match request {
            ApiCall::CreateSecret(secret, _) | ApiCall::ReplaceSecret(secret, _) => {
                Truth::stored(self, secret);
            }
            ApiCall::Status(Object::Token(token)) => Truth::told(self, token),
            ApiCall::Status(Object::Revocation(revocation)) => Truth::ordered(self, revocation),
            ApiCall::Status(Object::Identity(identity)) => {
                self.truth.identity_told(former, identity);
            }
            ApiCall::Finalizers(Object::Token(_), left, Some(_)) if left.is_empty() => {
                // Looked up by its name before the write; its obligations are written off.
                let objects = &self.cluster.tokens;
                let is_gone =
                    |uid: &String| objects.values().all(|it| it.uid().as_ref() != Some(uid));
                self.truth.duties.retain(|duty| !is_gone(&duty.uid));
            }
            ApiCall::Finalizers(Object::Identity(_), left, abandoned) if left.is_empty() => {
                if let Some(identity) = former {
                    self.truth.let_go(identity, abandoned.is_some());
                }
            }
            _ => {}
        }
    }
}

/// Returns the current object of this name.
fn again<K: Kind + Stored>(all: &BTreeMap<String, K>, object: &K) -> Option<Object> {
    all.get(&object.name_any())
        .cloned()
        .map(Stored::into_object)
}

/// Truncates the times of a status as the API server does.
fn in_seconds(
    mut status: acs_identity_operator::crd::AcsIdentityStatus,
) -> acs_identity_operator::crd::AcsIdentityStatus {
    let pending = status.pending_revocation.as_mut();
    if let Some(until) = pending.and_then(|pending| pending.unsettled_until.as_mut()) {
        *until = Time(seconds(until.0));
    }
    status
}

pub fn timestamp(millis: Millis) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap()
}

/// Returns the value of a Secret's key, as text.
pub fn text_in(secret: &Secret, key: &str) -> Option<String> {
    let bytes = secret.data.as_ref()?.get(key)?;
    String::from_utf8(bytes.0.clone()).ok()
}
