//! Answers that are wrong, late or missing.

use std::time::Duration;

use acs_identity_operator::acs::{
    ApiVersion, Deleted, Endpoint, Error, Kind, Outcome, ServiceConfig,
};
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use tokio::net::TcpListener;

use crate::wire::{
    ID, KEY, Reply, Wire, answer, complaint, config, created, impatient, json, key, service, soon,
    token,
};

async fn create(wire: &Wire) -> Error {
    wire.client_of(&service(impatient()))
        .create_identity(None, soon())
        .await
        .unwrap_err()
}

async fn issue(wire: &Wire) -> Error {
    let client = wire.client_of(&service(impatient()));
    client
        .issue_token(ID, &["chat"], 60, soon())
        .await
        .unwrap_err()
}

fn bytes(text: &str) -> Reply {
    Reply::Bytes(text.into())
}

#[tokio::test]
async fn a_create_with_an_unknown_outcome_goes_out_once() {
    for (reply, kind, is_lost) in [
        (Reply::Reset, Kind::NoAnswer, true),
        (Reply::Hang, Kind::NoAnswer, true),
        (bytes(""), Kind::NoAnswer, true),
        (
            bytes("HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{\"identity\""),
            Kind::NoAnswer,
            false,
        ),
        (
            bytes("HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nnonsense"),
            Kind::NoAnswer,
            false,
        ),
        (bytes("SSH-2.0-OpenSSH_9.6\r\n"), Kind::NoAnswer, true),
        (
            answer(200, "Content-Type: text/html\r\n", "<html>Sign in</html>"),
            Kind::NotTheService,
            false,
        ),
        (json(201, "{}"), Kind::NotTheService, false),
        (
            json(201, r#"{"identity":{"id":".."}}"#),
            Kind::NotTheService,
            false,
        ),
        (answer(204, "", ""), Kind::NotTheService, false),
        (answer(408, "", ""), Kind::Unavailable, false),
        (
            complaint(500, "InternalError", "Internal server error."),
            Kind::Unavailable,
            false,
        ),
        (answer(502, "", "<html>"), Kind::Unavailable, false),
        (
            answer(503, "Retry-After: 0\r\n", "<html>"),
            Kind::Unavailable,
            false,
        ),
        (answer(504, "", ""), Kind::Unavailable, false),
    ] {
        let wire = Wire::new([reply, created()]).await;
        let error = create(&wire).await;
        assert_eq!(
            (error.kind(), error.outcome()),
            (kind, Outcome::Unknown),
            "{error}"
        );
        assert_eq!(error.is_lost(), is_lost, "{error}");
        assert_eq!(wire.got().len(), 1, "{error}");
    }
}

#[tokio::test]
async fn a_create_that_surely_had_no_effect_is_tried_again() {
    let throttled = complaint(429, "TooManyRequests", "Slow down.");
    let wire = Wire::new([throttled, created()]).await;
    let client = wire.client();
    assert_eq!(client.create_identity(None, soon()).await.unwrap().id, ID);
    assert_eq!(wire.got().len(), 2);
}

#[tokio::test]
async fn what_may_be_repeated_is_repeated_until_it_works() {
    for reply in [
        Reply::Reset,
        Reply::Hang,
        bytes("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"token\""),
        answer(408, "", ""),
        answer(429, "", ""),
        answer(500, "", ""),
        answer(502, "", "<html>"),
        answer(503, "", "<html>"),
        answer(504, "", ""),
    ] {
        let wire = Wire::new([reply, token()]).await;
        let client = wire.client_of(&service(impatient()));
        client.issue_token(ID, &["chat"], 60, soon()).await.unwrap();
        let ids: Vec<_> = wire
            .got()
            .iter()
            .map(|got| got.header("x-ms-client-request-id").unwrap().to_owned())
            .collect();
        assert_eq!((ids.len(), &ids[0]), (2, &ids[1]), "one call, one id");
    }
    let wire = Wire::new([Reply::Reset, created()]).await;
    let version: ApiVersion = "2025-03-02-preview".parse().unwrap();
    let client = service(config()).client(&wire.endpoint, &version, &key());
    client
        .create_identity(Some("the-uid"), soon())
        .await
        .unwrap();
    assert_eq!(wire.got().len(), 2);
}

#[tokio::test]
async fn patience_ends() {
    let wire = Wire::new([answer(503, "", "")]).await;
    let error = issue(&wire).await;
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::Unavailable, Outcome::Unknown)
    );
    assert_eq!(wire.got().len(), 4);
}

#[tokio::test]
async fn a_revoke_says_when_an_earlier_attempt_may_still_act() {
    for (reply, expected) in [(Reply::Reset, true), (answer(500, "", ""), false)] {
        let wire = Wire::new([reply, answer(204, "", "")]).await;
        let revoked = wire.client().revoke_tokens(ID, soon()).await.unwrap();
        assert_eq!(revoked.earlier_attempt_lost, expected);
    }
    let wire = Wire::new([Reply::Reset, complaint(401, "Denied", "no")]).await;
    let error = wire.client().revoke_tokens(ID, soon()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::CredentialRefused, Outcome::Unknown)
    );
    assert!(error.is_lost());
}

#[tokio::test]
async fn the_service_may_ask_for_a_pause_in_both_forms() {
    let date = "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n";
    for (header, asked) in [
        ("Retry-After: 600\r\n", 600),
        ("Retry-After: Thu, 01 Jan 2026 00:10:00 GMT\r\n", 600),
        ("Retry-After: 999999999999999\r\n", 86_400),
    ] {
        // Longer than the timeout of a call: the caller gets the error at once.
        let wire = Wire::new([answer(429, &format!("{date}{header}"), "")]).await;
        let error = issue(&wire).await;
        assert_eq!(
            (error.kind(), error.outcome()),
            (Kind::Throttled, Outcome::NotDone)
        );
        assert_eq!(error.retry_after(), Some(SignedDuration::from_secs(asked)));
        assert_eq!(wire.got().len(), 1);
    }
}

#[tokio::test]
async fn a_signature_of_the_wrong_time_is_made_anew_once() {
    let date = "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n";
    let refused = || answer(401, date, "{}");
    let wire = Wire::new([refused(), created()]).await;
    wire.client().create_identity(None, soon()).await.unwrap();
    let got = wire.got();
    assert_eq!(got.len(), 2);
    let service_time: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let error = got[1].signed_at().duration_since(service_time).abs();
    assert!(error < SignedDuration::from_mins(5), "{error}");

    let wire = Wire::new([refused()]).await;
    assert_eq!(create(&wire).await.kind(), Kind::CredentialRefused);
    assert_eq!(wire.got().len(), 2);

    // The clock is not the cause.
    let now = Timestamp::now()
        .strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n")
        .to_string();
    let wire = Wire::new([answer(401, &now, "{}"), created()]).await;
    assert_eq!(create(&wire).await.kind(), Kind::CredentialRefused);
    assert_eq!(wire.got().len(), 1);
}

#[tokio::test]
async fn a_clock_that_is_wrong_by_hours_costs_one_request_at_most() {
    let clock = |hours| Reply::Clock(SignedDuration::from_hours(hours));
    // The clock of ACS is ahead; then one of the two clocks jumps to the right time.
    let wire = Wire::new([clock(7), clock(7), clock(7), clock(-3)]).await;
    let service = service(config());
    let client = wire.client_of(&service);
    for (requests, hours) in [(2, 7), (3, 7), (5, -3), (6, -3)] {
        let issued = client.issue_token(ID, &["chat"], 60, soon()).await.unwrap();
        assert_eq!(wire.got().len(), requests);
        let offset = service.clock_offset(&wire.endpoint).unwrap();
        assert!((offset - SignedDuration::from_hours(hours)).abs() < SignedDuration::from_mins(1));
        assert_eq!(issued.received_at + offset, issued.date);
    }
}

#[tokio::test]
async fn a_pause_that_the_service_asks_for_holds_for_all_callers() {
    let wire = Wire::new([answer(429, "Retry-After: 600\r\n", ""), token()]).await;
    let client = wire.client_of(&service(ServiceConfig {
        max_in_flight: 1,
        ..config()
    }));
    let second = client.issue_token(ID, &["chat"], 60, Timestamp::MAX);
    let first = client.issue_token(ID, &["chat"], 60, soon());
    tokio::pin!(first, second);
    tokio::select! {
        biased;
        first = &mut first => assert_eq!(first.unwrap_err().kind(), Kind::Throttled),
        _ = &mut second => panic!("went first"),
    }
    // Long enough for a request that does not wait.
    let passed = tokio::time::timeout(Duration::from_millis(300), second).await;
    assert!(passed.is_err());
    assert_eq!(wire.got().len(), 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Wire::new([created()]).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("Location: {}/identities\r\n", elsewhere.endpoint);
        let wire = Wire::new([answer(status, &location, "")]).await;
        let error = create(&wire).await;
        assert_eq!(error.kind(), Kind::NotTheService, "{error}");
        assert_eq!(error.status(), Some(status));
    }
    assert!(elsewhere.got().is_empty());
}

#[tokio::test]
async fn an_answer_of_a_proxy_is_no_judgement_of_the_service() {
    for status in [400, 401, 403, 404, 413, 451] {
        let html = "Content-Type: text/html; charset=utf-8\r\n";
        let wire = Wire::new([answer(status, html, "<html>Blocked</html>")]).await;
        let error = create(&wire).await;
        assert_eq!(error.kind(), Kind::NotTheService, "{error}");
        let expected = format!(
            "the answer did not come from ACS, but for example from a proxy ({status}, content \
             type text/html). "
        );
        assert!(error.to_string().contains(&expected), "{error}");
    }
}

#[tokio::test]
async fn an_endless_answer_is_not_read() {
    // Correct except for its length.
    let padding = " ".repeat(300 * 1024);
    let body = format!(r#"{{"identity":{{"id":"{ID}"}}}}{padding}"#);
    let wire = Wire::new([answer(201, "Content-Type: application/json\r\n", &body)]).await;
    assert_eq!(create(&wire).await.kind(), Kind::NotTheService);
    let wire = Wire::new([answer(401, "", &body)]).await;
    let error = create(&wire).await;
    assert_eq!(error.kind(), Kind::NotTheService);
    assert!(error.to_string().len() < 1000, "{error}");
}

#[tokio::test]
async fn what_is_gone_counts_as_deleted() {
    for reply in [
        complaint(404, "IdentityNotFound", "gone"),
        complaint(401, "Unheard", "Provided identity doesn't exist."),
        complaint(400, "ValidationError", "Provided identity doesn't exist."),
    ] {
        let wire = Wire::new([reply]).await;
        let deleted = wire.client().delete_identity(ID, soon()).await.unwrap();
        assert_eq!(deleted, Deleted { was_gone: true });
    }
    for (reply, kind) in [
        (
            complaint(401, "IdentityNotOwned", "no"),
            Kind::IdentityNotOwned,
        ),
        (complaint(401, "Denied", "no"), Kind::CredentialRefused),
        (
            answer(404, "Content-Type: text/html\r\n", "<html>"),
            Kind::NotTheService,
        ),
        (answer(404, "", ""), Kind::NotTheService),
        (json(404, "{}"), Kind::NotTheService),
        (
            answer(200, "Content-Type: text/html\r\n", "<html>"),
            Kind::NotTheService,
        ),
    ] {
        let wire = Wire::new([reply]).await;
        let error = wire.client().delete_identity(ID, soon()).await.unwrap_err();
        assert_eq!(error.kind(), kind);
    }
    // The first attempt succeeded; only its answer was lost.
    let wire = Wire::new([Reply::Reset, complaint(404, "NotFound", "gone")]).await;
    wire.client().delete_identity(ID, soon()).await.unwrap();
}

#[tokio::test]
async fn a_server_that_can_not_be_reached_was_sent_nothing() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    for (endpoint, says) in [
        (refused.as_str(), "refused"),
        ("http://nonexistent.invalid", "cannot be resolved"),
    ] {
        let endpoint = Endpoint::parse(endpoint).unwrap();
        let client = service(config()).client(&endpoint, &ApiVersion::default(), &key());
        let error = client.create_identity(None, soon()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.outcome()),
            (Kind::Unreachable, Outcome::NotDone)
        );
        assert!(!error.is_lost());
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_connection_that_is_never_made_was_sent_nothing() {
    // Address reserved for documentation.
    let endpoint = Endpoint::parse("http://192.0.2.1").unwrap();
    let config = ServiceConfig {
        connect_timeout: Duration::from_millis(100),
        ..config()
    };
    let client = service(config).client(&endpoint, &ApiVersion::default(), &key());
    let error = client.create_identity(None, soon()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::Unreachable, Outcome::NotDone),
        "{error}"
    );
}

#[tokio::test]
async fn no_error_repeats_a_secret() {
    let user_token = "short-user-token";
    let jwt = format!(
        "eyJ{}.{}.{}",
        "a".repeat(40),
        "b".repeat(200),
        "c".repeat(200)
    );
    for status in [200, 400, 401, 500] {
        for body in [
            // An error object, plain text, and an unexpected token.
            format!(
                r#"{{"error":{{"code":"{user_token}","message":"got {user_token} and {jwt}"}}}}"#
            ),
            format!("got {user_token} and {jwt}"),
            format!(r#"{{"token":"{jwt}","expiresOn":"never"}}"#),
            format!(r#"{{"token":{{"a":"{user_token}"}},"expiresOn":"{jwt}"}}"#),
        ] {
            let headers = format!("MS-CV: {user_token}{jwt}\r\n");
            let wire = Wire::new([answer(status, &headers, &body)]).await;
            let token = SecretString::from(user_token);
            let client = wire.client();
            let error = client
                .exchange_teams_token(&token, "a", "u", soon())
                .await
                .unwrap_err();
            for text in [error.to_string(), format!("{error:?} {client:?}")] {
                for secret in [user_token, &"b".repeat(20), KEY] {
                    assert!(!text.contains(secret), "{status} {body}: {text}");
                }
            }
        }
    }
}

#[tokio::test]
async fn an_error_tells_what_happened_and_what_to_do() {
    let headers = "Content-Type: application/json\r\nMS-CV: abc.0\r\n";
    let body = r#"{"error":{"code":"Denied","message":"Denied by the resource provider."}}"#;
    let wire = Wire::new([answer(401, headers, body)]).await;
    let error = issue(&wire).await;
    assert_eq!(
        error.to_string(),
        format!(
            "Could not issue a token at {}: ACS rejected the credential (401, Denied, Denied by \
             the resource provider.). Check that the credential belongs to this resource and was \
             neither regenerated nor has expired.",
            wire.endpoint
        )
    );
    assert_eq!(
        (error.reason(), error.ms_cv()),
        ("CredentialRefused", Some("abc.0"))
    );
}
