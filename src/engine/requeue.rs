use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::cluster::ObjectKey;

/// Requeues objects: asks that they be looked at.
#[derive(Clone, Debug)]
pub struct Requeue {
    sender: UnboundedSender<ObjectKey>,
}

impl Requeue {
    /// Both ends of a channel.
    #[must_use]
    pub fn channel() -> (Self, UnboundedReceiver<ObjectKey>) {
        let (sender, receiver) = unbounded_channel();
        (Self { sender }, receiver)
    }

    /// Asks that the object be looked at.
    pub fn send(&self, key: impl Into<ObjectKey>) {
        // A closed channel means that the process is ending.
        let _ = self.sender.send(key.into());
    }
}
