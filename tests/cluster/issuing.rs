//! Issuing: from an `AcsToken` in git to a Secret with a token that is always valid (T2, T4, I1,
//! I2).

use acs_identity_operator::crd::AcsToken;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::support::{
    eventually,
    world::{World, spec, token_manifest},
};

#[tokio::test]
async fn a_token_that_is_committed_becomes_a_secret_with_a_live_token() {
    let world = World::new().await;
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [voip, chat], expiresIn: 90m");
    let token = world.ready("web").await;

    let bytes = world.secret_value("web", "token").await.expect("a token");
    let check = world.emulator.check(&bytes).await;
    assert!(check.valid, "{check:?}");
    let status = token.status.expect("a status");
    assert_eq!(check.identity_id, status.identity_id);
    assert_eq!(
        world.secret_value("web", "identityId").await,
        status.identity_id
    );
    assert_eq!(
        world.secret_value("web", "scopes").await.as_deref(),
        Some("chat,voip")
    );
    assert_eq!(
        world.secret_value("web", "endpoint").await,
        Some(world.emulator.url.clone())
    );
    let ends: jiff::Timestamp = world
        .secret_value("web", "expiresOn")
        .await
        .expect("an end")
        .parse()
        .expect("RFC 3339");
    assert_eq!(ends.subsec_nanosecond(), 0);
    let life = status
        .expires_at
        .expect("an end")
        .0
        .duration_since(status.issued_at.expect("a start").0);
    assert!((89..=91).contains(&life.as_mins()), "{life:?}");

    let secret = world.get::<Secret>("web").await;
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
    let owner = &secret.metadata.owner_references.expect("an owner")[0];
    assert_eq!(
        (owner.kind.as_str(), owner.controller),
        ("AcsToken", Some(true))
    );
}

#[tokio::test]
async fn a_new_identity_with_one_token_costs_two_calls_and_is_created_without_scopes() {
    let world = World::with_a_token().await;
    world.settled().await;
    assert_eq!(world.emulator.count("createIdentity").await, 1);
    assert_eq!(world.issued().await, 1);
    let identities = world.emulator.identities().await;
    assert_eq!(identities.len(), 1);
    assert_eq!(identities[0].tokens.len(), 1);
}

#[tokio::test]
async fn the_order_in_which_things_are_applied_does_not_matter() {
    let mut world = World::bare(&[], &[]).await;
    world.start_operator();
    world.token("web", "alice", "scopes: [chat]");
    let message = world.token_says("web", "IdentityNotFound").await;
    assert!(message.contains("AcsIdentity alice"), "{message}");
    world.identity("alice", "");
    let message = world.identity_says("alice", "ConnectionNotFound").await;
    assert!(message.contains("AcsConnection"), "{message}");
    world.connect("default", &world.emulator.connection_string.clone());
    world.ready("web").await;
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_the_old_one_is_not_revoked() {
    let world = World::with(&["--minute", "1s"], &[]).await;
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat], expiresIn: 1h");
    world.ready("web").await;
    let first = world.live_token("web", &[]).await;
    let second = world.live_token("web", &[&first]).await;
    assert!(
        world.emulator.check(&first).await.valid,
        "it was renewed too late, or revoked"
    );
    assert_ne!(first, second);
    assert_eq!(world.emulator.count("revokeTokens").await, 0);
}

#[tokio::test]
async fn several_tokens_of_one_identity_live_side_by_side() {
    let world = World::new().await;
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat, voip]");
    world.token("bot", "alice", "scopes: [chat.join]");
    world.ready("web").await;
    world.ready("bot").await;
    for secret in ["web", "bot"] {
        world.live_token(secret, &[]).await;
    }
    assert_eq!(world.emulator.living().await.len(), 1);
}

#[tokio::test]
async fn labels_and_renew_before_cost_no_new_token() {
    let world = World::with_a_token().await;
    let bytes = world.secret_value("web", "token").await;
    let secret = json!({"labels": {"team": "blue"}, "annotations": {"note": "hello"}});
    world
        .patch::<AcsToken>("web", spec(&json!({"renewBefore": "2h", "secret": secret})))
        .await;
    let api = world.api::<Secret>();
    eventually("the label and the annotation are there", || async {
        let metadata = api.get("web").await.expect("a Secret").metadata;
        let label = metadata.labels?.get("team").cloned()?;
        let note = metadata.annotations?.get("note").cloned()?;
        (label == "blue" && note == "hello").then_some(())
    })
    .await;
    world
        .token_where("renews later", "web", |token| {
            let status = token.status.clone().unwrap_or_default();
            let (Some(renew), Some(end)) = (status.renew_at, status.expires_at) else {
                return false;
            };
            end.0.duration_since(renew.0).as_hours() < 4
        })
        .await;
    world
        .patch::<AcsToken>("web", spec(&json!({"secret": {"labels": {"team": null}}})))
        .await;
    eventually("the label is gone", || async {
        let labels = api.get("web").await.expect("a Secret").metadata.labels?;
        (!labels.contains_key("team")).then_some(())
    })
    .await;
    assert_eq!(world.secret_value("web", "token").await, bytes);
    assert_eq!(world.issued().await, 1);
}

#[tokio::test]
async fn keys_of_the_secret_can_be_renamed_later_without_a_new_token() {
    let world = World::with_a_token().await;
    let bytes = world.secret_value("web", "token").await;
    let keys = json!({"secret": {"keys": {"token": "ACS_TOKEN", "expiresOn": "ENDS"}}});
    world.patch::<AcsToken>("web", spec(&keys)).await;
    eventually("the token stands under its new key only", || async {
        let is_moved = world.secret_value("web", "ACS_TOKEN").await == bytes;
        (is_moved && world.secret_value("web", "token").await.is_none()).then_some(())
    })
    .await;
    assert!(world.secret_value("web", "ENDS").await.is_some());
    assert_eq!(world.issued().await, 1);
}

#[tokio::test]
async fn a_preview_version_creates_exactly_once_by_a_custom_id() {
    let mut world = World::bare(&[], &[]).await;
    world.apply(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: key}}\nstringData: {{key: \"{}\"}}\n---\n\
         apiVersion: acs-identity.dev/v1alpha1\nkind: AcsConnection\nmetadata: {{name: default}}\n\
         spec: {{endpoint: \"{}\", apiVersion: 2025-03-02-preview, auth: {{accessKey: {{secretRef: {{name: key, key: key}}}}}}}}\n",
        world.emulator.access_key(),
        world.emulator.url
    ));
    let lost =
        json!([{"operation": "createIdentity", "effect": "reset", "when": "after", "count": 2}]);
    world.emulator.faults(lost).await;
    world.start_operator();
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat]");
    world.ready("web").await;
    assert!(
        world.emulator.count("createIdentity").await > 1,
        "the lost reply was not repeated"
    );
    assert_eq!(world.emulator.identities().await.len(), 1);
}

#[tokio::test]
async fn a_create_call_whose_answer_is_lost_is_counted_and_told() {
    let world = World::new().await;
    let lost =
        json!([{"operation": "createIdentity", "effect": "reset", "when": "after", "count": 1}]);
    world.emulator.faults(lost).await;
    world.identity("alice", "");
    world.apply(&token_manifest("web", "alice", "scopes: [chat]"));
    world.ready("web").await;
    let identity = world
        .get::<acs_identity_operator::crd::AcsIdentity>("alice")
        .await;
    assert_eq!(identity.status.unwrap_or_default().unknown_creates, Some(1));
    world.event("alice", "UnknownCreate").await;
    let identities = world.emulator.identities().await;
    assert_eq!(identities.len(), 2);
    let orphan = identities
        .iter()
        .find(|identity| identity.tokens.is_empty());
    assert!(orphan.is_some(), "an orphan must never have a token");
}
