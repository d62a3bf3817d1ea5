//! Clocks that disagree change nothing (C3).

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
