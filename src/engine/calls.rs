use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{
    FutureExt,
    future::{AbortHandle, abortable},
};
use jiff::Timestamp;
use parking_lot::Mutex;

use super::{AcsAnswer, AcsCall, AcsOperation, Guard, Locks, Requeue, World};
use crate::{
    acs::{self, Operation, Turn},
    cluster::ObjectKey,
};

/// Calls to ACS of all objects, kept as data in memory instead of waiting runs. An object has one
/// call at a time. It requests a turn and its run ends. When it is the object's turn, the object
/// runs again, decides again, and sends the call at once. The answer is kept until a run has
/// recorded it.
#[derive(Clone, Debug)]
pub struct Calls {
    of_objects: Arc<Mutex<HashMap<ObjectKey, Call>>>,
    locks: Locks,
    requeue: Requeue,
    is_closed: Arc<AtomicBool>,
}

/// Call of an object.
#[derive(Debug)]
struct Call {
    /// Time since which the object waits for ACS.
    since: Timestamp,
    stage: Stage,
}

/// Stage of an object's call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallStage {
    /// There is no call.
    #[default]
    None,
    /// The call waits for its turn, or its answer waits to be recorded.
    Waiting {
        /// Time since which the object waits, by the operator's clock.
        since: Timestamp,
    },
    /// The call was sent and is not answered yet.
    OnTheWire {
        /// Time since which the object waits for ACS, by the operator's clock.
        since: Timestamp,
    },
}

impl CallStage {
    /// Returns the time since which the object waits for ACS.
    #[must_use]
    pub const fn since(self) -> Option<Timestamp> {
        match self {
            Self::None => None,
            Self::Waiting { since } | Self::OnTheWire { since } => Some(since),
        }
    }

    /// Whether the call may take effect at any moment.
    #[must_use]
    pub const fn is_on_the_wire(self) -> bool {
        matches!(self, Self::OnTheWire { .. })
    }
}

#[derive(Debug)]
enum Stage {
    /// The call waits for its turn.
    Queued {
        wanted: Wanted,
        waits: AbortHandle,
    },
    /// It is the call's turn. The next run uses the turn or gives it back.
    Turn {
        wanted: Wanted,
        turn: Turn,
    },
    /// Another call of the same identity goes first (R3).
    Locked,
    OnTheWire,
    Answered(Box<Answered>),
}

/// Call that a turn is for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    endpoint: String,
    operation: Operation,
    deadline: Timestamp,
}

impl Wanted {
    /// Whether a place in the queue for `self` can be used for `other`, because it is not later.
    fn serves(&self, other: &Self) -> bool {
        self.endpoint == other.endpoint
            && self.operation == other.operation
            && self.deadline <= other.deadline
    }
}

/// Result of a call. The lock of its identity is held until this is dropped.
#[derive(Debug)]
pub struct Answered {
    /// Call that was made.
    pub call: AcsCall,
    /// Answer of ACS, or why there is none.
    pub result: Result<AcsAnswer, acs::Error>,
    /// Time at which the call was sent, by the operator's clock.
    pub sent_at: Timestamp,
    /// Whether another credential was in use when the answer arrived; `None` until all users of the
    /// credential know what the answer says about it.
    pub is_overtaken: Option<bool>,
    _guard: Option<Guard>,
}

impl Calls {
    /// Returns an empty set of calls.
    #[must_use]
    pub fn new(locks: Locks, requeue: Requeue) -> Self {
        Self {
            of_objects: Arc::default(),
            locks,
            requeue,
            is_closed: Arc::default(),
        }
    }

    /// Stops giving turns to objects, because the process stops.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// Whether it is the object's turn to make `call`. If not, the object is queued, and requeued
    /// when it is its turn.
    pub fn has_turn(&self, world: &dyn World, call: &AcsCall) -> bool {
        let wanted = Wanted {
            endpoint: call.via.endpoint.to_string(),
            operation: call.operation.kind(),
            deadline: call.deadline,
        };
        let mut calls = self.of_objects.lock();
        let since = match calls.get(&call.by) {
            None => world.now(),
            Some(Call { since, stage }) => match stage {
                Stage::OnTheWire | Stage::Answered(_) => return false,
                Stage::Queued { wanted: queued, .. } if queued.serves(&wanted) => return false,
                Stage::Turn { wanted: had, .. } if had.serves(&wanted) => return true,
                Stage::Queued { waits, .. } => {
                    waits.abort();
                    *since
                }
                Stage::Turn { .. } | Stage::Locked => *since,
            },
        };
        if self.is_closed.load(Ordering::Relaxed) {
            return false;
        }
        let (turn, waits) = abortable(world.turn(call));
        // If no other call is ahead in the queue, no further run is needed.
        let mut turn = Box::pin(turn);
        if let Some(Ok(turn)) = turn.as_mut().now_or_never() {
            let stage = Stage::Turn { wanted, turn };
            calls.insert(call.by.clone(), Call { since, stage });
            return true;
        }
        let stage = Stage::Queued {
            wanted: wanted.clone(),
            waits,
        };
        calls.insert(call.by.clone(), Call { since, stage });
        drop(calls);
        let (all, key) = (self.clone(), call.by.clone());
        world.spawn(
            async move {
                if let Ok(turn) = turn.await {
                    all.turn_has_come(&key, &wanted, turn);
                }
            }
            .boxed(),
        );
        false
    }

    fn turn_has_come(&self, key: &ObjectKey, wanted: &Wanted, turn: Turn) {
        if let Some(call) = self.of_objects.lock().get_mut(key)
            && matches!(&call.stage, Stage::Queued { wanted: queued, .. } if queued == wanted)
        {
            let wanted = wanted.clone();
            call.stage = Stage::Turn { wanted, turn };
        }
        self.requeue.send(key.clone());
    }

    /// Sends the call if the object has its turn and the lock of its identity is free, and returns
    /// whether it was sent. If the lock is taken, the object is requeued when it is free. The
    /// answer requeues the object, too.
    pub fn begin(&self, world: &dyn World, call: AcsCall) -> bool {
        let mut calls = self.of_objects.lock();
        let Some(former) = calls.get_mut(&call.by) else {
            return false;
        };
        // The turn is given back if the lock is taken.
        let turn = match std::mem::replace(&mut former.stage, Stage::Locked) {
            Stage::Turn { turn, .. } => turn,
            stage => {
                former.stage = stage;
                return false;
            }
        };
        let guard = match &call.operation {
            AcsOperation::CreateIdentity { .. } => None,
            AcsOperation::IssueToken(request)
            | AcsOperation::ExchangeTeamsToken { request, .. } => {
                Some(self.locks.issue(&request.identity_id, &call.by))
            }
            AcsOperation::RevokeTokens { identity_id }
            | AcsOperation::DeleteIdentity { identity_id } => {
                Some(self.locks.revoke(identity_id, &call.by))
            }
        };
        if matches!(guard, Some(None)) {
            return false;
        }
        let guard = guard.flatten();
        former.stage = Stage::OnTheWire;
        drop(calls);
        let all = self.clone();
        let sent_at = world.now();
        let answer = world.call(call.clone(), turn);
        world.spawn(
            async move {
                let result = match AssertUnwindSafe(answer).catch_unwind().await {
                    Ok(result) => result,
                    // Otherwise the object would wait for ever.
                    Err(_) => Err(lost(&call)),
                };
                if matches!(&result, Err(error) if error.kind() == acs::Kind::Withheld) {
                    // Another process may act: nothing is reported, and this process is about to
                    // end (K2).
                    all.of_objects.lock().remove(&call.by);
                    return;
                }
                all.answered(Answered {
                    call,
                    result,
                    sent_at,
                    is_overtaken: None,
                    _guard: guard,
                });
            }
            .boxed(),
        );
        true
    }

    fn answered(&self, answered: Answered) {
        let key = answered.call.by.clone();
        self.store_answer(answered);
        self.requeue.send(key);
    }

    /// Keeps the answer until a later run can record it.
    pub fn store_answer(&self, answered: Answered) {
        let key = answered.call.by.clone();
        let call = Call {
            since: answered.sent_at,
            stage: Stage::Answered(Box::new(answered)),
        };
        self.of_objects.lock().insert(key, call);
    }

    /// Takes the answer to the object's call, if there is one.
    #[must_use]
    pub fn take_answer(&self, key: &ObjectKey) -> Option<Answered> {
        let mut calls = self.of_objects.lock();
        if !matches!(calls.get(key)?.stage, Stage::Answered(_)) {
            return None;
        }
        match calls.remove(key)?.stage {
            Stage::Answered(answered) => Some(*answered),
            _ => None,
        }
    }

    /// Whether there is an answer for the object to record.
    #[must_use]
    pub fn has_answer(&self, key: &ObjectKey) -> bool {
        let calls = self.of_objects.lock();
        calls
            .get(key)
            .is_some_and(|call| matches!(call.stage, Stage::Answered(_)))
    }

    /// Returns the stage of the object's call.
    #[must_use]
    pub fn stage(&self, key: &ObjectKey) -> CallStage {
        match self.of_objects.lock().get(key) {
            None => CallStage::None,
            Some(call) if matches!(call.stage, Stage::OnTheWire) => {
                CallStage::OnTheWire { since: call.since }
            }
            Some(call) => CallStage::Waiting { since: call.since },
        }
    }

    /// Removes a call that the object no longer needs, so that its place in the queue goes to
    /// others.
    pub fn give_up(&self, key: &ObjectKey) {
        let mut calls = self.of_objects.lock();
        match calls.get(key).map(|call| &call.stage) {
            None | Some(Stage::OnTheWire | Stage::Answered(_)) => return,
            Some(Stage::Queued { waits, .. }) => waits.abort(),
            Some(Stage::Turn { .. } | Stage::Locked) => {}
        }
        calls.remove(key);
    }

    /// Gives back the turn of an object after a run that has not used it.
    pub fn give_back_turn(&self, key: &ObjectKey) {
        let mut calls = self.of_objects.lock();
        if matches!(
            calls.get(key).map(|call| &call.stage),
            Some(Stage::Turn { .. })
        ) {
            calls.remove(key);
        }
    }

    /// Whether no call is in flight and every answer is recorded.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let is_open = |call: &Call| matches!(call.stage, Stage::OnTheWire | Stage::Answered(_));
        !self.of_objects.lock().values().any(is_open)
    }
}

/// Returns the error of a call with an unknown outcome.
fn lost(call: &AcsCall) -> acs::Error {
    let operation = call.operation.kind();
    acs::Error::of_kind(operation, &call.via.endpoint, acs::Kind::NoAnswer)
        .after(acs::Outcome::Unknown, true)
}
