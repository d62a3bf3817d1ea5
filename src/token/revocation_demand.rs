//! Revocations that a token demands of its identity. Only the identity revokes (R1).

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{limits::Limits, wanted::record_of};
use crate::crd::{AcsToken, Reason, Revocation, TokenParameters};

/// What the identity needs to know about one of its tokens to coordinate a revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationDemand {
    /// Name of the `AcsToken`.
    pub name: String,
    /// Time at which its last recorded token was issued, by the clock of ACS.
    pub issued_at: Timestamp,
    /// Time at which the newest of its tokens was issued, by the clock of ACS. It is later than
    /// `issued_at` if that clock has stepped back.
    pub newest_issue: Timestamp,
    /// Whether the token belongs to the identity's own object, not to one that shares the id.
    pub is_own: bool,
    /// Whether the token is marked as not Ready.
    pub is_marked: bool,
    /// Why its token must be revoked now, if it must.
    pub asks: Option<Reason>,
    /// Whether the deletion of the token or of its identity demands a revocation.
    pub asks_at_the_end: bool,
}

/// Returns what `token` demands of the identity `identity_id`; `None` if no token of that identity
/// was issued. A token outside `limits` must be revoked, whatever the spec says.
#[must_use]
pub fn demand(token: &AcsToken, identity_id: &str, limits: &Limits) -> Option<RevocationDemand> {
    if token.spec.teams_user.is_some() {
        // Tokens of Teams users cannot be revoked.
        return None;
    }
    let status = token.status.as_ref()?;
    if status.identity_id.as_deref() != Some(identity_id) {
        return None;
    }
    let issued_at = status.issued_at.as_ref()?.0;
    let newest_issue = status.newest_issued_at.as_ref().map(|at| at.0);
    let held = TokenParameters {
        scopes: status.scopes.clone()?,
        expires_in: status.expires_in.clone()?,
    };
    let wanted = TokenParameters::wanted(token, limits);
    let revocation = token.spec.revocation.unwrap_or_default();
    let is_denied = limits.denial(&held).is_some();
    let is_revocable = revocation != Revocation::Never;
    let changed = match revocation {
        Revocation::OnChange => !held.is_wanted_by(token, limits),
        Revocation::OnNarrowing => held.is_narrowed_by(&wanted),
        Revocation::Never => false,
    };
    let asks = if is_revocable && token.metadata.deletion_timestamp.is_some() {
        Some(Reason::TokenDeleted)
    } else if is_denied {
        Some(Reason::PolicyDenied)
    } else if changed {
        Some(Reason::TokenChanged)
    } else {
        None
    };
    Some(RevocationDemand {
        name: token.metadata.name.clone().unwrap_or_default(),
        issued_at,
        newest_issue: newest_issue.map_or(issued_at, |newest| newest.max(issued_at)),
        is_own: true,
        is_marked: !crate::crd::is_ready(&status.conditions),
        asks,
        asks_at_the_end: is_revocable || is_denied,
    })
}

/// Whether the Secret with this metadata holds a token of the identity that is missing in the
/// status of `token` and demands a revocation when it is deleted. The only trace of that token
/// disappears with the Secret.
#[must_use]
pub fn is_unrecorded_demand(
    token: &AcsToken,
    identity_id: &str,
    secret: &ObjectMeta,
    limits: &Limits,
) -> bool {
    let is_revocable = token.spec.revocation.unwrap_or_default() != Revocation::Never;
    record_of(secret, token).is_some_and(|record| {
        let is_reported = token
            .status
            .as_ref()
            .is_some_and(|s| record.is_reported_by(s));
        let asks = is_revocable || limits.denial(&record.parameters).is_some();
        record.identity_id == identity_id && !is_reported && asks
    })
}
