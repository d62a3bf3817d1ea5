//! Backups: objects that are restored with new UIDs, and an etcd that is restored to an earlier
//! state.

use std::collections::{BTreeMap, BTreeSet};

use acs_identity_operator::crd::{
    AcsConnection, AcsIdentity, AcsRevocation, AcsToken, ClusterAcsConnection,
};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use crate::{
    cluster::{Kind, Refused},
    connection::{Connection, SECRET},
    history::{IDENTITIES, TOKENS},
    service::{Request, Revoker},
    teams,
    truth::Truth,
    workloads,
    world::{Message, Reply, State, World, text_in},
};

/// UID of the object in create calls that a restored backup does not record.
const FORGOTTEN: &str = "forgotten";

/// Contents of a backup of etcd.
#[derive(Clone, Debug)]
pub struct Backup {
    identities: BTreeMap<String, AcsIdentity>,
    tokens: BTreeMap<String, AcsToken>,
    secrets: BTreeMap<String, Secret>,
    orders: BTreeMap<String, AcsRevocation>,
    connections: BTreeMap<String, AcsConnection>,
    global_connections: BTreeMap<String, ClusterAcsConnection>,
    connection: Connection,
    workloads: BTreeMap<String, workloads::Stored>,
}

pub fn take(world: &mut World) {
    let cluster = &world.cluster;
    world.backup = Some(Backup {
        identities: cluster.identities.clone(),
        tokens: cluster.tokens.clone(),
        secrets: cluster.secrets.clone(),
        orders: cluster.orders.clone(),
        connections: cluster.connections.clone(),
        global_connections: cluster.global_connections.clone(),
        connection: world.connection.clone(),
        workloads: world.workloads.stored.clone(),
    });
}

/// Restores etcd as its documentation says, with a revision above all earlier ones: everything is
/// as it was, and every watch lists again.
pub fn rewind(world: &mut World) {
    let Some(backup) = world.backup.clone() else {
        return;
    };
    let cluster = &mut world.cluster;
    let mut names: BTreeSet<_> = cluster.secrets.keys().cloned().collect();
    names.extend(backup.secrets.keys().cloned());
    cluster.identities = backup.identities;
    cluster.tokens = backup.tokens;
    cluster.secrets = backup.secrets;
    cluster.orders = backup.orders;
    cluster.connections = backup.connections;
    cluster.global_connections = backup.global_connections;
    cluster.break_watches(names);
    let former = std::mem::replace(&mut world.connection, backup.connection);
    // The process keeps what the watch reported and what it read.
    world.connection.told = former.told;
    world.connection.read = former.read;
    world.connection.changed_at = world.now;
    workloads::rewind(world, backup.workloads);
    forget(world);
}

/// Drops what happened after the backup: the operator cannot know it, and nothing is owed for it.
fn forget(world: &mut World) {
    let held: Vec<_> = world
        .cluster
        .secrets
        .values()
        .filter_map(|it| text_in(it, "token"))
        .collect();
    let told = |world: &World, fingerprint: &String| {
        let mut statuses = world
            .cluster
            .tokens
            .values()
            .filter_map(|it| it.status.as_ref());
        statuses.any(|status| status.fingerprint.as_ref() == Some(fingerprint))
    };
    let told: Vec<_> = world
        .service
        .tokens()
        .filter(|it| told(world, &it.fingerprint))
        .map(|it| it.text.clone())
        .collect();
    for token in world.service.tokens_mut() {
        token.is_lost |= token.is_stored && !held.contains(&token.text);
        token.is_told = told.contains(&token.text);
        token.revoked = token.revoked.map(|_| Revoker::Stranger);
    }
    for call in &mut world.calls {
        match &mut call.message {
            Message::Acs(request, _) => forget_for_whom(request),
            // The API server was stopped meanwhile.
            Message::Api(_) => call.state = State::Answered(Reply::Api(Err(Refused::NoAnswer))),
        }
    }
    for late in &mut world.stragglers {
        forget_for_whom(&mut late.request);
    }
    for (id, identity) in &mut world.service.identities {
        let known = world.cluster.identities.values().any(|object| {
            let status = object.status.as_ref();
            status.is_some_and(|status| status.identity_id.as_ref() == Some(id))
        });
        if !known {
            identity.made_for = None;
        }
        identity.valid_after = identity
            .valid_after
            .map(|(second, _)| (second, Revoker::Stranger));
    }
    let truth = &mut world.truth;
    truth.duties.clear();
    truth.requested.clear();
    truth.asked.clear();
    truth.issues.clear();
    truth.orders.retain(|uid| {
        let mut orders = world.cluster.orders.values();
        orders
            .any(|revocation| revocation.uid().as_ref() == Some(uid) && revocation.status.is_some())
    });
    let back: Vec<_> = world
        .cluster
        .identities
        .values()
        .filter_map(ResourceExt::uid)
        .collect();
    truth.gone.retain(|uid, _| !back.contains(uid));
    truth.abandoned.retain(|uid| !back.contains(uid));
    truth.came_back = world.now;
    truth.unanswered = Some(world.now);
    truth.rewound = Some(world.now);
    Truth::policy_told(world);
}

fn forget_for_whom(request: &mut Request) {
    if let Request::Create { uid, .. } = request {
        FORGOTTEN.clone_into(uid);
    }
}

/// All objects of the namespace are lost, and restored with new UIDs; Secrets without their owners,
/// if the backup contains them.
pub fn restore(world: &mut World, with_status: bool, with_secrets: bool) {
    for name in TOKENS.map(|(name, _)| name) {
        Truth::lose(world, name);
    }
    let secrets: Vec<_> = world.cluster.secrets.keys().cloned().collect();
    let is_input = |name: &str| name == SECRET || name == teams::ENTRA;
    for name in secrets.iter().filter(|name| !is_input(name)) {
        bring_back::<Secret>(world, name, with_secrets, |secret| {
            secret.metadata.owner_references = None;
        });
        // It has no owner, like a copy.
        let back = world.cluster.secrets.get(name).and_then(ResourceExt::uid);
        world.truth.copies.extend(back);
    }
    for name in IDENTITIES {
        let lost = bring_back::<AcsIdentity>(world, name, true, |identity| {
            identity.status = identity.status.take().filter(|_| with_status);
        });
        if let Some(lost) = lost {
            world.truth.let_go(&lost, true);
        }
    }
    for (name, _) in TOKENS {
        let lost = bring_back::<AcsToken>(world, name, true, |token| {
            token.status = token.status.take().filter(|_| with_status);
        });
        let back = world.cluster.tokens.get(name).and_then(ResourceExt::uid);
        let lost = lost.and_then(|lost| lost.uid());
        if let (true, Some(lost), Some(back)) = (with_status, lost, back) {
            workloads::came_back(world, &lost, &back);
        }
    }
    let objects = &world.cluster.tokens;
    let is_gone = |uid: &String| objects.values().all(|it| it.uid().as_ref() != Some(uid));
    world.truth.duties.retain(|duty| !is_gone(&duty.uid));
    world.truth.rewound = Some(world.now);
}

/// Restores a lost object, regardless of its finalizers.
fn bring_back<K: Kind>(
    world: &mut World,
    name: &str,
    comes_back: bool,
    change: impl FnOnce(&mut K),
) -> Option<K> {
    let now = world.time();
    let lost = K::all(&mut world.cluster).get(name).cloned()?;
    let strip = |object: &mut K| object.meta_mut().finalizers = None;
    let _ = world.cluster.update(name, None, strip);
    let _ = world.cluster.delete::<K>(name, None, now);
    if comes_back {
        let mut object = lost.clone();
        change(&mut object);
        object.meta_mut().deletion_timestamp = None;
        let _ = world.cluster.create(object, now);
    }
    Some(lost)
}
