//! Refusals that ACS has been seen to send (API reference 8.2), and those of the emulator alone.

use serde_json::json;

use crate::{
    caller::{Call, Reply, Service, VERSION},
    exchange::teams,
    support::{
        emulator::Emulator,
        user_token::{APPLICATION, USER, entra_token},
    },
};

const NOT_OWNED: &str = "Provided identity doesn't belong to the resource.";

fn has(reply: &Reply, status: u16, code: &str, message: &str, target: Option<&str>) {
    let expected = (
        status,
        code.to_owned(),
        message.to_owned(),
        target.map(str::to_owned),
    );
    assert_eq!(reply.refusal(), expected, "{reply:?}");
}

#[tokio::test]
async fn a_life_out_of_bounds_is_refused_on_create_and_on_issue() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    let id = service.identity().await;
    for minutes in [59, 1441, 0, -1, i32::MAX, i32::MIN] {
        let message = format!(
            "ExpiresInMinutes value {minutes} is invalid. Value must be within the [60, 1440] interval."
        );
        let body = json!({"scopes": ["chat"], "createTokenWithScopes": ["chat"], "expiresInMinutes": minutes});
        for reply in [
            service.create(&body.to_string()).await,
            service.issue(&id, &body.to_string()).await,
        ] {
            has(
                &reply,
                400,
                "ValidationError",
                &message,
                Some("ExpiresInMinutes"),
            );
            assert!(reply.headers.contains_key("api-supported-versions"));
        }
    }
    for minutes in [60, 1440] {
        let body = json!({"scopes": ["chat"], "expiresInMinutes": minutes});
        assert_eq!(service.issue(&id, &body.to_string()).await.status, 200);
    }
}

#[tokio::test]
async fn missing_scopes_and_empty_scopes_are_two_different_refusals() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    let id = service.identity().await;
    for body in ["", "{}", r#"{"scopes":null}"#] {
        let reply = service.issue(&id, body).await;
        let message = "Scopes: The Scopes field is required.";
        has(&reply, 400, "ValidationError", message, Some("Scopes"));
        assert!(
            !reply.headers.contains_key("api-supported-versions"),
            "the framework's own refusals don't have it"
        );
    }
    let reply = service.issue(&id, r#"{"scopes":[]}"#).await;
    let message = "Invalid scopes - Scopes field is required.";
    has(&reply, 400, "ValidationError", message, Some("scopes"));
    assert!(reply.headers.contains_key("api-supported-versions"));
}

#[tokio::test]
async fn an_id_of_another_resource_or_an_invented_one_is_not_owned() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    let own = service.identity().await;
    let resource = &own["8:acs:".len()..own.find('_').unwrap()];
    for id in [
        "8:acs:00000000-0000-0000-0000-000000000000_00000006-19e0-2727-80f5-8b3a0d003502",
        "8:acs:invented",
        "invented",
        "%2E%2E",
        "a%2Fb",
        "8%3Aorgid%3A00000000-0000-0000-0000-000000000000",
        resource,
        &format!("8:acs:{resource}"),
        &format!("9:acs:{resource}_00000006-19e0-2727-80f5-8b3a0d003502"),
    ] {
        for reply in [
            service.issue(id, r#"{"scopes":["chat"]}"#).await,
            service.revoke(id).await,
            service.delete(id).await,
        ] {
            has(&reply, 401, "IdentityNotOwned", NOT_OWNED, None);
        }
    }
}

#[tokio::test]
async fn a_wrong_key_is_denied() {
    let emulator = Emulator::start(&[]);
    let mut call = Service::new(&emulator).call("POST", "/identities", "");
    call.key = "d3Jvbmc=".to_owned();
    let message = "Denied by the resource provider.";
    has(&call.send().await, 401, "Denied", message, None);
}

#[tokio::test]
async fn an_unknown_version_is_told_with_the_resource_and_the_version() {
    let emulator = Emulator::start(&[]);
    for version in [
        "2019-01-01",
        "2024-01-01",
        "2099-01-01",
        "latest",
        "2023-10-01-preview",
        "%00",
    ] {
        let target = format!("/identities?api-version={version}");
        let reply = Call::new(&emulator, "POST", &target, "").send().await;
        let url = format!("{}/identities", emulator.url);
        let version = if version == "%00" { "\0" } else { version };
        let message = format!(
            "The HTTP resource that matches the request URI '{url}' does not support the API version '{version}'."
        );
        has(&reply, 400, "UnsupportedApiVersion", &message, None);
    }
}

#[tokio::test]
async fn what_teams_users_bring_is_refused_in_three_ways() {
    let emulator = Emulator::start(&[]);
    let token = entra_token(&json!({}));
    let expired = entra_token(&json!({"exp": 1_600_000_000}));
    for (token, app, user, status, code, message, target) in [
        (
            json!(token),
            json!(null),
            json!(USER),
            400,
            "ValidationError",
            "AppId: The AppId field is required.",
            Some("AppId"),
        ),
        (
            json!(token),
            json!(APPLICATION),
            json!(null),
            400,
            "ValidationError",
            "UserId: The UserId field is required.",
            Some("UserId"),
        ),
        (
            json!(null),
            json!(APPLICATION),
            json!(USER),
            400,
            "ValidationError",
            "Token: The Token field is required.",
            Some("Token"),
        ),
        (
            json!(token),
            json!(APPLICATION),
            json!("another"),
            400,
            "ValidationError",
            "Provided AAD token issued for unexpected user.",
            Some("userId"),
        ),
        (
            json!(token),
            json!("another"),
            json!(USER),
            400,
            "ValidationError",
            "AAD application is not the expected one.",
            Some("appId"),
        ),
        (
            json!(""),
            json!(APPLICATION),
            json!(USER),
            401,
            "InvalidAccessToken",
            "Provided access token is not valid.",
            None,
        ),
        (
            json!("broken"),
            json!(APPLICATION),
            json!(USER),
            401,
            "InvalidAccessToken",
            "Provided access token is not valid.",
            None,
        ),
        (
            json!("a.b.c"),
            json!(APPLICATION),
            json!(USER),
            401,
            "InvalidAccessToken",
            "Provided access token is not valid.",
            None,
        ),
        (
            json!(expired),
            json!(APPLICATION),
            json!(USER),
            401,
            "InvalidAccessToken",
            "Provided access token is not valid.",
            None,
        ),
    ] {
        let body = json!({"token": token, "appId": app, "userId": user});
        has(
            &teams(&emulator, VERSION, &body).await,
            status,
            code,
            message,
            target,
        );
    }
}

#[tokio::test]
async fn a_deleted_identity_does_not_exist() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    let id = service.identity().await;
    assert_eq!(service.delete(&id).await.status, 204);
    for reply in [
        service.issue(&id, r#"{"scopes":["chat"]}"#).await,
        service.revoke(&id).await,
    ] {
        has(
            &reply,
            404,
            "IdentityNotFound",
            "Provided identity doesn't exist.",
            None,
        );
    }
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there_are_told() {
    let emulator = Emulator::start(&[]);
    for (method, path, status, allow) in [
        ("GET", "/", 404, ""),
        ("GET", "/identities/", 404, ""),
        ("POST", "/identities/a/b", 404, ""),
        ("POST", "/identities/a/issueAccessToken", 404, ""),
        ("POST", "/identities/a/:issueAccessToken/b", 404, ""),
        ("POST", "/_emulatorx", 404, ""),
        ("GET", "/identities", 405, "POST"),
        ("HEAD", "/identities/a", 405, "GET, DELETE, PATCH"),
        ("OPTIONS", "/identities/a/:issueAccessToken", 405, "POST"),
        ("BREW", "/teamsUser/:exchangeAccessToken", 405, "POST"),
        ("POST", "/access/entra/assignments", 405, "GET, PATCH"),
    ] {
        let reply = Service::new(&emulator).call(method, path, "").send().await;
        assert_eq!(
            (reply.status, reply.header("allow")),
            (status, allow),
            "{method} {path}"
        );
        if method != "HEAD" {
            let code = if status == 404 {
                "NotFound"
            } else {
                "MethodNotAllowed"
            };
            assert_eq!(reply.code(), code, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn answers_have_the_headers_of_the_service() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    let reply = service.create("").await;
    for (name, expected) in [
        ("content-type", "application/json; charset=utf-8"),
        ("request-context", "appId="),
        ("x-cache", "CONFIG_NOCACHE"),
    ] {
        assert_eq!(reply.header(name), expected);
    }
    for name in ["ms-cv", "x-azure-ref", "strict-transport-security", "date"] {
        assert!(!reply.header(name).is_empty(), "{name} is missing");
    }
    assert!(reply.header("x-processing-time").ends_with("ms"));
    assert!(
        reply
            .header("api-supported-versions")
            .contains(", 2023-10-01, ")
    );
    assert!(!reply.headers.contains_key("x-ms-client-request-id"));

    let mut call = service.call("POST", "/identities", "");
    call.headers
        .push(("x-ms-client-request-id".to_owned(), "mine".to_owned()));
    assert!(
        !call
            .clone()
            .send()
            .await
            .headers
            .contains_key("x-ms-client-request-id")
    );
    call.headers.push((
        "x-ms-return-client-request-id".to_owned(),
        "true".to_owned(),
    ));
    assert_eq!(call.send().await.header("x-ms-client-request-id"), "mine");
}
