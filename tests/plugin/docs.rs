//! docs/kubectl-acs.md matches the program.

use std::fs;

use serde_json::{Value, json};

use crate::{
    run::{end, program, says},
    support::{
        kubernetes::root,
        user_token::{APPLICATION, USER, entra_token},
        world::World,
    },
};

fn page() -> String {
    fs::read_to_string(root("docs/kubectl-acs.md")).expect("the page")
}

/// Returns the first cell of each row of the table under a heading.
fn first_cells(heading: &str) -> Vec<String> {
    let page = page();
    let section = page
        .split(&format!("\n## {heading}\n"))
        .nth(1)
        .expect("the section");
    let section = section.split("\n## ").next().expect("text");
    let rows = section.lines().filter(|line| line.starts_with("| "));
    let cell = |row: &str| row.split('|').nth(1).map(|cell| cell.trim().to_owned());
    rows.skip(1).filter_map(cell).collect()
}

#[test]
fn every_command_is_on_the_page_and_nothing_else() {
    let help = end(program("/nonexistent".as_ref()).arg("--help")).fine();
    let commands = help
        .split("Commands:\n")
        .nth(1)
        .unwrap()
        .split("\n\n")
        .next()
        .unwrap();
    let commands: Vec<_> = commands
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .map(ToOwned::to_owned)
        .collect();
    let told: Vec<_> = first_cells("Commands")
        .iter()
        .flat_map(|cell| cell.split(", "))
        .filter_map(|cell| {
            cell.trim_matches('`')
                .split(' ')
                .next()
                .map(ToOwned::to_owned)
        })
        .collect();
    assert_eq!(commands, told);
    for text in page().split("kubectl acs ").skip(1) {
        let named = text.split(|c: char| !c.is_ascii_lowercase()).next();
        let named = named.unwrap_or_default().to_owned();
        assert!(named.is_empty() || commands.contains(&named), "{named}");
    }
}

#[test]
fn every_az_command_of_user_identity_is_on_the_page() {
    let told = first_cells("From az and the portal").join("\n");
    for command in [
        "token revoke",
        "token get-for-teams-user",
        "user create",
        "user delete",
        "token issue",
        "issue-access-token",
    ] {
        says(
            &told,
            &[&format!("`az communication user-identity {command}")],
        );
    }
}

#[test]
fn every_exit_code_is_on_the_page() {
    let codes: Vec<_> = (0..=9).map(|code| code.to_string()).collect();
    assert_eq!(first_cells("Exit codes"), codes);
}

#[tokio::test]
async fn the_role_on_the_page_suffices_for_every_command() {
    let world = World::new().await;
    let page = page();
    let role = page
        .split("```yaml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    world.apply(role);
    world.apply(
        "{apiVersion: v1, kind: ServiceAccount, metadata: {name: person}}\n---\n\
         {apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: person}, \
         roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: acs-user}, subjects: [{kind: ServiceAccount, name: person}]}\n",
    );
    let kubeconfig = world.cluster.kubeconfig_of(&world.namespace, "person");
    let run = |arguments: &[&str]| {
        end(program(&kubeconfig)
            .args(arguments)
            .args(["-n", &world.namespace]))
        .fine()
    };
    run(&["create", "alice"]);
    run(&["issue", "web", "--scope", "chat", "--user", "alice"]);
    world.connection_says("default", "ConnectionReady").await;
    run(&["status"]);
    run(&["inspect", "web"]);
    let entra = entra_token(&json!({}));
    let user = ["--aad-user", USER, "--client", APPLICATION];
    run(&[&["exchange", "bob", "--aad-token", &entra][..], &user].concat());
    run(&["renew", "web"]);
    run(&["revoke", "alice", "--yes"]);
    run(&["suspend", "alice"]);
    run(&["resume", "alice"]);
    world.apply("{apiVersion: acs-identity.dev/v1alpha1, kind: AcsIdentity, metadata: {name: alice, labels: {team: red}}, spec: {}}");
    run(&["revoke", "--selector", "team in (red, green)", "--yes"]);
    run(&["delete", "alice", "--yes"]);
    run(&["delete", "--token", "bob", "--yes"]);
}

/// Returns the arguments of a template of the workflow template, with `values` for its parameters.
fn arguments(template: &str, values: &[(&str, &str)]) -> Vec<String> {
    let path = root("examples/connector/workflow-template.yaml");
    let text = fs::read_to_string(path).expect("the example");
    let all: Value = serde_saphyr::from_str(&text).expect("YAML");
    let templates = all["spec"]["templates"].as_array().expect("templates");
    let named = templates.iter().find(|it| it["name"] == template);
    let template = named.expect("a template of this name");
    let parameters = template["inputs"]["parameters"].as_array().expect("a list");
    let value = |name: &str| {
        let given = values.iter().find(|(given, _)| *given == name);
        let default = parameters.iter().find(|it| it["name"] == name);
        let default = default.expect("a declared parameter")["value"].as_str();
        given
            .map(|(_, value)| *value)
            .or(default)
            .expect("a value")
            .to_owned()
    };
    let arguments = template["container"]["args"].as_array().expect("a list");
    let arguments = arguments.iter().map(|it| it.as_str().expect("text"));
    arguments
        .map(|argument| {
            let parameter = argument.strip_prefix("{{inputs.parameters.");
            parameter.map_or_else(
                || argument.to_owned(),
                |it| value(it.strip_suffix("}}").expect("an end")),
            )
        })
        .collect()
}

#[tokio::test]
async fn the_steps_of_the_workflow_template_do_what_they_say_with_the_rights_beside_them() {
    let world = World::new().await;
    world.apply(&fs::read_to_string(root("examples/connector/rights.yaml")).expect("the rights"));
    let kubeconfig = world
        .cluster
        .kubeconfig_of(&world.namespace, "acs-connector");
    let run = |template: &str, values: &[(&str, &str)]| {
        let arguments = arguments(template, values);
        let mut command = program(&kubeconfig);
        end(command.args(arguments).args(["-n", &world.namespace])).fine()
    };
    run("create", &[("user", "carol")]);
    run("issue", &[("user", "carol"), ("secret", "carol-chat")]);
    run(
        "create-with-scopes",
        &[
            ("user", "dave"),
            ("scopes", "chat,voip"),
            ("lifetime", "1h"),
        ],
    );
    assert_eq!(
        world.secret_value("dave", "scopes").await.unwrap(),
        "chat,voip"
    );
    let former = world.secret_value("carol-chat", "token").await.unwrap();
    run("revoke", &[("user", "carol")]);
    assert!(!world.emulator.check(&former).await.valid);
    let next = world.secret_value("carol-chat", "token").await.unwrap();
    assert!(world.emulator.check(&next).await.valid);
    run("delete", &[("user", "carol")]);
    assert!(!world.emulator.check(&next).await.valid);
}
