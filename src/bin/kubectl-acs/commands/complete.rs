//! Completion with names from the cluster: for the shells, and for kubectl's own completion.

use std::{
    ffi::{OsStr, OsString},
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use acs_identity_operator::crd::{AcsIdentity, AcsToken};
use clap::{Args, Command, CommandFactory as _, ValueEnum};
use clap_complete::{
    engine::{self, ArgValueCompleter, CompletionCandidate},
    env::{Bash, CompleteEnv, EnvCompleter, Fish, Zsh},
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::ListParams, config::Kubeconfig, core::PartialObjectMeta};

use crate::{
    Cli, NAME,
    cluster::session::{ClusterArgs, Session},
    view::output,
};

/// Name of the program that kubectl runs to complete `kubectl acs`.
const KUBECTLS_NAME: &str = "kubectl_complete-acs";
/// Environment variable with which a shell's function requests completion from this program.
const VARIABLE: &str = "COMPLETE";
/// Timeout: a person is pressing TAB, and late names are worse than none.
const PATIENCE: Duration = Duration::from_secs(2);
/// cobra's directive "no file names", which kubectl's completion interprets.
const NO_FILES: &str = ":4";

/// Supported shells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// source <(kubectl-acs completion bash)
    Bash,
    /// source <(kubectl-acs completion zsh)
    Zsh,
    /// kubectl-acs completion fish | source
    Fish,
}

/// Print the shell completion script of `kubectl-acs`
///
/// For `kubectl acs`, kubectl's own completion needs a link to this program with the name
/// kubectl_complete-acs on the PATH.
#[derive(Clone, Debug, Args)]
pub struct Completion {
    /// Shell to complete in
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs `completion`.
pub fn completion(command: &Completion) -> std::io::Result<()> {
    let shell: &dyn EnvCompleter = match command.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, NAME, NAME, NAME, &mut script)?;
    output::print(&String::from_utf8_lossy(&script));
    Ok(())
}

/// Prints completions and exits, if completion was requested.
pub fn answer() {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    let called = words.first().map(Path::new).and_then(Path::file_name);
    if called == Some(OsStr::new(KUBECTLS_NAME)) {
        if let Some(first) = words.first_mut() {
            *first = NAME.into();
        }
        answer_kubectl(words);
        std::process::exit(0);
    }
    CompleteEnv::with_factory(Cli::command)
        .var(VARIABLE)
        .complete();
}

/// Prints completions in cobra's format: a line per candidate, its help after a tab, and a
/// directive.
fn answer_kubectl(words: Vec<OsString>) {
    let last = words.len().saturating_sub(1);
    let here = std::env::current_dir().ok();
    let found = engine::complete(&mut Cli::command(), words, last, here.as_deref());
    let mut answer = String::new();
    for candidate in found
        .into_iter()
        .flatten()
        .filter(|candidate| !candidate.is_hide_set())
    {
        answer.push_str(&candidate.get_value().to_string_lossy());
        let help = candidate
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        if let Some(line) = help.lines().next() {
            answer.push('\t');
            answer.push_str(line);
        }
        answer.push('\n');
    }
    // Stdout may be closed.
    let _ = writeln!(std::io::stdout(), "{answer}{NO_FILES}");
}

/// Completes names of AcsIdentities.
pub fn identities() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        candidates(current, |session| async move {
            names(session.api::<PartialObjectMeta<AcsIdentity>>()).await
        })
    })
}

/// Completes names of AcsTokens.
pub fn tokens() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        candidates(current, |session| async move {
            names(session.api::<PartialObjectMeta<AcsToken>>()).await
        })
    })
}

/// Completes namespaces.
pub fn namespaces() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        candidates(current, |session| async move {
            names(Api::<PartialObjectMeta<Namespace>>::all(session.client)).await
        })
    })
}

/// Completes contexts of the kubeconfig.
pub fn contexts() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let kubeconfig = match place().kubeconfig {
            Some(file) => Kubeconfig::read_from(file),
            None => Kubeconfig::read(),
        };
        let contexts = kubeconfig
            .map(|kubeconfig| kubeconfig.contexts)
            .unwrap_or_default();
        matching(current, contexts.into_iter().map(|context| context.name))
    })
}

async fn names<K>(api: Api<K>) -> kube::Result<Vec<String>>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let listed = api.list(&ListParams::default()).await?;
    Ok(listed.iter().map(kube::ResourceExt::name_any).collect())
}

/// Returns the candidates that `ask` finds in the cluster of the command line, if it answers in
/// time.
fn candidates<F>(current: &OsStr, ask: impl FnOnce(Session) -> F) -> Vec<CompletionCandidate>
where
    F: Future<Output = kube::Result<Vec<String>>>,
{
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        return Vec::new();
    };
    let names = runtime.block_on(async {
        let asked = async { ask(place().connect().await.ok()?).await.ok() };
        tokio::time::timeout(PATIENCE, asked).await
    });
    matching(current, names.ok().flatten().into_iter().flatten())
}

fn matching(current: &OsStr, names: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let matching = names.filter(|name| name.starts_with(&*current));
    matching.map(CompletionCandidate::new).collect()
}

/// Returns the cluster arguments of the words typed so far: all arguments, or, for a shell's
/// function, those after the first `--`.
fn place() -> ClusterArgs {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    if words.get(1).is_some_and(|word| word == "--") {
        words.drain(..2);
    }
    let lenient: Command = Cli::command().ignore_errors(true);
    let Ok(matches) = lenient.try_get_matches_from(words) else {
        return ClusterArgs::default();
    };
    // Options are global: the innermost command has them, wherever they were given.
    let mut innermost = &matches;
    while let Some((_, matches)) = innermost.subcommand() {
        innermost = matches;
    }
    let text = |name: &str| {
        innermost
            .try_get_one::<String>(name)
            .ok()
            .flatten()
            .cloned()
    };
    let file = innermost
        .try_get_one::<PathBuf>("kubeconfig")
        .ok()
        .flatten()
        .cloned();
    ClusterArgs {
        namespace: text("namespace"),
        context: text("context"),
        kubeconfig: file,
        cluster: text("cluster"),
        ..ClusterArgs::default()
    }
}
