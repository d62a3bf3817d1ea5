//! Cache of an Entra ID token, kept until shortly before it expires.

use std::fmt;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use super::super::{Kind, ServiceConfig};
use super::entra::EntraIdentity;
use super::token_source::Acquire;

/// Time before expiry at which a token is renewed; a token with a short lifetime is renewed in the
/// last third of it.
const MARGIN: Duration = Duration::from_mins(5);
/// Time before expiry until which a token that cannot be renewed is still used; for a short
/// lifetime, all but the last tenth.
const LAST_MOMENT: Duration = Duration::from_secs(30);
/// Pause after a failed request, during which all callers get the same error.
const PAUSE: Duration = Duration::from_secs(5);
/// Minimum lifetime assumed for a fresh token that seems expired because the local clock is wrong.
const LEAST_LIFE: Duration = Duration::from_mins(1);

/// Credential that sends tokens of Entra ID. `Debug` does not print it.
///
/// Only one token request is in flight at a time, regardless of how many calls wait for it; a
/// failure is returned to all of them.
pub struct Bearer {
    identity: EntraIdentity,
    acquire: Acquire,
    held: Mutex<Option<Held>>,
    /// Locked during a token request; holds the error of the last request and its time.
    asking: tokio::sync::Mutex<Option<(Instant, NoToken)>>,
}

struct Held {
    token: SecretString,
    renew_at: Instant,
    end: Instant,
}

/// Newly issued token.
pub(super) struct Fresh {
    pub token: SecretString,
    /// Lifetime from now; zero if the local clock must be wrong.
    pub life: Duration,
}

/// Reason why no token is available.
#[derive(Clone, Debug)]
pub(in super::super) struct NoToken {
    pub kind: Kind,
    pub status: Option<u16>,
    pub code: Option<String>,
    pub message: Option<String>,
    /// What to do, as a sentence without its full stop.
    pub advice: String,
}

impl Bearer {
    pub(in super::super) fn new(
        identity: EntraIdentity,
        config: &ServiceConfig,
        http: reqwest::Client,
    ) -> Self {
        Self {
            acquire: Acquire::new(config, http),
            identity,
            held: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// Returns a fingerprint of the identity, the same for each token and each client secret.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.identity.fingerprint()
    }

    /// Returns the cached token, or requests a new one.
    pub(in super::super) async fn token(&self) -> Result<SecretString, NoToken> {
        let mut failure = match self.held() {
            Some((token, true)) => return Ok(token),
            // The token is still valid: one caller renews it and the others use it.
            Some((token, false)) => match self.asking.try_lock() {
                Ok(asking) => asking,
                Err(_) => return Ok(token),
            },
            None => self.asking.lock().await,
        };
        let held = match self.held() {
            Some((token, true)) => return Ok(token),
            held => held.map(|(token, _)| token),
        };
        if let Some((at, why)) = failure.as_ref()
            && at.elapsed() < PAUSE
        {
            return held.ok_or_else(|| why.clone());
        }
        match self.acquire.token(&self.identity).await {
            Ok(fresh) => {
                *failure = None;
                tracing::debug!(identity = ?self.identity, life = ?fresh.life, "received a token \
                 from Entra ID");
                Ok(self.hold(fresh))
            }
            Err(why) => {
                tracing::debug!(identity = ?self.identity, reason = why.kind.reason(), "received \
                 no token from Entra ID");
                *failure = Some((Instant::now(), why.clone()));
                held.ok_or(why)
            }
        }
    }

    /// Drops a token that ACS rejected, so that the next call requests a new one.
    pub(in super::super) fn forget(&self, token: &SecretString) {
        let mut held = self.lock();
        if held
            .as_ref()
            .is_some_and(|held| held.token.expose_secret() == token.expose_secret())
        {
            *held = None;
        }
    }

    /// Returns the cached token if it is still usable, and whether it is not yet due for renewal.
    fn held(&self) -> Option<(SecretString, bool)> {
        let now = Instant::now();
        let held = self.lock();
        let held = held.as_ref().filter(|held| now < held.end)?;
        Some((held.token.clone(), now < held.renew_at))
    }

    fn hold(&self, Fresh { token, life }: Fresh) -> SecretString {
        let now = Instant::now();
        let life = if life.is_zero() { LEAST_LIFE } else { life };
        *self.lock() = Some(Held {
            token: token.clone(),
            renew_at: now + life.saturating_sub(MARGIN.min(life / 3)),
            end: now + life.saturating_sub(LAST_MOMENT.min(life / 10)),
        });
        token
    }

    fn lock(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock()
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bearer").field(&self.identity).finish()
    }
}
