//! State of the emulator: the emulated service, as a fold over events that the `store` writes
//! first; the switches for unknown behavior; the injected faults; and the journal of requests.

mod faults;
mod journal;
mod model;
pub(super) mod settings;
mod store;

pub(super) use faults::{Effect, Fault, Faults, When};
pub(super) use journal::{Entry, Journal};
pub(super) use model::{AccessKey, Cause, End, Event, Identity, Signer, State, Token};
pub(super) use store::Store;
