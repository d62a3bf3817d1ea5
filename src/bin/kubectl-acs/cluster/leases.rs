//! Leases of the operators in a cluster.

use acs_identity_operator::crd::{MANAGED_BY_LABEL, OPERATOR};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, api::ListParams};

use crate::{cluster::session::Session, failure::Failure};

/// Returns the held Leases of operators, with their holders.
pub async fn held(session: &Session) -> Result<Vec<(Lease, String)>, Failure> {
    let api = Api::<Lease>::all(session.client.clone());
    let ours = ListParams::default().labels(&format!("{MANAGED_BY_LABEL}={OPERATOR}"));
    let found = session.call("list", "leases", api.list(&ours)).await?;
    let with_holder = |lease: Lease| {
        let holder = lease.spec.as_ref()?.holder_identity.clone()?;
        (!holder.is_empty()).then_some((lease, holder))
    };
    Ok(found.items.into_iter().filter_map(with_holder).collect())
}
