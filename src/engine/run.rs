//! Runs objects in the order of the queue: deduplicated, repeated, and protected from panics.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt, future::Shared};
use jiff::Timestamp;
use tokio::{
    sync::mpsc::UnboundedReceiver,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::{Instrument, error, info_span, warn};

use super::{Calls, Ended, Queue};
use crate::{
    cluster::{Error, ObjectKey},
    crd::Reason,
    metrics::{KindLabels, Metrics, ReasonLabels, StepLabels},
};

/// Future that completes when the process is asked to stop.
pub type Stop = Shared<futures::future::BoxFuture<'static, ()>>;

/// Maximum number of objects that run in parallel (K3); equal to that of calls to the API server.
const MOST_RUNS: usize = 64;
/// Maximum number of steps per run; no object needs more before it rests.
const MOST_STEPS: usize = 12;
/// Delay of a run after the time that it requested, so that what is due then is certainly due.
const LATER: Duration = Duration::from_millis(20);
/// Maximum wait until the next run of an object.
const LONGEST_TIMER: Duration = Duration::from_hours(24 * 30);

/// Result of a step of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// The step is done, so the state has changed: observe again.
    Done,
    /// Nothing was done, because something has changed since the decision.
    Overtaken,
    /// The object waits for ACS: for a turn, an answer, or the end of another call of the identity.
    Waits,
    /// Nothing is left to do but to wait, until this time or for an event.
    Rest(Option<Timestamp>),
    /// The object no longer exists.
    Gone,
}

/// Result of a run that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rested {
    /// Nothing is left to do; the object runs again at this time, if there is one.
    Until(Option<Timestamp>),
    /// Something has changed since the decision. A watch event usually requeues the object.
    Overtaken,
    /// The step of this name seems to have no effect: the decision after it was the same.
    NoProgress(&'static str),
}

/// Run of one object.
pub trait Reconcile: Send {
    /// Steps that the run can decide on.
    type Step: PartialEq + Send;

    /// Observes, decides, and carries out the decided step. The step is `None` if nothing was
    /// decided, for example when an answer is recorded.
    fn step(
        &mut self,
    ) -> impl Future<Output = Result<(Option<Self::Step>, StepOutcome), Error>> + Send;

    /// Returns the name of a step, for metrics and logs.
    fn name(step: &Self::Step) -> &'static str;
}

/// Repeats steps until the object rests. Another controller that undoes a step must not cause a
/// loop: if the same step is decided again right after it was carried out, the run ends.
pub async fn to_rest<R: Reconcile>(mut run: R) -> Result<Rested, Error> {
    let mut former = None;
    for _ in 0..MOST_STEPS {
        let (step, outcome) = run.step().await?;
        match outcome {
            StepOutcome::Done => {}
            StepOutcome::Rest(until) => return Ok(Rested::Until(until)),
            StepOutcome::Waits | StepOutcome::Gone => return Ok(Rested::Until(None)),
            StepOutcome::Overtaken => return Ok(Rested::Overtaken),
        }
        if let Some(step) = &step
            && former.as_ref() == Some(step)
        {
            return Ok(Rested::NoProgress(R::name(step)));
        }
        former = step;
    }
    let last = former.as_ref().map_or("", R::name);
    Ok(Rested::NoProgress(last))
}

/// Converts the result of a run for the queue.
#[must_use]
pub fn ended(result: &Result<Rested, Error>, now: Timestamp) -> Ended {
    match result {
        Ok(Rested::Until(until)) => Ended::Rested(until.map(|until| {
            let wait = Duration::try_from(until.duration_since(now)).unwrap_or_default();
            wait.min(LONGEST_TIMER) + LATER
        })),
        Ok(Rested::Overtaken | Rested::NoProgress(_)) => Ended::Overtaken,
        Err(error) if error.is_conflict() => Ended::Overtaken,
        Err(error) if error.is_unreachable() => Ended::Unreachable,
        Err(_) => Ended::Failed,
    }
}

/// Runs `reconcile` for every object that is requeued, and again at the time that a run requests.
///
/// Each object is run by one task at a time, and up to 64 objects run in parallel. None of them
/// waits for ACS, and calls to the API server share one limit, so failures of one object do not
/// delay another (K3). A run that fails or panics is repeated with growing pauses. After `stop` no
/// call to ACS begins; the function returns when the answers to the calls in flight are recorded.
pub async fn run_all<F, R>(
    mut requeued: UnboundedReceiver<ObjectKey>,
    calls: Calls,
    metrics: Arc<Metrics>,
    stop: Stop,
    now: impl Fn() -> Timestamp,
    reconcile: F,
) where
    F: Fn(ObjectKey, i32) -> R,
    R: Future<Output = Result<Rested, Error>> + Send + 'static,
{
    let began = Instant::now();
    let mut queue = Queue::default();
    let mut runs = JoinSet::new();
    let mut is_stopping = false;
    loop {
        while let Ok(key) = requeued.try_recv() {
            queue.add(key);
        }
        queue.tick(began.elapsed());
        while runs.len() < MOST_RUNS
            && let Some((key, attempts)) =
                queue.start_where(|key| !is_stopping || calls.has_answer(key))
        {
            runs.spawn(run(key.clone(), reconcile(key, attempts), &metrics));
        }
        if is_stopping && runs.is_empty() && calls.is_idle() {
            return;
        }
        let timer = queue.next_timer().unwrap_or(LONGEST_TIMER);
        tokio::select! {
            () = stop.clone(), if !is_stopping => {
                is_stopping = true;
                calls.close();
            }
            requeued = requeued.recv() => match requeued {
                Some(key) => queue.add(key),
                None => return,
            },
            Some(ran) = runs.join_next() => match ran {
                Ok((key, result)) => end(&mut queue, &key, &result, &metrics, now(), began.elapsed()),
                // Panics are caught in the run.
                Err(lost) => error!(%lost, "bug: a reconcile was lost; please report this"),
            },
            () = sleep_until(began + timer) => {}
        }
    }
}

/// Result of a run; the outer error is a panic.
type Ran = Result<Result<Rested, Error>, ()>;

fn run<R>(
    key: ObjectKey,
    reconcile: R,
    metrics: &Metrics,
) -> impl Future<Output = (ObjectKey, Ran)> + use<R>
where
    R: Future<Output = Result<Rested, Error>>,
{
    let kind = key.kind.as_str();
    let runs = metrics.reconciles.get_or_create_owned(&KindLabels { kind });
    runs.inc();
    let durations = metrics
        .reconcile_durations
        .get_or_create_owned(&KindLabels { kind });
    let began = Instant::now();
    let span = info_span!("reconcile", object = %key);
    let run = AssertUnwindSafe(reconcile).catch_unwind();
    async move {
        let ran = run.await.map_err(drop);
        durations.observe(began.elapsed().as_secs_f64());
        (key, ran)
    }
    .instrument(span)
}

fn end(
    queue: &mut Queue,
    key: &ObjectKey,
    ran: &Ran,
    metrics: &Metrics,
    now: Timestamp,
    at: Duration,
) {
    let how = ran
        .as_ref()
        .map_or(Ended::Failed, |result| ended(result, now));
    let attempts = queue.ended(key, how, at);
    let kind = key.kind.as_str();
    let stuck_at = match ran {
        // A single time is no problem: something may have changed between the two.
        Ok(Ok(Rested::NoProgress(step))) if attempts > 1 => Some(*step),
        Ok(Ok(Rested::Overtaken)) if attempts > 1 => Some("overtaken"),
        _ => None,
    };
    if let Some(step) = stuck_at {
        let labels = StepLabels { kind, step };
        metrics.no_progress.get_or_create(&labels).inc();
        warn!(object = %key, step, attempts, "a step had no effect; repeating it later");
        return;
    }
    let (reason, text) = match ran {
        Ok(Err(error)) if !error.is_conflict() => (error.reason(), error.to_string()),
        Ok(_) => return,
        Err(()) => (
            Reason::Panic,
            "bug: a reconcile panicked; please report this".to_owned(),
        ),
    };
    let labels = ReasonLabels { kind, reason };
    metrics.failures.get_or_create(&labels).inc();
    warn!(object = %key, %reason, error = text, attempts, "a reconcile failed; trying again");
}
