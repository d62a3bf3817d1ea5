use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{
    ResourceExt,
    core::{Selector, SelectorExt},
    runtime::reflector::ObjectRef,
};

use super::{
    decide::{FirstSight, Progress, Seen},
    kinds::{AnyRevocation, Selection, namespace_of},
};
use crate::{
    cluster::{
        index, named,
        view::{View, object_ref},
    },
    context::Context,
    crd::{AcsIdentity, ConnectionKey, RevocationTarget},
};

/// An order that has an identity as an open target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its UID.
    pub uid: String,
    /// `Kind namespace/name`.
    pub named: String,
}

/// The orders that have the identity as an open target.
#[must_use]
pub fn orders_of(context: &Context, identity: &AcsIdentity) -> Vec<Order> {
    let views = &context.views;
    let mut orders = orders_in(&views.revocations, identity);
    orders.extend(orders_in(&views.cluster_revocations, identity));
    orders
}

fn orders_in<R: AnyRevocation>(view: &View<R>, identity: &AcsIdentity) -> Vec<Order> {
    let (namespace, name) = (
        identity.namespace().unwrap_or_default(),
        identity.name_any(),
    );
    let is_it = |order: &R, target: &RevocationTarget| {
        target.name == name
            && target.uid == identity.uid()
            && namespace_of(target, order.namespace().as_deref()) == namespace
    };
    let orders = view.find(&index::targeting(&namespace, &name));
    orders
        .filter(|order| {
            let mut open = order.open_targets();
            open.any(|target| is_it(order, target))
        })
        .map(|order| Order {
            uid: order.uid().unwrap_or_default(),
            named: named(order.as_ref()),
        })
        .collect()
}

/// What a new order selects now; `None` where another operator may know better: one that watches
/// some namespaces only, and finds nobody in them, can't tell that there is nobody.
#[must_use]
pub fn first_sight<R: AnyRevocation>(
    context: &Context,
    order: &R,
    now: Timestamp,
) -> Option<FirstSight> {
    let selection = order.selection();
    let selected = select(context, order, &selection);
    let watched = &context.config.watch_namespaces;
    let is_known = |namespace: &String| watched.contains(namespace);
    let is_ours = order.namespace().is_some()
        || watched.is_empty()
        || match (&selected, &selection) {
            (Ok(targets), _) if !targets.is_empty() => true,
            (_, Selection::Namespaces(namespaces)) => namespaces.iter().any(is_known),
            (_, Selection::Connection(key)) => key.namespace.as_ref().is_some_and(is_known),
            (selected, _) => selected.is_err(),
        };
    is_ours.then(|| FirstSight {
        now,
        terms: order.terms(),
        selected,
    })
}

fn select<R: AnyRevocation>(
    context: &Context,
    order: &R,
    selection: &Selection<'_>,
) -> Result<Vec<RevocationTarget>, String> {
    let own = order.namespace();
    let identities = &context.views.identities;
    let selected: Vec<ObjectRef<AcsIdentity>> = match selection {
        Selection::Names(names) => {
            let names: BTreeSet<_> = names.iter().collect();
            let names = names.into_iter();
            return Ok(names
                .map(|name| {
                    let found = identities.get(&object_ref(own.as_deref(), name));
                    found.map_or_else(
                        || missing(name),
                        |identity| target(&identity, own.as_deref()),
                    )
                })
                .collect());
        }
        Selection::Namespaces(namespaces) => {
            let namespaces: BTreeSet<_> = namespaces.iter().collect();
            let namespaces = namespaces.into_iter();
            namespaces
                .flat_map(|namespace| identities.find_refs(&index::in_namespace(namespace)))
                .collect()
        }
        Selection::Labels(_) if own.is_some() => {
            let key = index::in_namespace(own.as_deref().unwrap_or_default());
            identities.find_refs(&key)
        }
        Selection::Labels(_) | Selection::Connection(_) => identities.refs(None),
    };
    let selector = match selection {
        Selection::Labels(selector) => Some(understood(selector)?),
        _ => None,
    };
    let is_selected = |identity: &AcsIdentity| match selection {
        Selection::Connection(key) => uses(identity, key),
        _ => selector
            .as_ref()
            .is_none_or(|selector| selector.matches(identity.labels())),
    };
    let mut targets: Vec<_> = selected
        .iter()
        .filter_map(|key| identities.get(key))
        .filter(|identity| is_selected(identity))
        .map(|identity| target(&identity, own.as_deref()))
        .collect();
    targets.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(targets)
}

/// Whether the identity belongs to the connection: by what was resolved, where its tokens are from.
fn uses(identity: &AcsIdentity, key: &ConnectionKey) -> bool {
    let status = identity.status.as_ref();
    let used = status.and_then(|status| status.connection_ref.as_ref());
    let namespace = identity.namespace().unwrap_or_default();
    used.is_some_and(|used| ConnectionKey::of(used, &namespace) == *key)
}

fn target(identity: &AcsIdentity, own: Option<&str>) -> RevocationTarget {
    let status = identity.status.as_ref();
    let identity_id = status.and_then(|status| status.identity_id.clone());
    let note = identity_id
        .is_none()
        .then(|| "it had no identity in ACS yet, and so no tokens".to_owned());
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
        note: Some("there is no such AcsIdentity".to_owned()),
        ..RevocationTarget::default()
    }
}

/// The selector, if it means something.
fn understood(selector: &LabelSelector) -> Result<Selector, String> {
    for requirement in selector.match_expressions.iter().flatten() {
        let needs_values = match requirement.operator.as_str() {
            "In" | "NotIn" => true,
            "Exists" | "DoesNotExist" => false,
            other => {
                return Err(format!(
                    "selector.matchExpressions has the operator {other}, which is none of In, \
                     NotIn, Exists and DoesNotExist: make another order"
                ));
            }
        };
        let has_values = requirement.values.as_ref().is_some_and(|it| !it.is_empty());
        if needs_values != has_values {
            let (operator, key) = (&requirement.operator, &requirement.key);
            let how = if needs_values { "needs" } else { "takes no" };
            return Err(format!(
                "selector.matchExpressions: {operator} {how} values (key {key}): make another order"
            ));
        }
    }
    Selector::try_from(selector.clone()).map_err(|error| format!("selector: {error}"))
}

/// What has become of an order's open targets; `None` where all of them are another operator's: in
/// namespaces that this one does not watch.
#[must_use]
pub fn progress<R: AnyRevocation>(
    context: &Context,
    order: &R,
    now: Timestamp,
) -> Option<Progress> {
    let uid = order.uid().unwrap_or_default();
    let own = order.namespace();
    let watched = &context.config.watch_namespaces;
    let mut is_ours = false;
    let seen = order
        .open_targets()
        .map(|target| {
            let namespace = namespace_of(target, own.as_deref());
            if !watched.is_empty() && watched.iter().all(|it| it != namespace) {
                return Seen::Waiting(Some("NamespaceNotWatched".to_owned()));
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
    is_ours.then_some(Progress { now, seen })
}

fn seen(context: &Context, identity: &AcsIdentity, order: &str, now: Timestamp) -> Seen {
    let status = identity.status.as_ref();
    let last = status.and_then(|status| status.last_revocation.as_ref());
    match last {
        Some(last) if last.orders.iter().any(|uid| uid == order) => {
            Seen::Revoked(last.time.clone())
        }
        _ => Seen::Waiting(hindrance(context, identity, now)),
    }
}

/// What keeps an identity's tokens from being revoked, in a word.
fn hindrance(context: &Context, identity: &AcsIdentity, now: Timestamp) -> Option<String> {
    let status = identity.status.as_ref()?;
    let failed = status.last_failure.as_ref();
    failed.map(|failure| failure.reason.clone()).or_else(|| {
        let namespace = identity.namespace()?;
        let key = ConnectionKey::of(status.connection_ref.as_ref()?, &namespace);
        let usable = context.usable_connection(&key, &namespace, now);
        usable.err().map(|why| why.reason.into_owned())
    })
}
