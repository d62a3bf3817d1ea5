//! `exchange`, like `az communication user-identity token get-for-teams-user`.

use acs_identity_operator::crd::{AcsConnection, AcsToken};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use serde_json::json;

use crate::{
    run::{Output, acs, end, feed, program, says},
    support::{
        user_token::{APPLICATION, TENANT, USER, entra_token},
        world::World,
    },
};

/// Runs `exchange` with the Entra token `entra` on stdin.
pub fn exchange(world: &World, entra: &str, arguments: &[&str]) -> Output {
    let mut command = program(&world.cluster.kubeconfig);
    command
        .args(["exchange", "--aad-token", "-", "--aad-user", USER])
        .args(["--client", APPLICATION, "-n", &world.namespace])
        .args(arguments);
    feed(&mut command, entra)
}

async fn nothing_was_made(world: &World) {
    let all = ListParams::default();
    let tokens = world.api::<AcsToken>().list(&all).await.unwrap();
    assert!(tokens.items.is_empty());
    let secrets = world.api::<Secret>().list(&all).await.unwrap();
    let names = secrets.iter().map(kube::ResourceExt::name_any);
    let names: Vec<_> = names.filter(|name| name != "default-acs").collect();
    assert!(names.is_empty(), "{names:?}");
}

#[tokio::test]
async fn it_exchanges_an_entra_token_and_prints_what_az_prints() {
    let world = World::new().await;
    let entra = entra_token(&json!({}));
    let output = exchange(&world, &format!("{entra}\n"), &["bob"]);
    says(
        &output.err,
        &[
            "created AcsToken ",
            "/bob\n",
            "created Secret ",
            "/bob-entra\n",
        ],
    );
    let exchanged = output.json();
    let fields = exchanged.as_object().unwrap().keys();
    assert_eq!(fields.collect::<Vec<_>>(), ["expires_on", "token"]);
    let check = world
        .emulator
        .check(exchanged["token"].as_str().unwrap())
        .await;
    assert!(check.valid, "{check:?}");
    assert_eq!(check.identity_id, Some(format!("8:orgid:{USER}")));
    let held = |key| world.secret_value("bob", key);
    assert_eq!(held("token").await.as_deref(), exchanged["token"].as_str());
    assert_eq!(
        held("expiresOn").await.as_deref(),
        exchanged["expires_on"].as_str()
    );
    let kept = world.secret_value("bob-entra", "token").await;
    assert_eq!(kept.as_deref(), Some(entra.as_str()));
    // Kubernetes deletes it together with the AcsToken.
    let token = world.get::<AcsToken>("bob").await;
    let kept = world.get::<Secret>("bob-entra").await;
    let owner = &kept.metadata.owner_references.unwrap()[0];
    assert_eq!(Some(&owner.uid), token.metadata.uid.as_ref());
}

#[tokio::test]
async fn the_entra_token_is_an_argument_as_for_az_or_a_file_and_the_options_are_those_of_issue() {
    let world = World::new().await;
    let entra = entra_token(&json!({}));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{entra}\n")).unwrap();
    let from_file = format!("@{}", file.path().display());
    let user = ["--aad-user", USER, "--client", APPLICATION];
    for text in [entra.as_str(), from_file.as_str()] {
        let given = ["exchange", "--aad-token", text, "-o", "tsv", "--quiet"];
        let output = acs(&world, &[&given[..], &user].concat());
        assert_eq!(output.err, "");
        let line = output.fine();
        let values: Vec<_> = line.trim_end().split('\t').collect();
        assert_eq!(values.len(), 2, "{line}");
        assert!(world.emulator.check(values[1]).await.valid);
    }
    let arguments = [
        "bob",
        "--secret-name",
        "bob-acs",
        "--connection",
        "default",
        "--field-manager",
        "me",
        "--aad-token",
        "@-",
    ];
    let mut command = program(&world.cluster.kubeconfig);
    command.args([&["exchange", "-n", &world.namespace][..], &user].concat());
    feed(command.args(arguments), &entra).fine();
    world.live_token("bob-acs", &[]).await;
    let token = world.get::<AcsToken>("bob").await;
    assert_eq!(token.spec.connection_ref.unwrap().name, "default");
    let mut managers = token.metadata.managed_fields.unwrap().into_iter();
    assert!(managers.any(|entry| entry.manager.as_deref() == Some("me")));
    let all = world.api::<AcsToken>().list(&ListParams::default()).await;
    let all = all.unwrap();
    let mut names = all.iter().map(kube::ResourceExt::name_any);
    assert!(names.any(|name| name.starts_with("teams-")));
}

#[tokio::test]
async fn a_dry_run_prints_what_to_commit_which_is_not_the_entra_token() {
    let world = World::new().await;
    let entra = entra_token(&json!({}));
    let output = exchange(&world, &entra, &["bob", "--dry-run"]);
    assert_eq!(output.err, "");
    let yaml = output.fine();
    says(
        &yaml,
        &[
            "# Do not commit the Entra token to git. The operator exchanges it when Secret \
             bob-entra holds it under the key token.\n---\n",
            "kind: AcsToken\n",
        ],
    );
    assert!(!yaml.contains(&entra) && !yaml.contains("kind: Secret"));
    nothing_was_made(&world).await;
    world.apply(&yaml);
    world.token_says("bob", "SecretNotFound").await;
    world.apply(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: bob-entra}}\nstringData: {{token: \"{entra}\"}}\n"
    ));
    world.ready("bob").await;
    // A dry run needs neither a cluster nor the Entra token, but checks a token that it gets.
    let nowhere = |arguments: &[&str]| {
        let mut command = program("/nonexistent".as_ref());
        command.args(["exchange", "bob", "--dry-run", "--client", APPLICATION]);
        end(command.args(["--aad-user", USER]).args(arguments))
    };
    let yaml = nowhere(&[]).fine();
    assert!(!yaml.contains("namespace"), "{yaml}");
    nowhere(&["--aad-token", "x"]).failed(2);
}

#[tokio::test]
async fn wrong_input_says_what_is_right_and_nothing_is_made() {
    let world = World::new().await;
    let past = json!({"exp": Timestamp::now().as_second() - 1});
    for (entra, message) in [
        (
            String::new(),
            "the input of --aad-token is no access token of a user of Microsoft Entra ID",
        ),
        (
            "hunter2".to_owned(),
            "the input of --aad-token is no access token of a user",
        ),
        (
            entra_token(&json!({"oid": TENANT})),
            "the token in --aad-token belongs to another user than --aad-user",
        ),
        (
            entra_token(&json!({"appid": TENANT})),
            "the token in --aad-token was issued to another application than --client",
        ),
        (entra_token(&past), "sign the Teams user in again"),
    ] {
        let error = exchange(&world, &entra, &["bob"]).failed(2);
        says(&error, &["kubectl acs: ", message]);
        assert!(entra.is_empty() || !error.contains(&entra), "{error}");
    }
    let entra = entra_token(&json!({}));
    // If options are mixed up, the error must not quote the token.
    let run = |token: &str, user: &str, client: &str| {
        let given = ["exchange", "--aad-token", token, "--aad-user", user];
        acs(&world, &[&given[..], &["--client", client]].concat()).failed(2)
    };
    for (error, option) in [
        (run(USER, &entra, APPLICATION), "--aad-user"),
        (run(APPLICATION, USER, &entra), "--client"),
        (
            run(&entra, "bob@contoso.example", APPLICATION),
            "--aad-user",
        ),
        (run(&entra, USER, &APPLICATION.replace('-', "")), "--client"),
    ] {
        says(&error, &[option, " must be a GUID, such as 11111111-"]);
        assert!(!error.contains(&entra));
    }
    let error = run("@/nonexistent/token", USER, APPLICATION);
    says(
        &error,
        &["cannot read the input of --aad-token: No such file"],
    );
    let user = ["--aad-user", USER, "--client", APPLICATION];
    let error = acs(&world, &[&["exchange"][..], &user].concat()).failed(2);
    says(&error, &["--aad-token <TOKEN>"]);
    nothing_was_made(&world).await;
    assert!(world.emulator.requests().await.is_empty());
}

#[tokio::test]
async fn a_name_that_is_taken_is_not_written_over() {
    let world = World::new().await;
    let entra = entra_token(&json!({}));
    world.apply(
        "{apiVersion: v1, kind: Secret, metadata: {name: eve-entra}, stringData: {token: theirs}}",
    );
    let error = exchange(&world, &entra, &["eve"]).failed(9);
    says(
        &error,
        &[
            "Secret ",
            "/eve-entra already exists; choose another name, or delete it",
        ],
    );
    let kept = world.secret_value("eve-entra", "token").await;
    assert_eq!(kept.as_deref(), Some("theirs"));
    let found = world.find::<AcsToken>("eve").await;
    assert!(found.is_none());
    world.identity("alice", "");
    world.token("bob", "alice", "scopes: [chat]");
    let error = exchange(&world, &entra, &["bob"]).failed(9);
    says(
        &error,
        &["AcsToken ", "/bob already exists; choose another name"],
    );
    assert_eq!(world.emulator.count("exchangeTeamsToken").await, 0);
}

#[tokio::test]
async fn a_new_entra_token_of_the_same_user_takes_the_place_of_the_former_one() {
    let world = World::new().await;
    let first = exchange(&world, &entra_token(&json!({})), &["bob"]).json();
    let longer = Timestamp::now().as_second() + 7200;
    let entra = entra_token(&json!({"exp": longer}));
    let output = exchange(&world, &entra, &["bob"]);
    says(&output.err, &["changed Secret ", "/bob-entra\n"]);
    let second = output.json();
    assert_ne!(first["token"], second["token"]);
    let check = world.emulator.check(second["token"].as_str().unwrap());
    assert!(check.await.valid);
    let kept = world.secret_value("bob-entra", "token").await;
    assert_eq!(kept.as_deref(), Some(entra.as_str()));
    let output = exchange(&world, &entra, &["bob"]);
    says(&output.err, &["/bob-entra already holds this Entra token"]);
    assert_eq!(output.json(), second);
    assert_eq!(world.emulator.count("exchangeTeamsToken").await, 2);
}

#[tokio::test]
async fn what_the_service_or_the_policy_refuses_is_not_waited_for() {
    let world = World::new().await;
    let refuse = json!([{"operation": "exchangeTeamsToken", "effect": "status", "status": 401,
        "code": "InvalidAccessToken", "message": "Provided access token is not valid."}]);
    world.emulator.faults(refuse).await;
    let entra = entra_token(&json!({}));
    let error = exchange(&world, &entra, &["bob"]).failed(3);
    says(
        &error,
        &[
            "AcsToken ",
            "/bob needs action: InvalidUserToken: ",
            "Sign the Teams user in again",
        ],
    );
    world.emulator.heal().await;
    let policy = json!({"spec": {"policy": {"scopes": ["voip"]}}});
    world.patch::<AcsConnection>("default", policy).await;
    let error = exchange(&world, &entra, &["eve"]).failed(3);
    says(
        &error,
        &["/eve needs action: PolicyDenied: ", "policy.scopes"],
    );
}

#[tokio::test]
async fn it_tells_what_it_waits_for_and_gives_up_at_its_deadline() {
    let world = World::bare(&[], &[]).await;
    let output = exchange(
        &world,
        &entra_token(&json!({})),
        &["bob", "--timeout", "1s"],
    );
    assert_eq!(output.out, "");
    says(
        &output.failed(4),
        &[
            "created Secret",
            "AcsToken ",
            "/bob: NotObserved: the operator has not processed this object yet",
            "kubectl acs: timed out after 1s waiting for AcsToken",
        ],
    );
}
