use std::fmt;

use super::LastFailure;

/// Declares the enum; each variant is written as its name.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// Reason in conditions, failures, Events and metrics, in CamelCase.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "most names say it; docs/behaviour.md has them all")]
        pub enum Reason {
            $($(#[doc = $doc])* $name,)*
        }

        impl Reason {
            /// All reasons.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The reason as text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

reasons! {
    /// An object was released although something of it remains in ACS.
    Abandoned,
    /// An admission policy or webhook refuses a write.
    AdmissionDenied,
    /// A namespaced connection asks for a credential of the operator itself.
    AmbientCredentialNotAllowed,
    AnotherReleaseLeads,
    /// The API server can't be reached, or failed.
    ApiServerError,
    /// A call to ACS failed. Also stands for a failure that a newer version recorded.
    CallFailed,
    /// The old token stays until a change of the spec can be made.
    ChangeWaits,
    /// A token is issued because the spec changed.
    Changed,
    ClusterDefaultUsed,
    /// The object changed in the meantime.
    Conflict,
    ConnectionNotFound,
    /// The operator has not read the connection yet.
    ConnectionNotReady,
    ConnectionReady,
    /// A token is issued because the connection uses another credential.
    CredentialChanged,
    /// ACS has not accepted the current credential yet: do not regenerate a key.
    CredentialNotAccepted,
    /// One call tries a new credential; the others wait for its result.
    CredentialOnTrial,
    CredentialRefused,
    /// An `AcsConnection` named `default` appeared after the identity had chosen a connection.
    DefaultConnectionAppeared,
    Deleting,
    DryRun,
    /// The connection has another endpoint than the one that the object belongs to.
    EndpointChanged,
    /// `endpoint` and the connection string name different resources.
    EndpointMismatch,
    EndpointNotAllowed,
    /// A token is issued because there was none.
    First,
    /// The operator lacks a permission.
    Forbidden,
    /// Secrets still hold tokens of a former credential.
    FormerTokensLeft,
    IdentityDeleted,
    /// Another `AcsIdentity` uses the same id, and the policy forbids sharing.
    IdentityInUse,
    /// The `AcsIdentity` does not exist, or ACS has no such identity.
    IdentityNotFound,
    /// The identity belongs to another ACS resource.
    IdentityNotOwned,
    IdentityNotReady,
    IdentityReady,
    InvalidAccessKey,
    /// ACS issued a token that had already expired.
    InvalidAnswer,
    InvalidApiVersion,
    InvalidClientSecret,
    InvalidConnectionString,
    /// The credential is not valid text.
    InvalidCredential,
    InvalidEndpoint,
    InvalidManagedIdentity,
    /// The API server rejected a write as invalid.
    InvalidObject,
    /// ACS rejects the request, or the request cannot be built from the input.
    InvalidRequest,
    /// The Secret has a type that is not meant for credentials.
    InvalidSecret,
    InvalidSelector,
    InvalidUserToken,
    /// Event: a token could not be issued.
    IssueFailed,
    /// ACS dated a new token before the last revocation, so the token may be revoked.
    IssuedBeforeRevocation,
    NamespaceNotWatched,
    NamespaceTerminating,
    /// The request was sent and its answer was lost.
    NoAnswer,
    /// The operator has no `ServiceAccount` token for Microsoft Entra ID.
    NoFederatedToken,
    /// No token of a former credential is still valid.
    NoFormerTokens,
    /// A step was repeated without effect.
    NoProgress,
    /// A Teams user's token stays valid although its object is deleted.
    NotRevoked,
    /// The answer did not come from ACS.
    NotTheService,
    NothingSelected,
    /// All tokens are revoked because of an `AcsRevocation`.
    Ordered,
    /// A bug in the operator.
    Panic,
    PolicyDenied,
    QuotaExceeded,
    /// `renewBefore` is too long for the token's lifetime.
    RenewBeforeCapped,
    Renewal,
    /// An annotation requests it.
    Requested,
    RevocationCompleted,
    RevocationStarted,
    Revoked,
    Revoking,
    /// The operator is not allowed to restart workloads.
    RolloutRestartDisabled,
    /// `secretRef` and `secondarySecretRef` hold the same key.
    SameKey,
    SecondaryKeyInUse,
    SecondaryKeyUnusable,
    /// The Secret belongs to somebody else or to another `AcsToken`.
    SecretConflict,
    /// Another writer keeps changing labels or annotations of the Secret.
    SecretContested,
    SecretEdited,
    SecretImmutable,
    SecretKeyNotFound,
    SecretMetadataForbidden,
    SecretMissing,
    SecretNotFound,
    SecretRepaired,
    /// No Secret holds a token of a former credential, but pods may still use such tokens.
    SecretsJustRewritten,
    /// Pods have had enough time to read their Secrets again.
    SecretsRenewed,
    ServiceAccountTokenUnavailable,
    /// The clock of ACS stepped back to before the issue of a revoked token.
    ServiceClockBehind,
    ServiceUnavailable,
    ServiceUnreachable,
    Suspended,
    Throttled,
    TokenChanged,
    TokenDeleted,
    TokenIssued,
    /// Microsoft Entra ID refuses to issue a token for calls to ACS.
    TokenRefused,
    /// Microsoft Entra ID cannot be reached or does not answer.
    TokenUnavailable,
    TokensRevoked,
    /// The operator first saw the revocation after its `notAfter`.
    TooLate,
    /// The limits of ACS do not allow all tokens of the connection to be renewed in time.
    TooManyRenewals,
    TooManyTargets,
    /// A create call got no answer.
    UnknownCreate,
    /// An annotation requests something unknown.
    UnknownRequest,
    /// A revocation without an answer may have revoked the token.
    Unsettled,
    UnsupportedByApiVersion,
    UserTokenChanged,
    UserTokenExpired,
    UserTokenNotRefreshed,
    /// The object waits for its turn to call ACS, or for an answer.
    WaitingForService,
    /// Nothing was sent, because this process is no longer the leader.
    Withheld,
    WorkloadNotRestarted,
    WorkloadRestarted,
    WriteRefused,
}

impl Reason {
    /// Parses the reason in a status; `None` if this version does not know it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|reason| reason.as_str() == text)
    }

    /// Whether the API server rejected a write for a cause that a repetition does not change.
    #[must_use]
    pub const fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::QuotaExceeded
                | Self::NamespaceTerminating
                | Self::AdmissionDenied
                | Self::Forbidden
                | Self::InvalidObject
        )
    }

    /// Whether only a person can make the failed call to ACS succeed. The operator still repeats
    /// it, slowly.
    #[must_use]
    pub const fn is_stalling(self) -> bool {
        matches!(
            self,
            Self::InvalidUserToken
                | Self::UnsupportedByApiVersion
                | Self::InvalidRequest
                | Self::IdentityNotOwned
                | Self::IdentityNotFound
        )
    }
}

impl LastFailure {
    /// Reason of the failure; [`Reason::CallFailed`] for a reason of a newer version.
    #[must_use]
    pub fn reason(&self) -> Reason {
        Reason::parse(&self.reason).unwrap_or(Reason::CallFailed)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::{READY, RECONCILING, SAFE_TO_REGENERATE, SERVICE_LIMIT_EXCEEDED, STALLED};

    #[test]
    fn the_documentation_names_every_reason_and_type_of_condition() {
        let page = include_str!("../../docs/behaviour.md");
        let told: Vec<_> = page.split('`').skip(1).step_by(2).collect();
        let types = [
            READY,
            RECONCILING,
            STALLED,
            SAFE_TO_REGENERATE,
            SERVICE_LIMIT_EXCEEDED,
        ];
        let words = Reason::ALL
            .iter()
            .map(|reason| reason.as_str())
            .chain(types);
        let unrecorded: Vec<_> = words.filter(|word| !told.contains(word)).collect();
        assert!(
            unrecorded.is_empty(),
            "docs/behaviour.md lacks {unrecorded:?}"
        );
    }

    #[test]
    fn what_is_written_is_read_and_other_words_are_none() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(&reason.to_string()), Some(*reason));
        }
        assert_eq!(Reason::parse("OfALaterVersion"), None);
        assert_eq!(Reason::parse(""), None);
    }
}
