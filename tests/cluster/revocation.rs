//! Tokens that are no longer wanted become invalid, and siblings remain available (R1 to R4).

use acs_identity_operator::crd::{AcsIdentity, AcsToken};
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::support::{
    eventually,
    world::{World, spec},
};

async fn world_with_siblings(revocation: &str) -> (World, String, String) {
    let world = World::new().await;
    world.identity("alice", "");
    world.token(
        "web",
        "alice",
        &format!("scopes: [chat, voip], expiresIn: 2h{revocation}"),
    );
    world.token("bot", "alice", "scopes: [chat.join]");
    world.ready("web").await;
    world.ready("bot").await;
    let web = world.live_token("web", &[]).await;
    let bot = world.live_token("bot", &[]).await;
    (world, web, bot)
}

async fn valid_after(world: &World) -> Option<jiff::Timestamp> {
    let identity = world.get::<AcsIdentity>("alice").await;
    Some(identity.status?.tokens_valid_after?.0)
}

#[tokio::test]
async fn a_scope_taken_away_kills_the_old_token_and_the_sibling_gets_a_new_one() {
    let (world, web, bot) = world_with_siblings("").await;
    world
        .patch::<AcsToken>("web", spec(&json!({"scopes": ["chat"]})))
        .await;
    let new_web = world.live_token("web", &[&web]).await;
    world.live_token("bot", &[&bot]).await;
    assert!(!world.emulator.check(&web).await.valid);
    assert!(!world.emulator.check(&bot).await.valid);
    assert_eq!(
        world.emulator.check(&new_web).await.scopes,
        Some(vec!["chat".to_owned()])
    );
    for name in ["web", "bot"] {
        let token = world.ready(name).await;
        let issued = token.status.expect("a status").issued_at.expect("a time").0;
        assert!(Some(issued) > valid_after(&world).await);
    }
    assert_eq!(world.emulator.count("revokeTokens").await, 1);
    let note = world.event("alice", "TokensRevoked").await;
    assert!(note.contains("TokenChanged"), "{note}");
}

#[tokio::test]
async fn another_life_is_another_token_and_revokes_as_well() {
    let (world, web, _) = world_with_siblings("").await;
    world
        .patch::<AcsToken>("web", spec(&json!({"expiresIn": "1h"})))
        .await;
    world.live_token("web", &[&web]).await;
    assert!(!world.emulator.check(&web).await.valid);
}

#[tokio::test]
async fn on_narrowing_a_wider_token_revokes_nothing_and_a_narrower_one_does() {
    let (world, web, bot) = world_with_siblings(", revocation: OnNarrowing").await;
    world
        .patch::<AcsToken>(
            "web",
            spec(&json!({"scopes": ["chat", "voip", "chat.join"]})),
        )
        .await;
    let wider = world.live_token("web", &[&web]).await;
    world.ready("web").await;
    assert!(world.emulator.check(&web).await.valid);
    assert_eq!(world.emulator.count("revokeTokens").await, 0);
    world
        .patch::<AcsToken>("web", spec(&json!({"scopes": ["chat"]})))
        .await;
    world.live_token("web", &[&web, &wider]).await;
    for dead in [&web, &wider, &bot] {
        assert!(!world.emulator.check(dead).await.valid);
    }
}

#[tokio::test]
async fn with_never_the_old_token_runs_out_by_itself() {
    let (world, web, _) = world_with_siblings(", revocation: Never").await;
    world
        .patch::<AcsToken>("web", spec(&json!({"scopes": ["chat"]})))
        .await;
    world.live_token("web", &[&web]).await;
    world.ready("web").await;
    assert!(world.emulator.check(&web).await.valid);
    world.delete::<AcsToken>("web").await;
    world.gone::<AcsToken>("web").await;
    assert!(world.emulator.check(&web).await.valid);
    assert_eq!(world.emulator.count("revokeTokens").await, 0);
}

#[tokio::test]
async fn a_deleted_token_takes_its_secret_along_and_is_revoked_and_the_sibling_heals() {
    let (world, web, bot) = world_with_siblings("").await;
    world.delete::<AcsToken>("web").await;
    world.gone::<AcsToken>("web").await;
    assert!(!world.emulator.check(&web).await.valid);
    assert!(world.find::<Secret>("web").await.is_none());
    world.live_token("bot", &[&bot]).await;
}

#[tokio::test]
async fn changes_that_come_together_cost_one_revocation() {
    let (world, web, bot) = world_with_siblings("").await;
    world
        .patch::<AcsToken>("web", spec(&json!({"scopes": ["chat"]})))
        .await;
    world
        .patch::<AcsToken>("bot", spec(&json!({"scopes": ["voip.join"]})))
        .await;
    world.live_token("web", &[&web]).await;
    world.live_token("bot", &[&bot]).await;
    world.ready("web").await;
    world.ready("bot").await;
    assert_eq!(world.emulator.count("revokeTokens").await, 1);
}

#[tokio::test]
async fn tokens_about_to_be_revoked_are_not_ready_before_the_call() {
    let (world, web, _) = world_with_siblings("").await;
    let hang = json!([{"operation": "revokeTokens", "effect": "delay", "delay": 3, "count": 1}]);
    world.emulator.faults(hang).await;
    world
        .patch::<AcsToken>("web", spec(&json!({"scopes": ["chat"]})))
        .await;
    let message = world.token_says("web", "Revoking").await;
    assert!(message.contains("then a new token is issued"), "{message}");
    world.token_says("bot", "Revoking").await;
    assert!(
        world.emulator.check(&web).await.valid,
        "the call came before the mark"
    );
    world.live_token("web", &[&web]).await;
    world.ready("bot").await;
}

#[tokio::test]
async fn a_revocation_whose_answer_is_lost_is_repeated_and_tokens_end_up_good() {
    let (world, web, bot) = world_with_siblings("").await;
    let lost =
        json!([{"operation": "revokeTokens", "effect": "reset", "when": "after", "count": 1}]);
    world.emulator.faults(lost).await;
    world
        .patch::<AcsToken>("web", spec(&json!({"scopes": ["chat"]})))
        .await;
    world.live_token("web", &[&web]).await;
    world.live_token("bot", &[&bot]).await;
    assert!(world.emulator.count("revokeTokens").await >= 2);
    assert!(!world.emulator.check(&web).await.valid);
}

#[tokio::test]
async fn a_service_that_can_not_revoke_keeps_the_order_until_it_can() {
    let (world, web, _) = world_with_siblings("").await;
    world
        .emulator
        .faults(json!([{"operation": "revokeTokens", "effect": "status", "status": 500}]))
        .await;
    world
        .patch::<AcsToken>("web", spec(&json!({"scopes": ["chat"]})))
        .await;
    eventually("the call was tried", || async {
        (world.emulator.count("revokeTokens").await > 0).then_some(())
    })
    .await;
    world.event("alice", "CallFailed").await;
    world.emulator.heal().await;
    world.live_token("web", &[&web]).await;
    assert!(!world.emulator.check(&web).await.valid);
}
