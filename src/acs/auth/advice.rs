//! What to do when Microsoft Entra ID or a token endpoint refuses a token.

use super::entra::{EntraConfig, EntraIdentity};
use super::token_source::AssertionClaims;

/// Returns what to do, as a sentence without its full stop. The numbers are from Entra's list of
/// `AADSTS` error codes.
pub(super) fn advice(
    identity: &EntraIdentity,
    config: &EntraConfig,
    number: Option<u32>,
    code: Option<&str>,
    assertion: Option<&AssertionClaims>,
) -> String {
    let Some((tenant_id, client_id)) = identity.application() else {
        return managed(identity, config, code);
    };
    match number {
        Some(90002 | 90021 | 900_021 | 900_023 | 900_024) => format!(
            "Correct tenantId: {} does not know the tenant {tenant_id}",
            config.authority
        ),
        Some(700_016) => format!(
            "Correct clientId or tenantId: tenant {tenant_id} has no application {client_id}; an \
             application of another tenant first needs the consent of an administrator of this one"
        ),
        Some(65001) => format!(
            "Ask an administrator of tenant {tenant_id} to consent to application {client_id}"
        ),
        Some(500_011 | 650_057) => format!(
            "Tenant {tenant_id} does not know {}: check that tenantId is the tenant of the ACS \
             resource's subscription, and check --acs-audience",
            config.audience
        ),
        Some(7_000_112 | 7_000_113 | 700_005) => {
            format!(
                "Enable application {client_id} in tenant {tenant_id}, or use another \
             application"
            )
        }
        Some(7_000_215) => format!(
            "Store the value of a client secret of application {client_id} in the Secret (its \
             value, not its id)"
        ),
        Some(7_000_222) => format!(
            "The client secret has expired: create a new one for application {client_id} and \
             store its value in the Secret"
        ),
        Some(70021 | 700_211 | 700_212 | 700_213) => {
            let claims = assertion.map_or_else(
                || "the issuer, subject and audience of the ServiceAccount's token".to_owned(),
                ToString::to_string,
            );
            format!(
                "Create a federated credential for {client_id} with {claims}, or correct clientId"
            )
        }
        Some(700_024 | 50013 | 700_027 | 5_002_720) => format!(
            "Check the federated credential of {client_id}: its issuer must be the issuer of this \
             cluster, Entra ID must be able to reach that issuer, and the clock of the cluster \
             must be correct"
        ),
        Some(53003 | 530_034 | 53000..=53002) => format!(
            "A conditional access policy of tenant {tenant_id} blocks application {client_id}; \
             ask an administrator to exclude the application from it"
        ),
        _ => format!("Check application {client_id} and its credentials in tenant {tenant_id}"),
    }
}

fn managed(identity: &EntraIdentity, config: &EntraConfig, code: Option<&str>) -> String {
    let client_id = match identity {
        EntraIdentity::Managed { client_id } => client_id.as_deref(),
        _ => None,
    };
    match (&config.local_token_endpoint, client_id, code) {
        (Some(endpoint), _, Some("AudienceNotSupported")) => format!(
            "The token endpoint {endpoint} issues no tokens for {}; use workloadIdentity or \
             clientSecret instead",
            config.audience
        ),
        (Some(endpoint), ..) => format!(
            "Check the token endpoint {endpoint} and the account that \
         is signed in there"
        ),
        (None, Some(client_id), _) => format!(
            "Assign the managed identity {client_id} to the machines that the operator runs on, or correct clientId"
        ),
        (None, None, _) => "Assign a system-assigned managed identity to the machines that the \
         operator runs on, or set clientId to a user-assigned one"
            .to_owned(),
    }
}
