//! A look-alike of the ACS identity service, for tests, demos and CI.
//!
//! A request comes in by [`server`] (plain http or TLS, slow and broken clients). [`control`] answers
//! what only an emulator has; [`attend`] notes the others in the [`journal`], lets a fault have its
//! way ([`faults`]), and asks the [`service`]: who signed ([`signature`]), does the version have it ([`versions`]), then the
//! operation itself ([`identities`], [`exchange`], [`assignments`]).
//! [`entra`] stands in for Entra ID. What an operation changes is an
//! event: written by the [`store`], then true in the [`state`].
//!
//! The service is the look-alike of what the API reference calls seen; what nobody has seen is a switch
//! ([`settings`]). Nothing here is shared with our client of the service: a mistake made twice would
//! hide itself.

mod answer;
mod ask;
mod assignments;
mod attend;
mod call;
mod control;
mod entra;
mod exchange;
mod faults;
mod identities;
mod journal;
mod metrics;
mod operation;
mod repeatability;
mod respond;
mod server;
mod service;
mod settings;
mod signature;
pub mod span;
mod state;
mod store;
mod temporary;
mod tls;
mod token;
mod versions;
mod wire;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use tokio::net::{TcpListener, TcpSocket};

use self::{
    faults::Faults,
    journal::Journal,
    metrics::Metrics,
    service::Core,
    state::{AccessKey, Event, Signer, State},
    store::Store,
};

/// The primary key of an emulator that isn't told another. Everybody knows it.
pub const DEFAULT_PRIMARY_KEY: &str =
    "dGhlIHByaW1hcnkga2V5IG9mIGFjcy1lbXVsYXRvcjogcHVibGljLCBoYXJtbGVzcywgZm9yIHRlc3RzIG9ubA==";
/// The secondary key of an emulator that isn't told another. Everybody knows it.
pub const DEFAULT_SECONDARY_KEY: &str =
    "dGhlIHNlY29uZGFyeSBrZXkgb2YgYWNzLWVtdWxhdG9yOiBwdWJsaWMsIGhhcm1sZXNzLCB0ZXN0cyBvbmx5Lg==";

/// Clients that come all at once, as tests do, are not to wait for a second SYN.
const BACKLOG: u32 = 1024;

/// What an emulator is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens without TLS.
    pub listen: SocketAddr,
    /// Where it listens with TLS.
    pub tls_listen: SocketAddr,
    /// Where its state is kept; nowhere if None.
    pub state_dir: Option<PathBuf>,
    /// The primary key, in base64.
    pub primary_key: String,
    /// The secondary key, in base64.
    pub secondary_key: String,
    /// How long a minute of token life lasts.
    pub minute: SignedDuration,
    /// How long a client may take to send a request.
    pub read_timeout: SignedDuration,
}

/// A running emulator.
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
        lock(&self.core)
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        lock(&self.journal)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }
}

/// Runs an emulator until `stop` ends. `print` gets the lines that tell how to reach it, once it
/// listens. The error is a sentence.
pub async fn run(
    config: Config,
    print: impl Fn(&str),
    stop: impl Future<Output = ()>,
) -> Result<(), String> {
    let core = open(&config)?;
    let authority = tls::Authority::open(config.state_dir.as_deref())?;
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
    let server = server::Server {
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
    // A flag with another value than before is a new key; one with the same leaves a regenerated
    // key alone.
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
        // A restart finds connections of its predecessor in their last state.
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

/// An authority by which this machine reaches a listener.
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

/// Locks; what a panic left behind is as good as before it, since no state is ever half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
