//! Other releases of the operator, found by their Leases.
//!
//! Each Lease says which namespaces its release watches. A process that wants to lead checks the
//! other Leases first, and again when it holds its own Lease, before it does anything. Of two that
//! begin at the same moment, at least one sees the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, ResourceExt, api::ListParams};

use super::lease::{LeaseConfig, record};
use crate::{
    crd::{MANAGED_BY_LABEL, OPERATOR, WATCHED_NAMESPACES},
    engine::{Election, Next},
};

/// Other releases.
pub(super) struct Releases {
    api: Api<Lease>,
    /// `namespace/name` of this release's Lease.
    own: String,
    /// Namespace of this release.
    namespace: String,
    holder: String,
    /// Namespaces that this release watches; empty stands for all.
    watched: BTreeSet<String>,
    /// Other releases by `namespace/name` of their Leases.
    others: BTreeMap<String, Other>,
}

struct Other {
    election: Election,
    watched: BTreeSet<String>,
    is_alive: bool,
}

/// Another release that leads in namespaces that this one watches, too.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rival {
    /// `namespace/name` of its Lease.
    pub lease: String,
    /// Process that leads.
    pub holder: String,
    /// Namespace that both watch; that of this release if both watch all.
    pub namespace: String,
}

impl Releases {
    pub(super) fn new(client: Client, lease: &LeaseConfig, watched: &[String]) -> Self {
        Self {
            api: Api::all(client),
            own: lease.named(),
            namespace: lease.namespace.clone(),
            holder: lease.holder.clone(),
            watched: watched.iter().cloned().collect(),
            others: BTreeMap::new(),
        }
    }

    /// Lists the Leases of all releases.
    pub(super) async fn refresh(&mut self) -> kube::Result<()> {
        let ours = ListParams::default().labels(&format!("{MANAGED_BY_LABEL}={OPERATOR}"));
        let found = self.api.list(&ours).await?.items;
        self.saw(&found, Instant::now());
        Ok(())
    }

    fn saw(&mut self, leases: &[Lease], now: Instant) {
        let mut found: BTreeMap<_, _> = leases.iter().map(|lease| (named(lease), lease)).collect();
        found.remove(&self.own);
        for (name, lease) in &found {
            let watched = lease.annotations().get(WATCHED_NAMESPACES);
            let other = self.others.entry(name.clone()).or_insert_with(|| Other {
                election: Election::new(self.holder.clone()),
                watched: BTreeSet::new(),
                is_alive: false,
            });
            other.watched = namespaces(watched.map_or("", String::as_str));
        }
        for (name, other) in &mut self.others {
            let record = found.get(name).map(|lease| record(lease));
            other.is_alive = matches!(other.election.saw(record, now), Next::Wait(_));
        }
        self.others
            .retain(|name, other| other.is_alive || found.contains_key(name));
    }

    /// Whether this release watches all namespaces, so that no other release leads anywhere.
    pub(super) fn is_everything(&self) -> bool {
        self.watched.is_empty()
    }

    /// Returns the release that leads in namespaces that this one watches, too, if there was one at
    /// the last check.
    pub(super) fn rival(&self) -> Option<Rival> {
        self.others.iter().find_map(|(lease, other)| {
            let holder = other.election.holder().filter(|_| other.is_alive)?;
            Some(Rival {
                lease: lease.clone(),
                holder: holder.to_owned(),
                namespace: self.shared(&other.watched)?,
            })
        })
    }

    /// Returns a namespace that this release watches and that is among `watched`, where an empty
    /// set stands for all.
    fn shared(&self, watched: &BTreeSet<String>) -> Option<String> {
        let first = if self.watched.is_empty() {
            watched.first().or(Some(&self.namespace))
        } else if watched.is_empty() {
            self.watched.first()
        } else {
            self.watched.intersection(watched).next()
        };
        first.cloned()
    }

    /// Whether this release is the first of all that lead. The first one writes the objects that
    /// all share.
    pub(super) fn are_behind_us(&self) -> bool {
        let alive = self.others.iter().filter(|(_, other)| other.is_alive);
        alive.into_iter().all(|(lease, _)| self.own < *lease)
    }
}

fn named(lease: &Lease) -> String {
    let namespace = lease.namespace().unwrap_or_default();
    format!("{namespace}/{}", lease.name_any())
}

fn namespaces(text: &str) -> BTreeSet<String> {
    let names = text.split(',').filter(|name| !name.is_empty());
    names.map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn lease(name: &str, watches: &str, holder: &str, version: &str) -> Lease {
        serde_json::from_value(json!({
            "metadata": {
                "namespace": "n", "name": name, "resourceVersion": version,
                "annotations": {WATCHED_NAMESPACES: watches},
            },
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15},
        }))
        .unwrap()
    }

    fn releases(watched: &[&str]) -> Releases {
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| {
            std::future::pending::<Result<http::Response<kube::client::Body>, kube::Error>>()
        });
        Releases {
            api: Api::all(Client::new(service, "n")),
            own: "n/m".to_owned(),
            namespace: "n".to_owned(),
            holder: "me".to_owned(),
            watched: watched.iter().map(ToString::to_string).collect(),
            others: BTreeMap::new(),
        }
    }

    #[tokio::test]
    async fn a_release_in_the_same_namespaces_is_a_rival_while_it_leads() {
        for (ours, theirs, shared) in [
            (&[][..], "", Some("n")),
            (&[], "a", Some("a")),
            (&["a", "b"], "", Some("a")),
            (&["a", "b"], "b,c", Some("b")),
            (&["a", "b"], "c,d", None),
        ] {
            let (mut releases, begin) = (releases(ours), Instant::now());
            releases.saw(&[lease("z", theirs, "pod", "1")], begin);
            let rival = releases.rival().map(|rival| rival.namespace);
            assert_eq!(rival.as_deref(), shared, "{ours:?} {theirs}");
            let later = begin + Duration::from_secs(15);
            releases.saw(&[lease("z", theirs, "pod", "1")], later);
            assert_eq!(releases.rival(), None, "{ours:?} {theirs}");
        }
    }

    #[tokio::test]
    async fn our_own_lease_and_a_released_one_are_no_rivals() {
        let (mut releases, begin) = (releases(&[]), Instant::now());
        let leases = [lease("m", "", "other pod", "1"), lease("z", "", "", "2")];
        releases.saw(&leases, begin);
        assert_eq!(releases.rival(), None);
    }

    #[tokio::test]
    async fn the_first_of_those_that_lead_writes_what_all_share() {
        let (mut releases, begin) = (releases(&["a"]), Instant::now());
        releases.saw(&[lease("z", "b", "pod", "1")], begin);
        assert!(releases.are_behind_us());
        releases.saw(&[lease("b", "b", "pod", "2")], begin);
        assert!(!releases.are_behind_us());
        releases.saw(&[], begin + Duration::from_secs(15));
        assert!(releases.are_behind_us());
    }
}
