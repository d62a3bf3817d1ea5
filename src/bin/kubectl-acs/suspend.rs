//! `suspend` and `resume`.

use std::fmt::Debug;

use clap::Args;
use kube::ResourceExt as _;
use serde_json::json;

use super::{
    change::{Changing, patch},
    complete,
    failure::Failure,
    gitops, manifest,
    session::{Kind, Place, Session},
    standing::{Stands, State},
    user::{self, User},
    wait::{Look, Waiter},
};

/// Stop issuing and renewing, for users or single tokens
///
/// Secrets stay until their tokens end; revocation and deletion go on.
#[derive(Clone, Debug, Args)]
pub struct Suspend {
    #[command(flatten)]
    what: What,
}

/// Issue and renew again what was suspended
#[derive(Clone, Debug, Args)]
pub struct Resume {
    #[command(flatten)]
    what: What,
}

/// Identities and tokens.
#[derive(Clone, Debug, Args)]
struct What {
    /// Names of AcsIdentities, or ids of ACS: the user with all its tokens
    #[arg(value_parser = user::user, value_name = "USER", required_unless_present = "tokens", add = complete::identities())]
    users: Vec<User>,
    /// Name of a single AcsToken; repeatable
    #[arg(long = "token", value_name = "TOKEN", value_parser = manifest::name, add = complete::tokens())]
    tokens: Vec<String>,
    #[command(flatten)]
    changing: Changing,
}

/// Carries out `suspend`.
pub async fn suspend(place: &Place, command: Suspend) -> Result<(), Failure> {
    set_suspend(place, command.what, true).await
}

/// Carries out `resume`.
pub async fn resume(place: &Place, command: Resume) -> Result<(), Failure> {
    set_suspend(place, command.what, false).await
}

async fn set_suspend(place: &Place, what: What, to: bool) -> Result<(), Failure> {
    let session = place.connect().await?;
    let identities = user::all_existing(&session, &what.users).await?;
    let tokens = user::tokens(&session, &what.tokens).await?;
    let mut waiter = what.changing.patience.start();
    for identity in &identities {
        set(&session, identity, to, &what.changing, &mut waiter).await?;
    }
    for token in &tokens {
        set(&session, token, to, &what.changing, &mut waiter).await?;
    }
    Ok(())
}

/// Suspends or resumes one object, and waits until the operator has seen it.
async fn set<K: Kind + Stands>(
    session: &Session,
    object: &K,
    to: bool,
    changing: &Changing,
    waiter: &mut Waiter,
) -> Result<(), Failure> {
    gitops::warn(object, waiter);
    let name = object.name_any();
    let named = session.named::<K>(&name);
    // Absent is the default: nothing of ours stays in the spec.
    let change = json!({"spec": {"suspend": to.then_some(true)}});
    patch::<K>(session, &name, &change, changing).await?;
    if !to {
        waiter.until_ready::<K>(session, &name).await?;
        waiter.note(&format!("resumed {named}"));
        return Ok(());
    }
    waiter
        .until(session, &name, |object: Option<K>| {
            let Some(object) = object else {
                return Look::deleted(&named);
            };
            let standing = object.standing();
            match standing.state {
                State::Suspended => Look::Done(()),
                _ => Look::Wait(standing.why()),
            }
        })
        .await?;
    waiter.note(&format!("suspended {named}"));
    Ok(())
}
