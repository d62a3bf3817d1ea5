//! Leader election of the release: waits until the Lease is free, renews it, and releases it (K2).
//!
//! This is implemented here because no crate fences as K2 requires: `kube` has no election,
//! `kube-lease-manager` goes on leading while the API server cannot be reached and frees Leases
//! without a precondition, and `kubert` uses an older `kube` and trusts the clocks of other
//! machines.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

use super::{
    lease::{Failed, HeldLease, LeaseConfig, sentence},
    releases::{Releases, Rival},
};
use crate::{
    cluster::{
        CALL_TIMEOUT,
        event::{Events, Notice},
    },
    crd::Reason,
    engine::{Claim, Election, Next, Timing},
    health::Health,
    metrics::Metrics,
};

/// Interval of the checks for other releases, while this one leads.
const LOOKING: Duration = Duration::from_secs(10);

/// Leader election of this process.
#[derive(Debug)]
pub struct Leadership {
    /// Claim to check before each effect.
    pub claim: Claim,
    /// Lease that gives the claim; without one, no other process acts.
    pub lease: Option<LeaseConfig>,
}

/// State that a leader shares with the rest of the process.
pub(super) struct Shared {
    pub claim: Claim,
    pub health: Health,
    pub metrics: Arc<Metrics>,
    /// Whether this release writes the statuses of `ClusterAcsConnection` objects.
    pub leads_cluster: Arc<AtomicBool>,
}

/// Holder of the Lease.
pub(super) struct Leader {
    lease: HeldLease,
    others: Releases,
    events: Events,
    shared: Shared,
    /// Last reported obstacle.
    reported: String,
    /// Start of the last successful renewal.
    renewed: Instant,
}

impl Leader {
    pub(super) fn new(
        client: &Client,
        config: LeaseConfig,
        watched: &[String],
        shared: Shared,
    ) -> Self {
        Self {
            others: Releases::new(client.clone(), &config, watched),
            lease: HeldLease::new(client.clone(), config, watched),
            events: Events::new(client.clone()),
            shared,
            reported: String::new(),
            renewed: Instant::now(),
        }
    }

    /// Leads until the Lease is lost, or until everything in progress is done; in that case the
    /// Lease is released.
    pub(super) async fn run(mut self, is_done: oneshot::Receiver<()>) {
        tokio::select! {
            () = self.lead() => return,
            Ok(()) = is_done => {}
        }
        self.release().await;
    }

    /// Waits for the Lease and renews it, until it is lost.
    async fn lead(&mut self) {
        let why = format!("the Lease {} is being read", self.named());
        self.shared.health.stands_by(Some(why));
        self.stand_by().await;
        self.shared.metrics.leader.set(1);
        self.shared.health.stands_by(None);
        info!(
            lease = self.named(),
            holder = self.lease.config.holder,
            "leading"
        );
        self.renew().await;
        self.shared.metrics.leader.set(0);
    }

    /// Releases the Lease, if it is held, so that the next process takes it at once.
    async fn release(&mut self) {
        let is_held = self.shared.claim.left(Instant::now()).is_some();
        self.shared.claim.lose();
        if !is_held {
            return;
        }
        for _ in 0..3 {
            match self.lease.write("").await {
                Ok(()) => {
                    info!(lease = self.named(), "released the Lease");
                    return;
                }
                Err(Failed::Changed) => {
                    if !matches!(self.lease.read().await, Ok(Some(record)) if record.holder == self.lease.config.holder)
                    {
                        return;
                    }
                }
                Err(Failed::Other(why)) => {
                    warn!(
                        lease = self.named(),
                        error = why,
                        "the Lease was not released"
                    );
                    return;
                }
            }
        }
    }

    /// Waits until this process holds the Lease and no other release leads in its namespaces.
    async fn stand_by(&mut self) {
        let mut election = Election::new(self.lease.config.holder.clone());
        // Tries twice per period, so that a released Lease is taken within one period.
        let period = self.lease.config.timing.retry_period / 2;
        loop {
            let pause = match self.lease.read().await {
                Ok(record) => match election.saw(record, Instant::now()) {
                    Next::Take => match self.take_if_alone().await {
                        Ok(true) => return,
                        Ok(false) => self.apart(period),
                        Err(Failed::Changed) => Duration::ZERO,
                        Err(Failed::Other(why)) => {
                            self.cannot(&why);
                            period
                        }
                    },
                    Next::Wait(until) => {
                        let holder = election.holder().unwrap_or_default();
                        self.stands_by(&format!("{holder} is the leader ({})", self.named()));
                        period.min(until.saturating_duration_since(Instant::now()))
                    }
                },
                Err(why) => {
                    self.cannot(&why);
                    period
                }
            };
            sleep(pause).await;
        }
    }

    /// Takes the Lease unless another release leads in the same namespaces. Returns whether this
    /// process holds it now.
    async fn take_if_alone(&mut self) -> Result<bool, Failed> {
        self.check_releases().await?;
        if let Some(rival) = self.others.rival() {
            self.yields_to(&rival).await;
            return Ok(false);
        }
        let begin = Instant::now();
        let holder = self.lease.config.holder.clone();
        self.lease.write(&holder).await?;
        self.check_releases().await?;
        if let Some(rival) = self.others.rival() {
            self.lease.write("").await?;
            self.yields_to(&rival).await;
            return Ok(false);
        }
        self.extend(begin);
        Ok(true)
    }

    /// Updates what is known of other releases.
    async fn check_releases(&mut self) -> Result<(), Failed> {
        let looked = self.lease.bounded(self.others.refresh()).await;
        let is_first = match looked.map_err(Failed::Other)? {
            Ok(()) => self.others.are_behind_us(),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                if self.reported != status.message {
                    warn!(
                        error = status.message,
                        "not allowed to list Leases, so another release in the same namespaces \
                         would not be noticed"
                    );
                    self.reported.clone_from(&status.message);
                }
                true
            }
            Err(error) => return Err(Failed::Other(sentence(&error))),
        };
        self.shared.leads_cluster.store(is_first, Relaxed);
        Ok(())
    }

    /// Reports that another release leads.
    async fn yields_to(&mut self, rival: &Rival) {
        let Rival {
            lease,
            holder,
            namespace,
        } = rival;
        let why = format!(
            "another release manages the same namespaces: {holder} is the leader (Lease {lease}); \
             uninstall one of the two, or set different watchNamespaces"
        );
        if self.stands_by(&why) {
            let about = ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Namespace".to_owned()),
                name: Some(namespace.clone()),
                ..ObjectReference::default()
            };
            let notice = Notice {
                about,
                is_warning: true,
                reason: Reason::AnotherReleaseLeads,
                note: why,
            };
            self.events.publish(&notice, || Some(CALL_TIMEOUT)).await;
        }
    }

    /// Records why this process stands by. Returns whether the reason is new.
    fn stands_by(&mut self, why: &str) -> bool {
        self.shared.health.stands_by(Some(why.to_owned()));
        let is_new = self.reported != why;
        if is_new {
            info!(lease = self.named(), why, "standing by");
            why.clone_into(&mut self.reported);
        }
        is_new
    }

    /// Reports once that the Lease cannot be acquired.
    fn cannot(&mut self, why: &str) {
        let named = self.named();
        let problem = format!("could not acquire the Lease {named}: {why}");
        self.shared.health.lacks_lease(problem);
        if self.reported != why {
            warn!(
                lease = named,
                error = why,
                "could not acquire the Lease yet"
            );
            why.clone_into(&mut self.reported);
        }
    }

    /// Returns a pause that differs between processes: two releases that blocked each other must
    /// not try again at the same moment.
    fn apart(&self, period: Duration) -> Duration {
        let bytes = self.lease.config.holder.bytes();
        let spread = bytes.fold(0, |sum: u32, byte| {
            sum.wrapping_mul(31).wrapping_add(byte.into())
        });
        period + period * (spread % 16) / 8
    }

    /// Renews the Lease, until it is lost.
    async fn renew(&mut self) {
        let Timing {
            renew_deadline,
            retry_period,
            ..
        } = self.lease.config.timing;
        let mut looked = Instant::now();
        loop {
            let deadline = self.renewed + renew_deadline;
            let left = deadline.saturating_duration_since(Instant::now());
            sleep(retry_period.min(left)).await;
            if self.shared.claim.left(Instant::now()).is_none() {
                let deadline = renew_deadline.as_secs_f64();
                error!(
                    lease = self.named(),
                    deadline, "the Lease could not be renewed in time"
                );
                return;
            }
            if !self.others.is_everything() && looked.elapsed() > LOOKING {
                // If the check fails, the former result is kept.
                let _ = self.check_releases().await;
                looked = Instant::now();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(taken) = timeout(left, self.take()).await else {
                continue;
            };
            match taken {
                Ok(()) => {}
                Err(Failed::Changed) => match self.lease.read().await {
                    Ok(Some(record)) if record.holder != self.lease.config.holder => {
                        let holder = record.holder;
                        error!(
                            lease = self.named(),
                            holder, "another process acquired the Lease"
                        );
                        self.shared.claim.lose();
                        return;
                    }
                    // The Lease was deleted, or only edited: the next attempt shows which.
                    _ => {}
                },
                Err(Failed::Other(why)) => {
                    warn!(
                        lease = self.named(),
                        error = why,
                        "the Lease could not be renewed yet"
                    );
                }
            }
        }
    }

    /// Writes this process's name into the Lease and extends the claim.
    async fn take(&mut self) -> Result<(), Failed> {
        let begin = Instant::now();
        let holder = self.lease.config.holder.clone();
        self.lease.write(&holder).await?;
        self.extend(begin);
        Ok(())
    }

    /// Extends the claim from the start of a renewal. Other processes see the renewal later, so
    /// they wait longer.
    fn extend(&mut self, begin: Instant) {
        let Timing {
            duration,
            renew_deadline,
            ..
        } = self.lease.config.timing;
        self.renewed = begin;
        self.shared
            .claim
            .extend(begin + renew_deadline, begin + duration);
    }

    fn named(&self) -> String {
        self.lease.config.named()
    }
}
