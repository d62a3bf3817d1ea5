//! HTTP transport of one request.

use std::error::Error;
use std::io;
use std::iter::successors;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST, HeaderMap, HeaderName,
    HeaderValue, RETRY_AFTER,
};
use secrecy::{ExposeSecret as _, SecretString};

use super::super::auth::Signature;
use super::super::{Endpoint, Kind, ServiceConfig, ServiceError};
use super::answer::{Answer, Body, retry_after};
use super::clock::http_date;
use super::request::Request;

/// Maximum size of an answer; no answer of ACS is larger, a token is a few kilobytes.
const LARGEST_BODY: usize = 256 * 1024;
/// Time for which idle connections are kept. Shorter than that of servers and proxies, so that few
/// requests meet a connection that is being closed: their answer would be lost.
const IDLE_CONNECTION: Duration = Duration::from_secs(20);

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");
const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-ms-content-sha256");
const MS_CV: HeaderName = HeaderName::from_static("ms-cv");
const MS_DATE: HeaderName = HeaderName::from_static("x-ms-date");

/// Reason why no answer came, and what broke.
#[derive(Debug)]
pub(in super::super) struct NoAnswer {
    pub kind: Kind,
    pub cause: String,
}

/// Builds the HTTP client: no redirects, no retries of its own, rustls only.
pub(in super::super) fn http_client(
    config: &ServiceConfig,
    adapt: fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
) -> Result<reqwest::Client, ServiceError> {
    let mut builder = adapt(reqwest::Client::builder())
        .user_agent(concat!("acs-identity-operator/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .pool_idle_timeout(IDLE_CONNECTION)
        .connect_timeout(config.connect_timeout)
        .read_timeout(config.read_timeout);
    if let Some(pem) = &config.extra_ca_pem {
        let certificates =
            reqwest::Certificate::from_pem_bundle(pem).map_err(|_| ServiceError::CaBundle)?;
        if certificates.is_empty() {
            return Err(ServiceError::CaBundle);
        }
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(ServiceError::Http)
}

/// Authentication of a request.
pub(super) enum Proof {
    Signature(Signature),
    /// Token of Entra ID.
    Bearer(SecretString),
}

impl Proof {
    /// Returns the headers, and whether each is a secret.
    fn headers(&self) -> Vec<(HeaderName, String, bool)> {
        match self {
            Self::Signature(signature) => vec![
                (MS_DATE, signature.date.clone(), false),
                (CONTENT_SHA256, signature.content_sha256.clone(), false),
                (AUTHORIZATION, signature.authorization.clone(), true),
            ],
            Self::Bearer(token) => {
                let value = format!("Bearer {}", token.expose_secret());
                vec![(AUTHORIZATION, value, true)]
            }
        }
    }

    /// Returns the value that no error may repeat.
    pub(super) fn secret(&self) -> Option<&str> {
        match self {
            Self::Signature(signature) => signature
                .authorization
                .rsplit_once("Signature=")
                .map(|(_, text)| text),
            Self::Bearer(token) => Some(token.expose_secret()),
        }
    }
}

/// Sends one request with its proof and reads its answer, within `timeout`.
pub(super) async fn exchange(
    http: &reqwest::Client,
    endpoint: &Endpoint,
    request: &Request,
    proof: &Proof,
    request_id: &str,
    timeout: Duration,
) -> Result<Answer, NoAnswer> {
    let body = request.body.expose_secret();
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, JSON);
    if !body.is_empty() {
        headers.insert(CONTENT_TYPE, JSON);
    } else if request.method == Method::POST {
        // Omitted otherwise, and front ends reject a POST without it (411).
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    let own = [
        // The signature covers the host, so the HTTP client must not choose it.
        (HOST, endpoint.authority().to_owned(), false),
        (CLIENT_REQUEST_ID, request_id.to_owned(), false),
    ];
    for (name, value, is_sensitive) in own.into_iter().chain(proof.headers()) {
        let Ok(mut value) = HeaderValue::from_str(&value) else {
            let cause = format!("the header {name} is malformed");
            return Err(NoAnswer {
                kind: Kind::Malformed,
                cause,
            });
        };
        value.set_sensitive(is_sensitive);
        headers.insert(name, value);
    }
    let response = http
        .request(
            request.method.clone(),
            format!("{endpoint}{}", request.target),
        )
        .headers(headers)
        .body(body.to_vec())
        .timeout(timeout)
        .send()
        .await
        .map_err(NoAnswer::from)?;
    Ok(read(response).await)
}

async fn read(mut response: reqwest::Response) -> Answer {
    let received_at = Timestamp::now();
    let text = |name| {
        response
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let date = text(DATE).and_then(http_date);
    let content_type = text(CONTENT_TYPE)
        .and_then(|text| text.split(';').next())
        .map(|text| text.trim().to_ascii_lowercase())
        .filter(|text| !text.is_empty());
    let mut answer = Answer {
        status: response.status().as_u16(),
        content_type,
        date,
        received_at,
        ms_cv: text(MS_CV).map(str::to_owned),
        retry_after: text(RETRY_AFTER)
            .and_then(|text| retry_after(text, date.unwrap_or(received_at))),
        body: Body::Broken,
    };
    let mut bytes = Vec::new();
    answer.body = loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() > LARGEST_BODY => break Body::TooLarge,
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => break Body::Whole(bytes),
            Err(_) => break Body::Broken,
        }
    };
    answer
}

impl From<reqwest::Error> for NoAnswer {
    fn from(error: reqwest::Error) -> Self {
        let kind = if error.is_connect() {
            Kind::Unreachable
        } else if error.is_builder() {
            Kind::Malformed
        } else {
            // Also a timeout for which it is unknown whether the request was sent.
            Kind::NoAnswer
        };
        let cause = if error.is_dns() {
            "the host name cannot be resolved".to_owned()
        } else if speaks_no_tls(&error) {
            "the server does not speak TLS".to_owned()
        } else if error.is_timeout() {
            "timed out".to_owned()
        } else {
            innermost(&error)
        };
        Self { kind, cause }
    }
}

fn speaks_no_tls(error: &reqwest::Error) -> bool {
    let error: &(dyn Error + 'static) = error;
    successors(Some(error), |error| below(*error))
        .any(|cause| matches!(cause.downcast_ref(), Some(rustls::Error::InvalidMessage(_))))
}

/// Returns the cause of an error: an I/O error hides it from `source`.
fn below<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>() {
        Some(error) => error
            .get_ref()
            .map(|inner| -> &'a (dyn Error + 'static) { inner }),
        None => error.source(),
    }
}

/// Returns the innermost cause, without the URL that the outer layers add: ids are personal data.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if std::ptr::addr_eq(cause, error) {
        "the request failed".to_owned()
    } else {
        cause.to_string()
    }
}
