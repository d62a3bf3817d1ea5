//! Local token endpoint of a machine, and the flags that select the source of tokens.

use std::time::{Duration, Instant};

use acs_identity_operator::acs::{EntraConfig, EntraIdentity, Kind, Service, ServiceConfig};

use crate::entra::{PACE, bearers, client, issue};
use crate::wire::{Reply, Wire, answer, config, json, service, token};

#[test]
fn flags_that_are_wrong_say_what_is_right() {
    let new = |authority: &str, audience: &str, local: Option<&str>| {
        EntraConfig::new(authority, audience.to_owned(), local, None)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    let (authority, audience) = (
        "https://login.microsoftonline.us",
        "https://communication.azure.us/",
    );
    new(
        authority,
        audience,
        Some("http://localhost:50342/oauth2/token"),
    )
    .unwrap();
    for text in [
        "http://login.example",
        "login.example",
        "",
        "https://a.example/tenant",
    ] {
        let error = new(text, audience, None).unwrap_err();
        assert!(
            error.starts_with("--entra-authority must be an https address"),
            "{error}"
        );
    }
    for text in ["", "https://a.example/.default", "https://a b"] {
        let error = new(authority, text, None).unwrap_err();
        assert!(
            error.starts_with("--acs-audience must be a resource"),
            "{error}"
        );
    }
    for text in ["", "localhost:50342", "ftp://localhost"] {
        let error = new(authority, audience, Some(text)).unwrap_err();
        assert!(
            error.starts_with("--local-token-endpoint must be an address"),
            "{error}"
        );
    }
}

/// Starts an endpoint like that of Cloud Shell with these replies, and a service that uses it.
async fn local(replies: impl IntoIterator<Item = Reply>) -> (Wire, Service) {
    let wire = Wire::new(replies).await;
    let endpoint = format!("{}/oauth2/token", wire.endpoint);
    let entra = EntraConfig::new(
        "https://login.microsoftonline.com",
        "https://communication.azure.com/".to_owned(),
        Some(&endpoint),
        None,
    );
    let service = service(ServiceConfig {
        entra: entra.unwrap(),
        ..config()
    });
    (wire, service)
}

#[tokio::test]
async fn the_local_token_endpoint_is_asked_by_a_form_and_its_token_is_kept() {
    for end in [
        "",
        r#","expires_on":"4102444800""#,
        r#","expires_on":4102444800"#,
    ] {
        let body = format!(r#"{{"access_token":"of-the-machine"{end}}}"#);
        let (endpoint, service) = local([json(200, &body)]).await;
        let acs = Wire::new([token()]).await;
        let managed = EntraIdentity::Managed { client_id: None };
        let client = client(&acs, &service, &service.entra(managed));
        issue(&client).await.unwrap();
        issue(&client).await.unwrap();
        let asked = endpoint.got();
        assert_eq!(asked.len(), 1, "{end}");
        let asked = &asked[0];
        assert_eq!(
            (asked.method.as_str(), asked.target.as_str()),
            ("POST", "/oauth2/token")
        );
        assert_eq!(asked.header("metadata"), Some("true"));
        assert_eq!(
            asked.body,
            b"resource=https%3A%2F%2Fcommunication.azure.com%2F"
        );
        assert_eq!(bearers(&acs), vec!["Bearer of-the-machine"; 2]);
    }
}

#[tokio::test]
async fn an_audience_that_the_local_token_endpoint_does_not_serve_is_told() {
    let body = r#"{"error":{"code":"AudienceNotSupported","message":"Audience https://communication.azure.com/ is not a supported MSI token audience...."}}"#;
    let (endpoint, service) = local([json(400, body)]).await;
    let acs = Wire::new([token()]).await;
    let managed = EntraIdentity::Managed { client_id: None };
    let client = client(&acs, &service, &service.entra(managed));
    let error = issue(&client).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TokenRefused);
    let text = error.to_string();
    let at = format!("{}/oauth2/token", endpoint.endpoint);
    assert!(
        text.contains(&format!(
            "The token endpoint {at} issues no tokens for https://communication.azure.com/; use \
             workloadIdentity or clientSecret instead"
        )),
        "{text}"
    );
}

#[tokio::test]
async fn a_machine_whose_clock_is_ahead_is_asked_again_when_its_token_ends() {
    let ahead = |token: &str| {
        let body = format!(r#"{{"access_token":"{token}","expires_on":4102444802}}"#);
        let headers = "Date: Fri, 01 Jan 2100 00:00:00 GMT\r\nContent-Type: application/json\r\n";
        answer(200, headers, &body)
    };
    let (_endpoint, service) = local([ahead("first"), ahead("second")]).await;
    let acs = Wire::new([token()]).await;
    let managed = EntraIdentity::Managed { client_id: None };
    let client = client(&acs, &service, &service.entra(managed));
    let deadline = Instant::now() + Duration::from_secs(30);
    while !bearers(&acs).contains(&"Bearer second".to_owned()) {
        issue(&client).await.unwrap();
        assert!(Instant::now() < deadline, "a token of two seconds is kept");
        tokio::time::sleep(PACE).await;
    }
}
