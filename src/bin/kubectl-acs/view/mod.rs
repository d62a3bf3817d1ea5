//! Output: results, progress and the tree of `status`.

pub mod consumers;
pub mod output;
pub mod progress;
pub mod revocations;
pub mod span;
pub mod standing;
pub mod tree;
