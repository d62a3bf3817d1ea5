//! Identities from create to delete.

use serde_json::{Value, json};

use crate::{
    caller::{PREVIEW, Service},
    support::emulator::Emulator,
};

fn is_id(text: &str) -> bool {
    let is_hex = |text: &str, length| {
        text.len() == length && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
    };
    text.strip_prefix("8:acs:")
        .and_then(|rest| rest.split_once('_'))
        .is_some_and(|(resource, own)| is_hex(resource, 36) && is_hex(own, 36))
}

#[tokio::test]
async fn a_create_without_scopes_has_no_token_in_its_answer_however_it_is_written() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    for body in [
        "",
        "{}",
        r#"{"createTokenWithScopes":null}"#,
        r#"{"createTokenWithScopes":null,"expiresInMinutes":null}"#,
        r#"{"createTokenWithScopes":[]}"#,
        r#"{"unknown":[{"deep":true}]}"#,
    ] {
        let reply = service.create(body).await;
        assert_eq!(reply.status, 201, "{body}: {reply:?}");
        let answer = reply.json();
        assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
        let identity = answer["identity"].as_object().unwrap();
        assert_eq!(identity.len(), 1, "{answer}");
        assert!(is_id(identity["id"].as_str().unwrap()), "{answer}");
    }
    let mut ids: Vec<_> = emulator
        .identities()
        .await
        .into_iter()
        .map(|it| it.id)
        .collect();
    ids.dedup();
    assert_eq!(ids.len(), 6);
}

#[tokio::test]
async fn a_create_with_scopes_brings_a_token_along() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    let scopes = json!(["chat", "chat.join", "chat.join.limited"]);
    let body = json!({"createTokenWithScopes": scopes, "expiresInMinutes": 60});
    let answer = service.create(&body.to_string()).await.json();
    let check = emulator
        .check(answer["accessToken"]["token"].as_str().unwrap())
        .await;
    assert!(check.valid);
    assert_eq!(json!(check.scopes), scopes);
    assert_eq!(json!(check.identity_id), answer["identity"]["id"]);
    assert!(answer["accessToken"]["expiresOn"].is_string());
}

#[tokio::test]
async fn revoke_and_delete_answer_nothing_and_end_all_tokens() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    let id = service.identity().await;
    let other = service.token(&service.identity().await).await;
    let first = service.token(&id).await;
    let second = service.token(&id).await;
    let reply = service.revoke(&id).await;
    assert_eq!((reply.status, reply.body.len()), (204, 0));
    for token in [&first, &second] {
        assert_eq!(service.reason(token).await.as_deref(), Some("revoked"));
    }
    let third = service.token(&id).await;
    assert_eq!(service.reason(&third).await, None);
    let reply = service.delete(&id).await;
    assert_eq!((reply.status, reply.body.len()), (204, 0));
    assert_eq!(
        service.reason(&third).await.as_deref(),
        Some("identityDeleted")
    );
    assert_eq!(service.reason(&first).await.as_deref(), Some("revoked"));
    assert_eq!(service.reason(&other).await, None);
    assert_eq!(emulator.living().await.len(), 1);
    assert_eq!(emulator.identities().await.len(), 2);
}

#[tokio::test]
async fn a_custom_id_finds_its_identity_again_and_only_in_the_preview() {
    let emulator = Emulator::start(&[]);
    let preview = Service {
        emulator: &emulator,
        version: PREVIEW,
    };
    let body = r#"{"customId":"alice"}"#;
    let first = preview.create(body).await;
    assert_eq!(first.status, 201);
    let first = first.json()["identity"].clone();
    assert_eq!(first["customId"], "alice");
    assert_eq!(first["lastTokenIssuedAt"], Value::Null);
    let id = first["id"].as_str().unwrap().to_owned();
    preview.token(&id).await;

    let again = preview.create(body).await;
    assert_eq!(again.status, 201);
    let again = again.json()["identity"].clone();
    assert_eq!(again["id"], id);
    let last = again["lastTokenIssuedAt"].as_str().unwrap();
    assert!(last.len() == 25 && last.ends_with("+00:00"), "{last}");

    let got = preview
        .call("GET", &format!("/identities/{id}"), "")
        .send()
        .await;
    assert_eq!(got.status, 200);
    assert_eq!(got.json(), again);
    assert_eq!(got.header("accept-ranges"), "bytes");

    let other = preview.create(r#"{"customId":"bob"}"#).await.json();
    assert_ne!(other["identity"]["id"], id);
    // A stable version neither reads nor returns the field.
    let stable = Service::new(&emulator).create(body).await.json();
    assert_ne!(stable["identity"]["id"], id);
    assert_eq!(stable["identity"]["customId"], Value::Null);
}

#[tokio::test]
async fn many_creates_of_one_custom_id_at_once_make_one_identity() {
    let emulator = Emulator::start(&[]);
    let preview = Service {
        emulator: &emulator,
        version: PREVIEW,
    };
    let creates = (0..40).map(|_| preview.create(r#"{"customId":"alice"}"#));
    let replies = futures::future::join_all(creates).await;
    assert!(replies.iter().all(|it| it.json() == replies[0].json()));
    assert_eq!(emulator.identities().await.len(), 1);
}

#[tokio::test]
async fn the_first_preview_has_its_own_shape() {
    let emulator = Emulator::start(&[]);
    let service = Service {
        emulator: &emulator,
        version: "2020-07-20-preview2",
    };
    let reply = service
        .create(r#"{"createTokenWithScopes":["chat"]}"#)
        .await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json().as_object().unwrap().len(), 1);
    let id = reply.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/identities/{id}");
    let body = r#"{"scopes":["voip","pstn"]}"#;
    let reply = service
        .call("POST", &format!("{path}/token"), body)
        .send()
        .await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.json()["id"], id);
    let token = reply.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(service.reason(&token).await, None);
    let mut call = service.call(
        "PATCH",
        &path,
        r#"{"tokensValidFrom":"2999-01-01T00:00:00Z"}"#,
    );
    call.content_type = Some("application/merge-patch+json");
    assert_eq!(call.send().await.status, 204);
    assert_eq!(service.reason(&token).await.as_deref(), Some("revoked"));
    for body in [
        "{}",
        r#"{"tokensValidFrom":1}"#,
        r#"{"tokensValidFrom":"soon"}"#,
    ] {
        let reply = service.call("PATCH", &path, body).send().await;
        assert_eq!(
            (reply.status, reply.code()),
            (400, "ValidationError".to_owned())
        );
    }
    assert_eq!(service.delete(&id).await.status, 204);
    let reply = service.issue(&id, r#"{"scopes":["chat"]}"#).await;
    assert_eq!(reply.code(), "UnsupportedApiVersion");
}
