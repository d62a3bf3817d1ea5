use super::limits::Limits;
use crate::crd::{AcsToken, TokenParameters};

/// The longest life of a token, and the one that is asked for by default (ACS REST 2023-10-01).
const DEFAULT_LIFE: &str = "24h";

impl TokenParameters {
    /// The shape that `token`'s spec asks for within `limits`.
    #[must_use]
    pub fn wanted(token: &AcsToken, limits: &Limits) -> Self {
        let life = token.spec.expires_in.as_deref();
        let life = life
            .or_else(|| limits.default_life())
            .unwrap_or(DEFAULT_LIFE);
        Self {
            scopes: token.scopes(),
            expires_in: life.to_owned(),
        }
    }

    /// Whether this is what `token`'s spec asks for within `limits`. Where it asks for no life, any
    /// that is allowed will do, so that a policy that grows costs no token.
    #[must_use]
    pub fn is_wanted_by(&self, token: &AcsToken, limits: &Limits) -> bool {
        let wanted = Self::wanted(token, limits);
        let fits = match token.spec.expires_in {
            Some(_) => self.minutes() == wanted.minutes(),
            None => self.minutes() <= wanted.minutes(),
        };
        self.scopes == wanted.scopes && fits
    }
}
