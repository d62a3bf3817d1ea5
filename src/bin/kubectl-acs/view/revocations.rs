//! Revocations as `status` shows them (pure): those in progress, and recently completed ones.

use acs_identity_operator::crd::{Reason, RevocationStatus};
use jiff::{SignedDuration, Timestamp};

use crate::{
    cluster::overview::Overview,
    view::{
        span,
        standing::{HasConditions, State},
        tree::{Fact, Node, node},
    },
};

/// Time for which a completed revocation is shown without being named.
const SHOWN: SignedDuration = SignedDuration::from_hours(1);

/// Removes revocations that are only shown when they are named.
pub fn leave_out_past(overview: &mut Overview, now: Timestamp) {
    if let Some(orders) = &mut overview.revocations {
        orders.retain(|revocation| is_current(revocation.status.as_ref(), now));
    }
    if let Some(orders) = &mut overview.cluster_revocations {
        orders.retain(|revocation| is_current(revocation.status.as_ref(), now));
    }
}

fn is_current(status: Option<&RevocationStatus>, now: Timestamp) -> bool {
    let end = status.and_then(|status| status.completed_at.as_ref());
    end.is_none_or(|end| now.duration_since(end.0) < SHOWN)
}

/// Returns the revocations that the user may list.
pub fn nodes(overview: &Overview, now: Timestamp) -> Vec<Node> {
    let orders = overview.revocations.iter().flatten();
    let orders = orders.map(|revocation| {
        of_revocation("AcsRevocation", revocation, revocation.status.as_ref(), now)
    });
    let cluster = overview.cluster_revocations.iter().flatten();
    let cluster = cluster.map(|revocation| {
        let status = revocation.status.as_ref();
        of_revocation("ClusterAcsRevocation", revocation, status, now)
    });
    orders.chain(cluster).collect()
}

fn of_revocation(
    kind: &'static str,
    revocation: &impl HasConditions,
    status: Option<&RevocationStatus>,
    now: Timestamp,
) -> Node {
    let mut node = node(kind, revocation);
    let Some(status) = status else { return node };
    if let (Some(revoked), Some(total)) = (status.revoked, status.total) {
        node.record.push(Fact {
            key: "revoked",
            value: revoked.to_string(),
            text: format!("{revoked} of {total} revoked"),
        });
    }
    node.record
        .extend(status.completed_at.as_ref().map(|end| Fact {
            key: "completedAt",
            value: end.0.to_string(),
            text: format!("completed {}", span::from_now(end.0, now)),
        }));
    // Completed, but not with the expected result.
    if node.standing.state == State::Ready && node.standing.reason != Reason::Revoked.as_str() {
        node.notes.push(node.standing.why());
    }
    node
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn an_order_is_shown_until_an_hour_after_its_end() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let ended = |ago: SignedDuration| RevocationStatus {
            completed_at: Some(Time(now - ago)),
            ..RevocationStatus::default()
        };
        assert!(is_current(None, now));
        assert!(is_current(Some(&RevocationStatus::default()), now));
        assert!(is_current(Some(&ended(SignedDuration::from_mins(59))), now));
        assert!(!is_current(
            Some(&ended(SignedDuration::from_mins(60))),
            now
        ));
    }
}
