//! Tests of the `kubectl acs console` program, as users and attackers use it: in Chromium, with a
//! real API server, the operator and the emulator. The names of the tests are sentences.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test ends at the first surprise"
)]

#[path = "../plugin/run.rs"]
#[allow(dead_code, reason = "the tests of the plugin use all of it")]
mod run;
#[path = "../support/mod.rs"]
mod support;

mod actions;
mod browser;
mod console;
mod door;
mod fleet;
mod life;
mod live;
mod looks;
mod portal;
mod rights;
mod secrets;
