//! Client of the ACS identity API. Independent of Kubernetes.
//!
//! Steps of a call:
//!
//! 1. [`Client`] checks what can be checked locally and builds a request (`http`).
//! 2. The call waits for its turn in the endpoint's queue (`limit`), where a schedule that respects
//!    the limits of ACS picks the most urgent call.
//! 3. It takes the time of ACS from the endpoint's clock and computes the [`signing::Signature`];
//!    or, with an [`EntraIdentity`], takes the token that its [`Bearer`] caches or requests
//!    (`auth`).
//! 4. The transport (`http`) sends the request and reads the answer, whose error code determines
//!    its meaning.
//! 5. Everything but a success becomes an [`Error`], with possible secrets removed, and the retry
//!    policy (`limit`) decides whether the call starts again at 2.
//!
//! Guarantees:
//!
//! * A create without `customId` is sent a second time only if the first certainly had no effect.
//! * An [`Error`] says whether any of its attempts may have had an effect ([`Outcome`]), and
//!   whether one still may have it ([`Error::is_lost`]).
//! * No error or log text of this module contains a key, token or signature.

mod api_version;
mod auth;
mod client;
mod endpoint;
mod endpoint_policy;
mod error;
mod http;
mod limit;
mod metrics;
mod operation;
mod resolved;
mod service;

pub use crate::pasted::{
    PastedError, UserToken, UserTokenError, clean as clean_credential, text as credential_text,
};
pub use api_version::{ApiVersion, ApiVersionError};
pub use auth::{
    AccessKey, AccessKeyError, AssertionSource, Bearer, ConnectionString, ConnectionStringError,
    Credential, EntraConfig, EntraConfigError, EntraIdentity, NoAssertion, PUBLIC_AUDIENCE,
    PUBLIC_AUTHORITY, signing,
};
pub use client::{Client, CreatedIdentity, Deleted, IssuedToken, Revoked};
pub use endpoint::{Endpoint, EndpointError};
pub use endpoint_policy::{Allowed, AllowedError, NotAllowed};
pub use error::{Error, Kind, Outcome};
pub use limit::{SPAN as LIMIT_SPAN, Turn, Urgency};
pub use metrics::{CallLabels, Metrics, OperationLabel};
pub use operation::Operation;
pub use resolved::Resolved;
pub use service::{Service, ServiceConfig, ServiceError};
