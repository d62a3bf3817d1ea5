//! What all calls of the process share.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::clock::Clock;
use super::queue::Queue;
use super::transport::http_client;
use super::{
    ApiVersion, Bearer, Client, Credential, Endpoint, EntraConfig, EntraIdentity, Metrics,
};

/// Endpoints come and go with connections that others write. Beyond this many, those that no one
/// uses and whose calls no longer count are forgotten, with their clocks.
const MOST_RESOURCES: usize = 100;

/// How the process talks to the service. The defaults are right for production.
#[derive(Clone)]
pub struct ServiceConfig {
    /// For a connection, TLS included. 10 s.
    pub connect_timeout: Duration,
    /// For the next byte of an answer, the first included. 20 s.
    pub read_timeout: Duration,
    /// For a call with all its retries and the waits between them, but without its time in the
    /// queue. 30 s.
    pub total_timeout: Duration,
    /// Before the first retry, doubling from there, with jitter. 500 ms.
    pub first_retry_delay: Duration,
    /// Requests on the wire at a time, per endpoint. 32.
    pub max_in_flight: usize,
    /// Certificate authorities to trust beside the platform's, as a PEM bundle.
    pub extra_ca_pem: Option<Vec<u8>>,
    /// Where tokens of Entra ID come from.
    pub entra: EntraConfig,
    /// Asked right before each request goes out, retries included and after any time in the
    /// queue. Where it says no, nothing is sent and the call ends as [`Kind::Withheld`].
    ///
    /// [`Kind::Withheld`]: super::Kind::Withheld
    pub may_send: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
    /// What counts the calls.
    pub metrics: Metrics,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(20),
            total_timeout: Duration::from_secs(30),
            first_retry_delay: Duration::from_millis(500),
            max_in_flight: 32,
            extra_ca_pem: None,
            entra: EntraConfig::default(),
            may_send: None,
            metrics: Metrics::default(),
        }
    }
}

/// Connections, limits and clocks for all endpoints. One per process; clones share everything.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub config: ServiceConfig,
    pub http: reqwest::Client,
    resources: Mutex<HashMap<Endpoint, Arc<Resource>>>,
    /// Whoever uses the same identity by the same means shares its token.
    bearers: Mutex<HashMap<[u8; 32], Weak<Bearer>>>,
}

/// What all calls to one endpoint share.
pub(super) struct Resource {
    pub endpoint: Endpoint,
    pub queue: Queue,
    pub clock: Clock,
}

impl Service {
    /// Prepares the HTTP client. Needs the process's TLS provider to be installed. Proxies are
    /// those of the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`), if any.
    pub fn new(config: ServiceConfig) -> Result<Self, ServiceError> {
        let http = http_client(&config, |builder| builder)?;
        Ok(Self {
            shared: Arc::new(Shared {
                config,
                http,
                resources: Mutex::default(),
                bearers: Mutex::default(),
            }),
        })
    }

    /// A client for one resource. Cheap: make one whenever it is needed.
    ///
    /// Whether the endpoint may be sent a credential is for the caller to check
    /// ([`Allowed`](super::Allowed)).
    #[must_use]
    pub fn client(
        &self,
        endpoint: &Endpoint,
        version: &ApiVersion,
        credential: &Credential,
    ) -> Client {
        let resource = self.shared.resource(endpoint);
        Client::new(
            Arc::clone(&self.shared),
            resource,
            version.clone(),
            credential.clone(),
        )
    }

    /// The credential of an identity of Entra ID. Nothing is asked for before it is used.
    #[must_use]
    pub fn entra(&self, identity: EntraIdentity) -> Credential {
        let shared = &self.shared;
        let mut bearers = lock(&shared.bearers);
        let key = identity.key();
        if let Some(bearer) = bearers.get(&key).and_then(Weak::upgrade) {
            return Credential::Entra(bearer);
        }
        bearers.retain(|_, bearer| bearer.strong_count() > 0);
        let bearer = Arc::new(Bearer::new(identity, &shared.config, shared.http.clone()));
        bearers.insert(key, Arc::downgrade(&bearer));
        Credential::Entra(bearer)
    }

    /// Where tokens of Entra ID come from.
    #[must_use]
    pub fn entra_config(&self) -> &EntraConfig {
        &self.shared.config.entra
    }

    /// The endpoint's clock minus the local one, as of its last answer. None before the first.
    /// Good to a second or so, which is how finely answers are dated.
    #[must_use]
    pub fn clock_offset(&self, endpoint: &Endpoint) -> Option<SignedDuration> {
        self.shared
            .resources()
            .get(endpoint)
            .and_then(|resource| resource.clock.offset())
    }

    /// The endpoint's clock, or up to a second earlier, as its `Date` has whole seconds. None before
    /// its first answer. A local clock that is set makes no difference.
    #[must_use]
    pub fn endpoint_now(&self, endpoint: &Endpoint) -> Option<Timestamp> {
        self.shared
            .resources()
            .get(endpoint)
            .and_then(|resource| resource.clock.now())
    }
}

impl Shared {
    fn resource(&self, endpoint: &Endpoint) -> Arc<Resource> {
        let mut resources = self.resources();
        if let Some(resource) = resources.get(endpoint) {
            return Arc::clone(resource);
        }
        if resources.len() >= MOST_RESOURCES {
            resources
                .retain(|_, resource| Arc::strong_count(resource) > 1 || !resource.queue.is_idle());
        }
        let resource = Arc::new(Resource {
            endpoint: endpoint.clone(),
            queue: Queue::new(self.config.max_in_flight),
            clock: Clock::default(),
        });
        resources.insert(endpoint.clone(), Arc::clone(&resource));
        resource
    }

    fn resources(&self) -> MutexGuard<'_, HashMap<Endpoint, Arc<Resource>>> {
        lock(&self.resources)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

/// Why the HTTP client can't be made.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The CA bundle holds no certificate.
    #[error(
        "the CA bundle must contain at least one certificate in PEM format, and only valid \
     certificates"
    )]
    CaBundle,
    /// TLS can't be set up, mostly for want of the platform's CA certificates.
    #[error("cannot set up the HTTP client; are the system's CA certificates installed?")]
    Http(#[source] reqwest::Error),
}
