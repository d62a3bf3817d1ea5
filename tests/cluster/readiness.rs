//! `/readyz` when the network between the operator and the API server breaks.

use std::time::Instant;

use crate::support::{
    eventually,
    proxy::{Network, Proxy, api_server},
    world::World,
};

/// Maximum time for which `/readyz` may be wrong.
const TRUTH: std::time::Duration = std::time::Duration::from_secs(20);

/// Waits until `/readyz` answers with `status`; returns its body.
async fn ready_is(world: &mut World, status: u16) -> String {
    let began = Instant::now();
    let operator = world.operator();
    let body = eventually(&format!("/readyz says {status}"), || async {
        let (now, body) = operator.get("/readyz").await;
        (now == status).then_some(body)
    })
    .await;
    assert!(began.elapsed() < TRUTH, "it took {:?}", began.elapsed());
    body
}

/// Creates a world whose operator reaches the API server through a proxy.
async fn behind_a_proxy() -> (World, Proxy) {
    let mut world = World::bare(&[], &[]).await;
    let (proxy, file) = api_server(world.cluster, &world.namespace).await;
    world.connect("default", &world.emulator.connection_string.clone());
    world.start_operator_with(&file);
    ready_is(&mut world, 200).await;
    (world, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_network_shows_and_quiet_watches_are_back_soon_after_it() {
    let (mut world, proxy) = behind_a_proxy().await;
    proxy.set(Network::Refuses);
    let body = ready_is(&mut world, 503).await;
    assert!(!body.contains('{'), "{body}");
    proxy.set(Network::Works);
    ready_is(&mut world, 200).await;
    world.identity("alice", "");
    world.identity_says("alice", "IdentityReady").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_network_shows_and_no_watch_is_left_on_a_dead_connection() {
    let (mut world, proxy) = behind_a_proxy().await;
    proxy.set(Network::Silent);
    let body = ready_is(&mut world, 503).await;
    assert!(body.contains("the API server does not answer"), "{body}");
    // Existing connections stay dead: only new ones work.
    proxy.set(Network::Works);
    ready_is(&mut world, 200).await;
    world.identity("alice", "");
    world.identity_says("alice", "IdentityReady").await;
}
