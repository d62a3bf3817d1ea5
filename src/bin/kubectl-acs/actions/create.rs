//! `create` (as `az communication user-identity user create`) and `issue` (as `token issue`).

use acs_identity_operator::crd::{AcsIdentity, AcsToken, DeletionPolicy, Scope};
use clap::{Args, ValueEnum};
use kube::ResourceExt as _;
use secrecy::SecretString;
use serde::Serialize;

use crate::{
    actions::user::{self, User},
    cluster::{
        create::{CreateArgs, exposed, make, print},
        held_token, manifest,
        session::{ClusterArgs, Session},
        wait::Waiter,
    },
    failure::{Exit, Failure},
    view::output,
};

/// What happens in ACS when the object is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Deletion {
    /// Delete the user in ACS
    Delete,
    /// Keep the user in ACS
    Orphan,
}

/// Create an ACS user, like `az communication user-identity user create`
///
/// Creates an AcsIdentity, waits until the user exists in ACS, and prints the same output as az.
#[derive(Clone, Debug, Args)]
pub struct Create {
    /// Name of the AcsIdentity [default: a generated name, user-...]
    #[arg(value_parser = manifest::name)]
    name: Option<String>,
    /// Id of an existing ACS user to adopt [default: create a new user]
    #[arg(long, value_name = "ID", value_parser = adopted)]
    user: Option<String>,
    /// What happens to the ACS user when the AcsIdentity is deleted [default: delete for a created
    /// user, orphan for an adopted user]
    #[arg(long, value_enum)]
    deletion_policy: Option<Deletion>,
    #[command(flatten)]
    pub making: CreateArgs,
}

fn adopted(text: &str) -> Result<String, String> {
    match user::user(text)? {
        User::Id(id) => Ok(id),
        User::Name(_) => Err(format!(
            "`{text}` is not an ACS id; ACS ids begin with 8:acs:"
        )),
    }
}

/// User in the output format of az.
#[derive(Serialize)]
struct CreatedUser {
    properties: Properties,
    #[serde(rename = "rawId")]
    raw_id: String,
}

#[derive(Serialize)]
struct Properties {
    id: String,
}

/// Runs `create`.
pub async fn create(place: &ClusterArgs, command: Create) -> Result<(), Failure> {
    let identity = command.identity();
    let making = &command.making;
    if making.dry_run {
        output::print(&manifest::document(identity, place.namespace.as_deref())?);
        return Ok(());
    }
    let session = place.connect().await?;
    let mut waiter = making.patience.start();
    let identity = create_in(&session, &identity, making, &mut waiter).await?;
    drop(waiter);
    let id = user::id_of(&identity).unwrap_or_default().to_owned();
    let created = CreatedUser {
        properties: Properties { id: id.clone() },
        raw_id: id,
    };
    print(making.output, &created)
}

impl Create {
    /// Returns the object that the command creates.
    pub fn identity(&self) -> AcsIdentity {
        let name = self.name.clone();
        let name = name.unwrap_or_else(|| manifest::new_name("user"));
        let policy = self.deletion_policy.map(|policy| match policy {
            Deletion::Delete => DeletionPolicy::Delete,
            Deletion::Orphan => DeletionPolicy::Orphan,
        });
        let adopts = self.user.as_deref();
        manifest::identity(&name, &self.making.connection, adopts, policy)
    }
}

/// Creates an identity, and waits until the user exists in ACS.
pub async fn create_in(
    session: &Session,
    identity: &AcsIdentity,
    making: &CreateArgs,
    waiter: &mut Waiter,
) -> Result<AcsIdentity, Failure> {
    make(session, &making.field_manager, identity, false).await?;
    let name = identity.name_any();
    waiter.note(&format!("created {}", session.named::<AcsIdentity>(&name)));
    waiter.until_ready(session, &name).await
}

/// Issue a token, like `az communication user-identity token issue`
///
/// Creates an AcsToken, and without --user also an AcsIdentity; waits until the token is in its
/// Secret; and prints the same output as az, including the token. The operator keeps the token in
/// the Secret valid until the AcsToken is deleted.
#[derive(Clone, Debug, Args)]
pub struct Issue {
    /// Name of the AcsToken, and of a new AcsIdentity [default: a generated name]
    #[arg(value_parser = manifest::name)]
    name: Option<String>,
    /// Scopes of the token, separated by blanks or commas
    #[arg(long, required = true, num_args = 1.., value_delimiter = ',', value_name = "SCOPE",
          value_parser = scopes())]
    scope: Vec<Scope>,
    /// User of the token: name of an AcsIdentity, or ACS id [default: create a new user]
    #[arg(long, value_name = "USER", value_parser = user::user, add = crate::commands::complete::identities())]
    user: Option<User>,
    /// Lifetime of each token, 1h to 24h, for example 90m [default: 24h]
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<String>,
    /// Secret that holds the token [default: the name of the AcsToken]
    #[arg(long, value_name = "NAME", value_parser = manifest::name)]
    secret_name: Option<String>,
    #[command(flatten)]
    pub making: CreateArgs,
}

fn scopes() -> impl clap::builder::TypedValueParser<Value = Scope> {
    use clap::builder::{PossibleValuesParser, TypedValueParser as _};
    let names = manifest::SCOPES.map(Scope::as_str);
    PossibleValuesParser::new(names).try_map(|text| manifest::scope(&text))
}

/// Token in the output format of az.
#[derive(Serialize)]
struct IssuedToken {
    user_id: String,
    #[serde(serialize_with = "exposed")]
    token: SecretString,
    expires_on: String,
}

/// Runs `issue`.
pub async fn issue(place: &ClusterArgs, command: Issue) -> Result<(), Failure> {
    let making = &command.making;
    let wanted = command.wanted(place).await?;
    if making.dry_run {
        output::print(&wanted.yaml(place.namespace.as_deref())?);
        return Ok(());
    }
    let session = place.connect().await?;
    let mut waiter = making.patience.start();
    let token = issue_in(&session, &wanted, making, &mut waiter).await?;
    let held = held_token::read(&session, &token.secret_name(), None).await?;
    drop(waiter);
    let status = token.status.unwrap_or_default();
    let issued = IssuedToken {
        user_id: status.identity_id.unwrap_or_default(),
        token: held.token,
        expires_on: held.expires_on.unwrap_or_default(),
    };
    print(making.output, &issued)
}

/// Objects that `issue` creates.
pub struct Wanted {
    /// Identity to create; `None` if it exists.
    new: Option<AcsIdentity>,
    /// Name of the identity.
    owner: String,
    token: AcsToken,
}

impl Wanted {
    /// Returns the objects as YAML to commit.
    pub fn yaml(&self, namespace: Option<&str>) -> Result<String, Failure> {
        let new = self.new.clone();
        let identity = new.map(|identity| manifest::document(identity, namespace));
        let token = manifest::document(self.token.clone(), namespace)?;
        Ok(identity.transpose()?.unwrap_or_default() + &token)
    }
}

impl Issue {
    /// Returns the objects that the command creates.
    pub async fn wanted(&self, place: &ClusterArgs) -> Result<Wanted, Failure> {
        let making = &self.making;
        let owner = owner(place, self.user.as_ref(), making.dry_run).await?;
        let begin = owner.as_deref().unwrap_or("user");
        let name = self.name.clone();
        let name = name.unwrap_or_else(|| manifest::new_name(begin));
        let adopts = match &self.user {
            Some(User::Id(id)) => Some(id.as_str()),
            _ => None,
        };
        let is_new = owner.is_none();
        let new = is_new.then(|| manifest::identity(&name, &making.connection, adopts, None));
        let owner = owner.unwrap_or_else(|| name.clone());
        if !is_new && making.connection.is_given() {
            let message = format!(
                "AcsIdentity {owner} already has a connection; remove --connection and \
                 --cluster-connection"
            );
            return Err(Failure::new(Exit::Usage, message));
        }
        let token = manifest::token(
            &name,
            &owner,
            self.scope.iter().copied().collect(),
            self.expires_in.clone(),
            self.secret_name.clone(),
        );
        Ok(Wanted { new, owner, token })
    }
}

/// Creates a token, and an identity if it does not exist, and waits until the token is in its
/// Secret.
pub async fn issue_in(
    session: &Session,
    wanted: &Wanted,
    making: &CreateArgs,
    waiter: &mut Waiter,
) -> Result<AcsToken, Failure> {
    let Wanted { new, owner, token } = wanted;
    // A dry run of both first, so that a rejection of the second object does not leave the first
    // behind.
    for is_trial in [true, false] {
        if let Some(identity) = new {
            make(session, &making.field_manager, identity, is_trial).await?;
        }
        make(session, &making.field_manager, token, is_trial).await?;
    }
    if new.is_some() {
        waiter.note(&format!("created {}", session.named::<AcsIdentity>(owner)));
    }
    let name = token.name_any();
    waiter.note(&format!("created {}", session.named::<AcsToken>(&name)));
    // The conditions of the identity explain best why a token cannot be issued.
    let _: AcsIdentity = waiter.until_ready(session, owner).await?;
    waiter.until_ready(session, &name).await
}

/// Returns the name of the `AcsIdentity` that `--user` refers to; `None` if it has to be created.
/// Sends requests only if necessary: a dry run with a name needs no cluster.
async fn owner(
    place: &ClusterArgs,
    user: Option<&User>,
    is_dry_run: bool,
) -> Result<Option<String>, Failure> {
    match user {
        None => Ok(None),
        Some(User::Name(name)) if is_dry_run => Ok(Some(name.clone())),
        Some(user @ User::Name(_)) => {
            let identity = user::existing(&place.connect().await?, user).await?;
            Ok(Some(identity.name_any()))
        }
        Some(user @ User::Id(_)) => {
            let identity = user::find(&place.connect().await?, user).await?;
            Ok(identity.map(|identity| identity.name_any()))
        }
    }
}
