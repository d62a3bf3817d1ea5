//! Objects and their changes, as messages to one page.
//!
//! Each page has its own watches, which end with it. Changes that come close together are combined
//! into one message, and of several changes of one object only the last is sent. A message is JSON:
//! `begin` (kinds that are listed again), `rows` (objects as they are now), `gone` (keys), `done`
//! (kinds with a complete list: other objects of them do not exist any more), `denied` and
//! `trouble` (by kind, a sentence). No row contains a Secret's data.

use std::{collections::BTreeMap, convert::Infallible, fmt::Debug, time::Duration};

use acs_identity_operator::crd::{
    AcsConnection, AcsIdentity, AcsRevocation, AcsToken, ClusterAcsConnection,
    ClusterAcsRevocation, REQUESTED_AT,
};
use axum::response::sse::Event as Message;
use futures::{
    Stream, StreamExt as _,
    stream::{self, BoxStream, SelectAll},
};
use k8s_openapi::api::core::v1::Event;
use kube::{
    Api, Resource, ResourceExt,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, watcher},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::idle::Watcher;
use crate::{
    cluster::{gitops, overview::objects, session::Session, wait::broken},
    view::standing::HasConditions,
};

/// Time for which changes are combined into one message.
const SETTLE: Duration = Duration::from_millis(200);

/// Change of one object or kind.
enum Change {
    Begin(String),
    Row(String, Value),
    Gone(String),
    Done(String),
    /// The user may not list the kind: the watch has ended.
    Denied(String, String),
    /// The watch failed and is retried.
    Trouble(String, String),
}

type Changes = BoxStream<'static, Change>;

/// Returns the messages to one page, which hold `watcher`.
pub fn changes(
    session: &Session,
    in_all_namespaces: bool,
    watcher: Watcher,
) -> impl Stream<Item = Result<Message, Infallible>> + use<> {
    let all = in_all_namespaces;
    let events: Api<Event> = objects(session, all);
    let ours = format!("involvedObject.apiVersion={}", AcsToken::api_version(&()));
    let client = || session.client.clone();
    let kinds = [
        of_kind::<AcsConnection>(objects(session, all), session),
        of_kind::<AcsIdentity>(objects(session, all), session),
        of_kind::<AcsToken>(objects(session, all), session),
        of_kind::<AcsRevocation>(objects(session, all), session),
        of_kind::<ClusterAcsConnection>(Api::all(client()), session),
        of_kind::<ClusterAcsRevocation>(Api::all(client()), session),
        watch(
            events,
            watcher::Config::default().fields(&ours),
            session,
            event,
        ),
    ];
    let changes = stream::select_all(kinds);
    let state = (changes, None, watcher);
    stream::unfold(state, |(mut changes, kept, watcher)| async move {
        let (message, kept) = next(&mut changes, kept).await?;
        Some((Ok(message), (changes, kept, watcher)))
    })
}

/// Returns the next message, and a change that belongs to the following one.
async fn next(
    changes: &mut SelectAll<Changes>,
    kept: Option<Change>,
) -> Option<(Message, Option<Change>)> {
    let first = match kept {
        Some(change) => change,
        // A page whose watches have all ended stays connected, and visible.
        None => match changes.next().await {
            Some(change) => change,
            None => std::future::pending().await,
        },
    };
    let mut batch = Batch::default();
    batch.add(first);
    let end = Instant::now() + SETTLE;
    let mut kept = None;
    while let Ok(Some(change)) = timeout_at(end, changes.next()).await {
        // Changes from before a list begins must not count as part of it.
        if matches!(change, Change::Begin(_)) && !batch.rows.is_empty() {
            kept = Some(change);
            break;
        }
        batch.add(change);
    }
    let message = Message::default().json_data(batch).ok()?;
    Some((message, kept))
}

/// Changes that are sent together.
#[derive(Default, Serialize)]
struct Batch {
    begin: Vec<String>,
    #[serde(serialize_with = "values")]
    rows: BTreeMap<String, Value>,
    gone: Vec<String>,
    done: Vec<String>,
    denied: BTreeMap<String, String>,
    trouble: BTreeMap<String, String>,
}

/// Serializes the rows; each contains its key.
fn values<S: serde::Serializer>(
    rows: &BTreeMap<String, Value>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(rows.values())
}

impl Batch {
    fn add(&mut self, change: Change) {
        match change {
            Change::Begin(kind) => self.begin.push(kind),
            Change::Row(key, row) => {
                self.gone.retain(|gone| *gone != key);
                self.rows.insert(key, row);
            }
            Change::Gone(key) => {
                self.rows.remove(&key);
                self.gone.push(key);
            }
            Change::Done(kind) => self.done.push(kind),
            Change::Denied(kind, why) => drop(self.denied.insert(kind, why)),
            Change::Trouble(kind, why) => drop(self.trouble.insert(kind, why)),
        }
    }
}

fn of_kind<K>(api: Api<K>, session: &Session) -> Changes
where
    K: Resource<DynamicType = ()>
        + HasConditions
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Send
        + Sync
        + 'static,
{
    watch(api, watcher::Config::default(), session, row::<K>)
}

/// Watches a kind, and continues after failures, unless the user may not list it.
fn watch<K>(
    api: Api<K>,
    config: watcher::Config,
    session: &Session,
    row: fn(&K) -> Value,
) -> Changes
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let session = session.clone();
    let kind = K::kind(&()).into_owned();
    let changes = watcher(api, config).default_backoff();
    let changes = changes.map(move |change| {
        let kind = kind.clone();
        let key = |object: &K| key(&kind, object);
        match change {
            Ok(watcher::Event::Init) => Change::Begin(kind),
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                let key = key(&object);
                let mut row = row(&object);
                if let Some(row) = row.as_object_mut() {
                    row.insert("key".to_owned(), key.as_str().into());
                }
                Change::Row(key, row)
            }
            Ok(watcher::Event::Delete(object)) => Change::Gone(key(&object)),
            Ok(watcher::Event::InitDone) => Change::Done(kind),
            Err(error) => match broken(&K::plural(&()), error, &session) {
                Ok(trouble) => Change::Trouble(kind, trouble),
                Err(failure) => Change::Denied(kind, failure.message),
            },
        }
    });
    // The last change, which reports the end, is also sent.
    let ended = stream::unfold(Some(changes.boxed()), |changes| async move {
        let mut changes = changes?;
        let change = changes.next().await?;
        let is_last = matches!(change, Change::Denied(..));
        Some((change, (!is_last).then_some(changes)))
    });
    ended.boxed()
}

fn key(kind: &str, object: &impl ResourceExt) -> String {
    let namespace = object.namespace().unwrap_or_default();
    format!("{kind}/{namespace}/{}", object.name_any())
}

/// Returns an object as the page shows it.
fn row<K>(object: &K) -> Value
where
    K: Resource<DynamicType = ()> + HasConditions + Serialize,
{
    let standing = object.standing();
    let mut whole = serde_json::to_value(object).unwrap_or_default();
    let mut part = |name: &str| whole.get_mut(name).map(Value::take).unwrap_or_default();
    json!({
        "kind": K::kind(&()),
        "namespace": object.namespace(),
        "name": object.name_any(),
        "uid": object.uid(),
        "created": object.creation_timestamp(),
        "labels": object.labels(),
        "state": standing.state,
        "word": standing.word(),
        "reason": standing.reason,
        "message": standing.message,
        "keeper": gitops::keeper(object),
        "requestedAt": object.annotations().get(REQUESTED_AT),
        "spec": part("spec"),
        "status": part("status"),
    })
}

/// Returns an Event as the page shows it.
fn event(event: &Event) -> Value {
    let series = event.series.as_ref();
    let last = series.and_then(|series| series.last_observed_time.as_ref());
    let last = last.or(event.event_time.as_ref()).map(|time| time.0);
    let last = last.or_else(|| event.last_timestamp.as_ref().map(|time| time.0));
    let about = &event.involved_object;
    json!({
        "kind": "Event",
        "namespace": event.namespace(),
        "name": event.name_any(),
        "about": {"kind": about.kind, "namespace": about.namespace, "name": about.name, "uid": about.uid},
        "type": event.type_,
        "reason": event.reason,
        "message": event.message,
        "count": series.and_then(|series| series.count).or(event.count),
        "last": last.or_else(|| event.creation_timestamp().map(|time| time.0)).map(|time| time.to_string()),
    })
}
