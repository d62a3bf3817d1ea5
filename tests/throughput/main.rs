//! How fast tokens come, beside a raw writer that makes the same API writes with no logic; what they
//! cost in calls, CPU and memory. `N` (default 1000) is the number of identities, with one token each.
//! With `FLEET` instead what befalls a fleet of so many.
//!
//! Everything runs on one machine, so only the ratios of one run mean something.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a benchmark ends at the first surprise"
)]

mod fleet;
#[path = "../support/mod.rs"]
mod support;

use std::{
    collections::BTreeMap,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use acs_identity_operator::crd::{AcsIdentity, AcsToken, is_ready};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use support::{
    emulator::Emulator,
    kubernetes::{Cluster, cluster},
    world::Operator,
};

/// Clients that create objects side by side, and writes that the raw writer has under way.
const CLIENTS: usize = 16;
/// Rounds of each; the median counts.
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() {
    let n: usize = std::env::var("N")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1000);
    let cluster = cluster();
    let client = cluster.client().await;
    if std::env::var_os("FLEET").is_some() {
        return fleet::run(cluster, &client, n).await;
    }
    println!("{n} identities with one token each, {CLIENTS} clients, {ROUNDS} rounds\n");

    let emulator = Emulator::start(&[]);
    let mut shares = Vec::new();
    for round in 1..=ROUNDS {
        let namespace = prepare(&client, &format!("raw-{round}"), &emulator).await;
        let raw = rate(n, raw_writer(&client, &namespace, n).await);
        remove(&client, &namespace).await;

        let namespace = prepare(&client, &format!("operator-{round}"), &emulator).await;
        let operator = start_operator(cluster, &namespace);
        connect(&client, &namespace).await;
        let before = Cost::now(&client, &emulator, &operator).await;
        let ours = rate(n, operator_run(&client, &namespace, n).await);
        let after = Cost::now(&client, &emulator, &operator).await;
        let share = 100.0 * ours / raw;
        println!("round {round}: operator {ours:.0}/s, raw writer {raw:.0}/s, share {share:.0} %");
        if round == 1 {
            after.print_since(&before, n, "new identity with one token");
        }
        println!("  memory of the operator: {:.1} MiB\n", after.memory_mib);
        shares.push(share);
        drop(operator);
        strip(&client, &namespace).await;
        remove(&client, &namespace).await;
    }
    shares.sort_by(f64::total_cmp);
    println!(
        "median share of the raw writer's rate: {:.0} %\n",
        shares[ROUNDS / 2]
    );
    renewals(cluster, &client).await;
}

/// A minute of life lasts a second: what a renewal costs is seen within one.
async fn renewals(cluster: &'static Cluster, client: &Client) {
    let n = 100;
    let emulator = Emulator::start(&["--minute", "1s"]);
    let namespace = prepare(client, "renewals", &emulator).await;
    let operator = start_operator(cluster, &namespace);
    connect(client, &namespace).await;
    operator_run(client, &namespace, n).await;
    let before = Cost::now(client, &emulator, &operator).await;
    let first = revisions(client, &namespace).await;
    let goal = first + i64::try_from(n).expect("few");
    support::eventually("every token is renewed", || async {
        (revisions(client, &namespace).await >= goal).then_some(())
    })
    .await;
    let after = Cost::now(client, &emulator, &operator).await;
    let renewed = usize::try_from(revisions(client, &namespace).await - first).expect("few");
    println!("{renewed} renewals");
    after.print_since(&before, renewed, "renewal");
}

async fn revisions(client: &Client, namespace: &str) -> i64 {
    let tokens: Api<AcsToken> = Api::namespaced(client.clone(), namespace);
    let tokens = tokens.list(&ListParams::default()).await.expect("readable");
    tokens
        .iter()
        .filter_map(|token| token.status.as_ref()?.revision)
        .sum()
}

fn rate(n: usize, took: Duration) -> f64 {
    let n = u32::try_from(n).expect("few");
    f64::from(n) / took.as_secs_f64()
}

/// What was spent so far.
struct Cost {
    writes: BTreeMap<String, u64>,
    acs: usize,
    cpu: Duration,
    memory_mib: f64,
}

impl Cost {
    async fn now(client: &Client, emulator: &Emulator, operator: &Operator) -> Self {
        let pid = operator.process.id();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        let stat = stat.expect("a running operator");
        let fields: Vec<_> = stat
            .rsplit(')')
            .next()
            .expect("fields")
            .split_whitespace()
            .collect();
        let ticks: u64 =
            fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
        let status = status.expect("a running operator");
        let rss = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("VmRSS");
        let rss: f64 = rss.trim().trim_end_matches(" kB").parse().expect("kB");
        Self {
            cpu: Duration::from_millis(ticks * 10),
            memory_mib: rss / 1024.0,
            ..Self::now_without(client, emulator).await
        }
    }

    /// The same while no operator runs.
    async fn now_without(client: &Client, emulator: &Emulator) -> Self {
        let request = http::Request::get("/metrics")
            .body(Vec::new())
            .expect("a request");
        let text = client
            .request_text(request)
            .await
            .expect("metrics of the API server");
        let mut writes = BTreeMap::new();
        for line in text
            .lines()
            .filter(|line| line.starts_with("apiserver_request_total{"))
        {
            let label = |name: &str| {
                let (_, rest) = line.split_once(&format!("{name}=\""))?;
                rest.split('"').next()
            };
            let (verb, resource) = (label("verb").unwrap_or(""), label("resource").unwrap_or(""));
            let subresource = label("subresource").unwrap_or("");
            // What the bench itself does (POST of our kinds, LIST) is not the operator's.
            let is_operators = matches!(
                (verb, resource),
                ("POST" | "PUT" | "GET" | "DELETE", "secrets")
                    | ("PATCH" | "PUT" | "GET", "acstokens" | "acsidentities")
                    | ("POST" | "PATCH", "events")
            );
            if is_operators {
                let count = line
                    .rsplit(' ')
                    .next()
                    .and_then(|n| n.parse::<f64>().ok())
                    .unwrap_or(0.0);
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a count"
                )]
                let count = count as u64;
                *writes
                    .entry(format!("{verb} {resource} {subresource}"))
                    .or_default() += count;
            }
        }
        let calls = emulator.requests().await;
        Self {
            writes,
            acs: calls.len(),
            cpu: Duration::ZERO,
            memory_mib: 0.0,
        }
    }

    fn print_since(&self, before: &Self, n: usize, what: &str) {
        let per = |count: u64| {
            f64::from(u32::try_from(count).unwrap_or(u32::MAX))
                / f64::from(u32::try_from(n).unwrap_or(1))
        };
        for (call, count) in &self.writes {
            let new = count - before.writes.get(call).copied().unwrap_or(0);
            if new > 0 {
                println!("  {:<28} {:.2} per {what}", call.trim(), per(new));
            }
        }
        println!(
            "  {:<28} {:.2} per {what}",
            "calls to ACS",
            per((self.acs - before.acs) as u64)
        );
        let cpu = self.cpu.saturating_sub(before.cpu).as_secs_f64() * 1000.0;
        println!(
            "  {:<28} {:.2} ms per {what}",
            "CPU of the operator",
            cpu / f64::from(u32::try_from(n).unwrap_or(1))
        );
    }
}

fn start_operator(cluster: &Cluster, namespace: &str) -> Operator {
    Operator::start(
        Command::new(env!("CARGO_BIN_EXE_acs-identity-operator"))
            .env("KUBECONFIG", &cluster.kubeconfig)
            .args(["--watch-namespace", namespace, "--address", "127.0.0.1:0"])
            .args([
                "--log-format",
                "text",
                "--allow-insecure-endpoint",
                "127.0.0.1",
                // A restart is measured, not the wait for a Lease.
                "--no-leader-elect",
            ]),
    )
}

async fn prepare(client: &Client, name: &str, emulator: &Emulator) -> String {
    let namespace = format!("bench-{}-{name}", std::process::id());
    let object: Namespace =
        serde_json::from_value(json!({"metadata": {"name": namespace}})).expect("a namespace");
    Api::all(client.clone())
        .create(&PostParams::default(), &object)
        .await
        .expect("created");
    let secret: Secret = serde_json::from_value(json!({
        "metadata": {"name": "acs"},
        "stringData": {"connectionString": emulator.connection_string},
    }))
    .expect("a Secret");
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    api.create(&PostParams::default(), &secret)
        .await
        .expect("created");
    namespace
}

async fn connect(client: &Client, namespace: &str) {
    let connection = serde_json::from_value(json!({
        "apiVersion": "acs-identity.dev/v1alpha1",
        "kind": "AcsConnection",
        "metadata": {"name": "default"},
        "spec": {"auth": {"connectionString": {"secretRef": {"name": "acs", "key": "connectionString"}}}},
    }))
    .expect("a connection");
    let api: Api<acs_identity_operator::crd::AcsConnection> =
        Api::namespaced(client.clone(), namespace);
    api.create(&PostParams::default(), &connection)
        .await
        .expect("created");
}

fn identity(number: usize) -> AcsIdentity {
    AcsIdentity::new(
        &format!("user-{number}"),
        serde_json::from_value(json!({})).expect("a spec"),
    )
}

fn token(number: usize) -> AcsToken {
    let spec = json!({
        "identityRef": {"name": format!("user-{number}")},
        "scopes": ["chat"],
        "expiresIn": "1h",
    });
    AcsToken::new(
        &format!("user-{number}"),
        serde_json::from_value(spec).expect("a spec"),
    )
}

/// The clients create the objects; the time until the operator has made all of them Ready.
async fn operator_run(client: &Client, namespace: &str, n: usize) -> Duration {
    let identities: Api<AcsIdentity> = Api::namespaced(client.clone(), namespace);
    let tokens: Api<AcsToken> = Api::namespaced(client.clone(), namespace);
    let begun = Instant::now();
    stream::iter(0..n)
        .for_each_concurrent(CLIENTS, |number| {
            let (identities, tokens) = (identities.clone(), tokens.clone());
            async move {
                identities
                    .create(&PostParams::default(), &identity(number))
                    .await
                    .expect("created");
                tokens
                    .create(&PostParams::default(), &token(number))
                    .await
                    .expect("created");
            }
        })
        .await;
    let deadline = Instant::now() + Duration::from_mins(20);
    loop {
        let listed = tokens
            .list(&ListParams::default().limit(20_000))
            .await
            .expect("readable");
        let ready = listed.iter().filter(|token| {
            token
                .status
                .as_ref()
                .is_some_and(|status| is_ready(&status.conditions))
        });
        if ready.count() == n {
            return begun.elapsed();
        }
        assert!(Instant::now() < deadline, "not all tokens became Ready");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// The same objects, the same writes, no logic.
async fn raw_writer(client: &Client, namespace: &str, n: usize) -> Duration {
    let identities: Api<AcsIdentity> = Api::namespaced(client.clone(), namespace);
    let tokens: Api<AcsToken> = Api::namespaced(client.clone(), namespace);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let body = Arc::new("x".repeat(800));
    let begun = Instant::now();
    stream::iter(0..n)
        .for_each_concurrent(CLIENTS, |number| {
            let (identities, tokens, secrets) =
                (identities.clone(), tokens.clone(), secrets.clone());
            let body = Arc::clone(&body);
            async move {
                let name = format!("user-{number}");
                let post = PostParams::default();
                let finalizer = json!({"metadata": {"finalizers": ["acs-identity.dev/cleanup"]}});
                let finalizer = Patch::Merge(&finalizer);
                let patch = PatchParams::default();
                identities
                    .create(&post, &identity(number))
                    .await
                    .expect("created");
                tokens.create(&post, &token(number)).await.expect("created");
                let mut identity = identities
                    .patch(&name, &patch, &finalizer)
                    .await
                    .expect("patched");
                for id in [None, Some(format!("8:acs:raw_{number}"))] {
                    let status = identity.status.get_or_insert_default();
                    status.identity_id = id;
                    status.endpoint = Some("http://127.0.0.1".to_owned());
                    identity = identities
                        .replace_status(&name, &post, &identity)
                        .await
                        .expect("written");
                }
                let mut token = tokens
                    .patch(&name, &patch, &finalizer)
                    .await
                    .expect("patched");
                let secret: Secret = serde_json::from_value(json!({
                    "metadata": {"name": name, "labels": {"raw": "true"}},
                    "stringData": {"token": *body},
                }))
                .expect("a Secret");
                secrets.create(&post, &secret).await.expect("created");
                token.status.get_or_insert_default().identity_id =
                    Some(format!("8:acs:raw_{number}"));
                tokens
                    .replace_status(&name, &post, &token)
                    .await
                    .expect("written");
            }
        })
        .await;
    begun.elapsed()
}

/// Takes all finalizers away, so that the namespace can go without an operator.
async fn strip(client: &Client, namespace: &str) {
    let patch = json!({"metadata": {"finalizers": null}});
    let connections: Api<acs_identity_operator::crd::AcsConnection> =
        Api::namespaced(client.clone(), namespace);
    let _ = connections
        .patch("default", &PatchParams::default(), &Patch::Merge(&patch))
        .await;
}

/// Deletes the namespace and all in it, and waits until it is gone: the next round starts clean.
async fn remove(client: &Client, namespace: &str) {
    let patch = json!({"metadata": {"finalizers": null}});
    let identities: Api<AcsIdentity> = Api::namespaced(client.clone(), namespace);
    let tokens: Api<AcsToken> = Api::namespaced(client.clone(), namespace);
    let count = tokens
        .list(&ListParams::default())
        .await
        .expect("readable")
        .items
        .len();
    stream::iter(0..count)
        .for_each_concurrent(CLIENTS, |number| {
            let (identities, tokens) = (identities.clone(), tokens.clone());
            let patch = Patch::Merge(&patch);
            async move {
                let name = format!("user-{number}");
                let _ = tokens.patch(&name, &PatchParams::default(), &patch).await;
                let _ = identities
                    .patch(&name, &PatchParams::default(), &patch)
                    .await;
            }
        })
        .await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces
        .delete(namespace, &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    support::eventually("the namespace is gone", || async {
        namespaces
            .get_opt(namespace)
            .await
            .expect("readable")
            .is_none()
            .then_some(())
    })
    .await;
}
