//! Metrics over TLS, for callers with permission to read them.

use std::{fs, path::Path};

use rcgen::{CertificateParams, KeyPair};
use reqwest::{Certificate, Client, StatusCode};
use serde_json::json;

use crate::support::{
    eventually,
    helm::{Release, objects, only, template},
    world::World,
};

/// Writes a new certificate for 127.0.0.1 to a directory, as the kubelet does from a Secret;
/// returns a client that trusts only that certificate.
fn certify(folder: &Path) -> Client {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("signed");
    fs::write(folder.join("tls.key"), key.serialize_pem()).expect("written");
    fs::write(folder.join("tls.crt"), certificate.pem()).expect("written");
    let certificate = Certificate::from_pem(certificate.pem().as_bytes()).expect("PEM");
    let client = Client::builder().tls_certs_only([certificate]);
    client.build().expect("a client")
}

async fn get(client: &Client, url: &str, token: Option<&str>) -> (StatusCode, String) {
    let mut request = client.get(url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.expect("an answer");
    (answer.status(), answer.text().await.expect("text"))
}

#[tokio::test]
async fn only_who_may_read_metrics_gets_them_and_a_renewed_certificate_is_used() {
    let world = World::bare(&[], &[]).await;
    let (cluster, namespace) = (world.cluster, world.namespace.as_str());
    let values = json!({
        "watchNamespaces": [namespace], "logFormat": "text",
        "metrics": {"secure": {"enabled": true, "certificateSecret": "metrics"}},
    });
    let release = Release::install(cluster, "secure", namespace, &values);
    let folder = tempfile::tempdir().expect("a folder");
    let client = certify(folder.path());
    let there = |name: &str, value: &str| (format!("ACS_OPERATOR_{name}"), value.to_owned());
    let mounted = "--secure-metrics-folder=/var/run/secrets/acs-identity.dev/metrics";
    let own = format!("--secure-metrics-folder={}", folder.path().display());
    let mut operator = release.start_operator_instead(
        (mounted, &own),
        &[there("SECURE_METRICS_ADDRESS", "127.0.0.1:0")],
    );
    let url = operator.process.wait_for("the secure address", |line| {
        let (_, rest) = line.split_once("serving /metrics over TLS address=")?;
        Some(format!(
            "https://{}/metrics",
            rest.split_whitespace().next()?
        ))
    });

    cluster.kubectl(&["create", "serviceaccount", "prometheus", "-n", namespace]);
    let token = cluster.kubectl(&["create", "token", "prometheus", "-n", namespace]);
    let secret = token.trim();
    let token = Some(secret);
    let (status, said) = get(&client, &url, None).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{said}");
    let (status, said) = get(&client, &url, Some("eyJ.nonsense.")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{said}");
    let (status, said) = get(&client, &url, token).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let account = format!("system:serviceaccount:{namespace}:prometheus");
    assert!(
        said.starts_with(&format!("{account} may not get /metrics")),
        "{said}"
    );

    let role = format!("--clusterrole={namespace}:secure-acs-identity-operator:metrics-reader");
    let bind = ["create", "clusterrolebinding", namespace, &role];
    let subject = format!("--serviceaccount={namespace}:prometheus");
    cluster.kubectl(&[&bind[..], &[&subject]].concat());
    let served = eventually("the account may read metrics", || async {
        let (status, said) = get(&client, &url, token).await;
        (status == StatusCode::OK).then_some(said)
    })
    .await;
    assert!(
        served.contains("acs_identity_operator_build_info"),
        "{served}"
    );
    let (status, _) = get(&client, &url.replace("/metrics", "/readyz"), token).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    // They are not available without TLS.
    let plain = reqwest::get(format!("{}/metrics", operator.url)).await;
    assert_eq!(plain.expect("an answer").status(), StatusCode::NOT_FOUND);

    let renewed = certify(folder.path());
    assert!(
        client.get(&url).send().await.is_err(),
        "the former certificate"
    );
    assert_eq!(get(&renewed, &url, token).await.0, StatusCode::OK);
    assert!(!operator.process.output().contains(secret));
    cluster.kubectl(&["delete", "clusterrolebinding", namespace]);
    release.uninstall();
}

#[test]
fn what_scrapes_secure_metrics_presents_its_token_and_trusts_their_authority() {
    let secure = json!({"enabled": true, "certificateSecret": "metrics-tls"});
    let values = json!({"metrics": {"secure": secure, "serviceMonitor": {"enabled": true}}});
    let objects = objects(&template("home", &values).expect("rendered"));
    let endpoint = &only(&objects, "ServiceMonitor")["spec"]["endpoints"][0];
    let service = only(&objects, "Service");
    let name = service["metadata"]["name"].as_str().expect("a name");
    assert_eq!(endpoint["scheme"], "https");
    assert_eq!(endpoint["port"], service["spec"]["ports"][0]["name"]);
    assert_eq!(
        endpoint["tlsConfig"]["serverName"],
        format!("{name}.home.svc")
    );
    assert_eq!(endpoint["tlsConfig"]["ca"]["secret"]["name"], "metrics-tls");
    let pods = json!({"metrics": {"secure": secure, "podMonitor": {"enabled": true}}});
    let said = template("home", &pods).expect_err("no token");
    assert!(said.contains("use metrics.serviceMonitor"), "{said}");
    let lone = json!({"metrics": {"secure": {"enabled": true}}});
    let said = template("home", &lone).expect_err("no certificate");
    assert!(said.contains("/metrics/secure/certificateSecret"), "{said}");
}
