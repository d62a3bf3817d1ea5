//! Tokens of Teams users: the connection they use, and the Entra tokens they are exchanged for.
//! They have no `AcsIdentity` and cannot be revoked.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::{
    decide::{ConnectionView, UsableIdentity},
    limits::Limits,
};
use crate::{
    acs::UserToken,
    cache::{ObservedState, ReadUserToken, SeenUserToken, UserTokenView},
    cluster::{index, input::Presence},
    connection::{Found, text_in},
    context::Context,
    crd::{AcsToken, ConnectionKey, Reason, SecretKeyRef, TeamsUser, TokenPolicy},
    credentials::Unusable,
};

/// Returns the Teams user of `token` as an identity that never has its tokens revoked.
pub(super) fn identity(
    context: &Context,
    token: &AcsToken,
    user: &TeamsUser,
    namespace: &str,
    now: Timestamp,
) -> UsableIdentity {
    let key = key(context, token, namespace);
    let recorded = token
        .status
        .as_ref()
        .and_then(|status| status.endpoint.as_deref());
    let usable = context.usable_connection(&key, namespace, now);
    let denied = usable.as_ref().err();
    let denied = denied.filter(|why| why.reason == Reason::PolicyDenied);
    let denial = denied.map(|why| why.message.clone());
    let connection = match (usable, recorded) {
        (Ok(resolved), Some(recorded)) if resolved.endpoint.as_str() != recorded => {
            ConnectionView::Unusable(Unusable {
                reason: Reason::EndpointChanged,
                message: format!(
                    "the token was issued by {recorded}, but the connection now has the endpoint \
                     {}; restore the endpoint of the connection, or create another AcsToken",
                    resolved.endpoint
                ),
                is_stalled: true,
                retry_at: None,
            })
        }
        (Ok(resolved), _) => ConnectionView::Usable {
            credential: resolved.credential,
        },
        (Err(why), _) => ConnectionView::Unusable(why),
    };
    UsableIdentity {
        id: user.identity_id(),
        tokens_valid_after: None,
        is_missing: false,
        is_revoking: false,
        unsettled_until: None,
        connection,
        is_suspended: false,
        denial,
        dead_credentials: context.registry.credential(&key).dead(),
        revocation_fails: None,
        can_revoke: false,
    }
}

/// Returns the connection that the token of a Teams user uses.
pub(super) fn key(context: &Context, token: &AcsToken, namespace: &str) -> ConnectionKey {
    let kept = token.status.as_ref();
    let reference = context.connection_reference(
        token.spec.connection_ref.as_ref(),
        kept.and_then(|status| status.connection_ref.as_ref()),
        namespace,
    );
    ConnectionKey::from_reference(&reference, namespace)
}

/// Returns the limits that the connection sets for the token. The request sets no lifetime, so the
/// policy does not limit it.
pub(super) fn limits_of(
    context: &Context,
    token: &AcsToken,
    user: &TeamsUser,
    namespace: &str,
) -> Limits {
    let key = key(context, token, namespace);
    let policy = TokenPolicy {
        max_expires_in: None,
        ..context.token_policy(&key)
    };
    let all = std::iter::once_with(|| context.views.tokens.find(&index::of_user(user))).flatten();
    let all = all
        .filter(|other| self::key(context, other, &other.namespace().unwrap_or_default()) == key);
    Limits::beside(all, token, &key, policy)
}

/// Returns the known state of the Entra token. `presence` is what the watch knows of its Secret.
pub(super) fn user_token(
    user: &TeamsUser,
    remembered: &ObservedState,
    presence: &Presence,
    is_just_read: bool,
) -> UserTokenView {
    let read = remembered
        .user_token
        .as_ref()
        .filter(|read| read.reference == user.secret_ref);
    let is_current = |read: &&ReadUserToken| match presence {
        _ if is_just_read => true,
        Presence::Unknown => true,
        Presence::Absent => read.version.is_none(),
        Presence::At(version) => read.version.as_ref() == Some(version),
    };
    read.filter(is_current)
        .map_or(UserTokenView::Unknown, |read| read.view.clone())
}

/// Reads the Entra token of `user` from its Secret, if the Secret exists, and describes it.
#[must_use]
pub fn see_user_token(
    user: &TeamsUser,
    namespace: &str,
    found: Option<Secret>,
) -> (ReadUserToken, Option<UserToken>) {
    let version = found.as_ref().and_then(ResourceExt::resource_version);
    let (view, token) = read_user_token(user, namespace, &Found::from_secret(found));
    let read = ReadUserToken {
        reference: user.secret_ref.clone(),
        version,
        view,
    };
    (read, token)
}

fn read_user_token(
    user: &TeamsUser,
    namespace: &str,
    found: &Found,
) -> (UserTokenView, Option<UserToken>) {
    let SecretKeyRef { name, key } = &user.secret_ref;
    let text = match text_in(&user.secret_ref, namespace, found) {
        Ok(text) => text,
        Err(why) if why.is_stalled => return (UserTokenView::Wrong(why.message), None),
        Err(why) => {
            let view = UserTokenView::Missing {
                reason: why.reason,
                message: why.message,
            };
            return (view, None);
        }
    };
    match UserToken::parse(text, &user.app_id, &user.user_id) {
        Ok(token) => {
            let seen = SeenUserToken {
                fingerprint: token.fingerprint.clone(),
                expires_on: token.expires_on,
            };
            (UserTokenView::There(seen), Some(token))
        }
        Err(why) => {
            let message = format!(
                "key {key} of Secret {namespace}/{name} {why}, so it is not sent to ACS; store \
                 the access token of the signed-in Teams user there"
            );
            (UserTokenView::Wrong(message), None)
        }
    }
}
