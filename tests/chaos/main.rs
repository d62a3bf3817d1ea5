//! `make chaos`: stops, kills and disconnects real processes while users change objects; after each
//! round, everything is repaired and the invariants are checked in the cluster and in the
//! emulator's state.
//!
//! `CHAOS_ROUNDS` is the number of rounds, `CHAOS_SEED` selects them: the same seed chooses the
//! same disturbances and changes, but their timing relative to the processes depends on the
//! machine. With `SOAK_MINUTES`, a fleet is observed for that time instead.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test ends at the first surprise"
)]

#[path = "../support/mod.rs"]
mod support;

mod changes;
mod checks;
mod disturbances;
mod soak;

use std::time::{Duration, Instant};

use fastrand::Rng;

use changes::People;
use checks::Seen;
use disturbances::{Surroundings, emulator_arguments};
use support::world::World;

const IDENTITIES: u16 = 4;
const TOKENS: u16 = 8;

/// Timeline of a run, for finding the cause of a failure.
struct Timeline {
    began: Instant,
    lines: Vec<String>,
}

impl Timeline {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            lines: Vec::new(),
        }
    }

    fn note(&mut self, line: String) {
        self.lines.push(format!(
            "{:8.1}s  {line}",
            self.began.elapsed().as_secs_f64()
        ));
    }
}

fn number(variable: &str, default: u64) -> u64 {
    let value = std::env::var(variable).ok();
    value.map_or(default, |value| value.parse().expect("a number"))
}

/// Waits for a random moment.
async fn moment(random: &mut Rng, most: u64) {
    tokio::time::sleep(Duration::from_millis(random.u64(100..most))).await;
}

#[tokio::main(flavor = "multi_thread")]
async fn main() {
    let rounds = number("CHAOS_ROUNDS", 10);
    let seed = number("CHAOS_SEED", fastrand::u64(..1_000_000));
    let minutes = number("SOAK_MINUTES", 0);
    if minutes > 0 {
        let holds = soak::run(seed, minutes).await;
        std::process::exit(i32::from(!holds));
    }
    println!("chaos: {rounds} rounds; again with CHAOS_SEED={seed} CHAOS_ROUNDS={rounds}");
    let mut random = Rng::with_seed(seed);
    let cluster = support::kubernetes::another_that_restarts();
    let world = World::bare_in(cluster, &emulator_arguments(), &[]).await;
    world.connect("default", &world.emulator.connection_string.clone());
    let mut surroundings = Surroundings::new(world).await;
    let mut people = People::new(IDENTITIES, TOKENS);
    let mut seen = Seen::default();
    let mut timeline = Timeline::new();
    for round in 1..=rounds {
        timeline.note(format!("--- round {round}"));
        let began = Instant::now();
        for _ in 0..random.u8(1..=3) {
            people
                .change(&surroundings.world, &mut random, &mut timeline)
                .await;
            let disturbance = surroundings.disturb(&mut random, &mut timeline).await;
            moment(&mut random, 4_000).await;
            if disturbance.leaves_the_api() {
                people
                    .change(&surroundings.world, &mut random, &mut timeline)
                    .await;
                seen.look(&surroundings.world).await;
            }
            moment(&mut random, 8_000).await;
            surroundings.end(disturbance, &mut timeline).await;
        }
        surroundings.heal(&mut timeline).await;
        let healed = Instant::now();
        if let Err(broken) = checks::settles(&surroundings.world, &people, &mut seen).await {
            timeline.note(format!("BROKEN {broken}"));
            report(&mut surroundings, &timeline, seed, round);
        }
        people.settled();
        println!(
            "chaos: round {round} of {rounds} holds; it took {:.0} s, and {:.0} s to settle",
            began.elapsed().as_secs_f64(),
            healed.elapsed().as_secs_f64()
        );
    }
    println!("chaos: {}; {}", seen.sum(), surroundings.sum());
}

/// Prints all available information, and exits.
fn report(surroundings: &mut Surroundings, timeline: &Timeline, seed: u64, round: u64) -> ! {
    println!("{}", surroundings.log());
    println!("{}", timeline.lines.join("\n"));
    println!("again with CHAOS_SEED={seed} CHAOS_ROUNDS={round}");
    std::process::exit(1);
}
