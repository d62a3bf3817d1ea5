use std::{borrow::Cow, collections::HashMap, sync::Mutex};

use jiff::{SignedDuration, Timestamp};

use super::kinds::ConnectionKey;
use crate::{
    acs::{ApiVersion, Credential, Endpoint},
    cluster::view::lock,
    crd::ConnectionStatus,
    renewal,
};

/// All that a call to the service needs.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Where to.
    pub endpoint: Endpoint,
    /// In which version.
    pub version: ApiVersion,
    /// Proven by what.
    pub key: Credential,
    /// Its fingerprint.
    pub credential: String,
}

/// Why a connection can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// Why, in a word.
    pub reason: Cow<'static, str>,
    /// What to do, in a sentence.
    pub message: String,
    /// Whether a human must act.
    pub is_stalled: bool,
    /// When to look again, unless an event comes first.
    pub retry_at: Option<Timestamp>,
}

/// What was read to resolve a connection: as long as it is the same, nothing is read again.
pub type Source = (Option<i64>, String);

/// What the operator remembers of a connection, beside what is in its status.
#[derive(Debug)]
struct Entry {
    source: Option<Source>,
    current: Result<Resolved, Unusable>,
    /// The last that worked, for revokes and deletes after its Secret is gone (I3).
    remembered: Option<Resolved>,
    accepted: Option<String>,
    refusal: Option<Refusal>,
    /// A credential that was accepted once and is refused now.
    refused: Option<String>,
}

#[derive(Debug)]
struct Refusal {
    credential: String,
    reason: &'static str,
    message: String,
    attempts: i32,
    since: Timestamp,
    wait: SignedDuration,
    /// Somebody tries the credential again; the others wait for that.
    is_probed: bool,
}

impl Refusal {
    /// When the credential may be tried again, unless it may.
    fn pause(&self, now: Timestamp) -> Option<Timestamp> {
        renewal::pause(self.since, self.wait, now)
    }
}

/// So long a caller that tries a refused credential again keeps the others waiting.
const PROBE: SignedDuration = SignedDuration::from_secs(35);

/// What a connection's status tells of its credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialState {
    /// The fingerprint in use, if the service has accepted it.
    pub accepted: Option<String>,
    /// A former one that the service refuses now.
    pub refused: Option<String>,
}

/// The credentials of all connections, in memory only.
#[derive(Debug, Default)]
pub struct Registry {
    entries: Mutex<HashMap<ConnectionKey, Entry>>,
}

impl Registry {
    /// What the connection was resolved from, if it was.
    #[must_use]
    pub fn source(&self, key: &ConnectionKey) -> Option<Source> {
        lock(&self.entries).get(key)?.source.clone()
    }

    /// Takes in what a connection resolves to now; true when that is something else than before.
    pub fn set(
        &self,
        key: &ConnectionKey,
        source: Option<Source>,
        current: Result<Resolved, Unusable>,
        told: Option<&ConnectionStatus>,
    ) -> bool {
        let mut entries = lock(&self.entries);
        let entry = entries.entry(key.clone()).or_insert_with(|| Entry {
            source: None,
            current: Err(unknown(key)),
            remembered: None,
            accepted: told.and_then(|status| status.credential.clone()),
            refusal: None,
            refused: told.and_then(|status| status.refused_credential.clone()),
        });
        let changed = match (&entry.current, &current) {
            (Ok(old), Ok(new)) => {
                old.endpoint != new.endpoint
                    || old.version != new.version
                    || !old.key.is_same(&new.key)
            }
            (Err(old), Err(new)) => old != new,
            _ => true,
        };
        if let Ok(new) = &current {
            let former = entry.remembered.replace(new.clone());
            if former.is_none_or(|former| !former.key.is_same(&new.key)) {
                entry.refusal = None;
            }
        }
        entry.source = source;
        entry.current = current;
        changed
    }

    /// What a call needs now.
    pub fn usable(&self, key: &ConnectionKey, now: Timestamp) -> Result<Resolved, Unusable> {
        let entries = lock(&self.entries);
        let entry = entries.get(key).ok_or_else(|| unknown(key))?;
        let resolved = entry.current.clone()?;
        let refusal = entry.refusal.as_ref();
        match refusal.and_then(|refusal| Some((refusal, refusal.pause(now)?))) {
            Some((refusal, end)) => Err(Unusable {
                reason: refusal.reason.into(),
                message: refusal.message.clone(),
                is_stalled: false,
                retry_at: Some(end),
            }),
            None => Ok(resolved),
        }
    }

    /// Asked right before a call: a refused credential is tried again by one caller at a time.
    pub fn may_call(&self, key: &ConnectionKey, credential: &str, now: Timestamp) -> bool {
        let mut entries = lock(&self.entries);
        match entries
            .get_mut(key)
            .and_then(|entry| entry.refusal.as_mut())
        {
            Some(refusal) if refusal.credential == credential => {
                let may = refusal.pause(now).is_none();
                if may {
                    (refusal.since, refusal.wait) = (now, PROBE);
                    refusal.is_probed = true;
                }
                may
            }
            _ => true,
        }
    }

    /// What a revoke or a delete at `endpoint` can use: what is current, else what is remembered.
    #[must_use]
    pub fn for_cleanup(&self, key: &ConnectionKey, endpoint: &str) -> Option<Resolved> {
        let entries = lock(&self.entries);
        let entry = entries.get(key)?;
        [entry.current.as_ref().ok(), entry.remembered.as_ref()]
            .into_iter()
            .flatten()
            .find(|resolved| resolved.endpoint.as_str() == endpoint)
            .cloned()
    }

    /// The connection's own view of itself: without the pause after a refusal.
    pub fn current(&self, key: &ConnectionKey) -> Result<(), Unusable> {
        let entries = lock(&self.entries);
        let entry = entries.get(key).ok_or_else(|| unknown(key))?;
        if let Err(why) = &entry.current {
            return Err(why.clone());
        }
        match &entry.refusal {
            None => Ok(()),
            Some(refusal) => Err(Unusable {
                reason: refusal.reason.into(),
                message: refusal.message.clone(),
                is_stalled: false,
                retry_at: None,
            }),
        }
    }

    /// Where the connection leads.
    #[must_use]
    pub fn endpoint(&self, key: &ConnectionKey) -> Option<Endpoint> {
        Some(
            lock(&self.entries)
                .get(key)?
                .current
                .as_ref()
                .ok()?
                .endpoint
                .clone(),
        )
    }

    /// What the status tells of the credential.
    #[must_use]
    pub fn credential(&self, key: &ConnectionKey) -> CredentialState {
        let entries = lock(&self.entries);
        let Some(entry) = entries.get(key) else {
            return CredentialState::default();
        };
        let current = entry
            .current
            .as_ref()
            .ok()
            .map(|resolved| &resolved.credential);
        CredentialState {
            accepted: entry
                .accepted
                .clone()
                .filter(|accepted| Some(accepted) == current),
            refused: entry.refused.clone(),
        }
    }

    /// The service accepted the credential; true when that is news.
    pub fn accepted(&self, key: &ConnectionKey, credential: &str) -> bool {
        let mut entries = lock(&self.entries);
        let Some(entry) = entries.get_mut(key) else {
            return false;
        };
        if !entry
            .current
            .as_ref()
            .is_ok_and(|current| current.credential == credential)
        {
            return false;
        }
        let news = entry.refusal.is_some() || entry.accepted.as_deref() != Some(credential);
        entry.refusal = None;
        entry.accepted = Some(credential.to_owned());
        if entry.refused.as_deref() == Some(credential) {
            entry.refused = None;
        }
        news
    }

    /// The service refused the credential (a 401 that speaks of the caller), or Entra ID a token for
    /// it; true when that is news.
    pub fn refused(
        &self,
        key: &ConnectionKey,
        credential: &str,
        reason: &'static str,
        message: &str,
        now: Timestamp,
    ) -> bool {
        let mut entries = lock(&self.entries);
        let Some(entry) = entries.get_mut(key) else {
            return false;
        };
        let current = entry.current.as_ref().ok();
        let Some(current) = current.filter(|current| current.credential == credential) else {
            return false;
        };
        if current.key.takes_tokens_with_it() && entry.accepted.as_deref() == Some(credential) {
            entry.refused = Some(credential.to_owned());
        }
        let former = entry.refusal.as_ref();
        let attempts = former
            .map_or(0, |refusal| refusal.attempts)
            .saturating_add(1);
        // Calls that were on the way together count as one try.
        let attempts = match former {
            Some(refusal) if !refusal.is_probed && refusal.pause(now).is_some() => refusal.attempts,
            _ => attempts,
        };
        let news = former.is_none_or(|former| former.reason != reason);
        let wait = renewal::backoff(attempts.saturating_add(3), None, credential);
        entry.refusal = Some(Refusal {
            credential: credential.to_owned(),
            reason,
            message: message.to_owned(),
            attempts,
            since: now,
            wait,
            is_probed: false,
        });
        news
    }
}

fn unknown(key: &ConnectionKey) -> Unusable {
    Unusable {
        reason: "ConnectionNotReady".into(),
        message: format!("waiting until {key} is looked at"),
        is_stalled: false,
        retry_at: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        acs::{AccessKey, EntraIdentity, Service, ServiceConfig},
        crd::ConnectionKind,
    };

    fn connection() -> ConnectionKey {
        ConnectionKey {
            kind: ConnectionKind::AcsConnection,
            namespace: Some("team".to_owned()),
            name: "default".to_owned(),
        }
    }

    fn service() -> Service {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Service::new(ServiceConfig::default()).unwrap()
    }

    fn by_secret(service: &Service, secret: &str) -> Credential {
        service.entra(EntraIdentity::ClientSecret {
            tenant_id: "contoso.example".to_owned(),
            client_id: "app".to_owned(),
            secret: secret.to_owned().into(),
        })
    }

    fn set(registry: &Registry, key: Credential) -> String {
        let credential = key.fingerprint();
        let resolved = Resolved {
            endpoint: Endpoint::parse("https://contoso.communication.azure.com").unwrap(),
            version: ApiVersion::default(),
            key,
            credential: credential.clone(),
        };
        registry.set(&connection(), None, Ok(resolved), None);
        credential
    }

    #[test]
    fn another_client_secret_is_tried_at_once_though_the_fingerprint_is_the_same() {
        let (registry, service, now) = (Registry::default(), service(), Timestamp::now());
        let mistyped = set(&registry, by_secret(&service, "mistyped"));
        registry.refused(&connection(), &mistyped, "TokenRefused", "no", now);
        assert!(registry.usable(&connection(), now).is_err());
        set(&registry, by_secret(&service, "mistyped"));
        assert!(
            registry.usable(&connection(), now).is_err(),
            "it is the same"
        );
        let right = set(&registry, by_secret(&service, "right"));
        assert_eq!(mistyped, right);
        assert!(registry.usable(&connection(), now).is_ok());
        assert!(registry.current(&connection()).is_ok());
    }

    #[test]
    fn tokens_die_with_the_key_that_made_them_and_not_with_an_identity() {
        let now = Timestamp::now();
        let key: Credential = AccessKey::parse("c2VjcmV0LWtleQ==").unwrap().into();
        for (credential, dies) in [(key, true), (by_secret(&service(), "right"), false)] {
            let registry = Registry::default();
            let fingerprint = set(&registry, credential);
            registry.accepted(&connection(), &fingerprint);
            registry.refused(&connection(), &fingerprint, "CredentialRefused", "no", now);
            let refused = registry.credential(&connection()).refused;
            assert_eq!(refused, dies.then_some(fingerprint));
        }
    }

    #[test]
    fn another_reason_is_news_and_the_same_is_not() {
        let (registry, now) = (Registry::default(), Timestamp::now());
        let credential = set(&registry, by_secret(&service(), "right"));
        let refused = |reason| registry.refused(&connection(), &credential, reason, "no", now);
        assert!(refused("TokenUnavailable"));
        assert!(!refused("TokenUnavailable"));
        assert!(refused("TokenRefused"));
        let why = registry.usable(&connection(), now).unwrap_err();
        assert_eq!(why.reason, "TokenRefused");
    }
}
