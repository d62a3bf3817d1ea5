//! Operations of the ACS identity API: checks the credential and the API version of a request and
//! performs its operation on identities and their tokens, with the rules and error texts of ACS.

mod ask;
mod identities;
mod repeatability;
mod serve;
mod signature;
pub(super) mod token;
pub(super) mod versions;

pub(super) use identities::new_token;
pub(super) use serve::{Core, Done, Turn, http_date};
