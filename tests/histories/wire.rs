//! How a run reaches the world: each call waits until the history lets it go on.

use std::{cell::RefCell, collections::BTreeMap, future::poll_fn, rc::Rc, sync::Arc, task::Poll};

use acs_identity_operator::{
    cluster::input::Presence,
    context::Context,
    crd::{AcsIdentity, AcsRevocation, AcsToken, FINALIZER},
    renewal,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, runtime::reflector::ObjectRef};

use crate::{
    cluster::Refused,
    service::{Failure, Request, Success},
    teams::ENTRA,
    world::{ApiAnswer, ApiCall, Key, Message, Reply, World},
};

/// What one run has in hand.
pub struct Wire {
    pub context: Arc<Context>,
    pub world: Rc<RefCell<World>>,
    /// The object that runs.
    pub by: Key,
    pub followed: Rc<RefCell<BTreeMap<Key, String>>>,
    /// What the watch of the Teams user's Entra token knows, once it is followed.
    pub user_token: Rc<RefCell<Option<Presence>>>,
}

impl Wire {
    /// The operator's clock.
    pub fn now(&self) -> Timestamp {
        self.world.borrow().local()
    }

    /// The service's clock as far as the operator knows it.
    pub fn service_now(&self) -> Option<Timestamp> {
        self.world.borrow().believed_service_time()
    }

    /// Adds to the story.
    pub fn tell(&self, what: impl FnOnce() -> String) {
        self.world.borrow_mut().tell(what);
    }

    /// When to look again after something overtook the run.
    pub fn in_a_moment(&self) -> Timestamp {
        renewal::add(self.now(), SignedDuration::from_millis(500))
    }

    /// The run took all its steps.
    pub fn never_rests(&self) {
        let mut world = self.world.borrow_mut();
        world.break_with(format!("K4: {} does not come to rest", self.by));
    }

    /// Waits for someone else's Secret, or for none.
    pub fn follow(&self, secret: Option<String>) {
        let mut followed = self.followed.borrow_mut();
        match secret {
            Some(name) if followed.get(&self.by) != Some(&name) => {
                self.world.borrow_mut().cluster.begin_watch(&name);
                followed.insert(self.by.clone(), name);
            }
            Some(_) => {}
            None => {
                followed.remove(&self.by);
            }
        }
    }

    /// Waits for changes of the Teams user's Entra token; what is known of it by now.
    pub fn follow_user_token(&self) -> Presence {
        let mut known = self.user_token.borrow_mut();
        let follow = || {
            self.world.borrow_mut().cluster.begin_watch(ENTRA);
            Presence::Unknown
        };
        known.get_or_insert_with(follow).clone()
    }

    async fn make(&self, message: Message) -> Reply {
        let id = self.world.borrow_mut().send(&self.by, message);
        poll_fn(|_| match self.world.borrow_mut().replies.remove(&id) {
            Some(reply) => Poll::Ready(reply),
            None => Poll::Pending,
        })
        .await
    }

    async fn api(&self, call: ApiCall) -> Result<ApiAnswer, Refused> {
        match self.make(Message::Api(call)).await {
            Reply::Api(answer) => answer,
            Reply::Acs(..) => Err(Refused::NoAnswer),
        }
    }

    /// Asks the service, signed with `key`. With the answer's `Date`, in seconds.
    pub async fn acs(&self, request: Request, key: &str) -> (Result<Success, Failure>, i64) {
        match self.make(Message::Acs(request, key.to_owned())).await {
            Reply::Acs(answer, date) => (answer, date.unwrap_or_default()),
            Reply::Api(_) => unreachable!("an answer of the API server to a call of ACS"),
        }
    }

    pub async fn read_secret(&self, name: &str) -> Result<Option<Secret>, Refused> {
        match self.api(ApiCall::ReadSecret(name.to_owned())).await? {
            ApiAnswer::Secret(found) => Ok(found.map(|found| *found)),
            _ => Ok(None),
        }
    }

    pub async fn put_secret(&self, secret: Secret, is_new: bool) -> Result<Secret, Refused> {
        let secret = Box::new(secret);
        let call = if is_new {
            ApiCall::CreateSecret(secret)
        } else {
            ApiCall::ReplaceSecret(secret)
        };
        match self.api(call).await? {
            ApiAnswer::Secret(Some(written)) => Ok(*written),
            _ => Err(Refused::NotFound),
        }
    }

    pub async fn delete_secret(&self, name: &str, uid: Option<String>) -> Result<(), Refused> {
        if uid.is_none() {
            return Ok(());
        }
        match self.api(ApiCall::DeleteSecret(name.to_owned(), uid)).await {
            Ok(_) | Err(Refused::NotFound | Refused::Conflict) => Ok(()),
            Err(refused) => Err(refused),
        }
    }

    pub async fn identity_exists(&self, name: &str) -> Result<bool, Refused> {
        match self.api(ApiCall::ReadIdentity(name.to_owned())).await? {
            ApiAnswer::Identity(found) => Ok(found.is_some()),
            _ => Ok(false),
        }
    }

    pub async fn write_identity(&self, object: &AcsIdentity) -> Result<(), Refused> {
        let call = ApiCall::IdentityStatus(Box::new(object.clone()));
        let answer = self.api(call).await;
        self.keep_identity(object, answer)
    }

    pub async fn write_token(&self, object: &AcsToken) -> Result<(), Refused> {
        let call = ApiCall::TokenStatus(Box::new(object.clone()));
        let answer = self.api(call).await;
        self.keep_token(object, answer)
    }

    pub async fn write_order(&self, object: &AcsRevocation) -> Result<(), Refused> {
        let view = &self.context.views.revocations;
        match self
            .api(ApiCall::OrderStatus(Box::new(object.clone())))
            .await
        {
            Ok(ApiAnswer::Order(written)) => {
                view.wrote(*written);
                Ok(())
            }
            Err(refused) => {
                if refused == Refused::NotFound {
                    view.forget(&ObjectRef::from_obj(object));
                }
                Err(refused)
            }
            Ok(_) => Ok(()),
        }
    }

    pub async fn hold_identity(&self, object: &AcsIdentity) -> Result<(), Refused> {
        let finalizers = vec![FINALIZER.to_owned()];
        let version = object.resource_version();
        let call = ApiCall::IdentityFinalizers(object.name_any(), version, finalizers, None);
        let answer = self.api(call).await;
        self.keep_identity(object, answer)
    }

    pub async fn hold_token(&self, object: &AcsToken) -> Result<(), Refused> {
        let finalizers = vec![FINALIZER.to_owned()];
        let version = object.resource_version();
        let call = ApiCall::TokenFinalizers(object.name_any(), version, finalizers, None);
        let answer = self.api(call).await;
        self.keep_token(object, answer)
    }

    pub async fn release_identity(
        &self,
        object: &AcsIdentity,
        abandoned: Option<String>,
    ) -> Result<(), Refused> {
        let version = object.resource_version();
        let call = ApiCall::IdentityFinalizers(object.name_any(), version, Vec::new(), abandoned);
        match self.api(call).await {
            Ok(_) | Err(Refused::NotFound) => Ok(()),
            Err(refused) => Err(refused),
        }
    }

    pub async fn release_token(
        &self,
        object: &AcsToken,
        abandoned: Option<String>,
    ) -> Result<(), Refused> {
        let version = object.resource_version();
        let call = ApiCall::TokenFinalizers(object.name_any(), version, Vec::new(), abandoned);
        match self.api(call).await {
            Ok(_) | Err(Refused::NotFound) => Ok(()),
            Err(refused) => Err(refused),
        }
    }

    /// As the operator does with what it has written: the view knows it at once.
    fn keep_identity(
        &self,
        object: &AcsIdentity,
        answer: Result<ApiAnswer, Refused>,
    ) -> Result<(), Refused> {
        let view = &self.context.views.identities;
        match answer {
            Ok(ApiAnswer::Identity(Some(written))) => {
                view.wrote(*written);
                Ok(())
            }
            Err(refused) => {
                if refused == Refused::NotFound {
                    view.forget(&ObjectRef::from_obj(object));
                }
                Err(refused)
            }
            Ok(_) => Ok(()),
        }
    }

    fn keep_token(
        &self,
        object: &AcsToken,
        answer: Result<ApiAnswer, Refused>,
    ) -> Result<(), Refused> {
        let view = &self.context.views.tokens;
        match answer {
            Ok(ApiAnswer::Token(written)) => {
                view.wrote(*written);
                Ok(())
            }
            Err(refused) => {
                if refused == Refused::NotFound {
                    view.forget(&ObjectRef::from_obj(object));
                }
                Err(refused)
            }
            Ok(_) => Ok(()),
        }
    }
}
