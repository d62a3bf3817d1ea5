//! Reads and conditional writes of the release's Lease.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{Api, Client, ResourceExt, api::PostParams, core::ObjectMeta};
use tokio::time::timeout;

use crate::{
    crd::{MANAGED_BY_LABEL, OPERATOR, WATCHED_NAMESPACES},
    engine::{Record, Timing},
    health::innermost,
};

const NO_ANSWER: &str = "the API server did not answer in time";

/// Name, namespace, holder and timing of the Lease.
#[derive(Clone, Debug)]
pub struct LeaseConfig {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Name of this process: the name of the pod and a part that no other process has.
    pub holder: String,
    /// Timing of the Lease.
    pub timing: Timing,
}

impl LeaseConfig {
    pub(super) fn named(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Lease, as this process last read or wrote it.
pub(super) struct HeldLease {
    pub config: LeaseConfig,
    api: Api<Lease>,
    /// Namespaces that this release watches, for other releases to read.
    watched: String,
    lease: Option<Lease>,
}

/// Why a call for the Lease failed.
pub(super) enum Failed {
    /// Another client has written or deleted the Lease.
    Changed,
    /// Another error, as a sentence.
    Other(String),
}

impl HeldLease {
    pub(super) fn new(client: Client, config: LeaseConfig, watched: &[String]) -> Self {
        Self {
            api: Api::namespaced(client, &config.namespace),
            config,
            watched: watched.join(","),
            lease: None,
        }
    }

    pub(super) async fn read(&mut self) -> Result<Option<Record>, String> {
        let read = self.bounded(self.api.get_opt(&self.config.name)).await?;
        self.lease = read.map_err(|error| sentence(&error))?;
        Ok(self.lease.as_ref().map(record))
    }

    /// Writes the Lease with this holder, on condition that it has not changed since it was read.
    pub(super) async fn write(&mut self, holder: &str) -> Result<(), Failed> {
        let next = self.next(holder);
        let parameters = PostParams::default();
        let written = if next.metadata.resource_version.is_some() {
            let replaced = self.api.replace(&self.config.name, &parameters, &next);
            self.bounded(replaced).await
        } else {
            self.bounded(self.api.create(&parameters, &next)).await
        };
        match written.map_err(Failed::Other)? {
            Ok(lease) => {
                self.lease = Some(lease);
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => {
                self.lease = None;
                Err(Failed::Changed)
            }
            Err(error) => Err(Failed::Other(sentence(&error))),
        }
    }

    fn next(&self, holder: &str) -> Lease {
        let former = self.lease.clone().unwrap_or_default();
        let spec = former.spec.unwrap_or_default();
        let now = MicroTime(Timestamp::now());
        let is_new = spec.holder_identity.as_deref() != Some(holder);
        let mut metadata = ObjectMeta {
            name: Some(self.config.name.clone()),
            namespace: Some(self.config.namespace.clone()),
            managed_fields: None,
            ..former.metadata
        };
        let labels = metadata.labels.get_or_insert_default();
        labels.insert(MANAGED_BY_LABEL.to_owned(), OPERATOR.to_owned());
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert(WATCHED_NAMESPACES.to_owned(), self.watched.clone());
        let taken = i32::from(is_new && !holder.is_empty() && self.lease.is_some());
        Lease {
            metadata,
            spec: Some(LeaseSpec {
                acquire_time: if is_new {
                    Some(now.clone())
                } else {
                    spec.acquire_time
                },
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: i32::try_from(self.config.timing.duration.as_secs()).ok(),
                lease_transitions: Some(spec.lease_transitions.unwrap_or(0).saturating_add(taken)),
                renew_time: Some(now),
                ..spec
            }),
        }
    }

    /// Limits the duration of a call, so that a second attempt fits in before the deadline.
    pub(super) async fn bounded<T>(&self, call: impl Future<Output = T>) -> Result<T, String> {
        let bound = self.config.timing.renew_deadline / 2;
        let called = timeout(bound, call).await;
        called.map_err(|_| NO_ANSWER.to_owned())
    }
}

pub(super) fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.unwrap_or(0);
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        duration: Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
        version: lease.resource_version().unwrap_or_default(),
    }
}

pub(super) fn sentence(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        error => innermost(error),
    }
}
