//! Access to the cluster: session, permissions, objects, waiting.

pub mod create;
pub mod gitops;
pub mod held_token;
pub mod leases;
pub mod manifest;
pub mod overview;
pub mod request;
pub mod rights;
pub mod selector;
pub mod session;
pub mod wait;
