//! Reconciliation of an `AcsToken`, in five steps: an event triggers a run (`controller`), the
//! cluster is read into plain values (`observe`), a pure function chooses the next step (`decide`),
//! the step is carried out against ACS and the cluster (`act`), and the result is written to the
//! status (`report`). The loop ends when `decide` returns [`Step::Rest`].
//!
//! Guarantees: T1 to T6 of the contract, and this object's half of R1 to R4. A token is issued only
//! while its identity is not being revoked. A token counts as issued once it is in the Secret, and
//! the status is rebuilt from there. The identity makes the revocations.

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
