//! Creation of objects and the output of the result.

use clap::Args;
use kube::{ResourceExt as _, api::PostParams};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Serialize, Serializer};

use crate::{
    cluster::{
        manifest::Connection,
        session::{Kind, Session},
        wait::Patience,
    },
    failure::{Exit, Failure},
    view::output::{self, Format},
};

/// Options of all commands that create objects.
#[derive(Clone, Debug, Args)]
pub struct CreateArgs {
    #[command(flatten)]
    pub connection: Connection,
    /// Print the YAML to commit, and create nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Field manager of the new objects
    #[arg(long, value_name = "NAME", default_value = "kubectl-acs")]
    pub field_manager: String,
    #[command(flatten)]
    pub patience: Patience,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = Format::Json)]
    pub output: Format,
}

/// Serializes a token in plain text. The user requested it; this is the only place that writes one.
pub fn exposed<S: Serializer>(token: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(token.expose_secret())
}

/// Creates an object, or performs a dry run on the API server.
pub async fn make<K: Kind + Serialize>(
    session: &Session,
    field_manager: &str,
    object: &K,
    is_trial: bool,
) -> Result<K, Failure> {
    let parameters = PostParams {
        dry_run: is_trial,
        field_manager: Some(field_manager.to_owned()),
    };
    let named = session.named::<K>(&object.name_any());
    let api = session.api::<K>();
    let made = session
        .call("create", &named, api.create(&parameters, object))
        .await;
    made.map_err(|failure| match failure.exit {
        Exit::Conflict => Failure::new(
            Exit::Conflict,
            format!(
                "{named} already exists; choose another name, or run `kubectl acs status {}` to \
                 show it",
                object.name_any()
            ),
        ),
        _ => failure,
    })
}

/// Prints a result.
pub fn print(format: Format, result: &impl Serialize) -> Result<(), Failure> {
    let value = serde_json::to_value(result);
    let value = value.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    output::print(&output::render(format, &value)?);
    Ok(())
}
