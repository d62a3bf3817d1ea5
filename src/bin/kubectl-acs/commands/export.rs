//! `export`: prints the objects, with everything that another cluster needs to continue with them.

use std::collections::BTreeSet;

use acs_identity_operator::crd::{
    AcsConnection, AcsIdentity, AcsToken, ClusterAcsConnection, DeletionPolicy, Origin, REQUEST,
    REQUESTED_AT,
};
use clap::Args;
use kube::{Api, Resource};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    cluster::{
        manifest,
        overview::{list, objects},
        session::{ClusterArgs, named},
    },
    failure::Failure,
    view::output,
};

/// Print connections, identities and tokens as YAML for another cluster
///
/// Each AcsIdentity has the id of its user in spec.identityId, so that the other cluster adopts the
/// user instead of creating a new one. Secrets are not printed; stderr lists the Secrets that
/// connections need.
#[derive(Clone, Debug, Args)]
pub struct Export {
    /// Export all namespaces, and ClusterAcsConnections
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

/// Runs `export`.
pub async fn export(place: &ClusterArgs, command: &Export) -> Result<(), Failure> {
    let session = place.connect().await?;
    let all = command.all_namespaces;
    let mut clusters: Vec<ClusterAcsConnection> = Vec::new();
    if all {
        clusters = list(&session, Api::all(session.client.clone())).await?;
    }
    let connections: Vec<AcsConnection> = list(&session, objects(&session, all)).await?;
    let identities: Vec<AcsIdentity> = list(&session, objects(&session, all)).await?;
    let tokens: Vec<AcsToken> = list(&session, objects(&session, all)).await?;
    let mut yaml = String::new();
    for connection in &clusters {
        yaml.push_str(&document(connection, &json!({}))?);
    }
    for connection in &connections {
        yaml.push_str(&document(connection, &json!({}))?);
    }
    for identity in &identities {
        yaml.push_str(&document(identity, &with_id(identity))?);
    }
    for token in &tokens {
        yaml.push_str(&document(token, &json!({}))?);
    }
    output::print(&yaml);
    Ok(())
}

/// Returns an object without cluster-specific fields, and with `spec` merged in. Returns an empty
/// string, and prints a note, for an object that is being deleted.
fn document<K>(object: &K, spec: &Value) -> Result<String, Failure>
where
    K: Resource<DynamicType = ()> + Serialize,
{
    if object.meta().deletion_timestamp.is_some() {
        note(object, "is being deleted and is not exported");
        return Ok(String::new());
    }
    for secret in secrets(&json!(object)) {
        let said = format!("needs Secret {secret}, which is not exported");
        note(object, &said);
    }
    // A request belongs to this cluster; the other cluster would only record it.
    let annotations = json!({REQUEST: null, REQUESTED_AT: null});
    let change = json!({"metadata": {"annotations": annotations}, "spec": spec});
    manifest::changed(object, &change)
}

/// Returns the names of the Secrets that an object reads.
fn secrets(value: &Value) -> BTreeSet<String> {
    let fields = value.as_object().into_iter().flatten();
    fields
        .flat_map(
            |(key, value)| match (key.as_str(), value["name"].as_str()) {
                ("secretRef" | "secondarySecretRef", Some(name)) => {
                    BTreeSet::from([name.to_owned()])
                }
                _ => secrets(value),
            },
        )
        .collect()
}

/// Returns the spec changes with which the other cluster adopts the same user, and deletes it only
/// if this cluster would.
fn with_id(identity: &AcsIdentity) -> Value {
    let status = identity.status.as_ref();
    let id = identity.spec.identity_id.as_ref();
    let Some(id) = id.or_else(|| status?.identity_id.as_ref()) else {
        note(
            identity,
            "has no user in ACS yet; the other cluster creates one",
        );
        return json!({});
    };
    if status.is_some_and(|status| status.pending_revocation.is_some()) {
        note(
            identity,
            "waits for a revocation, which is not exported; wait until it is completed, and \
             export again",
        );
    }
    let is_created = status.and_then(|status| status.origin) == Some(Origin::Created);
    let policy = identity
        .spec
        .deletion_policy
        .or_else(|| is_created.then_some(DeletionPolicy::Delete));
    // The resolved connection is fixed here; in the other cluster the default may be another one.
    let resolved = status.and_then(|status| status.connection_ref.as_ref());
    let connection = resolved.or(identity.spec.connection_ref.as_ref());
    json!({"identityId": id, "deletionPolicy": policy, "connectionRef": connection})
}

fn note<K: Resource<DynamicType = ()>>(object: &K, said: &str) {
    anstream::eprintln!("{} {said}", named(object));
}
