//! The life of an `AcsIdentity`: created or adopted once, revoked for its tokens, and deleted
//! through the finalizer. The same five steps as a token's.
//!
//! Guarantees: I1 to I5 of the contract and the identity's half of R1 to R4. ACS revokes per
//! identity, so the revocation is decided here, from what the tokens' statuses say; the intent is
//! in the status before a call, and the answer is in the status before anything is issued again.

mod act;
mod controller;
pub mod decide;
pub mod next_status;
mod observe;
mod report;

pub use controller::reconcile;
