//! Source of Entra ID tokens: `azure_identity`, over this crate's own HTTP client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use azure_core::credentials::{Secret, TokenCredential};
use azure_core::error::ErrorKind;
use azure_core::http::headers::Headers;
use azure_core::http::{
    AsyncRawResponse, Body, ClientMethodOptions, ClientOptions, ExponentialRetryOptions,
    HttpClient, Request, RetryOptions, StatusCode, Transport,
};
use azure_identity::{
    ClientAssertion, ClientAssertionCredential, ClientAssertionCredentialOptions,
    ClientSecretCredential, ClientSecretCredentialOptions, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};
use jiff::Timestamp;
use parking_lot::Mutex;
use reqwest::header::DATE;
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use crate::claims::claims;

use super::super::ServiceConfig;
use super::super::http::{NoAnswer, http_client, http_date};
use super::bearer::{Fresh, NoToken};
use super::entra::{AssertionSource, EntraIdentity, NoAssertion};
use super::{error, local_token};

/// Maximum size of an answer; no answer with a token is larger.
const LARGEST_BODY: usize = 64 * 1024;
/// Retries of a request that got no answer, or a status that suggests a retry.
const MOST_RETRIES: u32 = 2;
/// Time after which a token of unknown lifetime is requested again; its source caches it.
const UNKNOWN_LIFE: Duration = Duration::from_mins(10);

/// Requests tokens.
#[derive(Clone)]
pub(super) struct Acquire {
    config: ServiceConfig,
    http: reqwest::Client,
}

/// Last answer of the token endpoint: `azure_identity` does not expose all of it. May hold a token,
/// so `Debug` does not print it.
pub(super) enum Exchange {
    Answer {
        status: u16,
        /// Time of the answer, by the clock of the server.
        date: Option<Timestamp>,
        body: Vec<u8>,
        /// The `ServiceAccount` token that was sent to prove the identity, if one was.
        assertion: Option<AssertionClaims>,
    },
    Silence(String),
    NoAssertion(NoAssertion),
}

/// The claims of a `ServiceAccount` token that a federated credential must match.
#[derive(Debug, Deserialize)]
pub(super) struct AssertionClaims {
    iss: String,
    sub: String,
    aud: Vec<String>,
}

impl AssertionClaims {
    /// Reads the assertion in the form that a token is requested with.
    fn in_form(form: &[u8]) -> Option<Self> {
        let mut fields = url::form_urlencoded::parse(form);
        let (_, assertion) = fields.find(|(name, _)| name == "client_assertion")?;
        claims(&assertion)
    }
}

impl fmt::Display for AssertionClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { iss, sub, aud } = self;
        let aud = aud.join(", ");
        write!(f, "issuer {iss}, subject {sub} and audience {aud}")
    }
}

impl Acquire {
    pub(super) fn new(config: &ServiceConfig, http: reqwest::Client) -> Self {
        Self {
            config: config.clone(),
            http,
        }
    }

    /// Requests one token, with a few retries of errors that may be transient.
    pub(super) async fn token(&self, identity: &EntraIdentity) -> Result<Fresh, NoToken> {
        let total = self.config.total_timeout;
        let entra = &self.config.entra;
        let last_exchange = Arc::new(Mutex::new(None));
        let asked = async {
            if let (EntraIdentity::Managed { .. }, Some(endpoint)) =
                (identity, &entra.local_token_endpoint)
            {
                return local_token::ask(
                    &self.direct()?,
                    endpoint,
                    &entra.audience,
                    &last_exchange,
                )
                .await;
            }
            let credential = self.credential(identity, &last_exchange)?;
            let scope = entra.scope();
            let token = credential
                .get_token(&[&scope], None)
                .await
                .map_err(|error| error.to_string())?;
            // Entra ID returns a lifetime, which was counted from now; a machine returns an expiry
            // time, by its own clock.
            let date = match (identity, &*last_exchange.lock()) {
                (EntraIdentity::Managed { .. }, Some(Exchange::Answer { date, .. })) => *date,
                _ => None,
            };
            Ok(Fresh {
                token: token.token.secret().to_owned().into(),
                life: life_until(Some(token.expires_on.unix_timestamp()), date),
            })
        };
        let outcome = match tokio::time::timeout(total, asked).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {} s", total.as_secs())),
        };
        outcome.map_err(|message| {
            let last_exchange = last_exchange.lock().take();
            error::from_answer(identity, entra, last_exchange, &message)
        })
    }

    /// Returns a credential for one token. It would cache the token itself, but also after ACS has
    /// rejected it, and after a failure it would send a request for each waiting caller.
    fn credential(
        &self,
        identity: &EntraIdentity,
        last_exchange: &Arc<Mutex<Option<Exchange>>>,
    ) -> Result<Arc<dyn TokenCredential>, String> {
        let http = match identity {
            EntraIdentity::Managed { .. } => self.direct()?,
            _ => self.http.clone(),
        };
        let client_options = self.options(http, last_exchange);
        let made: azure_core::Result<Arc<dyn TokenCredential>> = match identity.clone() {
            EntraIdentity::ClientSecret {
                tenant_id,
                client_id,
                secret,
            } => {
                let secret = Secret::new(secret.expose_secret().to_owned());
                let options = ClientSecretCredentialOptions { client_options };
                ClientSecretCredential::new(&tenant_id, client_id, secret, Some(options))
                    .map(|it| it as _)
            }
            EntraIdentity::Federated {
                tenant_id,
                client_id,
                assertion,
                ..
            } => {
                let assertion = Assertion {
                    source: assertion,
                    last_exchange: Arc::clone(last_exchange),
                };
                let options = ClientAssertionCredentialOptions { client_options };
                ClientAssertionCredential::new(tenant_id, client_id, assertion, Some(options))
                    .map(|it| it as _)
            }
            EntraIdentity::OwnWorkload {
                tenant_id,
                client_id,
            } => WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
                credential_options: ClientAssertionCredentialOptions { client_options },
                client_id: Some(client_id),
                tenant_id: Some(tenant_id),
                token_file_path: self.config.entra.federated_token_file.clone(),
            }))
            .map(|it| it as _),
            EntraIdentity::Managed { client_id } => {
                ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
                    user_assigned_id: client_id.map(UserAssignedId::ClientId),
                    client_options,
                }))
                .map(|it| it as _)
            }
        };
        made.map_err(|error| error.to_string())
    }

    fn options(
        &self,
        http: reqwest::Client,
        last_exchange: &Arc<Mutex<Option<Exchange>>>,
    ) -> ClientOptions {
        let mut cloud = CustomConfiguration::default();
        cloud
            .authority_host
            .clone_from(&self.config.entra.authority);
        let first = i64::try_from(self.config.first_retry_delay.as_millis()).unwrap_or(i64::MAX);
        let retry = RetryOptions::exponential(ExponentialRetryOptions {
            initial_delay: azure_core::time::Duration::milliseconds(first),
            max_retries: MOST_RETRIES,
            ..ExponentialRetryOptions::default()
        });
        ClientOptions {
            retry,
            transport: Some(Transport::new(Arc::new(RecordingTransport {
                http,
                last_exchange: Arc::clone(last_exchange),
            }))),
            cloud: Some(Arc::new(CloudConfiguration::Custom(cloud))),
            ..ClientOptions::default()
        }
    }

    /// Returns a client for endpoints on the machine itself, which no proxy can reach.
    fn direct(&self) -> Result<reqwest::Client, String> {
        http_client(&self.config, reqwest::ClientBuilder::no_proxy)
            .map_err(|error| error.to_string())
    }
}

/// HTTP client of `azure_identity`, which records the last answer.
struct RecordingTransport {
    http: reqwest::Client,
    last_exchange: Arc<Mutex<Option<Exchange>>>,
}

impl fmt::Debug for RecordingTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordingTransport")
    }
}

#[async_trait::async_trait]
impl HttpClient for RecordingTransport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let method = request.method().as_str().parse().unwrap_or_default();
        let mut builder = self.http.request(method, request.url().clone());
        for (name, value) in request.headers().iter() {
            builder = builder.header(name.as_str(), value.as_str());
        }
        if let Body::Bytes(bytes) = request.body() {
            builder = builder.body(bytes.clone());
        }
        let mut exchange = send(builder).await;
        if let (Exchange::Answer { assertion, .. }, Body::Bytes(form)) =
            (&mut exchange, request.body())
        {
            *assertion = AssertionClaims::in_form(form);
        }
        let answer = match &exchange {
            Exchange::Answer { status, body, .. } => Ok(AsyncRawResponse::from_bytes(
                StatusCode::from(*status),
                Headers::new(),
                body.clone(),
            )),
            Exchange::Silence(cause) => Err(azure_core::Error::with_message(
                ErrorKind::Io,
                cause.clone(),
            )),
            Exchange::NoAssertion(_) => Err(ErrorKind::Other.into()),
        };
        *self.last_exchange.lock() = Some(exchange);
        answer
    }
}

/// Sends a request and returns what came back.
pub(super) async fn send(request: reqwest::RequestBuilder) -> Exchange {
    let answer = async {
        let mut response = request.send().await?;
        let date = response.headers().get(DATE);
        let date = date.and_then(|date| date.to_str().ok()).and_then(http_date);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > LARGEST_BODY {
                break;
            }
            body.extend_from_slice(&chunk);
        }
        Ok::<_, reqwest::Error>(Exchange::Answer {
            status: response.status().as_u16(),
            date,
            body,
            assertion: None,
        })
    };
    answer
        .await
        .unwrap_or_else(|error| Exchange::Silence(NoAnswer::from(error).cause))
}

/// Returns the lifetime of a token whose source gives its expiry in seconds since 1970, if it gives
/// one and the answer is dated.
pub(super) fn life_until(end: Option<i64>, date: Option<Timestamp>) -> Duration {
    match end {
        None => UNKNOWN_LIFE,
        Some(end) => {
            let now = date.unwrap_or_else(Timestamp::now);
            let life = end.saturating_sub(now.as_second());
            Duration::from_secs(life.try_into().unwrap_or_default())
        }
    }
}

/// Assertion for `azure_identity`.
struct Assertion {
    source: AssertionSource,
    last_exchange: Arc<Mutex<Option<Exchange>>>,
}

impl fmt::Debug for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Assertion")
    }
}

#[async_trait::async_trait]
impl ClientAssertion for Assertion {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        match (self.source)().await {
            Ok(assertion) => Ok(assertion.expose_secret().to_owned()),
            Err(why) => {
                let error =
                    azure_core::Error::with_message(ErrorKind::Credential, why.message.clone());
                *self.last_exchange.lock() = Some(Exchange::NoAssertion(why));
                Err(error)
            }
        }
    }
}
