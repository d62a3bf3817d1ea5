//! Short-lived Azure Communication Services credentials as Kubernetes resources.

pub mod acs;
pub mod crd;
pub mod emulator;
