//! The operator's flags for its Lease.

use acs_identity_operator::{crd, engine::Timing, operator::LeaseConfig};
use clap::Args;
use jiff::SignedDuration;

use crate::{Failure, duration};

#[derive(Debug, Args)]
pub struct LeaseArgs {
    /// Namespace of the Lease for leader election [default: the namespace of the pod, or of the
    /// context in the kubeconfig]
    #[arg(
        long = "lease-namespace",
        value_name = "NAMESPACE",
        env = "ACS_OPERATOR_LEASE_NAMESPACE"
    )]
    namespace: Option<String>,
    /// Name of the Lease, which all processes of one release share
    #[arg(
        long = "lease-name",
        value_name = "NAME",
        env = "ACS_OPERATOR_LEASE_NAME",
        default_value = crd::OPERATOR
    )]
    name: String,
    /// Time without a renewal of the Lease after which another process takes over
    #[arg(long = "lease-duration", value_name = "DURATION", env = "ACS_OPERATOR_LEASE_DURATION", default_value = "15s", value_parser = duration)]
    duration: SignedDuration,
    /// Time without a renewal of the Lease after which the leader exits
    #[arg(long = "lease-renew-deadline", value_name = "DURATION", env = "ACS_OPERATOR_LEASE_RENEW_DEADLINE", default_value = "10s", value_parser = duration)]
    renew_deadline: SignedDuration,
    /// Pause between attempts to renew the Lease
    #[arg(long = "lease-retry-period", value_name = "DURATION", env = "ACS_OPERATOR_LEASE_RETRY_PERIOD", default_value = "2s", value_parser = duration)]
    retry_period: SignedDuration,
}

impl LeaseArgs {
    pub fn timing(&self) -> Result<Timing, Failure> {
        let timing = Timing {
            duration: self.duration.try_into()?,
            renew_deadline: self.renew_deadline.try_into()?,
            retry_period: self.retry_period.try_into()?,
        };
        timing.check()?;
        Ok(timing)
    }

    /// The Lease, of which `namespace` is the default namespace.
    pub fn config(self, namespace: &str, timing: Timing) -> Result<LeaseConfig, Failure> {
        // In a pod this is the pod's name.
        let host = hostname::get()?;
        Ok(LeaseConfig {
            namespace: self.namespace.unwrap_or_else(|| namespace.to_owned()),
            name: self.name,
            holder: format!("{}_{}", host.to_string_lossy(), uuid::Uuid::new_v4()),
            timing,
        })
    }
}
