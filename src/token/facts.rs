use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::{
    decide::{IssueOrder, Why},
    limits::Limits,
};
use crate::{
    acs::IssuedToken,
    connection::{ConnectionKey, Resolved},
    crd::{
        AcsToken, AcsTokenStatus, ConnectionRef, FormerToken, Revocation, Scope, parse_duration,
    },
    renewal,
};

/// The reason of everything that a policy forbids.
pub const POLICY_DENIED: &str = "PolicyDenied";
/// The longest life of a token, and the one that is asked for by default (ACS REST 2023-10-01).
const DEFAULT_LIFE: &str = "24h";

const ISSUED_AT: &str = "acs-identity.dev/issued-at";
const EXPIRES_AT: &str = "acs-identity.dev/expires-at";
const RENEW_AT: &str = "acs-identity.dev/renew-at";
const LIFE: &str = "acs-identity.dev/life";
const IDENTITY_ID: &str = "acs-identity.dev/identity-id";
const SCOPES: &str = "acs-identity.dev/scopes";
const EXPIRES_IN: &str = "acs-identity.dev/expires-in";
const FINGERPRINT: &str = "acs-identity.dev/fingerprint";
const CREDENTIAL: &str = "acs-identity.dev/credential";
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
const HANDLED_REQUEST: &str = "acs-identity.dev/handled-request";

/// What makes a token what it is: a change of it costs a new token (T4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// What the token allows.
    pub scopes: BTreeSet<Scope>,
    /// The life that is asked for, as it is written in `spec`.
    pub expires_in: String,
}

impl Shape {
    /// The shape that `token`'s spec asks for within `limits`.
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

    /// Whether this is what `token`'s spec asks for within `limits`. Where it asks for no life, any
    /// that is allowed will do, so that a policy that grows costs no token.
    #[must_use]
    pub fn is_wanted_by(&self, token: &AcsToken, limits: &Limits) -> bool {
        let wanted = Self::wanted(token, limits);
        let fits = match token.spec.expires_in {
            Some(_) => self.minutes() == wanted.minutes(),
            None => self.minutes() <= wanted.minutes(),
        };
        self.scopes == wanted.scopes && fits
    }

    /// The life in whole minutes, rounded up, within what the service takes (60 to 1440).
    #[must_use]
    pub fn minutes(&self) -> u32 {
        let minutes = self.life().as_secs().saturating_add(59) / 60;
        u32::try_from(minutes.clamp(60, 1440)).unwrap_or(1440)
    }

    fn life(&self) -> SignedDuration {
        parse_duration(&self.expires_in).unwrap_or(SignedDuration::from_hours(24))
    }

    /// Whether both ask the service for the same token; `60m` and `1h` do.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.scopes == other.scopes && self.minutes() == other.minutes()
    }

    /// Whether going from `self` to `next` takes something away.
    #[must_use]
    pub fn is_narrowed_by(&self, next: &Self) -> bool {
        !self.scopes.is_subset(&next.scopes) || next.minutes() < self.minutes()
    }
}

/// All that is known of an issued token but the token itself. Stored as annotations beside it, so
/// that a crash between Secret and status loses nothing (T3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFacts {
    /// The identity in ACS that it is for.
    pub identity_id: String,
    /// What was asked for.
    pub shape: Shape,
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

impl TokenFacts {
    /// What the answer to `order`, had through the connection, tells of the token, in the frames of
    /// both clocks (T2).
    #[must_use]
    pub fn issued(
        token: &AcsToken,
        order: &IssueOrder,
        issued: &IssuedToken,
        connection: &ConnectionKey,
        resolved: &Resolved,
    ) -> Self {
        let credential = &resolved.credential;
        let expires_on = renewal::whole_seconds(issued.expires_on);
        let issued_at = renewal::whole_seconds(issued.date);
        let life = expires_on.duration_since(issued_at);
        let revision = token
            .status
            .as_ref()
            .and_then(|status| status.revision)
            .unwrap_or(0);
        let received_at = renewal::whole_seconds(issued.received_at);
        let mut shape = order.shape.clone();
        let exchange = order.user_token.as_ref().map(|user_token| {
            // No life was asked for.
            shape.expires_in = format!("{}m", life.as_secs().saturating_add(59) / 60);
            let left = user_token.expires_on.duration_since(issued_at);
            Box::new(Exchange {
                user_token: user_token.fingerprint.clone(),
                user_token_expires_at: renewal::add(received_at, left),
                connection: connection.reference(),
                endpoint: resolved.endpoint.to_string(),
            })
        });
        Self {
            identity_id: order.identity_id.clone(),
            shape,
            issued_at,
            expires_at: renewal::add(received_at, life),
            life,
            fingerprint: fingerprint(&issued.token),
            credential: credential.clone(),
            exchange,
            former: former(token, order, credential, received_at).map(Box::new),
            revision: revision.saturating_add(1),
            request: match token.open_request() {
                Some(request) => Some(request.value.to_owned()),
                None => token
                    .status
                    .as_ref()
                    .and_then(|status| status.last_handled_request.clone()),
            },
        }
    }

    /// The annotations that say so; `renew_at` is told to people only.
    #[must_use]
    pub fn annotations(&self, renew_at: Timestamp) -> BTreeMap<String, String> {
        let mut all: BTreeMap<_, _> = [
            (ISSUED_AT, self.issued_at.to_string()),
            (EXPIRES_AT, self.expires_at.to_string()),
            (RENEW_AT, renew_at.to_string()),
            (LIFE, format!("{}s", self.life.as_secs())),
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

    /// Reads the annotations back; `None` when one is missing or was edited into nonsense.
    #[must_use]
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let text = |key: &str| annotations.get(key).cloned();
        let scopes = text(SCOPES)?
            .split(',')
            .map(|scope| serde_json::from_value(scope.into()).ok())
            .collect::<Option<_>>()?;
        Some(Self {
            exchange: exchange_in(annotations)?,
            identity_id: text(IDENTITY_ID)?,
            shape: Shape {
                scopes,
                expires_in: text(EXPIRES_IN)?,
            },
            issued_at: text(ISSUED_AT)?.parse().ok()?,
            expires_at: text(EXPIRES_AT)?.parse().ok()?,
            life: text(LIFE)?.parse().ok()?,
            fingerprint: text(FINGERPRINT)?,
            credential: text(CREDENTIAL)?,
            former: former_in(annotations)?,
            revision: text(REVISION)?.parse().ok()?,
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

/// What a token made with `credential` at `now` leaves behind: tokens of former credentials live on
/// until they end, with whoever has read the Secret, unless they were revoked (C1).
fn former(
    token: &AcsToken,
    order: &IssueOrder,
    credential: &str,
    now: Timestamp,
) -> Option<FormerToken> {
    let status = token.status.as_ref()?;
    let is_same_identity = status.identity_id.as_deref() == Some(order.identity_id.as_str());
    if !is_same_identity || matches!(order.why, Why::Revoked | Why::CredentialRefused) {
        return None;
    }
    let earlier = status.former_token.clone();
    let earlier = earlier.filter(|earlier| earlier.expires_at.0 > now);
    let replaced = status.expires_at.clone().filter(|_| {
        let made_with = status.credential.as_deref();
        made_with.is_some_and(|made_with| made_with != credential)
    });
    let Some(expires_at) = replaced.filter(|expires_at| expires_at.0 > now) else {
        return earlier;
    };
    Some(FormerToken {
        expires_at: Time(earlier.map_or(expires_at.0, |earlier| {
            earlier.expires_at.0.max(expires_at.0)
        })),
        replaced_at: Time(now),
    })
}

/// What the identity must know of one of its tokens to coordinate a revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The `AcsToken`'s name.
    pub name: String,
    /// When its last recorded token was issued, by the service's clock.
    pub issued_at: Timestamp,
    /// Whether the token is of the identity's own object, not of one that shares the id.
    pub is_own: bool,
    /// Whether it is marked as not Ready.
    pub is_marked: bool,
    /// Why its token must be revoked now, if it must.
    pub asks: Option<&'static str>,
    /// Whether its end, or the end of its identity, asks for a revocation.
    pub asks_at_the_end: bool,
}

/// What `token` asks of the identity `identity_id`: nothing unless a token of it was issued. What
/// is beyond `limits` has to go, whatever the object says.
#[must_use]
pub fn claim(token: &AcsToken, identity_id: &str, limits: &Limits) -> Option<Claim> {
    if token.spec.teams_user.is_some() {
        // Nobody can revoke it.
        return None;
    }
    let status = token.status.as_ref()?;
    if status.identity_id.as_deref() != Some(identity_id) {
        return None;
    }
    let issued_at = status.issued_at.as_ref()?.0;
    let held = Shape {
        scopes: status.scopes.clone()?,
        expires_in: status.expires_in.clone()?,
    };
    let wanted = Shape::wanted(token, limits);
    let revocation = token.spec.revocation.unwrap_or_default();
    let is_denied = limits.denial(&held).is_some();
    let is_revocable = revocation != Revocation::Never;
    let changed = match revocation {
        Revocation::OnChange => !held.is_wanted_by(token, limits),
        Revocation::OnNarrowing => held.is_narrowed_by(&wanted),
        Revocation::Never => false,
    };
    let asks = if is_revocable && token.metadata.deletion_timestamp.is_some() {
        Some("TokenDeleted")
    } else if is_denied {
        Some(POLICY_DENIED)
    } else if changed {
        Some("TokenChanged")
    } else {
        None
    };
    Some(Claim {
        name: token.metadata.name.clone().unwrap_or_default(),
        issued_at,
        is_own: true,
        is_marked: !crate::crd::is_ready(&status.conditions),
        asks,
        asks_at_the_end: is_revocable || is_denied,
    })
}

/// Whether a Secret with these annotations holds a token of the identity that `token`'s status does
/// not tell, and whose end asks for a revocation: with the Secret the only trace of it goes.
#[must_use]
pub fn is_untold_claim(
    token: &AcsToken,
    identity_id: &str,
    annotations: &BTreeMap<String, String>,
    limits: &Limits,
) -> bool {
    let is_revocable = token.spec.revocation.unwrap_or_default() != Revocation::Never;
    TokenFacts::from_annotations(annotations).is_some_and(|facts| {
        let is_told = token.status.as_ref().is_some_and(|s| facts.is_told_by(s));
        let asks = is_revocable || limits.denial(&facts.shape).is_some();
        facts.identity_id == identity_id && !is_told && asks
    })
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

    fn shape(scopes: &[Scope], expires_in: &str) -> Shape {
        Shape {
            scopes: scopes.iter().copied().collect(),
            expires_in: expires_in.to_owned(),
        }
    }

    #[test]
    fn facts_survive_the_way_through_annotations() {
        let facts = TokenFacts {
            identity_id: "8:acs:a_b".to_owned(),
            shape: shape(&[Scope::Voip, Scope::ChatJoin], "90m"),
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
        };
        let annotations = facts.annotations(facts.issued_at);
        assert_eq!(TokenFacts::from_annotations(&annotations), Some(facts));
    }

    #[test]
    fn facts_with_an_edited_annotation_are_no_facts() {
        let annotations = BTreeMap::from([(ISSUED_AT.to_owned(), "yesterday".to_owned())]);
        assert_eq!(TokenFacts::from_annotations(&annotations), None);
    }

    #[test]
    fn sixty_minutes_are_an_hour_and_no_change() {
        assert!(shape(&[Scope::Chat], "60m").is_same_as(&shape(&[Scope::Chat], "1h")));
    }

    #[test]
    fn losing_a_scope_or_life_narrows_and_gaining_does_not() {
        let held = shape(&[Scope::Chat, Scope::Voip], "2h");
        assert!(held.is_narrowed_by(&shape(&[Scope::Chat], "2h")));
        assert!(held.is_narrowed_by(&shape(&[Scope::Chat, Scope::Voip], "1h")));
        assert!(held.is_narrowed_by(&shape(&[Scope::Chat, Scope::VoipJoin], "2h")));
        assert!(!held.is_narrowed_by(&shape(&[Scope::Chat, Scope::Voip, Scope::VoipJoin], "24h")));
    }
}
