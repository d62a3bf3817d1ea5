//! Switches for behavior of ACS that is unknown. The defaults are the likeliest answers.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::super::{entra::Application, service::versions, span};

/// All switches. Unknown names are rejected; absent ones have their default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "that is what they are")]
pub(in super::super) struct Settings {
    /// Time for which revoked tokens still work (ACS documents up to 15 minutes).
    #[serde(with = "span::unsigned")]
    pub revocation_delay: SignedDuration,
    /// Whether a revocation includes tokens that are issued after it in the same second.
    pub revoke_hits_same_second: bool,
    /// Time for which a new identity is not visible to other calls.
    #[serde(with = "span::unsigned")]
    pub visibility_delay: SignedDuration,
    /// Answer for an identity of this resource that is unknown or deleted.
    pub unknown_identity: UnknownIdentity,
    /// Answer for the second deletion of an identity.
    pub second_delete: SecondDelete,
    /// Maximum difference between `x-ms-date` and the clock of the emulated service.
    #[serde(with = "span::unsigned")]
    pub clock_skew: SignedDuration,
    /// Answer for a rejected credential.
    pub refused_credential: RefusedCredential,
    /// Bearer tokens of Entra ID that are accepted.
    pub entra_tokens: EntraTokens,
    /// Applications registered in the emulated Entra ID; null means any.
    pub entra_applications: Option<Vec<Application>>,
    /// Number of the `AADSTS` code with which Entra ID rejects every request.
    pub entra_refusal: Option<u32>,
    /// Lifetime of tokens that Entra ID issues.
    #[serde(with = "span::unsigned")]
    pub entra_token_life: SignedDuration,
    /// Client ids of the machine's managed identities, `system` for the system-assigned one; null
    /// means any.
    pub managed_identities: Option<Vec<String>>,
    /// Audiences for which the endpoint of Cloud Shell issues tokens.
    pub local_token_audiences: Vec<String>,
    /// Whether regenerating a key invalidates tokens that were issued with Entra authentication.
    pub regenerate_kills_entra_tokens: bool,
    /// Answer for a request without `api-version`.
    pub missing_api_version: MissingApiVersion,
    /// Supported versions; others are answered `UnsupportedApiVersion`.
    pub api_versions: Vec<String>,
    /// Treatment of fields of a later version than the request's.
    pub newer_fields: NewerFields,
    /// Treatment of scopes that the version does not have.
    pub unknown_scopes: UnknownScopes,
    /// Treatment of a scope that occurs twice.
    pub duplicate_scopes: DuplicateScopes,
    /// Whether `Chat` is accepted as `chat`.
    pub scopes_ignore_case: bool,
    /// Meaning of `createTokenWithScopes: []`.
    pub empty_create_scopes: EmptyScopes,
    /// Treatment of an `expiresInMinutes` of `60.5` or `"60"`.
    pub non_integer_minutes: NonIntegerMinutes,
    /// Format of the fraction in `expiresOn`.
    pub expires_on: ExpiresOn,
    /// Whether custom ids that differ only in letter case are the same.
    pub custom_id_ignores_case: bool,
    /// Whether an empty custom id, or one over 256 characters, is rejected.
    pub custom_id_is_checked: bool,
    /// Effect of a create with the custom id of a deleted identity.
    pub deleted_custom_id: DeletedCustomId,
    /// Whether a create that finds an identity by its custom id issues the requested token.
    pub repeated_create_issues: bool,
    /// Whether `Repeatability-Request-ID` makes a create repeatable.
    pub repeatability_headers: RepeatabilityHeaders,
    /// Whether the published limits are enforced.
    pub limits: Limits,
    /// `Retry-After` of a 429 for the limits.
    pub limit_retry_after: RetryAfter,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            revocation_delay: SignedDuration::ZERO,
            revoke_hits_same_second: false,
            visibility_delay: SignedDuration::ZERO,
            unknown_identity: UnknownIdentity::NotFound,
            second_delete: SecondDelete::NoContent,
            clock_skew: SignedDuration::from_mins(15),
            refused_credential: RefusedCredential::Denied,
            entra_tokens: EntraTokens::Claims,
            entra_applications: None,
            entra_refusal: None,
            entra_token_life: SignedDuration::from_hours(1),
            managed_identities: None,
            local_token_audiences: [
                "https://management.azure.com/",
                "https://graph.microsoft.com/",
                "https://vault.azure.net",
                "https://storage.azure.com/",
            ]
            .map(str::to_owned)
            .to_vec(),
            regenerate_kills_entra_tokens: false,
            missing_api_version: MissingApiVersion::Unspecified,
            api_versions: versions::KNOWN.map(str::to_owned).to_vec(),
            newer_fields: NewerFields::Ignored,
            unknown_scopes: UnknownScopes::Refused,
            duplicate_scopes: DuplicateScopes::Merged,
            scopes_ignore_case: false,
            empty_create_scopes: EmptyScopes::NoToken,
            non_integer_minutes: NonIntegerMinutes::Refused,
            expires_on: ExpiresOn::SevenDigits,
            custom_id_ignores_case: false,
            custom_id_is_checked: true,
            deleted_custom_id: DeletedCustomId::NewIdentity,
            repeated_create_issues: true,
            repeatability_headers: RepeatabilityHeaders::Ignored,
            limits: Limits::Off,
            limit_retry_after: RetryAfter::None,
        }
    }
}

macro_rules! switch {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub(in super::super) enum $name { $($(#[$value_doc])* $value),+ }
    };
}

switch!(UnknownIdentity {
    /// 404 `IdentityNotFound`.
    NotFound,
    /// 401 `IdentityNotOwned`.
    NotOwned,
    /// 400 `IdentityNotFound`.
    BadRequest,
    /// 401 `Denied`.
    Denied,
});
switch!(SecondDelete {
    /// 204.
    NoContent,
    /// As `unknownIdentity`.
    Unknown,
});
switch!(RefusedCredential {
    /// 401 `Denied`.
    Denied,
    /// 401 with `{}`.
    EmptyObject,
    /// 401 with an empty body.
    Empty,
    /// 403 `Forbidden`.
    Forbidden,
});
switch!(EntraTokens {
    /// Tokens whose claims say that they are for ACS and not expired; signatures are not verified.
    Claims,
    /// The same, if the emulated Entra ID has signed them.
    Issued,
    /// All tokens.
    Any,
    /// No tokens.
    None,
});
switch!(MissingApiVersion {
    /// 400 `ApiVersionUnspecified`.
    Unspecified,
    /// 400 `UnsupportedApiVersion`.
    Unsupported,
});
switch!(NewerFields {
    Ignored,
    /// 400 `ValidationError`.
    Refused
});
switch!(UnknownScopes {
    /// 400 `ValidationError`.
    Refused,
    /// Omitted from the token.
    Ignored,
    /// Added to the token.
    Accepted,
});
switch!(DuplicateScopes {
    Merged,
    Kept,
    /// 400 `ValidationError`.
    Refused
});
switch!(EmptyScopes {
    NoToken,
    /// 400 `ValidationError`.
    Refused
});
switch!(NonIntegerMinutes {
    /// 400 `ValidationError`.
    Refused,
    /// The fraction is cut off; text is parsed as a number.
    Truncated,
});
switch!(ExpiresOn {
    SevenDigits,
    /// Without trailing zeros.
    Trimmed,
    WholeSeconds,
});
switch!(DeletedCustomId {
    NewIdentity,
    SameIdentity
});
switch!(RepeatabilityHeaders {
    Ignored,
    /// As in other ACS APIs: the same answer within five minutes.
    Honoured,
});
switch!(Limits {
    Off,
    /// Per 30 s: 1000 creates, 500 deletes, 1000 issues, 500 revocations, 500 exchanges.
    Published,
});
switch!(RetryAfter {
    None,
    Seconds,
    Date
});
