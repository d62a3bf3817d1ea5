//! Certificates that the client trusts.

use std::sync::Arc;
use std::time::Duration;

use acs_identity_operator::acs::{Endpoint, Kind, Outcome, Service, ServiceConfig, ServiceError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use crate::wire::{Wire, config, created, key, service, soon};

/// TLS configuration of a server with these names, and the certificate of its authority in PEM.
pub fn tls(names: &[&str]) -> (TlsAcceptor, Vec<u8>) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (
        TlsAcceptor::from(Arc::new(config)),
        authority.pem().into_bytes(),
    )
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_when_told() {
    let (acceptor, pem) = tls(&["127.0.0.1"]);
    let wire = Wire::tls([created()], acceptor).await;
    let service = service(ServiceConfig {
        extra_ca_pem: Some(pem),
        ..config()
    });
    wire.client_of(&service)
        .create_identity(None, soon())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_server_that_can_not_prove_itself_is_sent_nothing() {
    let (untrusted, _) = tls(&["127.0.0.1"]);
    let (misnamed, pem) = tls(&["other.example"]);
    for (acceptor, extra_ca_pem) in [(untrusted, None), (misnamed, Some(pem))] {
        let wire = Wire::tls([created()], acceptor).await;
        let client = wire.client_of(&service(ServiceConfig {
            extra_ca_pem,
            ..config()
        }));
        let error = client.create_identity(None, soon()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.outcome()),
            (Kind::Unreachable, Outcome::NotDone)
        );
        assert!(error.to_string().contains("certificate"), "{error}");
        assert!(wire.got().is_empty());
    }
}

#[tokio::test]
async fn a_server_without_tls_is_sent_nothing() {
    let wire = Wire::new([created()]).await;
    let endpoint = Endpoint::parse(&format!("https://{}", wire.endpoint.authority())).unwrap();
    let config = ServiceConfig {
        connect_timeout: Duration::from_millis(200),
        ..config()
    };
    let client = service(config).client(&endpoint, &"2023-10-01".parse().unwrap(), &key());
    let error = client.create_identity(None, soon()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (Kind::Unreachable, Outcome::NotDone),
        "{error}"
    );
    assert!(wire.got().is_empty());
}

#[test]
fn a_bundle_without_certificates_is_refused() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    for pem in [
        "",
        "no PEM",
        "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
    ] {
        let config = ServiceConfig {
            extra_ca_pem: Some(pem.into()),
            ..config()
        };
        assert!(
            matches!(Service::new(config), Err(ServiceError::CaBundle)),
            "{pem}"
        );
    }
}
