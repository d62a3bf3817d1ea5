//! API versions, and the features of each.

use super::super::http::Operation;

/// Versions that ACS listed when last observed, and the two newest published specifications.
pub(in super::super) const KNOWN: [&str; 10] = [
    LEGACY,
    "2021-03-07",
    "2021-10-31-preview",
    "2021-11-01",
    "2022-06-01",
    "2022-10-01",
    "2023-10-01",
    IDENTITY_PREVIEW,
    "2025-06-30",
    "2026-09-23",
];
/// Version with request formats of its own, and with no other operations.
const LEGACY: &str = "2020-07-20-preview2";
/// Only version with custom ids, a `GET` of an identity, and access for Entra users.
const IDENTITY_PREVIEW: &str = "2025-03-02-preview";

/// Whether a version has an operation. Versions begin with a date and compare as text.
pub(in super::super) fn has(version: &str, operation: Operation) -> bool {
    match operation {
        Operation::LegacyIssueToken | Operation::LegacyUpdateIdentity => version == LEGACY,
        Operation::CreateIdentity | Operation::DeleteIdentity => true,
        Operation::IssueToken | Operation::RevokeTokens => version != LEGACY,
        Operation::GetIdentity
        | Operation::ListEntraAssignments
        | Operation::UpdateEntraAssignments
        | Operation::PutEntraAssignment
        | Operation::GetEntraAssignment
        | Operation::DeleteEntraAssignment
        | Operation::ExchangeEntraToken => version == IDENTITY_PREVIEW,
        Operation::ExchangeTeamsToken => version == "2021-10-31-preview" || version >= "2022-06-01",
        Operation::PutTeamsExtensionAssignment
        | Operation::GetTeamsExtensionAssignment
        | Operation::DeleteTeamsExtensionAssignment
        | Operation::ExchangeTeamsExtensionToken => version >= IDENTITY_PREVIEW,
        // Not an operation of ACS.
        Operation::EntraToken
        | Operation::EntraConfiguration
        | Operation::AppServiceToken
        | Operation::MachineToken
        | Operation::LocalToken => false,
    }
}

/// Whether a create answers 200 with a flat id.
pub(super) fn is_legacy(version: &str) -> bool {
    version == LEGACY
}

/// Whether the lifetime of a token can be requested.
pub(super) fn has_minutes(version: &str) -> bool {
    version >= "2022-10-01"
}

/// Whether identities can have custom ids.
pub(super) fn has_custom_ids(version: &str) -> bool {
    version == IDENTITY_PREVIEW
}

/// Whether a Teams exchange names application and user.
pub(in super::super) fn has_teams_user(version: &str) -> bool {
    version >= "2022-06-01"
}

/// Whether tokens can have this scope.
pub(in super::super) fn has_scope(version: &str, scope: &str) -> bool {
    match scope {
        "chat" | "voip" => true,
        "chat.join" | "chat.join.limited" | "voip.join" => version >= "2023-10-01",
        "pstn" => version == LEGACY,
        _ => false,
    }
}
