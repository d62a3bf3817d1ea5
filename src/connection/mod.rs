//! Reconciliation of an `AcsConnection` and a `ClusterAcsConnection`: the endpoint of ACS and how
//! to authenticate, resolved once per change and kept in memory for every call.
//!
//! Credentials are kept in the [`crate::credentials::Registry`] only, never in a status. The status
//! has a fingerprint, and only after ACS has accepted the credential: otherwise it would reveal
//! whether a guessed credential is right.

mod controller;
mod former;
mod load;
mod report;
mod resolve;

pub use controller::reconcile;
pub use load::Load;
pub use resolve::{Found, resolve, text_in};
