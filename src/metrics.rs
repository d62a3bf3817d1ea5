//! Metrics of the operator. Labels are few and bounded: never the name of an object.

mod process;

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Metric, Registry, Unit},
};

use crate::{acs, crd::Reason};

/// Content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Prefix of the names of all metrics but those of the process.
const PREFIX: &str = "acs_identity_operator";

/// Labels of a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabels {
    /// Kind of the object.
    pub kind: &'static str,
}

/// Labels of an error.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabels {
    /// Kind of the object.
    pub kind: &'static str,
    /// Reason of the error.
    pub reason: Reason,
}

impl EncodeLabelValue for Reason {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

/// Labels of a step of a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StepLabels {
    /// Kind of the object.
    pub kind: &'static str,
    /// Name of the step.
    pub step: &'static str,
}

/// All metrics of the operator.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Calls to ACS.
    pub acs: acs::Metrics,
    /// Runs, by kind.
    pub reconciles: Family<KindLabels, Counter>,
    /// Duration of runs, by kind.
    pub reconcile_durations: Family<KindLabels, Histogram, fn() -> Histogram>,
    /// Steps that failed, by kind and reason.
    pub failures: Family<ReasonLabels, Counter>,
    /// Steps that had no effect and are repeated later, by kind and step.
    pub no_progress: Family<StepLabels, Counter>,
    /// Issued tokens, by cause.
    pub issued: Family<ReasonLabels, Counter>,
    /// Objects that were deleted with something left behind in ACS, by kind.
    pub abandoned: Family<KindLabels, Counter>,
    /// Completed revocations, by kind and reason.
    pub revocations: Family<ReasonLabels, Counter>,
    /// Restarts of workloads, by kind of the workload and result.
    pub rollout_restarts: Family<ReasonLabels, Counter>,
    /// Pods that were annotated so that their kubelets sync them.
    pub pods_nudged: Counter,
    /// Create calls without a known outcome.
    pub unknown_creates: Counter,
    /// 1 while this process leads, otherwise 0.
    pub leader: Gauge,
    /// Tokens of former credentials that Secrets still hold.
    pub former_tokens: Gauge,
    /// Seconds by which renewals came after their planned time.
    pub renewal_lateness: Histogram,
}

impl Metrics {
    /// Registers all metrics.
    #[must_use]
    pub fn new() -> Self {
        let mut all = Registry::default();
        all.register_collector(Box::new(process::Process));
        let registry = all.sub_registry_with_prefix(PREFIX);
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of the running program", build);
        let acs = acs::Metrics::default();
        acs.register(registry);
        let durations: fn() -> Histogram =
            || Histogram::new([0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0]);
        let reconcile_durations = Family::new_with_constructor(durations);
        registry.register_with_unit(
            "reconcile_duration",
            "Duration of reconciles, including their calls",
            Unit::Seconds,
            reconcile_durations.clone(),
        );
        let renewal_lateness =
            Histogram::new([1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0]);
        registry.register_with_unit(
            "renewal_lateness",
            "Time between the planned and the actual time of a renewal",
            Unit::Seconds,
            renewal_lateness.clone(),
        );
        let mut add = Adder(registry);
        Self {
            reconciles: add.metric("reconciles", "Number of reconciles"),
            failures: add.metric("failures", "Number of failed steps of reconciles"),
            no_progress: add.metric(
                "no_progress",
                "Number of steps without effect, which are repeated later: another writer reverts \
                 them",
            ),
            issued: add.metric("tokens_issued", "Number of tokens issued into Secrets"),
            abandoned: add.metric(
                "abandoned",
                "Number of objects that were deleted without cleaning up ACS",
            ),
            revocations: add.metric("revocations", "Number of completed revocations"),
            rollout_restarts: add.metric(
                "rollout_restarts",
                "Number of restarts of workloads after a change of their token or Secret, by \
                 outcome",
            ),
            pods_nudged: add.metric(
                "pods_nudged",
                "Number of pods annotated after a revocation, so that their kubelets read the new \
                 token at once",
            ),
            unknown_creates: add.metric(
                "unknown_creates",
                "Number of create calls to ACS without an answer",
            ),
            leader: add.metric(
                "leader",
                "1 while this process is the leader, 0 while it is on standby",
            ),
            former_tokens: add.metric(
                "former_tokens",
                "Number of tokens in Secrets that were issued with a former credential",
            ),
            registry: all,
            acs,
            reconcile_durations,
            renewal_lateness,
        }
        .starting_at_zero()
    }

    /// Creates the series of counters that alerts watch: an alert on an increase would miss a series
    /// that starts at 1.
    fn starting_at_zero(self) -> Self {
        for kind in ["AcsIdentity", "AcsToken"] {
            let step = "overtaken";
            let _ = self.no_progress.get_or_create(&StepLabels { kind, step });
            let _ = self.abandoned.get_or_create(&KindLabels { kind });
        }
        self
    }

    /// Adds metrics that are collected at each scrape.
    pub fn collect(&mut self, collector: Box<dyn Collector>) {
        let registry = self.registry.sub_registry_with_prefix(PREFIX);
        registry.register_collector(collector);
    }

    /// Returns all metrics as `OpenMetrics` text, see [`CONTENT_TYPE`].
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Adds metrics to a registry.
struct Adder<'a>(&'a mut Registry);

impl Adder<'_> {
    /// Registers a new metric and returns it.
    fn metric<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
