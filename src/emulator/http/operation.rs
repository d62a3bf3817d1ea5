//! Operations of the API, with their methods and paths.

use hyper::Method;

use super::super::service::versions;

/// Operation of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) enum Operation {
    CreateIdentity,
    GetIdentity,
    IssueToken,
    RevokeTokens,
    DeleteIdentity,
    ExchangeTeamsToken,
    PutTeamsExtensionAssignment,
    GetTeamsExtensionAssignment,
    DeleteTeamsExtensionAssignment,
    ExchangeTeamsExtensionToken,
    ListEntraAssignments,
    UpdateEntraAssignments,
    PutEntraAssignment,
    GetEntraAssignment,
    DeleteEntraAssignment,
    ExchangeEntraToken,
    /// `POST /identities/{id}/token`, of the first preview.
    LegacyIssueToken,
    /// `PATCH /identities/{id}`, of the first preview: revokes tokens.
    LegacyUpdateIdentity,
    /// Token request to Entra ID.
    EntraToken,
    /// Discovery of the endpoints of Entra ID.
    EntraConfiguration,
    /// Token request to App Service, for an app's managed identity.
    AppServiceToken,
    /// Token request to a virtual machine, for its managed identity.
    MachineToken,
    /// Token request to Cloud Shell.
    LocalToken,
}

use Operation as O;

/// All operations: name in journal and faults, method, path.
#[rustfmt::skip] // A table.
const ALL: [(Operation, &str, Method, &str); 23] = [
    (O::CreateIdentity, "createIdentity", Method::POST, "identities"),
    (O::GetIdentity, "getIdentity", Method::GET, "identities/{}"),
    (O::IssueToken, "issueToken", Method::POST, "identities/{}/:issueAccessToken"),
    (O::RevokeTokens, "revokeTokens", Method::POST, "identities/{}/:revokeAccessTokens"),
    (O::DeleteIdentity, "deleteIdentity", Method::DELETE, "identities/{}"),
    (O::ExchangeTeamsToken, "exchangeTeamsToken", Method::POST, "teamsUser/:exchangeAccessToken"),
    (O::PutTeamsExtensionAssignment, "putTeamsExtensionAssignment", Method::PUT, "access/teamsExtension/tenants/{}/assignments/{}"),
    (O::GetTeamsExtensionAssignment, "getTeamsExtensionAssignment", Method::GET, "access/teamsExtension/tenants/{}/assignments/{}"),
    (O::DeleteTeamsExtensionAssignment, "deleteTeamsExtensionAssignment", Method::DELETE, "access/teamsExtension/tenants/{}/assignments/{}"),
    (O::ExchangeTeamsExtensionToken, "exchangeTeamsExtensionToken", Method::POST, "access/teamsExtension/:exchangeAccessToken"),
    (O::ListEntraAssignments, "listEntraAssignments", Method::GET, "access/entra/assignments"),
    (O::UpdateEntraAssignments, "updateEntraAssignments", Method::PATCH, "access/entra/assignments"),
    (O::PutEntraAssignment, "putEntraAssignment", Method::PUT, "access/entra/assignments/{}"),
    (O::GetEntraAssignment, "getEntraAssignment", Method::GET, "access/entra/assignments/{}"),
    (O::DeleteEntraAssignment, "deleteEntraAssignment", Method::DELETE, "access/entra/assignments/{}"),
    (O::ExchangeEntraToken, "exchangeEntraToken", Method::POST, "access/entra/:exchangeAccessToken"),
    (O::LegacyIssueToken, "legacyIssueToken", Method::POST, "identities/{}/token"),
    (O::LegacyUpdateIdentity, "legacyUpdateIdentity", Method::PATCH, "identities/{}"),
    (O::EntraToken, "entraToken", Method::POST, "{}/oauth2/v2.0/token"),
    (O::EntraConfiguration, "entraConfiguration", Method::GET, "{}/v2.0/.well-known/openid-configuration"),
    (O::AppServiceToken, "appServiceToken", Method::GET, "msi/token"),
    (O::MachineToken, "machineToken", Method::GET, "metadata/identity/oauth2/token"),
    (O::LocalToken, "localToken", Method::POST, "oauth2/token"),
];

/// Returns the names of all operations.
pub(in super::super) fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(_, name, ..)| *name)
}

/// Finds the operation of a method and the decoded segments of a path, and the variable segments.
/// The error is the value of the header `Allow`; empty if there is no such path.
pub(in super::super) fn route<'a>(
    method: &Method,
    segments: &'a [String],
) -> Result<(Operation, Vec<&'a str>), String> {
    let mut allowed = Vec::new();
    for (operation, _, its_method, path) in &ALL {
        let Some(ids) = matched(path, segments) else {
            continue;
        };
        if method == its_method {
            return Ok((*operation, ids));
        }
        allowed.push(its_method.as_str());
    }
    Err(allowed.join(", "))
}

fn matched<'a>(path: &str, segments: &'a [String]) -> Option<Vec<&'a str>> {
    let mut ids = Vec::new();
    let mut rest = segments.iter();
    for expected in path.split('/') {
        let segment = rest.next()?.as_str();
        match expected {
            "{}" if !segment.is_empty() => ids.push(segment),
            _ if segment == expected => {}
            _ => return None,
        }
    }
    rest.next().is_none().then_some(ids)
}

impl Operation {
    /// Returns the name in journal and faults.
    pub fn name(self) -> &'static str {
        ALL.iter()
            .find(|(operation, ..)| *operation == self)
            .map_or("unknown", |(_, name, ..)| name)
    }

    /// Whether the caller is a user with a token of Entra ID, not the owner of the resource.
    pub fn is_called_by_users(self) -> bool {
        matches!(
            self,
            Self::ExchangeEntraToken | Self::ExchangeTeamsExtensionToken
        )
    }

    /// Returns the number of calls that ACS accepts in 30 s.
    pub fn published_limit(self) -> Option<usize> {
        match self {
            Self::CreateIdentity | Self::IssueToken => Some(1000),
            Self::DeleteIdentity | Self::RevokeTokens | Self::ExchangeTeamsToken => Some(500),
            _ => None,
        }
    }

    /// Whether a version is listed in answers to this operation: the list depends on the path.
    pub fn is_near(self, version: &str) -> bool {
        match self {
            Self::GetIdentity
            | Self::IssueToken
            | Self::RevokeTokens
            | Self::LegacyIssueToken
            | Self::LegacyUpdateIdentity => versions::has(version, Self::CreateIdentity),
            _ => versions::has(version, self),
        }
    }
}
