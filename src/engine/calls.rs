use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{
    FutureExt,
    future::{AbortHandle, abortable},
};
use jiff::Timestamp;

use super::{AcsAnswer, AcsCall, AcsOperation, Guard, Locks, Requeue, World};
use crate::{
    acs::{self, Operation, Turn},
    cluster::{ObjectKey, view::lock},
};

/// What objects have asked of ACS: facts in memory, not runs that wait. An object has one call at a
/// time. It asks for a turn and rests; when the turn has come it is run again, decides anew, and
/// begins the call at once; and the answer is kept until a run has recorded it.
#[derive(Clone, Debug)]
pub struct Calls {
    of_objects: Arc<Mutex<HashMap<ObjectKey, Call>>>,
    locks: Locks,
    requeue: Requeue,
    is_closed: Arc<AtomicBool>,
}

/// A call of an object.
#[derive(Debug)]
struct Call {
    /// Since when ACS is waited for.
    since: Timestamp,
    stage: Stage,
}

/// How the call of an object stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallStage {
    /// There is none.
    #[default]
    None,
    /// It waits for its turn, or its answer waits to be recorded.
    Waiting {
        /// Since when, by the operator's clock.
        since: Timestamp,
    },
    /// It has been sent, and is not answered.
    OnTheWire {
        /// Since when ACS is waited for, by the operator's clock.
        since: Timestamp,
    },
}

impl CallStage {
    /// Since when ACS is waited for.
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
    /// It waits for its turn.
    Queued {
        wanted: Wanted,
        waits: AbortHandle,
    },
    /// Its turn has come; the run that finds it uses it, or gives it back.
    Turn {
        wanted: Wanted,
        turn: Turn,
    },
    /// Another call of the same identity goes first (R3).
    Locked,
    OnTheWire,
    Answered(Box<Answered>),
}

/// What a turn is for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    endpoint: String,
    operation: Operation,
    deadline: Timestamp,
}

impl Wanted {
    /// Whether a place in the queue for `self` does for `other`, too: it is no later.
    fn serves(&self, other: &Self) -> bool {
        self.endpoint == other.endpoint
            && self.operation == other.operation
            && self.deadline <= other.deadline
    }
}

/// What came of a call. The lock of its identity is held until this is dropped.
#[derive(Debug)]
pub struct Answered {
    /// The call.
    pub call: AcsCall,
    /// The answer, or why there is none.
    pub result: Result<AcsAnswer, acs::Error>,
    /// When it was sent, by the operator's clock.
    pub sent_at: Timestamp,
    /// Whether another credential was in use by the time of the answer; nothing until what the answer
    /// says of its credential is known to everybody who uses it.
    pub is_overtaken: Option<bool>,
    _guard: Option<Guard>,
}

impl Calls {
    /// No call is under way.
    #[must_use]
    pub fn new(locks: Locks, requeue: Requeue) -> Self {
        Self {
            of_objects: Arc::default(),
            locks,
            requeue,
            is_closed: Arc::default(),
        }
    }

    /// The process stops: no object gets a turn any longer.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// Whether it is the object's turn to make `call`; else it is queued for it, and requeued then.
    pub fn has_turn(&self, world: &dyn World, call: &AcsCall) -> bool {
        let wanted = Wanted {
            endpoint: call.via.endpoint.to_string(),
            operation: call.operation.kind(),
            deadline: call.deadline,
        };
        let mut calls = lock(&self.of_objects);
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
        // What nobody is before in the queue has no need to be run once more.
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
        if let Some(call) = lock(&self.of_objects).get_mut(key)
            && matches!(&call.stage, Stage::Queued { wanted: queued, .. } if queued == wanted)
        {
            let wanted = wanted.clone();
            call.stage = Stage::Turn { wanted, turn };
        }
        self.requeue.send(key.clone());
    }

    /// Sends the call, if the object has its turn and the lock of its identity is free; else the
    /// object is requeued when it is. The answer requeues the object. Whether it was sent.
    pub fn begin(&self, world: &dyn World, call: AcsCall) -> bool {
        let mut calls = lock(&self.of_objects);
        let Some(former) = calls.get_mut(&call.by) else {
            return false;
        };
        // The turn goes back if the lock is not free.
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
                    // Else the object would wait for ever.
                    Err(_) => Err(lost(&call)),
                };
                if matches!(&result, Err(error) if error.kind() == acs::Kind::Withheld) {
                    // Another process may act: nothing is told, and this one is about to end (K2).
                    lock(&all.of_objects).remove(&call.by);
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
        lock(&self.of_objects).insert(key, call);
    }

    /// Takes the answer to the object's call, if there is one.
    #[must_use]
    pub fn take_answer(&self, key: &ObjectKey) -> Option<Answered> {
        let mut calls = lock(&self.of_objects);
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
        let calls = lock(&self.of_objects);
        calls
            .get(key)
            .is_some_and(|call| matches!(call.stage, Stage::Answered(_)))
    }

    /// How the call of the object stands.
    #[must_use]
    pub fn stage(&self, key: &ObjectKey) -> CallStage {
        match lock(&self.of_objects).get(key) {
            None => CallStage::None,
            Some(call) if matches!(call.stage, Stage::OnTheWire) => {
                CallStage::OnTheWire { since: call.since }
            }
            Some(call) => CallStage::Waiting { since: call.since },
        }
    }

    /// The object wants no call now: its place in the queue goes to others.
    pub fn give_up(&self, key: &ObjectKey) {
        let mut calls = lock(&self.of_objects);
        match calls.get(key).map(|call| &call.stage) {
            None | Some(Stage::OnTheWire | Stage::Answered(_)) => return,
            Some(Stage::Queued { waits, .. }) => waits.abort(),
            Some(Stage::Turn { .. } | Stage::Locked) => {}
        }
        calls.remove(key);
    }

    /// A run of the object has ended: a turn that it has not used goes to others.
    pub fn give_back_turn(&self, key: &ObjectKey) {
        let mut calls = lock(&self.of_objects);
        if matches!(
            calls.get(key).map(|call| &call.stage),
            Some(Stage::Turn { .. })
        ) {
            calls.remove(key);
        }
    }

    /// Whether nothing is on the wire, and nothing is answered that no run has recorded.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let is_open = |call: &Call| matches!(call.stage, Stage::OnTheWire | Stage::Answered(_));
        !lock(&self.of_objects).values().any(is_open)
    }
}

/// The error of a call whose outcome nobody knows.
fn lost(call: &AcsCall) -> acs::Error {
    let operation = call.operation.kind();
    acs::Error::of_kind(operation, &call.via.endpoint, acs::Kind::NoAnswer)
        .after(acs::Outcome::Unknown, true)
}
