//! Metrics of the emulator.

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::ConstGauge},
    registry::Registry,
};

use super::super::Emulator;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    operation: &'static str,
    /// Status of the answer; `none` if there was no answer.
    status: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaultLabels {
    effect: &'static str,
}

#[derive(Clone, Debug, Default)]
pub(in super::super) struct Metrics {
    requests: Family<RequestLabels, Counter>,
    faults: Family<FaultLabels, Counter>,
}

impl Metrics {
    /// Counts a request to the emulated API.
    pub fn request(&self, operation: &'static str, status: Option<u16>) {
        let status = status.map_or_else(|| "none".to_owned(), |it| it.to_string());
        let labels = RequestLabels { operation, status };
        self.requests.get_or_create(&labels).inc();
    }

    /// Counts an applied fault.
    pub fn fault(&self, effect: &'static str) {
        self.faults.get_or_create(&FaultLabels { effect }).inc();
    }
}

impl Emulator {
    /// Returns the metrics in the Prometheus text format.
    pub(super) fn metrics_text(&self) -> String {
        let (living, deleted, tokens) = {
            let state = &self.core().state;
            let living = state
                .identities()
                .iter()
                .filter(|it| it.deleted_at.is_none());
            let (living, all) = (living.count() as u64, state.identities().len() as u64);
            (living, all - living, state.tokens() as u64)
        };
        let mut registry = Registry::with_prefix("acs_emulator");
        let metrics = &self.metrics;
        registry.register(
            "requests",
            "Number of requests to the ACS API",
            metrics.requests.clone(),
        );
        registry.register(
            "faults",
            "Number of faults that affected a request",
            metrics.faults.clone(),
        );
        for (name, help, value) in [
            (
                "identities",
                "Number of identities that are not deleted",
                living,
            ),
            (
                "deleted_identities",
                "Number of deleted identities",
                deleted,
            ),
            ("tokens", "Number of tokens in memory, valid or not", tokens),
        ] {
            registry.register(name, help, ConstGauge::new(value));
        }
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}
