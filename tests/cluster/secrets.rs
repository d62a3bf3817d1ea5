//! Secret of a token: deleted, edited, renamed, owned by others (T5, T6).

use acs_identity_operator::crd::AcsToken;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::support::{
    eventually,
    helm::Release,
    world::{World, spec},
};

#[tokio::test]
async fn a_deleted_secret_comes_back() {
    let world = World::with_a_token().await;
    let first = world.live_token("web", &[]).await;
    world.delete::<Secret>("web").await;
    world.live_token("web", &[&first]).await;
    world.ready("web").await;
    assert_eq!(world.issued().await, 2);
}

#[tokio::test]
async fn a_secret_whose_token_was_edited_is_repaired_with_a_new_token() {
    let world = World::with_a_token().await;
    let first = world.live_token("web", &[]).await;
    let edit = json!({"stringData": {"token": "mine now"}});
    world.patch::<Secret>("web", edit).await;
    let second = world.live_token("web", &[&first]).await;
    assert_ne!(second, "mine now");
    let note = world.event("web", "SecretRepaired").await;
    assert!(note.contains("another writer edited Secret"), "{note}");
}

#[tokio::test]
async fn a_second_edit_within_the_hour_waits_so_that_a_fight_costs_no_tokens() {
    let world = World::with_a_token().await;
    let first = world.live_token("web", &[]).await;
    world
        .patch::<Secret>("web", json!({"stringData": {"token": "mine"}}))
        .await;
    world.live_token("web", &[&first]).await;
    world
        .patch::<Secret>("web", json!({"stringData": {"token": "mine again"}}))
        .await;
    let message = world.token_says("web", "SecretEdited").await;
    assert!(message.contains("every 5 minutes"), "{message}");
    world.settled().await;
    assert_eq!(world.issued().await, 2);
}

#[tokio::test]
async fn other_data_that_was_edited_is_put_right_with_the_same_token() {
    let world = World::with_a_token().await;
    let first = world.live_token("web", &[]).await;
    let edit = json!({"stringData": {"endpoint": "https://evil.example", "extra": "1"}});
    world.patch::<Secret>("web", edit).await;
    eventually("the data is as it was", || async {
        let is_right =
            world.secret_value("web", "endpoint").await == Some(world.emulator.url.clone());
        (is_right && world.secret_value("web", "extra").await.is_none()).then_some(())
    })
    .await;
    assert_eq!(world.secret_value("web", "token").await, Some(first));
    assert_eq!(world.issued().await, 1);
}

#[tokio::test]
async fn labels_that_others_put_on_the_secret_stay() {
    let world = World::with_a_token().await;
    world
        .patch::<Secret>("web", json!({"metadata": {"labels": {"theirs": "yes"}}}))
        .await;
    world
        .patch::<AcsToken>("web", spec(&json!({"secret": {"labels": {"ours": "yes"}}})))
        .await;
    let api = world.api::<Secret>();
    eventually("both labels are there", || async {
        let labels = api.get("web").await.expect("a Secret").metadata.labels?;
        (labels.contains_key("theirs") && labels.contains_key("ours")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_secret_that_lost_our_labels_is_taken_care_of_without_a_new_token() {
    let world = World::with_a_token().await;
    let labels = json!({"metadata": {"labels": {"acs-identity.dev/token-uid": null}}});
    world.patch::<Secret>("web", labels).await;
    let api = world.api::<Secret>();
    eventually("the label is back", || async {
        let labels = api.get("web").await.expect("a Secret").metadata.labels?;
        labels
            .contains_key("acs-identity.dev/token-uid")
            .then_some(())
    })
    .await;
    assert_eq!(world.issued().await, 1);
}

#[tokio::test]
async fn a_renamed_secret_moves_and_there_is_always_one_with_the_token() {
    let world = World::with_a_token().await;
    let first = world.live_token("web", &[]).await;
    world
        .patch::<AcsToken>("web", spec(&json!({"secret": {"name": "moved"}})))
        .await;
    let api = world.api::<Secret>();
    eventually("the Secret has moved", || async {
        let old = api.get_opt("web").await.expect("readable");
        let new = api.get_opt("moved").await.expect("readable");
        assert!(
            old.is_some() || new.is_some(),
            "for a moment there was no Secret"
        );
        (old.is_none() && new.is_some()).then_some(())
    })
    .await;
    assert_eq!(world.secret_value("moved", "token").await, Some(first));
    let token = world.token_where("tells its new Secret", "web", |token| {
        token
            .status
            .as_ref()
            .and_then(|status| status.secret_name.as_deref())
            == Some("moved")
    });
    token.await;
    assert_eq!(world.issued().await, 1);
}

#[tokio::test]
async fn a_foreign_secret_is_never_touched_and_the_token_heals_when_it_goes() {
    let world = World::new().await;
    world.apply(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: web}\nstringData: {password: hunter2}\n",
    );
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat]");
    let message = world.token_says("web", "SecretConflict").await;
    assert!(
        message.contains("was not created by this operator"),
        "{message}"
    );
    assert!(message.contains("another secret.name"), "{message}");
    let secret = world.get::<Secret>("web").await;
    let data = secret.data.expect("its data");
    assert_eq!(data.get("password"), Some(&ByteString(b"hunter2".to_vec())));
    assert_eq!(data.len(), 1);
    assert_eq!(
        world.issued().await,
        0,
        "a token that nobody can hold was issued"
    );
    world.delete::<Secret>("web").await;
    world.ready("web").await;
}

#[tokio::test]
async fn a_secret_is_taken_over_without_a_gap_once_its_owner_hands_it_over() {
    let world = World::bare(&[], &[]).await;
    let home = format!("{}-operator", world.namespace);
    world.cluster.kubectl(&["create", "namespace", &home]);
    let values = json!({
        "watchNamespaces": [world.namespace], "allowInsecureEndpoints": ["127.0.0.1"],
        "logFormat": "text",
    });
    // With exactly the permissions of the chart, and its admission policies.
    let release = Release::install(world.cluster, &world.namespace, &home, &values);
    let _operator = release.start_operator();
    world.connect("default", &world.emulator.connection_string.clone());
    // As a CronJob has written it.
    world.apply(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: web, labels: {team: chat}}\n\
         stringData: {ACS_TOKEN: former, note: other}\n",
    );
    let former = world.get::<Secret>("web").await;
    world.identity("alice", "");
    world.token(
        "web",
        "alice",
        "scopes: [chat], secret: {keys: {token: ACS_TOKEN}}",
    );
    let message = world.token_says("web", "SecretConflict").await;
    assert!(message.contains("docs/take-over-a-secret.md"), "{message}");
    assert_eq!(world.issued().await, 0);

    // The command of that page.
    let token = world.get::<AcsToken>("web").await;
    let uid = token.metadata.uid.expect("a UID");
    let namespace = world.namespace.as_str();
    let mark = format!("acs-identity.dev/token-uid={uid}");
    let annotate = ["annotate", "secret", "web", &mark, "--namespace", namespace];
    world.cluster.kubectl(&annotate);
    world.ready("web").await;
    let secret = world.get::<Secret>("web").await;
    assert_eq!(secret.metadata.uid, former.metadata.uid, "never deleted");
    let data = secret.data.expect("data");
    assert!(!data.contains_key("note"), "it belongs to the AcsToken now");
    let held = String::from_utf8(data["ACS_TOKEN"].0.clone()).expect("text");
    assert!(world.emulator.check(&held).await.valid);
    assert_eq!(world.issued().await, 1);
    world.delete::<AcsToken>("web").await;
    world.gone::<Secret>("web").await;
}

#[tokio::test]
async fn of_two_tokens_that_name_one_secret_the_one_that_has_it_keeps_it() {
    let world = World::with_a_token().await;
    world.token("late", "alice", "scopes: [voip], secret: {name: web}");
    let message = world.token_says("late", "SecretConflict").await;
    assert!(message.contains("belongs to AcsToken web"), "{message}");
    assert_eq!(
        world.secret_value("web", "scopes").await.as_deref(),
        Some("chat")
    );
    world.delete::<AcsToken>("web").await;
    world.ready("late").await;
    assert_eq!(
        world.secret_value("web", "scopes").await.as_deref(),
        Some("voip")
    );
}

#[tokio::test]
async fn a_secret_that_was_made_immutable_is_told_with_what_to_do_and_comes_back_when_deleted() {
    let world = World::with_a_token().await;
    let patch = Patch::Merge(json!({"immutable": true}));
    world
        .api::<Secret>()
        .patch("web", &PatchParams::default(), &patch)
        .await
        .expect("patched");
    world
        .patch::<AcsToken>("web", spec(&json!({"scopes": ["voip"]})))
        .await;
    let message = world.token_says("web", "SecretImmutable").await;
    assert!(message.contains("delete the Secret"), "{message}");
    world.delete::<Secret>("web").await;
    world.ready("web").await;
    assert_eq!(
        world.secret_value("web", "scopes").await.as_deref(),
        Some("voip")
    );
}
