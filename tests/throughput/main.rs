//! Throughput of token creation, compared to a raw writer that makes the same API writes without
//! logic; and the cost in calls, CPU and memory. `N` (default 1000) is the number of identities,
//! with one token each. With `FLEET` (comma-separated sizes), the cost of existing fleets is
//! measured instead.
//!
//! Everything runs on one machine, so only ratios within one run are meaningful.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]
#![allow(clippy::print_stderr, reason = "progress")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a benchmark ends at the first surprise"
)]

mod chart;
mod cost;
mod fleet;
mod raw;
mod setup;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use acs_identity_operator::crd::AcsToken;
use kube::{Api, Client};

use cost::Cost;
use raw::raw_writer;
use setup::{CLIENTS, connect, operator_run, prepare, remove, start_operator, sum};
use support::{
    emulator::Emulator,
    kubernetes::{Cluster, cluster},
};

/// Number of rounds of each; the median counts.
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() {
    let n: usize = std::env::var("N")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1000);
    let cluster = cluster();
    let client = cluster.client().await;
    if let Ok(sizes) = std::env::var("FLEET") {
        let sizes = sizes.split(',').map(|n| n.parse().expect("a number"));
        return fleet::run(cluster, &client, sizes.collect()).await;
    }
    println!("{n} identities with one token each, {CLIENTS} clients, {ROUNDS} rounds\n");

    let emulators = [Emulator::start(&[])];
    let mut shares = Vec::new();
    for round in 1..=ROUNDS {
        let namespace = prepare(&client, &format!("raw-{round}"), &emulators).await;
        let raw = rate(n, raw_writer(&client, &namespace, n).await);
        remove(&client, &namespace, n).await;

        let namespace = prepare(&client, &format!("operator-{round}"), &emulators).await;
        let operator = start_operator(cluster, &namespace);
        connect(&client, &namespace, &emulators).await;
        let before = Cost::now(&client, &emulators, &operator).await;
        let ours = rate(n, operator_run(&client, &namespace, n, 1).await);
        let after = Cost::now(&client, &emulators, &operator).await;
        let share = 100.0 * ours / raw;
        println!("round {round}: operator {ours:.0}/s, raw writer {raw:.0}/s, share {share:.0} %");
        if round == 1 {
            after.print_since(&before, n, "new identity with one token");
        } else {
            let cpu = cost::millis_each(after.cpu.saturating_sub(before.cpu), n);
            println!("  CPU of the operator: {cpu:.2} ms per new identity with one token");
        }
        let peak = cost::peak(&operator);
        println!(
            "  memory of the operator: {:.1} MiB, at most {peak:.1} MiB\n",
            after.memory_mib
        );
        shares.push(share);
        drop(operator);
        remove(&client, &namespace, n).await;
    }
    shares.sort_by(f64::total_cmp);
    println!(
        "median share of the raw writer's rate: {:.0} %\n",
        shares[ROUNDS / 2]
    );
    renewals(cluster, &client).await;
}

/// Measures renewals. A minute of lifetime lasts a second, so that renewals come soon.
async fn renewals(cluster: &'static Cluster, client: &Client) {
    let n = 100;
    let emulators = [Emulator::start(&["--minute", "1s"])];
    let namespace = prepare(client, "renewals", &emulators).await;
    let operator = start_operator(cluster, &namespace);
    connect(client, &namespace, &emulators).await;
    operator_run(client, &namespace, n, 1).await;
    let before = Cost::now(client, &emulators, &operator).await;
    let first = revisions(client, &namespace).await;
    let goal = first + n;
    support::eventually("every token is renewed", || async {
        (revisions(client, &namespace).await >= goal).then_some(())
    })
    .await;
    let after = Cost::now(client, &emulators, &operator).await;
    let renewed = revisions(client, &namespace).await - first;
    println!("{renewed} renewals");
    after.print_since(&before, renewed, "renewal");
}

async fn revisions(client: &Client, namespace: &str) -> usize {
    let tokens: Api<AcsToken> = Api::namespaced(client.clone(), namespace);
    let revision = |token: &AcsToken| token.status.as_ref()?.revision;
    let count = |token: &AcsToken| usize::try_from(revision(token).unwrap_or(0)).expect("few");
    sum(&tokens, count).await
}

fn rate(n: usize, took: Duration) -> f64 {
    f64::from(u32::try_from(n).expect("few")) / took.as_secs_f64()
}
