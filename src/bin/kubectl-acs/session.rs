//! The way to the cluster: which one, which namespace, as whom.

use std::{fmt::Debug, path::PathBuf, time::Duration};

use acs_identity_operator::cluster;
use clap::Args;
use kube::{
    Api, Client, Config, Resource,
    config::{KubeConfigOptions, Kubeconfig},
    core::NamespaceResourceScope,
};
use serde::de::DeserializeOwned;

use super::{
    complete,
    failure::{Exit, Failure},
};

/// kube would wait for half a minute before it says that nobody is there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the cluster is.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub struct Place {
    /// Namespace [default: the context's]
    #[arg(short, long, global = true, value_name = "NAMESPACE", add = complete::namespaces())]
    pub namespace: Option<String>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, global = true, value_name = "CONTEXT", add = complete::contexts())]
    pub context: Option<String>,
    /// Kubeconfig file [default: $KUBECONFIG, else ~/.kube/config]
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// Our kinds of a namespace, and whatever else is read and watched there.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// A client of one cluster, and the namespace that commands are about.
#[derive(Clone)]
pub struct Session {
    /// The client.
    pub client: Client,
    /// The namespace that was asked for, else the context's.
    pub namespace: String,
    /// The API server, for people.
    pub server: String,
}

impl Place {
    /// Reads the kubeconfig; sends nothing yet.
    pub async fn connect(&self) -> Result<Session, Failure> {
        let mut config = self.config().await?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        let namespace = self.namespace.clone();
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config);
        let client =
            client.map_err(|error| Failure::of("reach", "the cluster", &error, &server))?;
        Ok(Session {
            client,
            namespace,
            server: server.trim_end_matches('/').to_owned(),
        })
    }

    async fn config(&self) -> Result<Config, Failure> {
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        let unusable = |error: &dyn std::fmt::Display| {
            let message = format!(
                "no cluster is configured: {error}; set KUBECONFIG or give --kubeconfig FILE"
            );
            Failure::new(Exit::Unreachable, message)
        };
        if let Some(file) = &self.kubeconfig {
            let kubeconfig = Kubeconfig::read_from(file).map_err(|error| unusable(&error))?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
            return config.map_err(|error| unusable(&error));
        }
        match Config::from_kubeconfig(&options).await {
            Ok(config) => Ok(config),
            // In a pod, as kubectl does; a context that is asked for is in a file.
            Err(error) if self.context.is_none() => {
                Config::incluster().map_err(|_| unusable(&error))
            }
            Err(error) => Err(unusable(&error)),
        }
    }
}

impl Session {
    /// The objects of one kind in the namespace.
    pub fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// `Kind namespace/name`, for people.
    pub fn named<K: Kind>(&self, name: &str) -> String {
        format!("{} {}/{name}", K::kind(&()), self.namespace)
    }

    /// Makes one call, bounded in time; a failure is a sentence.
    pub async fn call<T>(
        &self,
        operation: &'static str,
        object: &str,
        call: impl Future<Output = kube::Result<T>> + Send,
    ) -> Result<T, Failure> {
        let answer = cluster::call(operation, object, call).await;
        answer.map_err(|error| Failure::of_call(error, &self.server))
    }
}
