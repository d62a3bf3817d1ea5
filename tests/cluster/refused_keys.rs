//! Rejected keys, and the second key that replaces them (C1).

use kube::ResourceExt;
use serde_json::json;

use super::rotation::{
    all_are_made_with, fall_back_to, make_tokens, ready_tokens, refusals, safe_to_regenerate,
    secrets, status, store_key, tokens, world_with_two_keys,
};
use crate::support::{eventually, world::condition};

#[tokio::test]
async fn a_key_regenerated_without_notice_is_replaced_by_the_second_one() {
    let count = 30;
    let mut world = world_with_two_keys(&[], &[]).await;
    fall_back_to(&world, "secondary").await;
    make_tokens(&world, count).await;
    world.emulator.regenerate("primary").await;
    // Longer than a wait may remain unreported.
    let slow =
        json!([{"operation": "issueToken", "effect": "delay", "delay": "8s", "probability": 1.0}]);
    world.emulator.faults(slow).await;
    world.token("new", "user-0", "scopes: [voip]");
    // Any former token: the token whose call tries the second key has been replaced before it
    // reports this.
    let message = eventually("a former token says CredentialRefused", || async {
        let all = tokens(&world).await.into_iter();
        let former = all.filter(|token| token.name_any() != "new");
        let mut told =
            former.filter_map(|token| condition(&token.status?.conditions, "Ready").cloned());
        let refused = told.find(|ready| ready.reason == "CredentialRefused");
        refused.map(|ready| ready.message)
    })
    .await;
    assert!(message.contains("a new token is being issued"), "{message}");
    world.emulator.heal().await;
    let message = world.connection_says("default", "SecondaryKeyInUse").await;
    assert!(
        message.contains("store the new key of the ACS resource in secretRef"),
        "{message}"
    );
    world.event("default", "SecondaryKeyInUse").await;
    all_are_made_with(&world, "secondary", count + 1).await;
    let new = world.ready("new").await.status.expect("a status");
    assert_eq!(new.last_failure, None);
    assert_eq!(refusals(&world).await, 1, "one call finds it out for all");
    let (_, former) = safe_to_regenerate(&world, "True", "NoFormerTokens").await;
    assert_eq!(former.expire_at, None, "dead tokens are nobody's loss");

    // After a restart the operator continues with the second key, without a call with the first.
    let calls = world.emulator.requests().await.len();
    world.kill_operator();
    world.start_operator();
    world.settled().await;
    world.token("newer", "user-0", "scopes: [voip]");
    world.ready("newer").await;
    assert_eq!(world.emulator.requests().await.len(), calls + 1);
}

#[tokio::test]
async fn where_both_keys_are_refused_all_is_made_anew_as_soon_as_one_is_right() {
    let count = 20;
    let world = world_with_two_keys(&[], &[]).await;
    fall_back_to(&world, "secondary").await;
    make_tokens(&world, count).await;
    let first = secrets(&world).await;
    let fresh = world.emulator.regenerate("primary").await;
    world.emulator.regenerate("secondary").await;
    world.token("new", "user-0", "scopes: [voip]");
    world.connection_says("default", "CredentialRefused").await;
    safe_to_regenerate(&world, "False", "CredentialNotAccepted").await;
    assert_eq!(
        ready_tokens(&world).await,
        count,
        "no other key works, so nobody knows"
    );
    assert_eq!(secrets(&world).await, first);
    store_key(&world, "primary", &fresh).await;
    all_are_made_with(&world, "primary", count + 1).await;
    world.connection_says("default", "ConnectionReady").await;
}

#[tokio::test]
async fn a_wrong_new_key_costs_one_call_and_no_token() {
    let count = 20;
    let world = world_with_two_keys(&[], &[]).await;
    make_tokens(&world, count).await;
    let first = secrets(&world).await;
    store_key(&world, "primary", "d3Jvbmc=").await;
    world.connection_says("default", "CredentialRefused").await;
    let (message, _) = safe_to_regenerate(&world, "False", "CredentialNotAccepted").await;
    assert!(message.contains("do not regenerate a key"), "{message}");
    assert_eq!(refusals(&world).await, 1);
    assert_eq!(ready_tokens(&world).await, count);
    store_key(&world, "primary", world.emulator.access_key()).await;
    world.connection_says("default", "ConnectionReady").await;
    safe_to_regenerate(&world, "True", "NoFormerTokens").await;
    world.settled().await;
    assert_eq!(secrets(&world).await, first, "tokens of the right key stay");
}

#[tokio::test]
async fn a_second_key_that_cannot_be_used_is_told_and_the_first_goes_on() {
    let world = world_with_two_keys(&[], &[]).await;
    make_tokens(&world, 1).await;
    for (key, sentence) in [
        ("tertiary", "waiting for key tertiary in Secret "),
        ("broken", "the access key is not valid base64"),
        (
            "same",
            "hold the same key; store the other key of the ACS resource in one of them",
        ),
    ] {
        fall_back_to(&world, key).await;
        if key == "broken" {
            store_key(&world, key, "no key").await;
        } else if key == "same" {
            store_key(&world, key, world.emulator.access_key()).await;
        }
        let message = eventually(sentence, || async {
            let status = status(&world).await;
            let ready = condition(&status.conditions, "Ready")?.clone();
            let is_it = ready.reason == "SecondaryKeyUnusable" && ready.message.contains(sentence);
            is_it.then_some(ready)
        })
        .await;
        assert_eq!(message.status, "True");
    }
    world.token("other", "user-0", "scopes: [voip]");
    world.ready("other").await;
    // As soon as it is right, that is over.
    fall_back_to(&world, "secondary").await;
    world.connection_says("default", "ConnectionReady").await;
}
