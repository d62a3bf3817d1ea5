//! Switches for what nobody outside the service knows. The defaults are the likeliest answers.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::{entra::Application, span, versions};

/// All switches. Unknown names are refused; absent ones have their default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "that is what they are")]
pub(super) struct Settings {
    /// How long revoked tokens go on working (the service says up to 15 minutes).
    #[serde(with = "span::unsigned")]
    pub revocation_delay: SignedDuration,
    /// Whether a revocation covers tokens that are issued after it in the same second.
    pub revoke_hits_same_second: bool,
    /// How long a new identity is not yet there for other calls.
    #[serde(with = "span::unsigned")]
    pub visibility_delay: SignedDuration,
    /// What an identity of this resource that is unknown or deleted is answered with.
    pub unknown_identity: UnknownIdentity,
    /// What the second deletion of an identity is answered with.
    pub second_delete: SecondDelete,
    /// How far `x-ms-date` may be from the service's clock.
    #[serde(with = "span::unsigned")]
    pub clock_skew: SignedDuration,
    /// What a refused credential is answered with.
    pub refused_credential: RefusedCredential,
    /// Which bearer tokens of Entra ID are taken.
    pub entra_tokens: EntraTokens,
    /// The applications that the stand-in of Entra ID knows; null means any.
    pub entra_applications: Option<Vec<Application>>,
    /// The number of the `AADSTS` code by which Entra ID refuses everybody.
    pub entra_refusal: Option<u32>,
    /// How long the tokens live that Entra ID gives.
    #[serde(with = "span::unsigned")]
    pub entra_token_life: SignedDuration,
    /// The client ids of the managed identities of the machine, `system` for its own; null means any.
    pub managed_identities: Option<Vec<String>>,
    /// For what the endpoint of Cloud Shell gives tokens.
    pub local_token_audiences: Vec<String>,
    /// Whether a regenerated key ends tokens that were issued by Entra authentication.
    pub regenerate_kills_entra_tokens: bool,
    /// What a request without `api-version` is answered with.
    pub missing_api_version: MissingApiVersion,
    /// The versions that are there; others are answered `UnsupportedApiVersion`.
    pub api_versions: Vec<String>,
    /// What becomes of fields that came with a later version than the request's.
    pub newer_fields: NewerFields,
    /// What becomes of scopes that the version doesn't know.
    pub unknown_scopes: UnknownScopes,
    /// What becomes of a scope that is there twice.
    pub duplicate_scopes: DuplicateScopes,
    /// Whether `Chat` is `chat`.
    pub scopes_ignore_case: bool,
    /// What `createTokenWithScopes: []` means.
    pub empty_create_scopes: EmptyScopes,
    /// What an `expiresInMinutes` of `60.5` or `"60"` means.
    pub non_integer_minutes: NonIntegerMinutes,
    /// How the fraction of `expiresOn` is written.
    pub expires_on: ExpiresOn,
    /// Whether custom ids that differ in letter case only are the same.
    pub custom_id_ignores_case: bool,
    /// Whether an empty custom id, or one over 256 characters, is refused.
    pub custom_id_is_checked: bool,
    /// What a create with the custom id of a deleted identity makes.
    pub deleted_custom_id: DeletedCustomId,
    /// Whether a create that finds an identity by its custom id issues the token that it asks for.
    pub repeated_create_issues: bool,
    /// Whether `Repeatability-Request-ID` makes a create repeatable.
    pub repeatability_headers: RepeatabilityHeaders,
    /// Whether the published limits are enforced.
    pub limits: Limits,
    /// What a 429 for the limits says about when to come again.
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
        pub(super) enum $name { $($(#[$value_doc])* $value),+ }
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
    /// As `unknownIdentity` says.
    Unknown,
});
switch!(RefusedCredential {
    /// 401 `Denied`.
    Denied,
    /// 401 with `{}`.
    EmptyObject,
    /// 401 with nothing.
    Empty,
    /// 403 `Forbidden`.
    Forbidden,
});
switch!(EntraTokens {
    /// Those whose claims say that they are for the service and not expired; signatures are not
    /// looked at.
    Claims,
    /// The same, if the stand-in of Entra ID has signed them.
    Issued,
    /// All.
    Any,
    /// None.
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
    /// Left out of the token.
    Ignored,
    /// Put into the token.
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
    /// The fraction is cut off; text is read as a number.
    Truncated,
});
switch!(ExpiresOn {
    SevenDigits,
    /// Without the zeros at its end.
    Trimmed,
    WholeSeconds,
});
switch!(DeletedCustomId {
    NewIdentity,
    SameIdentity
});
switch!(RepeatabilityHeaders {
    Ignored,
    /// As in other ACS services: the same answer within five minutes.
    Honoured,
});
switch!(Limits {
    Off,
    /// Per 30 s: 1000 creates, 500 deletes, 1000 issues, 500 revokes, 500 exchanges.
    Published,
});
switch!(RetryAfter {
    None,
    Seconds,
    Date
});
