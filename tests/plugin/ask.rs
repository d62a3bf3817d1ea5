//! `renew`, `revoke`, `suspend` and `resume`.

use acs_identity_operator::crd::{AcsIdentity, AcsToken};
use serde_json::json;

use crate::{
    run::{acs, says},
    support::world::World,
};

#[tokio::test]
async fn renew_issues_a_new_token_and_leaves_the_former_alive() {
    let world = World::new().await;
    let first = acs(&world, &["issue", "web", "--scope", "chat"]).json();
    let output = acs(&world, &["renew", "web"]);
    says(&output.err, &["renewed AcsToken ", "/web, valid until 20"]);
    assert_eq!(output.fine(), "");
    let second = world.secret_value("web", "token").await.unwrap();
    let first = first["token"].as_str().unwrap();
    assert_ne!(second, first);
    assert!(world.emulator.check(first).await.valid);
    assert!(world.emulator.check(&second).await.valid);
    // Each call is a new request, and each request issues one token.
    acs(&world, &["renew", "web"]).fine();
    world.settled().await;
    assert_eq!(world.issued().await, 3);
    let error = acs(&world, &["renew", "web", "nobody"]).failed(5);
    says(
        &error,
        &[
            "AcsToken ",
            "/nobody does not exist; run `kubectl acs status` to list",
        ],
    );
}

#[tokio::test]
async fn renew_tells_why_it_takes_long_and_what_is_suspended() {
    let world = World::new().await;
    acs(&world, &["issue", "web", "--scope", "chat"]).fine();
    let refuse = json!([{"operation": "issueToken", "effect": "status", "status": 403}]);
    world.emulator.faults(refuse).await;
    let error = acs(&world, &["renew", "web", "--timeout", "3s"]).failed(4);
    says(
        &error,
        &[
            "timed out after 3s waiting for AcsToken",
            "/web: requested; the last call failed: ",
        ],
    );
    let status = acs(&world, &["status"]).out;
    says(
        &status,
        &[
            "AcsToken web  Ready",
            "a new token is requested\n",
            "ago a call failed: ",
        ],
    );
    world.emulator.heal().await;
    acs(&world, &["suspend", "--token", "web"]).fine();
    let error = acs(&world, &["renew", "web"]).failed(3);
    says(
        &error,
        &[
            "AcsToken ",
            "/web is suspended: ",
            "run `kubectl acs resume` to resume it",
        ],
    );
}

#[tokio::test]
async fn revoke_ends_all_tokens_of_a_user_and_waits_for_new_ones() {
    let world = World::new().await;
    let web = acs(&world, &["issue", "web", "--scope", "chat"]).json();
    let bot = acs(
        &world,
        &["issue", "bot", "--scope", "voip", "--user", "web"],
    )
    .json();
    let error = acs(&world, &["revoke", "web"]).failed(2);
    says(
        &error,
        &[
            "Revoke all tokens of AcsIdentity web and issue new ones?",
            "use --yes",
        ],
    );
    assert_eq!(world.emulator.count("revokeTokens").await, 0);
    let output = acs(
        &world,
        &[
            "revoke",
            "--user",
            web["user_id"].as_str().unwrap(),
            "--yes",
        ],
    );
    says(
        &output.err,
        &[
            "revoked all tokens of AcsIdentity ",
            "/web that were issued up to 20",
            "issued AcsToken ",
            "/bot again",
            "issued AcsToken ",
            "/web again",
        ],
    );
    assert_eq!(output.fine(), "");
    assert_eq!(world.emulator.count("revokeTokens").await, 1);
    for (name, former) in [("web", &web), ("bot", &bot)] {
        let former = former["token"].as_str().unwrap();
        assert!(!world.emulator.check(former).await.valid, "{name}");
        let now = world.secret_value(name, "token").await.unwrap();
        assert!(world.emulator.check(&now).await.valid, "{name}");
    }
}

#[tokio::test]
async fn revoke_with_suspend_leaves_no_token_alive_until_it_is_resumed() {
    let world = World::new().await;
    let former = acs(&world, &["issue", "web", "--scope", "chat"]).json();
    let output = acs(&world, &["revoke", "web", "--suspend", "--yes"]);
    says(&output.err, &["revoked all tokens of AcsIdentity "]);
    assert!(!output.err.contains("anew"), "{output:?}");
    output.fine();
    assert!(
        !world
            .emulator
            .check(former["token"].as_str().unwrap())
            .await
            .valid
    );
    world.settled().await;
    assert_eq!(world.issued().await, 1);
    world.token_says("web", "Suspended").await;
    let status = acs(&world, &["status"]);
    says(
        &status.out,
        &["AcsIdentity web  suspended", "AcsToken web  suspended"],
    );
    status.failed(3);
    says(
        &acs(&world, &["resume", "web"]).err,
        &["resumed AcsIdentity ", "/web\n"],
    );
    world.ready("web").await;
    world.live_token("web", &[]).await;
}

#[tokio::test]
async fn suspend_and_resume_say_when_it_is_so_and_leave_nothing_in_the_spec() {
    let world = World::new().await;
    acs(&world, &["issue", "web", "--scope", "chat"]).fine();
    let output = acs(&world, &["suspend", "web", "--token", "web"]);
    says(
        &output.err,
        &[
            "suspended AcsIdentity ",
            "/web\n",
            "suspended AcsToken ",
            "/web\n",
        ],
    );
    output.fine();
    let identity = world.get::<AcsIdentity>("web").await;
    let token = world.get::<AcsToken>("web").await;
    assert_eq!(identity.spec.suspend, Some(true));
    assert_eq!(token.spec.suspend, Some(true));
    acs(&world, &["resume", "web", "--token", "web"]).fine();
    let identity = world.get::<AcsIdentity>("web").await;
    let token = world.get::<AcsToken>("web").await;
    assert_eq!((identity.spec.suspend, token.spec.suspend), (None, None));
    says(&acs(&world, &["suspend"]).failed(2), &["<USER>"]);
    says(
        &acs(&world, &["suspend", "nobody"]).failed(5),
        &["AcsIdentity ", "/nobody does not exist"],
    );
    says(
        &acs(&world, &["resume", "--token", "nobody"]).failed(5),
        &["could not read AcsToken", "nobody"],
    );
}

#[tokio::test]
async fn nothing_is_called_suspended_before_the_operator_says_so() {
    let mut world = World::new().await;
    acs(&world, &["issue", "web", "--scope", "chat"]).fine();
    world.kill_operator();
    for arguments in [["suspend", "web"], ["suspend", "--token=web"]] {
        let error = acs(&world, &[&arguments[..], &["--timeout", "1s"]].concat()).failed(4);
        assert!(!error.contains("suspended"), "{error}");
        says(
            &error,
            &["the operator has not processed this object yet; check that it is running"],
        );
    }
}

#[tokio::test]
async fn what_git_keeps_is_said_to_be_undone() {
    let world = World::new().await;
    acs(&world, &["create", "alice"]).fine();
    let mark = json!({"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": "x"}}});
    world.patch::<AcsIdentity>("alice", mark).await;
    let output = acs(&world, &["suspend", "alice"]);
    says(
        &output.err,
        &[
            "AcsIdentity alice is managed by Argo CD: also change it in git, or the next sync \
             reverts the change",
        ],
    );
}

#[tokio::test]
async fn a_request_waits_for_an_operator_that_has_not_seen_the_object() {
    let world = World::bare(&[], &[]).await;
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat]");
    for command in [vec!["renew", "web"], vec!["revoke", "alice", "--yes"]] {
        let error = acs(&world, &[command.as_slice(), &["--timeout", "1s"]].concat()).failed(4);
        says(
            &error,
            &["the operator has not processed this object yet; check that it is running"],
        );
    }
    let token = world.get::<AcsToken>("web").await;
    let asked = "acs-identity.dev/requested-at";
    assert!(!kube::ResourceExt::annotations(&token).contains_key(asked));
}
