//! The life of an `AcsToken`, in five steps: an event wakes it (`controller`), the cluster is read
//! into plain values (`observe`), a pure function chooses the next step (`decide`), the step is
//! carried out against ACS and the cluster (`act`), and the outcome is told in the status
//! (`report`). The loop goes on until `decide` says [`Step::Rest`].
//!
//! Guarantees: T1 to T6 of the contract, and this object's half of R1 to R4. A token is issued only
//! while its identity is not being revoked; what was issued is a fact once it is in the Secret, and
//! the status is rebuilt from there. Revocation itself belongs to the identity.

mod act;
mod controller;
pub mod decide;
mod limits;
pub mod next_status;
mod nudge;
mod observe;
pub mod owner;
mod parameters;
mod record;
mod report;
pub mod restart;
mod revocation_demand;
pub mod secret;
mod teams;
mod wanted;

pub use controller::reconcile;
pub use decide::{Decision, Observed, Step, decide, renew_at};
pub use limits::{Limits, rank};
pub use observe::limits_of;
pub use revocation_demand::{RevocationDemand, demand, is_unrecorded_demand};
