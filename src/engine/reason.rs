use crate::{acs::Kind, crd::Reason};

/// Conversion of the client's error kinds into reasons of failed calls to ACS.
impl From<Kind> for Reason {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::CredentialRefused => Self::CredentialRefused,
            Kind::TokenRefused => Self::TokenRefused,
            Kind::TokenUnavailable => Self::TokenUnavailable,
            Kind::NoAssertion => Self::ServiceAccountTokenUnavailable,
            Kind::IdentityNotOwned => Self::IdentityNotOwned,
            Kind::IdentityNotFound => Self::IdentityNotFound,
            Kind::InvalidUserToken => Self::InvalidUserToken,
            Kind::Invalid | Kind::Malformed => Self::InvalidRequest,
            Kind::Unsupported => Self::UnsupportedByApiVersion,
            Kind::Throttled => Self::Throttled,
            Kind::Unavailable => Self::ServiceUnavailable,
            Kind::Unreachable => Self::ServiceUnreachable,
            Kind::NoAnswer => Self::NoAnswer,
            Kind::NotTheService => Self::NotTheService,
            Kind::Withheld => Self::Withheld,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_and_the_client_have_the_same_words() {
        for kind in [
            Kind::CredentialRefused,
            Kind::TokenRefused,
            Kind::TokenUnavailable,
            Kind::NoAssertion,
            Kind::IdentityNotOwned,
            Kind::IdentityNotFound,
            Kind::InvalidUserToken,
            Kind::Invalid,
            Kind::Malformed,
            Kind::Unsupported,
            Kind::Throttled,
            Kind::Unavailable,
            Kind::Unreachable,
            Kind::NoAnswer,
            Kind::NotTheService,
            Kind::Withheld,
        ] {
            assert_eq!(Reason::from(kind).as_str(), kind.reason());
        }
    }
}
