//! Clocks that disagree have no effect (C3).

use std::time::Instant;

use acs_identity_operator::crd::{AcsConnection, AcsToken};
use serde_json::json;

use crate::support::{
    eventually,
    world::{World, spec},
};

#[tokio::test]
async fn a_service_whose_clock_is_hours_off_is_served_all_the_same_and_the_offset_is_told() {
    for offset in ["3h", "-3h"] {
        let world = World::new().await;
        let clock = Some(json!({"offset": offset}));
        world
            .emulator
            .send(reqwest::Method::PUT, "clock", clock)
            .await;
        world.identity("alice", "");
        world.token("web", "alice", "scopes: [chat, voip]");
        world.ready("web").await;
        let first = world.live_token("web", &[]).await;
        let api = world.api::<AcsConnection>();
        let told = eventually("the offset is told", || async {
            api.get("default")
                .await
                .expect("a connection")
                .status?
                .clock_offset
        })
        .await;
        assert_eq!(told.starts_with('-'), offset.starts_with('-'), "{told}");
        world
            .patch::<AcsToken>("web", spec(&json!({"scopes": ["chat"]})))
            .await;
        world.live_token("web", &[&first]).await;
        assert!(!world.emulator.check(&first).await.valid);
        let status = world.ready("web").await.status.expect("a status");
        let left = status
            .expires_at
            .expect("an end")
            .0
            .duration_since(jiff::Timestamp::now());
        assert!(
            (23..=24).contains(&left.as_hours()),
            "the local end of life is {left:?} away"
        );
    }
}

#[tokio::test]
async fn a_clock_of_the_service_that_steps_back_costs_a_pause_and_few_calls() {
    let world = World::new().await;
    let set = async |offset: &str| {
        let clock = Some(json!({"offset": offset}));
        let sent = world.emulator.send(reqwest::Method::PUT, "clock", clock);
        sent.await;
    };
    world.identity("alice", "");
    world.identity_says("alice", "IdentityReady").await;
    set("20s").await;
    world.token("web", "alice", "scopes: [chat, voip]");
    let first = world.live_token("web", &[]).await;
    world.ready("web").await;
    set("0s").await;
    let narrowed = spec(&json!({"scopes": ["chat"]}));
    world.patch::<AcsToken>("web", narrowed).await;
    let second = world.live_token("web", &[&first]).await;
    assert!(!world.emulator.check(&first).await.valid);
    assert!(world.emulator.check(&second).await.valid);
    world.ready("web").await;
    let revokes = world.emulator.count("revokeTokens").await;
    assert!((1..=3).contains(&revokes), "{revokes}");
    assert!(world.issued().await <= 4);
}

#[tokio::test]
async fn a_token_that_lives_for_no_time_is_told_and_is_not_asked_for_again_and_again() {
    let world = World::with(&["--minute", "1ms"], &[]).await;
    let began = Instant::now();
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat], expiresIn: 1h");
    let message = world.token_says("web", "InvalidAnswer").await;
    assert!(message.contains("The operator tries again"), "{message}");
    let issued = eventually("it is tried again and again", || async {
        let issued = world.issued().await;
        (issued >= 4).then_some(issued)
    })
    .await;
    // If a new second begins in between, one token expires with it, and the next comes at its end.
    let seconds = began.elapsed().as_secs() + 1;
    let most = usize::try_from(3 * seconds).unwrap();
    assert!(issued <= most, "{issued} in {seconds} s");
}
