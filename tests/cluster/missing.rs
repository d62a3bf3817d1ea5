//! Missing CRDs: a kind that the API server does not know affects only what needs it.

use std::fs;

use acs_identity_operator::crd::AcsIdentity;

use crate::support::{
    eventually,
    kubernetes::{self, Cluster, root},
    world::World,
};

/// Returns the CRDs of `kinds`, or all others.
fn crds(kinds: &[&str], are_these: bool) -> String {
    let all = fs::read_to_string(root("crds/acs-identity.dev.yaml")).expect("the CRDs");
    let is_one = |crd: &str| {
        kinds
            .iter()
            .any(|kind| crd.contains(&format!("\n  name: {kind}.acs-identity.dev\n")))
    };
    let chosen = all.split("---\n");
    let chosen: Vec<_> = chosen.filter(|crd| is_one(crd) == are_these).collect();
    chosen.join("---\n")
}

fn apply_crds(cluster: &Cluster, manifest: &str) {
    let (went_well, said) = cluster.pipe(&["apply", "--server-side", "-f", "-"], manifest);
    assert!(went_well, "{said}");
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all"]);
}

#[tokio::test]
async fn a_missing_kind_holds_up_only_what_needs_it_until_it_comes() {
    let missing = [
        "clusteracsconnections",
        "acsrevocations",
        "clusteracsrevocations",
    ];
    let cluster: &'static Cluster = Box::leak(Box::new(kubernetes::start()));
    apply_crds(cluster, &crds(&missing, false));
    let mut world = World::bare_in(cluster, &[], &[]).await;
    world.connect("main", &world.emulator.connection_string.clone());
    world.start_operator();
    world.identity("alice", "connectionRef: {kind: AcsConnection, name: main}");
    world.token("web", "alice", "scopes: [chat]");
    // It may be meant for a ClusterAcsConnection named default.
    world.identity("bob", "");
    let former = world.live_token("web", &[]).await;
    let (status, body) = world.operator().get("/readyz").await;
    assert_eq!(status, 503);
    assert_eq!(body.lines().count(), missing.len(), "{body}");
    for kind in missing {
        let sentence = format!("the API server does not know {kind}.acs-identity.dev: apply");
        assert!(body.contains(&sentence), "{body}");
        assert!(world.operator().process.output().contains(&sentence));
    }
    let bob = world.get::<AcsIdentity>("bob").await;
    assert!(bob.status.expect("its default").conditions.is_empty());

    apply_crds(cluster, &crds(&missing, true));
    let operator = world.operator();
    eventually("/readyz is fine", || async {
        (operator.get("/readyz").await.0 == 200).then_some(())
    })
    .await;
    world.identity_says("bob", "ConnectionNotFound").await;
    world.apply(
        "apiVersion: acs-identity.dev/v1alpha1\nkind: AcsRevocation\nmetadata: {name: all}\nspec: {names: [alice]}\n",
    );
    world.live_token("web", &[&former]).await;
    assert!(!world.emulator.check(&former).await.valid);
}
