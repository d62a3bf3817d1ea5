//! Reconciliation of revocations: an `AcsRevocation` or a `ClusterAcsRevocation` revokes all tokens
//! of the selected identities, once.
//!
//! A revocation makes no calls. It records its targets. Each of these identities finds the
//! revocation there ([`revocations_of`]), revokes its tokens as it does for any other reason (R1 to
//! R4), and records the UID of the revocation with the answer in its own status
//! (`lastRevocation.orders`), where the revocation finds it. So a crash at any step loses nothing,
//! and repeats no revocation that was answered.

mod controller;
pub mod decide;
mod kinds;
mod observe;

pub use controller::reconcile;
pub use kinds::AnyRevocation;
pub use observe::{RevocationRef, revocations_of};
