//! Meaning of an error from Entra ID, and advice for the user.

use serde::Deserialize;

use super::super::Kind;
use super::super::http::scrubbed;
use super::advice::advice;
use super::bearer::NoToken;
use super::entra::{EntraConfig, EntraIdentity, NoAssertion};
use super::token_source::{AssertionClaims, Exchange};

/// Error formats of the services that issue tokens.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Complaint {
    error: Option<ErrorField>,
    error_description: Option<String>,
    error_codes: Vec<u32>,
    /// Message in App Service's format.
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorField {
    Name(String),
    Object {
        code: Option<String>,
        message: Option<String>,
    },
}

/// Builds the error from the last answer and from the message of `azure_identity`.
pub(super) fn from_answer(
    identity: &EntraIdentity,
    config: &EntraConfig,
    last_exchange: Option<Exchange>,
    message: &str,
) -> NoToken {
    match last_exchange {
        Some(Exchange::NoAssertion(NoAssertion { message, advice })) => NoToken {
            kind: Kind::NoAssertion,
            status: None,
            code: None,
            message: Some(scrubbed(&message, &[])),
            advice,
        },
        Some(Exchange::Answer {
            status,
            body,
            assertion,
            ..
        }) => answered(identity, config, status, &body, assertion.as_ref()),
        Some(Exchange::Silence(cause)) => unavailable(identity, config, None, &cause),
        // No request was sent, or no answer came in time.
        None if message.starts_with("no answer") => unavailable(identity, config, None, message),
        None => NoToken {
            kind: Kind::TokenRefused,
            status: None,
            code: None,
            message: Some(scrubbed(message.lines().next().unwrap_or_default(), &[])),
            advice: match identity {
                EntraIdentity::OwnWorkload { .. } => {
                    "Check the file in --federated-token-file or AZURE_FEDERATED_TOKEN_FILE"
                }
                EntraIdentity::Managed { .. } => {
                    "Run the operator on an Azure machine with a managed identity, or with \
                     --local-token-endpoint"
                }
                _ => "Correct the input that the message names",
            }
            .to_owned(),
        },
    }
}

fn answered(
    identity: &EntraIdentity,
    config: &EntraConfig,
    status: u16,
    body: &[u8],
    assertion: Option<&AssertionClaims>,
) -> NoToken {
    let complaint: Complaint = serde_json::from_slice(body).unwrap_or_default();
    let is_moment = matches!(status, 200..=399 | 404 | 408 | 410 | 429 | 500..);
    let is_judgement = complaint.error.is_some()
        || complaint.error_description.is_some()
        || complaint.message.is_some();
    if !is_moment && !is_judgement {
        let cause = "the answer did not come from a token endpoint, but for example from a proxy";
        return unavailable(identity, config, Some(status), cause);
    }
    let (name, object_message) = match complaint.error {
        Some(ErrorField::Name(name)) => (Some(name), None),
        Some(ErrorField::Object { code, message }) => (code, message),
        None => (None, None),
    };
    let description = complaint.error_description.or(object_message);
    let description = description.or(complaint.message);
    let message = description.as_deref().map(lasting);
    let number = complaint.error_codes.first().copied();
    if is_moment && number.is_none() {
        let cause = message.unwrap_or_else(|| match status {
            200..=299 => "the answer holds no token".to_owned(),
            _ => String::new(),
        });
        return unavailable(identity, config, Some(status), &cause);
    }
    let code = number.map(|number| format!("AADSTS{number}")).or_else(|| {
        name.filter(|name| {
            name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
    });
    NoToken {
        kind: Kind::TokenRefused,
        status: Some(status),
        advice: advice(identity, config, number, code.as_deref(), assertion),
        code,
        message,
    }
}

fn unavailable(
    identity: &EntraIdentity,
    config: &EntraConfig,
    status: Option<u16>,
    cause: &str,
) -> NoToken {
    let advice = match identity {
        EntraIdentity::Managed { .. } if config.has_local_token_endpoint() => {
            "The operator tries again; check that the endpoint in --local-token-endpoint runs \
             beside the operator"
                .to_owned()
        }
        EntraIdentity::Managed { .. } => {
            "The operator tries again; check that it runs on an Azure machine with a managed \
             identity"
                .to_owned()
        }
        _ => format!(
            "The operator tries again; check that the network and proxies allow connections to {}",
            config.authority
        ),
    };
    NoToken {
        kind: Kind::TokenUnavailable,
        status,
        code: None,
        message: Some(scrubbed(cause, &[])).filter(|cause| !cause.is_empty()),
        advice,
    }
}

/// Removes from a message the parts that differ for each attempt: trace ids, times, its own code.
fn lasting(description: &str) -> String {
    let text = ["Trace ID:", "Correlation ID:", "Timestamp:"]
        .iter()
        .filter_map(|mark| description.find(mark))
        .min()
        .and_then(|end| description.get(..end))
        .unwrap_or(description);
    let text = match text.split_once(": ") {
        Some((code, rest)) if code.starts_with("AADSTS") => rest,
        _ => text,
    };
    scrubbed(text, &[]).trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "contoso.onmicrosoft.com";
    const CLIENT: &str = "11111111-2222-3333-4444-555555555555";

    fn application() -> EntraIdentity {
        EntraIdentity::ClientSecret {
            tenant_id: TENANT.to_owned(),
            client_id: CLIENT.to_owned(),
            secret: "a-client-secret".to_owned().into(),
        }
    }

    fn managed(client_id: Option<&str>) -> EntraIdentity {
        EntraIdentity::Managed {
            client_id: client_id.map(str::to_owned),
        }
    }

    fn judge(identity: &EntraIdentity, status: u16, body: &str) -> NoToken {
        let body = body.as_bytes().to_vec();
        let last_exchange = Some(Exchange::Answer {
            status,
            date: None,
            body,
            assertion: None,
        });
        from_answer(identity, &EntraConfig::default(), last_exchange, "")
    }

    fn by_entra(status: u16, number: u32) -> NoToken {
        let body = format!(
            r#"{{"error":"invalid_client","error_description":"AADSTS{number}: It is so. Trace ID: 1-2 Correlation ID: 3-4 Timestamp: 2026-01-01 00:00:00Z","error_codes":[{number}]}}"#
        );
        judge(&application(), status, &body)
    }

    #[test]
    fn each_refusal_of_entra_says_what_to_do() {
        for (status, number, advice) in [
            (
                400,
                90002,
                "Correct tenantId: https://login.microsoftonline.com does not know the tenant \
                 contoso",
            ),
            (400, 900_023, "Correct tenantId"),
            (
                400,
                700_016,
                "Correct clientId or tenantId: tenant contoso.onmicrosoft.com has no application \
                 1111",
            ),
            (
                400,
                65001,
                "Ask an administrator of tenant contoso.onmicrosoft.com to consent",
            ),
            (
                400,
                500_011,
                "does not know https://communication.azure.com/",
            ),
            (401, 7_000_112, "Enable application 1111"),
            (401, 7_000_215, "(its value, not its id)"),
            (
                401,
                7_000_222,
                "The client secret has expired: create a new one",
            ),
            (
                401,
                70021,
                "Create a federated credential for 11111111-2222-3333-4444-555555555555",
            ),
            (401, 700_211, "a federated credential"),
            (401, 700_212, "a federated credential"),
            (401, 700_213, "a federated credential"),
            (401, 700_024, "the clock of the cluster must be correct"),
            (400, 53003, "conditional access"),
            (400, 4_000_000, "Check application 1111"),
        ] {
            let refused = by_entra(status, number);
            assert_eq!(refused.kind, Kind::TokenRefused, "{number}");
            assert_eq!(refused.code, Some(format!("AADSTS{number}")));
            assert!(refused.advice.contains(advice), "{}", refused.advice);
            assert!(!refused.advice.ends_with('.'), "{}", refused.advice);
        }
    }

    #[test]
    fn what_changes_with_each_attempt_is_left_out() {
        assert_eq!(by_entra(401, 7_000_215).message.unwrap(), "It is so");
        for (text, expected) in [
            ("Plain words.", "Plain words"),
            ("AADSTS1: a: b", "a: b"),
            ("AADSTS1: a\r\nTrace ID: x\r\nCorrelation ID: y", "a"),
            ("a Timestamp: 1", "a"),
        ] {
            assert_eq!(lasting(text), expected);
        }
    }

    #[test]
    fn what_is_no_refusal_is_tried_again() {
        let config = EntraConfig::default();
        for (status, body) in [
            (200, "<html>"),
            (200, "{}"),
            (302, ""),
            (404, "<html>"),
            (429, "{}"),
            (500, ""),
            (503, "<html>"),
            // Answer of a proxy.
            (400, "<html>"),
            (401, "{}"),
            (403, ""),
            (403, "Blocked by policy"),
            (407, "<html>"),
        ] {
            let none = judge(&application(), status, body);
            assert_eq!(none.kind, Kind::TokenUnavailable, "{status} {body}");
            assert!(
                none.advice.starts_with("The operator tries again"),
                "{}",
                none.advice
            );
        }
        let silent = Some(Exchange::Silence("timed out".to_owned()));
        let none = from_answer(&managed(None), &config, silent, "");
        assert_eq!(none.kind, Kind::TokenUnavailable);
        assert!(
            none.advice
                .contains("an Azure machine with a managed identity")
        );
        let none = from_answer(&application(), &config, None, "no answer within 30 s");
        assert_eq!(none.kind, Kind::TokenUnavailable);
    }

    #[test]
    fn a_machine_without_the_identity_says_so() {
        let body = r#"{"error":"invalid_request","error_description":"Identity not found"}"#;
        let refused = judge(&managed(Some(CLIENT)), 400, body);
        assert_eq!(refused.kind, Kind::TokenRefused);
        assert_eq!(refused.message.as_deref(), Some("Identity not found"));
        assert!(
            refused.advice.contains("Assign the managed identity 1111"),
            "{}",
            refused.advice
        );
        let body = r#"{"statusCode":400,"message":"Identity not found"}"#;
        let refused = judge(&managed(None), 400, body);
        assert_eq!(refused.message.as_deref(), Some("Identity not found"));
        assert!(
            refused.advice.contains("system-assigned"),
            "{}",
            refused.advice
        );
    }

    #[test]
    fn a_text_that_looks_like_a_token_stays_out() {
        let token = format!("eyJ{}", "a".repeat(200));
        let body = format!(r#"{{"error":"{token}","error_description":"bad {token}"}}"#);
        let refused = judge(&application(), 400, &body);
        assert!(!format!("{refused:?}").contains("eyJ"), "{refused:?}");
    }
}
