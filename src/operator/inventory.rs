//! Metrics of the objects in the cluster, counted from the views at each scrape.

use std::{collections::BTreeMap, fmt, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Unit,
};

use crate::{
    cluster::view::View,
    connection::Load,
    context::Views,
    crd::{
        AcsConnection, AcsIdentity, AcsToken, ClusterAcsConnection, ConnectionKey, ConnectionRef,
        Reason, is_ready, ready_reason,
    },
};

/// Time after its planned time at which a renewal counts as late.
const LATE: SignedDuration = SignedDuration::from_mins(1);

/// Counts of all tokens.
#[derive(Debug, Default, PartialEq)]
struct Tokens {
    ready: u32,
    not_ready: u32,
    /// Tokens with a late renewal.
    overdue: u32,
    /// Time at which the first token of each connection expires, by the name of the connection.
    first_expiry: BTreeMap<String, Timestamp>,
    /// Calls that the renewals of each connection need, by the name of the connection.
    load: BTreeMap<String, Load>,
}

/// Collector of the metrics of all objects.
#[derive(Debug)]
pub struct Inventory {
    connections: Arc<View<AcsConnection>>,
    cluster_connections: Arc<View<ClusterAcsConnection>>,
    identities: Arc<View<AcsIdentity>>,
    tokens: Arc<View<AcsToken>>,
}

impl Inventory {
    /// Returns a collector that counts the objects in these views.
    #[must_use]
    pub fn new(views: &Views) -> Self {
        Self {
            connections: Arc::clone(&views.connections),
            cluster_connections: Arc::clone(&views.cluster_connections),
            identities: Arc::clone(&views.identities),
            tokens: Arc::clone(&views.tokens),
        }
    }

    fn tokens(&self, now: Timestamp) -> Tokens {
        let mut counted = Tokens::default();
        for token in self.tokens.all(None) {
            counted.add(&token, |token| self.connection_of(token), now);
        }
        counted
    }

    /// Returns the name of the connection that issued a token.
    fn connection_of(&self, token: &AcsToken) -> Option<String> {
        let named = |reference: &ConnectionRef| {
            let namespace = token.metadata.namespace.as_deref().unwrap_or_default();
            ConnectionKey::from_reference(reference, namespace).to_string()
        };
        match token.identity_reference() {
            Some(identity) => {
                let identity = self.identities.get(&identity)?;
                identity.status.as_ref()?.connection_ref.as_ref().map(named)
            }
            None => token.status.as_ref()?.connection_ref.as_ref().map(named),
        }
    }

    /// Counts connections by kind and by whether they are Ready.
    fn connections(&self) -> BTreeMap<(&'static str, bool), u32> {
        let namespaced = self.connections.all(None).map(|connection| {
            let status = connection.status.as_ref();
            let ready = status.is_some_and(|status| is_ready(&status.conditions));
            ("AcsConnection", ready)
        });
        let cluster = self.cluster_connections.all(None).map(|connection| {
            let status = connection.status.as_ref();
            let ready = status.is_some_and(|status| is_ready(&status.conditions));
            ("ClusterAcsConnection", ready)
        });
        let kinds = ["AcsConnection", "ClusterAcsConnection"];
        let none = kinds
            .iter()
            .flat_map(|kind| [true, false].map(|ready| ((*kind, ready), 0)));
        let mut counted: BTreeMap<_, _> = none.collect();
        for found in namespaced.chain(cluster) {
            *counted.entry(found).or_default() += 1;
        }
        counted
    }
}

impl Tokens {
    fn add(
        &mut self,
        token: &AcsToken,
        connection: impl Fn(&AcsToken) -> Option<String>,
        now: Timestamp,
    ) {
        let status = token.status.as_ref();
        let conditions = status.map_or(&[][..], |status| &status.conditions);
        if is_ready(conditions) {
            self.ready += 1;
        } else {
            self.not_ready += 1;
        }
        // These tokens expire and are not renewed.
        let ends = token.metadata.deletion_timestamp.is_some()
            || ready_reason(conditions) == Some(Reason::Suspended);
        let Some(status) = status.filter(|_| !ends) else {
            return;
        };
        if let Some(renew_at) = &status.renew_at
            && renew_at.0 + LATE < now
        {
            self.overdue += 1;
        }
        if let Some(expires_at) = &status.expires_at
            && let Some(connection) = connection(token)
        {
            self.load.entry(connection.clone()).or_default().add(status);
            let first = self.first_expiry.entry(connection).or_insert(expires_at.0);
            *first = expires_at.0.min(*first);
        }
    }
}

impl Collector for Inventory {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let tokens = self.tokens(Timestamp::now());
        let mut by_readiness = encoder.encode_descriptor(
            "tokens",
            "Number of AcsTokens by the status of their Ready condition",
            None,
            MetricType::Gauge,
        )?;
        for (ready, count) in [("True", tokens.ready), ("False", tokens.not_ready)] {
            let gauge = ConstGauge::new(i64::from(count));
            gauge.encode(by_readiness.encode_family(&[("ready", ready)])?)?;
        }
        let overdue = ConstGauge::new(i64::from(tokens.overdue));
        overdue.encode(encoder.encode_descriptor(
            "tokens_overdue",
            "Number of AcsTokens whose renewal is more than a minute late",
            None,
            MetricType::Gauge,
        )?)?;
        let mut first_expiry = encoder.encode_descriptor(
            "token_expiry_min_timestamp",
            "Time since the Unix epoch at which the first token of a connection expires",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        for (connection, expires_at) in &tokens.first_expiry {
            let gauge = ConstGauge::new(expires_at.as_second());
            gauge.encode(first_expiry.encode_family(&[("connection", connection.as_str())])?)?;
        }
        let mut load = encoder.encode_descriptor(
            "renewals_limit_ratio",
            "Share of the ACS rate limit that renewals of the tokens of a connection need",
            None,
            MetricType::Gauge,
        )?;
        for (connection, share) in &tokens.load {
            let gauge = ConstGauge::new(share.share());
            gauge.encode(load.encode_family(&[("connection", connection.as_str())])?)?;
        }
        let mut connections = encoder.encode_descriptor(
            "connections",
            "Number of AcsConnections and ClusterAcsConnections by the status of their Ready \
             condition",
            None,
            MetricType::Gauge,
        )?;
        for ((kind, ready), count) in self.connections() {
            let labels = [
                ("kind", kind),
                ("ready", if ready { "True" } else { "False" }),
            ];
            let gauge = ConstGauge::new(i64::from(count));
            gauge.encode(connections.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn token(status: &Value) -> AcsToken {
        let object = json!({
            "apiVersion": "acs-identity.dev/v1alpha1", "kind": "AcsToken",
            "metadata": {"name": "web", "namespace": "team"},
            "spec": {"identityRef": {"name": "alice"}, "scopes": ["chat"]},
            "status": status,
        });
        serde_json::from_value(object).unwrap()
    }

    fn ready(reason: &str, renew_at: &str, expires_at: &str) -> AcsToken {
        token(&json!({
            "renewAt": renew_at, "expiresAt": expires_at,
            "conditions": [{
                "type": "Ready", "status": "True", "reason": reason, "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }],
        }))
    }

    fn counted(tokens: &[AcsToken]) -> Tokens {
        let now = "2026-01-01T12:00:00Z".parse().unwrap();
        let mut counted = Tokens::default();
        for token in tokens {
            counted.add(token, |_| Some("AcsConnection team/main".to_owned()), now);
        }
        counted
    }

    #[test]
    fn a_renewal_is_overdue_a_minute_after_its_time() {
        let late = |renew_at| counted(&[ready("Issued", renew_at, "2026-01-01T20:00:00Z")]).overdue;
        assert_eq!(late("2026-01-01T13:00:00Z"), 0);
        assert_eq!(late("2026-01-01T11:59:30Z"), 0);
        assert_eq!(late("2026-01-01T11:58:59Z"), 1);
    }

    #[test]
    fn the_first_expiry_is_the_earliest_of_those_that_are_kept_alive() {
        let mut deleted = ready("Issued", "2026-01-01T11:00:00Z", "2026-01-01T12:10:00Z");
        let now = "2026-01-01T12:00:00Z".parse().unwrap();
        deleted.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
        let counted = counted(&[
            ready("Issued", "2026-01-01T13:00:00Z", "2026-01-01T20:00:00Z"),
            ready("Issued", "2026-01-01T13:00:00Z", "2026-01-01T14:00:00Z"),
            ready("Suspended", "2026-01-01T11:00:00Z", "2026-01-01T12:10:00Z"),
            deleted,
            token(&json!({})),
        ]);
        assert_eq!(
            (counted.ready, counted.not_ready, counted.overdue),
            (4, 1, 0)
        );
        let first = counted.first_expiry["AcsConnection team/main"];
        assert_eq!(first.to_string(), "2026-01-01T14:00:00Z");
    }
}
