//! Two releases: in the same namespace, and in two namespaces with a common connection.

use acs_identity_operator::crd::{AcsIdentity, ClusterAcsConnection, OPERATOR};
use k8s_openapi::api::events::v1::Event;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;

use super::{Replica, SHORT, World, eventually, holder};

#[tokio::test(flavor = "multi_thread")]
async fn the_second_release_in_a_namespace_stands_by_and_says_who_leads() {
    let world = World::bare(&[], &[]).await;
    world.connect("default", &world.emulator.connection_string.clone());
    let times = &SHORT[..3];
    let first = [times, &["--lease-name=first"]].concat();
    let second = [times, &["--lease-name=second"]].concat();
    let mut first = Replica::start(&world, &first).await;
    first.leads();
    let leader = holder(&world, "first").await;
    let mut second = Replica::start(&world, &second).await;
    let says = format!(
        "another release manages the same namespaces: {leader} is the leader (Lease {}/first)",
        world.namespace
    );
    second.says(&format!("standby: {says}")).await;
    assert!(second.operator.process.output().contains(&says));
    assert_eq!(second.metric("acs_identity_operator_leader").await, "0");
    // Events on Namespaces are in `default`.
    let events: Api<Event> = Api::namespaced(world.client.clone(), "default");
    eventually("an Event says so", || async {
        let events = events.list(&ListParams::default()).await.expect("readable");
        let mut events = events.items.into_iter();
        events.find(|event| {
            let about = event.regarding.as_ref().and_then(|it| it.name.as_deref());
            about == Some(&world.namespace)
                && event.reason.as_deref() == Some("AnotherReleaseLeads")
                && event.reporting_controller.as_deref() == Some(OPERATOR)
                && event.note.as_ref().is_some_and(|note| note.contains(&says))
        })
    })
    .await;
    world.identity("alice", "");
    world.identity_says("alice", "IdentityReady").await;
    assert_eq!(second.acs.first_sent(), None);

    // It takes over when the first one is uninstalled.
    assert!(first.operator.process.terminate().success());
    second.leads();
    world.identity("bob", "");
    world.identity_says("bob", "IdentityReady").await;
    assert_ne!(second.acs.first_sent(), None);
}

/// Connection that the namespaces of two releases use.
struct Common {
    api: Api<ClusterAcsConnection>,
    name: String,
    first: World,
    second: World,
}

impl Common {
    async fn new() -> Self {
        let (first, second) = (World::bare(&[], &[]).await, World::bare(&[], &[]).await);
        let name = first.namespace.clone();
        for world in [&first, &second] {
            world.apply(&format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\n\
                 stringData: {{text: \"{}\"}}\n",
                first.emulator.connection_string
            ));
        }
        first.apply(&format!(
            "apiVersion: acs-identity.dev/v1alpha1\nkind: ClusterAcsConnection\n\
             metadata: {{name: {name}}}\nspec: {{\
             auth: {{connectionString: {{secretRef: {{name: {name}, key: text}}}}}}, \
             policy: {{namespaces: {{names: [{name}, {}]}}}}}}\n",
            second.namespace
        ));
        Self {
            api: Api::all(first.client.clone()),
            name,
            first,
            second,
        }
    }

    /// Starts the release of a namespace.
    async fn release(world: &World, more: &[&str]) -> Replica {
        let times = [&SHORT[..3], more].concat();
        let mut replica = Replica::start(world, &times).await;
        replica.leads();
        replica
    }

    /// Creates an identity that uses the connection.
    async fn identity(&self, world: &World, name: &str) {
        let reference = format!("{{kind: ClusterAcsConnection, name: {}}}", self.name);
        world.identity(name, &format!("connectionRef: {reference}"));
        world.identity_says(name, "IdentityReady").await;
    }

    async fn delete(&self) {
        let parameters = DeleteParams::default();
        let deleted = self.api.delete(&self.name, &parameters).await;
        deleted.expect("deleted");
    }

    /// Returns the finalizers of the connection; `None` once it is gone.
    async fn finalizers(&self) -> Option<Vec<String>> {
        let found = self.api.get_opt(&self.name).await.expect("readable");
        found.map(|found| found.finalizers().to_vec())
    }

    async fn is_gone(&self) {
        eventually("the connection is gone", || async {
            self.finalizers().await.is_none().then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_stays_until_every_release_has_ceased_to_use_it() {
    let common = Common::new().await;
    let (first, second) = (&common.first, &common.second);
    let _first = Common::release(first, &["--lease-name=first"]).await;
    let _second = Common::release(second, &["--lease-name=second"]).await;
    common.identity(second, "bob").await;
    let held = eventually("the second release holds the connection", || async {
        common.finalizers().await.filter(|held| held.len() == 1)
    })
    .await;
    common.delete().await;
    // The first release has seen the deletion, and nothing in its namespace uses the connection.
    first.settled().await;
    assert_eq!(common.finalizers().await, Some(held));
    second.delete::<AcsIdentity>("bob").await;
    common.is_gone().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_no_longer_exists_holds_a_connection_until_the_deadline_only() {
    let common = Common::new().await;
    let more = ["--lease-name=first", "--deletion-deadline=5s"];
    let _first = Common::release(&common.first, &more).await;
    common.identity(&common.first, "alice").await;
    let mut held = eventually("the release holds the connection", || async {
        common.finalizers().await.filter(|held| held.len() == 1)
    })
    .await;
    held.push("acs-identity.dev/cleanup.gone".to_owned());
    let patch = Patch::Merge(json!({"metadata": {"finalizers": held}}));
    let parameters = PatchParams::default();
    let patched = common.api.patch(&common.name, &parameters, &patch).await;
    patched.expect("patched");
    common.first.delete::<AcsIdentity>("alice").await;
    common.delete().await;
    eventually("the release no longer holds the connection", || async {
        let left = common.finalizers().await?;
        (left == ["acs-identity.dev/cleanup.gone"]).then_some(())
    })
    .await;
    common.is_gone().await;
}
