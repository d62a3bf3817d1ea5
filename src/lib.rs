//! Short-lived Azure Communication Services credentials as Kubernetes resources.
//!
//! Flow of an event: a watch ([`cluster`]) updates a view and requeues the affected objects; the
//! queue ([`engine`]) runs each of them; its slice ([`connection`], [`identity`], [`token`],
//! [`revocation`]) observes, decides, acts and reports, one step at a time, until nothing is left
//! to do. All calls to the API server and to ACS go through the [`engine::World`].
//!
//! - [`crd`]: custom resources.
//! - [`token`], [`identity`], [`connection`], [`revocation`]: one slice per kind, each
//!   readable on its own.
//! - [`acs`]: client of ACS, independent of Kubernetes.
//! - [`digest`]: short digests of values that must not be stored.
//! - [`claims`]: claims of JSON Web Tokens.
//! - [`pasted`]: cleanup of pasted credentials.
//! - [`cluster`]: access to the API server: calls, watches, views and their indexes.
//! - [`engine`]: queue, runs, and the interface to the API server and ACS.
//! - [`renewal`]: calculation of due times.
//! - [`consumers`]: pods that use a Secret, and which of them hold a former token.
//! - [`credentials`], [`cache`], [`context`]: state that the runs share.
//! - [`operator`], [`health`], [`metrics`]: process of the operator.
//! - [`emulator`]: emulator of ACS for tests, demos and CI.
//!
//! `src/bin/kubectl-acs/` is a separate program, `kubectl acs`: a client of the API server that
//! uses [`crd`] and nothing of the controllers.
//!
//! Each program has a feature of the same name, so that it compiles only what it needs: `operator`,
//! `emulator` and `plugin`. All are on by default.

#[cfg(feature = "operator")]
pub mod acs;
#[cfg(feature = "operator")]
pub mod cache;
#[cfg(any(feature = "operator", feature = "plugin"))]
pub mod claims;
#[cfg(any(feature = "operator", feature = "plugin"))]
pub mod cluster;
#[cfg(feature = "operator")]
pub mod connection;
#[cfg(any(feature = "operator", feature = "plugin"))]
pub mod consumers;
#[cfg(feature = "operator")]
pub mod context;
#[cfg(any(feature = "operator", feature = "plugin"))]
pub mod crd;
#[cfg(feature = "operator")]
pub mod credentials;
#[cfg(any(feature = "operator", feature = "plugin"))]
pub mod digest;
#[cfg(feature = "emulator")]
pub mod emulator;
#[cfg(feature = "operator")]
pub mod engine;
#[cfg(feature = "operator")]
pub mod health;
#[cfg(feature = "operator")]
pub mod identity;
#[cfg(feature = "operator")]
pub mod metrics;
#[cfg(feature = "operator")]
pub mod operator;
#[cfg(any(feature = "operator", feature = "plugin"))]
pub mod pasted;
#[cfg(feature = "operator")]
pub mod renewal;
#[cfg(feature = "operator")]
pub mod revocation;
#[cfg(feature = "operator")]
pub mod token;
