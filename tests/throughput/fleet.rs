//! What a fleet costs that is there already: memory, rest, a restart, a roll of the key, and first
//! tokens while all others wait for theirs.

use std::time::{Duration, Instant};

use acs_identity_operator::crd::{AcsConnection, AcsToken, is_ready};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    Cost, connect, operator_run, prepare, rate, revisions, start_operator,
    support::{emulator::Emulator, eventually, kubernetes::Cluster, world::Operator},
};

/// How long the operator is watched at rest.
const REST: Duration = Duration::from_secs(30);
/// How many first tokens are asked for during the roll, a second apart.
const FIRSTS: usize = 60;
/// The service's limit for issuing: so many calls in so long.
const LIMIT: (usize, Duration) = (1000, Duration::from_secs(30));

/// Makes the fleet of `n` tokens, and does to it what befalls one.
pub async fn run(cluster: &'static Cluster, client: &Client, n: usize) {
    println!("a fleet of {n} identities with one token each\n");
    let mut emulator = Emulator::start(&[]);
    let secondary = emulator.told("secondary-connection-string");
    let namespace = prepare(client, "fleet", &emulator).await;
    let operator = start_operator(cluster, &namespace);
    connect(client, &namespace).await;
    let made = operator_run(client, &namespace, n).await;
    println!("made at {:.0}/s", rate(n, made));

    let before = Cost::now(client, &emulator, &operator).await;
    tokio::time::sleep(REST).await;
    let after = Cost::now(client, &emulator, &operator).await;
    let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64() / REST.as_secs_f64();
    println!("memory of the operator: {:.1} MiB", after.memory_mib);
    println!("CPU at rest: {:.2} % of a core", 100.0 * cpu);

    drop(operator);
    let issued = revisions(client, &namespace).await;
    let before = writes(&Cost::now_without(client, &emulator).await);
    let begun = Instant::now();
    let operator = start_operator(cluster, &namespace);
    eventually("every token was looked at", || async {
        (looks(&operator).await >= n).then_some(())
    })
    .await;
    let took = begun.elapsed().as_secs_f64();
    let after = Cost::now(client, &emulator, &operator).await;
    println!(
        "restart: all scheduled in {took:.1} s, {} tokens issued, {} writes",
        revisions(client, &namespace).await - issued,
        writes(&after) - before,
    );

    let begun = Instant::now();
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let change = json!({"stringData": {"connectionString": secondary}});
    api.patch("acs", &PatchParams::default(), &Patch::Merge(&change))
        .await
        .expect("patched");
    let (rolled, firsts) = futures::join!(roll(client, &namespace), firsts(client, &namespace, n));
    let took = rolled.duration_since(begun).as_secs_f64();
    let (calls, span) = LIMIT;
    let windows = u32::try_from((n + FIRSTS).div_ceil(calls) - 1).expect("few");
    let least = (span * windows).as_secs_f64();
    println!("key roll: {took:.0} s; the service's limit allows {least:.0} s");
    if windows > 0 {
        println!("  {:.2} times the service's limit", took / least);
    }
    let slowest = firsts.last().expect("some").as_secs_f64();
    let median = firsts[FIRSTS / 2].as_secs_f64();
    let after = Cost::now(client, &emulator, &operator).await;
    println!("  memory of the operator: {:.1} MiB", after.memory_mib);
    println!("first tokens meanwhile: median {median:.2} s, slowest of {FIRSTS} {slowest:.2} s");
}

/// When no Secret holds a token of the former key any longer.
async fn roll(client: &Client, namespace: &str) -> Instant {
    let connections: Api<AcsConnection> = Api::namespaced(client.clone(), namespace);
    let deadline = Instant::now() + Duration::from_mins(30);
    let mut has_begun = false;
    loop {
        let connection = connections.get("default").await.expect("readable");
        let former = connection.status.and_then(|status| status.former_tokens);
        let left = former.map_or(0, |former| former.left);
        has_begun |= left > 0;
        if has_begun && left == 0 {
            return Instant::now();
        }
        assert!(Instant::now() < deadline, "{left} tokens are left");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// How long first tokens took, the quickest first.
async fn firsts(client: &Client, namespace: &str, n: usize) -> Vec<Duration> {
    let tokens: Api<AcsToken> = Api::namespaced(client.clone(), namespace);
    let mut took = Vec::new();
    for number in 0..FIRSTS {
        let begun = Instant::now();
        let name = format!("first-{number}");
        let identity = format!("user-{}", number % n);
        let spec = json!({"identityRef": {"name": identity}, "scopes": ["voip"]});
        let token = AcsToken::new(&name, serde_json::from_value(spec).expect("a spec"));
        let made = tokens.create(&PostParams::default(), &token).await;
        made.expect("created");
        eventually("a first token is there", || async {
            let status = tokens.get(&name).await.expect("readable").status?;
            is_ready(&status.conditions).then_some(())
        })
        .await;
        took.push(begun.elapsed());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    took.sort();
    took
}

fn writes(cost: &Cost) -> u64 {
    let written = cost
        .writes
        .iter()
        .filter(|(call, _)| !call.starts_with("GET"));
    written.map(|(_, count)| count).sum()
}

/// How many runs of tokens the operator has made.
async fn looks(operator: &Operator) -> usize {
    let (_, metrics) = operator.get("/metrics").await;
    let line = metrics.lines().find(|line| {
        line.starts_with("acs_identity_operator_reconciles_total") && line.contains("AcsToken\"")
    });
    let count = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    count.unwrap_or(0)
}
