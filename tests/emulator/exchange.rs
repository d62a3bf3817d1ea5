//! Exchange of Entra ID users' tokens for ACS tokens.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    caller::{Call, PREVIEW, Reply, Service, VERSION},
    support::{
        emulator::Emulator,
        user_token::{APPLICATION, TENANT, USER, entra_token},
    },
};

/// Body of a valid Teams exchange.
pub fn body() -> Value {
    json!({"token": entra_token(&json!({})), "appId": APPLICATION, "userId": USER})
}

/// Exchanges the token of a Teams user.
pub async fn teams(emulator: &Emulator, version: &str, body: &Value) -> Reply {
    let service = Service { emulator, version };
    let path = "/teamsUser/:exchangeAccessToken";
    service.call("POST", path, &body.to_string()).send().await
}

#[tokio::test]
async fn a_teams_user_gets_a_token_that_ends_with_the_one_that_was_brought() {
    let emulator = Emulator::start(&[]);
    let reply = teams(&emulator, VERSION, &body()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let answer = reply.json();
    assert_eq!(answer.as_object().unwrap().len(), 2);
    let end: Timestamp = answer["expiresOn"].as_str().unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&(end.as_second() - Timestamp::now().as_second())));
    let check = emulator.check(answer["token"].as_str().unwrap()).await;
    assert!(check.valid);
    assert_eq!(check.identity_id, Some(format!("8:orgid:{USER}")));
    // Version 2 tokens have the application in another claim.
    let token = entra_token(&json!({"appid": null, "azp": APPLICATION}));
    let body = json!({"token": token, "appId": APPLICATION, "userId": USER.to_uppercase()});
    assert_eq!(teams(&emulator, VERSION, &body).await.status, 200);
    // Before 2022-06-01 the body had only the token.
    let body = json!({ "token": token });
    assert_eq!(
        teams(&emulator, "2021-10-31-preview", &body).await.status,
        200
    );
}

#[tokio::test]
async fn claims_that_are_no_ids_are_not_believed() {
    let emulator = Emulator::start(&[]);
    for claims in [
        json!({"oid": "a/b"}),
        json!({"oid": "\u{e9}~?"}),
        json!({"oid": "a".repeat(65)}),
        json!({"tid": "\""}),
        json!({"oid": 1}),
        json!({"exp": "soon"}),
        json!({"exp": 1e30}),
        json!({"exp": i64::MAX}),
    ] {
        let body = json!({"token": entra_token(&claims), "appId": APPLICATION, "userId": claims["oid"].as_str().unwrap_or(USER)});
        let reply = teams(&emulator, VERSION, &body).await;
        assert_eq!(
            (reply.status, reply.code()),
            (401, "InvalidAccessToken".to_owned()),
            "{claims}"
        );
    }
}

async fn by_user(emulator: &Emulator, path: &str, token: Option<&str>) -> Reply {
    let target = format!("{path}?api-version={PREVIEW}");
    let mut call = Call::new(emulator, "POST", &target, "{}");
    if let Some(token) = token {
        call.headers
            .push(("authorization".to_owned(), format!("Bearer {token}")));
    }
    call.send_as_it_is().await
}

#[tokio::test]
async fn users_with_an_assignment_exchange_their_token_and_others_do_not() {
    let emulator = Emulator::start(&[]);
    let preview = Service {
        emulator: &emulator,
        version: PREVIEW,
    };
    let token = entra_token(&json!({}));
    let extension = format!("/access/teamsExtension/tenants/{TENANT}/assignments/{USER}");
    let user = format!("/access/entra/assignments/{USER}");
    let tenant = format!("/access/entra/assignments/{TENANT}");
    let with = |kind: &str, application: &str| json!({"tenantId": TENANT, "principalType": kind, "clientIds": [application]});
    for (exchange, assignment, body) in [
        (
            "/access/teamsExtension/:exchangeAccessToken",
            &extension,
            json!({"principalType": "user"}),
        ),
        (
            "/access/teamsExtension/:exchangeAccessToken",
            &extension,
            with("user", APPLICATION),
        ),
        (
            "/access/entra/:exchangeAccessToken",
            &user,
            with("user", APPLICATION),
        ),
        (
            "/access/entra/:exchangeAccessToken",
            &tenant,
            with("tenant", APPLICATION),
        ),
    ] {
        let reply = by_user(&emulator, exchange, Some(&token)).await;
        assert_eq!(
            (reply.status, reply.code()),
            (403, "Forbidden".to_owned()),
            "{exchange}"
        );
        let put = preview
            .call("PUT", assignment, &body.to_string())
            .send()
            .await;
        assert_eq!(put.status, 201, "{put:?}");
        let reply = by_user(&emulator, exchange, Some(&token)).await;
        assert_eq!(reply.status, 200, "{exchange} {reply:?}");
        let answer = reply.json();
        let id = answer["identity"]["id"].as_str().unwrap();
        assert!(id.ends_with(&format!("_wf_{TENANT}_{USER}")), "{id}");
        let check = emulator
            .check(answer["accessToken"]["token"].as_str().unwrap())
            .await;
        assert!(check.valid);
        assert_eq!(check.scopes.unwrap(), ["chat.join", "voip"]);

        let put = preview
            .call("PUT", assignment, &with("user", "another").to_string())
            .send()
            .await;
        assert_eq!(put.status, 200);
        let reply = by_user(&emulator, exchange, Some(&token)).await;
        assert_eq!(reply.status, 403, "{exchange}");
        assert_eq!(
            preview.call("DELETE", assignment, "").send().await.status,
            204
        );
        for token in [None, Some("broken")] {
            let reply = by_user(&emulator, exchange, token).await;
            assert_eq!(
                (reply.status, reply.code()),
                (401, "InvalidAccessToken".to_owned())
            );
        }
    }
}
