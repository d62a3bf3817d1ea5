//! Upgrade from a former version without a Lease, and rollback to it, while tokens are created.
//! `FORMER_OPERATOR` is the path of its program (`make test-upgrade` builds it); by default this
//! version, without its Lease, is used instead.

use std::process::Command;

use super::{SHORT, World, eventually, load, number, settle, slow_world};
use crate::support::process::Process;

/// Starts the former version, and waits until it is ready.
fn former(world: &World) -> Process {
    let mut ours = world.operator_command(&world.cluster.kubeconfig);
    let mut process = match std::env::var_os("FORMER_OPERATOR") {
        None => Process::start(ours.arg("--no-leader-elect")),
        Some(program) => {
            let environment = ours.get_envs();
            let environment = environment.filter_map(|(name, value)| Some((name, value?)));
            let mut command = Command::new(program);
            Process::start(command.args(ours.get_args()).envs(environment))
        }
    };
    works(&mut process);
    process
}

/// Starts this version, and waits until it leads.
fn latter(world: &World) -> Process {
    let mut command = world.operator_command(&world.cluster.kubeconfig);
    command.args(["--lease-namespace", &world.namespace]);
    let mut process = Process::start(command.args(SHORT));
    works(&mut process);
    process
}

fn works(process: &mut Process) {
    process.wait_for("it works", |line| {
        line.contains("reconciling begins").then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_version_is_followed_and_comes_back_while_tokens_are_made() {
    let world = slow_world().await;
    let mut operator = former(&world);
    for (round, next) in [latter, former, latter].into_iter().enumerate() {
        let before = world.issued().await;
        load(&world, round, number("LEADER_TOKENS", 20));
        eventually("tokens are issued", || async {
            (world.issued().await >= before + 5).then_some(())
        })
        .await;
        operator.terminate();
        operator = next(&world);
    }
    world.emulator.heal().await;
    settle(&world).await.is_counted();
}
