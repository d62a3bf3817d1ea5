use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tracing::warn;

use super::call;
use crate::crd::OPERATOR;

/// Publishes Events. One that can't be published is logged and never a reason to fail.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// Publishes through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let reporter = Reporter {
            controller: OPERATOR.to_owned(),
            instance: None,
        };
        Self {
            recorder: Recorder::new(client, reporter),
        }
    }

    /// Tells something that went as wanted.
    pub async fn normal<K>(&self, object: &K, reason: &str, note: impl Into<String>)
    where
        K: Resource<DynamicType = ()>,
    {
        self.publish(EventType::Normal, object, reason, note.into())
            .await;
    }

    /// Tells something that a person should look at.
    pub async fn warning<K>(&self, object: &K, reason: &str, note: impl Into<String>)
    where
        K: Resource<DynamicType = ()>,
    {
        self.publish(EventType::Warning, object, reason, note.into())
            .await;
    }

    async fn publish<K>(&self, type_: EventType, object: &K, reason: &str, note: String)
    where
        K: Resource<DynamicType = ()>,
    {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            // The API takes at most 1024 bytes.
            note: Some(note.chars().take(250).collect()),
            action: reason.to_owned(),
            secondary: None,
        };
        let reference = object.object_ref(&());
        let published = self.recorder.publish(&event, &reference);
        let named = super::status::named(object);
        if let Err(error) = call("publish an Event on", &named, published).await {
            warn!(object = named, reason, %error, "an Event could not be published");
        }
    }
}
