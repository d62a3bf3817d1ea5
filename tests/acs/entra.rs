//! Entra ID tokens: requests, caching, renewal, and error messages of refusals.

use std::time::{Duration, Instant};

use acs_identity_operator::acs::{
    ApiVersion, Client, Credential, EntraConfig, EntraIdentity, Error, Kind, NoAssertion, Outcome,
    Service, ServiceConfig,
};
use futures::FutureExt as _;
use futures::future::join_all;

use crate::tls::tls;
use crate::wire::{ID, Reply, Wire, complaint, config, created, json, service, soon, token};

const TENANT: &str = "contoso.onmicrosoft.com";
const CLIENT: &str = "11111111-2222-3333-4444-555555555555";
const SECRET: &str = "Zq8~a-client-secret+of=the_wire";
/// Pause between the calls of a loop, which keeps it within the rate limits of ACS.
pub const PACE: Duration = Duration::from_millis(20);

/// Starts an authority with these replies, and a service that requests its tokens there.
async fn authority(replies: impl IntoIterator<Item = Reply>) -> (Wire, Service) {
    let (acceptor, pem) = tls(&["127.0.0.1"]);
    let wire = Wire::tls(replies, acceptor).await;
    let audience = "https://communication.azure.com/".to_owned();
    let entra = EntraConfig::new(wire.endpoint.as_str(), audience, None, None).unwrap();
    let service = service(ServiceConfig {
        extra_ca_pem: Some(pem),
        entra,
        ..config()
    });
    (wire, service)
}

/// Answer of an authority that issues `token` for `seconds`.
fn granted(token: &str, seconds: u32) -> Reply {
    let body = format!(
        r#"{{"token_type":"Bearer","expires_in":{seconds},"ext_expires_in":{seconds},"access_token":"{token}"}}"#
    );
    json(200, &body)
}

/// Answer of an authority that refuses with an `AADSTS` code.
fn refused(number: u32, trace: u32) -> Reply {
    let body = format!(
        r#"{{"error":"invalid_client","error_description":"AADSTS{number}: It is so. Trace ID: {trace} Timestamp: 2026-01-01","error_codes":[{number}]}}"#
    );
    json(401, &body)
}

fn application(secret: &str) -> EntraIdentity {
    EntraIdentity::ClientSecret {
        tenant_id: TENANT.to_owned(),
        client_id: CLIENT.to_owned(),
        secret: secret.to_owned().into(),
    }
}

pub fn client(wire: &Wire, service: &Service, credential: &Credential) -> Client {
    service.client(&wire.endpoint, &ApiVersion::default(), credential)
}

pub async fn issue(client: &Client) -> Result<(), Error> {
    client
        .issue_token(ID, &["chat"], 60, soon())
        .await
        .map(drop)
}

pub fn bearers(wire: &Wire) -> Vec<String> {
    let got = wire.got();
    let values = got.iter().filter_map(|got| got.header("authorization"));
    values.map(str::to_owned).collect()
}

#[tokio::test]
async fn a_client_secret_is_shown_to_the_authority_and_its_token_to_the_service() {
    let (authority, service) = authority([granted("the-token", 3600)]).await;
    let acs = Wire::new([created()]).await;
    let client = client(&acs, &service, &service.entra(application(SECRET)));
    client.create_identity(None, soon()).await.unwrap();

    let asked = &authority.got()[0];
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str()),
        ("POST", "/contoso.onmicrosoft.com/oauth2/v2.0/token")
    );
    let form: Vec<_> = url::form_urlencoded::parse(&asked.body).collect();
    for (name, value) in [
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT),
        ("client_secret", SECRET),
        // The resource itself ends with a slash.
        ("scope", "https://communication.azure.com//.default"),
    ] {
        assert!(
            form.contains(&(name.into(), value.into())),
            "{name}: {form:?}"
        );
    }
    let got = &acs.got()[0];
    assert_eq!(got.header("authorization"), Some("Bearer the-token"));
    assert_eq!(got.header("x-ms-date"), None);
    assert_eq!(got.header("x-ms-content-sha256"), None);
}

#[tokio::test]
async fn all_calls_share_one_token_however_they_came_by_the_credential() {
    let (authority, service) = authority([granted("shared", 3600)]).await;
    let acs = Wire::new([token()]).await;
    let clients: Vec<_> = (0..20)
        .map(|_| client(&acs, &service, &service.entra(application(SECRET))))
        .collect();
    for outcome in join_all(clients.iter().map(issue)).await {
        outcome.unwrap();
    }
    assert_eq!(authority.got().len(), 1);
    assert_eq!(bearers(&acs), vec!["Bearer shared"; 20]);
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end_and_no_call_fails_meanwhile() {
    let (_authority, service) = authority([granted("first", 2), granted("second", 3600)]).await;
    let acs = Wire::new([token()]).await;
    let client = client(&acs, &service, &service.entra(application(SECRET)));
    let deadline = Instant::now() + Duration::from_secs(30);
    let begun = Instant::now();
    while !bearers(&acs).contains(&"Bearer second".to_owned()) {
        issue(&client).await.unwrap();
        assert!(Instant::now() < deadline, "never renewed");
        tokio::time::sleep(PACE).await;
    }
    assert!(begun.elapsed() > Duration::from_secs(1), "renewed at once");
    let used = bearers(&acs);
    let firsts = used.iter().filter(|it| *it == "Bearer first").count();
    assert_eq!(used[firsts..], vec!["Bearer second"; used.len() - firsts]);
}

#[tokio::test]
async fn a_token_that_can_not_be_renewed_is_used_to_its_end() {
    let (authority, service) = authority([granted("only", 3), refused(7_000_222, 1)]).await;
    let acs = Wire::new([token()]).await;
    let client = client(&acs, &service, &service.entra(application(SECRET)));
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut after_refusal = 0;
    let error = loop {
        let was_refused = authority.got().len() == 2;
        match issue(&client).await {
            Ok(()) => after_refusal += u32::from(was_refused),
            Err(error) => break error,
        }
        assert!(Instant::now() < deadline, "it never ends");
        tokio::time::sleep(PACE).await;
    };
    assert_eq!(error.kind(), Kind::TokenRefused);
    assert_ne!(after_refusal, 0, "it was not asked for before the end");
    assert_eq!(authority.got().len(), 2, "one answer is for everybody");
    assert!(bearers(&acs).iter().all(|it| it == "Bearer only"));
}

#[tokio::test]
async fn a_refusal_answers_everybody_who_waited_and_is_a_sentence() {
    let (authority, service) = authority([refused(7_000_222, 1), refused(7_000_222, 2)]).await;
    let acs = Wire::new([token()]).await;
    let client = client(&acs, &service, &service.entra(application(SECRET)));
    let outcomes = join_all((0..20).map(|_| issue(&client))).await;
    assert_eq!(authority.got().len(), 1);
    assert!(acs.got().is_empty());
    let host = acs.endpoint.as_str();
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert_eq!(
            (error.kind(), error.outcome(), error.is_lost()),
            (Kind::TokenRefused, Outcome::NotDone, false)
        );
        assert_eq!(
            error.to_string(),
            format!(
                "Could not issue a token at {host}: Microsoft Entra ID refused to issue a token \
                 (401, AADSTS7000222, It is so). The client secret has expired: create a new one \
                 for application {CLIENT} and store its value in the Secret."
            )
        );
    }
}

#[tokio::test]
async fn a_token_that_the_service_refuses_is_not_shown_again_and_the_advice_is_a_role() {
    for status in [401, 403] {
        let (_authority, service) =
            authority([granted("first", 3600), granted("second", 3600)]).await;
        let denied = complaint(status, "Denied", "No, Bearer first.");
        let acs = Wire::new([denied, token()]).await;
        let client = client(&acs, &service, &service.entra(application(SECRET)));
        let error = issue(&client).await.unwrap_err();
        assert_eq!(error.kind(), Kind::CredentialRefused);
        let text = error.to_string();
        for part in [
            "No, Bearer [removed].",
            "Assign a role on the ACS resource",
            "a new assignment takes some minutes",
        ] {
            assert!(text.contains(part), "{text}");
        }
        issue(&client).await.unwrap();
        assert_eq!(bearers(&acs), ["Bearer first", "Bearer second"]);
    }
}

#[tokio::test]
async fn a_moments_trouble_of_the_authority_is_tried_again() {
    let busy = crate::wire::answer(503, "Retry-After: 0\r\n", "<html>");
    let (authority, service) = authority([busy, Reply::Reset, granted("late", 3600)]).await;
    let acs = Wire::new([token()]).await;
    let client = client(&acs, &service, &service.entra(application(SECRET)));
    issue(&client).await.unwrap();
    assert_eq!(authority.got().len(), 3);
}

#[tokio::test]
async fn an_authority_that_makes_no_sense_or_is_not_there_is_told_and_nothing_is_sent() {
    for (reply, said) in [
        (json(200, "<html>"), "the answer holds no token"),
        (
            json(200, r#"{"access_token":7}"#),
            "the answer holds no token",
        ),
        (crate::wire::answer(502, "", "<html>"), "502"),
        (
            Reply::Reset,
            "check that the network and proxies allow connections to",
        ),
    ] {
        let (_authority, service) = authority([reply]).await;
        let acs = Wire::new([token()]).await;
        let client = client(&acs, &service, &service.entra(application(SECRET)));
        let error = issue(&client).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.outcome()),
            (Kind::TokenUnavailable, Outcome::NotDone)
        );
        let text = error.to_string();
        assert!(text.contains(said), "{text}");
        assert!(acs.got().is_empty());
    }
}

#[tokio::test]
async fn an_assertion_is_made_for_each_request_and_its_failure_is_told() {
    let (authority, service) = authority([granted("by-trust", 3600)]).await;
    let acs = Wire::new([token()]).await;
    let federated = |subject: &str, outcome: Result<&'static str, NoAssertion>| {
        service.entra(EntraIdentity::Federated {
            tenant_id: TENANT.to_owned(),
            client_id: CLIENT.to_owned(),
            subject: subject.to_owned(),
            assertion: std::sync::Arc::new(move || {
                let outcome = outcome.clone();
                async { outcome.map(|text| text.to_owned().into()) }.boxed()
            }),
        })
    };
    issue(&client(
        &acs,
        &service,
        &federated("a/b", Ok("an.asser.tion")),
    ))
    .await
    .unwrap();
    let asked = authority.got().remove(0);
    let form: Vec<_> = url::form_urlencoded::parse(&asked.body).collect();
    for (name, value) in [
        ("client_assertion", "an.asser.tion"),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("client_id", CLIENT),
    ] {
        assert!(form.contains(&(name.into(), value.into())), "{form:?}");
    }
    let none = NoAssertion {
        message: "there is no such account".to_owned(),
        advice: "Make one".to_owned(),
    };
    let error = issue(&client(&acs, &service, &federated("a/c", Err(none))))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::NoAssertion);
    assert!(
        error.to_string().ends_with(
            "cannot authenticate to Microsoft Entra ID (there is no such account). Make one."
        ),
        "{error}"
    );
    assert_eq!(authority.got().len(), 1);
}

#[test]
fn a_fingerprint_is_of_the_identity_not_of_its_secret() {
    let service = service(config());
    let of = |identity| service.entra(identity).fingerprint();
    let one = of(application("one"));
    assert_eq!(one.len(), 16);
    assert_eq!(one, of(application("two")));
    assert_eq!(
        one,
        of(EntraIdentity::OwnWorkload {
            tenant_id: TENANT.to_owned(),
            client_id: CLIENT.to_owned()
        })
    );
    let mut others = vec![one];
    for (tenant_id, client_id) in [(TENANT, "another"), ("another", CLIENT)] {
        others.push(of(EntraIdentity::OwnWorkload {
            tenant_id: tenant_id.to_owned(),
            client_id: client_id.to_owned(),
        }));
    }
    for client_id in [None, Some(CLIENT.to_owned())] {
        others.push(of(EntraIdentity::Managed { client_id }));
    }
    let count = others.len();
    others.sort();
    others.dedup();
    assert_eq!(others.len(), count, "{others:?}");
}

#[test]
fn what_refuses_one_secret_does_not_refuse_another() {
    let service = service(config());
    let [one, same, two] = ["one", "one", "two"].map(|secret| service.entra(application(secret)));
    assert!(one.is_same(&same));
    assert!(!one.is_same(&two));
}

#[test]
fn nothing_of_a_secret_can_be_printed() {
    let service = service(config());
    let identity = application(SECRET);
    let text = format!("{identity:?} {:?}", service.entra(identity.clone()));
    assert!(text.contains(TENANT) && !text.contains(SECRET), "{text}");
}
