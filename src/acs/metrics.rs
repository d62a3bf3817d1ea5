//! Metrics of the client.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::Operation;

/// Counts and durations of every attempt of every call. Clones share their numbers.
#[derive(Clone, Debug)]
pub struct Metrics {
    calls: Family<CallLabels, Counter>,
    seconds: Family<OperationLabel, Histogram, fn() -> Histogram>,
    waiting: Family<OperationLabel, Gauge>,
}

/// Call that waits for its turn; counted until it is dropped.
pub(super) struct Waiting(Gauge);

/// Operation and outcome of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    /// [`Operation::label`].
    pub operation: &'static str,
    /// `Ok`, or [`Kind::reason`](super::Kind::reason).
    pub outcome: &'static str,
}

/// Operation of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OperationLabel {
    /// [`Operation::label`].
    pub operation: &'static str,
}

impl Metrics {
    /// Registers `acs_calls_total`, `acs_call_duration_seconds` and `acs_queue_depth`, with the
    /// registry's own prefix.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "acs_calls",
            "Number of requests to ACS, including retries, by operation and outcome",
            self.calls.clone(),
        );
        registry.register_with_unit(
            "acs_call_duration",
            "Duration of requests to ACS, from sending the request to the end of its answer",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register(
            "acs_queue_depth",
            "Number of requests that wait for their turn to call ACS, by operation",
            self.waiting.clone(),
        );
    }

    /// Returns the number of attempts with this outcome.
    #[must_use]
    pub fn calls(&self, operation: Operation, outcome: &'static str) -> u64 {
        let labels = CallLabels {
            operation: operation.label(),
            outcome,
        };
        self.calls.get(&labels).map_or(0, |counter| counter.get())
    }

    pub(super) fn wait(&self, operation: Operation) -> Waiting {
        let operation = operation.label();
        let waiting = self
            .waiting
            .get_or_create_owned(&OperationLabel { operation });
        waiting.inc();
        Waiting(waiting)
    }

    pub(super) fn record(&self, operation: Operation, outcome: &'static str, seconds: f64) {
        let operation = operation.label();
        self.calls
            .get_or_create(&CallLabels { operation, outcome })
            .inc();
        self.seconds
            .get_or_create(&OperationLabel { operation })
            .observe(seconds);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        // From the latency of a nearby service to the total timeout.
        let histogram =
            || Histogram::new([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]);
        Self {
            calls: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            waiting: Family::default(),
        }
    }
}
