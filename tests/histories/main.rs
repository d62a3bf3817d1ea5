//! Random histories of the shipped operator: its queue and its reconciles run on an `engine::World`
//! whose implementation is a model of the API server and of ACS, with crashes between any two
//! effects, lost answers, stale views, clocks that jump, and users who change their minds. The
//! invariants of the contract are checked after each step, and the final state at the end.
//!
//! - `events`: events of a history; `history`: executes it.
//! - `small`: small worlds, searched exhaustively; `written`: regression tests found by a search.
//! - `cluster`, `service`, `world`: the API server, ACS, and the network and time between them.
//! - `operator`: a process of the operator; `door`: its access to the world; `successor`: another
//!   process.
//! - `connection`: the connection and its keys.
//! - `teams`: a Teams user and their Entra token; `others`: other clients that write Secrets;
//!   `backup`: restored objects.
//! - `pods`: pods that use Secrets.
//! - `workloads`: workloads that are restarted when their token changes.
//! - `truth`: what the contract owes to users; `invariants`, `running`, `rest`: what must hold.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_in_result,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test ends at the first surprise"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::large_enum_variant,
    clippy::needless_pass_by_value,
    clippy::option_option,
    clippy::similar_names,
    clippy::or_fun_call,
    clippy::struct_excessive_bools,
    clippy::too_many_lines,
    reason = "a model of small numbers, in which what happens is told in one place"
)]

mod backup;
mod cluster;
mod connection;
mod door;
mod events;
mod history;
mod invariants;
mod layering;
mod operator;
mod others;
mod pods;
mod rest;
mod running;
mod service;
mod small;
mod story;
mod successor;
mod teams;
mod truth;
mod workloads;
mod world;
mod written;

use std::{
    cell::Cell,
    fmt::Write as _,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// Number of histories, unless `HISTORIES` sets another.
const HISTORIES: u64 = 50_000;
/// Seed, unless `HISTORIES_SEED` sets another: the same everywhere, so that a failure is caused by
/// a change and not by chance. `make histories` explores other seeds.
const SEED: u64 = 1;
/// Number of threads; each has a seed of its own, so the number is part of the seed.
const THREADS: u64 = 2;

#[test]
fn no_history_breaks_an_invariant() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let histories = number("HISTORIES").unwrap_or(HISTORIES);
    let seed = number("HISTORIES_SEED").unwrap_or(SEED);
    let steps = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    let found = thread::scope(|scope| {
        let runs: Vec<_> = (0..THREADS)
            .map(|thread| {
                let share = u32::try_from(histories.div_ceil(THREADS)).unwrap();
                let (steps, is_over) = (&steps, &is_over);
                scope.spawn(move || run(seed + thread, share, steps, is_over))
            })
            .collect();
        runs.into_iter().find_map(|run| run.join().unwrap())
    });
    println!(
        "{histories} histories, {} steps, seed {seed}",
        steps.load(Ordering::Relaxed)
    );
    if let Some(found) = found {
        panic!("{found}\nAgain with HISTORIES_SEED={seed} HISTORIES={histories}.");
    }
}

/// Runs this many histories; returns the shrunk history that violated an invariant, with its story.
fn run(seed: u64, histories: u32, steps: &AtomicU64, is_over: &AtomicBool) -> Option<String> {
    let config = Config {
        cases: histories,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let strategy = (events::setup(), events::events());
    let is_shrinking = Cell::new(false);
    let ran = runner.run(&strategy, |(setup, events)| {
        // The other thread has found a failure.
        if is_over.load(Ordering::Relaxed) && !is_shrinking.get() {
            return Ok(());
        }
        let outcome = history::happen(setup, &events, false);
        steps.fetch_add(outcome.steps, Ordering::Relaxed);
        match outcome.broken {
            None => Ok(()),
            // Shrinking must preserve the violation of the same invariant.
            Some(broken) => {
                is_shrinking.set(true);
                is_over.store(true, Ordering::Relaxed);
                Err(TestCaseError::fail(broken))
            }
        }
    });
    match ran {
        Ok(()) => None,
        Err(TestError::Fail(_, (setup, events))) => Some(tell(setup, &events)),
        Err(TestError::Abort(why)) => Some(why.to_string()),
    }
}

fn tell(setup: events::Setup, events: &[events::Event]) -> String {
    let outcome = history::happen(setup, events, true);
    let mut text = format!("{}\n\n{setup:?}\n", outcome.broken.unwrap_or_default());
    for event in events {
        let _ = writeln!(text, "  {event:?}");
    }
    text.push_str("\nThe story:\n");
    for line in outcome.story {
        text.push_str(&line);
        text.push('\n');
    }
    text
}
