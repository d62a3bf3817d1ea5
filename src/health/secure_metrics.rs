//! Server of `/metrics` over TLS, for clients that the API server authenticates and authorizes.

use std::{convert::Infallible, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use http::{
    Method, Request, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{net::TcpStream, sync::Semaphore, time::timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use crate::metrics::{self, Metrics};

/// Maximum number of clients that are served at a time. Each may cost two calls to the API server.
const MOST_CALLERS: usize = 16;
/// Maximum time for a client: handshake, reviews and answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Address and certificate of metrics over TLS.
#[derive(Clone, Debug)]
pub struct SecureMetrics {
    /// Address to serve.
    pub address: SocketAddr,
    /// Folder with `tls.crt` and `tls.key`. They are read for each client, so that a renewed
    /// certificate is used without a restart.
    pub folder: PathBuf,
}

impl SecureMetrics {
    /// Returns the current TLS configuration. The error is a sentence.
    fn tls(&self) -> io::Result<Arc<ServerConfig>> {
        let wrong = |file: &str, what: &dyn std::fmt::Display| {
            io::Error::other(format!(
                "{}: {what}; the directory in --secure-metrics-folder must contain tls.crt and \
                 tls.key in PEM",
                self.folder.join(file).display()
            ))
        };
        let chain = CertificateDer::pem_file_iter(self.folder.join("tls.crt"))
            .and_then(Iterator::collect)
            .map_err(|error| wrong("tls.crt", &error))?;
        let key = PrivateKeyDer::from_pem_file(self.folder.join("tls.key"))
            .map_err(|error| wrong("tls.key", &error))?;
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| wrong("tls.crt", &error))?;
        Ok(Arc::new(config))
    }
}

/// Serves metrics. Returns only with an error, which is a sentence.
pub async fn serve(secure: SecureMetrics, client: Client, metrics: Arc<Metrics>) -> io::Result<()> {
    secure.tls()?;
    let address = secure.address;
    let listener = super::bind(address).await.map_err(|error| {
        io::Error::other(format!(
            "{address}: {error}; choose another --secure-metrics-address"
        ))
    })?;
    info!(address = %listener.local_addr()?, "serving /metrics over TLS");
    let callers = Arc::new(Semaphore::new(MOST_CALLERS));
    loop {
        // The semaphore is never closed, so this can only wait.
        let place = Arc::clone(&callers).acquire_owned().await;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "could not accept a connection to the secure metrics");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let (secure, client, metrics) = (secure.clone(), client.clone(), Arc::clone(&metrics));
        tokio::spawn(async move {
            let served = timeout(PATIENCE, attend(stream, &secure, &client, &metrics)).await;
            if let Ok(Err(error)) = served {
                debug!(%error, "a client of the secure metrics disconnected");
            }
            drop(place);
        });
    }
}

/// Serves one client.
async fn attend(
    stream: TcpStream,
    secure: &SecureMetrics,
    client: &Client,
    metrics: &Metrics,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let tls = secure.tls().inspect_err(|error| {
        warn!(%error, "could not serve metrics over TLS");
    })?;
    let stream = TlsAcceptor::from(tls).accept(stream).await?;
    let service =
        service_fn(async |request| Ok::<_, Infallible>(answer(&request, client, metrics).await));
    // Scrapes are rare, and connections that stay open would keep other clients out.
    let connection = http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    Ok(connection.await?)
}

async fn answer(
    request: &Request<Incoming>,
    client: &Client,
    metrics: &Metrics,
) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" || request.method() != Method::GET {
        return text(StatusCode::NOT_FOUND, "only GET /metrics is served\n");
    }
    let header = request.headers().get(AUTHORIZATION);
    let token = header.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    match may_read(client, token).await {
        Ok(()) => {
            let mut response = text(StatusCode::OK, metrics.text());
            let kind = http::HeaderValue::from_static(metrics::CONTENT_TYPE);
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        Err((status, why)) => {
            let mut response = text(status, format!("{why}\n"));
            if status == StatusCode::UNAUTHORIZED {
                let scheme = http::HeaderValue::from_static("Bearer");
                response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
            }
            response
        }
    }
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}

/// Asks the API server which user the token belongs to, and whether that user may get `/metrics`.
async fn may_read(client: &Client, token: Option<&str>) -> Result<(), (StatusCode, String)> {
    let Some(token) = token else {
        let message = "send the token of a ServiceAccount in the header Authorization: Bearer";
        return Err((StatusCode::UNAUTHORIZED, message.to_owned()));
    };
    let unavailable = |error: kube::Error| {
        let error = super::innermost(&error);
        warn!(
            error,
            "the API server could not review a client of the secure metrics"
        );
        let message = "the API server could not review the token; see the operator's log";
        (StatusCode::SERVICE_UNAVAILABLE, message.to_owned())
    };
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: Some(token.to_owned()),
            ..TokenReviewSpec::default()
        },
        ..TokenReview::default()
    };
    let reviewed = Api::all(client.clone())
        .create(&PostParams::default(), &review)
        .await
        .map_err(unavailable)?;
    let status = reviewed.status.unwrap_or_default();
    let Some(user) = status.user.filter(|_| status.authenticated == Some(true)) else {
        let message = "the API server rejected this token";
        return Err((StatusCode::UNAUTHORIZED, message.to_owned()));
    };
    let name = user.username.clone().unwrap_or_default();
    let reviewed = Api::all(client.clone())
        .create(&PostParams::default(), &access_of(user))
        .await
        .map_err(unavailable)?;
    if reviewed.status.is_some_and(|status| status.allowed) {
        return Ok(());
    }
    let message = format!(
        "{name} may not get /metrics; bind it to the ClusterRole of the chart that ends in :metrics-reader"
    );
    Err((StatusCode::FORBIDDEN, message))
}

/// Returns the review that asks whether a user may get `/metrics`.
fn access_of(user: UserInfo) -> SubjectAccessReview {
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: user.username,
            groups: user.groups,
            uid: user.uid,
            extra: user.extra,
            non_resource_attributes: Some(NonResourceAttributes {
                path: Some("/metrics".to_owned()),
                verb: Some("get".to_owned()),
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}
