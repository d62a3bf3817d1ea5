//! The token record: all that is known of an issued token but the token itself.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::{AcsTokenStatus, ConnectionRef, FormerToken, Scope, TokenParameters};

const ISSUED_AT: &str = "acs-identity.dev/issued-at";
const EXPIRES_AT: &str = "acs-identity.dev/expires-at";
const RENEW_AT: &str = "acs-identity.dev/renew-at";
const LIFE: &str = "acs-identity.dev/life";
const IDENTITY_ID: &str = "acs-identity.dev/identity-id";
const SCOPES: &str = "acs-identity.dev/scopes";
const EXPIRES_IN: &str = "acs-identity.dev/expires-in";
const FINGERPRINT: &str = "acs-identity.dev/fingerprint";
const CREDENTIAL: &str = "acs-identity.dev/credential";
/// Names the key that holds the token: bytes under another key are not the token.
pub const TOKEN_KEY: &str = "acs-identity.dev/token-key";
/// Beside them, while a token of a former credential that stood here may be alive.
pub const FORMER: [&str; 2] = [
    "acs-identity.dev/former-expires-at",
    "acs-identity.dev/former-replaced-at",
];
/// Beside them, of a token of a Teams user.
const USER_TOKEN: &str = "acs-identity.dev/user-token";
const USER_TOKEN_EXPIRES_AT: &str = "acs-identity.dev/user-token-expires-at";
const CONNECTION: &str = "acs-identity.dev/connection";
const ENDPOINT: &str = "acs-identity.dev/endpoint";
const REVISION: &str = "acs-identity.dev/revision";
/// Beside them, where workloads are restarted.
pub const RESTART_REVISION: &str = "acs-identity.dev/restart-revision";
const HANDLED_REQUEST: &str = "acs-identity.dev/handled-request";

/// All that is known of an issued token but the token itself. Stored as annotations beside it, so
/// that a crash between Secret and status loses nothing (T3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// The identity in ACS that it is for.
    pub identity_id: String,
    /// What was asked for.
    pub shape: TokenParameters,
    /// When it was issued, by the service's clock, in whole seconds.
    pub issued_at: Timestamp,
    /// When it ends, by the operator's clock, in whole seconds.
    pub expires_at: Timestamp,
    /// How long it lives: the answer's `expiresOn` less the answer's `Date`.
    pub life: SignedDuration,
    /// Fingerprint of the token's bytes.
    pub fingerprint: String,
    /// Fingerprint of the credential that it was made with.
    pub credential: String,
    /// The token of a former credential whose place it took, while that may be alive.
    pub former: Option<Box<FormerToken>>,
    /// How many tokens have been issued for the object, this one included.
    pub revision: i64,
    /// Revision of the newest token that took the place of one that no longer worked, if workloads are
    /// restarted for that.
    pub restart_revision: Option<i64>,
    /// The last request (annotation acs-identity.dev/requested-at) that was obeyed with it.
    pub request: Option<String>,
    /// Whence it is, if it is a Teams user's: there is no `AcsIdentity` that tells.
    pub exchange: Option<Box<Exchange>>,
}

/// Whence the token of a Teams user is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Fingerprint of the Entra token that it was exchanged for.
    pub user_token: String,
    /// When that one ends, by the operator's clock, in whole seconds.
    pub user_token_expires_at: Timestamp,
    /// The connection that it was had through.
    pub connection: ConnectionRef,
    /// The endpoint that it was had from.
    pub endpoint: String,
}

impl TokenRecord {
    /// The annotations that say so; `renew_at` is told to people only.
    #[must_use]
    pub fn annotations(&self, renew_at: Timestamp) -> BTreeMap<String, String> {
        let mut all: BTreeMap<_, _> = [
            (ISSUED_AT, self.issued_at.to_string()),
            (EXPIRES_AT, self.expires_at.to_string()),
            (RENEW_AT, renew_at.to_string()),
            (LIFE, self.life_text()),
            (IDENTITY_ID, self.identity_id.clone()),
            (SCOPES, scopes_text(&self.shape.scopes)),
            (EXPIRES_IN, self.shape.expires_in.clone()),
            (FINGERPRINT, self.fingerprint.clone()),
            (CREDENTIAL, self.credential.clone()),
            (REVISION, self.revision.to_string()),
        ]
        .into_iter()
        .chain(
            self.request
                .clone()
                .map(|request| (HANDLED_REQUEST, request)),
        )
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
        if let Some(revision) = self.restart_revision {
            all.insert(RESTART_REVISION.to_owned(), revision.to_string());
        }
        if let Some(former) = &self.former {
            let times = [&former.expires_at, &former.replaced_at];
            let times = FORMER.into_iter().zip(times);
            all.extend(times.map(|(key, time)| (key.to_owned(), time.0.to_string())));
        }
        if let Some(exchange) = &self.exchange {
            let connection = &exchange.connection;
            let connection = format!("{}/{}", connection.kind.as_str(), connection.name);
            all.extend([
                (USER_TOKEN.to_owned(), exchange.user_token.clone()),
                (
                    USER_TOKEN_EXPIRES_AT.to_owned(),
                    exchange.user_token_expires_at.to_string(),
                ),
                (CONNECTION.to_owned(), connection),
                (ENDPOINT.to_owned(), exchange.endpoint.clone()),
            ]);
        }
        all
    }

    /// Its life, in seconds: `86400s`.
    #[must_use]
    pub fn life_text(&self) -> String {
        format!("{}s", self.life.as_secs())
    }

    /// The record as the `status` of its object tells it, where that is of the same token: whoever edits
    /// an annotation can't make a token end later, nor be another (T9).
    #[must_use]
    pub fn bounded_by(mut self, status: &AcsTokenStatus) -> Self {
        if status.fingerprint.as_deref() != Some(self.fingerprint.as_str()) {
            return self;
        }
        if let Some(told) = &status.expires_at {
            self.expires_at = told.0;
        }
        if let Some(told) = &status.issued_at {
            self.issued_at = told.0;
        }
        if let Some(told) = &status.identity_id {
            self.identity_id.clone_from(told);
        }
        if let (Some(scopes), Some(expires_in)) = (&status.scopes, &status.expires_in) {
            self.shape.scopes.clone_from(scopes);
            self.shape.expires_in.clone_from(expires_in);
        }
        if let Some(told) = &status.credential {
            self.credential.clone_from(told);
        }
        if let Some(told) = status.life.as_deref().and_then(life_in) {
            self.life = told;
        }
        if let (Some(exchange), Some(told)) = (&mut self.exchange, &status.user_token) {
            exchange.user_token.clone_from(&told.fingerprint);
            exchange.user_token_expires_at = told.expires_at.0;
        }
        self.former = status.former_token.clone().map(Box::new);
        self.revision = status.revision.unwrap_or(self.revision);
        self.restart_revision = status.restart_revision;
        self
    }

    /// Reads the annotations back; `None` when one is missing, or is nothing that we would write.
    #[must_use]
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let text = |key: &str| annotations.get(key).cloned();
        let scopes = text(SCOPES)?
            .split(',')
            .map(|scope| serde_json::from_value(scope.into()).ok())
            .collect::<Option<_>>()?;
        let revision = text(REVISION)?.parse().ok()?;
        let restart_revision = text(RESTART_REVISION).and_then(|text| text.parse().ok());
        Some(Self {
            exchange: exchange_in(annotations)?,
            identity_id: text(IDENTITY_ID)?,
            shape: TokenParameters {
                scopes,
                expires_in: text(EXPIRES_IN)?,
            },
            issued_at: whole_second(text(ISSUED_AT)?.parse().ok()?)?,
            expires_at: whole_second(text(EXPIRES_AT)?.parse().ok()?)?,
            life: life_in(&text(LIFE)?)?,
            fingerprint: text(FINGERPRINT)?,
            credential: text(CREDENTIAL)?,
            former: former_in(annotations)?,
            revision,
            // One of the future would cause a restart at every renewal.
            restart_revision: restart_revision.filter(|restart| *restart <= revision),
            request: text(HANDLED_REQUEST),
        })
    }

    /// Whether `status` tells just this token.
    #[must_use]
    pub fn is_told_by(&self, status: &AcsTokenStatus) -> bool {
        status.fingerprint.as_deref() == Some(self.fingerprint.as_str())
            && status.issued_at == Some(Time(self.issued_at))
            && status.identity_id.as_deref() == Some(self.identity_id.as_str())
            && status.scopes.as_ref() == Some(&self.shape.scopes)
            && status.expires_in.as_deref() == Some(self.shape.expires_in.as_str())
    }
}

/// What Kubernetes stores, and we write, are whole seconds: with another one, what the status tells
/// would never be the same.
fn whole_second(time: Timestamp) -> Option<Timestamp> {
    (time.subsec_nanosecond() == 0).then_some(time)
}

/// No token lives longer than a day (ACS REST 2023-10-01), or an hour and some minutes more where it
/// is a Teams user's.
const LONGEST_LIFE: SignedDuration = SignedDuration::from_hours(26);

fn life_in(text: &str) -> Option<SignedDuration> {
    let life: SignedDuration = text.parse().ok()?;
    (life.is_positive() && life <= LONGEST_LIFE).then_some(life)
}

/// The former token that the annotations tell, if any; `None` when they were edited into nonsense.
#[allow(
    clippy::option_option,
    reason = "there may be none, and that is no nonsense"
)]
fn former_in(annotations: &BTreeMap<String, String>) -> Option<Option<Box<FormerToken>>> {
    match FORMER.map(|key| annotations.get(key)) {
        [None, None] => Some(None),
        [expires_at, replaced_at] => Some(Some(Box::new(FormerToken {
            expires_at: Time(expires_at?.parse().ok()?),
            replaced_at: Time(replaced_at?.parse().ok()?),
        }))),
    }
}

/// Whence a Teams user's token is, if the annotations tell; `None` when they were edited into
/// nonsense.
#[allow(clippy::option_option, reason = "as above")]
fn exchange_in(annotations: &BTreeMap<String, String>) -> Option<Option<Box<Exchange>>> {
    let keys = [USER_TOKEN, USER_TOKEN_EXPIRES_AT, CONNECTION, ENDPOINT];
    let [user_token, expires_at, connection, endpoint] = keys.map(|key| annotations.get(key));
    if user_token.is_none() && endpoint.is_none() {
        return Some(None);
    }
    let (kind, name) = connection?.split_once('/')?;
    Some(Some(Box::new(Exchange {
        user_token: user_token?.clone(),
        user_token_expires_at: expires_at?.parse().ok()?,
        connection: ConnectionRef {
            kind: serde_json::from_value(kind.into()).ok()?,
            name: name.to_owned(),
        },
        endpoint: endpoint?.clone(),
    })))
}

/// Scopes as they stand in the Secret: sorted, comma-joined.
#[must_use]
pub fn scopes_text(scopes: &BTreeSet<Scope>) -> String {
    let mut names: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
    names.sort_unstable();
    names.join(",")
}

/// A fingerprint of a token: enough to recognise it, of no use to a thief.
#[must_use]
pub fn fingerprint(token: &SecretString) -> String {
    let digest = Sha256::new()
        .chain_update("acs-identity-operator/token:")
        .chain_update(token.expose_secret())
        .finalize();
    URL_SAFE_NO_PAD.encode(digest.get(..12).unwrap_or(&digest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::ConnectionKind;

    fn facts() -> TokenRecord {
        TokenRecord {
            identity_id: "8:acs:a_b".to_owned(),
            shape: TokenParameters {
                scopes: [Scope::Voip, Scope::ChatJoin].into(),
                expires_in: "90m".to_owned(),
            },
            issued_at: Timestamp::from_second(1_800_000_000).unwrap(),
            expires_at: Timestamp::from_second(1_800_005_400).unwrap(),
            life: SignedDuration::from_mins(90),
            fingerprint: "abc".to_owned(),
            credential: "0123".to_owned(),
            former: Some(Box::new(FormerToken {
                expires_at: Time(Timestamp::from_second(1_800_002_000).unwrap()),
                replaced_at: Time(Timestamp::from_second(1_800_000_000).unwrap()),
            })),
            revision: 7,
            restart_revision: Some(5),
            request: Some("2026-01-01T00:00:00Z".to_owned()),
            exchange: Some(Box::new(Exchange {
                user_token: "def".to_owned(),
                user_token_expires_at: Timestamp::from_second(1_800_003_000).unwrap(),
                connection: ConnectionRef {
                    kind: ConnectionKind::ClusterAcsConnection,
                    name: "teams".to_owned(),
                },
                endpoint: "https://contoso.communication.azure.com".to_owned(),
            })),
        }
    }

    #[test]
    fn facts_survive_the_way_through_annotations() {
        let facts = facts();
        let annotations = facts.annotations(facts.issued_at);
        assert_eq!(TokenRecord::from_annotations(&annotations), Some(facts));
    }

    #[test]
    fn what_the_status_tells_of_the_token_counts_whoever_edits_the_annotations() {
        let status = AcsTokenStatus {
            fingerprint: Some("abc".to_owned()),
            life: Some("5400s".to_owned()),
            ..AcsTokenStatus::default()
        };
        let mut facts = facts();
        facts.life = SignedDuration::from_secs(1);
        assert_eq!(
            facts.clone().bounded_by(&status).life,
            SignedDuration::from_mins(90)
        );
        assert_eq!(facts.clone().bounded_by(&status).former, None);
        facts.fingerprint = "another".to_owned();
        assert_eq!(facts.clone().bounded_by(&status), facts);
    }

    #[test]
    fn facts_with_an_edited_annotation_are_no_facts() {
        let annotations = BTreeMap::from([(ISSUED_AT.to_owned(), "yesterday".to_owned())]);
        assert_eq!(TokenRecord::from_annotations(&annotations), None);
    }
}
