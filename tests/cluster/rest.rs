//! At rest nothing happens (K4), and foreign Secrets are ignored (K1).

use std::{collections::BTreeMap, time::Duration};

use acs_identity_operator::crd::{AcsConnection, AcsIdentity, AcsToken};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::support::{eventually, world::World};

#[tokio::test]
async fn a_settled_world_costs_neither_calls_nor_writes() {
    let mut world = World::with_a_token().await;
    world.settled().await;
    let calls = world.emulator.requests().await.len();
    let token = world.get::<AcsToken>("web").await.resource_version();
    let identity = world.get::<AcsIdentity>("alice").await.resource_version();
    // A resync: every watch begins again, every object is reconciled again.
    world.kill_operator();
    world.start_operator();
    world.settled().await;
    assert_eq!(world.emulator.requests().await.len(), calls);
    let now = world.get::<AcsToken>("web").await.resource_version();
    assert_eq!(now, token, "the token was written without need");
    let now = world.get::<AcsIdentity>("alice").await.resource_version();
    assert_eq!(now, identity, "the identity was written without need");
}

#[tokio::test]
async fn one_more_token_in_a_fleet_is_no_reason_to_look_at_the_others() {
    let mut world = World::new().await;
    let url = world.operator().url.clone();
    for number in 0..21 {
        let name = format!("user-{number}");
        world.identity(&name, "");
        world.token(&name, &name, "scopes: [chat]");
    }
    for number in 0..21 {
        world.ready(&format!("user-{number}")).await;
    }
    let counted = async |tokens: i64| {
        let api = world.api::<AcsConnection>();
        eventually(&format!("the connection counts {tokens}"), || async {
            let status = api.get("default").await.expect("a connection").status?;
            (status.tokens == Some(tokens)).then_some(())
        })
        .await;
    };
    counted(21).await;
    let runs = async || -> u64 {
        let answer = reqwest::get(format!("{url}/metrics")).await;
        let text = answer.expect("an answer").text().await.expect("metrics");
        let runs = text.lines().filter_map(|line| {
            let kinds = ["AcsToken", "AcsIdentity"]
                .map(|kind| format!("acs_identity_operator_reconciles_total{{kind=\"{kind}\"}} "));
            kinds
                .iter()
                .find_map(|start| line.strip_prefix(start.as_str()))
        });
        runs.map(|count| count.parse::<u64>().expect("a count"))
            .sum()
    };
    let before = runs().await;
    world.token("one-more", "user-0", "scopes: [chat]");
    world.ready("one-more").await;
    counted(22).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let cost = runs().await - before;
    assert!(cost <= 15, "one more token cost {cost} runs");
}

#[tokio::test]
async fn foreign_secrets_are_neither_watched_nor_touched() {
    let mut world = World::new().await;
    let foreign: Secret = serde_json::from_value(json!({
        "metadata": {"name": "foreign", "labels": {"app.kubernetes.io/managed-by": "somebody"}},
        "stringData": {"password": "hunter2"},
    }))
    .expect("a Secret");
    let api = world.api::<Secret>();
    let made = api
        .create(&kube::api::PostParams::default(), &foreign)
        .await
        .expect("created");
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat]");
    world.ready("web").await;
    world
        .patch::<Secret>("foreign", json!({"stringData": {"password": "other"}}))
        .await;
    world.settled().await;
    let now = api.get("foreign").await.expect("still there");
    assert_eq!(now.uid(), made.uid());
    assert!(!world.operator().process.output().contains("foreign"));
}

#[tokio::test]
async fn metrics_tell_runs_calls_and_tokens_without_naming_objects() {
    let mut world = World::with_a_token().await;
    let (status, text) = world.operator().get("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "acs_identity_operator_reconciles_total{kind=\"AcsToken\"}",
        "acs_identity_operator_tokens_issued_total{kind=\"AcsToken\",reason=\"First\"} 1",
        "acs_identity_operator_acs_calls_total{",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("alice"), "an object's name is a label");
    assert_eq!(world.operator().get("/livez").await.0, 200);
    assert_eq!(world.operator().get("/readyz").await.0, 200);
}

#[tokio::test]
async fn a_new_identity_with_its_token_costs_six_writes() {
    let mut world = World::bare(&[], &[]).await;
    world.connect("default", &world.emulator.connection_string.clone());
    let operator = world.as_admin("operator");
    world.start_operator_with(&operator.kubeconfig);
    world.connection_says("default", "ConnectionReady").await;
    // The first token tries the credential, which reports on the connection.
    world.identity("first", "");
    world.token("first", "first", "scopes: [chat]");
    world.ready("first").await;
    world.settled().await;
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat]");
    world.ready("web").await;
    world.settled().await;
    let user = format!("system:serviceaccount:{}:operator", world.namespace);
    let mut calls = BTreeMap::<_, usize>::new();
    for event in world.cluster.audited(&user) {
        let object = &event["objectRef"];
        let is_of_both = object["name"] == "alice" || object["name"] == "web";
        if is_of_both && event["stage"] == "ResponseComplete" {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let [verb, kind] = [&event["verb"], &object["resource"]].map(text);
            let part = text(&object["subresource"]);
            *calls.entry(format!("{verb} {kind} {part}")).or_default() += 1;
        }
    }
    let expected = [
        ("create secrets ", 1),
        ("patch acsidentities ", 1),
        ("patch acstokens ", 1),
        ("update acsidentities status", 2),
        ("update acstokens status", 1),
    ];
    let expected = expected.map(|(call, count)| (call.to_owned(), count));
    // Whether the name of the Secret is free is read again if ACS was waited for since.
    let reads = calls.remove("get secrets ");
    assert!(reads.is_some_and(|reads| reads <= 2), "{reads:?} reads");
    assert_eq!(calls, BTreeMap::from(expected));
}
