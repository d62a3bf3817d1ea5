//! `renew`: requests new tokens.

use acs_identity_operator::crd::AcsToken;
use clap::Args;
use serde_json::json;

use crate::{
    actions::change::Changing,
    cluster::{
        manifest,
        request::{handled, request},
        session::{ClusterArgs, Session},
        wait::Waiter,
    },
    commands::complete,
    failure::Failure,
};

/// Name of the request to the operator.
pub const RENEW: &str = "renew";

/// Issue new tokens now
///
/// The former tokens stay valid until they expire. Use `revoke` to invalidate them.
#[derive(Clone, Debug, Args)]
pub struct Renew {
    /// Names of AcsTokens
    #[arg(required = true, value_name = "TOKEN", value_parser = manifest::name, add = complete::tokens())]
    pub names: Vec<String>,
    #[command(flatten)]
    pub changing: Changing,
}

/// Runs `renew`.
pub async fn renew(place: &ClusterArgs, command: Renew) -> Result<(), Failure> {
    let session = place.connect().await?;
    let mut waiter = command.changing.patience.start();
    carry_out(&session, &command, &mut waiter).await
}

/// Requests new tokens, and waits until they are in their Secrets.
pub async fn carry_out(
    session: &Session,
    command: &Renew,
    waiter: &mut Waiter,
) -> Result<(), Failure> {
    let mut asked = Vec::new();
    for name in &command.names {
        let value = request::<AcsToken>(session, name, RENEW, json!({}), &command.changing, waiter);
        asked.push(value.await?);
    }
    for (name, value) in command.names.iter().zip(asked) {
        let token: AcsToken = handled(session, name, &value, waiter).await?;
        let end = token.status.and_then(|status| status.expires_at);
        let end = end.map(|end| end.0.to_string()).unwrap_or_default();
        let named = session.named::<AcsToken>(name);
        waiter.note(&format!("renewed {named}, valid until {end}"));
    }
    Ok(())
}
