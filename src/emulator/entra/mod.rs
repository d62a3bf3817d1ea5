//! Microsoft Entra ID: its token endpoints and those of Azure machines, and the operations of ACS
//! for users of Entra ID, which exchange their tokens and keep the assignments that allow it.

pub(super) mod assignments;
mod endpoints;
pub(super) mod exchange;

pub(super) use endpoints::{Application, IDENTITY_HEADER};
