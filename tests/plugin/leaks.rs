//! A token appears only in the output of the command that prints it (C2).

use serde_json::json;

use crate::{
    exchange::exchange,
    run::{Output, acs},
    support::{user_token::entra_token, world::World},
};

#[tokio::test]
async fn only_issue_and_show_token_print_a_token_and_only_on_stdout() {
    let world = World::new().await;
    let issued = acs(&world, &["issue", "web", "--scope", "chat"]);
    let progress = issued.err.clone();
    let token = issued.json()["token"].as_str().unwrap().to_owned();
    let shown = acs(&world, &["inspect", "web", "--show-token"]);
    assert!(shown.out.contains(&token));
    let key = world.emulator.access_key().to_owned();
    let mut outputs = vec![
        ("the progress of issue", progress),
        ("the stderr of inspect", shown.err),
    ];
    let mut keep = |what, output: Output| outputs.push((what, output.out + &output.err));
    keep("inspect", acs(&world, &["inspect", "web"]));
    for format in ["json", "yaml", "tsv", "table"] {
        keep("inspect", acs(&world, &["inspect", "web", "-o", format]));
        keep("status", acs(&world, &["status", "-o", format]));
    }
    keep(
        "a taken name",
        acs(&world, &["issue", "web", "--scope", "voip"]),
    );
    keep(
        "another key",
        acs(&world, &["inspect", "web", "--key", "scopes"]),
    );
    keep(
        "no key",
        acs(&world, &["inspect", "web", "--key", "nothing"]),
    );
    keep(
        "the connection's Secret",
        acs(&world, &["inspect", "default-acs"]),
    );
    keep(
        "the connection string",
        acs(
            &world,
            &["inspect", "default-acs", "--key", "connectionString"],
        ),
    );
    // A token without its signature is no JWT; the rest of it must not be quoted either.
    let cut = token.rsplit_once('.').unwrap().0.replace('.', "");
    world.apply(&format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: cut}}, stringData: {{token: \"{cut}\"}}}}"
    ));
    keep("half a token", acs(&world, &["inspect", "cut"]));
    keep("delete", acs(&world, &["delete", "web", "--yes"]));
    let mut needles: Vec<&str> = token.split('.').collect();
    needles.extend([token.as_str(), key.as_str(), cut.as_str()]);
    for (what, output) in outputs {
        for needle in &needles {
            assert!(!output.contains(needle), "{what} holds a part of a secret");
        }
    }
}

#[tokio::test]
async fn the_entra_token_of_a_teams_user_is_on_no_output() {
    let mut world = World::new().await;
    let entra = entra_token(&json!({}));
    let mut outputs = Vec::new();
    let mut keep = |what, output: Output| outputs.push((what, output.out + &output.err));
    keep("exchange", exchange(&world, &entra, &["bob"]));
    keep("a dry run", exchange(&world, &entra, &["bob", "--dry-run"]));
    keep("a taken name", exchange(&world, &entra, &["bob"]));
    let long = "a".repeat(250);
    keep(
        "a name that is too long",
        exchange(&world, &entra, &[&long]),
    );
    let connection = ["eve", "--connection", "none", "--timeout", "2s"];
    keep("no connection", exchange(&world, &entra, &connection));
    let cut = entra.rsplit_once('.').unwrap().0;
    keep("half of it", exchange(&world, cut, &["cut"]));
    let twice = format!("{entra}{entra}");
    keep("twice", exchange(&world, &twice, &["twice"]));
    for format in ["json", "yaml", "tsv", "table"] {
        keep("status", acs(&world, &["status", "-o", format]));
    }
    keep("inspect", acs(&world, &["inspect", "bob"]));
    keep("its Secret", acs(&world, &["inspect", "bob-entra"]));
    keep("renew", acs(&world, &["renew", "bob"]));
    keep("revoke", acs(&world, &["revoke", "bob", "-y"]));
    keep("delete", acs(&world, &["delete", "--token", "bob", "-y"]));
    outputs.push(("the operator's log", world.operator().process.output()));
    // All tokens have the same header.
    let needles: Vec<&str> = entra.split('.').skip(1).collect();
    for (what, output) in outputs {
        for needle in &needles {
            assert!(!output.contains(needle), "{what} holds a part of it");
        }
    }
}
