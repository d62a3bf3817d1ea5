//! Cost of existing fleets: memory, idle CPU, a restart, a key rotation, and first tokens during a
//! rotation. Fleets of several sizes are measured in turn, to show how the cost grows.

use std::time::{Duration, Instant};

use acs_identity_operator::crd::{AcsConnection, AcsToken, is_ready};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    chart,
    cost::{self, Cost, millis_each},
    rate, revisions,
    setup::{
        CLIENTS, connect, connection_name, name, operator_run, prepare, remove, start_operator,
    },
    support::{emulator::Emulator, eventually, kubernetes::Cluster, world::Operator},
};

/// Duration of the idle measurement.
const REST: Duration = Duration::from_mins(1);
/// Number of first tokens that are requested during a long rotation, a second apart.
const FIRSTS: usize = 200;
/// Rate limit of ACS for issuing: number of calls and time window, per resource.
const LIMIT: (usize, Duration) = (1000, Duration::from_secs(30));
/// Maximum number of tokens per resource, so that the largest fleets are created within minutes.
const PER_RESOURCE: usize = 10_000;
/// Size that is also measured with foreign Secrets, and their number.
const FOREIGN: (usize, usize) = (10_000, 30_000);

/// Measurements of a fleet of one size.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    pub n: usize,
    /// CPU time to create an identity with its token, in milliseconds.
    pub cpu: f64,
    /// Peak memory in MiB: during creation, idle, during a restart, during a key rotation.
    pub memory: [f64; 4],
}

/// Creates and measures fleets of these sizes.
pub async fn run(cluster: &'static Cluster, client: &Client, sizes: Vec<usize>) {
    let mut all = Vec::new();
    for n in sizes {
        println!("a fleet of {n} identities with one token each");
        all.push(fleet(cluster, client, n).await);
        println!();
    }
    println!("| tokens | made | at rest | restart | key roll | CPU per identity with its token |");
    println!("|---|---|---|---|---|---|");
    for Measured { n, cpu, memory } in &all {
        let [made, rest, restart, roll] = memory;
        println!(
            "| {n} | {made:.0} MiB | {rest:.0} MiB | {restart:.0} MiB | {roll:.0} MiB | {cpu:.2} ms |"
        );
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/target/fleet.svg");
    std::fs::write(path, chart::draw(&all)).expect("writable");
    println!("\ndrawn in {path}\n");
    lateness(cluster, client).await;
}

/// Measures the delay of renewals with the operator's histogram. A minute of lifetime lasts a
/// second, so tokens of an hour are renewed every 40 seconds or sooner.
async fn lateness(cluster: &'static Cluster, client: &Client) {
    let n = 1000;
    let emulators = [Emulator::start(&["--minute", "1s"])];
    let namespace = prepare(client, "lateness", &emulators).await;
    let operator = start_operator(cluster, &namespace);
    connect(client, &namespace, &emulators).await;
    operator_run(client, &namespace, n, 1).await;
    let metric = "acs_identity_operator_renewal_lateness_seconds_bucket{le=\"";
    let mut counts = Vec::new();
    while counts.last().is_none_or(|(_, count)| *count < 5000.0) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (_, metrics) = operator.get("/metrics").await;
        let buckets = metrics.lines().filter_map(|line| line.strip_prefix(metric));
        counts = buckets
            .filter_map(|line| {
                let (limit, count) = line.split_once("\"} ")?;
                Some((limit.to_owned(), count.parse::<f64>().ok()?))
            })
            .collect();
        eprint!(
            "\r  {} renewals  ",
            counts.last().map_or(0.0, |(_, count)| *count)
        );
    }
    eprintln!();
    let all = counts.last().expect("some").1;
    println!("{all} renewals of {n} tokens:");
    for (limit, count) in counts.iter().take(4) {
        println!("  {:.2} % at most {limit} s late", 100.0 * count / all);
    }
    println!();
    drop(operator);
    remove(client, &namespace, n).await;
}

async fn fleet(cluster: &'static Cluster, client: &Client, n: usize) -> Measured {
    let endpoints = n.div_ceil(PER_RESOURCE);
    let mut emulators: Vec<_> = (0..endpoints).map(|_| Emulator::start(&[])).collect();
    let secondaries: Vec<_> = emulators
        .iter_mut()
        .map(|emulator| emulator.printed("secondary-connection-string"))
        .collect();
    let namespace = prepare(client, &format!("fleet-{n}"), &emulators).await;
    let operator = start_operator(cluster, &namespace);
    connect(client, &namespace, &emulators).await;
    let before = cost::cpu(&operator);
    let took = operator_run(client, &namespace, n, endpoints).await;
    let cpu = millis_each(cost::cpu(&operator).saturating_sub(before), n);
    let made = cost::peak(&operator);
    println!(
        "made at {:.0}/s: at most {made:.1} MiB, {cpu:.2} ms CPU each",
        rate(n, took)
    );

    let rest = at_rest(&operator).await;
    drop(operator);
    let (operator, restart) = restart(cluster, client, &namespace, n, &emulators).await;
    if n == FOREIGN.0 {
        foreign(cluster, client, &namespace, n).await;
    }
    let roll = key_roll(client, &namespace, n, &secondaries, &operator).await;
    drop(operator);
    remove(client, &namespace, n + FIRSTS).await;
    Measured {
        n,
        cpu,
        memory: [made, rest, restart, roll],
    }
}

/// Returns the idle memory.
async fn at_rest(operator: &Operator) -> f64 {
    // Follow-up work of the creation is finished by then.
    tokio::time::sleep(Duration::from_secs(15)).await;
    cost::forget_peak(operator);
    let before = cost::cpu(operator);
    tokio::time::sleep(REST).await;
    let cpu = cost::cpu(operator).saturating_sub(before).as_secs_f64() / REST.as_secs_f64();
    let (memory, peak) = (cost::memory(operator), cost::peak(operator));
    println!(
        "at rest: {memory:.1} MiB, at most {peak:.1} MiB; CPU {:.2} % of a core",
        100.0 * cpu
    );
    peak
}

/// Starts an operator for an existing fleet. Returns the time until it has reconciled all of it,
/// and its peak memory.
async fn restart(
    cluster: &Cluster,
    client: &Client,
    namespace: &str,
    n: usize,
    emulators: &[Emulator],
) -> (Operator, f64) {
    let issued = revisions(client, namespace).await;
    let before = Cost::now_without(client, emulators).await;
    let (operator, took) = start_beside(cluster, namespace, n).await;
    // Writes and issued tokens that it wrongly considers due would come now.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after = Cost::now(client, emulators, &operator).await;
    let (reads, writes) = after.calls_since(&before);
    let (memory, peak) = (cost::memory(&operator), cost::peak(&operator));
    println!(
        "restart: all scheduled in {:.1} s, {} tokens issued, {writes} writes, {reads} reads; {memory:.1} MiB, \
         at most {peak:.1} MiB",
        took.as_secs_f64(),
        revisions(client, namespace).await - issued,
    );
    (operator, peak)
}

async fn start_beside(cluster: &Cluster, namespace: &str, n: usize) -> (Operator, Duration) {
    let begun = Instant::now();
    let operator = start_operator(cluster, namespace);
    eventually("every token was looked at", || async {
        (looks(&operator).await >= n).then_some(())
    })
    .await;
    (operator, begun.elapsed())
}

/// Returns the number of token reconciles of the operator.
async fn looks(operator: &Operator) -> usize {
    let (_, metrics) = operator.get("/metrics").await;
    let line = metrics.lines().find(|line| {
        line.starts_with("acs_identity_operator_reconciles_total") && line.contains("AcsToken\"")
    });
    let count = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    count.unwrap_or(0)
}

/// Measures the memory of a second operator, with and without foreign Secrets next to the fleet
/// (K1).
async fn foreign(cluster: &Cluster, client: &Client, namespace: &str, n: usize) {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    stream::iter(0..FOREIGN.1)
        .for_each_concurrent(CLIENTS, |number| {
            let secrets = secrets.clone();
            async move {
                let secret = json!({
                    "metadata": {"name": format!("foreign-{number}")},
                    "stringData": {"password": "x".repeat(800)},
                });
                let secret = serde_json::from_value(secret).expect("a Secret");
                let created = secrets.create(&PostParams::default(), &secret).await;
                created.expect("created");
                if number.is_multiple_of(1000) {
                    eprint!("\r  {number} foreign Secrets  ");
                }
            }
        })
        .await;
    eprintln!();
    let (operator, _) = start_beside(cluster, namespace, n).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!(
        "another one beside {} foreign Secrets: {:.1} MiB, at most {:.1} MiB",
        FOREIGN.1,
        cost::memory(&operator),
        cost::peak(&operator)
    );
}

/// Rotates the key of each connection. Returns the peak memory until no token of a former key is
/// left.
async fn key_roll(
    client: &Client,
    namespace: &str,
    n: usize,
    secondaries: &[String],
    operator: &Operator,
) -> f64 {
    cost::forget_peak(operator);
    let before = cost::cpu(operator);
    let begun = Instant::now();
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    for (number, secondary) in secondaries.iter().enumerate() {
        let change = json!({"stringData": {"connectionString": secondary}});
        let (params, change) = (PatchParams::default(), Patch::Merge(&change));
        let patched = api.patch(&connection_name(number), &params, &change).await;
        patched.expect("patched");
    }
    let firsts = if n >= PER_RESOURCE { FIRSTS } else { 0 };
    let roll = roll(client, namespace, secondaries.len());
    let (rolled, firsts) = futures::join!(roll, first_tokens(client, namespace, firsts));
    let took = rolled.duration_since(begun).as_secs_f64();
    let (calls, span) = LIMIT;
    let of_each = (n + firsts.len()).div_ceil(secondaries.len());
    let windows = u32::try_from(of_each.div_ceil(calls) - 1).expect("few");
    let least = (span * windows).as_secs_f64();
    let (memory, peak) = (cost::memory(operator), cost::peak(operator));
    let cpu = millis_each(cost::cpu(operator).saturating_sub(before), n);
    println!(
        "key roll: {took:.0} s, of which the service's limit takes {least:.0} s; {memory:.1} MiB, at most \
         {peak:.1} MiB, {cpu:.2} ms CPU each"
    );
    if windows > 0 {
        println!("  {:.2} times the service's limit", took / least);
    }
    if let (Some(slowest), Some(p99)) = (firsts.last(), firsts.get(firsts.len() * 99 / 100)) {
        println!(
            "  {} first tokens meanwhile: median {:.2} s, p99 {:.2} s, slowest {:.2} s",
            firsts.len(),
            firsts[firsts.len() / 2].as_secs_f64(),
            p99.as_secs_f64(),
            slowest.as_secs_f64()
        );
    }
    peak
}

/// Waits until no Secret holds a token of a former key; returns when.
async fn roll(client: &Client, namespace: &str, connections: usize) -> Instant {
    let api: Api<AcsConnection> = Api::namespaced(client.clone(), namespace);
    let deadline = Instant::now() + Duration::from_mins(30);
    for number in 0..connections {
        let mut has_begun = false;
        loop {
            let connection = api.get(&connection_name(number)).await.expect("readable");
            let former = connection.status.and_then(|status| status.former_tokens);
            let left = former.as_ref().map_or(0, |former| former.left);
            // The last of several connections may have finished before it is read.
            has_begun |= left > 0 || number > 0 && former.is_some();
            if has_begun && left == 0 {
                break;
            }
            assert!(Instant::now() < deadline, "{left} tokens are left");
            eprint!("\r  {left} tokens of the former key are left  ");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
    eprintln!();
    Instant::now()
}

/// Returns the time that first tokens took, sorted.
async fn first_tokens(client: &Client, namespace: &str, count: usize) -> Vec<Duration> {
    let tokens: Api<AcsToken> = Api::namespaced(client.clone(), namespace);
    let mut took = Vec::new();
    for number in 0..count {
        let begun = Instant::now();
        let first = format!("first-{number}");
        let spec = json!({"identityRef": {"name": name(number)}, "scopes": ["voip"]});
        let token = AcsToken::new(&first, serde_json::from_value(spec).expect("a spec"));
        let made = tokens.create(&PostParams::default(), &token).await;
        made.expect("created");
        eventually("a first token is there", || async {
            let status = tokens.get(&first).await.expect("readable").status?;
            is_ready(&status.conditions).then_some(())
        })
        .await;
        took.push(begun.elapsed());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    took.sort();
    took
}
