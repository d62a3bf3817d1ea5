//! The kubectl plugin `kubectl acs`.
//!
//! [`actions`] are the commands that change the cluster, [`commands`] report on it, and [`console`]
//! serves the web page. They use a session of [`cluster`] and print through [`view`]. A [`failure`]
//! is a message and an exit code.
#![allow(
    clippy::doc_markdown,
    reason = "doc comments are the help text, where backticks show"
)]

mod actions;
mod cluster;
mod commands;
mod console;
mod failure;
mod view;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use actions::{create, delete, exchange, generate, renew, revoke, suspend};
use cluster::session;
use commands::{complete, doctor, export, inspect, release, status};
use failure::{Exit, Failure};

/// Name of this program, by which kubectl finds `kubectl acs`.
const NAME: &str = "kubectl-acs";

/// Manage Azure Communication Services identities and tokens in a cluster.
#[derive(Debug, Parser)]
#[command(name = NAME, bin_name = "kubectl acs", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    place: session::ClusterArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Status(status::Status),
    Inspect(inspect::Inspect),
    Renew(renew::Renew),
    Revoke(revoke::Revoke),
    Suspend(suspend::Suspend),
    Resume(suspend::Resume),
    Create(create::Create),
    Issue(create::Issue),
    Exchange(exchange::Exchange),
    Delete(delete::Delete),
    Generate(generate::Generate),
    Export(export::Export),
    Doctor(doctor::Doctor),
    Release(release::Release),
    Console(console::ConsoleArgs),
    Completion(complete::Completion),
}

fn main() -> ExitCode {
    // TLS provider of the process; kube would choose its own.
    let _ = rustls::crypto::ring::default_provider().install_default();
    complete::answer();
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                anstream::eprintln!("kubectl acs: {}", failure.message);
            }
            ExitCode::from(failure.exit as u8)
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(cli: Cli) -> Result<(), Failure> {
    let place = &cli.place;
    match cli.command {
        Command::Status(command) => status::status(place, command).await,
        Command::Inspect(command) => inspect::inspect(place, command).await,
        Command::Renew(command) => renew::renew(place, command).await,
        Command::Revoke(command) => revoke::revoke(place, command).await,
        Command::Suspend(command) => suspend::suspend(place, command).await,
        Command::Resume(command) => suspend::resume(place, command).await,
        Command::Create(command) => create::create(place, command).await,
        Command::Issue(command) => create::issue(place, command).await,
        Command::Exchange(command) => Box::pin(exchange::exchange(place, command)).await,
        Command::Delete(command) => delete::delete(place, command).await,
        Command::Generate(command) => generate::generate(place, &command),
        Command::Doctor(command) => doctor::doctor(place, &command).await,
        Command::Export(command) => export::export(place, &command).await,
        Command::Release(command) => release::release(place, &command).await,
        Command::Console(command) => Box::pin(console::console(place, command)).await,
        Command::Completion(command) => complete::completion(&command)
            .map_err(|error| Failure::new(Exit::Failed, error.to_string())),
    }
}
