//! The life of an `AcsConnection` and a `ClusterAcsConnection`: where the service is and how to
//! authenticate, resolved once per change and kept in memory for everyone who calls the service.
//!
//! Credentials live in the [`crate::credentials::Registry`] only, never in a status: there one finds a fingerprint, and
//! that only after the service has accepted the credential (else it were an oracle).

mod controller;
mod former;
mod load;
mod report;
mod resolve;

pub use controller::reconcile;
pub use load::Load;
pub use resolve::{Found, resolve, text_in};
