//! The orders: an `AcsRevocation` or a `ClusterAcsRevocation` has all tokens of the identities that
//! it selects revoked, once.
//!
//! An order calls nobody. It records its targets; each of these identities finds the order there
//! ([`revocations_of`]), revokes its tokens as it does for any other reason (R1 to R4), and has the
//! order's UID in the status of the answer (`lastRevocation.orders`), where the order finds it. So
//! a crash at any step loses nothing, and repeats no revocation that was answered.

mod controller;
pub mod decide;
mod kinds;
mod observe;

pub use controller::reconcile;
pub use kinds::AnyRevocation;
pub use observe::{RevocationRef, revocations_of};
