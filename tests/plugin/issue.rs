//! `issue`, like `az communication user-identity token issue`.

use acs_identity_operator::crd::{AcsConnection, AcsIdentity, AcsToken};
use kube::api::ListParams;

use crate::{
    run::{acs, end, program, says},
    support::world::World,
};

async fn names(world: &World) -> (Vec<String>, Vec<String>) {
    let all = ListParams::default();
    let identities = world.api::<AcsIdentity>().list(&all).await.unwrap();
    let tokens = world.api::<AcsToken>().list(&all).await.unwrap();
    (
        identities.iter().map(kube::ResourceExt::name_any).collect(),
        tokens.iter().map(kube::ResourceExt::name_any).collect(),
    )
}

#[tokio::test]
async fn it_makes_a_user_and_a_token_and_prints_what_az_prints() {
    let world = World::new().await;
    let output = acs(
        &world,
        &[
            "issue",
            "web",
            "--scope",
            "chat",
            "voip",
            "--expires-in",
            "90m",
        ],
    );
    says(
        &output.err,
        &[
            "created AcsIdentity ",
            "/web\n",
            "created AcsToken ",
            "/web\n",
        ],
    );
    let issued = output.json();
    let fields: Vec<_> = issued
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(fields, ["expires_on", "token", "user_id"]);
    let check = world
        .emulator
        .check(issued["token"].as_str().unwrap())
        .await;
    assert!(check.valid, "{check:?}");
    assert_eq!(check.identity_id.as_deref(), issued["user_id"].as_str());
    assert_eq!(check.scopes.unwrap(), ["chat", "voip"]);
    let held = |key| world.secret_value("web", key);
    assert_eq!(held("token").await.as_deref(), issued["token"].as_str());
    assert_eq!(
        held("expiresOn").await.as_deref(),
        issued["expires_on"].as_str()
    );
    let ends: jiff::Timestamp = issued["expires_on"].as_str().unwrap().parse().unwrap();
    let life = ends.duration_since(jiff::Timestamp::now());
    assert!((88..=90).contains(&life.as_mins()), "{life:?}");
}

#[tokio::test]
async fn without_a_name_it_makes_one_up_and_tsv_is_what_scripts_read() {
    let world = World::new().await;
    let output = acs(
        &world,
        &["issue", "--scope", "chat", "-o", "tsv", "--quiet"],
    );
    assert_eq!(output.err, "");
    let line = output.fine();
    let values: Vec<_> = line.trim_end().split('\t').collect();
    assert_eq!(values.len(), 3, "{line}");
    assert!(world.emulator.check(values[1]).await.valid);
    let (identities, tokens) = names(&world).await;
    assert_eq!(identities, tokens);
    assert!(identities[0].starts_with("user-"), "{identities:?}");
}

#[tokio::test]
async fn a_user_is_meant_by_name_or_by_the_id_that_az_knows() {
    let world = World::new().await;
    let user = acs(&world, &["create", "alice"]).json();
    let id = user["rawId"].as_str().unwrap();
    let by_name = acs(
        &world,
        &["issue", "web", "--scope", "chat", "--user", "alice"],
    )
    .json();
    let by_id = acs(
        &world,
        &["issue", "bot", "--scope", "voip.join", "--user", id],
    )
    .json();
    assert_eq!(by_name["user_id"], id);
    assert_eq!(by_id["user_id"], id);
    assert_eq!(
        names(&world).await,
        (vec!["alice".into()], vec!["bot".into(), "web".into()])
    );
    assert_eq!(world.emulator.living().await.len(), 1);
}

#[tokio::test]
async fn an_id_that_no_object_has_is_adopted() {
    let world = World::new().await;
    let gone = acs(&world, &["create", "alice", "--deletion-policy", "orphan"]).json();
    let id = gone["rawId"].as_str().unwrap();
    acs(&world, &["delete", "alice", "--yes"]).fine();
    let issued = acs(&world, &["issue", "web", "--scope", "chat", "--user", id]).json();
    assert_eq!(issued["user_id"], id);
    let adopting = world.get::<AcsIdentity>("web").await;
    assert_eq!(adopting.spec.identity_id.as_deref(), Some(id));
}

#[tokio::test]
async fn a_dry_run_prints_what_to_commit_and_makes_nothing() {
    let world = World::new().await;
    let arguments = [
        "issue",
        "web",
        "--scope",
        "chat,voip",
        "--expires-in",
        "2h",
        "--secret-name",
        "web-acs",
        "--connection",
        "default",
        "--dry-run",
    ];
    let output = acs(&world, &arguments);
    assert_eq!(output.err, "");
    let yaml = output.fine();
    let (fine, answer) = world
        .cluster
        .pipe(&["apply", "--dry-run=server", "-f", "-"], &yaml);
    assert!(fine, "{answer}");
    says(
        &answer,
        &[
            "acsidentity.acs-identity.dev/web created",
            "acstoken.acs-identity.dev/web created",
        ],
    );
    assert_eq!(names(&world).await, (vec![], vec![]));
    // The command creates exactly what it prints.
    world.apply(&yaml);
    world.ready("web").await;
    world.live_token("web-acs", &[]).await;
    // A dry run needs no cluster, and prints a namespace only if a flag sets one.
    let mut command = program("/nonexistent".as_ref());
    let yaml = end(command.args(arguments)).fine();
    assert!(!yaml.contains("namespace"), "{yaml}");
}

#[tokio::test]
async fn a_refusal_names_the_rule_and_leaves_nothing_behind() {
    let world = World::new().await;
    let error = acs(
        &world,
        &["issue", "web", "--scope", "chat", "--expires-in", "30m"],
    )
    .failed(2);
    says(
        &error,
        &[
            "the API server rejected AcsToken",
            "expiresIn must be a duration from 1h to 24h",
        ],
    );
    assert_eq!(names(&world).await, (vec![], vec![]));
    let error = acs(&world, &["issue", "web", "--scope", "talk"]).failed(2);
    says(&error, &["invalid value 'talk'", "chat.join.limited"]);
    let error = acs(&world, &["issue", "web"]).failed(2);
    says(&error, &["--scope <SCOPE>"]);
    let error = acs(&world, &["issue", "Web", "--scope", "chat"]).failed(2);
    says(&error, &["`Web` is not a Kubernetes name"]);
    let error = acs(&world, &["issue", "--scope", "chat", "--user", "Alice"]).failed(2);
    says(
        &error,
        &["`Alice` is neither the name of an AcsIdentity nor an ACS id"],
    );
    for timeout in ["soon", "0s", "25h"] {
        let error = acs(&world, &["issue", "--scope", "chat", "--timeout", timeout]).failed(2);
        says(&error, &["use a duration up to 24h, such as 30s, 5m or 1h"]);
    }
    let error = acs(
        &world,
        &["issue", "web", "--scope", "chat", "--user", "alice"],
    )
    .failed(5);
    says(
        &error,
        &[
            "AcsIdentity ",
            "/alice does not exist",
            "`kubectl acs create alice` to create it",
        ],
    );
    assert_eq!(names(&world).await, (vec![], vec![]));
}

#[tokio::test]
async fn a_name_that_is_taken_is_not_written_over() {
    let world = World::new().await;
    let first = acs(&world, &["issue", "web", "--scope", "chat"]).json();
    let error = acs(&world, &["issue", "web", "--scope", "voip"]).failed(9);
    says(
        &error,
        &["AcsIdentity ", "/web already exists; choose another name"],
    );
    let error = acs(
        &world,
        &["issue", "web", "--scope", "voip", "--user", "web"],
    )
    .failed(9);
    says(&error, &["AcsToken ", "/web already exists"]);
    assert_eq!(
        world.secret_value("web", "token").await.as_deref(),
        first["token"].as_str()
    );
    assert_eq!(world.issued().await, 1);
}

#[tokio::test]
async fn it_does_not_wait_for_what_needs_a_human() {
    let world = World::new().await;
    world.apply(
        "{apiVersion: v1, kind: Secret, metadata: {name: web}, stringData: {password: theirs}}",
    );
    let error = acs(&world, &["issue", "web", "--scope", "chat"]).failed(3);
    says(
        &error,
        &["AcsToken ", "/web needs action: SecretConflict: "],
    );
}

#[tokio::test]
async fn a_token_outside_the_policy_is_not_waited_for_and_names_the_rule() {
    let world = World::new().await;
    let policy = serde_json::json!({"spec": {"policy": {"scopes": ["chat"]}}});
    world.patch::<AcsConnection>("default", policy).await;
    let error = acs(&world, &["issue", "web", "--scope", "voip"]).failed(3);
    says(
        &error,
        &["/web needs action: PolicyDenied: ", "policy.scopes"],
    );
}

#[tokio::test]
async fn it_tells_what_it_waits_for_and_gives_up_at_its_deadline() {
    let world = World::bare(&[], &[]).await;
    let output = acs(
        &world,
        &["issue", "web", "--scope", "chat", "--timeout", "1s"],
    );
    assert_eq!(output.out, "");
    let error = output.failed(4);
    says(
        &error,
        &[
            "created AcsToken",
            "AcsIdentity ",
            "the operator has not processed this object yet; check that it is running",
            "kubectl acs: timed out after 1s waiting for AcsIdentity",
        ],
    );
}
