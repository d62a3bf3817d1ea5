//! The control API and the page.

use serde_json::{Value, json};

use crate::{
    caller::{Call, Service, address, exchange},
    support::emulator::Emulator,
};

async fn get(emulator: &Emulator, path: &str) -> Value {
    emulator.send(reqwest::Method::GET, path, None).await
}

#[tokio::test]
async fn identities_are_listed_with_their_tokens() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    let id = service.identity().await;
    let list = get(&emulator, "identities").await;
    let expected = json!([{
        "id": id, "customId": null, "createdAt": list[0]["createdAt"], "tokensValidAfter": null, "deletedAt": null, "tokens": [],
    }]);
    assert_eq!(list, expected);
    service.token(&id).await;
    service.revoke(&id).await;
    service.token(&id).await;
    let list = get(&emulator, "identities").await;
    let revoked_at = list[0]["tokensValidAfter"].clone();
    assert!(revoked_at.is_string());
    let tokens = list[0]["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 2);
    for (token, revoked) in tokens.iter().zip([true, false]) {
        assert_eq!(token["revoked"], revoked);
        assert_eq!(
            token["revokedAt"],
            if revoked {
                revoked_at.clone()
            } else {
                Value::Null
            }
        );
        assert_eq!(
            (&token["scopes"], &token["key"]),
            (&json!(["chat"]), &json!("primary"))
        );
        assert!(token["issuedAt"].is_string() && token["expiresAt"].is_string());
    }
    service.delete(&id).await;
    let newest = service.identity().await;
    assert!(get(&emulator, "identities").await[0]["deletedAt"].is_string());
    let limited = get(&emulator, "identities?limit=1").await;
    assert_eq!(
        (limited.as_array().unwrap().len(), &limited[0]["id"]),
        (1, &json!(newest))
    );
}

#[tokio::test]
async fn the_journal_tells_each_request_and_no_secret() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    let id = service.identity().await;
    let token = service.token(&id).await;
    service.revoke(&id).await;
    service.delete("8:acs:stranger").await;
    let mut wrong = service.call("POST", "/identities", "");
    wrong.key = "d3Jvbmc=".to_owned();
    wrong.send().await;
    let entra = crate::exchange::body();
    crate::exchange::teams(&emulator, "2023-10-01", &entra).await;
    service.call("GET", "/nowhere", "").send().await;

    let list = get(&emulator, "requests").await;
    let told: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            let text = |name: &str| it[name].as_str().unwrap_or("-").to_owned();
            let status = it["status"].as_u64().unwrap();
            format!(
                "{} {} {status} {} {}",
                text("operation"),
                text("method"),
                text("errorCode"),
                text("key")
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "createIdentity POST 201 - primary",
            "issueToken POST 200 - primary",
            "revokeTokens POST 204 - primary",
            "deleteIdentity DELETE 401 IdentityNotOwned primary",
            "createIdentity POST 401 Denied -",
            "exchangeTeamsToken POST 200 - primary",
            "unknown GET 404 NotFound -",
        ]
    );
    assert_eq!(
        list[1]["path"],
        format!("/identities/{id}/:issueAccessToken")
    );
    assert_eq!(
        (&list[0]["identityId"], &list[1]["identityId"]),
        (&json!(id), &json!(id))
    );
    assert_eq!(list[3]["identityId"], "8:acs:stranger");
    assert_eq!(list[1]["apiVersion"], "2023-10-01");
    assert_eq!(list[4]["why"], "the signature matches neither key");
    assert!(list[0]["time"].is_string());
    let text = list.to_string() + &emulator.process.output().replace(emulator.access_key(), "");
    for secret in token
        .split('.')
        .chain(entra["token"].as_str().unwrap().split('.'))
        .chain([emulator.access_key(), "HMAC-SHA256"])
    {
        assert!(!text.contains(secret), "{secret}");
    }
    assert_eq!(
        get(&emulator, "requests?limit=2")
            .await
            .as_array()
            .unwrap()
            .len(),
        2
    );
    emulator
        .send(reqwest::Method::DELETE, "requests", None)
        .await;
    assert_eq!(get(&emulator, "requests").await, json!([]));
}

#[tokio::test]
async fn what_nobody_would_send_is_cut_short_in_the_journal() {
    let emulator = Emulator::start(&[]);
    let path = format!("/{}", "%C3%A9".repeat(2000));
    let target = format!("{path}?api-version={}", "v".repeat(9000));
    Call::new(&emulator, "GET", &target, "").send().await;
    let list = get(&emulator, "requests").await;
    assert_eq!(list[0]["path"].as_str().unwrap().len(), 300);
    assert_eq!(list[0]["apiVersion"].as_str().unwrap().len(), 300);
}

#[tokio::test]
async fn health_and_metrics_count() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    let before = get(&emulator, "healthz").await;
    assert_eq!(
        (&before["status"], &before["identities"]),
        (&json!("ok"), &json!(0))
    );
    let id = service.identity().await;
    service.token(&id).await;
    service.delete(&service.identity().await).await;
    emulator
        .faults(json!([{"operation": "*", "effect": "reset", "count": 1}]))
        .await;
    service.call("POST", "/identities", "").try_send().await;
    let after = get(&emulator, "healthz").await;
    let counts = ["identities", "tokens", "requests"].map(|name| after[name].as_u64().unwrap());
    assert_eq!(counts, [1, 1, 5]);
    assert_ne!(after["changes"], before["changes"]);

    let answer = reqwest::get(format!("{}/metrics", emulator.url))
        .await
        .unwrap();
    let kind = answer.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = answer.text().await.unwrap();
    for line in [
        r#"acs_emulator_requests_total{operation="createIdentity",status="201"} 2"#,
        r#"acs_emulator_requests_total{operation="createIdentity",status="none"} 1"#,
        r#"acs_emulator_faults_total{effect="reset"} 1"#,
        "acs_emulator_identities 1",
        "acs_emulator_deleted_identities 1",
        "acs_emulator_tokens 1",
        "# EOF",
    ] {
        assert!(
            text.lines().any(|it| it == line),
            "{line} is not in\n{text}"
        );
    }
}

#[tokio::test]
async fn a_reset_forgets_everything_but_the_keys() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    service.identity().await;
    crate::caller::set(&emulator, json!({"limits": "published"})).await;
    emulator
        .faults(json!([{"operation": "*", "effect": "hang"}]))
        .await;
    emulator
        .send(reqwest::Method::POST, "keys/secondary/regenerate", None)
        .await;
    emulator.send(reqwest::Method::POST, "reset", None).await;
    for path in ["identities", "requests", "faults"] {
        assert_eq!(get(&emulator, path).await, json!([]), "{path}");
    }
    assert_eq!(get(&emulator, "settings").await["limits"], "off");
    assert_eq!(service.create("").await.status, 201);
}

#[tokio::test]
async fn a_wrong_clock_says_what_is_right() {
    let emulator = Emulator::start(&[]);
    for (wrong, hint) in [
        (json!({}), "offset"),
        (json!({"offset": "soon"}), "3h"),
        (json!({"offset": "30y"}), "20 years"),
        (json!({"offset": 1e18}), "20 years"),
        (json!({"offset": null}), "15m"),
        (json!({"ofset": "3h"}), "offset"),
    ] {
        let reply = Call::new(&emulator, "PUT", "/_emulator/clock", wrong.to_string())
            .send_as_it_is()
            .await;
        let (status, _, message, _) = reply.refusal();
        assert_eq!(status, 400, "{wrong}");
        assert!(message.contains(hint), "{wrong}: {message}");
    }
    for (offset, told) in [
        ("3h", "3h"),
        ("-90s", "-1m 30s"),
        ("PT1H", "1h"),
        ("-1.5", "-1s 500ms"),
        ("15y", "131490h"),
    ] {
        let body = json!({ "offset": offset });
        let reply = Call::new(&emulator, "PUT", "/_emulator/clock", body.to_string())
            .send_as_it_is()
            .await;
        if offset == "15y" {
            // A year has no fixed length.
            assert_eq!(reply.status, 400);
        } else {
            assert_eq!(reply.json()["offset"], told);
        }
    }
}

#[tokio::test]
async fn methods_and_paths_that_are_not_there_are_told() {
    let emulator = Emulator::start(&[]);
    for (method, path, status, allow) in [
        ("POST", "/_emulator/", 405, "GET"),
        ("DELETE", "/_emulator/identities", 405, "GET"),
        ("GET", "/_emulator/check", 405, "POST"),
        ("PUT", "/_emulator/requests", 405, "GET, DELETE"),
        ("POST", "/_emulator/faults", 405, "GET, PUT, DELETE"),
        ("GET", "/_emulator/keys/primary/regenerate", 405, "POST"),
        ("POST", "/_emulator/keys/third/regenerate", 404, ""),
        ("POST", "/_emulator/clock", 405, "GET, PUT"),
        (
            "POST",
            "/_emulator/settings",
            405,
            "GET, PUT, PATCH, DELETE",
        ),
        ("POST", "/metrics", 405, "GET"),
        ("GET", "/_emulator/nothing", 404, ""),
    ] {
        let reply = Call::new(&emulator, method, path, "").send_as_it_is().await;
        assert_eq!(
            (reply.status, reply.header("allow")),
            (status, allow),
            "{method} {path}"
        );
        reply.code();
    }
    let list = get(&emulator, "requests").await;
    assert_eq!(list, json!([]), "the control API is not in the journal");
}

#[tokio::test]
async fn pages_of_others_can_not_use_the_control_api() {
    let emulator = Emulator::start(&[]);
    for (origin, status) in [
        ("https://evil.example", 403),
        ("null", 403),
        (emulator.url.as_str(), 200),
    ] {
        let mut call = Call::new(&emulator, "POST", "/_emulator/keys/primary/regenerate", "");
        call.headers.push(("origin".to_owned(), origin.to_owned()));
        assert_eq!(call.send_as_it_is().await.status, status, "{origin}");
    }
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere_and_writes_text_only() {
    let emulator = Emulator::start(&[]);
    let reply = Call::new(&emulator, "GET", "/_emulator/", "")
        .send_as_it_is()
        .await;
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (200, "text/html; charset=utf-8")
    );
    let policy = reply.header("content-security-policy");
    assert!(
        policy.contains("default-src 'none'") && policy.contains("connect-src 'self'"),
        "{policy}"
    );
    let page = String::from_utf8(reply.body.clone()).unwrap();
    assert!(page.len() < 20_000);
    for word in [
        "http:",
        "https:",
        "src=",
        "@import",
        "url(",
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
    ] {
        assert!(!page.contains(word), "the page has {word}");
    }
    let moved = exchange(&address(&emulator), b"GET /_emulator HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(
        (moved.status, moved.header("location")),
        (302, "/_emulator/")
    );
}
