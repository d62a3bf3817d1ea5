//! Credentials, and the proof of them that a request carries: access keys and the signatures they
//! make; identities in Microsoft Entra ID, the source and cache of their tokens, and what to do
//! when a token is refused.

mod access_key;
mod advice;
mod bearer;
mod connection_string;
mod credential;
mod entra;
mod error;
mod local_token;
pub mod signing;
mod token_source;

pub use access_key::{AccessKey, AccessKeyError};
pub use bearer::Bearer;
pub(super) use bearer::NoToken;
pub use connection_string::{ConnectionString, ConnectionStringError};
pub use credential::Credential;
pub use entra::{
    AssertionSource, EntraConfig, EntraConfigError, EntraIdentity, NoAssertion, PUBLIC_AUDIENCE,
    PUBLIC_AUTHORITY,
};
pub(super) use signing::Signature;
