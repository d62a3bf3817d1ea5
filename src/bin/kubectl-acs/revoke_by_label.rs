//! `revoke --selector`: an order to revoke the tokens of all users with some labels.

use std::collections::BTreeMap;

use acs_identity_operator::crd::{AcsIdentity, AcsRevocation, AcsRevocationSpec, Reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube::api::ListParams;

use super::{
    change::Changing,
    failure::{Exit, Failure},
    making::make,
    manifest, output,
    session::{Place, Session},
    standing::{Stands as _, State},
    user,
    wait::Look,
};

/// An order that is first seen later does nothing: whoever gave it has found another way by then.
const IN_TIME: SignedDuration = SignedDuration::from_mins(10);

/// Labels, by their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels(BTreeMap<String, String>);

/// Reads `key=value`, several with commas between: what one means is clear at once.
pub fn labels(text: &str) -> Result<Labels, String> {
    let is_plain = |text: &str| {
        let mut letters = text.chars();
        letters.all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
    };
    let mut labels = BTreeMap::new();
    for part in text.split(',') {
        let (key, value) = part.split_once('=').unwrap_or_default();
        let value = value.strip_prefix('=').unwrap_or(value);
        if key.is_empty() || !is_plain(key) || !is_plain(value) {
            return Err(
                "write labels as key=value, several with commas between; for what else selects, \
                 write an AcsRevocation (docs/revoke-in-an-emergency.md)"
                    .to_owned(),
            );
        }
        if labels.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(format!("{key} is there twice: nobody has both"));
        }
    }
    Ok(Labels(labels))
}

impl Labels {
    fn text(&self) -> String {
        let pairs = self.0.iter().map(|(key, value)| format!("{key}={value}"));
        pairs.collect::<Vec<_>>().join(",")
    }
}

/// Prints the order.
pub fn dry_run(place: &Place, labels: Labels, reason: Option<String>) -> Result<(), Failure> {
    let order = order(labels, reason);
    output::print(&manifest::document(order, place.namespace.as_deref())?);
    Ok(())
}

fn order(labels: Labels, reason: Option<String>) -> AcsRevocation {
    let now = Timestamp::now();
    let until = now.saturating_add(IN_TIME).unwrap_or(now);
    let until = until.round(jiff::Unit::Second).unwrap_or(until);
    let selector = LabelSelector {
        match_labels: Some(labels.0),
        ..LabelSelector::default()
    };
    let spec = AcsRevocationSpec {
        selector: Some(selector),
        reason,
        not_after: Some(Time(until)),
        ..AcsRevocationSpec::default()
    };
    AcsRevocation::new(&manifest::new_name("revoke"), spec)
}

/// Gives the order, and waits until it is carried out.
pub async fn revoke(
    place: &Place,
    labels: Labels,
    reason: Option<String>,
    is_sure: bool,
    changing: &Changing,
) -> Result<(), Failure> {
    let session = place.connect().await?;
    look(&session, &labels, is_sure).await?;
    let order = order(labels, reason);
    let name = order.metadata.name.clone().unwrap_or_default();
    let named = session.named::<AcsRevocation>(&name);
    let mut waiter = changing.patience.start();
    make(&session, &changing.field_manager, &order, false).await?;
    waiter.note(&format!("made {named}"));
    let order = waiter.until(&session, &name, |order: Option<AcsRevocation>| {
        let Some(order) = order else {
            return Look::deleted(&named);
        };
        let standing = order.standing();
        let status = order.status.as_ref();
        if status.is_none_or(|status| status.completed_at.is_none()) {
            Look::Wait(standing.why())
        } else if standing.state == State::Stalled || standing.reason != Reason::Revoked.as_str() {
            Look::stalled(&named, &standing)
        } else {
            Look::Done(order)
        }
    });
    for target in order.await?.status.unwrap_or_default().targets {
        let named = session.named::<AcsIdentity>(&target.name);
        waiter.note(&match (target.revoked_at, target.note) {
            (Some(time), _) => format!(
                "revoked all tokens of {named} that were issued until {}",
                time.0
            ),
            (None, why) => format!(
                "nothing was to revoke of {named}: {}",
                why.unwrap_or_default()
            ),
        });
    }
    Ok(())
}

/// Makes sure that there is somebody, and that they are meant.
async fn look(session: &Session, labels: &Labels, is_sure: bool) -> Result<(), Failure> {
    let selector = labels.text();
    let all = format!("the AcsIdentities of {}", session.namespace);
    let api = session.api::<AcsIdentity>();
    let parameters = ListParams::default().labels(&selector);
    let found = session.call("list", &all, api.list(&parameters)).await?;
    if found.items.is_empty() {
        let message = format!(
            "no AcsIdentity of namespace {} has {selector}; `kubectl get acsidentities \
             --show-labels` shows what they have",
            session.namespace
        );
        return Err(Failure::new(Exit::NotFound, message));
    }
    if is_sure {
        return Ok(());
    }
    user::confirm(&format!(
        "Revoke all tokens of AcsIdentity {} and issue new ones?",
        user::names(&found.items)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_kubectl_writes_them_and_nothing_that_selects_more() {
        let read = labels("team=red,example.com/app==shop,empty=").unwrap();
        assert_eq!(read.text(), "empty=,example.com/app=shop,team=red");
        for text in [
            "",
            "team",
            "team!=red",
            "!team",
            "team in (red)",
            "=red",
            "a=b,",
        ] {
            let error = labels(text).unwrap_err();
            assert!(error.starts_with("write labels as key=value"), "{text}");
        }
        let error = labels("team=red,team=blue").unwrap_err();
        assert!(error.starts_with("team is there twice"), "{error}");
    }
}
