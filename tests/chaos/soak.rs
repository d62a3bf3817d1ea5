//! `make soak`: a fleet whose tokens are renewed every few minutes, and users who change it, for an
//! hour. The operator's resource usage must be as constant as its work, and every invariant must
//! hold.
//!
//! `SOAK_MINUTES` is the duration, `SOAK_TOKENS` the number of tokens.

use std::time::{Duration, Instant};

use acs_identity_operator::crd::AcsToken;
use fastrand::Rng;

use crate::{
    Timeline,
    changes::People,
    checks::{self, Seen},
    moment, number,
    support::{
        kubernetes,
        world::{World, token_manifest},
    },
};

/// Duration of a minute of token lifetime: a token of one day lasts six real minutes, and is
/// renewed after four.
const MINUTE: &str = "250ms";
/// Number of times that changes pause and the whole world is checked.
const RESTS: u32 = 10;
/// Measures: name, and maximum excess of the last third over the first, as a share and as an
/// absolute value.
const MEASURES: [(&str, f64, f64); 4] = [
    ("memory (MiB)", 0.1, 1.0),
    ("open files", 0.0, 4.0),
    ("tasks", 0.1, 8.0),
    ("first token (ms)", 0.5, 100.0),
];

type Sample = [f64; MEASURES.len()];

/// Runs for the whole time; returns false if an invariant was violated.
pub async fn run(seed: u64, minutes: u64) -> bool {
    let tokens = u16::try_from(number("SOAK_TOKENS", 2000)).expect("a small number");
    println!(
        "soak: {tokens} tokens for {minutes} minutes; again with CHAOS_SEED={seed} SOAK_MINUTES={minutes}"
    );
    let mut random = Rng::with_seed(seed);
    let emulator = ["--minute", MINUTE];
    let mut world = World::bare_in(kubernetes::another(), &emulator, &[]).await;
    world.connect("default", &world.emulator.connection_string.clone());
    world.start_operator();
    world.identity("prober", "");
    let mut people = People::new(tokens / 2, tokens);
    people.identities.insert("prober".to_owned());
    let mut seen = Seen::default();
    let mut timeline = Timeline::new();
    let mut samples = Vec::new();
    for rest in 0..=RESTS {
        people.complete(&world);
        if let Err(broken) = checks::settles(&world, &people, &mut seen).await {
            println!("{}\nBROKEN {broken}", timeline.lines.join("\n"));
            return false;
        }
        people.settled();
        seen.forget_dead(&world).await;
        if rest == RESTS {
            break;
        }
        let end = Instant::now() + Duration::from_secs(minutes * 60) / RESTS;
        let mut some = Vec::new();
        while Instant::now() < end {
            people.change(&world, &mut random, &mut timeline).await;
            moment(&mut random, 3_000).await;
            some.push(sample(&mut world).await);
            seen.look(&world).await;
        }
        println!("soak: {} of {RESTS} holds; {}", rest + 1, told(&some));
        samples.push(some);
    }
    println!("soak: {}", seen.sum());
    println!("soak: {} renewals", renewals(&world).await);
    is_flat(&samples.into_iter().skip(1).collect::<Vec<_>>())
}

async fn metric(world: &World, name: &str) -> f64 {
    let url = &world.operator.as_ref().expect("the operator runs").url;
    let answer = reqwest::get(format!("{url}/metrics")).await;
    let text = answer.expect("an answer").text().await.expect("text");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
    let value = lines.find_map(|rest| rest.strip_prefix(' '));
    let value = value.expect("a metric without labels");
    value.parse().expect("a number")
}

async fn renewals(world: &World) -> f64 {
    metric(
        world,
        "acs_identity_operator_renewal_lateness_seconds_count",
    )
    .await
}

/// Measures the operator's resource usage, and the time that a new token takes.
async fn sample(world: &mut World) -> Sample {
    let began = Instant::now();
    world.apply(&token_manifest("probe", "prober", "scopes: [chat]"));
    world.ready("probe").await;
    let first = began.elapsed().as_secs_f64() * 1000.0;
    world.delete::<AcsToken>("probe").await;
    world.gone::<AcsToken>("probe").await;
    [
        metric(world, "process_resident_memory_bytes").await / f64::from(1 << 20),
        metric(world, "process_open_fds").await,
        metric(world, "tokio_alive_tasks").await,
        first,
    ]
}

/// Returns the median.
fn median(samples: &[Sample], measure: usize) -> f64 {
    let mut all: Vec<_> = samples.iter().map(|sample| sample[measure]).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn told(samples: &[Sample]) -> String {
    let all = MEASURES.iter().enumerate();
    let all = all.map(|(at, (name, ..))| format!("{name} {:.0}", median(samples, at)));
    all.collect::<Vec<_>>().join(", ")
}

/// Whether the last third uses as much as the first, excluding the first tenth.
fn is_flat(tenths: &[Vec<Sample>]) -> bool {
    let third = tenths.len() / 3;
    let (first, last) = (
        tenths[..third].concat(),
        tenths[tenths.len() - third..].concat(),
    );
    let mut is_flat = true;
    for (at, (name, share, more)) in MEASURES.iter().enumerate() {
        let (before, after) = (median(&first, at), median(&last, at));
        let is_more = after > before * (1.0 + share) + more;
        let verdict = if is_more { "GROWS" } else { "flat" };
        println!("soak: {name}: {before:.1} at first, {after:.1} in the end: {verdict}");
        is_flat &= !is_more;
    }
    is_flat
}
