mod restarts;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::{
    decide::{
        ConnectionView, ConsumersView, FormerSecret, IdentityView, Observed, REPAIR_INTERVAL,
        Rival, SecretView, UsableIdentity,
    },
    limits::Limits,
    owner::{Owner, owned_by, owner},
    teams,
    wanted::{Wanted, record_of},
};
use crate::{
    acs::Resolved,
    cache::{ObservedState, ReadSecret, UserTokenView},
    cluster::{index, input::Presence, view::object_ref},
    context::Context,
    crd::{AcsIdentity, AcsIdentityStatus, AcsToken, ConnectionKey, Reason, STALLED},
    credentials::Unusable,
    renewal,
};

/// Minimum time between two counts of the pods that use a Secret.
const COUNTING: SignedDuration = SignedDuration::from_secs(10);
/// Maximum length of a cycle of tokens that want each other's Secret.
const LONGEST_CIRCLE: usize = 16;

/// Findings of a single run.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    secret: Option<(String, SecretView)>,
    user_token: Presence,
    has_read_user_token: bool,
}

impl Findings {
    /// Records that the Secret `name` was just read and does not exist or has another owner. This
    /// is newer than the view.
    pub fn found(&mut self, name: String, secret: SecretView) {
        self.secret = Some((name, secret));
    }

    /// Discards the finding about the Secret, which is no longer the newest.
    pub fn forget(&mut self) {
        self.secret = None;
    }

    /// Records what the watch of a Teams user's Entra token knows.
    pub fn watched(&mut self, user_token: Presence) {
        self.user_token = user_token;
    }

    /// Records that a Teams user's Entra token was just read. The result is newer than what its
    /// watch knows.
    pub fn read_user_token(&mut self) {
        self.has_read_user_token = true;
    }

    fn named(&self, wanted: &str) -> Option<&SecretView> {
        let (name, secret) = self.secret.as_ref()?;
        (name == wanted).then_some(secret)
    }
}

/// Collects the input of the decision, all of it from memory.
#[must_use]
pub fn observe<'a>(
    context: &Context,
    token: &'a AcsToken,
    findings: &Findings,
    now: Timestamp,
) -> Observed<'a> {
    let namespace = token.namespace().unwrap_or_default();
    let uid = token.uid().unwrap_or_default();
    let remembered = context.cache.get(&uid);
    let identity = token
        .identity_reference()
        .and_then(|it| context.views.identities.get(&it));
    let endpoint = endpoint_of(token, identity.as_deref());
    // If several objects share an id, a revocation by one of them affects the tokens of all (R1).
    let group = identity
        .as_ref()
        .and_then(|identity| {
            let status = identity.status.as_ref()?;
            let id = status.identity_id.as_deref()?;
            Some(context.views.siblings(id, status.endpoint.as_deref()?))
        })
        .unwrap_or_default();
    let user = token.spec.teams_user.as_ref();
    let limits = match (user, &identity) {
        (Some(user), _) => teams::limits_of(context, token, user, &namespace),
        (None, Some(identity)) => used_by(identity, &namespace)
            .map(|key| limits_of(context, &key, &group, token))
            .unwrap_or_default(),
        (None, None) => Limits::default(),
    };
    let user_token = user.map(|user| {
        let is_just_read = findings.has_read_user_token;
        teams::user_token(user, &remembered, &findings.user_token, is_just_read)
    });
    let is_new_user_token = match (&remembered.failed_user_token, &user_token) {
        (Some(failed), Some(UserTokenView::There(seen))) => *failed != seen.fingerprint,
        _ => false,
    };
    let secret = secret(context, token, endpoint.as_deref(), &remembered, findings);
    let within_an_hour = |at: &Timestamp| renewal::pause(*at, REPAIR_INTERVAL * 12, now).is_some();
    Observed {
        now,
        service_now: context.service_now(endpoint.as_deref()),
        token,
        identity: match (user, &identity) {
            (Some(user), _) => {
                let identity = teams::identity(context, token, user, &namespace, now);
                IdentityView::Usable(Box::new(identity))
            }
            (None, Some(identity)) => identity_view(context, identity, &group, &namespace, now),
            (None, None) => IdentityView::Missing,
        },
        user_token,
        is_new_user_token,
        limits,
        secret,
        former: former(context, token),
        rival: rival(context, token),
        forbidden_key: forbidden_key(token, &context.config.forbidden_metadata),
        last_repair: remembered.repaired.filter(within_an_hour),
        last_recreation: remembered.recreated.filter(within_an_hour),
        rewrite_at: remembered
            .rewrites
            .as_ref()
            .and_then(|rewrites| rewrites.pause(token, now)),
        not_before: remembered.not_before(now),
        call: context.calls.stage(&ObjectRef::from_obj(token).into()),
        deletion_deadline: context.deletion_deadline(&token.metadata, now),
        restarts: restarts::observe(context, token, &namespace),
        consumers: consumers(context, token, &remembered, now),
    }
}

fn consumers(
    context: &Context,
    token: &AcsToken,
    remembered: &ObservedState,
    now: Timestamp,
) -> ConsumersView {
    if !context.config.consumers.counts_pods {
        return ConsumersView::Disabled;
    }
    if !context.views.pods.is_ready() {
        return ConsumersView::Unknown;
    }
    let namespace = token.namespace().unwrap_or_default();
    let key = index::using(&namespace, &token.secret_name());
    ConsumersView::Known {
        pods: context.views.pods.find(&key).collect(),
        pause: remembered
            .counted
            .and_then(|counted| renewal::pause(counted, COUNTING, now)),
    }
}

fn identity_view(
    context: &Context,
    identity: &AcsIdentity,
    group: &[Arc<AcsIdentity>],
    namespace: &str,
    now: Timestamp,
) -> IdentityView {
    if identity.metadata.deletion_timestamp.is_some() {
        return IdentityView::Deleting;
    }
    let status = identity.status.clone().unwrap_or_default();
    let (Some(id), Some(reference), Some(endpoint)) = (
        &status.identity_id,
        &status.connection_ref,
        &status.endpoint,
    ) else {
        return not_ready(identity, &status);
    };
    let key = ConnectionKey::from_reference(reference, namespace);
    let connection = connection_view(context, &key, endpoint, namespace, now);
    let can_revoke = context.registry.for_cleanup(&key, endpoint).is_some()
        || !context.is_terminating(namespace);
    IdentityView::Usable(Box::new(UsableIdentity {
        id: id.clone(),
        tokens_valid_after: group
            .iter()
            .filter_map(|it| it.status.as_ref()?.tokens_valid_after.as_ref())
            .map(|after| after.0)
            .max(),
        is_missing: context.is_missing(identity),
        is_revoking: group
            .iter()
            .filter_map(|it| it.status.as_ref())
            .any(|status| status.pending_revocation.is_some()),
        unsettled_until: group
            .iter()
            .filter_map(|it| it.status.as_ref()?.last_revocation.as_ref())
            .filter_map(|last| Some(last.unsettled_until.as_ref()?.0))
            .max(),
        connection,
        is_suspended: identity.spec.suspend == Some(true),
        denial: status
            .denied_since
            .and_then(|_| stalled_message(&status.conditions)),
        dead_credentials: context.registry.credential(&key).dead(),
        revocation_fails: status.last_failure.map(|failure| failure.message),
        can_revoke,
    }))
}

/// Returns the view of an identity that has not been created yet.
fn not_ready(identity: &AcsIdentity, status: &AcsIdentityStatus) -> IdentityView {
    let waits = status
        .conditions
        .iter()
        .find(|condition| condition.status == "False");
    IdentityView::NotReady {
        reason: Reason::IdentityNotReady,
        message: match waits {
            Some(why) => format!(
                "waiting for AcsIdentity {}: {}",
                identity.name_any(),
                why.message
            ),
            None => format!("waiting for AcsIdentity {}", identity.name_any()),
        },
        is_brief: waits.is_none(),
    }
}

/// Returns the view of the connection of an identity that belongs to `endpoint`.
fn connection_view(
    context: &Context,
    key: &ConnectionKey,
    endpoint: &str,
    namespace: &str,
    now: Timestamp,
) -> ConnectionView {
    match context.usable_connection(key, namespace, now) {
        Ok(resolved) if resolved.endpoint.as_str() == endpoint => ConnectionView::Usable {
            credential: resolved.credential,
        },
        Ok(resolved) => ConnectionView::Unusable(Unusable {
            reason: Reason::EndpointChanged,
            message: format!(
                "the identity belongs to {endpoint}, but its connection now has the endpoint {}",
                resolved.endpoint
            ),
            is_stalled: true,
            retry_at: None,
        }),
        Err(why) => ConnectionView::Unusable(why),
    }
}

fn stalled_message(conditions: &[Condition]) -> Option<String> {
    let stalled = conditions.iter().find(|it| it.type_ == STALLED)?;
    Some(stalled.message.clone())
}

/// Returns the limits of the connection for `token`, which belongs to one of the identities in
/// `group`.
#[must_use]
pub fn limits_of(
    context: &Context,
    key: &ConnectionKey,
    group: &[Arc<AcsIdentity>],
    token: &AcsToken,
) -> Limits {
    let keys = group
        .iter()
        .map(|it| index::of_identity(&it.namespace().unwrap_or_default(), &it.name_any()));
    let all = keys.flat_map(|key| context.views.tokens.find(&key));
    Limits::beside(all, token, key, context.token_policy(key))
}

fn secret(
    context: &Context,
    token: &AcsToken,
    endpoint: Option<&str>,
    remembered: &ObservedState,
    findings: &Findings,
) -> SecretView {
    let name = token.secret_name();
    if let Some(found) = findings.named(&name) {
        return found.clone();
    }
    let key = object_ref(token.namespace().as_deref(), &name);
    let Some(found) = context.views.secrets.get(&key) else {
        return SecretView::Unknown;
    };
    if let Owner::Other(owner) = owner(&found.metadata, token) {
        return SecretView::Foreign { owner };
    }
    let is_current = |read: &ReadSecret| {
        read.name == found.name_any()
            && Some(&read.version) == found.metadata.resource_version.as_ref()
    };
    let read = remembered.secret.as_deref().cloned().filter(is_current);
    let written = || as_written(token).filter(|read| !remembered.doubts_secret && is_current(read));
    let Some(read) = read.or_else(written) else {
        return SecretView::Unknown;
    };
    let record = record_of(&found.metadata, token)
        .filter(|record| read.fingerprint.as_ref() == Some(&record.fingerprint));
    let is_outdated = match (&record, endpoint) {
        (Some(record), Some(endpoint)) => !Wanted {
            token,
            record,
            endpoint,
            labels: &context.config.secret_labels,
        }
        .is_met_by(&found.metadata, &read),
        _ => false,
    };
    SecretView::Ours {
        record: record.map(Box::new),
        is_outdated,
        is_immutable: read.is_immutable,
    }
}

/// Returns the state of the Secret that the status recorded when it was written.
fn as_written(token: &AcsToken) -> Option<ReadSecret> {
    let status = token.status.as_ref()?;
    let written = status.written_secret.as_ref()?;
    Some(ReadSecret {
        name: status.secret_name.clone()?,
        version: written.resource_version.clone(),
        digest: written.digest.clone(),
        fingerprint: status.fingerprint.clone(),
        is_immutable: false,
    })
}

/// Returns a Secret of this token that the spec no longer names.
fn former(context: &Context, token: &AcsToken) -> Option<FormerSecret> {
    let wanted = token.secret_name();
    owned_by(&context.views, token)
        .find(|secret| secret.name_any() != wanted)
        .map(|secret| FormerSecret {
            name: secret.name_any(),
            record: record_of(&secret.metadata, token),
        })
}

/// Returns the other `AcsToken` that names the same Secret and has precedence. The owner of the
/// Secret keeps it, because creation times have whole seconds; if there is no owner, the oldest
/// gets the name.
fn rival(context: &Context, token: &AcsToken) -> Option<Rival> {
    let namespace = token.namespace().unwrap_or_default();
    let key = index::into_secret(&namespace, &token.secret_name());
    if let Some(holder) = holder_of_wanted(context, token) {
        if holder.uid() == token.uid() {
            return None;
        }
        // A token that wants another name deletes this Secret, unless the other name waits for it
        // in turn.
        let gives_way = is_last_of_circle(context, token, &holder);
        return Some(Rival {
            name: holder.name_any(),
            gives_way,
        });
    }
    if context.views.tokens.count(&key) < 2 {
        return None;
    }
    let others = context.views.tokens.find(&key);
    let oldest = others.map(|other| rank(&other)).min()?;
    (oldest < rank(token)).then_some(Rival {
        name: oldest.1,
        gives_way: false,
    })
}

fn rank(token: &AcsToken) -> (Option<Timestamp>, String) {
    let created = token.metadata.creation_timestamp.as_ref();
    (created.map(|time| time.0), token.name_any())
}

/// Returns the token that owns the Secret with the name that `token` wants.
fn holder_of_wanted(context: &Context, token: &AcsToken) -> Option<Arc<AcsToken>> {
    let reference = object_ref(token.namespace().as_deref(), &token.secret_name());
    let secret = context.views.secrets.get(&reference)?;
    let owner = secret.metadata.owner_references.iter().flatten();
    let mut owner = owner.filter(|owner| owner.controller == Some(true));
    let name = owner.next()?.name.clone();
    let holder = context
        .views
        .tokens
        .get(&object_ref(token.namespace().as_deref(), &name))?;
    (self::owner(&secret.metadata, &holder) == Owner::Ours).then_some(holder)
}

/// Whether tokens wait in a cycle for each other's Secret and `token` is the youngest of them. The
/// youngest deletes its own Secret and gets a new token when it is its turn.
fn is_last_of_circle(context: &Context, token: &AcsToken, holder: &Arc<AcsToken>) -> bool {
    let mut next = Arc::clone(holder);
    for _ in 0..LONGEST_CIRCLE {
        if next.uid() == token.uid() {
            return true;
        }
        if rank(&next) > rank(token) {
            return false;
        }
        match holder_of_wanted(context, &next) {
            Some(further) if further.uid() != next.uid() => next = further,
            _ => return false,
        }
    }
    false
}

/// Returns a label or annotation of the template with a forbidden domain, or a subdomain of one, as
/// its prefix.
fn forbidden_key(token: &AcsToken, forbidden: &[String]) -> Option<String> {
    let template = token.spec.secret.as_ref()?;
    let labels = template.labels.iter().flat_map(|all| all.keys());
    let annotations = template.annotations.iter().flat_map(|all| all.keys());
    let is_forbidden = |key: &&String| {
        let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
        forbidden
            .iter()
            .any(|domain| prefix == domain || prefix.ends_with(&format!(".{domain}")))
    };
    labels.chain(annotations).find(is_forbidden).cloned()
}

/// Returns the endpoint of the token: that of its identity, or the one it was exchanged at.
#[must_use]
pub fn endpoint_of(token: &AcsToken, identity: Option<&AcsIdentity>) -> Option<String> {
    if token.spec.teams_user.is_some() {
        return token.status.as_ref()?.endpoint.clone();
    }
    identity?.status.as_ref()?.endpoint.clone()
}

/// Returns the connection that an identity has used.
fn used_by(identity: &AcsIdentity, namespace: &str) -> Option<ConnectionKey> {
    let used = identity.status.as_ref()?.connection_ref.as_ref()?;
    Some(ConnectionKey::from_reference(used, namespace))
}

/// Returns the connection that can issue the token now, if there is one.
#[must_use]
pub fn connection_of(
    context: &Context,
    token: &AcsToken,
    now: Timestamp,
) -> Option<(ConnectionKey, Resolved)> {
    let namespace = token.namespace()?;
    let identity = token
        .identity_reference()
        .and_then(|it| context.views.identities.get(&it));
    let is_of_user = token.spec.teams_user.is_some();
    let key = if is_of_user {
        teams::key(context, token, &namespace)
    } else {
        used_by(identity.as_ref()?, &namespace)?
    };
    let recorded = endpoint_of(token, identity.as_deref());
    let resolved = context.usable_connection(&key, &namespace, now).ok()?;
    let is_same = match &recorded {
        Some(recorded) => resolved.endpoint.as_str() == recorded,
        // The first token of a Teams user determines the endpoint of all later ones.
        None => is_of_user,
    };
    is_same.then_some((key, resolved))
}
