//! The token record: everything that is known about an issued token except the token itself.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest as _, Sha256};

use crate::digest;

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
/// Name of the key that holds the token; data under another key is not the token.
pub const TOKEN_KEY: &str = "acs-identity.dev/token-key";
/// Further annotations while a replaced token of a former credential may still be valid.
pub const FORMER: [&str; 2] = [
    "acs-identity.dev/former-expires-at",
    "acs-identity.dev/former-replaced-at",
];
/// Further annotations for a Teams user's token.
const USER_TOKEN: &str = "acs-identity.dev/user-token";
const USER_TOKEN_EXPIRES_AT: &str = "acs-identity.dev/user-token-expires-at";
const CONNECTION: &str = "acs-identity.dev/connection";
const ENDPOINT: &str = "acs-identity.dev/endpoint";
const REVISION: &str = "acs-identity.dev/revision";
/// Further annotations if workloads are restarted.
pub const RESTART_REVISION: &str = "acs-identity.dev/restart-revision";
const HANDLED_REQUEST: &str = "acs-identity.dev/handled-request";

/// Everything that is known about an issued token except the token itself. Stored as annotations of
/// its Secret, so that a crash between the writes of Secret and status loses nothing (T3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// Id in ACS of the identity that the token is issued for.
    pub identity_id: String,
    /// Requested parameters.
    pub parameters: TokenParameters,
    /// Issue time, by the clock of ACS, in whole seconds.
    pub issued_at: Timestamp,
    /// Expiry, by the operator's clock, in whole seconds.
    pub expires_at: Timestamp,
    /// Lifetime: `expiresOn` minus `Date` of the answer.
    pub life: SignedDuration,
    /// Fingerprint of the token.
    pub fingerprint: String,
    /// Fingerprint of the credential that the token was issued with.
    pub credential: String,
    /// The token of a former credential that it replaced, while that token may still be valid.
    pub former: Option<Box<FormerToken>>,
    /// Number of tokens issued for the object, including this one.
    pub revision: i64,
    /// Revision of the newest token that replaced a token that no longer worked, if workloads are
    /// restarted for that.
    pub restart_revision: Option<i64>,
    /// Last request (annotation acs-identity.dev/requested-at) that was handled with this token.
    pub request: Option<String>,
    /// Origin of the token. Set only for Teams users, which have no `AcsIdentity` to record it.
    pub exchange: Option<Box<Exchange>>,
}

/// Origin of a Teams user's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Fingerprint of the Entra token that the token was exchanged for.
    pub user_token: String,
    /// Expiry of the Entra token, by the operator's clock, in whole seconds.
    pub user_token_expires_at: Timestamp,
    /// Connection that the token was issued through.
    pub connection: ConnectionRef,
    /// Endpoint that issued the token.
    pub endpoint: String,
}

impl TokenRecord {
    /// Returns the record as annotations; `renew_at` is written for people only.
    #[must_use]
    pub fn annotations(&self, renew_at: Timestamp) -> BTreeMap<String, String> {
        let mut all: BTreeMap<_, _> = [
            (ISSUED_AT, self.issued_at.to_string()),
            (EXPIRES_AT, self.expires_at.to_string()),
            (RENEW_AT, renew_at.to_string()),
            (LIFE, self.life_text()),
            (IDENTITY_ID, self.identity_id.clone()),
            (SCOPES, scopes_text(&self.parameters.scopes)),
            (EXPIRES_IN, self.parameters.expires_in.clone()),
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

    /// Lifetime in seconds: `86400s`.
    #[must_use]
    pub fn life_text(&self) -> String {
        format!("{}s", self.life.as_secs())
    }

    /// Returns the record corrected by `status`, if that describes the same token: an edited
    /// annotation can neither extend a token nor exchange it (T9).
    #[must_use]
    pub fn bounded_by(mut self, status: &AcsTokenStatus) -> Self {
        if status.fingerprint.as_deref() != Some(self.fingerprint.as_str()) {
            return self;
        }
        if let Some(reported) = &status.expires_at {
            self.expires_at = reported.0;
        }
        if let Some(reported) = &status.issued_at {
            self.issued_at = reported.0;
        }
        if let Some(reported) = &status.identity_id {
            self.identity_id.clone_from(reported);
        }
        if let (Some(scopes), Some(expires_in)) = (&status.scopes, &status.expires_in) {
            self.parameters.scopes.clone_from(scopes);
            self.parameters.expires_in.clone_from(expires_in);
        }
        if let Some(reported) = &status.credential {
            self.credential.clone_from(reported);
        }
        if let Some(reported) = status.life.as_deref().and_then(life_in) {
            self.life = reported;
        }
        if let (Some(exchange), Some(reported)) = (&mut self.exchange, &status.user_token) {
            exchange.user_token.clone_from(&reported.fingerprint);
            exchange.user_token_expires_at = reported.expires_at.0;
        }
        self.former = status.former_token.clone().map(Box::new);
        self.revision = status.revision.unwrap_or(self.revision);
        self.restart_revision = status.restart_revision;
        self
    }

    /// Parses the annotations; `None` if one is missing or could not have been written by the
    /// operator.
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
            parameters: TokenParameters {
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
            // A revision in the future would cause a restart at every renewal.
            restart_revision: restart_revision.filter(|restart| *restart <= revision),
            request: text(HANDLED_REQUEST),
        })
    }

    /// Whether `status` describes exactly this token.
    #[must_use]
    pub fn is_reported_by(&self, status: &AcsTokenStatus) -> bool {
        status.fingerprint.as_deref() == Some(self.fingerprint.as_str())
            && status.issued_at == Some(Time(self.issued_at))
            && status.identity_id.as_deref() == Some(self.identity_id.as_str())
            && status.scopes.as_ref() == Some(&self.parameters.scopes)
            && status.expires_in.as_deref() == Some(self.parameters.expires_in.as_str())
    }
}

/// Kubernetes stores whole seconds. With fractions the record would never equal the status.
fn whole_second(time: Timestamp) -> Option<Timestamp> {
    (time.subsec_nanosecond() == 0).then_some(time)
}

/// Maximum lifetime: a day (ACS REST 2023-10-01). A Teams user's token may live longer by an hour and
/// some minutes.
const LONGEST_LIFE: SignedDuration = SignedDuration::from_hours(26);

fn life_in(text: &str) -> Option<SignedDuration> {
    let life: SignedDuration = text.parse().ok()?;
    (life.is_positive() && life <= LONGEST_LIFE).then_some(life)
}

/// Parses the former token, if any; `None` if the annotations are invalid.
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

/// Parses the origin of a Teams user's token, if any; `None` if the annotations are invalid.
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

/// Returns scopes as stored in the Secret: sorted and separated by commas.
#[must_use]
pub fn scopes_text(scopes: &BTreeSet<Scope>) -> String {
    let mut names: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
    names.sort_unstable();
    names.join(",")
}

/// Returns the fingerprint of a token: it identifies the token and cannot be used in its place.
#[must_use]
pub fn fingerprint(token: &SecretString) -> String {
    let hasher = Sha256::new()
        .chain_update("acs-identity-operator/token:")
        .chain_update(token.expose_secret());
    digest::short(hasher, 12)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::ConnectionKind;

    fn record() -> TokenRecord {
        TokenRecord {
            identity_id: "8:acs:a_b".to_owned(),
            parameters: TokenParameters {
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
        let record = record();
        let annotations = record.annotations(record.issued_at);
        assert_eq!(TokenRecord::from_annotations(&annotations), Some(record));
    }

    #[test]
    fn what_the_status_tells_of_the_token_counts_whoever_edits_the_annotations() {
        let status = AcsTokenStatus {
            fingerprint: Some("abc".to_owned()),
            life: Some("5400s".to_owned()),
            ..AcsTokenStatus::default()
        };
        let mut record = record();
        record.life = SignedDuration::from_secs(1);
        assert_eq!(
            record.clone().bounded_by(&status).life,
            SignedDuration::from_mins(90)
        );
        assert_eq!(record.clone().bounded_by(&status).former, None);
        record.fingerprint = "another".to_owned();
        assert_eq!(record.clone().bounded_by(&status), record);
    }

    #[test]
    fn facts_with_an_edited_annotation_are_no_facts() {
        let annotations = BTreeMap::from([(ISSUED_AT.to_owned(), "yesterday".to_owned())]);
        assert_eq!(TokenRecord::from_annotations(&annotations), None);
    }
}
