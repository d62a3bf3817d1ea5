//! The client of the ACS identity service. Knows nothing of Kubernetes.

mod access_key;
mod allowed;
mod api_version;
mod client;
mod connection_string;
mod endpoint;
mod error;
mod metrics;
mod operation;
mod service;

pub use access_key::{AccessKey, AccessKeyError};
pub use allowed::{Allowed, AllowedError, NotAllowed};
pub use api_version::{ApiVersion, ApiVersionError};
pub use client::{Client, CreatedIdentity, Deleted, IssuedToken, Revoked};
pub use connection_string::{ConnectionString, ConnectionStringError};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{Error, Kind, Outcome};
pub use metrics::{CallLabels, Metrics, OperationLabel};
pub use operation::Operation;
pub use service::{Service, ServiceConfig, ServiceError};
