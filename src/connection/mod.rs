//! The life of an `AcsConnection` and a `ClusterAcsConnection`: where the service is and how to
//! authenticate, resolved once per change and kept in memory for everyone who calls the service.
//!
//! Credentials live in the [`Registry`] only, never in a status: there one finds a fingerprint, and
//! that only after the service has accepted the credential (else it were an oracle).

mod controller;
mod former;
mod kinds;
mod registry;
mod report;
mod resolve;

pub use controller::run;
pub use kinds::{AnyConnection, ConnectionKey};
pub use registry::{CredentialState, Refused, Registry, Resolved, Unusable};
pub use resolve::{Found, resolve, text_in};
