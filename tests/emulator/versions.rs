//! Features of each API version (API reference 2.1).

use serde_json::json;

use crate::{
    caller::{Service, set},
    support::emulator::Emulator,
};

/// Version, join scopes, lifetimes, custom ids and GET, Teams exchange, Teams extension, Entra access.
#[rustfmt::skip]
const TABLE: [(&str, bool, bool, bool, bool, bool, bool); 9] = [
    ("2021-03-07",         false, false, false, false, false, false),
    ("2021-10-31-preview", false, false, false, true,  false, false),
    ("2021-11-01",         false, false, false, false, false, false),
    ("2022-06-01",         false, false, false, true,  false, false),
    ("2022-10-01",         false, true,  false, true,  false, false),
    ("2023-10-01",         true,  true,  false, true,  false, false),
    ("2025-03-02-preview", true,  true,  true,  true,  true,  true),
    ("2025-06-30",         true,  true,  false, true,  true,  false),
    ("2026-09-23",         true,  true,  false, true,  true,  false),
];

#[tokio::test]
async fn each_version_has_what_it_brought_and_no_more() {
    let emulator = Emulator::start(&[]);
    for (version, join, lifetimes, custom_ids, teams, extension, entra) in TABLE {
        let service = Service {
            emulator: &emulator,
            version,
        };
        let id = service.identity().await;
        let fine = |reply: crate::caller::Reply| {
            assert!(
                matches!(reply.status, 200..=299 | 400),
                "{version} {reply:?}"
            );
            reply.status != 400
        };
        for scope in ["chat", "voip"] {
            let body = json!({ "scopes": [scope] }).to_string();
            assert!(fine(service.issue(&id, &body).await), "{version} {scope}");
        }
        for scope in ["chat.join", "chat.join.limited", "voip.join"] {
            let body = json!({ "scopes": [scope] }).to_string();
            assert_eq!(
                fine(service.issue(&id, &body).await),
                join,
                "{version} {scope}"
            );
        }
        // A version without the field ignores it.
        let body = r#"{"scopes":["chat"],"expiresInMinutes":1}"#;
        assert_eq!(
            fine(service.issue(&id, body).await),
            !lifetimes,
            "{version}"
        );
        let made = service.create(r#"{"customId":"a"}"#).await.json();
        assert_eq!(made["identity"]["customId"] == "a", custom_ids, "{version}");
        let got = service
            .call("GET", &format!("/identities/{id}"), "")
            .send()
            .await;
        assert_eq!(fine(got), custom_ids, "{version}");
        let exchange = service
            .call("POST", "/teamsUser/:exchangeAccessToken", "{}")
            .send()
            .await;
        assert_eq!(
            exchange.code() != "UnsupportedApiVersion",
            teams,
            "{version}"
        );
        let path = "/access/teamsExtension/tenants/t/assignments/o";
        let put = service
            .call("PUT", path, r#"{"principalType":"user"}"#)
            .send()
            .await;
        assert_eq!(fine(put), extension, "{version}");
        let list = service
            .call("GET", "/access/entra/assignments", "")
            .send()
            .await;
        assert_eq!(fine(list), entra, "{version}");
        assert_eq!(service.revoke(&id).await.status, 204, "{version}");
        assert_eq!(service.delete(&id).await.status, 204, "{version}");
    }
}

#[tokio::test]
async fn answers_list_the_versions_of_their_path() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    let id = service.identity().await;
    let identities = "2020-07-20-preview2, 2021-03-07, 2021-10-31-preview, 2021-11-01, 2022-06-01, 2022-10-01, \
        2023-10-01, 2025-03-02-preview, 2025-06-30, 2026-09-23";
    let teams = "2021-10-31-preview, 2022-06-01, 2022-10-01, 2023-10-01, 2025-03-02-preview, 2025-06-30, 2026-09-23";
    for (reply, expected) in [
        (service.create("").await, identities),
        (
            service.issue(&id, r#"{"scopes":["chat"]}"#).await,
            identities,
        ),
        (service.revoke(&id).await, identities),
        (service.delete(&id).await, identities),
        (
            crate::exchange::teams(&emulator, "2023-10-01", &crate::exchange::body()).await,
            teams,
        ),
    ] {
        assert_eq!(
            reply.header("api-supported-versions"),
            expected,
            "{reply:?}"
        );
    }
    set(
        &emulator,
        json!({"apiVersions": ["2023-10-01", "2027-01-01"]}),
    )
    .await;
    let reply = service.create("").await;
    assert_eq!(
        reply.header("api-supported-versions"),
        "2023-10-01, 2027-01-01"
    );
}

#[tokio::test]
async fn a_version_can_be_withdrawn_and_a_new_one_be_there() {
    let emulator = Emulator::start(&[]);
    set(&emulator, json!({"apiVersions": ["2027-01-01"]})).await;
    let reply = Service::new(&emulator).create("").await;
    assert_eq!(reply.code(), "UnsupportedApiVersion");
    let service = Service {
        emulator: &emulator,
        version: "2027-01-01",
    };
    assert_eq!(service.create("").await.status, 201);
}
