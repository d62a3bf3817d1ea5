use super::limits::Limits;
use crate::crd::{AcsToken, TokenParameters};

/// Maximum and default lifetime of a token (ACS REST 2023-10-01).
const DEFAULT_LIFE: &str = "24h";

impl TokenParameters {
    /// Returns the parameters that the spec of `token` requests within `limits`.
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

    /// Whether the spec of `token` requests these parameters within `limits`. If it requests no
    /// lifetime, any allowed lifetime matches, so that a policy that allows more causes no new
    /// token.
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
