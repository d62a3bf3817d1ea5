//! Commands that report, and helper commands, one module each.

pub mod complete;
pub mod doctor;
pub mod export;
pub mod inspect;
pub mod release;
pub mod status;
