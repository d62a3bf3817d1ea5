//! Commands that change the cluster, one module each.

pub mod change;
pub mod create;
pub mod delete;
pub mod exchange;
pub mod generate;
pub mod renew;
pub mod revoke;
pub mod revoke_by_label;
pub mod suspend;
pub mod user;
