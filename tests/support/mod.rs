//! Support of the tests: a real control plane, the emulator and the operator as processes, and
//! polling of conditions. Everything ends with the test.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod emulator;
pub mod helm;
pub mod kubernetes;
pub mod process;
pub mod proxy;
pub mod sources;
pub mod temporary;
pub mod user_token;
pub mod world;

use std::time::{Duration, Instant};

/// Maximum time to wait for a condition; the failure message is a sentence.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until `look` returns a value, for at most [`PATIENCE`].
pub async fn eventually<T, F>(what: &str, look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    within(PATIENCE, what, look).await
}

/// Waits until `look` returns a value, for at most `patience`.
pub async fn within<T, F>(patience: Duration, what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "timed out after {patience:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
