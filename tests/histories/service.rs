//! ACS identity service: identities, tokens, revocations, keys, and its own clock.

use std::collections::{BTreeMap, BTreeSet};

use acs_identity_operator::{
    acs::{Kind, Outcome},
    crd::{TokenParameters, fingerprint},
};
use jiff::SignedDuration;
use secrecy::SecretString;

/// Milliseconds by any of the clocks.
pub type Millis = i64;

/// Request of the operator to the service.
#[derive(Clone, Debug)]
pub enum Request {
    /// `uid`: UID of the object; the service does not see it unless it is the custom id.
    Create {
        custom_id: Option<String>,
        uid: String,
    },
    Issue {
        id: String,
        parameters: TokenParameters,
        uid: String,
        why: &'static str,
        /// Entra token, in case of an exchange.
        user_token: Option<String>,
    },
    Revoke {
        id: String,
    },
    Delete {
        id: String,
    },
}

/// Success; `date` is the answer's `Date`, in seconds.
#[derive(Clone, Debug)]
pub enum Success {
    Created(String),
    Issued { text: String, expires: Millis },
    Revoked { earlier_attempt_lost: bool },
    Deleted,
}

/// Failure, as the client reports it after its own retries.
#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: Kind,
    pub outcome: Outcome,
    pub is_lost: bool,
    pub retry_after: Option<SignedDuration>,
}

impl Failure {
    pub fn new(kind: Kind, outcome: Outcome) -> Self {
        Self {
            kind,
            outcome,
            is_lost: kind == Kind::NoAnswer,
            retry_after: None,
        }
    }
}

/// Revoker of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoker {
    /// The operator, by a call that was answered or may still be.
    Operator,
    /// A call of the operator that arrived long after the operator gave up its answer.
    Straggler,
    /// Another client.
    Stranger,
}

#[derive(Clone, Debug)]
pub struct Token {
    pub text: String,
    pub fingerprint: String,
    /// UID of the object that it was issued for.
    pub uid: String,
    pub parameters: TokenParameters,
    pub why: &'static str,
    /// Entra token that it was exchanged for, and its expiry, by the service's clock.
    pub exchanged_for: Option<(String, Millis)>,
    /// Both by the service's clock.
    pub issued: Millis,
    pub expires: Millis,
    /// Credential that it was issued with.
    pub key: String,
    pub revoked: Option<Revoker>,
    /// Whether the current process received it as an answer.
    pub is_known: bool,
    /// Whether it was written to a Secret.
    pub is_stored: bool,
    /// Whether it was written to a status.
    pub is_told: bool,
    /// Whether its Secret was destroyed by others before it was written to the status.
    pub is_lost: bool,
    /// Sum of the clock jumps before it was issued.
    pub jumped: Millis,
}

#[derive(Clone, Debug, Default)]
pub struct Identity {
    pub custom_id: Option<String>,
    /// UID of the object that it was created for; `None` if it existed before.
    pub made_for: Option<String>,
    /// Second up to which all tokens are invalid, and the revoker.
    pub valid_after: Option<(i64, Revoker)>,
    pub tokens: Vec<Token>,
    pub is_deleted: bool,
    /// Whether it belongs to another resource now.
    pub is_not_owned: bool,
}

#[derive(Debug)]
pub struct Service {
    pub identities: BTreeMap<String, Identity>,
    /// Accepted credentials.
    pub keys: BTreeSet<String>,
    pub is_down: bool,
    /// Duration of a minute of token lifetime.
    pub minute: Millis,
    /// Maximum granted lifetime, in minutes.
    pub most_minutes: u32,
    /// All Entra tokens of the Teams user, with their expiry.
    pub user_tokens: BTreeMap<String, Millis>,
    /// Time by which a token outlives the Entra token that it was exchanged for.
    pub exchange_outlives: Option<Millis>,
    made: usize,
}

impl Token {
    /// Returns the lifetime.
    pub fn life(&self) -> Millis {
        self.expires - self.issued
    }
}

impl Service {
    pub fn new(minute: Millis, most_minutes: u32) -> Self {
        Self {
            identities: BTreeMap::new(),
            keys: BTreeSet::new(),
            is_down: false,
            minute,
            most_minutes,
            user_tokens: BTreeMap::new(),
            exchange_outlives: None,
            made: 0,
        }
    }

    /// Creates an identity, for the operator or for another client.
    pub fn make(&mut self, custom_id: Option<&str>, made_for: Option<&str>) -> String {
        let known = self.identities.iter().find(|(_, identity)| {
            custom_id.is_some() && identity.custom_id.as_deref() == custom_id
        });
        if let Some((id, _)) = known {
            return id.clone();
        }
        self.made += 1;
        let id = format!("8:acs:r_{}", self.made);
        let identity = Identity {
            custom_id: custom_id.map(ToOwned::to_owned),
            made_for: made_for.map(ToOwned::to_owned),
            ..Identity::default()
        };
        self.identities.insert(id.clone(), identity);
        id
    }

    /// Executes a request, at `now` by the service's clock.
    pub fn answer(
        &mut self,
        request: &Request,
        key: &str,
        now: Millis,
        jumped: Millis,
    ) -> Result<Success, Failure> {
        if !self.keys.contains(key) {
            return Err(Failure::new(Kind::CredentialRefused, Outcome::NotDone));
        }
        match request {
            Request::Create { custom_id, uid } => {
                Ok(Success::Created(self.make(custom_id.as_deref(), Some(uid))))
            }
            Request::Issue {
                id,
                parameters,
                uid,
                why,
                user_token,
            } => {
                let (minute, most) = (self.minute, self.most_minutes);
                let exchanged_for = match user_token {
                    None => None,
                    Some(text) => match self.user_tokens.get(text) {
                        Some(end) if *end > now => Some((text.clone(), *end)),
                        _ => return Err(Failure::new(Kind::InvalidUserToken, Outcome::NotDone)),
                    },
                };
                let outlives = self.exchange_outlives.unwrap_or_default();
                self.made += 1;
                let text = format!("token-{}", self.made);
                let identity = self.identity(id)?;
                let most = Millis::from(parameters.minutes().min(most)) * minute;
                let left = exchanged_for.as_ref().map(|(_, end)| end + outlives - now);
                let life = left.map_or(most, |left| left.min(most));
                let mut token = Token {
                    fingerprint: fingerprint(&SecretString::from(text.clone())),
                    text: text.clone(),
                    uid: uid.clone(),
                    parameters: parameters.clone(),
                    why,
                    exchanged_for,
                    issued: now,
                    expires: now + life,
                    key: key.to_owned(),
                    revoked: None,
                    is_known: false,
                    is_stored: false,
                    is_told: false,
                    is_lost: false,
                    jumped,
                };
                // The service distinguishes tokens by whole seconds only (R3).
                let dead = identity
                    .valid_after
                    .filter(|(second, _)| *second >= now.div_euclid(1000));
                token.revoked = dead.map(|(_, revoker)| revoker);
                let expires = token.expires;
                identity.tokens.push(token);
                Ok(Success::Issued { text, expires })
            }
            Request::Revoke { id } => {
                self.revoke(id, now, Revoker::Operator)?;
                Ok(Success::Revoked {
                    earlier_attempt_lost: false,
                })
            }
            Request::Delete { id } => {
                match self.identity(id) {
                    Ok(identity) => identity.is_deleted = true,
                    Err(failure) if failure.kind == Kind::IdentityNotFound => {}
                    Err(failure) => return Err(failure),
                }
                Ok(Success::Deleted)
            }
        }
    }

    /// Revokes every token issued up to and including the second of `now`.
    pub fn revoke(&mut self, id: &str, now: Millis, revoker: Revoker) -> Result<(), Failure> {
        let second = now.div_euclid(1000);
        let identity = self.identity(id)?;
        if identity
            .valid_after
            .is_none_or(|(former, _)| former < second)
        {
            identity.valid_after = Some((second, revoker));
        }
        let alive = identity.tokens.iter_mut().filter(|t| t.revoked.is_none());
        for token in alive.filter(|token| token.issued.div_euclid(1000) <= second) {
            token.revoked = Some(revoker);
        }
        Ok(())
    }

    fn identity(&mut self, id: &str) -> Result<&mut Identity, Failure> {
        match self.identities.get_mut(id) {
            Some(identity) if identity.is_not_owned => {
                Err(Failure::new(Kind::IdentityNotOwned, Outcome::NotDone))
            }
            Some(identity) if !identity.is_deleted => Ok(identity),
            _ => Err(Failure::new(Kind::IdentityNotFound, Outcome::NotDone)),
        }
    }

    /// Returns the token with these bytes.
    pub fn token(&self, text: &str) -> Option<&Token> {
        self.tokens().find(|token| token.text == text)
    }

    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.identities
            .values()
            .flat_map(|identity| &identity.tokens)
    }

    pub fn tokens_mut(&mut self) -> impl Iterator<Item = &mut Token> {
        self.identities
            .values_mut()
            .flat_map(|identity| &mut identity.tokens)
    }

    /// Whether the service accepts the token at `now` by its clock.
    pub fn lets_in(&self, token: &Token, now: Millis) -> bool {
        let is_gone = self.identities.values().any(|identity| {
            identity.is_deleted && identity.tokens.iter().any(|other| other.text == token.text)
        });
        token.revoked.is_none() && now < token.expires && self.keys.contains(&token.key) && !is_gone
    }
}
