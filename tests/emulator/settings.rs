//! All values of every setting. (Elsewhere: `revocationDelay`, `revokeHitsSameSecond` in tokens,
//! `clockSkew` in signatures, `apiVersions` in versions.)

use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::{
    caller::{Call, PREVIEW, Reply, Service, VERSION, date, set},
    support::{emulator::Emulator, user_token::entra_token},
};

/// Returns status and code; the code is empty if there is no envelope.
fn said(reply: &Reply) -> (u16, String) {
    let envelope = serde_json::from_slice::<Value>(&reply.body).unwrap_or_default();
    (
        reply.status,
        envelope["error"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
    )
}

fn is(reply: &Reply, status: u16, code: &str) {
    assert_eq!(said(reply), (status, code.to_owned()), "{reply:?}");
}

#[tokio::test]
async fn every_switch_has_a_default_is_echoed_and_survives_a_round_trip() {
    let emulator = Emulator::start(&[]);
    let defaults = emulator.send(reqwest::Method::GET, "settings", None).await;
    assert_eq!(defaults.as_object().unwrap().len(), 30);
    let put = emulator
        .send(reqwest::Method::PUT, "settings", Some(defaults.clone()))
        .await;
    assert_eq!(put, defaults);
    let changed = json!({"unknownIdentity": "notOwned", "clockSkew": 60});
    let put = emulator
        .send(reqwest::Method::PUT, "settings", Some(changed))
        .await;
    assert_eq!(
        (&put["unknownIdentity"], &put["clockSkew"]),
        (&json!("notOwned"), &json!("1m"))
    );
    // A PATCH keeps the other settings, a PUT resets them.
    set(&emulator, json!({"limits": "published"})).await;
    let got = emulator.send(reqwest::Method::GET, "settings", None).await;
    assert_eq!(
        (&got["unknownIdentity"], &got["limits"]),
        (&json!("notOwned"), &json!("published"))
    );
    let put = emulator
        .send(reqwest::Method::PUT, "settings", Some(json!({})))
        .await;
    assert_eq!(put, defaults);
    set(&emulator, json!({"limits": "published"})).await;
    let deleted = emulator
        .send(reqwest::Method::DELETE, "settings", None)
        .await;
    assert_eq!(deleted, defaults);
}

#[tokio::test]
async fn a_wrong_setting_says_what_is_right_and_changes_nothing() {
    let emulator = Emulator::start(&[]);
    for (wrong, hint) in [
        (json!({"unknownIdentiy": "notOwned"}), "unknownIdentity"),
        (json!({"unknownIdentity": "gone"}), "notOwned"),
        (json!({"clockSkew": "soon"}), "15m"),
        (json!({"clockSkew": -1}), "not negative"),
        (json!({"clockSkew": "1e300"}), "20 years"),
        (json!({"clockSkew": "NaN"}), "20 years"),
        (json!({"revocationDelay": [1]}), "15m"),
        (json!({"limits": true}), "limits"),
        (json!([]), "map"),
    ] {
        for method in ["PUT", "PATCH"] {
            let body = wrong.to_string();
            let reply = Call::new(&emulator, method, "/_emulator/settings", body)
                .send_as_it_is()
                .await;
            let (status, _, message, _) = reply.refusal();
            assert_eq!(status, 400, "{wrong}");
            let message = message.to_lowercase();
            let is_told = message.contains(&hint.to_lowercase()) || message.contains("expected");
            assert!(is_told, "{wrong}: {message}");
        }
    }
    let settings = emulator.send(reqwest::Method::GET, "settings", None).await;
    assert_eq!(settings["unknownIdentity"], "notFound");
}

#[tokio::test]
async fn an_identity_that_is_gone_or_unknown_is_answered_as_the_switch_says() {
    let emulator = Emulator::start(&[]);
    let preview = Service {
        emulator: &emulator,
        version: PREVIEW,
    };
    let gone = preview.identity().await;
    preview.delete(&gone).await;
    let unknown = format!("{}_never", gone.split_once('_').unwrap().0);
    for (switch, status, code) in [
        ("notFound", 404, "IdentityNotFound"),
        ("notOwned", 401, "IdentityNotOwned"),
        ("badRequest", 400, "IdentityNotFound"),
        ("denied", 401, "Denied"),
    ] {
        for second_delete in ["noContent", "unknown"] {
            set(
                &emulator,
                json!({"unknownIdentity": switch, "secondDelete": second_delete}),
            )
            .await;
            for id in [&gone, &unknown] {
                is(
                    &preview.issue(id, r#"{"scopes":["chat"]}"#).await,
                    status,
                    code,
                );
                is(&preview.revoke(id).await, status, code);
                let got = preview
                    .call("GET", &format!("/identities/{id}"), "")
                    .send()
                    .await;
                is(&got, status, code);
            }
            let deleted = preview.delete(&gone).await;
            match second_delete {
                "noContent" => is(&deleted, 204, ""),
                _ => is(&deleted, status, code),
            }
            is(&preview.delete(&unknown).await, status, code);
        }
    }
}

#[tokio::test]
async fn a_new_identity_may_not_be_there_yet() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    set(&emulator, json!({"visibilityDelay": "1h"})).await;
    let id = service.identity().await;
    is(
        &service.issue(&id, r#"{"scopes":["chat"]}"#).await,
        404,
        "IdentityNotFound",
    );
    is(&service.delete(&id).await, 404, "IdentityNotFound");
    set(&emulator, json!({"visibilityDelay": 0})).await;
    is(&service.issue(&id, r#"{"scopes":["chat"]}"#).await, 200, "");
}

#[tokio::test]
async fn a_refused_credential_is_answered_as_the_switch_says() {
    let emulator = Emulator::start(&[]);
    for (switch, status, code, body) in [
        ("denied", 401, "Denied", None),
        ("emptyObject", 401, "", Some("{}")),
        ("empty", 401, "", Some("")),
        ("forbidden", 403, "Forbidden", None),
    ] {
        set(&emulator, json!({"refusedCredential": switch})).await;
        let mut call = Service::new(&emulator).call("POST", "/identities", "");
        call.key = "d3Jvbmc=".to_owned();
        let reply = call.send().await;
        is(&reply, status, code);
        if let Some(body) = body {
            assert_eq!(reply.body, body.as_bytes());
        }
    }
}

async fn by_bearer(emulator: &Emulator, token: &str) -> Reply {
    let target = format!("/identities?api-version={VERSION}");
    let body = r#"{"createTokenWithScopes":["chat"]}"#;
    let mut call = Call::new(emulator, "POST", &target, body);
    call.headers
        .push(("authorization".to_owned(), format!("Bearer {token}")));
    call.send_as_it_is().await
}

#[tokio::test]
async fn bearer_tokens_are_taken_as_the_switch_says() {
    let emulator = Emulator::start(&[]);
    let good = entra_token(&json!({"aud": "https://communication.azure.com/"}));
    let fine = [
        "https://communication.azure.com",
        "632ec9eb-fad7-4cbd-993a-e72973ba2acc",
    ];
    let fine = fine.map(|aud| entra_token(&json!({ "aud": aud })));
    let bad = [
        "text".to_owned(),
        entra_token(&json!({"aud": "https://management.azure.com/"})),
        entra_token(&json!({"aud": "https://communication.azure.com/", "exp": 1})),
        entra_token(&json!({})),
    ];
    for (switch, takes_good, takes_bad) in [
        ("claims", true, false),
        ("any", true, true),
        ("none", false, false),
    ] {
        set(&emulator, json!({"entraTokens": switch})).await;
        for token in fine.iter().chain([&good]) {
            assert_eq!(
                by_bearer(&emulator, token).await.status == 201,
                takes_good,
                "{switch}"
            );
        }
        for token in &bad {
            assert_eq!(
                by_bearer(&emulator, token).await.status == 201,
                takes_bad,
                "{switch} {token}"
            );
        }
    }
}

#[tokio::test]
async fn a_regenerated_key_may_end_tokens_of_entra_authentication() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    let bearer = entra_token(&json!({"aud": "https://communication.azure.com/"}));
    let token = by_bearer(&emulator, &bearer).await.json();
    let token = token["accessToken"]["token"].as_str().unwrap().to_owned();
    for (kills, reason) in [(false, None), (true, Some("keyRegenerated"))] {
        set(&emulator, json!({"regenerateKillsEntraTokens": kills})).await;
        emulator
            .send(reqwest::Method::POST, "keys/primary/regenerate", None)
            .await;
        assert_eq!(service.reason(&token).await.as_deref(), reason);
    }
}

#[tokio::test]
async fn a_missing_version_is_answered_as_the_switch_says() {
    let emulator = Emulator::start(&[]);
    for (switch, code) in [
        ("unspecified", "ApiVersionUnspecified"),
        ("unsupported", "UnsupportedApiVersion"),
    ] {
        set(&emulator, json!({"missingApiVersion": switch})).await;
        for target in [
            "/identities",
            "/identities?",
            "/identities?api-version=",
            "/identities?x=y",
        ] {
            is(
                &Call::new(&emulator, "POST", target, "").send().await,
                400,
                code,
            );
        }
    }
}

#[tokio::test]
async fn fields_of_a_newer_version_are_answered_as_the_switch_says() {
    let emulator = Emulator::start(&[]);
    let old = Service {
        emulator: &emulator,
        version: "2022-06-01",
    };
    for (switch, status, code) in [("ignored", 201, ""), ("refused", 400, "ValidationError")] {
        set(&emulator, json!({"newerFields": switch})).await;
        is(&old.create(r#"{"customId":"a"}"#).await, status, code);
        is(
            &old.create(r#"{"createTokenWithScopes":["chat"],"expiresInMinutes":60}"#)
                .await,
            status,
            code,
        );
        is(
            &old.create(r#"{"createTokenWithScopes":["chat"]}"#).await,
            201,
            "",
        );
    }
}

#[tokio::test]
async fn scopes_are_read_as_the_switches_say() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    let id = service.identity().await;
    let fine = |scopes: &[&str]| Ok(scopes.join(","));
    let refused = || Err("ValidationError".to_owned());
    for (settings, scopes, expected) in [
        (json!({}), json!(["chat", "fly"]), refused()),
        (
            json!({"unknownScopes": "ignored"}),
            json!(["chat", "fly"]),
            fine(&["chat"]),
        ),
        (
            json!({"unknownScopes": "ignored"}),
            json!(["fly"]),
            refused(),
        ),
        (
            json!({"unknownScopes": "accepted"}),
            json!(["chat", "fly"]),
            fine(&["chat", "fly"]),
        ),
        (
            json!({"unknownScopes": "accepted"}),
            json!(["a,b~?>"]),
            refused(),
        ),
        (
            json!({}),
            json!(["voip", "chat", "voip"]),
            fine(&["voip", "chat"]),
        ),
        (
            json!({"duplicateScopes": "kept"}),
            json!(["chat", "chat"]),
            fine(&["chat", "chat"]),
        ),
        (
            json!({"duplicateScopes": "refused"}),
            json!(["chat", "chat"]),
            refused(),
        ),
        (json!({}), json!(["Chat"]), refused()),
        (
            json!({"scopesIgnoreCase": true}),
            json!(["Chat", "chat"]),
            fine(&["chat"]),
        ),
    ] {
        emulator
            .send(reqwest::Method::PUT, "settings", Some(settings.clone()))
            .await;
        let reply = service
            .issue(&id, &json!({ "scopes": scopes }).to_string())
            .await;
        match expected {
            Err(code) => is(&reply, 400, &code),
            Ok(expected) => {
                let token = reply.json()["token"].as_str().unwrap().to_owned();
                let said = emulator.check(&token).await.scopes.unwrap().join(",");
                assert_eq!(said, expected, "{settings}");
            }
        }
    }
    for (switch, status, code) in [("noToken", 201, ""), ("refused", 400, "ValidationError")] {
        set(&emulator, json!({"emptyCreateScopes": switch})).await;
        is(
            &service.create(r#"{"createTokenWithScopes":[]}"#).await,
            status,
            code,
        );
    }
}

#[tokio::test]
async fn minutes_that_are_no_integers_are_read_as_the_switch_says() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    let id = service.identity().await;
    for (minutes, truncated) in [
        (json!(60.9), 200),
        (json!("60"), 200),
        (json!(59.9), 400),
        (json!("sixty"), 400),
        (json!(true), 400),
        (json!(9_999_999_999_i64), 400),
        (json!(1e300), 400),
        (json!([60]), 400),
    ] {
        let body = json!({"scopes": ["chat"], "expiresInMinutes": minutes}).to_string();
        set(&emulator, json!({"nonIntegerMinutes": "refused"})).await;
        is(&service.issue(&id, &body).await, 400, "ValidationError");
        set(&emulator, json!({"nonIntegerMinutes": "truncated"})).await;
        assert_eq!(
            service.issue(&id, &body).await.status,
            truncated,
            "{minutes}"
        );
    }
}

#[tokio::test]
async fn the_fraction_of_expires_on_is_written_as_the_switch_says() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    let id = service.identity().await;
    for (switch, lengths) in [
        ("sevenDigits", 8..=8),
        ("trimmed", 0..=8),
        ("wholeSeconds", 0..=0),
    ] {
        set(&emulator, json!({"expiresOn": switch})).await;
        for _ in 0..40 {
            let answer = service.issue(&id, r#"{"scopes":["chat"]}"#).await.json();
            let text = answer["expiresOn"].as_str().unwrap();
            assert!(text.parse::<jiff::Timestamp>().is_ok(), "{text}");
            let fraction = text["2026-01-01T00:00:00".len()..]
                .strip_suffix("+00:00")
                .unwrap();
            assert!(lengths.contains(&fraction.len()), "{switch} {text}");
            assert!(
                switch != "trimmed" || !fraction.ends_with(['0', '.']),
                "{text}"
            );
        }
    }
}

#[tokio::test]
async fn custom_ids_are_compared_and_checked_as_the_switches_say() {
    let emulator = Emulator::start(&[]);
    let preview = Service {
        emulator: &emulator,
        version: PREVIEW,
    };
    let id = |reply: Reply| reply.json()["identity"]["id"].as_str().map(str::to_owned);
    let preview = &preview;
    let create = |custom_id: String| async move {
        preview
            .create(&json!({ "customId": custom_id }).to_string())
            .await
    };
    let alice = id(create("alice".to_owned()).await);
    assert_ne!(id(create("Alice".to_owned()).await), alice);
    set(&emulator, json!({"customIdIgnoresCase": true})).await;
    // The newest of the identities whose custom ids are now equal.
    assert_eq!(
        id(create("ALICE".to_owned()).await),
        id(create("Alice".to_owned()).await)
    );

    for (custom_id, is_short) in [
        (String::new(), false),
        ("a".repeat(257), false),
        ("é".repeat(256), true),
    ] {
        set(&emulator, json!({"customIdIsChecked": true})).await;
        assert_eq!(create(custom_id.clone()).await.status == 201, is_short);
        set(&emulator, json!({"customIdIsChecked": false})).await;
        assert_eq!(create(custom_id).await.status, 201);
    }
    is(&create("a".repeat(5000)).await, 400, "ValidationError");
    is(
        &preview.create(r#"{"customId":1}"#).await,
        400,
        "ValidationError",
    );
}

#[tokio::test]
async fn a_custom_id_outlives_its_identity_as_the_switch_says() {
    let emulator = Emulator::start(&[]);
    let preview = Service {
        emulator: &emulator,
        version: PREVIEW,
    };
    for (switch, is_same) in [("newIdentity", false), ("sameIdentity", true)] {
        set(&emulator, json!({"deletedCustomId": switch})).await;
        let body = json!({ "customId": switch }).to_string();
        let first = preview.create(&body).await.json()["identity"]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let token = preview.token(&first).await;
        preview.delete(&first).await;
        let again = preview.create(&body).await.json();
        assert_eq!(again["identity"]["id"] == first, is_same, "{switch}");
        assert!(preview.reason(&token).await.is_some(), "{switch}");
        let again = again["identity"]["id"].as_str().unwrap();
        assert_eq!(
            preview.reason(&preview.token(again).await).await,
            None,
            "{switch}"
        );
    }
}

#[tokio::test]
async fn a_repeated_create_issues_a_token_as_the_switch_says() {
    let emulator = Emulator::start(&[]);
    let preview = Service {
        emulator: &emulator,
        version: PREVIEW,
    };
    for issues in [true, false] {
        set(&emulator, json!({"repeatedCreateIssues": issues})).await;
        let body =
            json!({"customId": issues.to_string(), "createTokenWithScopes": ["chat"]}).to_string();
        assert!(preview.create(&body).await.json()["accessToken"].is_object());
        let again = preview.create(&body).await.json();
        assert_eq!(again["accessToken"].is_object(), issues);
    }
}

#[tokio::test]
async fn repeatability_headers_count_as_the_switch_says() {
    let emulator = Emulator::start(&[]);
    let create = |id: &'static str, minutes_ago: i64| {
        let mut call = Service::new(&emulator).call("POST", "/identities", "");
        let sent = date(jiff::SignedDuration::from_mins(-minutes_ago));
        call.headers
            .push(("repeatability-request-id".to_owned(), id.to_owned()));
        call.headers
            .push(("repeatability-first-sent".to_owned(), sent));
        call.send()
    };
    for (switch, is_same) in [("ignored", false), ("honoured", true)] {
        set(&emulator, json!({"repeatabilityHeaders": switch})).await;
        let (first, again, other) = (
            create("one", 0).await,
            create("one", 1).await,
            create("two", 0).await,
        );
        assert_eq!(first.json() == again.json(), is_same, "{switch}");
        assert_ne!(first.json(), other.json());
        let result = again
            .headers
            .get("repeatability-result")
            .map(String::as_str);
        assert_eq!(result, is_same.then_some("accepted"));
    }
    is(&create("three", 9).await, 412, "PreconditionFailed");
    let mut alone = Service::new(&emulator).call("POST", "/identities", "");
    alone
        .headers
        .push(("repeatability-request-id".to_owned(), "four".to_owned()));
    is(&alone.send().await, 400, "ValidationError");
}

#[tokio::test]
async fn the_published_limits_hold_when_they_are_asked_for() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    let id = service.identity().await;
    set(&emulator, json!({"limits": "published"})).await;
    // In parallel, because the window is 30 s long.
    let revokes = futures::stream::iter(0..500).map(|_| service.revoke(&id));
    let replies: Vec<_> = revokes.buffer_unordered(32).collect().await;
    assert!(replies.iter().all(|it| it.status == 204));
    for (switch, is_right) in [
        (
            "none",
            (|it: Option<&String>| it.is_none()) as fn(Option<&String>) -> bool,
        ),
        ("seconds", |it| {
            it.is_some_and(|it| (1..=31).contains(&it.parse::<u32>().unwrap()))
        }),
        ("date", |it| {
            it.is_some_and(|it| jiff::fmt::rfc2822::parse(it).is_ok())
        }),
    ] {
        set(&emulator, json!({"limitRetryAfter": switch})).await;
        let reply = service.revoke(&id).await;
        is(&reply, 429, "TooManyRequests");
        assert!(
            is_right(reply.headers.get("retry-after")),
            "{switch} {reply:?}"
        );
    }
    // Each operation has its own limit.
    assert_eq!(service.create("").await.status, 201);
    set(&emulator, json!({"limits": "off"})).await;
    assert_eq!(service.revoke(&id).await.status, 204);
}
