//! When a call is sent: the `queue` of an endpoint, whose `schedule` picks the most urgent call
//! within the `limits` of ACS, and the policy that decides whether and when a failed call is sent
//! again.

mod limits;
mod queue;
mod retry;
mod schedule;

pub use limits::SPAN;
pub(super) use queue::{Permit, Queue};
pub use queue::{Turn, Urgency};
pub(super) use retry::{Failed, RetryState};
