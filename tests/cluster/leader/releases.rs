//! Two releases that watch the same namespace.

use acs_identity_operator::crd::OPERATOR;
use k8s_openapi::api::events::v1::Event;
use kube::{Api, api::ListParams};

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
