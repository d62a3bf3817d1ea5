//! `delete`: like `az communication user-identity user delete`.

use acs_identity_operator::crd::{AcsIdentity, AcsToken, DeletionPolicy};
use clap::Args;
use kube::{
    ResourceExt as _,
    api::{DeleteParams, Preconditions},
};

use crate::{
    actions::user::{self, User, confirm},
    cluster::{
        gitops, manifest,
        session::{ClusterArgs, Kind, Session},
        wait::{Look, Patience, Waiter},
    },
    commands::complete,
    failure::{Exit, Failure},
    view::standing::HasConditions,
};

/// Delete users and their tokens, like `az communication user-identity user delete`
///
/// Deletes AcsIdentities and their AcsTokens, and waits until the operator has revoked the tokens,
/// deleted the Secrets and deleted the users in ACS. Users with the deletionPolicy Orphan, which is
/// the default for adopted users, stay in ACS. --token deletes single AcsTokens.
#[derive(Clone, Debug, Args)]
pub struct Delete {
    /// Names of AcsIdentities, or ACS ids
    #[arg(value_parser = user::user, value_name = "USER", required_unless_present_any = ["user", "tokens"], add = complete::identities())]
    users: Vec<User>,
    /// Name of an AcsIdentity, or ACS id; same as USER, for compatibility with az
    #[arg(long, value_name = "USER", value_parser = user::user, add = complete::identities())]
    user: Option<User>,
    /// Name of an AcsToken; repeatable
    #[arg(long = "token", value_name = "TOKEN", value_parser = manifest::name, add = complete::tokens())]
    tokens: Vec<String>,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    pub patience: Patience,
}

/// Runs `delete`.
pub async fn delete(place: &ClusterArgs, command: Delete) -> Result<(), Failure> {
    let session = place.connect().await?;
    let doomed = command.doomed(&session).await?;
    if !command.yes {
        confirm(&doomed.question())?;
    }
    let mut waiter = command.patience.start();
    carry_out(&session, &doomed, &command, &mut waiter).await
}

/// Objects that a command deletes.
pub struct Doomed {
    /// Identities.
    pub identities: Vec<AcsIdentity>,
    /// Tokens of the identities, and single tokens.
    pub tokens: Vec<AcsToken>,
}

impl Delete {
    /// Returns the objects that the command deletes.
    pub async fn doomed(&self, session: &Session) -> Result<Doomed, Failure> {
        let users: Vec<_> = self.users.iter().chain(&self.user).cloned().collect();
        let identities = user::all_existing(session, &users).await?;
        let of: Vec<_> = identities.iter().collect();
        let mut tokens = user::tokens(session, &self.tokens).await?;
        let theirs = user::tokens_of(session, &of).await?.into_iter();
        tokens.extend(theirs.filter(|token| !self.tokens.contains(&token.name_any())));
        Ok(Doomed { identities, tokens })
    }
}

/// Deletes the objects, and waits until ACS and Secrets are cleaned up.
pub async fn carry_out(
    session: &Session,
    doomed: &Doomed,
    command: &Delete,
    waiter: &mut Waiter,
) -> Result<(), Failure> {
    let Doomed { identities, tokens } = doomed;
    for identity in identities {
        gitops::warn(identity, waiter);
    }
    for token in tokens {
        gitops::warn(token, waiter);
    }
    // Identities first: their deletion revokes all tokens at once.
    for identity in identities {
        ask(session, identity).await?;
    }
    for token in tokens {
        ask(session, token).await?;
    }
    for token in tokens {
        gone(session, token, waiter).await?;
        let named = session.named::<AcsToken>(&token.name_any());
        if command.tokens.contains(&token.name_any()) {
            waiter.note(&format!("deleted {named}{}", survives(token)));
        }
    }
    for identity in identities {
        gone(session, identity, waiter).await?;
        waiter.note(&format!(
            "deleted {}",
            session.named::<AcsIdentity>(&identity.name_any())
        ));
    }
    Ok(())
}

/// Returns what remains of a deleted token.
fn survives(token: &AcsToken) -> String {
    let status = token.status.as_ref();
    match status.and_then(|status| status.expires_at.as_ref()) {
        Some(end) if token.spec.teams_user.is_some() => format!(
            "; ACS cannot revoke the token of a Teams user: everybody who has read it can use it \
             until {}",
            end.0
        ),
        _ => String::new(),
    }
}

impl Doomed {
    /// Returns the confirmation prompt.
    pub fn question(&self) -> String {
        question(&self.identities, &self.tokens)
    }
}

fn question(identities: &[AcsIdentity], tokens: &[AcsToken]) -> String {
    let stays = |identity: &&AcsIdentity| {
        let adopted = identity.spec.identity_id.is_some();
        let default = if adopted {
            DeletionPolicy::Orphan
        } else {
            DeletionPolicy::Delete
        };
        identity.spec.deletion_policy.unwrap_or(default) == DeletionPolicy::Orphan
    };
    let (kept, gone): (Vec<_>, Vec<_>) = identities.iter().partition(stays);
    let list = |identities: &[&AcsIdentity]| {
        let names: Vec<_> = identities
            .iter()
            .map(|identity| identity.name_any())
            .collect();
        names.join(", ")
    };
    let mut parts = Vec::new();
    if !gone.is_empty() {
        parts.push(format!(
            "AcsIdentity {}, also in ACS with all data",
            list(&gone)
        ));
    }
    if !kept.is_empty() {
        parts.push(format!("AcsIdentity {}, kept in ACS", list(&kept)));
    }
    if !tokens.is_empty() {
        parts.push(format!("AcsToken {}", user::names(tokens)));
    }
    format!("Delete {}?", parts.join("; and "))
}

/// Requests the deletion of this object by its UID; succeeds if it does not exist any more.
async fn ask<K: Kind>(session: &Session, object: &K) -> Result<(), Failure> {
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            uid: object.uid(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let name = object.name_any();
    let named = session.named::<K>(&name);
    let api = session.api::<K>();
    match session
        .call("delete", &named, api.delete(&name, &parameters))
        .await
    {
        Err(failure) if failure.exit == Exit::NotFound => Ok(()),
        asked => asked.map(|_| ()),
    }
}

/// Waits until the object with this UID does not exist any more.
async fn gone<K: Kind + HasConditions>(
    session: &Session,
    object: &K,
    waiter: &mut Waiter,
) -> Result<(), Failure> {
    waiter
        .until(session, &object.name_any(), |now: Option<K>| match now {
            Some(now) if now.uid() == object.uid() => {
                Look::Wait(format!("being deleted; {}", now.standing().why()))
            }
            _ => Look::Done(()),
        })
        .await
}
