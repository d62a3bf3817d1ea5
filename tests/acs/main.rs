//! The ACS client against servers: wire formats, faults, attacks.

// Tests fail by panics. The exceptions in clippy.toml do not apply to helper functions.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod connection_strings;
mod entra;
mod faults;
mod layering;
mod local_token;
mod requests;
#[path = "../support/sources.rs"]
mod sources;
mod tls;
mod vectors;
mod wire;
