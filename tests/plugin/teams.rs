//! The other commands with the token of a Teams user.

use acs_identity_operator::crd::AcsToken;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::{
    exchange::exchange,
    run::{acs, says},
    support::{
        user_token::{USER, entra_token},
        world::World,
    },
};

/// Returns a world with the token of a Teams user, and that token.
async fn world_of_bob() -> (World, String) {
    let world = World::new().await;
    exchange(&world, &entra_token(&json!({})), &["bob"]).fine();
    let token = world.live_token("bob", &[]).await;
    (world, token)
}

#[tokio::test]
async fn status_shows_it_below_its_connection() {
    let (world, _) = world_of_bob().await;
    world.identity("alice", "");
    world.identity_says("alice", "IdentityReady").await;
    world.connection_says("default", "ConnectionReady").await;
    let tree = acs(&world, &["status"]).fine();
    let lines: Vec<_> = tree.lines().collect();
    assert_eq!(lines.len(), 3, "{tree}");
    says(lines[0], &["AcsConnection default  Ready"]);
    says(lines[1], &["├─ AcsIdentity alice  Ready  8:acs:"]);
    says(
        lines[2],
        &[
            &format!("└─ AcsToken bob  Ready  Teams user {USER}  chat,voip  expires in 59m "),
            "renews in ",
            "Secret bob",
        ],
    );
    let json = acs(&world, &["status", "bob", "-o", "json"]).json();
    let token = &json[0]["children"][0];
    assert_eq!(
        (&token["name"], &token["teamsUser"]),
        (&json!("bob"), &json!(USER))
    );
    // A waiting token is below its connection, too, even if the connection does not exist.
    world.delete::<Secret>("bob-entra").await;
    let eve = ["eve", "--dry-run"];
    world.apply(&exchange(&world, &entra_token(&json!({})), &eve).fine());
    world.token_says("eve", "SecretNotFound").await;
    let mallory = ["mallory", "--dry-run", "--connection", "other"];
    world.apply(&exchange(&world, &entra_token(&json!({})), &mallory).fine());
    world.token_says("mallory", "ConnectionNotFound").await;
    let output = acs(&world, &["status"]);
    says(
        &output.out,
        &[
            "AcsConnection default  Ready",
            "├─ AcsToken bob  Ready",
            "└─ AcsToken eve  waiting  Teams user ",
            "\n      SecretNotFound: waiting for Secret ",
            "AcsConnection other  missing\n",
            "└─ AcsToken mallory  waiting  Teams user ",
        ],
    );
    output.failed(4);
}

#[tokio::test]
async fn inspect_renew_suspend_and_resume_work_as_for_any_token() {
    let (world, first) = world_of_bob().await;
    let text = acs(&world, &["inspect", "bob"]).fine();
    says(
        &text,
        &[
            "/bob, key token\n",
            &format!("Identity     8:orgid:{USER}\n"),
            "Scopes       chat,voip\n",
            "(in 59m ",
            "unchanged since issue\n",
        ],
    );
    let output = acs(&world, &["renew", "bob"]);
    says(&output.err, &["renewed AcsToken ", "/bob, valid until 20"]);
    output.fine();
    let second = world.secret_value("bob", "token").await.unwrap();
    assert_ne!(second, first);
    assert!(world.emulator.check(&second).await.valid);
    says(
        &acs(&world, &["suspend", "--token", "bob"]).err,
        &["suspended AcsToken ", "/bob\n"],
    );
    world.token_says("bob", "Suspended").await;
    says(
        &acs(&world, &["resume", "--token", "bob"]).err,
        &["resumed AcsToken ", "/bob\n"],
    );
    assert_eq!(world.emulator.count("exchangeTeamsToken").await, 2);
}

#[tokio::test]
async fn it_has_no_identity_to_revoke_and_the_command_says_what_to_do_instead() {
    let (world, token) = world_of_bob().await;
    let id = format!("8:orgid:{USER}");
    for arguments in [
        vec!["revoke", "bob", "--yes"],
        vec!["revoke", "--user", &id, "--yes"],
        vec!["delete", "bob", "--yes"],
        vec!["suspend", "bob"],
    ] {
        let error = acs(&world, &arguments).failed(2);
        says(
            &error,
            &[
                "AcsToken ",
                "/bob belongs to a Teams user, which has no AcsIdentity",
                "`kubectl acs delete --token bob`",
                "`kubectl acs suspend --token bob`",
                "ACS cannot revoke this token",
                "sign the user out in Microsoft Entra ID",
            ],
        );
    }
    // The id of another user does not match.
    let error = acs(&world, &["revoke", "8:orgid:other", "--yes"]).failed(5);
    says(&error, &["has the id 8:orgid:other"]);
    assert!(world.emulator.check(&token).await.valid);
    assert_eq!(world.emulator.count("revokeTokens").await, 0);
}

#[tokio::test]
async fn deleting_it_takes_its_secrets_and_says_what_is_left() {
    let (world, _) = world_of_bob().await;
    acs(&world, &["issue", "web", "--scope", "chat"]).fine();
    acs(
        &world,
        &["issue", "bot", "--scope", "chat", "--user", "web"],
    )
    .fine();
    let error = acs(&world, &["delete", "--token", "bob", "--token", "bot"]).failed(2);
    says(&error, &["Delete AcsToken bob, bot? ", "use --yes"]);
    let output = acs(
        &world,
        &["delete", "--token", "bob", "--token", "bot", "-y"],
    );
    says(
        &output.err,
        &[
            "deleted AcsToken ",
            "/bob; ACS cannot revoke the token of a Teams user: everybody who has read it can use \
             it until 20",
            "deleted AcsToken ",
            "/bot\n",
        ],
    );
    assert_eq!(output.fine(), "");
    for name in ["bob", "bot"] {
        let found = world.find::<AcsToken>(name).await;
        assert!(found.is_none());
        let found = world.find::<Secret>(name).await;
        assert!(found.is_none());
    }
    world.gone::<Secret>("bob-entra").await;
    world.live_token("web", &[]).await;
    let error = acs(&world, &["delete", "--token", "bob", "-y"]).failed(5);
    says(&error, &["could not read AcsToken", "bob"]);
}
