//! Takeover: how soon another process leads, with the default times, and what the two report
//! meanwhile.

use super::{Duration, ExitStatus, Instant, Replica, World, holder, load, settle};
use serde_json::json;

const NAME: &str = "--lease-name=story";

async fn pair() -> (World, Replica, Replica) {
    let world = World::bare(&[], &[]).await;
    world.connect("default", &world.emulator.connection_string.clone());
    let mut first = Replica::start(&world, &[NAME]).await;
    first.leads();
    let second = Replica::start(&world, &[NAME]).await;
    second.says("standby: ").await;
    (world, first, second)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_killed_is_followed_within_twenty_seconds() {
    let (world, mut first, mut second) = pair().await;
    let leader = holder(&world, "story").await;
    first.says("ok").await;
    second
        .says(&format!("standby: {leader} is the leader"))
        .await;
    assert_eq!(first.metric("acs_identity_operator_leader").await, "1");
    assert_eq!(second.metric("acs_identity_operator_leader").await, "0");
    first.operator.process.kill();
    let killed = Instant::now();
    second.leads();
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    second.says("ok").await;
    assert_eq!(second.metric("acs_identity_operator_leader").await, "1");
    assert_ne!(holder(&world, "story").await, leader);
    world.identity("alice", "");
    world.identity_says("alice", "IdentityReady").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_stopped_ends_its_calls_and_is_followed_within_two_seconds() {
    let (world, mut first, mut second) = pair().await;
    let slow = json!([
        {"operation": "createIdentity", "effect": "delay", "delay": "1s", "probability": 0.5},
        {"operation": "issueToken", "effect": "delay", "delay": "1s", "probability": 0.5},
    ]);
    world.emulator.faults(slow).await;
    load(&world, 0, 20);
    // Some are created, and some wait for their answer.
    super::eventually("tokens are issued", || async {
        (world.issued().await >= 3).then_some(())
    })
    .await;
    let status: ExitStatus = first.operator.process.terminate();
    let stopped = Instant::now();
    assert!(status.success(), "{}", first.operator.process.output());
    second.leads();
    let took = stopped.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    world.emulator.heal().await;
    let sum = settle(&world).await;
    // Nothing was lost, and nothing done twice.
    assert_eq!((sum.created, sum.unknown), (sum.objects, 0));
    assert_eq!(sum.issued, sum.objects);
    let (last, first_after) = (first.acs.last_sent(), second.acs.first_sent());
    assert!(last < first_after, "{last:?} {first_after:?}");
}
