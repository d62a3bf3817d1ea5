//! `kubectl acs console` as a person and as an attacker meet it: the real program, in Chromium,
//! against a real API server, the operator and the emulator. Every name is a sentence.

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
