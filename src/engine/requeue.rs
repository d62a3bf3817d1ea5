use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::cluster::ObjectKey;

/// Sender that requeues objects.
#[derive(Clone, Debug)]
pub struct Requeue {
    sender: UnboundedSender<ObjectKey>,
}

impl Requeue {
    /// Returns both ends of a channel.
    #[must_use]
    pub fn channel() -> (Self, UnboundedReceiver<ObjectKey>) {
        let (sender, receiver) = unbounded_channel();
        (Self { sender }, receiver)
    }

    /// Requests a run of the object.
    pub fn send(&self, key: impl Into<ObjectKey>) {
        // A closed channel means that the process is ending.
        let _ = self.sender.send(key.into());
    }
}
