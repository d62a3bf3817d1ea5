//! Emulated Entra ID and token endpoints of Azure machines.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    caller::{Call, Reply, VERSION},
    support::emulator::Emulator,
};

const TENANT: &str = "contoso.onmicrosoft.com";
const CLIENT: &str = "11111111-2222-3333-4444-555555555555";
const SECRET: &str = "a-client-secret";
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const SUBJECT: &str = "system:serviceaccount:team:acs";
const AUDIENCE: &str = "https://communication.azure.com/";

fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish()
}

/// Returns the fields of a valid request, with fields replaced or added.
fn fields<'a>(other: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT),
        ("client_secret", SECRET),
        ("scope", "https://communication.azure.com//.default"),
    ];
    for (name, value) in other {
        fields.retain(|(its, _)| its != name);
        fields.push((name, value));
    }
    fields
}

async fn post(emulator: &Emulator, path: &str, body: String, headers: &[(&str, &str)]) -> Reply {
    let mut call = Call::new(emulator, "POST", path, body);
    call.content_type = Some("application/x-www-form-urlencoded");
    let headers = headers.iter();
    call.headers = headers
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    call.send_as_it_is().await
}

async fn ask(emulator: &Emulator, tenant: &str, fields: &[(&str, &str)]) -> Reply {
    let path = format!("/{tenant}/oauth2/v2.0/token");
    post(emulator, &path, form(fields), &[]).await
}

async fn get(emulator: &Emulator, target: &str, headers: &[(&str, &str)]) -> Reply {
    let mut call = Call::new(emulator, "GET", target, "");
    let headers = headers.iter();
    call.headers = headers
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    call.send_as_it_is().await
}

fn body(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or_default()
}

fn token(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{reply:?}");
    body(reply)["access_token"].as_str().unwrap().to_owned()
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

async fn create(emulator: &Emulator, token: &str) -> Reply {
    let target = format!("/identities?api-version={VERSION}");
    let authorization = format!("Bearer {token}");
    post(
        emulator,
        &target,
        String::new(),
        &[("authorization", &authorization)],
    )
    .await
}

fn assertion(other: &Value) -> String {
    let mut claims = json!({
        "iss": "https://cluster.example", "sub": SUBJECT, "aud": ["api://AzureADTokenExchange"],
        "exp": Timestamp::now().as_second() + 600,
    });
    let all = claims.as_object_mut().unwrap();
    all.extend(other.as_object().unwrap().clone());
    let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
    format!("eyJhbGciOiJSUzI1NiJ9.{payload}.c2lnbmF0dXJl")
}

async fn know(emulator: &Emulator) {
    let application = json!({
        "tenantId": TENANT, "clientId": CLIENT, "secrets": [SECRET], "expiredSecrets": ["expired"],
        "subjects": [SUBJECT],
    });
    let settings = json!({"entraTokens": "issued", "entraApplications": [application]});
    emulator.settings(settings).await;
}

#[tokio::test]
async fn a_secret_brings_a_token_that_the_data_plane_takes() {
    let emulator = Emulator::start(&[]);
    know(&emulator).await;
    let reply = ask(&emulator, TENANT, &fields(&[])).await;
    let answer = body(&reply);
    assert_eq!(
        (
            &answer["token_type"],
            &answer["expires_in"],
            &answer["ext_expires_in"]
        ),
        (&json!("Bearer"), &json!(3600), &json!(3600))
    );
    let token = token(&reply);
    let claims = claims(&token);
    assert_eq!(
        (&claims["aud"], &claims["appid"]),
        (&json!(AUDIENCE), &json!(CLIENT))
    );
    assert_eq!(create(&emulator, &token).await.status, 201);
    // Same claims, without a signature.
    let (input, _) = token.rsplit_once('.').unwrap();
    let forged = format!("{input}.c2lnbmF0dXJl");
    assert_eq!(create(&emulator, &forged).await.status, 401);
    emulator.settings(json!({"entraTokens": "claims"})).await;
    assert_eq!(create(&emulator, &forged).await.status, 201);
    emulator.settings(json!({"entraTokens": "none"})).await;
    assert_eq!(create(&emulator, &token).await.status, 401);
}

#[tokio::test]
async fn a_token_for_something_else_or_out_of_date_is_refused_by_the_data_plane() {
    let emulator = Emulator::start(&[]);
    know(&emulator).await;
    let scope = ("scope", "https://management.azure.com/.default");
    let other = token(&ask(&emulator, TENANT, &fields(&[scope])).await);
    let reply = create(&emulator, &other).await;
    assert_eq!(
        (reply.status, &body(&reply)["error"]["code"]),
        (401, &json!("Denied"))
    );
    emulator.settings(json!({"entraTokenLife": "0s"})).await;
    let dead = token(&ask(&emulator, TENANT, &fields(&[])).await);
    assert_eq!(create(&emulator, &dead).await.status, 401);
    emulator.settings(json!({"entraTokenLife": "90m"})).await;
    let reply = ask(&emulator, TENANT, &fields(&[])).await;
    assert_eq!(body(&reply)["expires_in"], 5400);
}

#[tokio::test]
#[rustfmt::skip] // A table.
async fn every_refusal_has_its_code_and_names_what_is_wrong() {
    let emulator = Emulator::start(&[]);
    know(&emulator).await;
    let stranger = assertion(&json!({"sub": "system:serviceaccount:team:other"}));
    let elsewhere = assertion(&json!({"aud": "api://elsewhere"}));
    let late = assertion(&json!({"exp": 1_600_000_000}));
    let by = |text| [("client_assertion_type", ASSERTION_TYPE), ("client_assertion", text)];
    let [stranger, elsewhere, late, broken] = [by(&stranger), by(&elsewhere), by(&late), by("broken")];
    for (tenant, other, status, error, number, names) in [
        ("fabrikam.example", &[][..], 400, "invalid_request", 90002, "fabrikam.example"),
        ("common", &[], 400, "invalid_request", 90002, "common"),
        (TENANT, &[("client_id", "another")], 400, "unauthorized_client", 700_016, "another"),
        (TENANT, &[("client_secret", "wrong")], 401, "invalid_client", 7_000_215, CLIENT),
        (TENANT, &[("client_secret", "expired")], 401, "invalid_client", 7_000_222, CLIENT),
        (TENANT, &[("client_secret", "")], 401, "invalid_client", 7_000_218, "client_secret"),
        (TENANT, &[("grant_type", "password")], 400, "unsupported_grant_type", 70003, "password"),
        (TENANT, &[("scope", "https://communication.azure.com/")], 400, "invalid_scope", 1_002_012, "/.default"),
        (TENANT, &stranger, 401, "invalid_client", 700_213, "system:serviceaccount:team:other"),
        (TENANT, &elsewhere, 401, "invalid_client", 700_212, "audience"),
        (TENANT, &late, 401, "invalid_client", 700_024, "valid time range"),
        (TENANT, &broken, 400, "invalid_request", 50027, "malformed"),
    ] {
        let reply = ask(&emulator, tenant, &fields(other)).await;
        let answer = body(&reply);
        assert_eq!((reply.status, &answer["error"]), (status, &json!(error)), "{answer}");
        assert_eq!(answer["error_codes"], json!([number]), "{answer}");
        let said = answer["error_description"].as_str().unwrap();
        assert!(said.starts_with(&format!("AADSTS{number}: ")), "{said}");
        for part in [names, "Trace ID: ", "Correlation ID: ", "Timestamp: "] {
            assert!(said.contains(part), "{said}");
        }
        assert!(!said.contains(SECRET) && !said.contains("wrong"), "{said}");
    }
    let trusted = assertion(&json!({}));
    token(&ask(&emulator, TENANT, &fields(&by(&trusted))).await);
    emulator.settings(json!({"entraRefusal": 65001})).await;
    let answer = body(&ask(&emulator, TENANT, &fields(&[])).await);
    assert_eq!(answer["error_codes"], json!([65001]));
    let nothing_known = json!({"entraRefusal": null, "entraApplications": null});
    emulator.settings(nothing_known).await;
    token(&ask(&emulator, "anyone.example", &fields(&[("client_secret", "anything")])).await);
}

#[tokio::test]
async fn a_machine_gives_tokens_to_those_who_know_its_header_and_for_identities_that_it_has() {
    let mut emulator = Emulator::start(&[]);
    let header = emulator.printed("identity-header");
    let query = "api-version=2019-08-01&resource=https%3A%2F%2Fcommunication.azure.com%2F";
    let app = format!("/msi/token?{query}");
    let machine = format!("/metadata/identity/oauth2/token?{query}");
    for (target, right) in [
        (&app, ("x-identity-header", header.as_str())),
        (&machine, ("metadata", "true")),
    ] {
        let reply = get(&emulator, target, &[right]).await;
        let answer = body(&reply);
        assert_eq!(claims(&token(&reply))["aud"], AUDIENCE);
        assert_eq!(answer["resource"], AUDIENCE);
        let end: i64 = answer["expires_on"].as_str().unwrap().parse().unwrap();
        assert!((end - Timestamp::now().as_second() - 3600).abs() < 60);
        for wrong in [&[][..], &[(right.0, "wrong")]] {
            let reply = get(&emulator, target, wrong).await;
            assert!([400, 401].contains(&reply.status), "{reply:?}");
        }
        let (path, _) = target.split_once('?').unwrap();
        assert_eq!(get(&emulator, path, &[right]).await.status, 400);
        emulator
            .settings(json!({"managedIdentities": [CLIENT]}))
            .await;
        let reply = get(&emulator, target, &[right]).await;
        assert_eq!(reply.status, 400);
        assert!(String::from_utf8_lossy(&reply.body).contains("Identity not found"));
        let assigned = format!("{target}&client_id={CLIENT}");
        token(&get(&emulator, &assigned, &[right]).await);
        emulator.settings(json!({"managedIdentities": null})).await;
    }
}

#[tokio::test]
async fn the_local_token_endpoint_wants_a_header_and_serves_a_list_of_audiences() {
    let emulator = Emulator::start(&[]);
    let body_of = form(&[("resource", AUDIENCE)]);
    let metadata = [("metadata", "true")];
    let reply = post(&emulator, "/oauth2/token", body_of.clone(), &metadata).await;
    assert_eq!(reply.status, 400);
    assert_eq!(
        body(&reply)["error"],
        json!({"code": "AudienceNotSupported", "message": format!("Audience {AUDIENCE} is not a supported MSI token audience.")})
    );
    let audiences = json!({"localTokenAudiences": [AUDIENCE], "entraTokens": "issued"});
    emulator.settings(audiences).await;
    let reply = post(&emulator, "/oauth2/token", body_of.clone(), &[]).await;
    assert_eq!(
        (reply.status, &body(&reply)["error"]["code"]),
        (400, &json!("BadRequest"))
    );
    let reply = post(&emulator, "/oauth2/token", body_of, &metadata).await;
    assert_eq!(create(&emulator, &token(&reply)).await.status, 201);
}

#[tokio::test]
async fn faults_hit_what_stands_in_for_entra_and_the_journal_tells_no_secret() {
    let emulator = Emulator::start(&[]);
    know(&emulator).await;
    emulator
        .faults(json!([{"operation": "entraToken", "effect": "status", "status": 503, "body": "html", "count": 1}]))
        .await;
    assert_eq!(ask(&emulator, TENANT, &fields(&[])).await.status, 503);
    token(&ask(&emulator, TENANT, &fields(&[])).await);
    ask(&emulator, TENANT, &fields(&[("client_secret", "wrong")])).await;
    let journal = reqwest::get(format!("{}/_emulator/requests", emulator.url))
        .await
        .unwrap();
    let journal = journal.text().await.unwrap();
    let entries: Vec<Value> = serde_json::from_str(&journal).unwrap();
    let told: Vec<_> = entries
        .iter()
        .map(|it| {
            (
                it["operation"].as_str(),
                it["status"].as_u64(),
                it["errorCode"].as_str(),
            )
        })
        .collect();
    let operation = Some("entraToken");
    assert_eq!(
        told,
        [
            (operation, Some(503), None),
            (operation, Some(200), None),
            (operation, Some(401), Some("AADSTS7000215")),
        ]
    );
    assert!(
        !journal.contains(SECRET) && !journal.contains("wrong"),
        "{journal}"
    );
}

#[tokio::test]
async fn another_method_is_named() {
    let emulator = Emulator::start(&[]);
    for (method, target, allowed) in [
        ("GET", "/a/oauth2/v2.0/token", "POST"),
        ("POST", "/msi/token", "GET"),
        ("GET", "/oauth2/token", "POST"),
        ("DELETE", "/metadata/identity/oauth2/token", "GET"),
    ] {
        let reply = Call::new(&emulator, method, target, "")
            .send_as_it_is()
            .await;
        assert_eq!(reply.status, 405, "{target}");
        assert_eq!(
            reply.headers.get("allow").map(String::as_str),
            Some(allowed)
        );
    }
}
