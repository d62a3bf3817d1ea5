use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::{Scope, parse_duration};

/// Parameters of a token. A change requires a new token (T4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenParameters {
    /// Scopes of the token.
    pub scopes: BTreeSet<Scope>,
    /// Requested lifetime, as written in `spec`.
    pub expires_in: String,
}

impl TokenParameters {
    /// Lifetime in whole minutes, rounded up, within the limits of ACS (60 to 1440).
    #[must_use]
    pub fn minutes(&self) -> u32 {
        let minutes = self.life().as_secs().saturating_add(59) / 60;
        u32::try_from(minutes.clamp(60, 1440)).unwrap_or(1440)
    }

    fn life(&self) -> SignedDuration {
        parse_duration(&self.expires_in).unwrap_or(SignedDuration::from_hours(24))
    }

    /// Whether both request the same token from ACS; `60m` and `1h` do.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.scopes == other.scopes && self.minutes() == other.minutes()
    }

    /// Whether `next` allows less than `self`: a scope fewer or a shorter lifetime.
    #[must_use]
    pub fn is_narrowed_by(&self, next: &Self) -> bool {
        !self.scopes.is_subset(&next.scopes) || next.minutes() < self.minutes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(scopes: &[Scope], expires_in: &str) -> TokenParameters {
        TokenParameters {
            scopes: scopes.iter().copied().collect(),
            expires_in: expires_in.to_owned(),
        }
    }

    #[test]
    fn sixty_minutes_are_an_hour_and_no_change() {
        assert!(parameters(&[Scope::Chat], "60m").is_same_as(&parameters(&[Scope::Chat], "1h")));
    }

    #[test]
    fn losing_a_scope_or_life_narrows_and_gaining_does_not() {
        let held = parameters(&[Scope::Chat, Scope::Voip], "2h");
        assert!(held.is_narrowed_by(&parameters(&[Scope::Chat], "2h")));
        assert!(held.is_narrowed_by(&parameters(&[Scope::Chat, Scope::Voip], "1h")));
        assert!(held.is_narrowed_by(&parameters(&[Scope::Chat, Scope::VoipJoin], "2h")));
        assert!(!held.is_narrowed_by(&parameters(
            &[Scope::Chat, Scope::Voip, Scope::VoipJoin],
            "24h"
        )));
    }
}
