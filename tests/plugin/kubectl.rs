//! kubectl finds the plugin and completes its arguments.

use std::{os::unix::fs::symlink, process::Command};

use crate::{
    run::{Output, acs, end, program, says},
    support::world::World,
};

/// Returns a command that finds kubectl and the plugin on its path.
fn with_plugin(world: &World, name: &str) -> (tempfile::TempDir, Command) {
    let folder = tempfile::tempdir().expect("a folder");
    let binary = env!("CARGO_BIN_EXE_kubectl-acs");
    symlink(binary, folder.path().join("kubectl-acs")).expect("a link");
    symlink("kubectl-acs", folder.path().join("kubectl_complete-acs")).expect("a link");
    let path = format!(
        "{}:{}:{}",
        folder.path().display(),
        world.cluster.programs.display(),
        std::env::var("PATH").expect("a PATH")
    );
    let mut command = Command::new(name);
    command
        .env("PATH", path)
        .env("HOME", "/nonexistent")
        .env("KUBECONFIG", &world.cluster.kubeconfig);
    (folder, command)
}

fn bash(world: &World, script: &str) -> Output {
    let (_folder, mut command) = with_plugin(world, "bash");
    end(command.args(["--norc", "-euc", script]))
}

#[tokio::test]
async fn kubectl_runs_it_and_passes_arguments_output_and_exit_code_on() {
    let world = World::new().await;
    let namespace = &world.namespace;
    let issued = bash(
        &world,
        &format!("kubectl acs issue web --scope chat -n {namespace}"),
    )
    .json();
    assert!(
        world
            .emulator
            .check(issued["token"].as_str().unwrap())
            .await
            .valid
    );
    let output = bash(&world, &format!("kubectl acs status nobody -n {namespace}"));
    says(
        &output.failed(5),
        &["kubectl acs: no connection, identity, token or revocation nobody exists"],
    );
    let plugins = bash(&world, "kubectl plugin list").fine();
    says(&plugins, &["/kubectl-acs\n"]);
}

#[tokio::test]
async fn kubectl_completes_commands_options_and_names_in_the_cluster() {
    let world = World::new().await;
    world.identity("alice", "");
    world.identity("bob", "");
    world.token("alice-web", "alice", "scopes: [chat]");
    let namespace = &world.namespace;
    // Calls kubectl as its completion script does.
    let completes = |words: &str| bash(&world, &format!("kubectl __complete acs {words}")).fine();
    says(
        &completes("''"),
        &["status\tShow connections", "issue\tIssue a token", ":4\n"],
    );
    says(&completes("issue --sc"), &["--scope"]);
    says(
        &completes("issue --scope ch"),
        &["chat\n", "chat.join\n", "chat.join.limited\n"],
    );
    says(
        &completes("exchange --aad"),
        &["--aad-token\t", "--aad-user\t"],
    );
    says(&completes("revoke --se"), &["--selector\t"]);
    let names = completes(&format!("delete -n {namespace} --token ''"));
    says(&names, &["alice-web\n"]);
    let names = completes(&format!("delete -n {namespace} ''"));
    says(&names, &["alice\n", "bob\n"]);
    assert!(!names.contains("alice-web"), "{names}");
    says(
        &completes(&format!("inspect --namespace={namespace} al")),
        &["alice-web\n"],
    );
    says(&completes("status -n story-"), &[namespace]);
    says(&completes("status --context ''"), &["admin"]);
}

#[tokio::test]
async fn bash_sources_the_script_and_completes() {
    let world = World::new().await;
    world.identity("alice", "");
    world.identity("bob", "");
    let script = format!(
        "source <(kubectl-acs completion bash)\n\
         complete -p kubectl-acs\n\
         COMP_WORDS=(kubectl-acs delete -n {} a) COMP_CWORD=4 COMP_TYPE=9\n\
         function=$(complete -p kubectl-acs | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n\
         $function kubectl-acs a {}\n\
         echo \"offers: ${{COMPREPLY[*]}}\"\n",
        world.namespace, world.namespace
    );
    let output = bash(&world, &script).fine();
    says(&output, &["complete ", " kubectl-acs\n", "offers: alice\n"]);
}

#[test]
fn zsh_and_fish_get_scripts_of_their_own() {
    let nowhere = "/nonexistent".as_ref();
    let zsh = end(program(nowhere).args(["completion", "zsh"])).fine();
    says(&zsh, &["#compdef kubectl-acs"]);
    let fish = end(program(nowhere).args(["completion", "fish"])).fine();
    says(&fish, &["complete", "--command kubectl-acs"]);
    let error = end(program(nowhere).args(["completion", "tcsh"])).failed(2);
    says(&error, &["invalid value 'tcsh'", "bash, zsh, fish"]);
}

#[tokio::test]
async fn completion_is_silent_where_there_is_no_cluster() {
    let mut command = program("/nonexistent".as_ref());
    command
        .env("COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", "2")
        .args(["--", "kubectl-acs", "inspect", ""]);
    let output = end(&mut command);
    assert_eq!(output.err, "");
    assert!(!output.fine().contains("web"));
    let world = World::bare(&[], &[]).await;
    acs(&world, &["status"]).fine();
}
