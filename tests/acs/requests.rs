//! Requests that the client sends when nothing fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use acs_identity_operator::acs::signing::Signature;
use acs_identity_operator::acs::{
    AccessKey, ApiVersion, Client, CreatedIdentity, Deleted, Kind, Metrics, Operation, Outcome,
    ServiceConfig,
};
use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use secrecy::{ExposeSecret as _, SecretString};

use crate::wire::{
    Got, ID, KEY, Reply, Wire, answer, config, created, json, key, service, soon, token,
};

const ESCAPED_ID: &str =
    "8%3Aacs%3A11111111-2222-3333-4444-555555555555_00000006-19e0-2727-80f5-8b3a0d003502";
const DATE: &str = "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n";

/// Asserts that the signature covers the request exactly as received.
fn assert_signed(wire: &Wire, got: &Got) {
    let host = got.header("host").unwrap();
    assert_eq!(host, wire.endpoint.authority());
    let expected = Signature::new(
        &AccessKey::parse(KEY).unwrap(),
        &got.method,
        host,
        &got.target,
        got.signed_at(),
        &got.body,
    );
    assert_eq!(
        got.header("x-ms-content-sha256"),
        Some(expected.content_sha256.as_str())
    );
    assert_eq!(
        got.header("authorization"),
        Some(expected.authorization.as_str())
    );
}

/// Asserts the headers that every request has besides its signature.
fn assert_headers(got: &Got) {
    assert_eq!(got.header("accept"), Some("application/json"));
    let content_type = (!got.body.is_empty()).then_some("application/json");
    assert_eq!(got.header("content-type"), content_type);
    let length = got.body.len().to_string();
    // Some gateways refuse a POST without a content length, even if its body is empty.
    let expected = (got.method == "POST").then_some(length.as_str());
    assert_eq!(got.header("content-length"), expected);
    let agent = concat!("acs-identity-operator/", env!("CARGO_PKG_VERSION"));
    assert_eq!(got.header("user-agent"), Some(agent));
    let id = got.header("x-ms-client-request-id").unwrap();
    assert!(id.parse::<uuid::Uuid>().is_ok(), "{id}");
}

fn client(wire: &Wire, version: &str) -> Client {
    service(config()).client(&wire.endpoint, &version.parse().unwrap(), &key())
}

#[tokio::test]
async fn every_operation_sends_what_the_service_expects() {
    let created_with_token = format!(
        r#"{{"identity":{{"id":"{ID}"}},"accessToken":{{"token":"fresh","expiresOn":"2030-01-01T00:00:00.0000000+00:00"}}}}"#
    );
    let wire = Wire::new([
        created(),
        json(201, &created_with_token),
        token(),
        answer(204, DATE, ""),
        answer(204, "", ""),
        token(),
    ])
    .await;
    let client = client(&wire, "2025-03-02-preview");
    let identity = client
        .create_identity(Some("the-uid"), soon())
        .await
        .unwrap();
    assert_eq!(identity, CreatedIdentity { id: ID.to_owned() });
    let (identity, first) = client
        .create_identity_with_token(None, &["chat", "voip"], 60, soon())
        .await
        .unwrap();
    assert_eq!(
        (identity.id.as_str(), first.token.expose_secret()),
        (ID, "fresh")
    );
    let issued = client
        .issue_token(ID, &["chat.join"], 1440, soon())
        .await
        .unwrap();
    assert_eq!(issued.token.expose_secret(), "fresh");
    assert_eq!(issued.expires_on, "2030-01-01T00:00:00Z".parse().unwrap());
    let revoked = client.revoke_tokens(ID, soon()).await.unwrap();
    assert_eq!(revoked.date, "2026-01-01T00:00:00Z".parse().unwrap());
    assert!(!revoked.earlier_attempt_lost);
    let deleted = client.delete_identity(ID, soon()).await.unwrap();
    assert_eq!(deleted, Deleted { was_gone: false });
    let user_token = SecretString::from("user-token");
    client
        .exchange_teams_token(&user_token, "app", "user", soon())
        .await
        .unwrap();

    let got = wire.got();
    let sent: Vec<_> = got
        .iter()
        .map(|got| {
            (
                got.method.as_str(),
                got.target.as_str(),
                String::from_utf8_lossy(&got.body),
            )
        })
        .collect();
    let version = "api-version=2025-03-02-preview";
    let issue = format!("/identities/{ESCAPED_ID}/:issueAccessToken?{version}");
    let revoke = format!("/identities/{ESCAPED_ID}/:revokeAccessTokens?{version}");
    let delete = format!("/identities/{ESCAPED_ID}?{version}");
    let create = format!("/identities?{version}");
    let exchange = format!("/teamsUser/:exchangeAccessToken?{version}");
    assert_eq!(
        sent,
        [
            ("POST", create.as_str(), r#"{"customId":"the-uid"}"#.into()),
            (
                "POST",
                &create,
                r#"{"createTokenWithScopes":["chat","voip"],"expiresInMinutes":60}"#.into()
            ),
            (
                "POST",
                &issue,
                r#"{"scopes":["chat.join"],"expiresInMinutes":1440}"#.into()
            ),
            ("POST", &revoke, "".into()),
            ("DELETE", &delete, "".into()),
            (
                "POST",
                &exchange,
                r#"{"token":"user-token","appId":"app","userId":"user"}"#.into()
            ),
        ]
    );
    for got in &got {
        assert_signed(&wire, got);
        assert_headers(got);
    }
}

#[tokio::test]
async fn a_token_tells_its_life_by_the_service_and_its_arrival_by_us() {
    let body = r#"{"token":"fresh","expiresOn":"2026-01-01T01:00:00.5+00:00"}"#;
    let wire = Wire::new([answer(200, DATE, body), json(200, body)]).await;
    let service = service(config());
    let client = wire.client_of(&service);
    assert_eq!(service.clock_offset(&wire.endpoint), None);
    let before = Timestamp::now();
    let issued = client.issue_token(ID, &["chat"], 60, soon()).await.unwrap();
    assert!(issued.received_at >= before && issued.received_at <= Timestamp::now());
    assert_eq!(issued.date, "2026-01-01T00:00:00Z".parse().unwrap());
    let offset = service.clock_offset(&wire.endpoint).unwrap();
    assert_eq!(issued.received_at + offset, issued.date);

    // Without a Date, the client computes the time of ACS from the last known offset.
    let again = client.issue_token(ID, &["chat"], 60, soon()).await.unwrap();
    let error = again.date.duration_since(again.received_at + offset).abs();
    assert!(error.as_millis() <= 500, "{error}");
    assert_eq!(again.date.subsec_nanosecond(), 0);
    assert_eq!(service.clock_offset(&wire.endpoint), Some(offset));
}

#[tokio::test]
async fn what_the_api_version_lacks_is_not_asked_for() {
    let wire = Wire::new([created()]).await;
    let old = client(&wire, "2022-10-01");
    for error in [
        old.issue_token(ID, &["chat", "voip.join"], 60, soon())
            .await
            .unwrap_err(),
        old.create_identity_with_token(None, &["chat.join"], 60, soon())
            .await
            .unwrap_err(),
        old.create_identity_with_token(Some("a"), &["chat"], 60, soon())
            .await
            .unwrap_err(),
        client(&wire, "2026-09-23")
            .create_identity(Some("a"), soon())
            .await
            .unwrap_err(),
    ] {
        assert_eq!(
            (error.kind(), error.outcome()),
            (Kind::Unsupported, Outcome::NotDone)
        );
        assert!(
            error.to_string().contains("api version") || error.to_string().contains("API version")
        );
    }
    let current = client(&wire, "2023-10-01");
    let error = current
        .issue_token(ID, &["pstn"], 60, soon())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("2023-10-01 has no scope pstn"),
        "{error}"
    );
    for id in ["", ".", ".."] {
        assert_eq!(
            current
                .delete_identity(id, soon())
                .await
                .unwrap_err()
                .kind(),
            Kind::Malformed
        );
    }
    assert!(wire.got().is_empty());
}

#[tokio::test]
async fn nothing_is_sent_once_this_process_may_no_longer_act() {
    let wire = Wire::new([Reply::Reset]).await;
    let may_send = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&may_send);
    let gate: Arc<dyn Fn() -> bool + Send + Sync> =
        Arc::new(move || asked.fetch_and(false, Ordering::SeqCst));
    let client = wire.client_of(&service(ServiceConfig {
        may_send: Some(gate),
        ..config()
    }));
    let error = client.create_identity(None, soon()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::Withheld, Outcome::NotDone)
    );
    assert!(wire.got().is_empty());

    // The answer to the first attempt is lost and the second is withheld; the first still counts.
    may_send.store(true, Ordering::SeqCst);
    let error = client.revoke_tokens(ID, soon()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::Withheld, Outcome::Unknown)
    );
    assert!(error.is_lost());
    assert_eq!(wire.got().len(), 1);
}

#[tokio::test]
async fn every_attempt_is_counted() {
    let metrics = Metrics::default();
    let mut registry = Registry::with_prefix("test");
    metrics.register(&mut registry);
    let wire = Wire::new([Reply::Reset, answer(503, "", ""), token()]).await;
    let client = wire.client_of(&service(ServiceConfig {
        metrics: metrics.clone(),
        ..config()
    }));
    client.issue_token(ID, &["chat"], 60, soon()).await.unwrap();
    for outcome in ["NoAnswer", "ServiceUnavailable", "Ok"] {
        assert_eq!(
            metrics.calls(Operation::IssueToken, outcome),
            1,
            "{outcome}"
        );
    }
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    for line in [
        r#"test_acs_calls_total{operation="issue_token",outcome="Ok"} 1"#,
        r#"test_acs_call_duration_seconds_count{operation="issue_token"} 3"#,
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[tokio::test]
async fn clients_of_one_endpoint_share_its_slots() {
    let wire = Wire::new([Reply::Hang, token()]).await;
    let service = service(ServiceConfig {
        max_in_flight: 1,
        ..config()
    });
    let version = ApiVersion::default();
    let (one, two) = (
        service.client(&wire.endpoint, &version, &key()),
        service.client(&wire.endpoint, &version, &key()),
    );
    let hanging = tokio::spawn(async move { one.delete_identity(ID, soon()).await });
    let arrived = async {
        while wire.got().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), arrived)
        .await
        .expect("the first request");
    let waiting = two.issue_token(ID, &["chat"], 60, soon());
    tokio::pin!(waiting);
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    assert_eq!(wire.got().len(), 1);
    // A cancelled call frees its slot for the next.
    hanging.abort();
    waiting.await.unwrap();
}
