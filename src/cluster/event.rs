//! Kubernetes Events (`events.k8s.io/v1`).
//!
//! Every Event with a different note is a separate object. An Event that repeats, with the same
//! object, type, reason and note, is counted in the `series` of the first.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use parking_lot::Mutex;
use serde_json::json;
use sha2::{Digest, Sha256};
use tracing::warn;

use super::{Error, effect};
use crate::crd::{OPERATOR, Reason};

/// Event to be published.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Object that the Event is about.
    pub about: ObjectReference,
    /// Whether a person should look at it (type `Warning`).
    pub is_warning: bool,
    /// Reason, in CamelCase.
    pub reason: Reason,
    /// Message for people: a sentence.
    pub note: String,
}

/// Maximum length of a note, in bytes, that the API server accepts.
const LONGEST_NOTE: usize = 1024;
/// Maximum length of an object's name.
const LONGEST_NAME: usize = 253;
/// Namespace of Events on cluster-scoped objects: the API server accepts no other.
const NAMESPACE_OF_CLUSTER: &str = "default";
/// Maximum number of Events that are cached to count their repeats, some 400 bytes each. A repeat
/// of an older one is published as a new Event.
const MOST_REMEMBERED: usize = 1024;

/// Publisher of Events. A failure to publish is logged and never fails the caller.
#[derive(Clone)]
pub struct Events {
    client: Client,
    published: Arc<Mutex<Published>>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// Creates a publisher that uses `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            published: Arc::default(),
        }
    }

    /// Publishes an Event, as long as `left` leaves time for it.
    pub async fn publish(
        &self,
        notice: &Notice,
        left: impl Fn() -> Option<Duration> + Send + Sync,
    ) {
        let about = &notice.about;
        let object = format!(
            "{} {}",
            about.kind.as_deref().unwrap_or_default(),
            about.name.as_deref().unwrap_or_default()
        );
        let event = event(notice, Timestamp::now());
        self.send(&object, event, &left).await;
    }

    async fn send(
        &self,
        object: &str,
        event: Event,
        left: &(impl Fn() -> Option<Duration> + Send + Sync),
    ) {
        let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
        let api = Api::<Event>::namespaced(self.client.clone(), namespace);
        let key = key(&event);
        let repeat = self.published.lock().repeat(key);
        if let Some((name, count)) = repeat {
            let series = json!({"count": count, "lastObservedTime": event.event_time});
            let series = Patch::Merge(json!({ "series": series }));
            let params = PatchParams {
                field_manager: Some(OPERATOR.to_owned()),
                ..PatchParams::default()
            };
            let counted = api.patch(&name, &params, &series);
            match effect("count an Event on", object, left, counted).await {
                // The Event has expired, or a person deleted it: publish it again.
                Err(error) if error.is_not_found() => {}
                Ok(_) | Err(Error::Withheld) => return,
                Err(error) => return warn!(object, %error, "an Event could not be counted"),
            }
        }
        let params = PostParams {
            field_manager: Some(OPERATOR.to_owned()),
            ..PostParams::default()
        };
        let published = api.create(&params, &event);
        match effect("publish an Event on", object, left, published).await {
            Ok(_) => self
                .published
                .lock()
                .remember(key, event.metadata.name.unwrap_or_default()),
            Err(Error::Withheld) => {}
            Err(error) => {
                let reason = event.reason.as_deref().unwrap_or_default();
                warn!(object, reason, %error, "an Event could not be published");
            }
        }
    }
}

/// Builds the Event of a notice at `now`.
fn event(notice: &Notice, now: Timestamp) -> Event {
    let Notice {
        about,
        is_warning,
        reason,
        note,
    } = notice;
    let type_ = if *is_warning { "Warning" } else { "Normal" };
    let regarding = about.clone();
    let namespace = regarding.namespace.as_deref();
    let end = note.floor_char_boundary(LONGEST_NOTE);
    let mut event = Event {
        action: Some(reason.to_string()),
        event_time: Some(MicroTime(now)),
        metadata: ObjectMeta {
            namespace: Some(namespace.unwrap_or(NAMESPACE_OF_CLUSTER).to_owned()),
            ..ObjectMeta::default()
        },
        note: Some(note.get(..end).unwrap_or_default().to_owned()),
        reason: Some(reason.to_string()),
        regarding: Some(regarding),
        reporting_controller: Some(OPERATOR.to_owned()),
        reporting_instance: Some(OPERATOR.to_owned()),
        type_: Some(type_.to_owned()),
        ..Event::default()
    };
    event.metadata.name = Some(name(&event, now));
    event
}

/// Returns the name of an Event: as much as fits of its object's name, then its content and its
/// time.
fn name(event: &Event, now: Timestamp) -> String {
    let object = event.regarding.as_ref().and_then(|it| it.name.as_deref());
    let object = object.unwrap_or_default();
    let [first, second, third, fourth, ..] = key(event);
    let content = u32::from_be_bytes([first, second, third, fourth]);
    let suffix = format!(".{content:08x}{:x}", now.as_nanosecond());
    let end = object.floor_char_boundary(LONGEST_NAME.saturating_sub(suffix.len()));
    let object = object.get(..end).unwrap_or_default();
    // Each part of a name between dots must end with a letter or digit.
    let object = object.trim_end_matches(['-', '.']);
    format!("{object}{suffix}")
}

/// Hash of the values that make an Event a repeat of another.
type Key = [u8; 16];

fn key(event: &Event) -> Key {
    let mut hash = Sha256::new();
    let regarding = event.regarding.clone().unwrap_or_default();
    for part in [
        regarding.kind,
        regarding.namespace,
        regarding.name,
        regarding.uid,
        event.type_.clone(),
        event.reason.clone(),
        event.note.clone(),
    ] {
        hash.update(part.unwrap_or_default());
        hash.update([0]);
    }
    let mut key = Key::default();
    for (to, from) in key.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    key
}

/// Events that were published last.
#[derive(Default)]
struct Published {
    events: HashMap<Key, RecordedEvent>,
    /// Counter of uses: the Event with the lowest number is the least recently used.
    uses: u64,
}

struct RecordedEvent {
    name: String,
    count: i32,
    last_use: u64,
}

impl Published {
    /// Counts a repeat. Returns the name of the Event and the number of times that it has occurred.
    fn repeat(&mut self, key: Key) -> Option<(String, i32)> {
        self.uses += 1;
        let event = self.events.get_mut(&key)?;
        event.count = event.count.saturating_add(1);
        event.last_use = self.uses;
        Some((event.name.clone(), event.count))
    }

    fn remember(&mut self, key: Key, name: String) {
        self.uses += 1;
        let event = RecordedEvent {
            name,
            count: 1,
            last_use: self.uses,
        };
        self.events.insert(key, event);
        if self.events.len() > MOST_REMEMBERED {
            let oldest = self.events.iter().min_by_key(|(_, event)| event.last_use);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.events.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Reason::{TokenIssued, TokensRevoked},
        *,
    };

    fn noticed(name: &str, reason: Reason, note: &str, at: i64) -> Event {
        let about = ObjectReference {
            name: Some(name.to_owned()),
            namespace: Some("team".to_owned()),
            ..ObjectReference::default()
        };
        let notice = Notice {
            about,
            is_warning: false,
            reason,
            note: note.to_owned(),
        };
        event(&notice, Timestamp::from_nanosecond(i128::from(at)).unwrap())
    }

    fn name_of(event: &Event) -> &str {
        event.metadata.name.as_deref().unwrap()
    }

    #[test]
    fn a_name_is_valid_whatever_the_object_s_name_is() {
        let now = 1_800_000_000_123_456_789;
        for name in [
            "a".to_owned(),
            "a".repeat(253),
            format!("{}.{}", "a".repeat(227), "b".repeat(25)),
            format!("{}-{}", "a".repeat(227), "b".repeat(25)),
            format!("{}{}b", "a".repeat(200), "-".repeat(52)),
        ] {
            let event = noticed(&name, TokenIssued, "", now);
            let named = name_of(&event);
            assert!(named.len() <= 253, "{named}");
            for part in named.split('.') {
                let ends = [part.chars().next(), part.chars().next_back()];
                let is_end = |c: &Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
                assert!(ends.iter().all(is_end), "{named}");
            }
        }
    }

    #[test]
    fn events_of_one_moment_have_names_of_their_own() {
        let one = noticed("a", TokenIssued, "one", 7);
        assert_ne!(name_of(&one), name_of(&noticed("a", TokenIssued, "two", 7)));
        assert_ne!(name_of(&one), name_of(&noticed("a", TokenIssued, "one", 8)));
    }

    #[test]
    fn only_the_same_text_on_the_same_object_is_a_repeat() {
        let one = key(&noticed("a", TokenIssued, "one", 1));
        assert_eq!(one, key(&noticed("a", TokenIssued, "one", 2)));
        for other in [
            noticed("a", TokenIssued, "two", 1),
            noticed("a", TokensRevoked, "one", 1),
            noticed("b", TokenIssued, "one", 1),
        ] {
            assert_ne!(one, key(&other));
        }
    }

    #[test]
    fn a_long_note_is_cut_between_characters() {
        let event = noticed("a", TokenIssued, &"€".repeat(400), 1);
        assert_eq!(event.note.unwrap(), "€".repeat(341));
    }

    #[test]
    fn events_on_cluster_scoped_objects_are_in_default() {
        let notice = Notice {
            about: ObjectReference::default(),
            is_warning: true,
            reason: TokensRevoked,
            note: String::new(),
        };
        let event = event(&notice, Timestamp::UNIX_EPOCH);
        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
        let named = noticed("a", TokenIssued, "", 1);
        assert_eq!(named.metadata.namespace.as_deref(), Some("team"));
    }

    #[test]
    fn the_events_used_last_are_remembered() {
        let key = |number: usize| key(&noticed("a", TokenIssued, &number.to_string(), 1));
        let mut published = Published::default();
        published.remember(key(0), "first".to_owned());
        for number in 1..MOST_REMEMBERED {
            published.remember(key(number), String::new());
        }
        assert_eq!(published.repeat(key(0)), Some(("first".to_owned(), 2)));
        published.remember(key(MOST_REMEMBERED), String::new());
        assert_eq!(published.events.len(), MOST_REMEMBERED);
        assert_eq!(published.repeat(key(1)), None);
        assert_eq!(published.repeat(key(0)), Some(("first".to_owned(), 3)));
    }
}
