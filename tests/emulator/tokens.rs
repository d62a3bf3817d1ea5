//! Claims and validity of tokens (API reference 5).

use std::collections::BTreeSet;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use jiff::{SignedDuration, Timestamp};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use serde_json::{Value, json};

use crate::{
    caller::{Service, set},
    support::{emulator::Emulator, eventually},
};

fn decoded(part: &str) -> Value {
    assert!(
        !part.contains(['-', '_', '=']),
        "plain base64 can't read {part}"
    );
    let text = String::from_utf8(STANDARD_NO_PAD.decode(part).unwrap()).unwrap();
    assert!(!text.contains(' '), "{text} is not compact");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn a_token_has_the_claims_of_the_service_and_a_signature_that_can_be_verified() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    let id = service.identity().await;
    let before = Timestamp::now();
    let body = r#"{"scopes":["voip","chat.join"],"expiresInMinutes":90}"#;
    let answer = service.issue(&id, body).await.json();
    assert_eq!(answer.as_object().unwrap().len(), 2, "{answer}");
    let text = answer["token"].as_str().unwrap();
    let parts: Vec<_> = text.split('.').collect();
    let (header, claims) = (decoded(parts[0]), decoded(parts[1]));

    assert_eq!(header["alg"], "RS256");
    assert_eq!(header["typ"], "JWT");
    assert_eq!(header["kid"], "106");
    assert_eq!(header["x5t"].as_str().unwrap().len(), 27);
    assert_eq!(header.as_object().unwrap().len(), 4);
    let iat = claims["iat"].as_i64().unwrap();
    assert!((before.as_second()..=Timestamp::now().as_second()).contains(&iat));
    let resource = &id["8:acs:".len()..id.find('_').unwrap()];
    let expected = json!({
        "skypeid": id["8:".len()..], "scp": 1792, "csi": iat.to_string(), "iat": iat, "exp": iat + 90 * 60,
        "acsScope": "voip,chat.join", "resourceId": resource, "resourceLocation": "unitedstates",
    });
    assert_eq!(claims, expected);

    let keys = emulator.send(reqwest::Method::GET, "jwks.json", None).await;
    let key = &keys["keys"][0];
    let [n, e] =
        ["n", "e"].map(|name| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap());
    let signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
    let signed = format!("{}.{}", parts[0], parts[1]);
    RsaPublicKeyComponents { n, e }
        .verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature)
        .unwrap();
}

#[tokio::test]
async fn tokens_that_say_the_same_in_the_same_second_differ() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    let id = service.identity().await;
    let tokens = futures::future::join_all((0..60).map(|_| service.token(&id))).await;
    let different: BTreeSet<_> = tokens.iter().collect();
    assert_eq!(different.len(), 60);
    for token in &tokens {
        assert_eq!(service.reason(token).await, None);
    }
}

#[tokio::test]
async fn expires_on_has_seven_digits_and_tells_the_truth_about_a_scaled_minute() {
    for (minute, life) in [("60s", 3600), ("1s", 60), ("100ms", 6)] {
        let emulator = Emulator::start(&["--minute", minute]);
        let service = Service::new(&emulator);
        let id = service.identity().await;
        let before = Timestamp::now();
        let body = r#"{"scopes":["chat"],"expiresInMinutes":60}"#;
        let answer = service.issue(&id, body).await.json();
        let after = Timestamp::now();
        let text = answer["expiresOn"].as_str().unwrap();
        let (_, fraction) = text.split_once('.').unwrap();
        let (digits, offset) = fraction.split_at(7);
        assert!(digits.chars().all(|c| c.is_ascii_digit()), "{text}");
        assert_eq!(offset, "+00:00", "{text}");
        let end: Timestamp = text.parse().unwrap();
        let life = SignedDuration::from_secs(life);
        let digit = SignedDuration::from_nanos(100);
        assert!(
            before + life - digit <= end && end <= after + life,
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_token_ends_by_itself() {
    let emulator = Emulator::start(&["--minute", "5ms"]);
    let service = Service::new(&emulator);
    let body = r#"{"scopes":["chat"],"expiresInMinutes":60}"#;
    let answer = service.issue(&service.identity().await, body).await.json();
    let token = answer["token"].as_str().unwrap();
    eventually("the token has expired", || async {
        (service.reason(token).await.as_deref() == Some("expired")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_revocation_spreads_in_the_time_that_the_setting_says() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    set(&emulator, json!({"revocationDelay": "15m"})).await;
    let id = service.identity().await;
    let token = service.token(&id).await;
    service.revoke(&id).await;
    assert_eq!(service.reason(&token).await, None);
    // 15 minutes later, by the emulator's clock.
    for (offset, reason) in [
        ("14m", None),
        ("16m", Some("revoked")),
        ("25h", Some("expired")),
    ] {
        let clock = json!({ "offset": offset });
        emulator
            .send(reqwest::Method::PUT, "clock", Some(clock))
            .await;
        assert_eq!(service.reason(&token).await.as_deref(), reason, "{offset}");
    }
}

#[tokio::test]
async fn a_delayed_revocation_is_still_one_of_the_tokens_before_it_only() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    set(&emulator, json!({"revocationDelay": "1h"})).await;
    let id = service.identity().await;
    let before = service.token(&id).await;
    service.revoke(&id).await;
    let after = service.token(&id).await;
    set(&emulator, json!({"revocationDelay": "0s"})).await;
    assert_eq!(service.reason(&before).await.as_deref(), Some("revoked"));
    assert_eq!(service.reason(&after).await, None);
}

#[tokio::test]
async fn a_revocation_may_hit_tokens_of_its_own_second() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    set(&emulator, json!({"revokeHitsSameSecond": true})).await;
    let id = service.identity().await;
    // A revocation and an issue in the same second, which takes a few tries at most.
    let hit = eventually("both in one second", || async {
        let revoked = service.revoke(&id).await;
        let token = service.issue(&id, r#"{"scopes":["chat"]}"#).await;
        (revoked.header("date") == token.header("date")).then_some(token)
    })
    .await;
    let hit = hit.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(service.reason(&hit).await.as_deref(), Some("revoked"));
    let clock = json!({"offset": "2s"});
    emulator
        .send(reqwest::Method::PUT, "clock", Some(clock))
        .await;
    let later = service.token(&id).await;
    assert_eq!(service.reason(&later).await, None);
}

#[tokio::test]
async fn a_regenerated_key_takes_its_tokens_along_at_once_and_no_others() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    set(&emulator, json!({"revocationDelay": "1h"})).await;
    let id = service.identity().await;
    let first = service.token(&id).await;
    let answer = emulator
        .send(reqwest::Method::POST, "keys/secondary/regenerate", None)
        .await;
    assert_eq!(service.reason(&first).await, None);
    let secondary = answer["connectionString"].as_str().unwrap();
    let (endpoint, key) = secondary.split_once(";accesskey=").unwrap();
    assert_eq!(endpoint, format!("endpoint={}/", emulator.url));
    let path = format!("/identities/{id}/:issueAccessToken");
    let mut call = service.call("POST", &path, r#"{"scopes":["chat"]}"#);
    call.key = key.to_owned();
    let second = call.clone().send().await.json()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    service.revoke(&id).await;
    assert_eq!(
        service.reason(&second).await,
        None,
        "the revocation is still spreading"
    );

    emulator
        .send(reqwest::Method::POST, "keys/primary/regenerate", None)
        .await;
    assert_eq!(
        service.reason(&first).await.as_deref(),
        Some("keyRegenerated")
    );
    assert_eq!(service.reason(&second).await, None);
    assert_eq!(
        service.issue(&id, r#"{"scopes":["chat"]}"#).await.code(),
        "Denied"
    );
    assert_eq!(call.send().await.status, 200);
}

#[tokio::test]
async fn what_is_no_token_of_this_service_is_told() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    let token = service.token(&service.identity().await).await;
    let mut parts: Vec<_> = token.split('.').collect();
    let forged = format!("{}.{}.{}", parts[0], parts[1], parts[0]);
    parts.pop();
    for wrong in [
        "",
        "a",
        "a.b.c",
        "..",
        "\u{1F600}",
        &parts.join("."),
        &forged,
        &format!("{token}.a"),
    ] {
        let reason = service.reason(wrong).await;
        assert_eq!(reason.as_deref(), Some("notOfThisService"), "{wrong}");
    }
    // A token of the time before the state was reset.
    emulator.send(reqwest::Method::POST, "reset", None).await;
    assert_eq!(service.reason(&token).await.as_deref(), Some("unknown"));
}

#[tokio::test]
async fn the_clock_moves_everything_that_the_service_says() {
    for offset in ["-3h", "3h"] {
        let emulator = Emulator::start(&[]);
        let service = Service::new(&emulator);
        let clock = json!({ "offset": offset });
        let told = emulator
            .send(reqwest::Method::PUT, "clock", Some(clock))
            .await;
        assert_eq!(told["offset"], offset);
        let mut call = service.call(
            "POST",
            "/identities",
            r#"{"createTokenWithScopes":["chat"]}"#,
        );
        let refused = call.clone().send().await;
        assert_eq!(
            refused.code(),
            "Denied",
            "a signature of now is stale there"
        );
        call.date = refused.header("date").to_owned();
        let reply = call.send().await;
        assert_eq!(reply.status, 201);
        let end: Timestamp = reply.json()["accessToken"]["expiresOn"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        let left = end.duration_since(Timestamp::now()).as_hours();
        assert!(
            if offset == "3h" {
                left == 26
            } else {
                left == 20
            },
            "{left}"
        );
        let identities = emulator
            .send(reqwest::Method::GET, "identities", None)
            .await;
        let created: Timestamp = identities[0]["createdAt"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(
            created.duration_since(Timestamp::now()).is_negative(),
            offset == "-3h"
        );
    }
}
