//! The ACS client against servers: wire formats, faults, attacks.

// A test's way to fail. The clippy.toml exceptions don't reach the helpers beside the tests.
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
