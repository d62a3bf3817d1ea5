//! Changes to existing objects.

use std::fmt::Debug;

use clap::Args;
use kube::api::{Patch, PatchParams};
use serde_json::Value;

use crate::{
    cluster::{
        session::{Kind, Session},
        wait::Patience,
    },
    failure::Failure,
};

/// Options of all commands that change objects.
#[derive(Clone, Debug, Args)]
pub struct Changing {
    /// Field manager of the changed fields
    #[arg(long, value_name = "NAME", default_value = "kubectl-acs")]
    pub field_manager: String,
    #[command(flatten)]
    pub patience: Patience,
}

/// Applies a merge patch to an object.
pub async fn patch<K: Kind>(
    session: &Session,
    name: &str,
    change: &Value,
    changing: &Changing,
) -> Result<(), Failure> {
    let parameters = PatchParams {
        field_manager: Some(changing.field_manager.clone()),
        ..PatchParams::default()
    };
    let named = session.named::<K>(name);
    let api = session.api::<K>();
    let change = Patch::Merge(change);
    let patched = api.patch(name, &parameters, &change);
    session.call("change", &named, patched).await.map(|_| ())
}
