//! Assignments: created, listed, replaced and removed.

use serde_json::json;

use crate::{
    caller::{PREVIEW, Service},
    support::emulator::Emulator,
};

#[tokio::test]
async fn an_assignment_is_made_replaced_read_and_removed() {
    let emulator = Emulator::start(&[]);
    let service = Service {
        emulator: &emulator,
        version: PREVIEW,
    };
    for (path, body) in [
        (
            "/access/teamsExtension/tenants/tenant/assignments/object",
            json!({"principalType": "resourceAccount", "clientIds": ["one", "two"]}),
        ),
        (
            "/access/entra/assignments/object",
            json!({"tenantId": "tenant", "principalType": "group", "clientIds": ["one"]}),
        ),
    ] {
        let text = body.to_string();
        assert_eq!(service.call("GET", path, "").send().await.status, 404);
        let made = service.call("PUT", path, &text).send().await;
        assert_eq!(made.status, 201, "{made:?}");
        assert_eq!(service.call("PUT", path, &text).send().await.status, 200);
        let got = service.call("GET", path, "").send().await;
        assert_eq!((got.status, got.json()), (200, made.json()));
        let mut expected = body.clone();
        expected["objectId"] = json!("object");
        expected["tenantId"] = json!("tenant");
        assert_eq!(got.json(), expected);
        for _ in 0..2 {
            assert_eq!(service.call("DELETE", path, "").send().await.status, 204);
        }
        assert_eq!(
            service.call("GET", path, "").send().await.code(),
            "NotFound"
        );
        for wrong in [
            json!({}),
            json!({"tenantId": "tenant", "principalType": "robot", "clientIds": []}),
            json!({"tenantId": "tenant", "principalType": "user", "clientIds": "one"}),
            json!({"tenantId": "tenant", "principalType": "user", "clientIds": [1]}),
            json!({"tenantId": "tenant", "principalType": "user", "clientIds": vec!["a"; 101]}),
        ] {
            let reply = service.call("PUT", path, &wrong.to_string()).send().await;
            assert_eq!(
                (reply.status, reply.code()),
                (400, "ValidationError".to_owned()),
                "{wrong}"
            );
        }
    }
}

#[tokio::test]
async fn assignments_of_entra_users_are_listed_and_changed_together() {
    let emulator = Emulator::start(&[]);
    let service = Service {
        emulator: &emulator,
        version: PREVIEW,
    };
    let path = "/access/entra/assignments";
    let one = json!({"tenantId": "tenant", "principalType": "user", "clientIds": ["x"]});
    let mut update = service.call("PATCH", path, &json!({"a": one, "b": one}).to_string());
    update.content_type = Some("application/merge-patch+json");
    assert_eq!(update.send().await.status, 204);
    // Either all changes are made or none.
    let reply = service
        .call("PATCH", path, &json!({"a": null, "c": {}}).to_string())
        .send()
        .await;
    assert_eq!(reply.status, 400);
    let objects = || async {
        let list = service.call("GET", path, "").send().await.json();
        let list = list["value"].as_array().unwrap().clone();
        list.into_iter()
            .map(|it| it["objectId"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(objects().await, ["a", "b"]);
    service.call("PATCH", path, r#"{"a":null}"#).send().await;
    assert_eq!(objects().await, ["b"]);
}
