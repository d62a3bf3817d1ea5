use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::engine::{IssueRequest, Why};
use crate::{
    acs::{IssuedToken, Resolved},
    crd::{AcsToken, ConnectionKey, Exchange, FormerToken, TokenRecord, fingerprint},
    renewal,
};

impl TokenRecord {
    /// Returns a record of the same size as that of the token that `request` asks for.
    #[must_use]
    pub fn placeholder(request: &IssueRequest, resolved: &Resolved, now: Timestamp) -> Self {
        let life = jiff::SignedDuration::from_hours(1);
        Self {
            identity_id: request.identity_id.clone(),
            parameters: request.parameters.clone(),
            issued_at: renewal::whole_seconds(now),
            expires_at: renewal::add(renewal::whole_seconds(now), life),
            life,
            fingerprint: "placeholder".to_owned(),
            credential: resolved.credential.clone(),
            exchange: None,
            former: None,
            revision: 1,
            restart_revision: None,
            request: None,
        }
    }

    /// Returns the record of the token in the answer to `request`, with times of both clocks (T2).
    #[must_use]
    pub fn issued(
        token: &AcsToken,
        request: &IssueRequest,
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
        let mut parameters = request.parameters.clone();
        let exchange = request.user_token.as_ref().map(|user_token| {
            // The request set no lifetime.
            parameters.expires_in = format!("{}m", life.as_secs().saturating_add(59) / 60);
            let left = user_token.expires_on.duration_since(issued_at);
            Box::new(Exchange {
                user_token: user_token.fingerprint.clone(),
                user_token_expires_at: renewal::add(received_at, left),
                connection: connection.reference(),
                endpoint: resolved.endpoint.to_string(),
            })
        });
        Self {
            identity_id: request.identity_id.clone(),
            parameters,
            issued_at,
            expires_at: renewal::add(received_at, life),
            life,
            fingerprint: fingerprint(&issued.token),
            credential: credential.clone(),
            exchange,
            former: former(token, request, credential, received_at).map(Box::new),
            revision: revision.saturating_add(1),
            restart_revision: restart_revision(token, request.why, revision.saturating_add(1)),
            request: match token.open_request() {
                Some(request) => Some(request.value.to_owned()),
                None => token
                    .status
                    .as_ref()
                    .and_then(|status| status.last_handled_request.clone()),
            },
        }
    }
}

/// Returns the revision that workloads are restarted for, after `revision` was issued because of
/// `why`.
fn restart_revision(token: &AcsToken, why: Why, revision: i64) -> Option<i64> {
    token.rollout_restarts().next()?;
    if replaces_useless(why, revision) {
        return Some(revision);
    }
    token.status.as_ref()?.restart_revision
}

/// Whether the token of that `revision`, issued because of `why`, replaced one that no longer
/// worked.
#[must_use]
pub fn replaces_useless(why: Why, revision: i64) -> bool {
    match why {
        Why::Revoked | Why::CredentialRefused | Why::Unsettled => true,
        // The former identity no longer exists, so its token no longer works.
        Why::First => revision > 1,
        _ => false,
    }
}

/// Returns what a token issued with `credential` at `now` leaves behind: whoever has read the
/// Secret can use a token of a former credential until it expires, unless it was revoked (C1).
fn former(
    token: &AcsToken,
    request: &IssueRequest,
    credential: &str,
    now: Timestamp,
) -> Option<FormerToken> {
    let status = token.status.as_ref()?;
    let is_same_identity = status.identity_id.as_deref() == Some(request.identity_id.as_str());
    if !is_same_identity || matches!(request.why, Why::Revoked | Why::CredentialRefused) {
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
