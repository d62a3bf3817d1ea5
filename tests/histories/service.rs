//! The ACS identity service: identities, tokens, revocations, keys, and its own clock.

use std::collections::{BTreeMap, BTreeSet};

use acs_identity_operator::{
    acs::{Kind, Outcome},
    crd::{TokenParameters, fingerprint},
};
use jiff::SignedDuration;
use secrecy::SecretString;

/// Milliseconds, of whichever clock.
pub type Millis = i64;

/// What the operator asks the service for.
#[derive(Clone, Debug)]
pub enum Request {
    /// `uid`: for which object; the service does not see it unless it is the custom id.
    Create {
        custom_id: Option<String>,
        uid: String,
    },
    Issue {
        id: String,
        parameters: TokenParameters,
        uid: String,
        why: &'static str,
        /// The Entra token, where it is exchanged.
        user_token: Option<String>,
    },
    Revoke {
        id: String,
    },
    Delete {
        id: String,
    },
}

/// A success; `date` is the answer's `Date`, in seconds.
#[derive(Clone, Debug)]
pub enum Success {
    Created(String),
    Issued { text: String, expires: Millis },
    Revoked { earlier_attempt_lost: bool },
    Deleted,
}

/// A failure, as the client tells it after its own retries.
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

/// Who killed a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoker {
    /// The operator, by a call that was answered or may still be.
    Operator,
    /// A call of the operator that came long after its answer was given up.
    Straggler,
    /// Somebody else.
    Stranger,
}

#[derive(Clone, Debug)]
pub struct Token {
    pub text: String,
    pub fingerprint: String,
    /// The UID of the object that it was issued for.
    pub uid: String,
    pub parameters: TokenParameters,
    pub why: &'static str,
    /// The Entra token that it was exchanged for, and when that ends, by the service's clock.
    pub exchanged_for: Option<(String, Millis)>,
    /// Both by the service's clock.
    pub issued: Millis,
    pub expires: Millis,
    /// The credential that it was made with.
    pub key: String,
    pub revoked: Option<Revoker>,
    /// The process that lives now has had it as an answer.
    pub is_known: bool,
    /// It reached a Secret.
    pub is_stored: bool,
    /// It reached a status.
    pub is_told: bool,
    /// Its Secret was destroyed by someone else before the status told it.
    pub is_lost: bool,
    /// How far the clocks had jumped in all when it was issued.
    pub jumped: Millis,
}

#[derive(Clone, Debug, Default)]
pub struct Identity {
    pub custom_id: Option<String>,
    /// The UID of the object that it was created for; none for one that existed before.
    pub made_for: Option<String>,
    /// Tokens of this second or before are dead, and by whom.
    pub valid_after: Option<(i64, Revoker)>,
    pub tokens: Vec<Token>,
    pub is_deleted: bool,
    /// It belongs to another resource now.
    pub is_not_owned: bool,
}

#[derive(Debug)]
pub struct Service {
    pub identities: BTreeMap<String, Identity>,
    /// The credentials that it takes.
    pub keys: BTreeSet<String>,
    pub is_down: bool,
    /// How long a minute of a token's life lasts.
    pub minute: Millis,
    /// It grants no more, in minutes.
    pub most_minutes: u32,
    /// All Entra tokens of the Teams user, and when they end.
    pub user_tokens: BTreeMap<String, Millis>,
    /// A token outlives the Entra token that it was exchanged for by so much.
    pub exchange_outlives: Option<Millis>,
    made: usize,
}

impl Token {
    /// How long it lives.
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

    /// An identity, made by us or by someone else.
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

    /// Does what is asked for, at `now` of its clock.
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
                // The service tells tokens apart by whole seconds only (R3).
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

    /// Kills every token of the second of `now` and before.
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

    /// The token with these bytes.
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

    /// Whether a client that shows the token gets in at `now` of the service's clock.
    pub fn lets_in(&self, token: &Token, now: Millis) -> bool {
        let is_gone = self.identities.values().any(|identity| {
            identity.is_deleted && identity.tokens.iter().any(|other| other.text == token.text)
        });
        token.revoked.is_none() && now < token.expires && self.keys.contains(&token.key) && !is_gone
    }
}
