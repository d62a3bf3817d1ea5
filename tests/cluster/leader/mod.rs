//! Leader election: two processes of one release; one leads, and the other begins nothing.
//!
//! Each process has its own proxy to the emulator and its own account, so that a test can tell
//! which process called ACS, and which wrote to the API server, and when.

mod releases;
mod rounds;
mod takeover;
mod upgrade;

use std::{
    process::ExitStatus,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use acs_identity_operator::crd::{AcsIdentity, AcsToken, READY};
use jiff::Timestamp;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret, events::v1::Event};
use kube::{ResourceExt, api::ListParams};

use crate::support::{
    eventually,
    proxy::{Network, Proxy, api_server},
    world::{Operator, World, condition, token_manifest},
};

/// Short times, for tests that do not depend on the defaults. The renew deadline is as long as
/// possible: on a busy machine the API server needs seconds.
const SHORT: [&str; 4] = [
    "--lease-duration=6s",
    "--lease-renew-deadline=5s",
    "--lease-retry-period=500ms",
    "--lease-name=story",
];

/// Process of the operator, with proxies to everything that it can reach.
struct Replica {
    operator: Operator,
    /// `ServiceAccount` of the process.
    account: String,
    /// Proxy to the API server.
    cluster: Proxy,
    /// Proxy to ACS.
    acs: Proxy,
}

impl Replica {
    /// Starts a process and waits until it serves `/readyz`.
    async fn start(world: &World, arguments: &[&str]) -> Self {
        static COUNTER: AtomicUsize = AtomicUsize::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let account = format!("replica-{number}");
        let as_account = world.as_admin(&account);
        let (cluster, kubeconfig) = api_server(&as_account, &account).await;
        let emulator = world.emulator.url.trim_start_matches("http://");
        let acs = Proxy::start(emulator.parse().expect("an address")).await;
        let mut command = world.operator_command(&kubeconfig);
        command
            .args(["--lease-namespace", &world.namespace])
            .args(arguments)
            .env("HTTP_PROXY", format!("http://{}", acs.address))
            .env_remove("NO_PROXY")
            .env_remove("no_proxy");
        let operator = Operator::start_unready(&mut command);
        Self {
            operator,
            account,
            cluster,
            acs,
        }
    }

    /// Waits until its `/readyz` succeeds with this text.
    async fn says(&self, what: &str) {
        eventually(&format!("/readyz says {what}"), || async {
            let (status, body) = self.operator.get("/readyz").await;
            (status == 200 && body.starts_with(what)).then_some(())
        })
        .await;
    }

    /// Waits until it leads and is ready.
    fn leads(&mut self) {
        let process = &mut self.operator.process;
        process.wait_for("it leads", |line| {
            line.contains("reconciling begins").then_some(())
        });
    }

    /// Waits until it has exited by itself because it lost its Lease.
    async fn ends(&mut self) {
        let status = self.operator.process.ended().await;
        assert_eq!(status.code(), Some(3), "{}", self.operator.process.output());
        let log = self.operator.process.output();
        assert!(log.contains("lost the Lease"), "{log}");
    }

    async fn metric(&self, name: &str) -> String {
        let (_, text) = self.operator.get("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.expect("the metric").trim().to_owned()
    }
}

/// Returns when the API server received effective writes of an account to managed objects: first
/// and last.
fn wrote(world: &World, account: &str) -> Option<(Timestamp, Timestamp)> {
    let managed = ["acsconnections", "acsidentities", "acstokens", "secrets"];
    let user = format!("system:serviceaccount:{}:{}", world.namespace, account);
    let events = world.cluster.audited(&user);
    let wrote = events.iter().filter(|event| {
        let verb = event["verb"].as_str().expect("a verb");
        let resource = event["objectRef"]["resource"].as_str();
        ["create", "update", "patch", "delete"].contains(&verb)
            && resource.is_some_and(|resource| managed.contains(&resource))
            && event["responseStatus"]["code"]
                .as_u64()
                .is_some_and(|code| code < 300)
    });
    let mut at: Vec<Timestamp> = wrote
        .map(|event| {
            let at = event["requestReceivedTimestamp"].as_str();
            at.expect("a time").parse().expect("RFC 3339")
        })
        .collect();
    at.sort();
    Some((*at.first()?, *at.last()?))
}

fn number(variable: &str, default: usize) -> usize {
    let value = std::env::var(variable).ok();
    value.map_or(default, |value| value.parse().expect("a number"))
}

/// Returns the holder of the Lease.
async fn holder(world: &World, name: &str) -> String {
    let lease = world.get::<Lease>(name).await;
    let spec = lease.spec.expect("a spec");
    spec.holder_identity.unwrap_or_default()
}

/// Creates this many identities with a token each.
fn load(world: &World, round: usize, number: usize) {
    let objects = (0..number).map(|index| {
        let name = format!("r{round}-{index}");
        format!(
            "apiVersion: acs-identity.dev/v1alpha1\nkind: AcsIdentity\nmetadata: {{name: {name}}}\nspec: {{}}\n---\n{}",
            token_manifest(&name, &name, "scopes: [chat]")
        )
    });
    world.apply(&objects.collect::<Vec<_>>().join("---\n"));
}

/// Waits until every token of a round is Ready.
fn is_served(world: &World, round: usize, number: usize) {
    let tokens = (0..number).map(|index| format!("acstoken/r{round}-{index}"));
    let mut arguments = vec!["wait", "--for=condition=Ready", "--timeout=180s"];
    arguments.extend(["--namespace", &world.namespace]);
    let tokens: Vec<_> = tokens.collect();
    arguments.extend(tokens.iter().map(String::as_str));
    world.cluster.kubectl(&arguments);
}

/// Totals of tokens, identities and Secrets.
struct Sum {
    /// Number of identity objects.
    objects: usize,
    /// Number of identities created in ACS.
    created: usize,
    /// Number of creates with an unknown outcome.
    unknown: usize,
    /// Number of tokens issued by ACS.
    issued: usize,
}

impl Sum {
    /// Checks that every created identity is known or counted.
    fn is_counted(&self) {
        let (made, objects, unknown) = (self.created, self.objects, self.unknown);
        println!(
            "{objects} objects, {made} created, {unknown} unknown, {} tokens",
            self.issued
        );
        assert!(
            made <= objects + unknown,
            "{made} created, {objects} objects, {unknown} unknown"
        );
    }
}

/// Creates a world with a connection and no operator yet, whose ACS answers some calls late.
async fn slow_world() -> World {
    let world = World::bare(&[], &[]).await;
    world.connect("default", &world.emulator.connection_string.clone());
    let slow = serde_json::json!([
        {"operation": "createIdentity", "effect": "delay", "delay": "300ms", "probability": 0.3},
        {"operation": "issueToken", "effect": "delay", "delay": "300ms", "probability": 0.3},
    ]);
    world.emulator.faults(slow).await;
    world
}

/// Waits until every token is Ready, and checks that each has a valid token in its Secret and that
/// no object reports a withheld call.
async fn settle(world: &World) -> Sum {
    let all = ListParams::default();
    eventually("every token is Ready", || async {
        let tokens = world.api::<AcsToken>().list(&all).await.expect("readable");
        let mut ready = tokens.items.iter().map(|token| {
            let status = token.status.clone().unwrap_or_default();
            condition(&status.conditions, READY).is_some_and(|ready| ready.status == "True")
        });
        ready.all(|is_ready| is_ready).then_some(())
    })
    .await;
    let secrets = world.api::<Secret>().list(&all).await.expect("readable");
    for secret in secrets.items {
        let Some(token) = secret.data.as_ref().and_then(|data| data.get("token")) else {
            continue;
        };
        let token = String::from_utf8(token.0.clone()).expect("text");
        let check = world.emulator.check(&token).await;
        assert!(
            check.valid,
            "{} holds a dead token: {check:?}",
            secret.name_any()
        );
    }
    let events = world.api::<Event>().list(&all).await.expect("readable");
    for event in events {
        let note = event.note.unwrap_or_default();
        assert!(!note.contains("no longer the leader"), "{note}");
    }
    let identities = world
        .api::<AcsIdentity>()
        .list(&all)
        .await
        .expect("readable")
        .items;
    let mut unknown = 0;
    for identity in &identities {
        let status = identity.status.clone().unwrap_or_default();
        unknown += usize::try_from(status.unknown_creates.unwrap_or(0)).expect("a count");
        for condition in status.conditions {
            assert_ne!(condition.reason, "Withheld");
        }
    }
    let made = world.emulator.identities().await;
    Sum {
        objects: identities.len(),
        created: made.len(),
        unknown,
        issued: made.iter().map(|identity| identity.tokens.len()).sum(),
    }
}
