//! End-to-end tests of the operator: a real API server, the emulator over HTTP, the real program.
//! One module per topic; every test's name is a sentence.

// For a large `json!`.
#![recursion_limit = "256"]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test ends at the first surprise"
)]

#[path = "../support/mod.rs"]
mod support;

mod adoption;
mod ambient;
mod attacker;
mod bad_input;
mod bad_world;
mod break_glass;
mod chart;
mod clocks;
mod cluster_connection;
mod crash;
mod credentials;
mod deletion;
mod entra;
mod events;
mod gitops;
mod issuing;
mod leader;
mod leaks;
mod missing;
mod monitoring;
mod pages;
mod pod;
mod policy;
mod readiness;
mod refused_keys;
mod releases;
mod reported;
mod requests;
mod rest;
mod restart;
mod restored;
mod revocation;
mod rights;
mod rotation;
mod secrets;
mod secure_metrics;
mod teams;
mod trying_out;
mod user_roles;
mod waiting;
mod workloads;
