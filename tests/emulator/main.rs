//! Tests of the emulator program, over raw sockets and with the official Python client. The names
//! of the tests are sentences.

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

mod assignments;
mod caller;
mod control;
mod durability;
mod entra;
mod exchange;
mod faults;
mod garbage;
mod identities;
mod layering;
mod program;
mod refusals;
mod sdk;
mod settings;
mod signatures;
mod tls;
mod tokens;
mod versions;
