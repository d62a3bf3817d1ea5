//! `revoke --selector`: creates an `AcsRevocation` for all users with matching labels.

use acs_identity_operator::crd::{AcsIdentity, AcsRevocation, AcsRevocationSpec, Reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ListParams;

use crate::{
    actions::{change::Changing, user},
    cluster::{
        create::make,
        manifest,
        selector::Selector,
        session::{ClusterArgs, Session},
        wait::Look,
    },
    failure::{Exit, Failure},
    view::{
        output,
        standing::{HasConditions as _, State},
    },
};

/// Time after which a revocation that the operator has not seen yet has no effect: its author has
/// found another way by then.
const IN_TIME: SignedDuration = SignedDuration::from_mins(10);

/// Prints the revocation.
pub fn dry_run(
    place: &ClusterArgs,
    selector: Selector,
    reason: Option<String>,
) -> Result<(), Failure> {
    let revocation = revocation(selector, reason);
    output::print(&manifest::document(revocation, place.namespace.as_deref())?);
    Ok(())
}

fn revocation(selector: Selector, reason: Option<String>) -> AcsRevocation {
    let now = Timestamp::now();
    let until = now.saturating_add(IN_TIME).unwrap_or(now);
    let until = until.round(jiff::Unit::Second).unwrap_or(until);
    let spec = AcsRevocationSpec {
        selector: Some(selector.labels),
        reason,
        not_after: Some(Time(until)),
        ..AcsRevocationSpec::default()
    };
    AcsRevocation::new(&manifest::new_name("revoke"), spec)
}

/// Creates the revocation, and waits until it is completed.
pub async fn revoke(
    place: &ClusterArgs,
    selector: Selector,
    reason: Option<String>,
    is_sure: bool,
    changing: &Changing,
) -> Result<(), Failure> {
    let session = place.connect().await?;
    preview(&session, &selector, is_sure).await?;
    let revocation = revocation(selector, reason);
    let name = revocation.metadata.name.clone().unwrap_or_default();
    let named = session.named::<AcsRevocation>(&name);
    let mut waiter = changing.patience.start();
    make(&session, &changing.field_manager, &revocation, false).await?;
    waiter.note(&format!("created {named}"));
    let revocation = waiter.until(&session, &name, |revocation: Option<AcsRevocation>| {
        let Some(revocation) = revocation else {
            return Look::deleted(&named);
        };
        let standing = revocation.standing();
        let status = revocation.status.as_ref();
        if status.is_none_or(|status| status.completed_at.is_none()) {
            Look::Wait(standing.why())
        } else if standing.state == State::Stalled || standing.reason != Reason::Revoked.as_str() {
            Look::stalled(&named, &standing)
        } else {
            Look::Done(revocation)
        }
    });
    for target in revocation.await?.status.unwrap_or_default().targets {
        let named = session.named::<AcsIdentity>(&target.name);
        waiter.note(&match (target.revoked_at, target.note) {
            (Some(time), _) => format!(
                "revoked all tokens of {named} that were issued up to {}",
                time.0
            ),
            (None, why) => format!("nothing to revoke for {named}: {}", why.unwrap_or_default()),
        });
    }
    Ok(())
}

/// Checks that identities match, and asks for confirmation.
async fn preview(session: &Session, selector: &Selector, is_sure: bool) -> Result<(), Failure> {
    let selector = &selector.text;
    let all = format!("the AcsIdentities of {}", session.namespace);
    let api = session.api::<AcsIdentity>();
    let parameters = ListParams::default().labels(selector);
    let found = session.call("list", &all, api.list(&parameters)).await?;
    if found.items.is_empty() {
        let message = format!(
            "the selector `{selector}` matches no AcsIdentity in namespace {}; run `kubectl get \
             acsidentities --show-labels` to show their labels",
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
