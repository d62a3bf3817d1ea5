//! What the emulator offers beside the API of ACS: its control API and page under `/_emulator/`,
//! and its metrics.

mod api;
mod metrics;

pub(super) use metrics::Metrics;
