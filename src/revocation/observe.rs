use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::{
    ResourceExt,
    core::{Selector, SelectorExt},
    runtime::reflector::ObjectRef,
};

use super::{
    decide::{AT_A_TIME, DELETED_MEANWHILE, FirstSight, Progress, Seen},
    kinds::{AnyRevocation, Selection, namespace_of},
};
use crate::{
    cluster::{
        self, index, named,
        view::{View, object_ref},
    },
    context::Context,
    crd::{AcsIdentity, ConnectionKey, LastFailure, Reason, RevocationTarget},
    engine::{ApiRequest, IdentityPage, Object},
};

/// Revocation that has an identity as an open target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationRef {
    /// UID of the revocation.
    pub uid: String,
    /// Name for messages: `Kind namespace/name`.
    pub named: String,
}

/// Returns the revocations that have the identity as an open target.
#[must_use]
pub fn revocations_of(context: &Context, identity: &AcsIdentity) -> Vec<RevocationRef> {
    let views = &context.views;
    let mut orders = revocations_in(&views.revocations, identity);
    orders.extend(revocations_in(&views.cluster_revocations, identity));
    orders
}

fn revocations_in<R: AnyRevocation>(view: &View<R>, identity: &AcsIdentity) -> Vec<RevocationRef> {
    let (namespace, name) = (
        identity.namespace().unwrap_or_default(),
        identity.name_any(),
    );
    let is_it = |revocation: &R, target: &RevocationTarget| {
        target.name == name
            && target.uid == identity.uid()
            && namespace_of(target, revocation.namespace().as_deref()) == namespace
    };
    let orders = view.find(&index::targeting(&namespace, &name));
    orders
        .filter(|revocation| {
            let mut open = revocation.open_targets();
            open.any(|target| is_it(revocation, target))
        })
        .map(|revocation| RevocationRef {
            uid: revocation.uid().unwrap_or_default(),
            named: named(revocation.as_ref()),
        })
        .collect()
}

/// Returns what a new revocation selects now. It asks the API server, because a watch may lag
/// behind a label that was set right before the revocation was created. Returns `None` if another
/// operator may find more: an operator that watches only some namespaces and finds no identity
/// there cannot know that there is none.
pub async fn first_sight<R: AnyRevocation>(
    context: &Context,
    revocation: &R,
    now: Timestamp,
) -> Result<Option<FirstSight>, cluster::Error> {
    let selection = revocation.selection();
    let selected = match understood(&selection) {
        Ok(selector) => Ok(select(context, revocation, &selection, selector.as_ref()).await?),
        Err(why) => Err(why),
    };
    let watched = &context.config.watch_namespaces;
    let is_known = |namespace: &String| watched.contains(namespace);
    let is_ours = revocation.namespace().is_some()
        || watched.is_empty()
        || match (&selected, &selection) {
            (Ok(targets), _) if !targets.is_empty() => true,
            (_, Selection::Namespaces(namespaces)) => namespaces.iter().any(is_known),
            (_, Selection::Connection(key)) => key.namespace.as_ref().is_some_and(is_known),
            (selected, _) => selected.is_err(),
        };
    Ok(is_ours.then(|| FirstSight {
        now,
        terms: revocation.terms(),
        selected,
    }))
}

async fn select<R: AnyRevocation>(
    context: &Context,
    revocation: &R,
    selection: &Selection<'_>,
    selector: Option<&Selector>,
) -> Result<Vec<RevocationTarget>, cluster::Error> {
    let own = revocation.namespace();
    let names: BTreeSet<_> = match selection {
        Selection::Names(names) => names.iter().cloned().collect(),
        _ => BTreeSet::new(),
    };
    let is_selected = |identity: &AcsIdentity| match selection {
        Selection::Names(_) => names.contains(&identity.name_any()),
        Selection::Connection(key) => uses(identity, key),
        Selection::Namespaces(_) => true,
        Selection::Labels(_) => selector.is_some_and(|it| it.matches(identity.labels())),
    };
    let mut targets = Vec::new();
    for namespace in places(context, own.as_ref(), selection) {
        let mut after = None;
        loop {
            let page = page(context, namespace.clone(), after).await?;
            for identity in page.items.into_iter().filter(is_selected) {
                targets.push(target(&identity, own.as_deref()));
                learn(context, identity);
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    let found: BTreeSet<_> = targets.iter().map(|target| target.name.clone()).collect();
    targets.extend(names.difference(&found).map(|name| missing(name)));
    targets.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(targets)
}

/// Returns the watched namespaces that can have selected identities; `None` stands for all of the
/// cluster.
fn places(
    context: &Context,
    own: Option<&String>,
    selection: &Selection<'_>,
) -> Vec<Option<String>> {
    let watched = &context.config.watch_namespaces;
    let named: Option<BTreeSet<_>> = match (own, selection) {
        (Some(own), _) => Some([own.clone()].into()),
        (None, Selection::Namespaces(namespaces)) => Some(namespaces.iter().cloned().collect()),
        (None, Selection::Connection(key)) => key.namespace.clone().map(|it| [it].into()),
        (None, _) => None,
    };
    let is_watched = |namespace: &String| watched.is_empty() || watched.contains(namespace);
    match named {
        Some(named) => named.into_iter().filter(is_watched).map(Some).collect(),
        None if watched.is_empty() => vec![None],
        None => watched.iter().cloned().map(Some).collect(),
    }
}

/// Adds an identity to the view if the watch has not reported it yet; otherwise it would count as
/// deleted.
fn learn(context: &Context, identity: AcsIdentity) {
    let view = &context.views.identities;
    let known = view.get(&ObjectRef::from_obj(&identity));
    if known.is_none_or(|known| known.resource_version() != identity.resource_version()) {
        view.wrote(identity);
    }
}

async fn page(
    context: &Context,
    namespace: Option<String>,
    after: Option<String>,
) -> Result<IdentityPage, cluster::Error> {
    let request = ApiRequest::ListIdentities { namespace, after };
    match context.world.ask(request).await? {
        Some(Object::Identities(page)) => Ok(page),
        _ => Ok(IdentityPage::default()),
    }
}

/// Whether the identity belongs to the connection: the resolved connection counts, because it
/// issued the tokens.
fn uses(identity: &AcsIdentity, key: &ConnectionKey) -> bool {
    let status = identity.status.as_ref();
    let used = status.and_then(|status| status.connection_ref.as_ref());
    let namespace = identity.namespace().unwrap_or_default();
    used.is_some_and(|used| ConnectionKey::from_reference(used, &namespace) == *key)
}

fn target(identity: &AcsIdentity, own: Option<&str>) -> RevocationTarget {
    let status = identity.status.as_ref();
    let identity_id = status.and_then(|status| status.identity_id.clone());
    let note = identity_id
        .is_none()
        .then(|| "it had no identity in ACS yet, and therefore no tokens".to_owned());
    RevocationTarget {
        namespace: identity.namespace().filter(|_| own.is_none()),
        name: identity.name_any(),
        uid: identity.uid(),
        identity_id,
        revoked_at: None,
        note,
    }
}

fn missing(name: &str) -> RevocationTarget {
    RevocationTarget {
        name: name.to_owned(),
        note: Some("the AcsIdentity does not exist".to_owned()),
        ..RevocationTarget::default()
    }
}

/// Returns the selector, if there is one, or an error if it is invalid.
fn understood(selection: &Selection<'_>) -> Result<Option<Selector>, String> {
    let Selection::Labels(selector) = selection else {
        return Ok(None);
    };
    for requirement in selector.match_expressions.iter().flatten() {
        let needs_values = match requirement.operator.as_str() {
            "In" | "NotIn" => true,
            "Exists" | "DoesNotExist" => false,
            other => {
                return Err(format!(
                    "selector.matchExpressions has the unknown operator {other}; create a new \
                     revocation with In, NotIn, Exists or DoesNotExist"
                ));
            }
        };
        let has_values = requirement.values.as_ref().is_some_and(|it| !it.is_empty());
        if needs_values != has_values {
            let (operator, key) = (&requirement.operator, &requirement.key);
            let how = if needs_values { "needs" } else { "takes no" };
            return Err(format!(
                "selector.matchExpressions: {operator} {how} values (key {key}); create a new \
                 revocation"
            ));
        }
    }
    Selector::try_from((*selector).clone())
        .map(Some)
        .map_err(|error| format!("selector: {error}"))
}

/// Returns the state of the open targets of a revocation. Returns `None` if all of them and all
/// queued ones belong to another operator, because they are in namespaces that this one does not
/// watch.
#[must_use]
pub fn progress<R: AnyRevocation>(
    context: &Context,
    revocation: &R,
    now: Timestamp,
) -> Option<Progress> {
    let uid = revocation.uid().unwrap_or_default();
    let own = revocation.namespace();
    let watched = &context.config.watch_namespaces;
    let is_watched =
        |namespace: &str| watched.is_empty() || watched.iter().any(|it| it == namespace);
    let status = revocation.status();
    let mut waiting = status.into_iter().flat_map(|status| &status.queued);
    let mut is_ours = waiting.any(|group| {
        let namespace = group.namespace.as_deref().or(own.as_deref());
        is_watched(namespace.unwrap_or_default())
    });
    let seen = revocation
        .open_targets()
        .map(|target| {
            let namespace = namespace_of(target, own.as_deref());
            if !is_watched(namespace) {
                return Seen::Waiting(Some(Reason::NamespaceNotWatched));
            }
            is_ours = true;
            let identity = object_ref(Some(namespace), &target.name);
            let identity = context.views.identities.get(&identity);
            match identity.filter(|identity| identity.uid() == target.uid) {
                Some(identity) => seen(context, &identity, &uid, now),
                None => Seen::Gone,
            }
        })
        .collect();
    is_ours.then(|| Progress {
        now,
        seen,
        queued: queued(context, revocation),
    })
}

/// Returns the first queued targets, as they are now. An object that was created again with the
/// same name counts: one revocation too many is better than one too few.
fn queued<R: AnyRevocation>(context: &Context, revocation: &R) -> Vec<RevocationTarget> {
    let own = revocation.namespace();
    let status = revocation.status();
    let groups = status.into_iter().flat_map(|status| &status.queued);
    groups
        .flat_map(|group| group.names.iter().map(|name| (&group.namespace, name)))
        .take(AT_A_TIME)
        .map(|(namespace, name)| {
            let place = namespace.as_deref().or(own.as_deref());
            let identity = context.views.identities.get(&object_ref(place, name));
            match identity {
                Some(identity) => target(&identity, own.as_deref()),
                None => RevocationTarget {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    note: Some(DELETED_MEANWHILE.to_owned()),
                    ..RevocationTarget::default()
                },
            }
        })
        .collect()
}

fn seen(context: &Context, identity: &AcsIdentity, revocation: &str, now: Timestamp) -> Seen {
    let status = identity.status.as_ref();
    let last = status.and_then(|status| status.last_revocation.as_ref());
    match last {
        Some(last) if last.orders.iter().any(|uid| uid == revocation) => {
            Seen::Revoked(last.time.clone())
        }
        _ => Seen::Waiting(hindrance(context, identity, now)),
    }
}

/// Returns what keeps an identity's tokens from being revoked.
fn hindrance(context: &Context, identity: &AcsIdentity, now: Timestamp) -> Option<Reason> {
    let status = identity.status.as_ref()?;
    let failed = status.last_failure.as_ref();
    failed.map(LastFailure::reason).or_else(|| {
        let namespace = identity.namespace()?;
        let key = ConnectionKey::from_reference(status.connection_ref.as_ref()?, &namespace);
        let usable = context.usable_connection(&key, &namespace, now);
        usable.err().map(|why| why.reason)
    })
}
