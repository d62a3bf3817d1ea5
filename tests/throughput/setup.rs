//! Setup of the measurements: identities with one token each in a namespace of their own, an
//! operator that watches it, and emulators.

use std::{
    process::Command,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use acs_identity_operator::crd::{AcsConnection, AcsIdentity, AcsToken, is_ready};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::support::{self, emulator::Emulator, kubernetes::Cluster, world::Operator};

/// Number of clients that create objects concurrently, and of concurrent writes of the raw writer.
pub const CLIENTS: usize = 16;
/// Time in which the control plane deletes an object and its Secrets, under load.
const REMOVAL: Duration = Duration::from_millis(50);

pub fn start_operator(cluster: &Cluster, namespace: &str) -> Operator {
    Operator::start(
        Command::new(env!("CARGO_BIN_EXE_acs-identity-operator"))
            .env("KUBECONFIG", &cluster.kubeconfig)
            .args(["--watch-namespace", namespace, "--address", "127.0.0.1:0"])
            .args([
                "--log-format",
                "text",
                "--allow-insecure-endpoint",
                "127.0.0.1",
                // The restart is measured, not the wait for a Lease.
                "--no-leader-elect",
            ]),
    )
}

/// Returns the name of a connection, and of the Secret with its credential.
pub fn connection_name(number: usize) -> String {
    format!("acs-{number}")
}

/// Creates a namespace with a Secret for each connection.
pub async fn prepare(client: &Client, name: &str, emulators: &[Emulator]) -> String {
    let namespace = format!("bench-{}-{name}", std::process::id());
    let object: Namespace =
        serde_json::from_value(json!({"metadata": {"name": namespace}})).expect("a namespace");
    let namespaces = Api::all(client.clone());
    let created = namespaces.create(&PostParams::default(), &object).await;
    created.expect("created");
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    for (number, emulator) in emulators.iter().enumerate() {
        let secret = json!({
            "metadata": {"name": connection_name(number)},
            "stringData": {"connectionString": emulator.connection_string},
        });
        let secret = serde_json::from_value(secret).expect("a Secret");
        let created = api.create(&PostParams::default(), &secret).await;
        created.expect("created");
    }
    namespace
}

/// Creates the connections.
pub async fn connect(client: &Client, namespace: &str, emulators: &[Emulator]) {
    let api: Api<AcsConnection> = Api::namespaced(client.clone(), namespace);
    for number in 0..emulators.len() {
        let name = connection_name(number);
        let secret = json!({"secretRef": {"name": name, "key": "connectionString"}});
        let spec = json!({"auth": {"connectionString": secret}});
        let spec = serde_json::from_value(spec).expect("a connection");
        let connection = AcsConnection::new(&name, spec);
        let created = api.create(&PostParams::default(), &connection).await;
        created.expect("created");
    }
}

/// Returns the name of an identity, of its token and of its Secret.
pub fn name(number: usize) -> String {
    format!("user-{number}")
}

pub fn identity(number: usize, endpoints: usize) -> AcsIdentity {
    let connection = connection_name(number % endpoints);
    let spec = json!({"connectionRef": {"kind": "AcsConnection", "name": connection}});
    AcsIdentity::new(&name(number), serde_json::from_value(spec).expect("a spec"))
}

pub fn token(number: usize) -> AcsToken {
    let spec = json!({
        "identityRef": {"name": name(number)},
        "scopes": ["chat"],
        "expiresIn": "1h",
    });
    AcsToken::new(&name(number), serde_json::from_value(spec).expect("a spec"))
}

/// Creates the objects with all clients; returns the time until the operator has made all of them
/// Ready.
pub async fn operator_run(
    client: &Client,
    namespace: &str,
    n: usize,
    endpoints: usize,
) -> Duration {
    let identities: Api<AcsIdentity> = Api::namespaced(client.clone(), namespace);
    let tokens: Api<AcsToken> = Api::namespaced(client.clone(), namespace);
    let begun = Instant::now();
    let created = AtomicUsize::new(0);
    let create = stream::iter(0..n).for_each_concurrent(CLIENTS, |number| {
        let (identities, tokens, created) = (identities.clone(), tokens.clone(), &created);
        async move {
            let post = PostParams::default();
            let identity = identity(number, endpoints);
            identities.create(&post, &identity).await.expect("created");
            tokens.create(&post, &token(number)).await.expect("created");
            let done = created.fetch_add(1, Relaxed) + 1;
            if done.is_multiple_of(250) {
                eprint!("\r  {done} of {n} created  ");
            }
        }
    });
    create.await;
    let deadline = Instant::now() + Duration::from_mins(40);
    loop {
        let ready = sum(&tokens, |token| {
            let status = token.status.as_ref();
            usize::from(status.is_some_and(|status| is_ready(&status.conditions)))
        });
        let ready = ready.await;
        eprint!("\r  {ready} of {n} tokens Ready  ");
        if ready == n {
            eprintln!();
            return begun.elapsed();
        }
        assert!(
            Instant::now() < deadline,
            "{ready} of {n} tokens became Ready"
        );
        // Polling uses time of the API server that the operator could use.
        tokio::time::sleep(Duration::from_millis(250) * u32::try_from(1 + n / 2000).expect("few"))
            .await;
    }
}

/// Returns the sum of `count` over all tokens, reading one page at a time.
pub async fn sum(tokens: &Api<AcsToken>, count: impl Fn(&AcsToken) -> usize) -> usize {
    let mut params = ListParams::default().limit(1000);
    let mut sum = 0;
    loop {
        let page = tokens.list(&params).await.expect("readable");
        sum += page.items.iter().map(&count).sum::<usize>();
        match page.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => params = params.continue_token(&next),
            None => return sum,
        }
    }
}

/// Deletes the namespace and its content, and waits until it does not exist, so that the next round
/// starts clean.
pub async fn remove(client: &Client, namespace: &str, n: usize) {
    let connections: Api<AcsConnection> = Api::namespaced(client.clone(), namespace);
    let identities: Api<AcsIdentity> = Api::namespaced(client.clone(), namespace);
    let tokens: Api<AcsToken> = Api::namespaced(client.clone(), namespace);
    // Without an operator, the finalizers must be removed here.
    let patch = json!({"metadata": {"finalizers": null}});
    let (patch, params) = (Patch::Merge(&patch), PatchParams::default());
    for number in 0..3 {
        let name = connection_name(number);
        let _ = connections.patch(&name, &params, &patch).await;
    }
    stream::iter(0..n)
        .for_each_concurrent(CLIENTS, |number| {
            let (identities, tokens) = (identities.clone(), tokens.clone());
            let (patch, params) = (&patch, &params);
            async move {
                let _ = tokens.patch(&name(number), params, patch).await;
                let _ = identities.patch(&name(number), params, patch).await;
            }
        })
        .await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let deleted = namespaces.delete(namespace, &DeleteParams::default()).await;
    deleted.expect("deleted");
    let patience = support::PATIENCE + REMOVAL * u32::try_from(n).expect("few");
    support::within(patience, "the namespace is gone", || async {
        let found = namespaces.get_opt(namespace).await.expect("readable");
        found.is_none().then_some(())
    })
    .await;
}
