//! `inspect` shows the claims of a token, never the token itself.

use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::{
    run::{Output, acs, says},
    support::world::World,
};

#[tokio::test]
async fn it_shows_the_claims_and_not_the_token() {
    let world = World::new().await;
    world.identity("alice", "");
    world.token(
        "web",
        "alice",
        "scopes: [chat, voip], secret: {name: web-acs, keys: {token: ACS_TOKEN}}",
    );
    let token = world.ready("web").await;
    let id = token.status.unwrap().identity_id.unwrap();
    let bytes = world.secret_value("web-acs", "ACS_TOKEN").await.unwrap();
    let text = acs(&world, &["inspect", "web"]).fine();
    let namespace = &world.namespace;
    says(
        &text,
        &[
            &format!("Secret       {namespace}/web-acs, key ACS_TOKEN\n"),
            "AcsToken     web\n",
            &format!("Identity     {id}\n"),
            "Scopes       chat,voip\n",
            "Issued       ",
            " ago)\nExpires      ",
            "(in 23h 59m)\nBytes        unchanged since issue\nClaims       acsScope: \
             \"chat,voip\"\n",
            "skypeid: \"",
            id.strip_prefix("8:").unwrap(),
        ],
    );
    for part in bytes.split('.') {
        assert!(!text.contains(part), "it shows a part of the token");
    }
    // By the name of the Secret, and as JSON.
    let json = acs(&world, &["inspect", "web-acs", "-o", "json"]).json();
    assert_eq!(json["claims"]["acsScope"], "chat,voip");
    assert_eq!(json["identityId"], id.as_str());
    assert_eq!(
        (&json["expired"], &json["edited"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(json.get("token"), None);
    let shown = acs(&world, &["inspect", "web", "--show-token", "-o", "json"]).json();
    assert_eq!(shown["token"].as_str(), Some(bytes.as_str()));
    let shown = acs(&world, &["inspect", "web", "--show-token"]).fine();
    says(&shown, &[&format!("Token        {bytes}\n")]);
}

#[tokio::test]
async fn an_edited_secret_and_an_expired_token_are_found_out() {
    let mut world = World::with(&["--minute", "50ms"], &[]).await;
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat], expiresIn: 1h");
    world.ready("web").await;
    world.kill_operator();
    let secret = world.get::<Secret>("web").await;
    let noted = &secret.metadata.annotations.unwrap()["acs-identity.dev/expires-at"];
    let ends: jiff::Timestamp = noted.parse().unwrap();
    crate::support::eventually("the token has ended", || async {
        (jiff::Timestamp::now() > ends + jiff::SignedDuration::from_secs(1)).then_some(())
    })
    .await;
    let output = acs(&world, &["inspect", "web"]);
    says(&output.out, &["Expires      ", " ago)\n"]);
    says(&output.failed(3), &["/web: the token has expired"]);
    let output = edited(&world).await;
    says(&output.failed(3), &["the Secret was edited"]);
}

/// Edits the token in the Secret, and returns what `inspect` says about it.
async fn edited(world: &World) -> Output {
    let other = world.secret_value("web", "token").await.unwrap() + "x";
    let edit = json!({"stringData": {"token": other}});
    world.patch::<Secret>("web", edit).await;
    let output = acs(world, &["inspect", "web"]);
    says(&output.out, &["Bytes        changed since issue\n"]);
    output
}

#[tokio::test]
async fn a_token_that_would_be_good_but_was_edited_is_found_out() {
    let mut world = World::new().await;
    acs(&world, &["issue", "web", "--scope", "chat"]).fine();
    world.kill_operator();
    let output = edited(&world).await;
    says(
        &output.failed(3),
        &["/web: the token is not the token that the operator issued"],
    );
}

#[tokio::test]
async fn what_holds_no_token_is_not_shown() {
    let world = World::bare(&[], &[]).await;
    let error = acs(&world, &["inspect", "web"]).failed(5);
    says(&error, &["no AcsToken or Secret ", "/web"]);
    world.apply("{apiVersion: v1, kind: Secret, metadata: {name: web}, stringData: {password: hunter2, user: x}}");
    let error = acs(&world, &["inspect", "web"]).failed(5);
    says(
        &error,
        &["/web has no key token; choose one of its keys with --key: password, user"],
    );
    let output = acs(&world, &["inspect", "web", "--key", "password"]);
    assert!(
        !output.out.contains("hunter2") && !output.err.contains("hunter2"),
        "{output:?}"
    );
    says(&output.failed(2), &["holds no ACS token"]);
}
