//! HTTP side of the emulator: connections, with and without TLS and from slow or broken clients;
//! requests and the operations that their paths name; answers and their headers. `attend` handles
//! one request: it applies faults and adds the request to the journal.

mod answer;
mod attend;
mod call;
pub(super) mod operation;
mod respond;
mod server;
mod temporary;
mod tls;
mod wire;

pub(super) use answer::{Answer, Content, Refusal};
pub(super) use call::Call;
pub(super) use operation::Operation;
pub(super) use server::Server;
pub(super) use tls::Authority;
