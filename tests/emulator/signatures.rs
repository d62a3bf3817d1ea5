//! Signatures over the raw request (API reference 6).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use serde::Deserialize;
use serde_json::json;

use crate::{
    caller::{Call, Reply, Service, VERSION, date},
    support::emulator::Emulator,
};

#[derive(Deserialize)]
struct File {
    vectors: Vec<Vector>,
}

#[derive(Clone, Deserialize)]
struct Vector {
    name: String,
    method: String,
    host: String,
    path_and_query: String,
    date: String,
    access_key_base64: String,
    body_base64: String,
    content_sha256: String,
    authorization: String,
}

impl Vector {
    async fn send(&self, emulator: &Emulator) -> Reply {
        let body = STANDARD.decode(&self.body_base64).unwrap();
        let mut call = Call::new(emulator, &self.method, &self.path_and_query, body);
        call.host.clone_from(&self.host);
        for (name, value) in [
            ("x-ms-date", &self.date),
            ("x-ms-content-sha256", &self.content_sha256),
            ("authorization", &self.authorization),
        ] {
            call.headers.push((name.to_owned(), value.clone()));
        }
        call.send_as_it_is().await
    }
}

fn is_denied(reply: &Reply) -> bool {
    reply.status == 401 && reply.code() == "Denied"
}

#[tokio::test]
async fn requests_that_the_official_client_signed_are_accepted_and_changed_ones_are_not() {
    let file: File = serde_json::from_str(include_str!("../vectors/hmac.json")).unwrap();
    assert_eq!(file.vectors.len(), 17);
    for vector in file.vectors {
        let emulator = Emulator::start(&["--access-key", &vector.access_key_base64]);
        let then = rfc2822::parse(&vector.date).unwrap().timestamp();
        let offset = then.duration_since(Timestamp::now()).as_secs();
        let clock = json!({ "offset": offset });
        emulator
            .send(reqwest::Method::PUT, "clock", Some(clock))
            .await;

        let reply = vector.send(&emulator).await;
        assert!(!is_denied(&reply), "{}: {reply:?}", vector.name);

        for change in [
            |it: &mut Vector| it.host.push('1'),
            |it: &mut Vector| it.path_and_query.push_str("&x=y"),
            |it: &mut Vector| it.body_base64 = STANDARD.encode(br#"{"scopes":["voip"]}"#),
            |it: &mut Vector| it.date = it.date.replace(":0", ":1").replace(":59 ", ":58 "),
            |it: &mut Vector| {
                it.authorization = it.authorization.replace("Signature=", "Signature=AAAA");
            },
        ] {
            let mut changed = vector.clone();
            change(&mut changed);
            let reply = changed.send(&emulator).await;
            assert!(is_denied(&reply), "{}: {reply:?}", vector.name);
        }
    }
}

#[tokio::test]
async fn both_keys_sign_and_tokens_tell_which() {
    let emulator = Emulator::start(&[
        "--access-key",
        "cHJpbWFyeQ==",
        "--secondary-access-key",
        "c2Vjb25kYXJ5",
    ]);
    let service = Service::new(&emulator);
    for (key, name) in [("cHJpbWFyeQ==", "primary"), ("c2Vjb25kYXJ5", "secondary")] {
        let mut call = service.call(
            "POST",
            "/identities",
            r#"{"createTokenWithScopes":["chat"]}"#,
        );
        call.key = key.to_owned();
        let reply = call.send().await;
        assert_eq!(reply.status, 201, "{reply:?}");
        let token = reply.json()["accessToken"]["token"].clone();
        let body = json!({ "token": token });
        let check = emulator
            .send(reqwest::Method::POST, "check", Some(body))
            .await;
        assert_eq!(check["key"], name);
    }
    let mut call = service.call("POST", "/identities", "");
    call.key = "b3RoZXI=".to_owned();
    assert!(is_denied(&call.send().await));
}

#[tokio::test]
async fn the_old_form_with_the_header_date_is_accepted_too() {
    let emulator = Emulator::start(&[]);
    let mut call = Service::new(&emulator).call("POST", "/identities", "");
    call.date_header = "date";
    assert_eq!(call.clone().send().await.status, 201);
    // Clients that send both sign only one of them.
    call.date_header = "x-ms-date";
    let unsigned = ("date".to_owned(), date(SignedDuration::from_hours(-9)));
    call.headers.push(unsigned);
    assert_eq!(call.send().await.status, 201);
}

#[tokio::test]
async fn an_id_may_be_encoded_or_not_and_a_host_needs_no_port() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    let id = service.identity().await;
    for written in [
        id.clone(),
        id.replace(':', "%3A"),
        id.replace(':', "%3a"),
        id.replace('_', "%5F"),
    ] {
        for host in [None, Some("127.0.0.1"), Some("emulator.example:1")] {
            let path = format!("/identities/{written}/:issueAccessToken");
            let mut call = service.call("POST", &path, r#"{"scopes":["chat"]}"#);
            if let Some(host) = host {
                call.host = host.to_owned();
            }
            let reply = call.send().await;
            assert_eq!(reply.status, 200, "{written} {host:?} {reply:?}");
        }
    }
    let tokens = &emulator.identities().await[0].tokens;
    assert_eq!(tokens.len(), 12);
}

#[tokio::test]
async fn a_date_may_be_off_by_as_much_as_the_setting_says() {
    let emulator = Emulator::start(&[]);
    for (skew, offset, is_fine) in [
        (None, -14, true),
        (None, 14, true),
        (None, -16, false),
        (None, 16, false),
        (Some("1h"), -16, true),
        (Some("1m"), 14, false),
    ] {
        let skew = skew.unwrap_or("15m");
        crate::caller::set(&emulator, json!({ "clockSkew": skew })).await;
        let mut call = Service::new(&emulator).call("POST", "/identities", "");
        call.date = date(SignedDuration::from_mins(offset));
        let reply = call.send().await;
        assert_eq!(!is_denied(&reply), is_fine, "{skew} {offset} {reply:?}");
        if !is_fine {
            let requests = emulator
                .send(reqwest::Method::GET, "requests?limit=1", None)
                .await;
            let why = requests[0]["why"].as_str().unwrap();
            assert!(
                why.contains("date") && why.contains("clock of the emulator"),
                "{why}"
            );
        }
    }
}

#[tokio::test]
async fn a_hash_that_does_not_fit_the_body_has_its_own_words() {
    let emulator = Emulator::start(&[]);
    let mut call = Service::new(&emulator).call("POST", "/identities", "{}");
    call.sign();
    call.body = b"{ }".to_vec();
    let (status, code, message, _) = call.send_as_it_is().await.refusal();
    assert_eq!((status, code.as_str()), (401, "Denied"));
    assert_eq!(
        message,
        "Request 'x-ms-content-sha256' differs from generated content hash."
    );
}

#[tokio::test]
async fn what_is_missing_or_twice_in_a_signature_is_refused() {
    let emulator = Emulator::start(&[]);
    let mut signed = Service::new(&emulator).call("POST", "/identities", "{}");
    signed.sign();
    for name in ["authorization", "x-ms-date", "x-ms-content-sha256"] {
        let mut call = signed.clone();
        call.headers.retain(|(its, _)| its != name);
        let reply = call.send_as_it_is().await;
        assert!(is_denied(&reply), "without {name}: {reply:?}");
        let mut call = signed.clone();
        let twice = call.headers.iter().find(|(its, _)| its == name).cloned();
        call.headers.push(twice.unwrap());
        let reply = call.send_as_it_is().await;
        assert!(is_denied(&reply), "twice {name}: {reply:?}");
    }
    let authorization = signed.headers.last().unwrap().1.clone();
    for wrong in [
        String::new(),
        "HMAC-SHA256".to_owned(),
        "HMAC-SHA256 ".to_owned(),
        "Basic dXNlcjpwYXNz".to_owned(),
        authorization.replace("HMAC-SHA256", "HMAC-SHA512"),
        authorization.replace("x-ms-date;", ""),
        authorization.replace("host;", ""),
        authorization.replace(";x-ms-content-sha256", ""),
        authorization.replace("&Signature", "&Sig"),
        authorization.replace("SignedHeaders", "Headers"),
        authorization.replace("Signature=", "Signature=!"),
        authorization.replace("host", "host;x-absent"),
    ] {
        let mut call = signed.clone();
        call.headers.last_mut().unwrap().1.clone_from(&wrong);
        let reply = call.send_as_it_is().await;
        assert!(is_denied(&reply), "{wrong}: {reply:?}");
    }
    assert!(emulator.identities().await.is_empty());
    assert_eq!(signed.send_as_it_is().await.status, 201);
}

#[tokio::test]
async fn further_headers_can_be_signed() {
    use ring::{digest, hmac};
    let emulator = Emulator::start(&[]);
    let mut call = Service::new(&emulator).call("POST", "/identities", "");
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, b""));
    let text = format!(
        "POST\n/identities?api-version={VERSION}\n{hash};yes;{};{}",
        call.host, call.date
    );
    let key = STANDARD.decode(emulator.access_key()).unwrap();
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), text.as_bytes());
    let names = "SignedHeaders=x-ms-content-sha256;x-mine;host;x-ms-date";
    let signature = STANDARD.encode(signature);
    for (name, value) in [
        ("x-ms-date", call.date.clone()),
        ("x-ms-content-sha256", hash),
        ("x-mine", "yes".to_owned()),
        (
            "authorization",
            format!("HMAC-SHA256 {names}&Signature={signature}"),
        ),
    ] {
        call.headers.push((name.to_owned(), value));
    }
    assert_eq!(call.clone().send_as_it_is().await.status, 201);
    call.headers[2].1 = "no".to_owned();
    assert!(is_denied(&call.send_as_it_is().await));
}
