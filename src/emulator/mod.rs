//! Emulator of the ACS identity API, for tests, demos and CI.
//!
//! `http` accepts requests (plain http or TLS, slow and broken clients). `control` answers the
//! emulator's own API; all other requests are added to the journal and have faults applied
//! (`state`) before the `service` checks the credential and the API version, then performs the
//! operation. `entra` emulates Entra ID and performs the operations for its users. Changes are
//! events, which the store writes before they are applied to the `state`.
//!
//! The emulator does what the API reference marks as seen; behavior that has not been observed is a
//! switch (`state::settings`). It shares no code with this crate's client of ACS: a mistake in
//! shared code would go unnoticed.

mod control;
mod entra;
mod http;
mod service;
pub mod span;
mod state;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use parking_lot::{Mutex, MutexGuard};
use tokio::net::{TcpListener, TcpSocket};

use self::{
    control::Metrics,
    http::{Authority, Server},
    service::{Core, token},
    state::{AccessKey, Event, Faults, Journal, Signer, State, Store},
};

/// Default primary key. It is public.
pub const DEFAULT_PRIMARY_KEY: &str =
    "dGhlIHByaW1hcnkga2V5IG9mIGFjcy1lbXVsYXRvcjogcHVibGljLCBoYXJtbGVzcywgZm9yIHRlc3RzIG9ubA==";
/// Default secondary key. It is public.
pub const DEFAULT_SECONDARY_KEY: &str =
    "dGhlIHNlY29uZGFyeSBrZXkgb2YgYWNzLWVtdWxhdG9yOiBwdWJsaWMsIGhhcm1sZXNzLCB0ZXN0cyBvbmx5Lg==";

/// Listen backlog. Clients that connect all at once, as tests do, must not have to wait for a
/// second SYN.
const BACKLOG: u32 = 1024;

/// Configuration of an emulator.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address of the listener without TLS.
    pub listen: SocketAddr,
    /// Address of the listener with TLS.
    pub tls_listen: SocketAddr,
    /// Directory of the state; `None` keeps it in memory.
    pub state_dir: Option<PathBuf>,
    /// Primary key, in base64.
    pub primary_key: String,
    /// Secondary key, in base64.
    pub secondary_key: String,
    /// Duration of one minute of token lifetime.
    pub minute: SignedDuration,
    /// Maximum time for a client to send a request.
    pub read_timeout: SignedDuration,
}

/// Running emulator.
pub(crate) struct Emulator {
    core: Mutex<Core>,
    journal: Mutex<Journal>,
    faults: Mutex<Faults>,
    metrics: Metrics,
    signer: token::Signer,
    minute: SignedDuration,
}

impl Emulator {
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock()
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock()
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock()
    }
}

/// Runs an emulator until `stop` resolves. Passes the lines that say how to reach it to `print`
/// once it listens. The error is a sentence.
pub async fn run(
    config: Config,
    print: impl Fn(&str),
    stop: impl Future<Output = ()>,
) -> Result<(), String> {
    let core = open(&config)?;
    let authority = Authority::open(config.state_dir.as_deref())?;
    let listener = listen(config.listen, "--listen").await?;
    let tls_listener = listen(config.tls_listen, "--tls-listen").await?;
    let keys = [&core.state.primary, &core.state.secondary].map(|key| key.value.clone());
    let emulator = Arc::new(Emulator {
        core: Mutex::new(core),
        journal: Mutex::default(),
        faults: Mutex::default(),
        metrics: Metrics::default(),
        signer: token::Signer::new()?,
        minute: config.minute,
    });
    let [plain, tls] = [&listener, &tls_listener].map(reachable);
    let [plain, tls] = [plain?, tls?];
    for (name, key) in ["connection-string", "secondary-connection-string"]
        .iter()
        .zip(&keys)
    {
        print(&format!(
            "{name}: {}",
            connection_string("http", &plain, key)
        ));
        print(&format!(
            "{name}: {}",
            connection_string("https", &tls, key)
        ));
    }
    print(&format!("ca-file: {}", authority.file().display()));
    print(&format!("page: http://{plain}/_emulator/"));
    print(&format!("entra-authority: https://{tls}"));
    print(&format!("identity-endpoint: http://{plain}/msi/token"));
    print(&format!("identity-header: {}", entra::IDENTITY_HEADER));
    print(&format!(
        "local-token-endpoint: http://{plain}/oauth2/token"
    ));
    let server = Server {
        emulator: Arc::clone(&emulator),
        authority: Arc::new(authority),
        read_timeout: config.read_timeout.unsigned_abs(),
    };
    server.run(listener, tls_listener, stop).await;
    if let Some(store) = &emulator.core().store {
        let synced = store.sync();
        synced.map_err(|error| format!("could not write the state to the disk: {error}"))?;
    }
    Ok(())
}

fn open(config: &Config) -> Result<Core, String> {
    let [primary, secondary] =
        [&config.primary_key, &config.secondary_key].map(|value| AccessKey {
            value: value.clone(),
            configured: value.clone(),
        });
    if primary.value == secondary.value {
        return Err(
            "the two keys are the same; set --access-key and --secondary-access-key to \
         different values"
                .to_owned(),
        );
    }
    let fresh = || State::new(primary.clone(), secondary.clone());
    let Some(dir) = &config.state_dir else {
        return Ok(Core::new(fresh(), None));
    };
    let (store, state) = Store::open(dir, fresh)?;
    // A flag with a new value sets a new key; a flag with the same value leaves a regenerated key
    // alone.
    let at = state.now();
    let mut events = Vec::new();
    for (key, value, known) in [
        (Signer::Primary, primary, &state.primary),
        (Signer::Secondary, secondary, &state.secondary),
    ] {
        if value.configured != known.configured {
            events.push(Event::KeyChanged { key, value, at });
        }
    }
    let mut core = Core::new(state, Some(store));
    let committed = core.commit(events);
    committed.map_err(|_| format!("{}: cannot be written", dir.display()))?;
    Ok(core)
}

async fn listen(address: SocketAddr, flag: &str) -> Result<TcpListener, String> {
    let listener = async || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // After a restart, connections of the previous process may still be in `TIME_WAIT`.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listener().await.map_err(|error: std::io::Error| {
        format!(
            "cannot listen on {address}: {error}; set {flag} to another address, or to port 0 \
         for a free port"
        )
    })
}

/// Returns an authority at which this machine reaches a listener.
fn reachable(listener: &TcpListener) -> Result<String, String> {
    let mut address = listener.local_addr().map_err(|error| error.to_string())?;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    Ok(address.to_string())
}

fn connection_string(scheme: &str, authority: &str, key: &str) -> String {
    format!("endpoint={scheme}://{authority}/;accesskey={key}")
}

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
