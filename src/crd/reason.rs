use std::fmt;

use super::LastFailure;

/// Declares the enum, each variant of which is written as its name.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// Why something is so, in one word: in conditions, failures, Events and metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "most names say it; docs/behaviour.md has them all")]
        pub enum Reason {
            $($(#[doc = $doc])* $name,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word.
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
    /// An object was let go although something of it is left in ACS.
    Abandoned,
    /// An admission policy or webhook refuses a write.
    AdmissionDenied,
    /// A namespaced connection asks for a credential of the operator itself.
    AmbientCredentialNotAllowed,
    AnotherReleaseLeads,
    /// The API server can't be reached, or failed.
    ApiServerError,
    /// A call to ACS failed. Also what stands for a failure that a newer version recorded.
    CallFailed,
    /// The old token is kept until a change of the spec can be made.
    ChangeWaits,
    /// A token is issued since its spec has changed.
    Changed,
    ClusterDefaultUsed,
    /// The object changed meanwhile.
    Conflict,
    ConnectionNotFound,
    /// The operator has not read the connection yet.
    ConnectionNotReady,
    ConnectionReady,
    /// A token is issued since the connection uses another credential.
    CredentialChanged,
    /// ACS has not accepted the credential in use yet: no key may be regenerated.
    CredentialNotAccepted,
    /// One call tries a new credential, and the others wait for its answer.
    CredentialOnTrial,
    CredentialRefused,
    /// An `AcsConnection` called `default` came too late for an identity.
    DefaultConnectionAppeared,
    Deleting,
    DryRun,
    /// The connection leads to another endpoint than the one that the object belongs to.
    EndpointChanged,
    /// `endpoint` and the connection string name different resources.
    EndpointMismatch,
    EndpointNotAllowed,
    /// A token is issued since there was none.
    First,
    /// The operator has no right to do it.
    Forbidden,
    /// Secrets still hold tokens of a former credential.
    FormerTokensLeft,
    IdentityDeleted,
    /// Another `AcsIdentity` uses the same id, and they may not share it.
    IdentityInUse,
    /// There is no such `AcsIdentity`, or ACS says that its identity does not exist.
    IdentityNotFound,
    /// The identity belongs to another ACS resource.
    IdentityNotOwned,
    IdentityNotReady,
    IdentityReady,
    InvalidAccessKey,
    /// ACS issued a token that had ended already.
    InvalidAnswer,
    InvalidApiVersion,
    InvalidClientSecret,
    InvalidConnectionString,
    /// The credential is not text.
    InvalidCredential,
    InvalidEndpoint,
    InvalidManagedIdentity,
    /// The API server says that what is written is not valid.
    InvalidObject,
    /// ACS refuses the request, or it can't be made of what was given.
    InvalidRequest,
    /// The Secret is for something else than a credential.
    InvalidSecret,
    InvalidSelector,
    InvalidUserToken,
    /// Tells that no token could be issued.
    IssueFailed,
    /// ACS dated a new token before the last revocation, so it may be revoked.
    IssuedBeforeRevocation,
    NamespaceNotWatched,
    NamespaceTerminating,
    /// The request was sent, and its answer was lost.
    NoAnswer,
    /// The operator has no `ServiceAccount` token for Microsoft Entra ID.
    NoFederatedToken,
    /// No token of a former credential is alive.
    NoFormerTokens,
    /// A step is repeated and has no effect.
    NoProgress,
    /// A Teams user's token lives on although its object goes.
    NotRevoked,
    /// Something other than ACS answered.
    NotTheService,
    NothingSelected,
    /// All tokens are revoked since an `AcsRevocation` says so.
    Ordered,
    /// A bug.
    Panic,
    PolicyDenied,
    QuotaExceeded,
    /// `renewBefore` is longer than the token's life allows.
    RenewBeforeCapped,
    Renewal,
    /// An annotation asks for it.
    Requested,
    RevocationCompleted,
    RevocationStarted,
    Revoked,
    Revoking,
    /// Workloads are to be restarted, and the operator is not allowed to.
    RolloutRestartDisabled,
    /// `secretRef` and `secondarySecretRef` hold the same key.
    SameKey,
    SecondaryKeyInUse,
    SecondaryKeyUnusable,
    /// The Secret is not ours, or another `AcsToken`'s.
    SecretConflict,
    /// Somebody keeps changing labels or annotations of the Secret.
    SecretContested,
    SecretEdited,
    SecretImmutable,
    SecretKeyNotFound,
    SecretMetadataForbidden,
    SecretMissing,
    SecretNotFound,
    SecretRepaired,
    /// No Secret holds a token of a former credential, but pods may not have read them again.
    SecretsJustRewritten,
    /// Pods have had time to read their Secrets again.
    SecretsRenewed,
    ServiceAccountTokenUnavailable,
    /// ACS's clock has stepped back behind a token that was revoked.
    ServiceClockBehind,
    ServiceUnavailable,
    ServiceUnreachable,
    Suspended,
    Throttled,
    TokenChanged,
    TokenDeleted,
    TokenIssued,
    /// Microsoft Entra ID refuses a token for calls to ACS.
    TokenRefused,
    /// Microsoft Entra ID can't be reached, or can't answer.
    TokenUnavailable,
    TokensRevoked,
    /// A revocation was first seen after its `notAfter`.
    TooLate,
    /// ACS's limits don't let all tokens of a connection be renewed in time.
    TooManyRenewals,
    TooManyTargets,
    /// A create call got no answer.
    UnknownCreate,
    /// An annotation asks for something that can't be done.
    UnknownRequest,
    /// A revocation without an answer may have killed the token.
    Unsettled,
    UnsupportedByApiVersion,
    UserTokenChanged,
    UserTokenExpired,
    UserTokenNotRefreshed,
    /// The object waits for its turn at ACS, or for an answer.
    WaitingForService,
    /// Nothing was sent: this process may no longer act.
    Withheld,
    WorkloadNotRestarted,
    WorkloadRestarted,
    WriteRefused,
}

impl Reason {
    /// Parses the word in a status; `None` for a word that this version doesn't know.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|reason| reason.as_str() == text)
    }

    /// Whether the API server has judged a write and does not take it as it is. The same write is
    /// refused again until that changes.
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

    /// Whether only a human can end a failed call to ACS; it is repeated all the same, slowly.
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
    /// Why it failed: [`Reason::CallFailed`] where a newer version says it in a word of its own.
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
        let untold: Vec<_> = words.filter(|word| !told.contains(word)).collect();
        assert!(untold.is_empty(), "docs/behaviour.md lacks {untold:?}");
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
