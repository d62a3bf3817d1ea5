//! `create` and `delete`, like `az communication user-identity user create` and `user delete`.

use acs_identity_operator::crd::{AcsIdentity, AcsToken};
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::{
    run::{acs, feed, on_a_terminal, says},
    support::world::World,
};

#[tokio::test]
async fn it_makes_a_user_and_prints_what_az_prints() {
    let world = World::new().await;
    let user = acs(&world, &["create", "alice"]).json();
    let living = world.emulator.living().await;
    let id = living[0].id.as_str();
    assert_eq!(user, json!({"properties": {"id": id}, "rawId": id}));
    assert!(living[0].tokens.is_empty());
    let table = acs(&world, &["create", "-o", "table"]).fine();
    says(&table, &["RawId\n---", "\n8:acs:"]);
    let identity = world.get::<AcsIdentity>("alice").await;
    let managers = identity.metadata.managed_fields.unwrap();
    assert!(
        managers
            .iter()
            .any(|entry| entry.manager.as_deref() == Some("kubectl-acs"))
    );
}

#[tokio::test]
async fn a_dry_run_prints_the_yaml_with_all_that_was_asked_for() {
    let world = World::bare(&[], &[]).await;
    let arguments = [
        "create",
        "alice",
        "--user",
        "8:acs:a_b",
        "--cluster-connection",
        "shared",
        "--deletion-policy",
        "delete",
        "--dry-run",
    ];
    let yaml = acs(&world, &arguments).fine();
    let namespace = &world.namespace;
    assert_eq!(
        yaml,
        format!(
            "---\napiVersion: acs-identity.dev/v1alpha1\nkind: AcsIdentity\nmetadata:\n  name: alice\n  namespace: {namespace}\n\
             spec:\n  connectionRef:\n    kind: ClusterAcsConnection\n    name: shared\n  identityId: 8:acs:a_b\n  deletionPolicy: Delete\n"
        )
    );
    let (fine, answer) = world
        .cluster
        .pipe(&["apply", "--dry-run=server", "-f", "-"], &yaml);
    assert!(fine, "{answer}");
}

#[tokio::test]
async fn bad_input_says_what_is_right() {
    let world = World::bare(&[], &[]).await;
    let error = acs(&world, &["create", "alice", "--user", "alice"]).failed(2);
    says(
        &error,
        &["`alice` is not an ACS id; ACS ids begin with 8:acs:"],
    );
    let error = acs(&world, &["create", "alice", "--user", "8:acs:a b"]).failed(2);
    says(
        &error,
        &[
            "the API server rejected AcsIdentity",
            "identityId must be a complete ACS id",
        ],
    );
    let error = acs(
        &world,
        &["create", "--connection", "a", "--cluster-connection", "b"],
    )
    .failed(2);
    says(&error, &["cannot be used with"]);
    let error = acs(&world, &["delete", "--yes"]).failed(2);
    says(&error, &["<USER>"]);
    let error = acs(&world, &["delete", "alice", "--yes"]).failed(5);
    says(&error, &["AcsIdentity ", "/alice does not exist"]);
    let error = acs(&world, &["delete", "--user", "8:acs:a_b", "--yes"]).failed(5);
    says(
        &error,
        &[
            "no AcsIdentity in namespace",
            "has the id 8:acs:a_b",
            "to adopt it",
        ],
    );
}

#[tokio::test]
async fn deleting_takes_the_user_its_tokens_and_their_secrets() {
    let world = World::new().await;
    let issued = acs(&world, &["issue", "web", "--scope", "chat"]).json();
    acs(
        &world,
        &["issue", "bot", "--scope", "voip", "--user", "web"],
    )
    .fine();
    acs(&world, &["issue", "bob", "--scope", "chat"]).fine();
    // Without a terminal nobody can confirm, so nothing is done.
    let error = acs(&world, &["delete", "web"]).failed(2);
    says(
        &error,
        &[
            "Delete AcsIdentity web, also in ACS with all data; and AcsToken bot, web?",
            "use --yes",
        ],
    );
    assert_eq!(world.emulator.living().await.len(), 2);
    let output = acs(
        &world,
        &[
            "delete",
            "--user",
            issued["user_id"].as_str().unwrap(),
            "-y",
        ],
    );
    says(&output.err, &["deleted AcsIdentity ", "/web\n"]);
    assert_eq!(output.fine(), "");
    assert_eq!(world.emulator.living().await.len(), 1);
    let check = world
        .emulator
        .check(issued["token"].as_str().unwrap())
        .await;
    assert!(!check.valid, "{check:?}");
    for name in ["web", "bot"] {
        assert!(world.find::<AcsToken>(name).await.is_none());
        assert!(world.find::<Secret>(name).await.is_none());
    }
    // The objects of other users are unchanged.
    let token = world.ready("bob").await;
    assert_eq!(token.metadata.deletion_timestamp, None);
    world.live_token("bob", &[]).await;
}

#[tokio::test]
async fn a_person_on_a_terminal_is_asked_first() {
    let world = World::new().await;
    acs(&world, &["create", "alice"]).fine();
    let answer = |word: &str| {
        feed(
            &mut on_a_terminal(&world, "delete alice"),
            &format!("{word}\n"),
        )
    };
    let output = answer("no");
    says(
        &output.out,
        &[
            "Delete AcsIdentity alice, also in ACS with all data? [y/N]",
            "nothing was done",
        ],
    );
    assert_eq!(output.code, 1);
    assert!(world.find::<AcsIdentity>("alice").await.is_some());
    let output = answer("yes");
    assert_eq!(output.code, 0, "{output:?}");
    assert!(world.find::<AcsIdentity>("alice").await.is_none());
}

#[tokio::test]
async fn a_deletion_that_takes_longer_says_what_it_waits_for() {
    let mut world = World::new().await;
    acs(&world, &["create", "alice"]).fine();
    world.kill_operator();
    let error = acs(&world, &["delete", "alice", "--yes", "--timeout", "1s"]).failed(4);
    says(
        &error,
        &[
            "timed out after 1s waiting for AcsIdentity",
            "/alice: being deleted; ",
        ],
    );
    let status = acs(&world, &["status"]);
    says(&status.out, &["AcsIdentity alice  being deleted"]);
    status.failed(4);
}
