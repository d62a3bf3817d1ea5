//! Reconciliation of an `AcsIdentity`: created or adopted once, revoked for its tokens, and deleted
//! through the finalizer. It has the same five steps as that of a token.
//!
//! Guarantees: I1 to I5 of the contract and the identity's half of R1 to R4. ACS revokes per
//! identity, so the identity decides on a revocation from the statuses of its tokens. The intent is
//! in the status before a call, and the answer is in the status before another token is issued.

mod act;
mod controller;
pub mod decide;
pub mod next_status;
mod observe;
mod report;

pub use controller::reconcile;
