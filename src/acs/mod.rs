//! Client of the ACS identity API. Independent of Kubernetes.
//!
//! Steps of a call:
//!
//! 1. [`Client`] checks what can be checked locally and builds a `request`.
//! 2. `call` waits for its turn in the endpoint's `queue`, where a `schedule` that respects the
//!    `limits` of ACS picks the most urgent call.
//! 3. It takes the time of ACS from the endpoint's `clock` and computes the [`signing::Signature`];
//!    or, with an [`EntraIdentity`], takes the token that its [`Bearer`] caches or requests from
//!    `token_source`.
//! 4. `transport` sends the request and reads the `answer`, whose meaning `error_code` determines.
//! 5. Everything but a success becomes an [`Error`], with possible secrets removed by `scrub`, and
//!    `retry` decides whether the call starts again at 2.
//!
//! Guarantees:
//!
//! * A create without `customId` is sent a second time only if the first certainly had no effect.
//! * An [`Error`] says whether any of its attempts may have had an effect ([`Outcome`]), and
//!   whether one still may have it ([`Error::is_lost`]).
//! * No error or log text of this module contains a key, token or signature.

mod access_key;
mod answer;
mod api_version;
mod auth_advice;
mod auth_error;
mod bearer;
mod call;
mod client;
mod clock;
mod connection_string;
mod credential;
mod endpoint;
mod endpoint_policy;
mod entra;
mod error;
mod error_code;
mod limits;
mod local_token;
mod metrics;
mod operation;
mod queue;
mod request;
mod resolved;
mod retry;
mod schedule;
mod scrub;
mod service;
pub mod signing;
mod token_source;
mod transport;

pub use crate::pasted::{
    PastedError, UserToken, UserTokenError, clean as clean_credential, text as credential_text,
};
pub use access_key::{AccessKey, AccessKeyError};
pub use api_version::{ApiVersion, ApiVersionError};
pub use bearer::Bearer;
pub use client::{Client, CreatedIdentity, Deleted, IssuedToken, Revoked};
pub use connection_string::{ConnectionString, ConnectionStringError};
pub use credential::Credential;
pub use endpoint::{Endpoint, EndpointError};
pub use endpoint_policy::{Allowed, AllowedError, NotAllowed};
pub use entra::{
    AssertionSource, EntraConfig, EntraConfigError, EntraIdentity, NoAssertion, PUBLIC_AUDIENCE,
    PUBLIC_AUTHORITY,
};
pub use error::{Error, Kind, Outcome};
pub use limits::SPAN as LIMIT_SPAN;
pub use metrics::{CallLabels, Metrics, OperationLabel};
pub use operation::Operation;
pub use queue::{Turn, Urgency};
pub use resolved::Resolved;
pub use service::{Service, ServiceConfig, ServiceError};
