//! Engine of the operator: the effects it may have, and when each object is reconciled.
//!
//! An event requeues an object ([`Requeue`]); the [`Queue`] decides when it runs; its slice
//! observes and decides without I/O; and each effect goes through the [`World`]. [`Live`] is the
//! world of a process; the tests have one of their own, in which everything that can go wrong does.

mod calls;
mod claim;
mod issue_request;
mod lease;
mod live;
mod locks;
mod object;
mod pods;
mod queue;
mod reason;
mod requeue;
mod run;
mod workload;
mod world;
mod writes;

pub use calls::{Answered, CallStage, Calls};
pub use claim::Claim;
pub use issue_request::{IssueRequest, Why};
pub use lease::{Election, Next, Record, Timing, TimingError};
pub use live::Live;
pub use locks::{Guard, Locks};
pub use object::{IdentityPage, Object, Stored};
pub use pods::PodPage;
pub use queue::{Ended, Queue};
pub use requeue::Requeue;
pub use run::{Reconcile, Rested, StepOutcome, Stop, ended, run_all, to_rest};
pub use workload::Workload;
pub use world::{AcsAnswer, AcsCall, AcsOperation, ApiRequest, World};
pub use writes::{add_finalizer, keep_finalizers, remove_finalizer, write_status};
