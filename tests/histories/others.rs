//! Changes to Secrets and the operator's objects by others: replicators, people, backups.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use acs_identity_operator::crd::{AcsIdentity, AcsToken};

use crate::{
    cluster::Kind,
    history::{IDENTITIES, TOKENS},
    truth::Truth,
    world::World,
};

/// Suffix of copied Secrets: for owner references, they are in another namespace.
pub const COPY: &str = "-copy";

/// Copies a Secret with labels and annotations, without its owner, as a replicator does.
pub fn copy(world: &mut World, name: &str) {
    let Some(mut copy) = world.cluster.secrets.get(name).cloned() else {
        return;
    };
    copy.metadata.name = Some(format!("{name}{COPY}"));
    copy.metadata.owner_references = None;
    copy.metadata.resource_version = None;
    let now = world.time();
    if let Ok(copied) = world.cluster.create_in::<Secret>(copy, "elsewhere", now) {
        world.truth.copies.insert(copied.uid().unwrap_or_default());
    }
}

/// Edits one annotation of the operator: to the past, the future, or an invalid value.
pub fn annotate(world: &mut World, name: &str, how: u8) {
    const KEYS: [&str; 6] = [
        "issued-at",
        "expires-at",
        "life",
        "renew-at",
        "revision",
        "credential",
    ];
    const VALUES: [&str; 5] = [
        "2099-01-01T00:00:00Z",
        "2000-01-01T00:00:00Z",
        "2027-01-15T08:00:00.5Z",
        "7s",
        "nonsense",
    ];
    Truth::lose(world, name);
    let key = KEYS[usize::from(how) % KEYS.len()];
    let value = VALUES[usize::from(how) / KEYS.len() % VALUES.len()];
    let _ = world.cluster.update::<Secret>(name, None, |secret| {
        let key = format!("acs-identity.dev/{key}");
        if let Some(held) = secret.annotations_mut().get_mut(&key) {
            value.clone_into(held);
        }
    });
}

/// Removes the finalizers from an object; if it was being deleted, it is gone together with what
/// was owed to it.
pub fn strip_finalizer(world: &mut World, number: u8) {
    let number = usize::from(number);
    if let Some(name) = IDENTITIES.get(number) {
        let identity = world.cluster.identities.get(*name).cloned();
        strip::<AcsIdentity>(world, name);
        let identity = identity.filter(|it| it.metadata.deletion_timestamp.is_some());
        if let Some(identity) = identity {
            world.truth.let_go(&identity, true);
        }
    } else if let Some((name, _)) = TOKENS.get(number - IDENTITIES.len()) {
        strip::<AcsToken>(world, name);
        let objects = &world.cluster.tokens;
        let is_gone = |uid: &String| objects.values().all(|it| it.uid().as_ref() != Some(uid));
        world.truth.duties.retain(|duty| !is_gone(&duty.uid));
    }
}

fn strip<K: Kind>(world: &mut World, name: &str) {
    let _ = world
        .cluster
        .update::<K>(name, None, |object| object.meta_mut().finalizers = None);
}
