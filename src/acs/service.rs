//! State that all calls of the process share.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::{Mutex, MutexGuard};

use super::http::{Clock, http_client};
use super::limit::Queue;
use super::{
    ApiVersion, Bearer, Client, Credential, Endpoint, EntraConfig, EntraIdentity, Metrics,
};

/// Maximum number of endpoints whose state is kept: connections, which users write, add and remove
/// endpoints. Beyond it, endpoints that are unused and have no calls left in the window are
/// dropped, together with their clocks.
const MOST_RESOURCES: usize = 100;

/// Configuration of the client. The defaults are suitable for production.
#[derive(Clone)]
pub struct ServiceConfig {
    /// Timeout of a connection, including TLS. Default: 10 s.
    pub connect_timeout: Duration,
    /// Timeout for the next byte of an answer, including the first. Default: 20 s.
    pub read_timeout: Duration,
    /// Timeout of a call with all its retries and the waits between them, but without its time in
    /// the queue. Default: 30 s.
    pub total_timeout: Duration,
    /// Delay before the first retry, doubled for each further one, with jitter. Default: 500 ms.
    pub first_retry_delay: Duration,
    /// Maximum number of requests in flight per endpoint. Default: 32.
    pub max_in_flight: usize,
    /// Certificate authorities to trust in addition to the platform's, as a PEM bundle.
    pub extra_ca_pem: Option<Vec<u8>>,
    /// Sources of Entra ID tokens.
    pub entra: EntraConfig,
    /// Called right before each request is sent, including retries, and after any time in the
    /// queue. If it returns false, nothing is sent and the call fails with [`Kind::Withheld`].
    ///
    /// [`Kind::Withheld`]: super::Kind::Withheld
    pub may_send: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
    /// Metrics of the calls.
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

/// Connections, limits and clocks of all endpoints. One per process; clones share everything.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub config: ServiceConfig,
    pub http: reqwest::Client,
    resources: Mutex<HashMap<Endpoint, Arc<Resource>>>,
    /// Credentials with the same identity and the same secret share a token.
    bearers: Mutex<HashMap<[u8; 32], Weak<Bearer>>>,
}

/// State that all calls to one endpoint share.
pub(super) struct Resource {
    pub endpoint: Endpoint,
    pub queue: Queue,
    pub clock: Clock,
}

impl Service {
    /// Creates the HTTP client. Needs the process's TLS provider to be installed. Proxies are taken
    /// from the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`), if any.
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

    /// Returns a client for one resource. Cheap: create one whenever it is needed.
    ///
    /// The caller must check that credentials may be sent to the endpoint
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

    /// Returns the credential of an identity in Entra ID. No token is requested before it is used.
    #[must_use]
    pub fn entra(&self, identity: EntraIdentity) -> Credential {
        let shared = &self.shared;
        let mut bearers = shared.bearers.lock();
        let key = identity.key();
        if let Some(bearer) = bearers.get(&key).and_then(Weak::upgrade) {
            return Credential::Entra(bearer);
        }
        bearers.retain(|_, bearer| bearer.strong_count() > 0);
        let bearer = Arc::new(Bearer::new(identity, &shared.config, shared.http.clone()));
        bearers.insert(key, Arc::downgrade(&bearer));
        Credential::Entra(bearer)
    }

    /// Returns the sources of Entra ID tokens.
    #[must_use]
    pub fn entra_config(&self) -> &EntraConfig {
        &self.shared.config.entra
    }

    /// Returns the endpoint's clock minus the local clock, as of its last answer. `None` before the
    /// first answer. Accurate to about a second, the resolution of `Date`.
    #[must_use]
    pub fn clock_offset(&self, endpoint: &Endpoint) -> Option<SignedDuration> {
        self.shared
            .resources()
            .get(endpoint)
            .and_then(|resource| resource.clock.offset())
    }

    /// Returns the endpoint's time, or up to a second earlier, as `Date` has whole seconds. `None`
    /// before its first answer. Setting the local clock makes no difference.
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
        self.resources.lock()
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

/// Reason why the HTTP client cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The CA bundle contains no certificate.
    #[error(
        "the CA bundle must contain at least one certificate in PEM format, and only valid \
     certificates"
    )]
    CaBundle,
    /// TLS cannot be set up, mostly because the platform's CA certificates are missing.
    #[error("cannot set up the HTTP client; are the system's CA certificates installed?")]
    Http(#[source] reqwest::Error),
}
