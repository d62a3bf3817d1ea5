use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::{Scope, parse_duration};

/// What makes a token what it is: a change of it costs a new token (T4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenParameters {
    /// What the token allows.
    pub scopes: BTreeSet<Scope>,
    /// The life that is asked for, as it is written in `spec`.
    pub expires_in: String,
}

impl TokenParameters {
    /// The life in whole minutes, rounded up, within what the service takes (60 to 1440).
    #[must_use]
    pub fn minutes(&self) -> u32 {
        let minutes = self.life().as_secs().saturating_add(59) / 60;
        u32::try_from(minutes.clamp(60, 1440)).unwrap_or(1440)
    }

    fn life(&self) -> SignedDuration {
        parse_duration(&self.expires_in).unwrap_or(SignedDuration::from_hours(24))
    }

    /// Whether both ask the service for the same token; `60m` and `1h` do.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.scopes == other.scopes && self.minutes() == other.minutes()
    }

    /// Whether going from `self` to `next` takes something away.
    #[must_use]
    pub fn is_narrowed_by(&self, next: &Self) -> bool {
        !self.scopes.is_subset(&next.scopes) || next.minutes() < self.minutes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(scopes: &[Scope], expires_in: &str) -> TokenParameters {
        TokenParameters {
            scopes: scopes.iter().copied().collect(),
            expires_in: expires_in.to_owned(),
        }
    }

    #[test]
    fn sixty_minutes_are_an_hour_and_no_change() {
        assert!(shape(&[Scope::Chat], "60m").is_same_as(&shape(&[Scope::Chat], "1h")));
    }

    #[test]
    fn losing_a_scope_or_life_narrows_and_gaining_does_not() {
        let held = shape(&[Scope::Chat, Scope::Voip], "2h");
        assert!(held.is_narrowed_by(&shape(&[Scope::Chat], "2h")));
        assert!(held.is_narrowed_by(&shape(&[Scope::Chat, Scope::Voip], "1h")));
        assert!(held.is_narrowed_by(&shape(&[Scope::Chat, Scope::VoipJoin], "2h")));
        assert!(!held.is_narrowed_by(&shape(&[Scope::Chat, Scope::Voip, Scope::VoipJoin], "24h")));
    }
}
