//! `suspend` and `resume`.

use std::fmt::Debug;

use acs_identity_operator::crd::{AcsIdentity, AcsToken};
use clap::Args;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::{
    actions::{
        change::{Changing, patch},
        user::{self, User},
    },
    cluster::{
        gitops, manifest,
        session::{ClusterArgs, Kind, Session},
        wait::{Look, Waiter},
    },
    commands::complete,
    failure::Failure,
    view::standing::{HasConditions, State},
};

/// Stop issuing and renewing the tokens of users, or single tokens
///
/// Secrets remain until their tokens expire. Revocation and deletion still work.
#[derive(Clone, Debug, Args)]
pub struct Suspend {
    #[command(flatten)]
    pub what: What,
}

/// Resume issuing and renewing suspended tokens
#[derive(Clone, Debug, Args)]
pub struct Resume {
    #[command(flatten)]
    pub what: What,
}

/// Identities and tokens that the command names.
#[derive(Clone, Debug, Args)]
pub struct What {
    /// Names of AcsIdentities, or ACS ids: the users with all their tokens
    #[arg(value_parser = user::user, value_name = "USER", required_unless_present = "tokens", add = complete::identities())]
    users: Vec<User>,
    /// Name of an AcsToken; repeatable
    #[arg(long = "token", value_name = "TOKEN", value_parser = manifest::name, add = complete::tokens())]
    tokens: Vec<String>,
    #[command(flatten)]
    pub changing: Changing,
}

impl What {
    /// Returns the objects that the command names.
    pub async fn objects(
        &self,
        session: &Session,
    ) -> Result<(Vec<AcsIdentity>, Vec<AcsToken>), Failure> {
        let identities = user::all_existing(session, &self.users).await?;
        let tokens = user::tokens(session, &self.tokens).await?;
        Ok((identities, tokens))
    }
}

/// Runs `suspend`.
pub async fn suspend(place: &ClusterArgs, command: Suspend) -> Result<(), Failure> {
    set_suspend(place, &command.what, true).await
}

/// Runs `resume`.
pub async fn resume(place: &ClusterArgs, command: Resume) -> Result<(), Failure> {
    set_suspend(place, &command.what, false).await
}

async fn set_suspend(place: &ClusterArgs, what: &What, to: bool) -> Result<(), Failure> {
    let session = place.connect().await?;
    let mut waiter = what.changing.patience.start();
    carry_out(&session, what, to, &mut waiter).await
}

/// Returns the change of an object that suspends (`to`) or resumes it. Resuming removes the field,
/// since absence is the default.
pub fn change(to: bool) -> Value {
    json!({"spec": {"suspend": to.then_some(true)}})
}

/// Suspends (`to`) or resumes, and waits until the operator has observed it.
pub async fn carry_out(
    session: &Session,
    what: &What,
    to: bool,
    waiter: &mut Waiter,
) -> Result<(), Failure> {
    let (identities, tokens) = what.objects(session).await?;
    for identity in &identities {
        set(session, identity, to, &what.changing, waiter).await?;
    }
    for token in &tokens {
        set(session, token, to, &what.changing, waiter).await?;
    }
    Ok(())
}

/// Suspends or resumes one object, and waits until the operator has observed it.
async fn set<K: Kind + HasConditions>(
    session: &Session,
    object: &K,
    to: bool,
    changing: &Changing,
    waiter: &mut Waiter,
) -> Result<(), Failure> {
    gitops::warn(object, waiter);
    let name = object.name_any();
    let named = session.named::<K>(&name);
    patch::<K>(session, &name, &change(to), changing).await?;
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
