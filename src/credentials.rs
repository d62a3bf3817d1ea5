//! Credentials of all connections, in memory only.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use crate::{
    acs::{Credential, Endpoint, Resolved},
    crd::{ConnectionKey, ConnectionStatus, Reason},
    renewal,
};

/// Why a connection cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// Reason, in CamelCase.
    pub reason: Reason,
    /// Message that says what to do.
    pub message: String,
    /// Whether a person must act.
    pub is_stalled: bool,
    /// Time of the next attempt, unless an event comes first.
    pub retry_at: Option<Timestamp>,
}

/// Sources that a connection was resolved from. Nothing is read again until they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// UID of the connection: one that was created again may have the same generation.
    pub uid: Option<String>,
    /// Generation of its spec.
    pub generation: Option<i64>,
    /// Resource versions of its Secrets.
    pub versions: String,
}

/// State of a connection that is not in its status.
#[derive(Debug)]
struct Entry {
    source: Option<Source>,
    /// Resolved connection that calls use.
    current: Result<Resolved, Unusable>,
    /// Other key, tried when ACS rejects the one in use.
    spare: Option<Resolved>,
    /// Why there is no other key although the spec names one.
    spare_fault: Option<String>,
    /// Whether the spare key is the first key of the spec, which ACS rejects.
    is_replaced: bool,
    /// Last usable one, for revocations and deletions after its Secret is deleted (I3).
    remembered: Option<Resolved>,
    accepted: Option<String>,
    /// Credentials that were accepted once and are rejected now, the latest last.
    refused: Vec<String>,
    refusal: Option<Refusal>,
    /// Whether the spare key was rejected since the last pause.
    is_spare_refused: bool,
    /// Time since which a caller tries a credential that may not work, while other callers wait for
    /// the result.
    tried_since: Option<Timestamp>,
}

/// State after ACS rejected all credentials of the connection.
#[derive(Debug)]
struct Refusal {
    keys: Vec<Credential>,
    reason: Reason,
    message: String,
    attempts: i32,
    since: Timestamp,
    wait: SignedDuration,
}

/// Maximum time one caller may spend on trying a credential while others wait.
const TRIAL: SignedDuration = SignedDuration::from_secs(35);
/// Interval at which waiting callers check whether it is their turn. A trial without an answer
/// requeues no caller, because each of them would requeue all.
const NEXT_LOOK: SignedDuration = SignedDuration::from_secs(8);
/// Maximum number of rejected credentials to keep; older ones have no valid tokens any more.
const MOST_REFUSED: usize = 8;

impl Entry {
    /// Returns when the credential may be tried again; `None` if it may be tried now.
    fn pause(&self, now: Timestamp) -> Option<Timestamp> {
        let refusal = self.refusal.as_ref()?;
        renewal::pause(refusal.since, refusal.wait, now)
    }

    /// Returns until when another caller tries the credential.
    fn trial(&self, now: Timestamp) -> Option<Timestamp> {
        renewal::pause(self.tried_since?, TRIAL, now)
    }

    fn is_in_use(&self, credential: &str) -> bool {
        let current = self.current.as_ref();
        current.is_ok_and(|current| current.credential == credential)
    }

    /// Whether these are the key in use and the spare key.
    fn has(&self, current: &Resolved, spare: &Resolved) -> bool {
        let is_current = |it: &Resolved| it.key.is_same(&current.key);
        let is_spare = |it: &Resolved| it.key.is_same(&spare.key);
        self.current.as_ref().is_ok_and(is_current) && self.spare.as_ref().is_some_and(is_spare)
    }

    /// Whether the credential in use is unproven: it was rejected, or replaces one that worked. A
    /// wrong credential then costs one call, not one for each token.
    fn is_on_trial(&self) -> bool {
        let accepted = self.accepted.as_ref();
        self.refusal.is_some() || accepted.is_some_and(|accepted| !self.is_in_use(accepted))
    }
}

/// Consequence of a rejected credential for the call that used it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Another credential is in use by now, so the call must be decided on again.
    Overtaken,
    /// The other key replaces the rejected one, so the call must be decided on again, and all users
    /// of the connection must be requeued.
    Replaced,
    /// There is no other key.
    Failed {
        /// Whether the state of the connection has changed.
        is_changed: bool,
    },
}

/// State of a credential for the status of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialState {
    /// Fingerprint in use; no status may show it before ACS has accepted the credential.
    pub in_use: Option<String>,
    /// Fingerprint of the last credential that ACS accepted.
    pub accepted: Option<String>,
    /// Fingerprints of credentials that worked once and that ACS rejects now.
    pub refused: Vec<String>,
    /// Whether the second key is in use because ACS rejects the first one.
    pub is_replaced: bool,
    /// Why the second key cannot be used.
    pub spare_fault: Option<String>,
}

impl CredentialState {
    /// Whether ACS has accepted the credential in use.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.in_use.is_some() && self.in_use == self.accepted
    }

    /// Returns the credentials with tokens that no longer work: ACS rejects the credentials and has
    /// accepted another since (C1). A rejection alone may be a mistake of ACS.
    #[must_use]
    pub fn dead(&self) -> Vec<String> {
        let mut dead = self.refused.clone();
        dead.retain(|refused| {
            self.accepted
                .as_ref()
                .is_some_and(|accepted| accepted != refused)
        });
        dead
    }
}

/// Credentials of all connections, in memory only.
#[derive(Debug, Default)]
pub struct Registry {
    entries: Mutex<HashMap<ConnectionKey, Entry>>,
}

impl Registry {
    /// Returns what the connection was resolved from, if it was.
    #[must_use]
    pub fn source(&self, key: &ConnectionKey) -> Option<Source> {
        self.entries.lock().get(key)?.source.clone()
    }

    /// Stores what a connection resolves to now: what to use, and what to try when ACS rejects
    /// that. Returns true if calls use something else than before.
    pub fn set(
        &self,
        key: &ConnectionKey,
        source: Option<Source>,
        mut current: Result<Resolved, Unusable>,
        spare: Result<Option<Resolved>, Unusable>,
        reported: Option<&ConnectionStatus>,
    ) -> bool {
        let mut entries = self.entries.lock();
        let entry = entries.entry(key.clone()).or_insert_with(|| Entry {
            source: None,
            current: Err(unknown(key)),
            spare: None,
            spare_fault: None,
            is_replaced: false,
            remembered: None,
            accepted: reported.and_then(|status| status.credential.clone()),
            refused: reported.map_or_else(Vec::new, |status| status.refused_credentials.clone()),
            refusal: None,
            is_spare_refused: false,
            tried_since: None,
        });
        entry.spare_fault = spare.as_ref().err().map(|why| why.message.clone());
        let mut spare = spare.ok().flatten();
        let was_replaced = std::mem::take(&mut entry.is_replaced);
        if let (Ok(first), Some(second)) = (&mut current, &mut spare)
            && (was_replaced && entry.has(second, first)
                || entry.refused.contains(&first.credential)
                    && !entry.refused.contains(&second.credential))
        {
            std::mem::swap(first, second);
            entry.is_replaced = true;
        }
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
            entry.remembered = Some(new.clone());
            let is_still_all = |refusal: &Refusal| {
                let mut all = [Some(new), spare.as_ref()].into_iter().flatten();
                all.all(|one| refusal.keys.iter().any(|key| key.is_same(&one.key)))
            };
            if !entry.refusal.as_ref().is_some_and(is_still_all) {
                entry.refusal = None;
                entry.is_spare_refused = entry.is_replaced;
            }
        }
        if changed {
            entry.tried_since = None;
        }
        entry.source = source;
        entry.current = current;
        entry.spare = spare;
        changed
    }

    /// Returns what a call needs now.
    pub fn usable(&self, key: &ConnectionKey, now: Timestamp) -> Result<Resolved, Unusable> {
        let entries = self.entries.lock();
        let entry = entries.get(key).ok_or_else(|| unknown(key))?;
        let resolved = entry.current.clone()?;
        let trial = entry.trial(now);
        let next_look = trial.map(|end| end.min(renewal::add(now, NEXT_LOOK)));
        let end = match entry.pause(now).max(next_look) {
            Some(end) if entry.is_on_trial() => end,
            _ => return Ok(resolved),
        };
        let (reason, message) = match &entry.refusal {
            Some(refusal) => (refusal.reason, refusal.message.clone()),
            None => (
                Reason::CredentialOnTrial,
                format!("waiting until ACS has accepted the new credential of {key}"),
            ),
        };
        Err(Unusable {
            reason,
            message,
            is_stalled: false,
            retry_at: Some(end),
        })
    }

    /// Whether a call may use the credential now; checked right before the call. A credential that
    /// may not work is tried by one caller at a time.
    pub fn may_call(&self, key: &ConnectionKey, credential: &str, now: Timestamp) -> bool {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(key) else {
            return true;
        };
        if !entry.is_in_use(credential) {
            return false;
        }
        if !entry.is_on_trial() {
            return true;
        }
        let may = entry.pause(now).is_none() && entry.trial(now).is_none();
        if may {
            entry.tried_since = Some(now);
        }
        may
    }

    /// Ends the trial of a credential after a call that says nothing about it, so that the next
    /// caller may try it.
    pub fn untried(&self, key: &ConnectionKey, credential: &str) {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get_mut(key)
            && entry.is_in_use(credential)
        {
            entry.tried_since = None;
        }
    }

    /// Returns what a revocation or deletion at `endpoint` can use: the current credential, or else
    /// the last usable one.
    #[must_use]
    pub fn for_cleanup(&self, key: &ConnectionKey, endpoint: &str) -> Option<Resolved> {
        let entries = self.entries.lock();
        let entry = entries.get(key)?;
        [entry.current.as_ref().ok(), entry.remembered.as_ref()]
            .into_iter()
            .flatten()
            .find(|resolved| resolved.endpoint.as_str() == endpoint)
            .cloned()
    }

    /// Returns the state of the connection for its own status, without the pause after a rejection.
    pub fn current(&self, key: &ConnectionKey) -> Result<(), Unusable> {
        let entries = self.entries.lock();
        let entry = entries.get(key).ok_or_else(|| unknown(key))?;
        if let Err(why) = &entry.current {
            return Err(why.clone());
        }
        match &entry.refusal {
            None => Ok(()),
            Some(refusal) => Err(Unusable {
                reason: refusal.reason,
                message: refusal.message.clone(),
                is_stalled: false,
                retry_at: None,
            }),
        }
    }

    /// Returns the endpoint of the connection.
    #[must_use]
    pub fn endpoint(&self, key: &ConnectionKey) -> Option<Endpoint> {
        Some(
            self.entries
                .lock()
                .get(key)?
                .current
                .as_ref()
                .ok()?
                .endpoint
                .clone(),
        )
    }

    /// Returns the state of the credential for the status.
    #[must_use]
    pub fn credential(&self, key: &ConnectionKey) -> CredentialState {
        let entries = self.entries.lock();
        let Some(entry) = entries.get(key) else {
            return CredentialState::default();
        };
        let in_use = entry.current.as_ref().ok();
        CredentialState {
            in_use: in_use.map(|resolved| resolved.credential.clone()),
            is_replaced: entry.is_replaced,
            spare_fault: entry.spare_fault.clone(),
            accepted: entry.accepted.clone(),
            refused: entry.refused.clone(),
        }
    }

    /// Records that ACS accepted the credential. Returns true if that changes its state.
    pub fn accepted(&self, key: &ConnectionKey, credential: &str) -> bool {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(key) else {
            return false;
        };
        if !entry.is_in_use(credential) {
            return false;
        }
        let is_new = entry.refusal.is_some() || entry.accepted.as_deref() != Some(credential);
        entry.refusal = None;
        entry.tried_since = None;
        entry.is_spare_refused = false;
        entry.accepted = Some(credential.to_owned());
        entry.refused.retain(|refused| refused != credential);
        is_new
    }

    /// Records that ACS rejected the credential (a 401 about the caller), or that Entra ID refused
    /// a token for it.
    pub fn refused(
        &self,
        key: &ConnectionKey,
        credential: &str,
        reason: Reason,
        message: &str,
        now: Timestamp,
    ) -> Refused {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(key) else {
            return Refused::Failed { is_changed: false };
        };
        let Ok(current) = &mut entry.current else {
            return Refused::Failed { is_changed: false };
        };
        if current.credential != credential {
            return Refused::Overtaken;
        }
        entry.tried_since = None;
        if current.key.takes_tokens_with_it() && entry.accepted.as_deref() == Some(credential) {
            entry.refused.retain(|refused| refused != credential);
            entry.refused.push(credential.to_owned());
            let too_many = entry.refused.len().saturating_sub(MOST_REFUSED);
            entry.refused.drain(..too_many);
        }
        if let (Some(spare), false) = (&mut entry.spare, entry.is_spare_refused) {
            std::mem::swap(current, spare);
            entry.remembered = Some(current.clone());
            entry.is_replaced = !entry.is_replaced;
            entry.is_spare_refused = true;
            return Refused::Replaced;
        }
        entry.is_spare_refused = false;
        let keys = [Some(&*current), entry.spare.as_ref()];
        let keys = keys.into_iter().flatten();
        let keys = keys.map(|one| one.key.clone()).collect();
        let is_pausing = entry.pause(now).is_some();
        let previous = entry.refusal.as_ref().map(|refusal| refusal.reason);
        let former = entry.refusal.as_ref().map(|refusal| refusal.attempts);
        let attempts = match former {
            // Calls that were in flight at the same time count as one attempt.
            Some(attempts) if is_pausing => attempts,
            _ => former.unwrap_or(0).saturating_add(1),
        };
        entry.refusal = Some(Refusal {
            keys,
            reason,
            message: message.to_owned(),
            attempts,
            since: now,
            wait: renewal::backoff(attempts.saturating_add(3), None, credential),
        });
        Refused::Failed {
            is_changed: previous != Some(reason),
        }
    }
}

fn unknown(key: &ConnectionKey) -> Unusable {
    Unusable {
        reason: Reason::ConnectionNotReady,
        message: format!("waiting until the operator has read {key}"),
        is_stalled: false,
        retry_at: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        acs::{AccessKey, ApiVersion, EntraIdentity, Service, ServiceConfig},
        crd::ConnectionKind,
    };

    /// Returns a key of a resource; a credential is named by its number.
    fn key(number: u8) -> Resolved {
        let text = ["a2V5LTA=", "a2V5LTE=", "a2V5LTI="][usize::from(number)];
        Resolved {
            endpoint: Endpoint::parse("https://contoso.communication.azure.com").unwrap(),
            version: "2023-10-01".parse().unwrap(),
            key: AccessKey::parse(text).unwrap().into(),
            credential: number.to_string(),
        }
    }

    fn name() -> ConnectionKey {
        ConnectionKey {
            kind: ConnectionKind::AcsConnection,
            namespace: Some("ns".to_owned()),
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
        registry.set(&name(), None, Ok(resolved), Ok(None), None);
        credential
    }

    #[test]
    fn another_client_secret_is_tried_at_once_though_the_fingerprint_is_the_same() {
        let (registry, service, now) = (Registry::default(), service(), Timestamp::now());
        let mistyped = set(&registry, by_secret(&service, "mistyped"));
        registry.refused(&name(), &mistyped, Reason::TokenRefused, "no", now);
        assert!(registry.usable(&name(), now).is_err());
        set(&registry, by_secret(&service, "mistyped"));
        assert!(registry.usable(&name(), now).is_err(), "it is the same");
        let right = set(&registry, by_secret(&service, "right"));
        assert_eq!(mistyped, right);
        assert!(registry.usable(&name(), now).is_ok());
        assert!(registry.current(&name()).is_ok());
    }

    #[test]
    fn tokens_die_with_the_key_that_made_them_and_not_with_an_identity() {
        let now = Timestamp::now();
        let key: Credential = AccessKey::parse("c2VjcmV0LWtleQ==").unwrap().into();
        for (credential, dies) in [(key, true), (by_secret(&service(), "right"), false)] {
            let registry = Registry::default();
            let fingerprint = set(&registry, credential);
            registry.accepted(&name(), &fingerprint);
            registry.refused(&name(), &fingerprint, Reason::CredentialRefused, "no", now);
            let refused = registry.credential(&name()).refused;
            assert_eq!(refused, Vec::from_iter(dies.then_some(fingerprint)));
        }
    }

    #[test]
    fn another_reason_is_news_and_the_same_is_not() {
        let (registry, now) = (Registry::default(), Timestamp::now());
        let credential = set(&registry, by_secret(&service(), "right"));
        let refused = |reason| registry.refused(&name(), &credential, reason, "no", now);
        assert_eq!(
            refused(Reason::TokenUnavailable),
            Refused::Failed { is_changed: true }
        );
        assert_eq!(
            refused(Reason::TokenUnavailable),
            Refused::Failed { is_changed: false }
        );
        assert_eq!(
            refused(Reason::TokenRefused),
            Refused::Failed { is_changed: true }
        );
        let why = registry.usable(&name(), now).unwrap_err();
        assert_eq!(why.reason, Reason::TokenRefused);
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// Returns a registry in which key 0 works, with these keys since then.
    fn registry(first: u8, second: Option<u8>) -> Registry {
        let registry = Registry::default();
        registry.set(&name(), None, Ok(key(0)), Ok(None), None);
        registry.accepted(&name(), "0");
        use_keys(&registry, first, second);
        registry
    }

    fn use_keys(registry: &Registry, first: u8, second: Option<u8>) -> bool {
        registry.set(&name(), None, Ok(key(first)), Ok(second.map(key)), None)
    }

    fn in_use(registry: &Registry, second: i64) -> Result<String, Reason> {
        let usable = registry.usable(&name(), at(second));
        usable
            .map(|resolved| resolved.credential)
            .map_err(|why| why.reason)
    }

    fn refuse(registry: &Registry, credential: &str, second: i64) -> Refused {
        registry.refused(
            &name(),
            credential,
            Reason::CredentialRefused,
            "no",
            at(second),
        )
    }

    #[test]
    fn a_new_key_is_tried_by_one_while_the_others_wait() {
        let registry = registry(1, None);
        assert_eq!(in_use(&registry, 0), Ok("1".to_owned()));
        assert!(
            !registry.may_call(&name(), "0", at(0)),
            "that is no longer in use"
        );
        assert!(registry.may_call(&name(), "1", at(0)));
        assert!(!registry.may_call(&name(), "1", at(1)));
        assert_eq!(in_use(&registry, 1), Err(Reason::CredentialOnTrial));
        let look_again = |second| registry.usable(&name(), at(second)).unwrap_err().retry_at;
        assert_eq!(look_again(1), Some(at(9)));
        assert_eq!(look_again(30), Some(at(35)), "the end of the trial");
        // The call that tries a credential may fail for another reason, or get no answer.
        registry.untried(&name(), "1");
        assert!(registry.may_call(&name(), "1", at(2)));
        assert_eq!(in_use(&registry, 40), Ok("1".to_owned()));
        assert!(registry.accepted(&name(), "1"));
        assert!(registry.may_call(&name(), "1", at(3)));
        assert!(registry.may_call(&name(), "1", at(3)), "all may now");
    }

    #[test]
    fn the_very_first_key_needs_no_trial() {
        let registry = Registry::default();
        registry.set(&name(), None, Ok(key(0)), Ok(None), None);
        assert!(registry.may_call(&name(), "0", at(0)));
        assert!(registry.may_call(&name(), "0", at(0)));
    }

    #[test]
    fn the_second_key_takes_over_and_its_success_makes_the_tokens_of_the_first_dead() {
        let registry = registry(0, Some(1));
        assert_eq!(refuse(&registry, "0", 0), Refused::Replaced);
        assert_eq!(
            refuse(&registry, "0", 0),
            Refused::Overtaken,
            "it was on its way"
        );
        assert!(registry.credential(&name()).is_replaced);
        assert_eq!(in_use(&registry, 0), Ok("1".to_owned()));
        assert_eq!(registry.credential(&name()).dead(), Vec::<String>::new());
        registry.accepted(&name(), "1");
        assert_eq!(registry.credential(&name()).dead(), ["0"]);
        // The same Secret again, or a restart, continues with the second key.
        assert!(!use_keys(&registry, 0, Some(1)));
        let reported = ConnectionStatus {
            credential: Some("1".to_owned()),
            refused_credentials: vec!["0".to_owned()],
            ..ConnectionStatus::default()
        };
        let restarted = Registry::default();
        restarted.set(&name(), None, Ok(key(0)), Ok(Some(key(1))), Some(&reported));
        assert_eq!(in_use(&restarted, 0), Ok("1".to_owned()));
        assert!(restarted.may_call(&name(), "1", at(0)));
        assert!(restarted.may_call(&name(), "1", at(0)));
        // Another first key is used again.
        assert!(use_keys(&registry, 2, Some(1)));
        assert_eq!(in_use(&registry, 0), Ok("2".to_owned()));
        assert!(!registry.credential(&name()).is_replaced);
    }

    #[test]
    fn where_both_are_refused_both_are_tried_again_after_a_pause() {
        let registry = registry(0, Some(1));
        assert_eq!(refuse(&registry, "0", 0), Refused::Replaced);
        assert_eq!(
            refuse(&registry, "1", 0),
            Refused::Failed { is_changed: true }
        );
        assert_eq!(in_use(&registry, 1), Err(Reason::CredentialRefused));
        assert_eq!(registry.credential(&name()).dead(), Vec::<String>::new());
        assert!(registry.may_call(&name(), "1", at(60)));
        assert_eq!(refuse(&registry, "1", 60), Refused::Replaced);
        assert!(registry.may_call(&name(), "0", at(60)));
        assert!(
            registry.current(&name()).is_err(),
            "it is not called ready meanwhile"
        );
        assert_eq!(
            refuse(&registry, "0", 60),
            Refused::Failed { is_changed: false }
        );
        assert_eq!(in_use(&registry, 61), Err(Reason::CredentialRefused));
        // The right key ends the pause at once.
        assert!(use_keys(&registry, 2, Some(1)));
        assert!(registry.current(&name()).is_ok());
        assert!(registry.may_call(&name(), "2", at(61)));
    }

    #[test]
    fn tokens_of_two_refused_keys_are_dead() {
        let registry = registry(0, Some(1));
        refuse(&registry, "0", 0);
        registry.accepted(&name(), "1");
        refuse(&registry, "1", 1);
        assert_eq!(
            registry.credential(&name()).dead(),
            ["0"],
            "the second may be a mistake"
        );
        use_keys(&registry, 2, None);
        registry.accepted(&name(), "2");
        assert_eq!(registry.credential(&name()).dead(), ["0", "1"]);
    }

    #[test]
    fn a_refusal_that_was_a_mistake_is_taken_back() {
        let registry = registry(0, None);
        assert_eq!(
            refuse(&registry, "0", 0),
            Refused::Failed { is_changed: true }
        );
        assert_eq!(registry.credential(&name()).refused, ["0"]);
        assert!(registry.accepted(&name(), "0"));
        assert_eq!(
            registry.credential(&name()),
            CredentialState {
                in_use: Some("0".to_owned()),
                accepted: Some("0".to_owned()),
                ..CredentialState::default()
            }
        );
    }
}
