//! `revoke`: like `az communication user-identity token revoke`.

use acs_identity_operator::crd::{AcsIdentity, AcsToken};
use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::{
    actions::{
        change::Changing,
        revoke_by_label,
        user::{self, User, confirm},
    },
    cluster::{
        gitops,
        request::{handled, request},
        selector::{self, Selector},
        session::{ClusterArgs, Session},
        wait::{Look, Waiter},
    },
    commands::complete,
    failure::Failure,
    view::standing::{HasConditions as _, State},
};

/// Name of the request to the operator.
pub const REVOKE: &str = "revoke";

/// Revoke all tokens of users, like `az communication user-identity token revoke`
///
/// ACS revokes all tokens of a user at once. The operator then issues new tokens; with --suspend it
/// issues none. The command waits for both steps; with --selector it waits only for the revocation.
/// A revocation may take 15 minutes to take effect everywhere in ACS.
#[derive(Clone, Debug, Args)]
pub struct Revoke {
    /// Names of AcsIdentities, or ACS ids
    #[arg(value_parser = user::user, value_name = "USER", required_unless_present_any = ["user", "selector"], add = complete::identities())]
    users: Vec<User>,
    /// Name of an AcsIdentity, or ACS id; same as USER, for compatibility with az
    #[arg(long, value_name = "USER", value_parser = user::user, add = complete::identities())]
    user: Option<User>,
    /// Label selector of AcsIdentities; creates an AcsRevocation, which remains as a record
    #[arg(short = 'l', long, value_name = "SELECTOR", value_parser = selector::selector,
          conflicts_with_all = ["users", "user", "suspend"])]
    selector: Option<Selector>,
    // clap cannot require an argument that a present argument conflicts with: --selector cannot be
    // in `requires`.
    /// Reason to record in the AcsRevocation of --selector
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["users", "user"])]
    reason: Option<String>,
    /// Print the YAML of the AcsRevocation of --selector, and create nothing
    #[arg(long, conflicts_with_all = ["users", "user"])]
    dry_run: bool,
    /// Also suspend the AcsIdentities: no new tokens are issued until `kubectl acs resume`
    #[arg(long)]
    pub suspend: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    pub changing: Changing,
}

impl Revoke {
    /// Returns the identities that the command names.
    pub async fn identities(&self, session: &Session) -> Result<Vec<AcsIdentity>, Failure> {
        let users: Vec<_> = self.users.iter().chain(&self.user).cloned().collect();
        user::all_existing(session, &users).await
    }
}

/// Runs `revoke`.
pub async fn revoke(place: &ClusterArgs, command: Revoke) -> Result<(), Failure> {
    if let Some(selector) = command.selector {
        let (reason, changing) = (command.reason, &command.changing);
        return if command.dry_run {
            revoke_by_label::dry_run(place, selector, reason)
        } else {
            revoke_by_label::revoke(place, selector, reason, command.yes, changing).await
        };
    }
    let session = place.connect().await?;
    let identities = command.identities(&session).await?;
    if !command.yes {
        confirm(&question(&identities, command.suspend))?;
    }
    let mut waiter = command.changing.patience.start();
    carry_out(&session, &identities, &command, &mut waiter).await
}

/// Returns the confirmation prompt.
pub fn question(identities: &[AcsIdentity], suspends: bool) -> String {
    let next = if suspends {
        "issue no new ones until it is resumed"
    } else {
        "issue new ones"
    };
    format!(
        "Revoke all tokens of AcsIdentity {} and {next}?",
        user::names(identities)
    )
}

/// Returns the change of an identity's spec by a revocation.
pub fn spec_change(suspends: bool) -> Value {
    if suspends {
        json!({"suspend": true})
    } else {
        json!({})
    }
}

/// Revokes all tokens of the identities, and waits until new ones are in their Secrets.
pub async fn carry_out(
    session: &Session,
    identities: &[AcsIdentity],
    command: &Revoke,
    waiter: &mut Waiter,
) -> Result<(), Failure> {
    let mut asked = Vec::new();
    for identity in identities {
        if command.suspend {
            gitops::warn(identity, waiter);
        }
        let name = identity.name_any();
        let value = request::<AcsIdentity>(
            session,
            &name,
            REVOKE,
            spec_change(command.suspend),
            &command.changing,
            waiter,
        );
        asked.push(value.await?);
    }
    for (identity, value) in identities.iter().zip(asked) {
        let name = identity.name_any();
        let revoked: AcsIdentity = handled(session, &name, &value, waiter).await?;
        let after = revoked.status.and_then(|status| status.tokens_valid_after);
        let after = after.map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        waiter.note(&format!(
            "revoked all tokens of {} that were issued up to {after}",
            session.named::<AcsIdentity>(&name)
        ));
        if !command.suspend {
            issued_anew(session, identity, after, waiter).await?;
        }
    }
    Ok(())
}

/// Waits until the tokens of an identity, except suspended ones, are issued again.
async fn issued_anew(
    session: &Session,
    identity: &AcsIdentity,
    after: Timestamp,
    waiter: &mut Waiter,
) -> Result<(), Failure> {
    for token in user::tokens_of(session, &[identity]).await? {
        let name = token.name_any();
        let named = session.named::<AcsToken>(&name);
        let is_new = waiter
            .until(session, &name, |token: Option<AcsToken>| {
                let Some(token) = token else {
                    return Look::Done(false);
                };
                let issued = token
                    .status
                    .as_ref()
                    .and_then(|status| status.issued_at.as_ref());
                let standing = token.standing();
                match standing.state {
                    State::Deleting | State::Suspended => Look::Done(false),
                    State::Ready if issued.is_some_and(|issued| issued.0 > after) => {
                        Look::Done(true)
                    }
                    State::Stalled => Look::stalled(&named, &standing),
                    _ => Look::Wait(standing.why()),
                }
            })
            .await?;
        if is_new {
            waiter.note(&format!("issued {named} again"));
        }
    }
    Ok(())
}
