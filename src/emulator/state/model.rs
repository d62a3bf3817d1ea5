//! State of the emulated service: a fold over events, so that a restart restores exactly the state
//! before it.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::{
    entra::assignments::{Assignment, Location},
    span,
};
use super::settings::Settings;

/// State that survives a restart.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct State {
    /// Immutable id of the resource, a part of each identity's id.
    pub resource: String,
    pub primary: AccessKey,
    pub secondary: AccessKey,
    pub settings: Settings,
    /// Difference between the clock of the emulated service and the machine's; positive if it is
    /// ahead.
    #[serde(with = "span")]
    pub clock_offset: SignedDuration,
    /// Identities in the order of their creation, including deleted ones.
    identities: Vec<Identity>,
    pub assignments: BTreeMap<Location, Assignment>,
    /// Index in `identities`, by id.
    #[serde(skip)]
    positions: HashMap<String, usize>,
    /// Indexes in `identities`, by custom id in lower case.
    #[serde(skip)]
    by_custom_id: HashMap<String, Vec<usize>>,
    #[serde(skip)]
    tokens: usize,
}

/// Access key of the resource.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in super::super) struct AccessKey {
    /// Key, in base64.
    pub value: String,
    /// Value of the flag when the key was last set from it.
    pub configured: String,
}

/// Credential that signed a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) enum Signer {
    Primary,
    Secondary,
    /// Bearer token of Entra ID.
    Entra,
}

/// Identity in ACS.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct Identity {
    pub id: String,
    pub custom_id: Option<String>,
    pub created_at: Timestamp,
    pub deleted_at: Option<Timestamp>,
    /// Tokens issued at or before this time are revoked.
    pub tokens_valid_after: Option<Timestamp>,
    pub last_token_issued_at: Option<Timestamp>,
    /// Tokens, oldest first.
    pub tokens: Vec<Token>,
}

/// Issued token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct Token {
    /// Digest that identifies the token; not a secret.
    pub digest: String,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    pub scopes: Vec<String>,
    pub key: Signer,
    pub end: Option<End>,
}

/// Invalidation of a token before its expiry.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(in super::super) struct End {
    /// Time of the request that invalidated it.
    pub at: Timestamp,
    pub cause: Cause,
}

/// Reason why a token was invalidated before its expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) enum Cause {
    Revoked,
    IdentityDeleted,
    KeyRegenerated,
}

/// Change of the state.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(in super::super) enum Event {
    Created {
        id: String,
        custom_id: Option<String>,
        at: Timestamp,
    },
    /// The deleted identity of a custom id is restored.
    Restored {
        id: String,
    },
    Issued {
        id: String,
        token: Token,
    },
    Revoked {
        id: String,
        valid_after: Timestamp,
        at: Timestamp,
    },
    Deleted {
        id: String,
        at: Timestamp,
    },
    KeyChanged {
        key: Signer,
        value: AccessKey,
        at: Timestamp,
    },
    Assigned {
        place: Location,
        assignment: Assignment,
    },
    Unassigned {
        place: Location,
    },
    Settings(Settings),
    Clock {
        #[serde(with = "span")]
        offset: SignedDuration,
    },
    /// Tokens that had expired at this time are dropped.
    Forgotten {
        expired_at: Timestamp,
    },
    /// Everything but the keys is dropped.
    Reset,
}

impl State {
    /// Returns an empty state with these keys.
    pub fn new(primary: AccessKey, secondary: AccessKey) -> Self {
        Self {
            resource: Uuid::new_v4().to_string(),
            primary,
            secondary,
            settings: Settings::default(),
            clock_offset: SignedDuration::ZERO,
            identities: Vec::new(),
            assignments: BTreeMap::new(),
            positions: HashMap::new(),
            by_custom_id: HashMap::new(),
            tokens: 0,
        }
    }

    /// Rebuilds the indexes after the state was read.
    pub fn index(&mut self) {
        for identity in std::mem::take(&mut self.identities) {
            self.tokens += identity.tokens.len();
            self.add(identity);
        }
    }

    fn add(&mut self, identity: Identity) {
        let position = self.identities.len();
        self.positions.insert(identity.id.clone(), position);
        if let Some(custom_id) = &identity.custom_id {
            let same = self.by_custom_id.entry(custom_id.to_ascii_lowercase());
            same.or_default().push(position);
        }
        self.identities.push(identity);
    }

    /// Returns the number of stored tokens, valid or not.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Returns the time by the clock of the emulated service.
    pub fn now(&self) -> Timestamp {
        Timestamp::now() + self.clock_offset
    }

    /// Returns all identities, oldest first.
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// Returns an identity by its full id, deleted or not.
    pub fn identity(&self, id: &str) -> Option<&Identity> {
        self.identities.get(*self.positions.get(id)?)
    }

    fn identity_mut(&mut self, id: &str) -> Option<&mut Identity> {
        self.identities.get_mut(*self.positions.get(id)?)
    }

    /// Whether an id belongs to this resource.
    pub fn owns(&self, id: &str) -> bool {
        id.strip_prefix("8:acs:")
            .and_then(|rest| rest.strip_prefix(self.resource.as_str()))
            .is_some_and(|rest| rest.starts_with('_'))
    }

    /// Returns the newest identity with this custom id.
    pub fn by_custom_id(&self, custom_id: &str) -> Option<&Identity> {
        let ignores_case = self.settings.custom_id_ignores_case;
        let same = self.by_custom_id.get(&custom_id.to_ascii_lowercase())?;
        let mut same = same.iter().rev().filter_map(|it| self.identities.get(*it));
        same.find(|it| ignores_case || it.custom_id.as_deref() == Some(custom_id))
    }

    /// Whether a revocation of tokens up to `valid_after` includes one issued at that time.
    pub fn covers(&self, valid_after: Timestamp, issued_at: Timestamp) -> bool {
        issued_at <= valid_after
            || self.settings.revoke_hits_same_second
                && issued_at.as_second() == valid_after.as_second()
    }

    /// Returns why a token is rejected at a time; `None` while it is valid.
    pub fn refusal(&self, token: &Token, now: Timestamp) -> Option<&'static str> {
        if now >= token.expires_at {
            return Some("expired");
        }
        let end = token.end?;
        let (delay, reason) = match end.cause {
            Cause::Revoked => (self.settings.revocation_delay, "revoked"),
            Cause::IdentityDeleted => (self.settings.revocation_delay, "identityDeleted"),
            Cause::KeyRegenerated => (SignedDuration::ZERO, "keyRegenerated"),
        };
        // Without a delay the invalidation is immediate, even if the clock was set back since.
        (delay.is_zero() || now >= end.at + delay).then_some(reason)
    }

    /// Applies an event.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Created { id, custom_id, at } => self.add(Identity {
                id,
                custom_id,
                created_at: at,
                deleted_at: None,
                tokens_valid_after: None,
                last_token_issued_at: None,
                tokens: Vec::new(),
            }),
            Event::Restored { id } => {
                if let Some(identity) = self.identity_mut(&id) {
                    identity.deleted_at = None;
                }
            }
            Event::Issued { id, token } => {
                if let Some(identity) = self.identity_mut(&id) {
                    identity.last_token_issued_at = Some(token.issued_at);
                    identity.tokens.push(token);
                    self.tokens += 1;
                }
            }
            Event::Revoked {
                id,
                valid_after,
                at,
            } => self.end(&id, Cause::Revoked, valid_after, at),
            Event::Deleted { id, at } => {
                self.end(&id, Cause::IdentityDeleted, Timestamp::MAX, at);
                if let Some(identity) = self.identity_mut(&id) {
                    identity.deleted_at = Some(at);
                }
            }
            Event::KeyChanged { key, value, at } => self.change_key(key, value, at),
            Event::Assigned { place, assignment } => {
                self.assignments.insert(place, assignment);
            }
            Event::Unassigned { place } => {
                self.assignments.remove(&place);
            }
            Event::Settings(settings) => self.settings = settings,
            Event::Clock { offset } => self.clock_offset = offset,
            Event::Forgotten { expired_at } => {
                for identity in &mut self.identities {
                    identity.tokens.retain(|it| it.expires_at > expired_at);
                }
                let each = self.identities.iter().map(|it| it.tokens.len());
                self.tokens = each.sum();
            }
            Event::Reset => {
                let resource = std::mem::take(&mut self.resource);
                *self = Self {
                    resource,
                    ..Self::new(self.primary.clone(), self.secondary.clone())
                };
            }
        }
    }

    fn end(&mut self, id: &str, cause: Cause, valid_after: Timestamp, at: Timestamp) {
        let Some(&position) = self.positions.get(id) else {
            return;
        };
        let mut covered = Vec::new();
        if let Some(identity) = self.identities.get(position) {
            let tokens = identity.tokens.iter();
            covered = tokens
                .map(|token| token.end.is_none() && self.covers(valid_after, token.issued_at))
                .collect();
        }
        if let Some(identity) = self.identities.get_mut(position) {
            let tokens = identity.tokens.iter_mut().zip(covered);
            for (token, _) in tokens.filter(|(_, is_covered)| *is_covered) {
                token.end = Some(End { at, cause });
            }
            if cause == Cause::Revoked {
                identity.tokens_valid_after = identity.tokens_valid_after.max(Some(valid_after));
            }
        }
    }

    fn change_key(&mut self, key: Signer, value: AccessKey, at: Timestamp) {
        match key {
            Signer::Primary => self.primary = value,
            Signer::Secondary => self.secondary = value,
            Signer::Entra => {}
        }
        let entra_too = self.settings.regenerate_kills_entra_tokens;
        let tokens = self.identities.iter_mut().flat_map(|it| &mut it.tokens);
        for token in tokens {
            if token.key == key || entra_too && token.key == Signer::Entra {
                // Immediately, regardless of the delay of an earlier revocation.
                let cause = Cause::KeyRegenerated;
                token.end = Some(End { at, cause });
            }
        }
    }
}
