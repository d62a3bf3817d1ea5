//! Conversion of a snapshot of the cluster to a tree: connections, their identities, their tokens;
//! and revocations (pure).

use std::collections::BTreeSet;

use acs_identity_operator::crd::{
    AcsConnection, AcsIdentity, AcsToken, ClusterAcsConnection, ConnectionKind, ConnectionRef,
    ConnectionStatus, DEFAULT_CONNECTION, LastFailure, scopes_text,
};
use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::{
    actions::user,
    cluster::overview::Overview,
    view::{
        consumers, revocations, span,
        standing::{HasConditions, Standing, State},
    },
};

/// Object with its children.
#[derive(Clone, Debug)]
pub struct Node {
    /// Kind of the object.
    pub kind: &'static str,
    /// Namespace of the object; empty if it is cluster-scoped.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// State of the object.
    pub standing: Standing,
    /// Other properties of the object.
    pub record: Vec<Fact>,
    /// Warnings that are not conditions.
    pub notes: Vec<String>,
    /// Children of the object.
    pub children: Vec<Self>,
}

/// Property of an object.
#[derive(Clone, Debug)]
pub struct Fact {
    /// Name, for machines.
    pub key: &'static str,
    /// Value, for machines.
    pub value: String,
    /// Text, for people.
    pub text: String,
}

fn fact(key: &'static str, value: impl Into<String>) -> Fact {
    let value = value.into();
    Fact {
        key,
        text: value.clone(),
        value,
    }
}

/// Connection that others refer to: kind, namespace (empty if it is cluster-scoped) and name.
type Key = (&'static str, String, String);

/// Returns the tree, with times relative to `now`.
pub fn tree(overview: &Overview, now: Timestamp) -> Vec<Node> {
    let mut roots: Vec<Node> = overview.connections.iter().map(of_connection).collect();
    let of_users = || {
        let tokens = overview.tokens.iter();
        tokens.filter(|token| token.spec.teams_user.is_some())
    };
    let used: BTreeSet<Key> = overview
        .identities
        .iter()
        .filter_map(|identity| connection_of_identity(identity, overview))
        .chain(of_users().filter_map(|token| connection_of_user(token, overview)))
        .collect();
    for key in used {
        if !roots.iter().any(|root| is(root, &key)) {
            roots.push(of_reference(key, overview));
        }
    }
    let identities = overview.identities.iter().map(|identity| {
        let key = connection_of_identity(identity, overview);
        (key, of_identity(identity, overview, now))
    });
    let of_users = of_users().map(|token| {
        let key = connection_of_user(token, overview);
        (key, of_token(token, overview, now))
    });
    let mut lost = Vec::new();
    for (key, node) in identities.chain(of_users) {
        let root = key.and_then(|key| roots.iter_mut().find(|root| is(root, &key)));
        match root {
            Some(root) => root.children.push(node),
            None => lost.push(node),
        }
    }
    let has_identity = |token: &&AcsToken| {
        overview
            .identities
            .iter()
            .any(|identity| is_of(token, identity))
    };
    let orphans = overview
        .tokens
        .iter()
        .filter(|token| token.spec.teams_user.is_none() && !has_identity(token));
    lost.extend(orphans.map(|token| of_token(token, overview, now)));
    roots.extend(lost);
    roots.extend(revocations::nodes(overview, now));
    sort(&mut roots);
    roots
}

fn sort(nodes: &mut [Node]) {
    nodes.sort_by(|a, b| (&a.namespace, a.kind, &a.name).cmp(&(&b.namespace, b.kind, &b.name)));
    for node in nodes {
        sort(&mut node.children);
    }
}

fn is(node: &Node, (kind, namespace, name): &Key) -> bool {
    node.kind == *kind && node.namespace == *namespace && node.name == *name
}

fn connection_of_identity(identity: &AcsIdentity, overview: &Overview) -> Option<Key> {
    let status = identity.status.as_ref();
    let resolved = status.and_then(|status| status.connection_ref.as_ref());
    let named = resolved.or(identity.spec.connection_ref.as_ref());
    connection_of(named, identity.namespace().unwrap_or_default(), overview)
}

fn connection_of_user(token: &AcsToken, overview: &Overview) -> Option<Key> {
    let status = token.status.as_ref();
    let resolved = status.and_then(|status| status.connection_ref.as_ref());
    let named = resolved.or(token.spec.connection_ref.as_ref());
    connection_of(named, token.namespace().unwrap_or_default(), overview)
}

/// Returns the connection that an object of `namespace` uses, or would use, if it is known.
fn connection_of(
    named: Option<&ConnectionRef>,
    namespace: String,
    overview: &Overview,
) -> Option<Key> {
    if let Some(reference) = named {
        return Some(key(reference, namespace));
    }
    let is_default = |connection: &AcsConnection| {
        connection.name_any() == DEFAULT_CONNECTION
            && connection.namespace().as_ref() == Some(&namespace)
    };
    if overview.connections.iter().any(is_default) {
        return Some(("AcsConnection", namespace, DEFAULT_CONNECTION.to_owned()));
    }
    let is_default =
        |connection: &ClusterAcsConnection| connection.name_any() == DEFAULT_CONNECTION;
    let all = overview.cluster_connections.as_ref()?;
    all.iter().any(is_default).then(|| {
        (
            "ClusterAcsConnection",
            String::new(),
            DEFAULT_CONNECTION.to_owned(),
        )
    })
}

fn key(reference: &ConnectionRef, namespace: String) -> Key {
    let namespace = match reference.kind {
        ConnectionKind::AcsConnection => namespace,
        ConnectionKind::ClusterAcsConnection => String::new(),
    };
    (reference.kind.as_str(), namespace, reference.name.clone())
}

/// Returns the node of an object, without its children.
pub fn node(kind: &'static str, object: &impl HasConditions) -> Node {
    let (metadata, ..) = object.parts();
    Node {
        kind,
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
        standing: object.standing(),
        record: Vec::new(),
        notes: Vec::new(),
        children: Vec::new(),
    }
}

fn of_connection(connection: &AcsConnection) -> Node {
    with_connection_facts(
        node("AcsConnection", connection),
        connection.status.as_ref(),
    )
}

fn with_connection_facts(mut node: Node, status: Option<&ConnectionStatus>) -> Node {
    let Some(status) = status else { return node };
    node.record.extend(
        status
            .endpoint
            .clone()
            .map(|endpoint| fact("endpoint", endpoint)),
    );
    if let Some(offset) = &status.clock_offset {
        node.notes.push(format!(
            "the clock of ACS differs by {offset} from the clock of the operator"
        ));
    }
    if !status.refused_credentials.is_empty() {
        node.notes.push(
            "ACS rejects a credential that it accepted before: tokens issued with it may no \
             longer work"
                .to_owned(),
        );
    }
    node
}

/// Returns the node of a connection that others refer to and that is not in the list.
fn of_reference((kind, namespace, name): Key, overview: &Overview) -> Node {
    let found = overview
        .cluster_connections
        .iter()
        .flatten()
        .find(|connection| kind == "ClusterAcsConnection" && connection.name_any() == name);
    if let Some(connection) = found {
        return with_connection_facts(
            node("ClusterAcsConnection", connection),
            connection.status.as_ref(),
        );
    }
    let may_see = kind == "AcsConnection" || overview.cluster_connections.is_some();
    let standing = if may_see {
        Standing::missing(format!("this {kind} does not exist"))
    } else {
        // A connection that the user may not list is not an error.
        Standing {
            state: State::Ready,
            is_ready: true,
            reason: String::new(),
            message: "you are not allowed to read it".to_owned(),
        }
    };
    Node {
        kind,
        namespace,
        name,
        standing,
        record: Vec::new(),
        notes: Vec::new(),
        children: Vec::new(),
    }
}

fn is_of(token: &AcsToken, identity: &AcsIdentity) -> bool {
    token.namespace() == identity.namespace() && token.identity_name() == Some(&identity.name_any())
}

fn of_identity(identity: &AcsIdentity, overview: &Overview, now: Timestamp) -> Node {
    let mut node = node("AcsIdentity", identity);
    node.record
        .extend(user::id_of(identity).map(|id| fact("identityId", id)));
    if identity.open_request().is_some() {
        node.notes
            .push("a revocation of its tokens is requested".to_owned());
    }
    if let Some(status) = &identity.status {
        if status.pending_revocation.is_some() {
            node.notes
                .push("a revocation of its tokens is in progress".to_owned());
        }
        node.notes.extend(
            status
                .last_failure
                .as_ref()
                .map(|failure| failure_text(failure, now)),
        );
    }
    let tokens = overview
        .tokens
        .iter()
        .filter(|token| is_of(token, identity));
    node.children = tokens.map(|token| of_token(token, overview, now)).collect();
    node
}

fn of_token(token: &AcsToken, overview: &Overview, now: Timestamp) -> Node {
    let mut node = node("AcsToken", token);
    if token.open_request().is_some() {
        node.notes.push("a new token is requested".to_owned());
    }
    let status = token.status.clone().unwrap_or_default();
    let user = token.spec.teams_user.as_ref();
    node.record.extend(user.map(|user| Fact {
        key: "teamsUser",
        text: format!("Teams user {}", user.user_id),
        value: user.user_id.clone(),
    }));
    let scopes = status.scopes.unwrap_or_else(|| token.scopes());
    node.record.push(fact("scopes", scopes_text(&scopes)));
    let mut time = |key, label: &str, time: Option<Timestamp>| {
        node.record.extend(time.map(|time| Fact {
            key,
            value: time.to_string(),
            text: format!("{label} {}", span::from_now(time, now)),
        }));
    };
    let ends = status.expires_at.map(|time| time.0);
    let label = if ends.is_some_and(|end| end <= now) {
        "expired"
    } else {
        "expires"
    };
    time("expiresAt", label, ends);
    time("renewAt", "renews", status.renew_at.map(|time| time.0));
    if let Some(secret) = status.secret_name {
        let key = (node.namespace.clone(), secret.clone());
        if overview
            .secrets
            .as_ref()
            .is_some_and(|secrets| !secrets.contains(&key))
        {
            node.notes
                .push(format!("its Secret {secret} does not exist"));
        }
        node.record.push(Fact {
            key: "secretName",
            text: format!("Secret {secret}"),
            value: secret,
        });
    }
    node.notes.extend(
        status
            .last_failure
            .as_ref()
            .map(|failure| failure_text(failure, now)),
    );
    let pods = overview.pods.as_deref();
    node.notes.extend(consumers::notes(token, pods, now));
    node
}

fn failure_text(failure: &LastFailure, now: Timestamp) -> String {
    let ago = span::from_now(failure.time.0, now);
    format!(
        "{ago} a call failed: {}: {}",
        failure.reason, failure.message
    )
}

impl Node {
    /// Returns the node, then all nodes below it.
    pub fn all(&self) -> Vec<&Self> {
        let below = self.children.iter().flat_map(Self::all);
        std::iter::once(self).chain(below).collect()
    }
}

/// Keeps nodes with one of the `names`, with all nodes above and below them.
pub fn select(nodes: Vec<Node>, names: &[String]) -> Vec<Node> {
    let kept = nodes.into_iter().filter_map(|mut node| {
        if names.contains(&node.name) {
            return Some(node);
        }
        node.children = select(std::mem::take(&mut node.children), names);
        (!node.children.is_empty()).then_some(node)
    });
    kept.collect()
}
