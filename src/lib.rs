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
//! - [`cluster`]: the API server: calls, watches, views and their indexes.
//! - [`engine`]: the queue, the runs, and the door to the world.
//! - [`renewal`]: when something is due.
//! - [`credentials`], [`memory`], [`context`]: what the runs share.
//! - [`operator`], [`health`], [`metrics`]: the process.
//! - [`emulator`]: a look-alike of the service for tests, demos and CI.
//!
//! `src/bin/kubectl-acs/` is a program of its own, `kubectl acs`: a client of the API server that
//! knows [`crd`] and no more of the controllers than a user does.

pub mod acs;
pub mod cluster;
pub mod connection;
pub mod context;
pub mod crd;
pub mod credentials;
pub mod emulator;
pub mod engine;
pub mod health;
pub mod identity;
pub mod memory;
pub mod metrics;
pub mod operator;
pub mod renewal;
pub mod revocation;
pub mod token;
