//! Implementation of `engine::World` for a process in this world: each request waits until the
//! history lets it proceed.
//!
//! The world is thread-local: the implementation must be `Send`, but never moves to another thread.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    future::poll_fn,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context as Task, Poll, Waker},
};

use acs_identity_operator::{
    acs::{
        self, AssertionSource, CreatedIdentity, Deleted, Endpoint, IssuedToken, Operation, Revoked,
        Turn,
    },
    cluster::{
        self,
        input::{Follower, Presence},
    },
    crd::{Reason, TeamsUser, TokenParameters},
    engine::{AcsAnswer, AcsCall, AcsOperation, ApiRequest, Claim, Object, Requeue, World as Door},
};
use futures::future::{BoxFuture, FutureExt, ready};
use jiff::{SignedDuration, Timestamp};
use kube::core::Status;
use secrecy::{ExposeSecret, SecretString};

use crate::{
    cluster::Refused,
    service::{Failure, Request, Success},
    successor::{self, instant},
    teams,
    world::{ApiAnswer, ApiCall, Key, Message, Reply, World, timestamp},
};

thread_local! {
    static WORLD: RefCell<Option<Rc<RefCell<World>>>> = const { RefCell::new(None) };
    static BY: RefCell<Option<Key>> = const { RefCell::new(None) };
}

/// Makes this the world of the thread.
pub fn enter(world: &Rc<RefCell<World>>) {
    WORLD.set(Some(Rc::clone(world)));
}

/// Attributes the actions of a closure to the reconcile of this object.
pub fn on_behalf_of<T>(by: &Key, act: impl FnOnce() -> T) -> T {
    BY.set(Some(by.clone()));
    let done = act();
    BY.set(None);
    done
}

fn world() -> Rc<RefCell<World>> {
    WORLD.with_borrow(|world| Rc::clone(world.as_ref().expect("a world was entered")))
}

/// One process's access to the world.
#[derive(Clone)]
pub struct ProcessDoor {
    /// Number of the process.
    pub process: u64,
    pub claim: Claim,
    pub requeue: Requeue,
    /// Tasks spawned in addition to the reconciles.
    pub spawned: Arc<Mutex<Vec<Spawned>>>,
    pub followed: Arc<Mutex<HashMap<String, Followed>>>,
}

/// Task, and the object whose run spawned it.
type Spawned = (Option<Key>, BoxFuture<'static, ()>);

/// Secret that is watched by its name.
#[derive(Default)]
pub struct Followed {
    presence: Presence,
    followers: HashSet<Follower>,
}

impl ProcessDoor {
    /// Records a message of the watch of a Secret.
    pub fn changed(&self, name: &str, version: Option<String>) {
        let mut followed = self.followed();
        let Some(secret) = followed.get_mut(name) else {
            return;
        };
        let presence = version.map_or(Presence::Absent, Presence::At);
        if secret.presence != presence {
            secret.presence = presence;
            for follower in &secret.followers {
                self.requeue.send(follower.key.clone());
            }
        }
    }

    /// Whether an effect may begin now; only the leader may begin one (K2).
    fn may_begin(&self) -> bool {
        let world = world();
        let mut world = world.borrow_mut();
        let is_held = self.claim.left(instant(world.now)).is_some();
        if is_held {
            let checked = successor::check(&world, self.process);
            world.check(checked);
        }
        is_held
    }

    /// Polls the spawned tasks.
    pub fn poll_spawned(&self) {
        let mut all = std::mem::take(&mut *self.spawned());
        let mut task = Task::from_waker(Waker::noop());
        all.retain_mut(|(by, work)| {
            let mut poll = || work.as_mut().poll(&mut task).is_pending();
            match by {
                Some(by) => on_behalf_of(by, poll),
                None => poll(),
            }
        });
        // They may have spawned more.
        self.spawned().extend(all);
    }

    fn spawned(&self) -> MutexGuard<'_, Vec<Spawned>> {
        self.spawned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn followed(&self) -> MutexGuard<'_, HashMap<String, Followed>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Door for ProcessDoor {
    fn now(&self) -> Timestamp {
        world().borrow().local()
    }

    fn service_now(&self, _: &Endpoint) -> Option<Timestamp> {
        world().borrow().believed_service_time()
    }

    fn clock_offset(&self, _: &Endpoint) -> Option<SignedDuration> {
        let world = world();
        let world = world.borrow();
        Some(world.believed_service_time()?.duration_since(world.local()))
    }

    fn ask(
        &self,
        request: ApiRequest,
    ) -> BoxFuture<'static, Result<Option<Object>, cluster::Error>> {
        let is_read = matches!(
            request,
            ApiRequest::ReadSecret { .. }
                | ApiRequest::ReadIdentity { .. }
                | ApiRequest::Reread(_)
                | ApiRequest::ReadWorkload(_)
                | ApiRequest::ListPods { .. }
        );
        if !is_read && !self.may_begin() {
            return ready(Err(cluster::Error::Withheld)).boxed();
        }
        if let ApiRequest::Publish(notice) = request {
            let told = format!("{} {}", notice.reason, notice.note);
            let world = world();
            let mut world = world.borrow_mut();
            world.tell(|| format!("Event {told}"));
            if notice.reason == Reason::Abandoned {
                let uid = notice.about.uid.unwrap_or_default();
                if !world.truth.told_abandoned.insert((self.process, uid)) {
                    world.break_with(format!("I3: it is told twice: {told}"));
                }
            }
            return ready(Ok(None)).boxed();
        }
        let named = format!("{request:?}").chars().take(40).collect();
        let reply = send(Message::Api(call_of(request)));
        async move {
            match reply.await {
                Reply::Api(Ok(answer)) => Ok(object_of(answer)),
                Reply::Api(Err(refused)) => Err(error_of(refused, named)),
                Reply::Acs(..) => unreachable!("an answer of ACS to a call of the API server"),
            }
        }
        .boxed()
    }

    fn turn(&self, call: &AcsCall) -> BoxFuture<'static, Turn> {
        let turn = Turn::from(call.deadline);
        poll_fn(move |_| {
            if world().borrow().is_busy() {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .map(|()| turn)
        .boxed()
    }

    fn spawn(&self, work: BoxFuture<'static, ()>) {
        let by = BY.with_borrow(Clone::clone);
        self.spawned().push((by, work));
    }

    fn call(&self, call: AcsCall, _: Turn) -> BoxFuture<'static, Result<AcsAnswer, acs::Error>> {
        let (endpoint, credential) = (call.via.endpoint.clone(), call.via.credential.clone());
        let (request, operation) = request_of(call);
        if !self.may_begin() {
            let withheld = acs::Error::of_kind(operation, &endpoint, acs::Kind::Withheld);
            return ready(Err(withheld)).boxed();
        }
        let reply = send(Message::Acs(request, credential));
        async move {
            match reply.await {
                Reply::Acs(Ok(success), date) => Ok(answer_of(success, date.unwrap_or_default())),
                Reply::Acs(Err(failure), _) => Err(acs_error(&failure, operation, &endpoint)),
                Reply::Api(_) => unreachable!("an answer of the API server to a call of ACS"),
            }
        }
        .boxed()
    }

    fn follow(&self, _: &str, names: &[&str], follower: &Follower) -> Vec<Presence> {
        let mut secrets = self.followed();
        for (name, secret) in secrets.iter_mut() {
            if !names.contains(&name.as_str()) {
                secret.followers.remove(follower);
            }
        }
        let mut follow = |name: &&str| {
            let is_new = !secrets.contains_key(*name);
            if is_new {
                world().borrow_mut().cluster.begin_watch(name);
            }
            let secret = secrets.entry((*name).to_owned()).or_default();
            secret.followers.insert(follower.clone());
            secret.presence.clone()
        };
        names.iter().map(&mut follow).collect()
    }

    fn unfollow(&self, follower: &Follower) {
        self.followed().retain(|_, secret| {
            secret.followers.remove(follower);
            !secret.followers.is_empty()
        });
    }

    fn assertions(&self, _: &str, _: &str, _: &str) -> AssertionSource {
        unreachable!("no connection of this world uses Entra ID")
    }
}

fn send(message: Message) -> BoxFuture<'static, Reply> {
    let by = BY.with_borrow(|by| by.clone().expect("only runs ask for something"));
    let id = world().borrow_mut().send(&by, message);
    poll_fn(move |_| match world().borrow_mut().replies.remove(&id) {
        Some(reply) => Poll::Ready(reply),
        None => Poll::Pending,
    })
    .boxed()
}

fn call_of(request: ApiRequest) -> ApiCall {
    match request {
        ApiRequest::ReadSecret { name, .. } => ApiCall::ReadSecret(name),
        ApiRequest::ReadIdentity { name, .. } => ApiCall::ReadIdentity(name),
        ApiRequest::Reread(object) => ApiCall::Reread(object),
        ApiRequest::ListIdentities { .. } => ApiCall::ListIdentities,
        ApiRequest::CreateSecret { secret, is_dry_run } => {
            ApiCall::CreateSecret(secret, is_dry_run)
        }
        ApiRequest::ReplaceSecret { secret, is_dry_run } => {
            ApiCall::ReplaceSecret(secret, is_dry_run)
        }
        ApiRequest::DeleteSecret { name, uid, .. } => ApiCall::DeleteSecret(name, uid),
        ApiRequest::WriteStatus(object) => ApiCall::Status(object),
        ApiRequest::WriteFinalizers {
            object,
            finalizers,
            abandoned,
        } => ApiCall::Finalizers(object, finalizers, abandoned),
        ApiRequest::ReadWorkload(workload) => ApiCall::ReadWorkload(workload.name),
        ApiRequest::RestartWorkload {
            workload,
            version,
            at,
        } => ApiCall::Restart(workload.name, version, at),
        ApiRequest::ListPods { .. } => ApiCall::ListPods,
        ApiRequest::NudgePod { pod, at, .. } => ApiCall::Nudge(pod, at),
        ApiRequest::Publish(_) => unreachable!("Events need no answer here"),
    }
}

fn object_of(answer: ApiAnswer) -> Option<Object> {
    match answer {
        ApiAnswer::Secret(found) => found.map(Object::Secret),
        ApiAnswer::Object(object) => Some(object),
        ApiAnswer::Done => None,
    }
}

fn error_of(refused: Refused, object: String) -> cluster::Error {
    let operation = "do";
    let (code, reason) = match refused {
        Refused::NoAnswer => return cluster::Error::Timeout { operation, object },
        Refused::Conflict => (409, "Conflict"),
        Refused::AlreadyExists => (409, "AlreadyExists"),
        Refused::NotFound => (404, "NotFound"),
        Refused::Forbidden | Refused::Quota | Refused::Denied => (403, "Forbidden"),
    };
    let message = match refused {
        Refused::Quota => "exceeded quota: q, requested: count/secrets=1",
        Refused::Denied => "ValidatingAdmissionPolicy 'p' denied request",
        _ => reason,
    };
    let status = Status::failure(message, reason).with_code(code);
    cluster::Error::Api {
        operation,
        object,
        source: Box::new(kube::Error::Api(status.boxed())),
    }
}

fn request_of(call: AcsCall) -> (Request, Operation) {
    let (uid, kind) = (call.uid, call.operation.kind());
    let request = match call.operation {
        AcsOperation::CreateIdentity { custom_id, .. } => Request::Create { custom_id, uid },
        AcsOperation::IssueToken(request) => Request::Issue {
            id: request.identity_id,
            parameters: TokenParameters {
                scopes: request.parameters.scopes.clone(),
                expires_in: format!("{}m", request.parameters.minutes()),
            },
            uid,
            why: request.why.reason().as_str(),
            user_token: None,
        },
        AcsOperation::ExchangeTeamsToken {
            request,
            token,
            app_id,
            user_id,
        } => {
            let user = TeamsUser {
                app_id,
                user_id,
                ..teams::user()
            };
            Request::Issue {
                id: user.identity_id(),
                parameters: teams::parameters(),
                uid,
                why: request.why.reason().as_str(),
                user_token: Some(token.expose_secret().to_owned()),
            }
        }
        AcsOperation::RevokeTokens { identity_id } => Request::Revoke { id: identity_id },
        AcsOperation::DeleteIdentity { identity_id } => Request::Delete { id: identity_id },
    };
    (request, kind)
}

fn answer_of(success: Success, date: i64) -> AcsAnswer {
    let date = timestamp(date * 1000);
    match success {
        Success::Created(id) => AcsAnswer::Created(CreatedIdentity { id }),
        Success::Issued { text, expires } => AcsAnswer::Issued(IssuedToken {
            token: SecretString::from(text),
            expires_on: timestamp(expires),
            date,
            received_at: world().borrow().local(),
        }),
        Success::Revoked {
            earlier_attempt_lost,
        } => AcsAnswer::Revoked(Revoked {
            date,
            earlier_attempt_lost,
        }),
        Success::Deleted => AcsAnswer::Deleted(Deleted { was_gone: false }),
    }
}

fn acs_error(failure: &Failure, operation: Operation, endpoint: &Endpoint) -> acs::Error {
    acs::Error::of_kind(operation, endpoint, failure.kind)
        .after(failure.outcome, failure.is_lost)
        .with_retry_after(failure.retry_after)
}
