//! Waiting for an object with a watch, a deadline and a progress line.

use std::{fmt::Debug, pin::pin, time::Duration};

use clap::Args;
use futures::TryStreamExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::time::Instant;

use crate::{
    cluster::session::{Kind, Session},
    failure::{Exit, Failure},
    view::{
        progress::Progress,
        standing::{HasConditions, Standing, State},
    },
};

/// Maximum accepted timeout.
const LONGEST: Duration = Duration::from_hours(24);

/// Options for waiting: timeout and progress output.
#[derive(Clone, Debug, Args)]
pub struct Patience {
    /// Maximum time to wait, for example 30s or 5m
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = timeout)]
    pub timeout: Duration,
    /// Print no progress while waiting
    #[arg(short, long)]
    pub quiet: bool,
}

/// Parses a timeout.
pub fn timeout(text: &str) -> Result<Duration, String> {
    match text.parse::<jiff::SignedDuration>().map(Duration::try_from) {
        Ok(Ok(duration)) if !duration.is_zero() && duration <= LONGEST => Ok(duration),
        _ => Err("use a duration up to 24h, such as 30s, 5m or 1h".to_owned()),
    }
}

/// Result of looking at an object.
pub enum Look<T> {
    /// The object has the expected state.
    Done(T),
    /// Waiting longer is pointless.
    Stop(Failure),
    /// The object does not have the expected state yet; contains the reason.
    Wait(String),
}

impl<T> Look<T> {
    /// Returns the failure for an object that someone deleted.
    pub fn deleted(named: &str) -> Self {
        let message = format!("{named} was deleted in the meantime");
        Self::Stop(Failure::new(Exit::NotFound, message))
    }

    /// Returns the failure for an object that needs a person's action.
    pub fn stalled(named: &str, standing: &Standing) -> Self {
        let message = format!("{named} needs action: {}", standing.why());
        Self::Stop(Failure::new(Exit::Stalled, message))
    }

    /// Returns the failure for a suspended object.
    pub fn suspended(named: &str, standing: &Standing) -> Self {
        let message = format!(
            "{named} is suspended: {}; run `kubectl acs resume` to resume it",
            standing.message
        );
        Self::Stop(Failure::new(Exit::Stalled, message))
    }
}

/// Deadline and progress of one command, which may wait for several objects in turn.
pub struct Waiter {
    timeout: Duration,
    deadline: Instant,
    progress: Progress,
}

impl Patience {
    /// Starts the timeout.
    pub fn start(&self) -> Waiter {
        Waiter {
            timeout: self.timeout,
            deadline: Instant::now() + self.timeout,
            progress: Progress::new(self.quiet),
        }
    }
}

impl Waiter {
    /// Prints a permanent line.
    pub fn note(&mut self, line: &str) {
        self.progress.note(line);
    }

    /// Returns all permanent lines, in order.
    pub fn take_notes(&mut self) -> Vec<String> {
        self.progress.take_notes()
    }

    /// Waits until `look`, which is called for every change of the object (with `None` if it does
    /// not exist), returns a result.
    pub async fn until<K: Kind, T>(
        &mut self,
        session: &Session,
        name: &str,
        mut look: impl FnMut(Option<K>) -> Look<T>,
    ) -> Result<T, Failure> {
        let named = session.named::<K>(name);
        let mut changes = pin!(watcher::watch_object(session.api::<K>(), name).default_backoff());
        let mut waits_for = "the API server has not answered".to_owned();
        let watch = async {
            loop {
                match changes.try_next().await {
                    Ok(Some(object)) => match look(object) {
                        Look::Done(value) => return Ok(value),
                        Look::Stop(failure) => return Err(failure),
                        Look::Wait(why) => waits_for = why,
                    },
                    Ok(None) => {
                        let message = format!("the watch of {named} ended");
                        return Err(Failure::new(Exit::Failed, message));
                    }
                    Err(error) => waits_for = broken(&named, error, session)?,
                }
                self.progress.show(format!("{named}: {waits_for}"));
            }
        };
        match tokio::time::timeout_at(self.deadline, watch).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::new(
                Exit::NotYet,
                format!(
                    "timed out after {:?} waiting for {named}: {waits_for}; run `kubectl acs \
                     status` to see the progress",
                    self.timeout
                ),
            )),
        }
    }

    /// Waits until the object is Ready for its current spec; fails if a person must act.
    pub async fn until_ready<K: Kind + HasConditions>(
        &mut self,
        session: &Session,
        name: &str,
    ) -> Result<K, Failure> {
        let named = session.named::<K>(name);
        self.until(session, name, |object: Option<K>| {
            let Some(object) = object else {
                return Look::deleted(&named);
            };
            let standing = object.standing();
            match standing.state {
                State::Ready => Look::Done(object),
                State::Stalled => Look::stalled(&named, &standing),
                State::Suspended => Look::suspended(&named, &standing),
                State::Deleting => Look::Stop(Failure::new(
                    Exit::NotFound,
                    format!("{named} is being deleted"),
                )),
                State::Waiting | State::Missing => Look::Wait(standing.why()),
            }
        })
        .await
    }
}

/// Handles a failed watch: fails permanently if permissions or the kind are missing; otherwise it
/// is retried.
pub fn broken(named: &str, error: watcher::Error, session: &Session) -> Result<String, Failure> {
    let (watcher::Error::InitialListFailed(error)
    | watcher::Error::WatchStartFailed(error)
    | watcher::Error::WatchFailed(error)) = error
    else {
        return Ok(error.to_string());
    };
    let failure = Failure::from_error("watch", named, &error, &session.server);
    match failure.exit {
        Exit::Forbidden | Exit::NotInstalled => Err(failure),
        _ => Ok(failure.message),
    }
}
