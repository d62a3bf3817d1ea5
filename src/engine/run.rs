//! Runs objects as the queue says: dedupe, repeat, survive.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt, future::Shared};
use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::mpsc::UnboundedReceiver,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::{Instrument, error, info_span, warn};

use super::{Ended, Queue};
use crate::{
    cluster::{Error, ObjectKey},
    metrics::{KindLabels, Metrics, ReasonLabels},
    renewal,
};

/// Ends when the process is asked to stop.
pub type Stop = Shared<futures::future::BoxFuture<'static, ()>>;

/// No object needs more steps than this before it rests; one that does is looked at again later.
const MOST_STEPS: usize = 12;
/// Pause after a step that was overtaken. A watch event usually requeues the object sooner.
const OVERTAKEN: SignedDuration = SignedDuration::from_millis(500);
/// A run is repeated this long after the time that it asked for, so that what is due then is due.
const LATER: Duration = Duration::from_millis(20);
/// Longest wait until the next run of an object.
const LONGEST_TIMER: Duration = Duration::from_hours(24 * 30);

/// What a step of a run led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The cluster is another one: look again.
    Done,
    /// Nothing was done, because something has changed since the decision.
    Overtaken,
    /// Nothing is left to do but to wait, until then or for an event.
    Rest(Option<Timestamp>),
    /// The object is gone.
    Gone,
}

/// A run of one object.
pub trait Reconcile: Send {
    /// Observes, decides, and carries out one step.
    fn step(&mut self) -> impl Future<Output = Result<Outcome, Error>> + Send;

    /// The operator's clock.
    fn now(&self) -> Timestamp;
}

/// Goes on until the object rests; when to run it again.
pub async fn to_rest(mut run: impl Reconcile) -> Result<Option<Timestamp>, Error> {
    for _ in 0..MOST_STEPS {
        match run.step().await? {
            Outcome::Done => {}
            Outcome::Rest(until) => return Ok(until),
            Outcome::Gone => return Ok(None),
            Outcome::Overtaken => return Ok(Some(renewal::add(run.now(), OVERTAKEN))),
        }
    }
    Ok(Some(renewal::add(run.now(), OVERTAKEN)))
}

/// How a run ended, for the queue.
#[must_use]
pub fn ended(result: &Result<Option<Timestamp>, Error>, now: Timestamp) -> Ended {
    match result {
        Ok(until) => Ended::Rested(until.map(|until| {
            let wait = Duration::try_from(until.duration_since(now)).unwrap_or_default();
            wait.min(LONGEST_TIMER) + LATER
        })),
        Err(error) if error.is_conflict() => Ended::Conflicted,
        Err(_) => Ended::Failed,
    }
}

/// Runs `reconcile` for every object that is requeued, and again when it asks for it.
///
/// An object is run by one task at a time, many objects side by side; what bounds them are the
/// queue in front of ACS and the pool in front of the API server, so that nobody's failures take
/// another's place (K3). A run that fails is repeated with growing pauses; one that panics too.
/// Ends after `stop`, when all runs have ended.
pub async fn run_all<F, R>(
    mut requeued: UnboundedReceiver<ObjectKey>,
    metrics: Arc<Metrics>,
    stop: Stop,
    now: impl Fn() -> Timestamp,
    reconcile: F,
) where
    F: Fn(ObjectKey) -> R,
    R: Future<Output = Result<Option<Timestamp>, Error>> + Send + 'static,
{
    let began = Instant::now();
    let mut queue = Queue::default();
    let mut runs = JoinSet::new();
    loop {
        while let Ok(key) = requeued.try_recv() {
            queue.add(key);
        }
        queue.tick(began.elapsed());
        while let Some(key) = queue.start(0) {
            runs.spawn(run(key.clone(), reconcile(key), &metrics));
        }
        let timer = queue.next_timer().unwrap_or(LONGEST_TIMER);
        tokio::select! {
            () = stop.clone() => break,
            requeued = requeued.recv() => match requeued {
                Some(key) => queue.add(key),
                None => break,
            },
            Some(ran) = runs.join_next() => match ran {
                Ok((key, result)) => end(&mut queue, &key, &result, &metrics, now(), began.elapsed()),
                // Panics are caught in the run.
                Err(lost) => error!(%lost, "a run was lost"),
            },
            () = sleep_until(began + timer) => {}
        }
    }
    while runs.join_next().await.is_some() {}
}

/// How a run ended: a panic is told apart.
type Ran = Result<Result<Option<Timestamp>, Error>, ()>;

fn run<R>(
    key: ObjectKey,
    reconcile: R,
    metrics: &Metrics,
) -> impl Future<Output = (ObjectKey, Ran)> + use<R>
where
    R: Future<Output = Result<Option<Timestamp>, Error>>,
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
    let (reason, text) = match ran {
        Ok(Err(error)) if how == Ended::Failed => (error.reason(), error.to_string()),
        Ok(_) => return,
        Err(()) => ("Panic", "the run panicked: please report this".to_owned()),
    };
    let labels = ReasonLabels {
        kind: key.kind.as_str(),
        reason: reason.to_owned(),
    };
    metrics.failures.get_or_create(&labels).inc();
    warn!(object = %key, reason, error = text, attempts, "a run failed and is repeated");
}
