//! Short-lived Azure Communication Services credentials as Kubernetes resources.
//!
//! How an event flows: a watch ([`cluster`]) keeps a view current and requeues the objects that it
//! concerns; the queue ([`engine`]) runs each of them; its slice ([`connection`], [`identity`],
//! [`token`], [`revocation`]) observes, decides, acts and reports, one step at a time, until there is
//! nothing left to do. All that it asks of the API server and of ACS passes one door, the
//! [`engine::World`].
//!
//! - [`crd`]: what users write.
//! - [`token`], [`identity`], [`connection`], [`revocation`]: a slice per kind, each read alone.
//! - [`acs`]: the client of the service; knows nothing of Kubernetes.
//! - [`pasted`]: credentials as people paste them.
//! - [`cluster`]: the API server: calls, watches, views and their indexes.
//! - [`engine`]: the queue, the runs, and the door to the world.
//! - [`renewal`]: when something is due.
//! - [`credentials`], [`cache`], [`context`]: what the runs share.
//! - [`operator`], [`health`], [`metrics`]: the process.
//! - [`emulator`]: a look-alike of the service for tests, demos and CI.
//!
//! `src/bin/kubectl-acs/` is a program of its own, `kubectl acs`: a client of the API server that
//! knows [`crd`] and no more of the controllers than a user does.
//!
//! Each program has a feature of its name, so that it compiles only what it needs: `operator`,
//! `emulator` and `plugin`. All are on by default.

#[cfg(feature = "operator")]
pub mod acs;
#[cfg(feature = "operator")]
pub mod cache;
#[cfg(any(feature = "operator", feature = "plugin"))]
pub mod cluster;
#[cfg(feature = "operator")]
pub mod connection;
#[cfg(feature = "operator")]
pub mod context;
#[cfg(any(feature = "operator", feature = "plugin"))]
pub mod crd;
#[cfg(feature = "operator")]
pub mod credentials;
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
