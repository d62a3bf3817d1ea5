use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use kube::{ResourceExt, runtime::reflector::ObjectRef};

use super::decide::{ConnectionView, Observed, Others, is_urgent};
use crate::{
    acs::Resolved,
    cluster::index,
    context::Context,
    crd::{AcsIdentity, ConnectionKey, ConnectionKind, ConnectionRef, Reason},
    credentials::Unusable,
    revocation,
    token::{self, RevocationDemand, demand, is_unrecorded_demand, owner::owned_by},
};

/// Collects the input of the decision, all of it from memory.
#[must_use]
pub fn observe<'a>(context: &Context, identity: &'a AcsIdentity, now: Timestamp) -> Observed<'a> {
    let namespace = identity.namespace().unwrap_or_default();
    let status = identity.status.as_ref();
    let id = status.and_then(|status| status.identity_id.clone());
    let endpoint = status.and_then(|status| status.endpoint.clone());
    let remembered = context.cache.get(&identity.uid().unwrap_or_default());
    let reference = context.connection_reference(
        identity.spec.connection_ref.as_ref(),
        status.and_then(|status| status.connection_ref.as_ref()),
        &namespace,
    );
    let names_none = identity.spec.connection_ref.is_none();
    let kept = status.and_then(|status| status.connection_ref.as_ref());
    let is_of_cluster = reference.kind == ConnectionKind::ClusterAcsConnection;
    let waits = (names_none && kept.is_none() && is_of_cluster)
        .then(|| context.fallback_waits(&identity.metadata, now))
        .flatten();
    let connection = match waits {
        Some(until) => ConnectionView::Awaited { until },
        None => connection(context, &reference, &namespace, endpoint.as_deref(), now),
    };

    let group = match (&id, &endpoint) {
        (Some(id), Some(endpoint)) => context.views.siblings(id, endpoint),
        _ => match &identity.spec.identity_id {
            // The id is about to be adopted: objects that have it already count.
            Some(id) => context.views.identities.find(&index::with_id(id)).collect(),
            None => Vec::new(),
        },
    };
    let connection_key = ConnectionKey::from_reference(&reference, &namespace);
    let demanded = demanded(context, identity, &group, &connection_key, id.as_ref());
    let pending = status.and_then(|status| {
        let revocation = status
            .pending_revocation
            .as_ref()
            .map(|pending| pending.time.0);
        revocation.or_else(|| status.pending_create.as_ref().map(|time| time.0))
    });
    Observed {
        now,
        service_now: context.service_now(endpoint.as_deref()),
        identity,
        connection,
        demands: demanded.demands,
        secrets: demanded.secrets,
        has_unrecorded: demanded.has_unrecorded,
        revocations: demanded.revocations.into_iter().collect(),
        is_ordered: demanded.is_ordered,
        others: others(context, identity, &group, &reference, &namespace),
        asked_since: remembered.asked_since,
        is_intent_fresh: pending.is_some() && remembered.intent == pending,
        is_missing: context.is_missing(identity),
        has_other_default: names_none
            && kept.is_some_and(|kept| kept.kind == ConnectionKind::ClusterAcsConnection)
            && context.has_default(&namespace),
        created: context
            .cache
            .created(&ObjectRef::from_obj(identity).into())
            .filter(|created| identity.uid().as_ref() == Some(&created.uid))
            .map(|created| created.id),
        not_before: remembered.not_before(now),
        call: context.calls.stage(&ObjectRef::from_obj(identity).into()),
        is_namespace_terminating: context.is_terminating(&namespace),
        deletion_deadline: context.deletion_deadline(&identity.metadata, now),
    }
}

/// What the objects of a group ask of their identity.
#[derive(Default)]
struct Demanded {
    demands: Vec<RevocationDemand>,
    secrets: Vec<String>,
    has_unrecorded: bool,
    revocations: BTreeSet<String>,
    is_ordered: bool,
}

/// Collects the revocations that the objects of a group, their tokens and the revocation objects
/// ask for.
fn demanded(
    context: &Context,
    identity: &AcsIdentity,
    group: &[Arc<AcsIdentity>],
    connection_key: &ConnectionKey,
    id: Option<&String>,
) -> Demanded {
    let mut found = Demanded::default();
    for member in with_itself(identity, group) {
        let is_itself = member.uid() == identity.uid();
        let ordering = revocation::revocations_of(context, member);
        found.is_ordered |= is_itself
            && ordering
                .iter()
                .any(|revocation| !has_obeyed(identity, &revocation.uid));
        found
            .revocations
            .extend(ordering.into_iter().map(|revocation| revocation.uid));
        let key = index::of_identity(&member.namespace().unwrap_or_default(), &member.name_any());
        for token in context.views.tokens.find(&key) {
            let limits = token::limits_of(context, connection_key, group, &token);
            let demanded = id.and_then(|id| demand(&token, id, &limits));
            found
                .demands
                .extend(demanded.map(|demand| RevocationDemand {
                    is_own: is_itself,
                    ..demand
                }));
            if is_itself {
                let owned: Vec<_> = owned_by(&context.views, &token).collect();
                found
                    .secrets
                    .extend(owned.iter().map(|secret| secret.name_any()));
                found.has_unrecorded |= owned.iter().any(|secret| {
                    id.is_some_and(|id| is_unrecorded_demand(&token, id, &secret.metadata, &limits))
                });
            }
        }
    }
    found
}

/// Whether the last revocation fulfilled the revocation object with this UID.
fn has_obeyed(identity: &AcsIdentity, revocation: &str) -> bool {
    let status = identity.status.as_ref();
    let last = status.and_then(|status| status.last_revocation.as_ref());
    last.is_some_and(|last| last.orders.iter().any(|uid| uid == revocation))
}

fn with_itself<'a>(
    identity: &'a AcsIdentity,
    group: &'a [Arc<AcsIdentity>],
) -> impl Iterator<Item = &'a AcsIdentity> {
    let others = group
        .iter()
        .map(Arc::as_ref)
        .filter(|other| other.uid() != identity.uid());
    std::iter::once(identity).chain(others)
}

fn others(
    context: &Context,
    identity: &AcsIdentity,
    group: &[Arc<AcsIdentity>],
    reference: &ConnectionRef,
    namespace: &str,
) -> Others {
    let rank = |identity: &AcsIdentity| {
        let has_it = identity
            .status
            .as_ref()
            .is_some_and(|status| status.identity_id.is_some());
        (
            !has_it,
            identity
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|time| time.0),
            identity.uid(),
        )
    };
    let others: Vec<_> = group
        .iter()
        .filter(|other| other.uid() != identity.uid())
        .collect();
    if others.is_empty() {
        return Others::None;
    }
    let mut elders = others.iter().filter(|other| rank(other) < rank(identity));
    let is_first = elders.clone().next().is_none();
    let shares = context.shares_identities(&ConnectionKey::from_reference(reference, namespace));
    // An AcsConnection decides for its own namespace only.
    let speaks_for_all = reference.kind == ConnectionKind::ClusterAcsConnection
        || elders.all(|elder| elder.namespace() == identity.namespace());
    match (shares && speaks_for_all, is_first) {
        (true, _) => Others::Sharing,
        (false, true) => Others::None,
        (false, false) => Others::Conflicting,
    }
}

fn connection(
    context: &Context,
    reference: &ConnectionRef,
    namespace: &str,
    recorded: Option<&str>,
    now: Timestamp,
) -> ConnectionView {
    let key = ConnectionKey::from_reference(reference, namespace);
    let why = match context.usable_connection(&key, namespace, now) {
        Ok(resolved) => {
            let endpoint = resolved.endpoint.to_string();
            let leads_elsewhere = recorded.is_some_and(|recorded| recorded != endpoint);
            let remembered =
                recorded.and_then(|recorded| context.registry.for_cleanup(&key, recorded));
            if leads_elsewhere && remembered.is_some() {
                // A deletion still reaches the endpoint that the identity belongs to.
                return ConnectionView::CleanupOnly(endpoint_changed(recorded, &endpoint));
            }
            if leads_elsewhere {
                return ConnectionView::Unusable(endpoint_changed(recorded, &endpoint));
            }
            return ConnectionView::Usable {
                reference: reference.clone(),
                endpoint,
                allows_adoption: context.allows_adoption(&key),
                knows_custom_id: resolved.version.knows_custom_id(),
            };
        }
        Err(why) => why,
    };
    match recorded.and_then(|recorded| context.registry.for_cleanup(&key, recorded)) {
        Some(_) => ConnectionView::CleanupOnly(why),
        None => ConnectionView::Unusable(why),
    }
}

/// Connection of a call for an identity.
#[derive(Debug)]
pub struct Via {
    /// Key of the connection.
    pub connection: ConnectionKey,
    /// Resolved connection.
    pub resolved: Resolved,
    /// Whether the call only removes something. Such a call does not wait until the credential is
    /// accepted.
    pub is_cleanup: bool,
}

/// Returns the connection for a call for the identity, if it may be made now. Cleanup, and a
/// revocation that a person requested, may also use a credential that is only in memory.
#[must_use]
pub fn connection_of(context: &Context, identity: &AcsIdentity, now: Timestamp) -> Option<Via> {
    let namespace = identity.namespace()?;
    let status = identity.status.as_ref()?;
    let key = ConnectionKey::from_reference(status.connection_ref.as_ref()?, &namespace);
    let endpoint = status.endpoint.as_deref()?;
    let usable = context.usable_connection(&key, &namespace, now);
    // This holds even before the status says since when: what was demanded before is revoked
    // nevertheless.
    let is_denied = usable
        .as_ref()
        .is_err_and(|why| why.reason == Reason::PolicyDenied);
    let usable = usable.ok();
    let usable = usable.filter(|resolved| resolved.endpoint.as_str() == endpoint);
    let cleans_up = is_denied
        || status.denied_since.is_some()
        || identity.metadata.deletion_timestamp.is_some();
    let Some(resolved) = usable else {
        let remembered = context.registry.for_cleanup(&key, endpoint);
        let remembered = remembered.filter(|_| cleans_up || is_urgent(status));
        return remembered.map(|resolved| Via {
            connection: key,
            resolved,
            is_cleanup: true,
        });
    };
    Some(Via {
        connection: key,
        resolved,
        is_cleanup: cleans_up,
    })
}

fn endpoint_changed(recorded: Option<&str>, now: &str) -> Unusable {
    Unusable {
        reason: Reason::EndpointChanged,
        message: format!(
            "this identity belongs to {}, but its connection now has the endpoint {now}; restore \
             the endpoint of the connection, or delete this AcsIdentity",
            recorded.unwrap_or_default()
        ),
        is_stalled: true,
        retry_at: None,
    }
}
