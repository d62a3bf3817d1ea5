//! Program of the operator: flags, signals, wiring.
#![allow(
    clippy::doc_markdown,
    reason = "doc comments are the help text, where backticks show"
)]

mod lease_args;

use std::{
    io::IsTerminal, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Instant,
};

use acs_identity_operator::{
    acs::{
        Allowed, EntraConfig, EntraConfigError, PUBLIC_AUDIENCE, PUBLIC_AUTHORITY, Service,
        ServiceConfig,
    },
    context::{Config, ConsumerConfig, SecretLabel},
    crd::{self, FINALIZER, finalizer_of_release},
    engine::Claim,
    health::SecureMetrics,
    metrics::Metrics,
    operator::{self, Leadership},
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use futures::FutureExt;
use jiff::SignedDuration;
use lease_args::LeaseArgs;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{
    EnvFilter, filter::filter_fn, layer::SubscriberExt, util::SubscriberInitExt,
};

/// Manages Azure Communication Services identities and access tokens as Kubernetes resources.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the controllers (the default)
    Run(Box<Run>),
    /// Print the CustomResourceDefinitions as YAML
    Crds,
}

#[derive(Debug, Args)]
struct Run {
    /// Namespace to watch; repeatable [default: all namespaces]
    #[arg(
        long = "watch-namespace",
        value_name = "NAMESPACE",
        env = "ACS_OPERATOR_WATCH_NAMESPACE",
        value_delimiter = ','
    )]
    watch_namespaces: Vec<String>,
    /// Address of /metrics, /livez and /readyz. [::] also accepts IPv4, and falls back to 0.0.0.0
    /// on a machine without IPv6
    #[arg(
        long,
        value_name = "IP:PORT",
        env = "ACS_OPERATOR_ADDRESS",
        default_value = "[::]:8080"
    )]
    address: SocketAddr,
    /// Directory with tls.crt and tls.key. If set, /metrics is served only over TLS, to clients
    /// with a ServiceAccount that has the permission to get /metrics [default: none]
    #[arg(long, value_name = "DIR", env = "ACS_OPERATOR_SECURE_METRICS_FOLDER")]
    secure_metrics_folder: Option<PathBuf>,
    /// Address of /metrics over TLS
    #[arg(
        long,
        value_name = "IP:PORT",
        env = "ACS_OPERATOR_SECURE_METRICS_ADDRESS",
        default_value = "[::]:8443"
    )]
    secure_metrics_address: SocketAddr,
    /// Format of log lines
    #[arg(long, value_enum, env = "ACS_OPERATOR_LOG_FORMAT", default_value_t = LogFormat::Json)]
    log_format: LogFormat,
    /// Namespace of the Secrets of ClusterAcsConnections
    #[arg(
        long,
        value_name = "NAMESPACE",
        env = "ACS_OPERATOR_CLUSTER_RESOURCE_NAMESPACE",
        default_value = "acs-identity-operator"
    )]
    cluster_resource_namespace: String,
    /// Run without a Lease. Use this only for a single process, for example on a developer's
    /// machine: two operators that act on the same objects revert each other's changes
    #[arg(long, env = "ACS_OPERATOR_NO_LEADER_ELECT")]
    no_leader_elect: bool,
    #[command(flatten)]
    lease: LeaseArgs,
    /// Time that a deletion waits for ACS before it continues without cleaning up there, for
    /// example 10m or 1h
    #[arg(long, value_name = "DURATION", env = "ACS_OPERATOR_DELETION_DEADLINE", default_value = "10m", value_parser = duration)]
    deletion_deadline: SignedDuration,
    /// Time that pods may need to read a changed Secret. When it has passed since the last token of
    /// a former key was replaced, the connection gets the reason SecretsRenewed
    #[arg(long, value_name = "DURATION", env = "ACS_OPERATOR_PODS_REREAD_WITHIN", default_value = "5m", value_parser = duration)]
    pods_reread_within: SignedDuration,
    /// Additional host, or suffix of hosts, to which credentials may be sent over https; repeatable
    #[arg(
        long = "allow-endpoint",
        value_name = "HOST",
        env = "ACS_OPERATOR_ALLOW_ENDPOINT",
        value_delimiter = ','
    )]
    allow_endpoints: Vec<String>,
    /// Host to which credentials may be sent over plain http, for an emulator; repeatable
    #[arg(
        long = "allow-insecure-endpoint",
        value_name = "HOST",
        env = "ACS_OPERATOR_ALLOW_INSECURE_ENDPOINT",
        value_delimiter = ','
    )]
    allow_insecure_endpoints: Vec<String>,
    /// Prefix of label and annotation keys that AcsTokens must not set on Secrets; repeatable
    #[arg(
        long = "forbid-secret-metadata",
        value_name = "PREFIX",
        env = "ACS_OPERATOR_FORBID_SECRET_METADATA",
        value_delimiter = ',',
        default_value = "argocd.argoproj.io"
    )]
    forbidden_metadata: Vec<String>,
    /// Label to set on every token Secret; repeatable, empty for no label
    #[arg(
        long = "secret-label",
        value_name = "KEY=VALUE",
        env = "ACS_OPERATOR_SECRET_LABEL",
        value_delimiter = ',',
        default_value = "velero.io/exclude-from-backup=true"
    )]
    secret_labels: Vec<SecretLabel>,
    /// Allow AcsConnections to use the operator's own credentials: managed identity and workload
    /// identity
    #[arg(long, env = "ACS_OPERATOR_NAMESPACED_AMBIENT_CREDENTIALS")]
    namespaced_ambient_credentials: bool,
    #[command(flatten)]
    consumers: ConsumerArgs,
    /// Authority that issues Microsoft Entra ID tokens; other clouds have other authorities
    #[arg(
        long,
        value_name = "URL",
        env = "ACS_OPERATOR_ENTRA_AUTHORITY",
        default_value = PUBLIC_AUTHORITY
    )]
    entra_authority: String,
    /// Audience requested for Microsoft Entra ID tokens
    #[arg(
        long,
        value_name = "RESOURCE",
        env = "ACS_OPERATOR_ACS_AUDIENCE",
        default_value = PUBLIC_AUDIENCE
    )]
    acs_audience: String,
    /// Audience of the ServiceAccount tokens that authenticate to Microsoft Entra ID
    #[arg(
        long,
        value_name = "AUDIENCE",
        env = "ACS_OPERATOR_SERVICE_ACCOUNT_TOKEN_AUDIENCE",
        default_value = "api://AzureADTokenExchange"
    )]
    service_account_token_audience: String,
    /// File with the operator's own ServiceAccount token for Microsoft Entra ID [default:
    /// AZURE_FEDERATED_TOKEN_FILE, if set]
    #[arg(long, value_name = "FILE", env = "ACS_OPERATOR_FEDERATED_TOKEN_FILE")]
    federated_token_file: Option<PathBuf>,
    /// Token endpoint with the protocol of Azure Cloud Shell, used instead of the managed identity
    /// of the machine
    #[arg(long, value_name = "URL", env = "ACS_OPERATOR_LOCAL_TOKEN_ENDPOINT")]
    local_token_endpoint: Option<String>,
}

// This is not a doc comment, because that would replace the description of the program.
#[derive(Debug, Args)]
struct ConsumerArgs {
    /// Enable spec.rolloutRestart of AcsTokens, which restarts workloads
    #[arg(long, env = "ACS_OPERATOR_ALLOW_ROLLOUT_RESTART")]
    allow_rollout_restart: bool,
    /// Annotate the pods that mount the Secret after a revocation, so that they get the new token
    /// within seconds
    #[arg(long, env = "ACS_OPERATOR_NUDGE_PODS")]
    nudge_pods: bool,
    /// Count the pods that use each Secret, and those that hold a former token, in the status of
    /// AcsTokens
    #[arg(long, env = "ACS_OPERATOR_COUNT_CONSUMERS")]
    count_consumers: bool,
}

impl Run {
    fn entra(&self) -> Result<EntraConfig, EntraConfigError> {
        let by_webhook = || std::env::var_os("AZURE_FEDERATED_TOKEN_FILE").map(PathBuf::from);
        EntraConfig::new(
            &self.entra_authority,
            self.acs_audience.clone(),
            self.local_token_endpoint.as_deref(),
            self.federated_token_file.clone().or_else(by_webhook),
        )
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn duration(text: &str) -> Result<SignedDuration, String> {
    match text.parse::<SignedDuration>() {
        Ok(duration) if duration.is_positive() => Ok(duration),
        _ => Err("use a duration such as 30s, 10m or 1h".to_owned()),
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(Command::Crds) => print_crds(),
        Some(Command::Run(run)) => start(*run),
        None => start(cli.run),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("acs-identity-operator: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Exit code of a process that has lost its Lease.
const LEASE_LOST: i32 = 3;

type Failure = Box<dyn std::error::Error>;

#[allow(clippy::print_stdout, reason = "the CRDs are this command's output")]
fn print_crds() -> Result<(), Failure> {
    print!("{}", crd::manifests()?);
    Ok(())
}

#[tokio::main]
async fn start(run: Run) -> Result<(), Failure> {
    // TLS provider of the whole process; kube and reqwest would otherwise each look for their own.
    let _ = rustls::crypto::ring::default_provider().install_default();
    log(run.log_format);
    let entra = run.entra()?;
    let allowed = Allowed::new(run.allow_endpoints, run.allow_insecure_endpoints)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    let timing = run.lease.timing()?;
    let claim = if run.no_leader_elect {
        Claim::undisputed()
    } else {
        Claim::waiting()
    };
    let metrics = Metrics::new();
    let asked = claim.clone();
    let acs = Service::new(ServiceConfig {
        metrics: metrics.acs.clone(),
        entra,
        may_send: Some(Arc::new(move || asked.left(Instant::now()).is_some())),
        ..ServiceConfig::default()
    })?;
    let client = kube::Client::try_default().await.map_err(|error| {
        format!("no configuration for the API server: {error}; set KUBECONFIG, or run in a cluster")
    })?;
    let lease = if run.no_leader_elect {
        None
    } else {
        Some(run.lease.config(client.default_namespace(), timing)?)
    };
    let cluster_finalizer = match &lease {
        Some(lease) if !run.watch_namespaces.is_empty() => {
            finalizer_of_release(&lease.namespace, &lease.name)
        }
        _ => FINALIZER.to_owned(),
    };
    let config = Config {
        cluster_finalizer,
        watch_namespaces: run.watch_namespaces,
        address: run.address,
        secure_metrics: run.secure_metrics_folder.map(|folder| SecureMetrics {
            address: run.secure_metrics_address,
            folder,
        }),
        cluster_resource_namespace: run.cluster_resource_namespace,
        deletion_deadline: run.deletion_deadline,
        pods_reread_within: run.pods_reread_within,
        consumers: ConsumerConfig {
            restarts_workloads: run.consumers.allow_rollout_restart,
            nudges_pods: run.consumers.nudge_pods,
            counts_pods: run.consumers.count_consumers,
        },
        allowed,
        forbidden_metadata: run.forbidden_metadata,
        secret_labels: run
            .secret_labels
            .into_iter()
            .filter_map(|label| label.0)
            .collect(),
        namespaced_ambient_credentials: run.namespaced_ambient_credentials,
        service_account_token_audience: run.service_account_token_audience,
    };
    let leadership = Leadership { claim, lease };
    let stop = stop.boxed().shared();
    match operator::run(client, config, leadership, acs, metrics, stop).await {
        // Exits at once: no run in progress may have further effects.
        Err(error @ operator::Error::LeaseLost) => {
            tracing::error!(exit_code = LEASE_LOST, "{error}");
            std::process::exit(LEASE_LOST)
        }
        ended => Ok(ended?),
    }
}

fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env()
        // kube and azure_core log every failed request, although it is then retried or reported.
        .unwrap_or_else(|_| EnvFilter::new(
                "info,kube_client::client::builder=off,kube_runtime::watcher=off,azure_identity=warn,typespec_client_core=warn",
            ));
    let registry = tracing_subscriber::registry()
        .with(filter)
        .with(filter_fn(holds_no_answer));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => registry
            .with(lines.with_ansi(std::io::stderr().is_terminal()))
            .init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).init(),
    }
}

/// Whether a log event may be written. Under the excluded target, kube logs each answer that it
/// cannot parse, with all Secrets in it (C2); its errors have the same information without the
/// Secrets.
fn holds_no_answer(metadata: &tracing::Metadata<'_>) -> bool {
    metadata.target() != "kube_client::client"
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{Event, Subscriber, warn};
    use tracing_subscriber::{Layer, layer::Context};

    use super::*;

    #[derive(Clone, Default)]
    struct Targets(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Targets {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let target = event.metadata().target().to_owned();
            self.0.lock().unwrap().push(target);
        }
    }

    #[test]
    fn no_answer_of_the_api_server_gets_into_the_log() {
        let targets = Targets::default();
        let registry = tracing_subscriber::registry()
            .with(filter_fn(holds_no_answer))
            .with(targets.clone());
        tracing::subscriber::with_default(registry, || {
            warn!(target: "kube_client::client", "an answer");
            warn!(target: "kube_runtime", "something else");
        });
        assert_eq!(*targets.0.lock().unwrap(), ["kube_runtime"]);
    }
}
