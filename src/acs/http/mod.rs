//! A call as HTTP: builds the `request`, sends it over the `transport`, parses the `answer`,
//! determines its meaning and removes secrets from its messages. `call` runs these steps, with
//! every retry, by the endpoint's `clock`.

mod answer;
mod call;
mod clock;
mod error_code;
mod request;
mod scrub;
mod transport;

pub(super) use answer::{Answer, CreateAnswer, TokenAnswer};
pub(super) use call::{Call, Done};
pub(super) use clock::{Clock, http_date};
pub(super) use request::{BadId, Request};
pub(super) use scrub::scrubbed;
pub(super) use transport::{NoAnswer, http_client};
