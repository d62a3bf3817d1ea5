//! A token of Entra ID, kept until shortly before its end.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use super::entra::EntraIdentity;
use super::token_source::Acquire;
use super::{Kind, ServiceConfig};

/// A token is renewed so long before its end, or in the last third of its life.
const MARGIN: Duration = Duration::from_mins(5);
/// A token that can't be renewed is used until so long before its end, or for all but a tenth.
const LAST_MOMENT: Duration = Duration::from_secs(30);
/// After a failure, nobody asks again for so long: all get the same answer.
const PAUSE: Duration = Duration::from_secs(5);
/// Where a wrong local clock says that a fresh token has ended, it is believed for so long.
const LEAST_LIFE: Duration = Duration::from_mins(1);

/// A credential that sends tokens of Entra ID. Can't be printed.
///
/// One request for a token is under way at a time, however many calls wait for it; a failure
/// answers all of them.
pub struct Bearer {
    identity: EntraIdentity,
    acquire: Acquire,
    held: Mutex<Option<Held>>,
    /// Locked while a token is asked for; what is in it came of the last time.
    asking: tokio::sync::Mutex<Option<(Instant, NoToken)>>,
}

struct Held {
    token: SecretString,
    renew_at: Instant,
    end: Instant,
}

/// A token fresh from its source.
pub(super) struct Fresh {
    pub token: SecretString,
    /// How long it lives from now; zero where the local clock must be wrong.
    pub life: Duration,
}

/// Why there is no token.
#[derive(Clone, Debug)]
pub(super) struct NoToken {
    pub kind: Kind,
    pub status: Option<u16>,
    pub code: Option<String>,
    pub message: Option<String>,
    /// What to do, as a sentence without its full stop.
    pub advice: String,
}

impl Bearer {
    pub(super) fn new(
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

    /// Tells whose it is, the same for each token and each client secret.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.identity.fingerprint()
    }

    /// The token of now: the one that is held, or a new one.
    pub(super) async fn token(&self) -> Result<SecretString, NoToken> {
        let mut failure = match self.held() {
            Some((token, true)) => return Ok(token),
            // It works for a while yet: one renews it, the others go on.
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

    /// The service refused this token: the next is a new one.
    pub(super) fn forget(&self, token: &SecretString) {
        let mut held = self.lock();
        if held
            .as_ref()
            .is_some_and(|held| held.token.expose_secret() == token.expose_secret())
        {
            *held = None;
        }
    }

    /// The token that is held and works, and whether it isn't due for renewal.
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

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bearer").field(&self.identity).finish()
    }
}
