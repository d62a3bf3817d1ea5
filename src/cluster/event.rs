//! Events.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tracing::warn;

use super::call;
use crate::crd::OPERATOR;

/// An Event to be published.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// The object that it is about.
    pub about: ObjectReference,
    /// Whether a person should look at it.
    pub is_warning: bool,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub note: String,
}

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

    /// Publishes an Event.
    pub async fn publish(&self, notice: Notice) {
        let type_ = if notice.is_warning {
            EventType::Warning
        } else {
            EventType::Normal
        };
        let event = Event {
            type_,
            reason: notice.reason.clone(),
            // The API takes at most 1024 bytes.
            note: Some(notice.note.chars().take(250).collect()),
            action: notice.reason.clone(),
            secondary: None,
        };
        let published = self.recorder.publish(&event, &notice.about);
        let named = format!(
            "{} {}",
            notice.about.kind.as_deref().unwrap_or_default(),
            notice.about.name.as_deref().unwrap_or_default()
        );
        if let Err(error) = call("publish an Event on", &named, published).await {
            warn!(object = named, reason = notice.reason, %error, "an Event could not be published");
        }
    }
}
