//! Program of the emulator: flags, signals, output.
#![allow(
    clippy::doc_markdown,
    reason = "doc comments are the help text, where backticks show"
)]

use std::{io::Write as _, net::SocketAddr, path::PathBuf, process::ExitCode};

use acs_identity_operator::emulator::{
    self, Config, DEFAULT_PRIMARY_KEY, DEFAULT_SECONDARY_KEY, span,
};
use base64::Engine as _;
use clap::Parser;
use jiff::SignedDuration;
use tokio::signal::unix::{SignalKind, signal};

/// Emulates the identity service of Azure Communication Services for tests, demos and CI.
///
/// Prints its connection strings, and the file with the certificate authority of its TLS
/// certificate.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    /// Address to listen on without TLS; port 0 selects a free port
    #[arg(long, value_name = "IP:PORT", env = "ACS_EMULATOR_LISTEN", default_value = "127.0.0.1:8765", value_parser = address)]
    listen: SocketAddr,
    /// Address to listen on with TLS; port 0 selects a free port
    #[arg(long, value_name = "IP:PORT", env = "ACS_EMULATOR_TLS_LISTEN", default_value = "127.0.0.1:8766", value_parser = address)]
    tls_listen: SocketAddr,
    /// Directory that stores identities, tokens, keys, settings and the TLS authority across
    /// restarts; created if missing [default: nothing is stored]
    #[arg(long, value_name = "DIR", env = "ACS_EMULATOR_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// Primary access key, in base64
    #[arg(long, value_name = "BASE64", env = "ACS_EMULATOR_ACCESS_KEY", default_value = DEFAULT_PRIMARY_KEY, value_parser = key)]
    access_key: String,
    /// Secondary access key, in base64
    #[arg(long, value_name = "BASE64", env = "ACS_EMULATOR_SECONDARY_ACCESS_KEY", default_value = DEFAULT_SECONDARY_KEY, value_parser = key)]
    secondary_access_key: String,
    /// Duration of one minute of token lifetime, up to 1h: with 1s, a token for one hour expires
    /// after one minute
    #[arg(long, value_name = "DURATION", env = "ACS_EMULATOR_MINUTE", default_value = "60s", value_parser = minute, allow_hyphen_values = true)]
    minute: SignedDuration,
    /// Time that a client may take to send the head of a request, and again to send its body
    #[arg(long, value_name = "DURATION", env = "ACS_EMULATOR_READ_TIMEOUT", default_value = "30s", value_parser = read_timeout, allow_hyphen_values = true)]
    read_timeout: SignedDuration,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let parsed = text.parse();
    parsed.map_err(|_| "use an IP address and a port, such as 127.0.0.1:8765".to_owned())
}

fn key(text: &str) -> Result<String, String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text);
    match bytes {
        Ok(bytes) if !bytes.is_empty() => Ok(text.to_owned()),
        _ => Err("use a key in base64, such as c2VjcmV0LWtleTE=".to_owned()),
    }
}

fn minute(text: &str) -> Result<SignedDuration, String> {
    length(text, "1s")
}

fn read_timeout(text: &str) -> Result<SignedDuration, String> {
    length(text, "30s")
}

fn length(text: &str, example: &str) -> Result<SignedDuration, String> {
    let bounds = SignedDuration::from_millis(1)..=SignedDuration::from_hours(1);
    let length = span::parse(text).ok();
    let length = length.filter(|length| bounds.contains(length));
    length.ok_or_else(|| format!("use a duration from 1ms to 1h, such as {example}"))
}

#[tokio::main]
async fn main() -> ExitCode {
    match start(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("acs-emulator: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn start(cli: Cli) -> Result<(), String> {
    // TLS provider of the process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let [Ok(mut terminate), Ok(mut interrupt)] = signals else {
        return Err("cannot wait for signals".to_owned());
    };
    let stop = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    let config = Config {
        listen: cli.listen,
        tls_listen: cli.tls_listen,
        state_dir: cli.state_dir,
        primary_key: cli.access_key,
        secondary_key: cli.secondary_access_key,
        minute: cli.minute,
        read_timeout: cli.read_timeout,
    };
    // Stdout may be closed.
    let print = |line: &str| {
        let _ = writeln!(std::io::stdout(), "{line}");
    };
    emulator::run(config, print, stop).await
}
