//! `exchange`: like `az communication user-identity token get-for-teams-user`.

use std::{fs::File, io::Read as _};

use acs_identity_operator::{
    crd::{AcsToken, SecretKeyRef, TeamsUser},
    pasted::{self, UserToken, UserTokenError},
};
use clap::{
    Args,
    builder::{StringValueParser, TypedValueParser as _},
};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
};
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use serde::Serialize;

use crate::{
    cluster::{
        create::{CreateArgs, exposed, make, print},
        held_token, manifest,
        session::{ClusterArgs, Session},
        wait::Look,
    },
    failure::{Exit, Failure},
    view::{
        output,
        standing::{HasConditions as _, State},
    },
};

/// Key of the Entra token in the Secret's data.
const KEY: &str = "token";

/// Exchange the Entra token of a Teams user, like `az communication user-identity token
/// get-for-teams-user`
///
/// Creates an AcsToken and the Secret NAME-entra with the Entra token, waits until the ACS token is
/// in its own Secret, and prints the same output as az, including the ACS token. The ACS token
/// expires with the Entra token: run the command again with a new Entra token to store that in
/// NAME-entra, and the operator exchanges it at once. ACS cannot revoke tokens of Teams users.
/// --dry-run prints the AcsToken and describes the Secret without printing the Entra token.
#[derive(Clone, Debug, Args)]
pub struct Exchange {
    /// Name of the AcsToken [default: a generated name, teams-...]
    #[arg(value_parser = manifest::name)]
    name: Option<String>,
    /// Entra access token of the Teams user: the token, @FILE to read it from a file, or - to read
    /// it from stdin. Other users of this machine may see a token in the arguments, but not in a
    /// file or stdin
    #[arg(long, value_name = "TOKEN", required_unless_present = "dry_run",
          value_parser = StringValueParser::new().map(SecretString::from))]
    aad_token: Option<SecretString>,
    /// Object id of the user in Entra; the token must have it as oid
    #[arg(long, value_name = "ID")]
    aad_user: String,
    /// Client id of the Entra application; the token must have it as appid or azp
    #[arg(long, value_name = "ID")]
    client: String,
    /// Secret that holds the ACS token [default: the name of the AcsToken]
    #[arg(long, value_name = "NAME", value_parser = manifest::name)]
    secret_name: Option<String>,
    #[command(flatten)]
    making: CreateArgs,
}

/// Token of a Teams user in the output format of az.
#[derive(Serialize)]
struct ExchangedToken {
    #[serde(serialize_with = "exposed")]
    token: SecretString,
    expires_on: String,
}

/// Runs `exchange`.
pub async fn exchange(place: &ClusterArgs, command: Exchange) -> Result<(), Failure> {
    let making = &command.making;
    for (option, id) in [
        ("--aad-user", &command.aad_user),
        ("--client", &command.client),
    ] {
        // The message does not quote the id: it might be the Entra token, in the wrong argument.
        if id.len() != 36 || uuid::Uuid::try_parse(id).is_err() {
            let message =
                format!("{option} must be a GUID, such as 11111111-2222-3333-4444-555555555555");
            return Err(Failure::new(Exit::Usage, message));
        }
    }
    let given = command.aad_token.as_ref();
    let entra = given
        .map(|given| check(&read(given)?, &command.client, &command.aad_user))
        .transpose()?;
    let name = command.name;
    let name = name.unwrap_or_else(|| manifest::new_name("teams"));
    let holder = format!("{name}-entra");
    let user = TeamsUser {
        app_id: command.client,
        user_id: command.aad_user,
        secret_ref: SecretKeyRef {
            name: holder.clone(),
            key: KEY.to_owned(),
        },
    };
    let token = manifest::teams_token(&name, user, &making.connection, command.secret_name);
    let Some(entra) = entra.filter(|_| !making.dry_run) else {
        let token = manifest::document(token, place.namespace.as_deref())?;
        output::print(&format!(
            "# Do not commit the Entra token to git. The operator exchanges it when Secret \
             {holder} holds it under the key {KEY}.\n{token}"
        ));
        return Ok(());
    };
    let session = place.connect().await?;
    let manager = &making.field_manager;
    if let Some(there) = same(&session, &token).await? {
        refresh(&session, making, &there, &entra).await?;
        return print_held(&session, making, &there).await;
    }
    // A dry run of both first, so that a rejection of the second object does not leave the first
    // behind.
    make(&session, manager, &token, true).await?;
    store(&session, manager, &holder, &entra, &token, true).await?;
    let mut waiter = making.patience.start();
    let token = make(&session, manager, &token, false).await?;
    waiter.note(&format!("created {}", session.named::<AcsToken>(&name)));
    store(&session, manager, &holder, &entra, &token, false).await?;
    waiter.note(&format!("created {}", session.named::<Secret>(&holder)));
    let token: AcsToken = waiter.until_ready(&session, &name).await?;
    drop(waiter);
    print_held(&session, making, &token).await
}

/// Prints the token in the Secret of an `AcsToken`.
async fn print_held(
    session: &Session,
    making: &CreateArgs,
    token: &AcsToken,
) -> Result<(), Failure> {
    let held = held_token::read(session, &token.secret_name(), None).await?;
    let exchanged = ExchangedToken {
        token: held.token,
        expires_on: held.expires_on.unwrap_or_default(),
    };
    print(making.output, &exchanged)
}

/// Returns the `AcsToken` of this name, if it exists for the same Teams user.
async fn same(session: &Session, token: &AcsToken) -> Result<Option<AcsToken>, Failure> {
    let name = token.name_any();
    let (named, api) = (session.named::<AcsToken>(&name), session.api::<AcsToken>());
    let there = session.call("read", &named, api.get_opt(&name)).await?;
    Ok(there.filter(|there| there.spec.teams_user == token.spec.teams_user))
}

/// Replaces the stored Entra token by a new one, and waits until it is exchanged.
async fn refresh(
    session: &Session,
    making: &CreateArgs,
    token: &AcsToken,
    entra: &UserToken,
) -> Result<(), Failure> {
    let name = token.name_any();
    let holder = format!("{name}-entra");
    let (named, api) = (session.named::<Secret>(&holder), session.api::<Secret>());
    let before = session.call("read", &named, api.get(&holder)).await?;
    let secret = Secret {
        string_data: Some([(KEY.to_owned(), entra.token.expose_secret().to_owned())].into()),
        ..Secret::default()
    };
    let parameters = PatchParams {
        field_manager: Some(making.field_manager.clone()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(&secret);
    let patched = api.patch(&holder, &parameters, &patch);
    let after = session.call("change", &named, patched).await?;
    let mut waiter = making.patience.start();
    if after.resource_version() == before.resource_version() {
        waiter.note(&format!("{named} already holds this Entra token"));
        return Ok(());
    }
    waiter.note(&format!("changed {named}"));
    let revision = |token: &AcsToken| token.status.as_ref().and_then(|status| status.revision);
    let named = session.named::<AcsToken>(&name);
    waiter
        .until(session, &name, |now: Option<AcsToken>| {
            let Some(now) = now else {
                return Look::deleted(&named);
            };
            let standing = now.standing();
            match standing.state {
                State::Stalled => Look::stalled(&named, &standing),
                State::Suspended => Look::suspended(&named, &standing),
                State::Ready if revision(&now) > revision(token) => Look::Done(()),
                _ => Look::Wait(standing.why()),
            }
        })
        .await
}

/// Reads the value of `--aad-token`: as for az, @ precedes a file name.
fn read(given: &SecretString) -> Result<SecretString, Failure> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = match given.expose_secret() {
        "-" | "@-" => std::io::stdin().read_to_end(&mut bytes),
        text => match text.strip_prefix('@') {
            Some(file) => File::open(file).and_then(|mut file| file.read_to_end(&mut bytes)),
            None => return Ok(given.clone()),
        },
    };
    let wrong = |message: String| Failure::new(Exit::Usage, message);
    read.map_err(|error| wrong(format!("cannot read the input of --aad-token: {error}")))?;
    pasted::text(&bytes)
        .map(SecretString::from)
        .map_err(|what| wrong(format!("the input of --aad-token {what}")))
}

/// Validates that `text` is an Entra token that the operator would send, and returns it.
fn check(text: &SecretString, client: &str, user: &str) -> Result<UserToken, Failure> {
    let wrong = |message: String| Failure::new(Exit::Usage, message);
    let token = UserToken::parse(text.expose_secret(), client, user).map_err(|why| {
        wrong(match why {
            UserTokenError::Pasted(_) | UserTokenError::NoUserToken => {
                format!("the input of --aad-token {why}")
            }
            UserTokenError::OtherUser => "the token in --aad-token belongs to another user than \
                                          --aad-user; sign in as that user"
                .to_owned(),
            UserTokenError::OtherApplication => {
                "the token in --aad-token was issued to another application than --client; sign \
                 in with that application"
                    .to_owned()
            }
        })
    })?;
    if token.expires_on <= Timestamp::now() {
        let message = format!(
            "the token in --aad-token expired at {}; sign the Teams user in again",
            token.expires_on
        );
        return Err(wrong(message));
    }
    Ok(token)
}

/// Creates the Secret with the Entra token, owned by the `AcsToken`, or only performs a dry run.
async fn store(
    session: &Session,
    manager: &str,
    name: &str,
    entra: &UserToken,
    token: &AcsToken,
    is_trial: bool,
) -> Result<(), Failure> {
    let mut secret = Secret {
        string_data: Some([(KEY.to_owned(), entra.token.expose_secret().to_owned())].into()),
        ..Secret::default()
    };
    secret.metadata.name = Some(name.to_owned());
    let owner = token.uid().map(|uid| OwnerReference {
        api_version: AcsToken::api_version(&()).into_owned(),
        kind: AcsToken::kind(&()).into_owned(),
        name: token.name_any(),
        uid,
        ..OwnerReference::default()
    });
    secret.metadata.owner_references = owner.map(|owner| vec![owner]);
    let made = make(session, manager, &secret, is_trial).await;
    made.map(|_| ()).map_err(|failure| match failure.exit {
        Exit::Conflict => Failure::new(
            Exit::Conflict,
            format!(
                "{} already exists; choose another name, or delete it if it is not needed",
                session.named::<Secret>(name)
            ),
        ),
        _ => failure,
    })
}
