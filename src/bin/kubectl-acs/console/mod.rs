//! `console`: a local web page that shows the objects of `status`, live, and performs the actions
//! of the other commands.
//!
//! `door` controls access, `server` answers requests, `live` watches objects, `rights` checks the
//! user's permissions, `action` runs commands, and `page/` contains the files for the browser.

mod action;
mod door;
mod idle;
mod live;
mod rights;
mod server;

use std::{net::Ipv4Addr, time::Duration};

use clap::Args;
use tokio::net::TcpListener;

use crate::{
    cluster::{session::ClusterArgs, wait::timeout},
    failure::{Exit, Failure},
    view::output,
};
use door::Door;
use idle::Idle;
use server::{Console, router};

/// Serve a web page of identities and tokens, only for this user on this machine
///
/// Listens on 127.0.0.1 and prints a URL that works once. The page shows connections, identities,
/// tokens and revocations as they change, and creates, renews, revokes, suspends and deletes them
/// with the permissions of the user in the kubeconfig. Without --namespace the page shows all
/// namespaces, if the user may list them. The command exits on Ctrl-C, or when no page has been
/// visible for the time in --idle-timeout.
#[derive(Clone, Debug, Args)]
pub struct ConsoleArgs {
    /// Port on 127.0.0.1 [default: a free port]
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 0,
        hide_default_value = true
    )]
    port: u16,
    /// Print the URL without opening a browser
    #[arg(long)]
    no_browser: bool,
    /// Time without a visible page after which the console exits, for example 10m
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = timeout)]
    idle_timeout: Duration,
}

/// Runs `console`.
pub async fn console(place: &ClusterArgs, command: ConsoleArgs) -> Result<(), Failure> {
    let session = place.connect().await?;
    let (listener, port) = listen(command.port).await?;
    let (door, url) = Door::new(port);
    let idle = Idle::new(command.idle_timeout);
    let server = session.server.clone();
    let console = Console::new(session, place.clone(), door, idle.clone());
    output::print(&format!("{url}\n"));
    if !command.no_browser && open::that_detached(&url).is_err() {
        anstream::eprintln!("Could not start a browser; open the URL yourself.");
    }
    anstream::eprintln!(
        "This URL opens the console of {server}; it works once. Press Ctrl-C to stop the console."
    );
    let failed =
        |error: std::io::Error| Failure::new(Exit::Failed, format!("the console failed: {error}"));
    tokio::select! {
        ended = axum::serve(listener, router(console)) => ended.map_err(failed),
        pressed = tokio::signal::ctrl_c() => pressed.map_err(failed),
        () = idle.over() => {
            let length = command.idle_timeout;
            anstream::eprintln!("The console stopped, because no page was visible for {length:?}.");
            Ok(())
        }
    }
}

async fn listen(port: u16) -> Result<(TcpListener, u16), Failure> {
    let failed = |error: std::io::Error| {
        let message =
            format!("cannot listen on 127.0.0.1:{port}: {error}; choose another port with --port");
        Failure::new(Exit::Failed, message)
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    Ok((listener, port))
}
