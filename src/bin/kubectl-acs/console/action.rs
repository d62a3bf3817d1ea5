//! Actions on the web page: each is a command line of `kubectl acs`, which the page shows, and runs
//! the same functions as that command.

use std::time::Duration;

use acs_identity_operator::crd::AcsToken;
use clap::Parser as _;
use jiff::Timestamp;
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Cli, Command,
    actions::{create, delete, renew, revoke, suspend, user},
    cluster::{
        gitops, manifest, request,
        session::{ClusterArgs, Session},
        wait::Patience,
    },
    commands::inspect::secret_of_token,
    failure::{Exit, Failure},
};

/// Maximum time that the page waits for the operator; afterwards it shows what is missing, and
/// stays live.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// Action that the user requests.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Action {
    verb: Verb,
    namespace: String,
    /// Name of the identity or token, existing or to be created.
    name: String,
    /// Identity of a new token; if absent, a new one with the token's name.
    user: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    expires_in: Option<String>,
    secret_name: Option<String>,
    connection: Option<String>,
    cluster_connection: Option<String>,
    /// Whether a revocation also suspends the identity.
    #[serde(default)]
    suspend: bool,
}

/// Verb of an action, and the kind it applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Verb {
    Create,
    Issue,
    Renew,
    Revoke,
    SuspendIdentity,
    SuspendToken,
    ResumeIdentity,
    ResumeToken,
    DeleteIdentity,
    DeleteToken,
}

/// Preview of an action.
#[derive(Serialize)]
pub struct Plan {
    /// Command line for a terminal.
    command: String,
    /// Objects after the action or, for a deletion, as they are.
    yaml: String,
    /// Confirmation prompt.
    question: Option<String>,
    /// Affected tokens, with their Secrets.
    affected: Vec<Affected>,
    /// GitOps tools that revert the change unless it is also made in git.
    keepers: Vec<&'static str>,
}

#[derive(Serialize)]
struct Affected {
    token: String,
    secret: String,
}

impl Affected {
    fn new(token: &AcsToken) -> Self {
        Self {
            token: token.name_any(),
            secret: secret_of_token(token),
        }
    }
}

impl Action {
    /// Returns the arguments after `kubectl acs`.
    fn words(&self, place: &ClusterArgs) -> Result<Vec<String>, Failure> {
        let wrong = |why| Failure::new(Exit::Usage, why);
        manifest::name(&self.namespace).map_err(wrong)?;
        // A name that begins with - would be parsed as an option.
        manifest::name(&self.name).map_err(wrong)?;
        let name = self.name.as_str();
        let words: &[&str] = match self.verb {
            Verb::Create => &["create", name],
            Verb::Issue => &["issue", name],
            Verb::Renew => &["renew", name],
            Verb::Revoke => &["revoke", name],
            Verb::SuspendIdentity => &["suspend", name],
            Verb::SuspendToken => &["suspend", "--token", name],
            Verb::ResumeIdentity => &["resume", name],
            Verb::ResumeToken => &["resume", "--token", name],
            Verb::DeleteIdentity => &["delete", name],
            Verb::DeleteToken => &["delete", "--token", name],
        };
        let mut words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let scopes = Some(self.scopes.join(",")).filter(|scopes| !scopes.is_empty());
        let kubeconfig = place.kubeconfig.as_ref();
        let kubeconfig = kubeconfig.map(|file| file.display().to_string());
        let options = [
            ("scope", &scopes),
            ("user", &self.user),
            ("expires-in", &self.expires_in),
            ("secret-name", &self.secret_name),
            ("connection", &self.connection),
            ("cluster-connection", &self.cluster_connection),
            ("namespace", &Some(self.namespace.clone())),
            ("context", &place.context),
            ("kubeconfig", &kubeconfig),
        ];
        for (option, value) in options {
            words.extend(value.iter().map(|value| format!("--{option}={value}")));
        }
        if self.suspend {
            words.push("--suspend".to_owned());
        }
        Ok(words)
    }

    /// Parses the arguments to a command.
    fn command(&self, place: &ClusterArgs) -> Result<Cli, Failure> {
        let words = self.words(place)?;
        let words = ["kubectl acs".to_owned()].into_iter().chain(words);
        Cli::try_parse_from(words).map_err(|error| {
            let text = error.render().to_string();
            let text = text.split("\n\n").next().unwrap_or_default();
            Failure::new(Exit::Usage, text.trim_start_matches("error: "))
        })
    }

    /// Returns the command line for a terminal, where it asks for confirmation before it revokes or
    /// deletes, as the page does.
    fn line(&self, place: &ClusterArgs) -> Result<String, Failure> {
        let words = self.words(place)?;
        let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
        Ok(format!("kubectl acs {}", words.join(" ")))
    }
}

/// Quotes a word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Returns the preview of an action; changes nothing.
pub async fn plan(place: &ClusterArgs, action: &Action) -> Result<Plan, Failure> {
    let cli = action.command(place)?;
    let mut plan = Plan {
        command: action.line(place)?,
        yaml: String::new(),
        question: None,
        affected: Vec::new(),
        keepers: Vec::new(),
    };
    let namespace = Some(action.namespace.as_str());
    let session = cli.place.connect().await?;
    match &cli.command {
        Command::Create(command) => {
            plan.yaml = manifest::document(command.identity(), namespace)?;
        }
        Command::Issue(command) => plan.yaml = command.wanted(&cli.place).await?.yaml(namespace)?,
        Command::Renew(command) => {
            for token in user::tokens(&session, &command.names).await? {
                let change = requested(renew::RENEW, &json!({}));
                plan.change(&token, &change)?;
            }
        }
        Command::Revoke(command) => {
            let identities = command.identities(&session).await?;
            for identity in &identities {
                let spec = revoke::spec_change(command.suspend);
                plan.change(identity, &requested(revoke::REVOKE, &spec))?;
                let hit = user::tokens_hit(&session, identity).await?;
                plan.affected.extend(hit.iter().map(Affected::new));
            }
            plan.question = Some(revoke::question(&identities, command.suspend));
        }
        Command::Suspend(suspend::Suspend { what }) => plan.suspend(&session, what, true).await?,
        Command::Resume(suspend::Resume { what }) => plan.suspend(&session, what, false).await?,
        Command::Delete(command) => {
            let doomed = command.doomed(&session).await?;
            for identity in &doomed.identities {
                plan.change(identity, &json!({}))?;
            }
            for token in &doomed.tokens {
                plan.change(token, &json!({}))?;
            }
            plan.affected
                .extend(doomed.tokens.iter().map(Affected::new));
            plan.question = Some(doomed.question());
        }
        _ => {}
    }
    Ok(plan)
}

fn requested(what: &str, spec: &Value) -> Value {
    request::change(what, &Timestamp::now().to_string(), spec)
}

impl Plan {
    /// Adds an existing object with a change applied.
    fn change<K>(&mut self, object: &K, change: &Value) -> Result<(), Failure>
    where
        K: kube::Resource<DynamicType = ()> + Serialize,
    {
        self.yaml += &manifest::changed(object, change)?;
        let keeper = gitops::keeper(object);
        self.keepers
            .extend(keeper.filter(|keeper| !self.keepers.contains(keeper)));
        Ok(())
    }

    async fn suspend(
        &mut self,
        session: &Session,
        what: &suspend::What,
        to: bool,
    ) -> Result<(), Failure> {
        let change = suspend::change(to);
        let (identities, tokens) = what.objects(session).await?;
        for identity in &identities {
            self.change(identity, &change)?;
            let hit = user::tokens_of(session, &[identity]).await?;
            self.affected.extend(hit.iter().map(Affected::new));
        }
        for token in &tokens {
            self.change(token, &change)?;
        }
        Ok(())
    }
}

/// Runs an action and waits until it is completed; returns the output that the command would print.
pub async fn carry_out(place: &ClusterArgs, action: &Action) -> Result<Vec<String>, Failure> {
    let cli = action.command(place)?;
    let session = cli.place.connect().await?;
    let patience = Patience {
        timeout: LONGEST_WAIT,
        quiet: true,
    };
    let mut waiter = patience.start();
    match &cli.command {
        Command::Create(command) => {
            let (identity, making) = (command.identity(), &command.making);
            create::create_in(&session, &identity, making, &mut waiter).await?;
        }
        Command::Issue(command) => {
            let wanted = command.wanted(&cli.place).await?;
            create::issue_in(&session, &wanted, &command.making, &mut waiter).await?;
        }
        Command::Renew(command) => renew::carry_out(&session, command, &mut waiter).await?,
        Command::Revoke(command) => {
            let identities = command.identities(&session).await?;
            revoke::carry_out(&session, &identities, command, &mut waiter).await?;
        }
        Command::Suspend(suspend::Suspend { what }) => {
            suspend::carry_out(&session, what, true, &mut waiter).await?;
        }
        Command::Resume(suspend::Resume { what }) => {
            suspend::carry_out(&session, what, false, &mut waiter).await?;
        }
        Command::Delete(command) => {
            let doomed = command.doomed(&session).await?;
            delete::carry_out(&session, &doomed, command, &mut waiter).await?;
        }
        _ => {}
    }
    Ok(waiter.take_notes())
}
