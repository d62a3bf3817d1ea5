//! Short-lived Azure Communication Services credentials as Kubernetes resources.
//!
//! How an event flows: a watch ([`cluster`]) keeps a view current and wakes the objects that it
//! concerns; the controller of a kind ([`connection`], [`identity`], [`token`], [`revocation`]) observes, decides,
//! acts and reports, one step at a time, until there is nothing left to do.
//!
//! - [`crd`]: what users write.
//! - [`token`], [`identity`], [`connection`], [`revocation`]: a slice per kind, each read alone.
//! - [`acs`]: the client of the service; knows nothing of Kubernetes.
//! - [`cluster`]: effects on the cluster that the slices share.
//! - [`renewal`]: when something is due.
//! - [`gate`], [`memory`], [`wake`], [`context`]: what the controllers share.
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
pub mod emulator;
pub mod gate;
pub mod health;
pub mod hold_back;
pub mod identity;
pub mod memory;
pub mod metrics;
pub mod operator;
pub mod renewal;
pub mod revocation;
pub mod token;
pub mod wake;
