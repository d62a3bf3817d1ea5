//! Tests of the `kubectl acs` program with a real API server, the operator and the emulator. One
//! module per command; the names of the tests are sentences.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test ends at the first surprise"
)]

#[path = "../support/mod.rs"]
mod support;

mod ask;
mod create;
mod docs;
mod doctor;
mod errors;
mod exchange;
mod generate;
mod inspect;
mod issue;
mod kubectl;
mod leaks;
mod lives;
mod place;
mod revocations;
mod run;
mod status;
mod teams;
