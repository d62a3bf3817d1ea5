//! `generate` turns lines into the YAML of a GitOps repository.

use acs_identity_operator::crd::AcsToken;
use kube::{ResourceExt as _, api::ListParams};

use crate::{
    run::{Output, acs, feed, program, says},
    support::world::World,
};

/// Runs `generate` without a cluster.
fn generate(arguments: &[&str], lines: &str) -> Output {
    let mut command = program("/nonexistent".as_ref());
    feed(command.arg("generate").args(arguments), lines)
}

#[tokio::test]
async fn lines_become_objects_that_the_api_server_takes_and_the_operator_makes_true() {
    let world = World::new().await;
    let lines = "name,scopes\n# the team\nalice,chat,voip\nbob,\"chat voip.join\"\n";
    let arguments = [
        "--expires-in",
        "2h",
        "--connection",
        "default",
        "-n",
        &world.namespace,
    ];
    let yaml = generate(&arguments, lines).fine();
    let (fine, answer) = world
        .cluster
        .pipe(&["apply", "--dry-run=server", "-f", "-"], &yaml);
    assert!(fine, "{answer}");
    says(
        &yaml,
        &[
            "kind: AcsIdentity\n",
            "  connectionRef:\n    kind: AcsConnection\n    name: default\n",
        ],
    );
    says(
        &answer,
        &[
            "acsidentity.acs-identity.dev/alice created (server dry run)\n",
            "acstoken.acs-identity.dev/alice created (server dry run)\n",
            "acsidentity.acs-identity.dev/bob created (server dry run)\n",
            "acstoken.acs-identity.dev/bob created (server dry run)\n",
        ],
    );
    assert!(
        world
            .api::<AcsToken>()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    world.apply(&yaml);
    for name in ["alice", "bob"] {
        let token = world.ready(name).await;
        assert_eq!(
            token.spec.expires_in.as_deref(),
            Some("2h"),
            "{}",
            token.name_any()
        );
    }
    acs(&world, &["status"]).fine();
}

#[test]
fn what_is_wrong_is_told_line_by_line_and_nothing_is_printed() {
    let output = generate(&[], "alice,chat\nBob,chat\ncarol\ndave,talk\nalice,voip\n");
    assert_eq!(output.out, "");
    says(
        &output.failed(2),
        &[
            "kubectl acs: line 2: `Bob` is not a Kubernetes name: use lower-case letters",
            "\nline 3: carol has no scopes; write carol,chat,voip\n",
            "line 4: `talk` is not a scope; the scopes are chat, chat.join, chat.join.limited, \
             voip, voip.join\n",
            "line 5: alice is already in line 1\n",
        ],
    );
    says(
        &generate(&[], "# nobody\n").failed(2),
        &["the input has no lines; write lines such as alice,chat,voip"],
    );
    says(
        &generate(&["/nonexistent/lines"], "").failed(2),
        &["cannot read /nonexistent/lines: No such file"],
    );
}
