//! Injected faults.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::timeout;

use crate::{
    caller::{Call, Service},
    support::{emulator::Emulator, eventually},
};

#[tokio::test]
async fn a_status_comes_in_every_shape() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    for (fault, status, content_type, body, retry_after) in [
        (
            json!({"status": 429}),
            429,
            "application/json",
            r#"{"error":{"code":"TooManyRequests","#,
            None,
        ),
        (
            json!({"status": 429, "retryAfter": 17}),
            429,
            "application/json",
            "TooManyRequests",
            Some("17"),
        ),
        (
            json!({"status": 503, "retryAfter": "Wed, 21 Oct 2026 07:28:00 GMT"}),
            503,
            "application/json",
            "ServiceUnavailable",
            Some("Wed, 21 Oct 2026 07:28:00 GMT"),
        ),
        (
            json!({"status": 503, "body": "html"}),
            503,
            "text/html",
            "<!DOCTYPE html>",
            None,
        ),
        (
            json!({"status": 200, "body": "html"}),
            200,
            "text/html",
            "<!DOCTYPE html>",
            None,
        ),
        (
            json!({"status": 401, "body": "emptyObject"}),
            401,
            "application/json",
            "{}",
            None,
        ),
        (json!({"status": 401, "body": "empty"}), 401, "", "", None),
        (
            json!({"status": 500}),
            500,
            "application/json",
            r#""message":"Internal server error.""#,
            None,
        ),
        (
            json!({"status": 401, "code": "IdentityNotOwned", "message": "no \"\u{1F600}\""}),
            401,
            "application/json",
            r#"{"error":{"code":"IdentityNotOwned","message":"no \"😀\""}}"#,
            None,
        ),
    ] {
        let mut fault = fault;
        fault["operation"] = json!("createIdentity");
        fault["effect"] = json!("status");
        emulator.faults(json!([fault])).await;
        let reply = service.create("").await;
        let text = String::from_utf8(reply.body.clone()).unwrap();
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (status, content_type),
            "{fault}"
        );
        assert!(
            text.contains(body) && (!body.is_empty() || text.is_empty()),
            "{fault} {text}"
        );
        assert_eq!(
            reply.headers.get("retry-after").map(String::as_str),
            retry_after,
            "{fault}"
        );
    }
    assert!(emulator.identities().await.is_empty());
    // A duration is sent as a date, computed from the emulator's clock.
    let clock = json!({"offset": "3h"});
    emulator
        .send(reqwest::Method::PUT, "clock", Some(clock))
        .await;
    emulator
        .faults(json!([{"operation": "*", "effect": "status", "status": 503, "retryAfter": "30s"}]))
        .await;
    let reply = service.create("").await;
    let [date, after] = ["date", "retry-after"].map(|name| {
        jiff::fmt::rfc2822::parse(reply.header(name))
            .unwrap()
            .timestamp()
    });
    assert!((29..=31).contains(&after.duration_since(date).as_secs()));
}

#[tokio::test]
async fn a_fault_hits_its_operation_as_often_as_it_says_and_the_first_that_fits_wins() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    emulator
        .faults(json!([
            {"operation": "createIdentity", "effect": "status", "status": 500, "count": 2},
            {"operation": "*", "effect": "status", "status": 503, "count": 1},
        ]))
        .await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(service.create("").await.status);
    }
    assert_eq!(statuses, [500, 500, 503, 201]);
    let left = emulator.send(reqwest::Method::GET, "faults", None).await;
    assert_eq!(left, json!([]));

    emulator
        .faults(json!([{"operation": "revokeTokens", "effect": "status", "status": 500}]))
        .await;
    let id = service.identity().await;
    for _ in 0..3 {
        assert_eq!(service.revoke(&id).await.status, 500);
    }
    emulator.heal().await;
    assert_eq!(service.revoke(&id).await.status, 204);
}

#[tokio::test]
async fn a_share_of_requests_can_be_hit() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    let hit = json!([{"operation": "*", "effect": "status", "status": 500, "probability": 0.5}]);
    emulator.faults(hit).await;
    let mut hits = 0;
    for _ in 0..200 {
        hits += u32::from(service.create("").await.status == 500);
    }
    // One run in 10^13 is outside these bounds.
    assert!((50..=150).contains(&hits), "{hits} of 200");
    let all = json!([{"operation": "*", "effect": "status", "status": 500, "probability": 1}]);
    emulator.faults(all).await;
    for _ in 0..20 {
        assert_eq!(service.create("").await.status, 500);
    }
}

#[tokio::test]
async fn after_means_that_the_state_did_change_and_before_that_it_did_not() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    for (when, effect, made) in [
        ("before", "reset", 0),
        ("after", "reset", 1),
        ("before", "status", 1),
        ("after", "status", 2),
    ] {
        emulator
            .faults(json!([{"operation": "createIdentity", "effect": effect, "status": 503, "when": when, "count": 1}]))
            .await;
        let reply = service.call("POST", "/identities", "").try_send().await;
        match effect {
            "reset" => assert!(reply.is_none(), "{reply:?}"),
            _ => assert_eq!(reply.unwrap().status, 503),
        }
        assert_eq!(emulator.identities().await.len(), made, "{when} {effect}");
    }
    let requests = emulator.requests().await;
    let statuses: Vec<_> = requests.iter().map(|it| it.status).collect();
    assert_eq!(statuses, [None, None, Some(503), Some(503)]);
    // The journal has the created object although the client got no answer.
    let told = requests[1].identity_id.clone();
    assert_eq!(told, Some(emulator.identities().await[0].id.clone()));
}

#[tokio::test]
async fn a_reset_is_a_reset_and_not_an_end() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let emulator = Emulator::start(&[]);
    emulator
        .faults(json!([{"operation": "*", "effect": "reset"}]))
        .await;
    let mut call = Service::new(&emulator).call("POST", "/identities", "");
    call.sign();
    let mut stream = tokio::net::TcpStream::connect(crate::caller::address(&emulator))
        .await
        .unwrap();
    stream.write_all(&call.bytes()).await.unwrap();
    let error = stream.read(&mut [0; 16]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_late_answer_is_late_and_a_hanging_one_never_comes() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    for when in ["before", "after"] {
        let late = json!([{"operation": "*", "effect": "delay", "delay": "300ms", "when": when, "count": 1}]);
        emulator.faults(late).await;
        let begun = Instant::now();
        assert_eq!(service.create("").await.status, 201);
        assert!(begun.elapsed() >= Duration::from_millis(300));
    }
    emulator
        .faults(json!([{"operation": "*", "effect": "hang", "when": "after", "count": 1}]))
        .await;
    let hanging = service.call("POST", "/identities", "").try_send();
    tokio::pin!(hanging);
    // While the answer hangs, the journal and the state already have the change.
    let seen = eventually("the hanging request is noted", || async {
        (emulator.identities().await.len() == 3).then_some(())
    });
    tokio::select! {
        answer = &mut hanging => panic!("{answer:?}"),
        () = seen => {}
    }
    assert_eq!(emulator.requests().await.last().unwrap().status, None);
    assert!(
        timeout(Duration::from_millis(300), &mut hanging)
            .await
            .is_err()
    );
    // Other requests are served meanwhile.
    assert_eq!(service.create("").await.status, 201);
}

#[tokio::test]
async fn what_has_come_acts_although_its_client_has_gone() {
    use tokio::io::AsyncWriteExt as _;
    let emulator = Emulator::start(&[]);
    let late = json!([{"operation": "*", "effect": "delay", "delay": "1s"}]);
    emulator.faults(late).await;
    let mut call = Service::new(&emulator).call("POST", "/identities", "");
    call.sign();
    let address = crate::caller::address(&emulator);
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(&call.bytes()).await.unwrap();
    eventually("it has come", || async {
        (emulator.count("createIdentity").await == 1).then_some(())
    })
    .await;
    drop(stream);
    eventually("it acts", || async {
        (emulator.identities().await.len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_wrong_fault_says_what_is_right_and_leaves_the_list_as_it_was() {
    let emulator = Emulator::start(&[]);
    emulator
        .faults(json!([{"operation": "*", "effect": "hang"}]))
        .await;
    for (wrong, hint) in [
        (json!({}), "sequence"),
        (
            json!([{"operation": "createIdentities", "effect": "hang"}]),
            "createIdentity",
        ),
        (json!([{"operation": "*", "effect": "explode"}]), "reset"),
        (json!([{"operation": "*"}]), "effect"),
        (json!([{"effect": "hang"}]), "operation"),
        (
            json!([{"operation": "*", "effect": "status"}]),
            "from 200 to 599",
        ),
        (
            json!([{"operation": "*", "effect": "status", "status": 99}]),
            "from 200 to 599",
        ),
        (
            json!([{"operation": "*", "effect": "status", "status": 1e9}]),
            "u16",
        ),
        (json!([{"operation": "*", "effect": "delay"}]), "delay"),
        (
            json!([{"operation": "*", "effect": "delay", "delay": "2h"}]),
            "at most one hour",
        ),
        (
            json!([{"operation": "*", "effect": "delay", "delay": -1}]),
            "not negative",
        ),
        (
            json!([{"operation": "*", "effect": "hang", "count": 0}]),
            "at least 1",
        ),
        (
            json!([{"operation": "*", "effect": "hang", "probability": 0}]),
            "more than 0",
        ),
        (
            json!([{"operation": "*", "effect": "hang", "probability": 1.1}]),
            "at most 1",
        ),
        (
            json!([{"operation": "*", "effect": "hang", "probability": 0.5, "count": 1}]),
            "must not have both a count and a probability",
        ),
        (
            json!([{"operation": "*", "effect": "hang", "when": "never"}]),
            "after",
        ),
        (
            json!([{"operation": "*", "effect": "hang", "retryAfter": "a\r\nb"}]),
            "HTTP date",
        ),
        (
            json!([{"operation": "*", "effect": "hang", "retryAfter": -1}]),
            "HTTP date",
        ),
        (
            json!([{"operation": "*", "effect": "hang", "body": "xml"}]),
            "html",
        ),
        (
            json!([{"operation": "*", "effect": "hang", "often": 1}]),
            "count",
        ),
        (
            json!(vec![json!({"operation": "*", "effect": "hang"}); 1001]),
            "1000",
        ),
    ] {
        let body = wrong.to_string();
        let reply = Call::new(&emulator, "PUT", "/_emulator/faults", body)
            .send_as_it_is()
            .await;
        let (status, _, message, _) = reply.refusal();
        assert_eq!(status, 400, "{wrong}");
        assert!(message.contains(hint), "{wrong}: {message}");
    }
    let list = emulator.send(reqwest::Method::GET, "faults", None).await;
    assert_eq!(list.as_array().unwrap().len(), 1);
}
