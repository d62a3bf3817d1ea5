//! Events, as the API server stores them.

use acs_identity_operator::{
    cluster::{
        CALL_TIMEOUT,
        event::{Events, Notice},
    },
    crd::{AcsIdentity, AcsIdentitySpec, Reason},
};
use k8s_openapi::api::events::v1::Event;
use kube::{
    Api, Resource,
    api::{DeleteParams, ListParams, PostParams},
};

use crate::support::world::World;

/// Creates an object with the longest possible name.
async fn object(world: &World) -> AcsIdentity {
    let name = format!("a.{}", "b".repeat(251));
    let object = AcsIdentity::new(&name, AcsIdentitySpec::default());
    let created = world.api().create(&PostParams::default(), &object).await;
    created.expect("an object")
}

fn notice<K: Resource<DynamicType = ()>>(about: &K, note: &str) -> Notice {
    Notice {
        about: about.object_ref(&()),
        is_warning: false,
        reason: Reason::TokensRevoked,
        note: note.to_owned(),
    }
}

/// Returns the notes of the Events and how often each occurred, sorted by note.
async fn notes(api: &Api<Event>) -> Vec<(String, i32)> {
    let events = api.list(&ListParams::default()).await.expect("readable");
    let mut notes: Vec<_> = events
        .items
        .into_iter()
        .map(|event| {
            let count = event.series.map_or(1, |series| series.count);
            (event.note.unwrap_or_default(), count)
        })
        .collect();
    notes.sort();
    notes
}

fn seen(expected: &[(&str, i32)]) -> Vec<(String, i32)> {
    let expected = expected.iter();
    expected
        .map(|(note, count)| ((*note).to_owned(), *count))
        .collect()
}

#[tokio::test]
async fn every_text_is_an_event_of_its_own_and_a_repeat_is_counted() {
    let world = World::bare(&[], &[]).await;
    let object = object(&world).await;
    let api = world.api::<Event>();
    let events = Events::new(world.client.clone());
    let always = || Some(CALL_TIMEOUT);
    let long = "€".repeat(1000);
    for note in ["one", "two", "one", &long, "one"] {
        events.publish(&notice(&object, note), always).await;
    }
    let cut = "€".repeat(341);
    let expected = seen(&[("one", 3), ("two", 1), (&cut, 1)]);
    assert_eq!(notes(&api).await, expected);
}

#[tokio::test]
async fn an_event_that_was_deleted_is_published_anew() {
    let world = World::bare(&[], &[]).await;
    let object = object(&world).await;
    let api = world.api::<Event>();
    let events = Events::new(world.client.clone());
    let always = || Some(CALL_TIMEOUT);
    events.publish(&notice(&object, "one"), always).await;
    events.publish(&notice(&object, "one"), always).await;
    assert_eq!(notes(&api).await, seen(&[("one", 2)]));
    let all = (DeleteParams::default(), ListParams::default());
    api.delete_collection(&all.0, &all.1)
        .await
        .expect("deletable");
    events.publish(&notice(&object, "one"), always).await;
    assert_eq!(notes(&api).await, seen(&[("one", 1)]));
    events.publish(&notice(&object, "one"), always).await;
    assert_eq!(notes(&api).await, seen(&[("one", 2)]));
}

#[tokio::test]
async fn events_on_cluster_scoped_objects_are_in_the_namespace_default() {
    let world = World::bare(&[], &[]).await;
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(world.client.clone());
    let object = namespaces.get(&world.namespace).await.expect("there");
    let events = Events::new(world.client.clone());
    let always = || Some(CALL_TIMEOUT);
    events.publish(&notice(&object, "one"), always).await;
    let of_it = ListParams::default().fields(&format!("regarding.name={}", world.namespace));
    let api: Api<Event> = Api::namespaced(world.client.clone(), "default");
    let found = api.list(&of_it).await.expect("readable");
    assert_eq!(found.items.len(), 1);
}
