//! Session: the connection to a cluster, with its namespace and user.

use std::{fmt::Debug, path::PathBuf, time::Duration};

use acs_identity_operator::cluster;
use clap::Args;
use kube::{
    Api, Client, Config, Resource, ResourceExt as _,
    config::{KubeConfigOptions, Kubeconfig},
    core::NamespaceResourceScope,
};
use serde::de::DeserializeOwned;

use crate::{
    cluster::wait,
    commands::complete,
    failure::{Exit, Failure},
};

/// Timeout of connecting; kube would wait for half a minute.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Arguments that select the cluster, the namespace and the user.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterArgs {
    /// Namespace [default: the namespace of the context]
    #[arg(short, long, global = true, value_name = "NAMESPACE", add = complete::namespaces())]
    pub namespace: Option<String>,
    /// Context of the kubeconfig [default: its current context]
    #[arg(long, global = true, value_name = "CONTEXT", add = complete::contexts())]
    pub context: Option<String>,
    /// Kubeconfig file [default: $KUBECONFIG, else ~/.kube/config]
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Cluster of the kubeconfig [default: the cluster of the context]
    #[arg(long, global = true, value_name = "CLUSTER")]
    pub cluster: Option<String>,
    /// Address of the API server [default: the server of the cluster]
    #[arg(short, long, global = true, value_name = "URL")]
    pub server: Option<http::Uri>,
    /// User to impersonate
    #[arg(long = "as", global = true, value_name = "USER")]
    pub as_user: Option<String>,
    /// Group to impersonate; repeatable
    #[arg(long, global = true, value_name = "GROUP", requires = "as_user")]
    pub as_group: Vec<String>,
    /// Timeout of a single request, for example 5s; at most 15s [default: 15s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = wait::timeout)]
    pub request_timeout: Option<Duration>,
}

/// Kind that the plugin reads and watches in a namespace.
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

/// Client of one cluster, and the namespace that commands use.
#[derive(Clone)]
pub struct Session {
    /// Client.
    pub client: Client,
    /// Namespace from the flag, or else from the context.
    pub namespace: String,
    /// URL of the API server, for messages.
    pub server: String,
    /// Timeout of a single call, if shorter than the default.
    pub request_timeout: Option<Duration>,
}

/// Returns `Kind namespace/name` of an object, for messages.
pub fn named<K: Resource<DynamicType = ()>>(object: &K) -> String {
    let namespace = object.namespace().map(|it| it + "/").unwrap_or_default();
    format!("{} {namespace}{}", K::kind(&()), object.name_any())
}

impl ClusterArgs {
    /// Reads the kubeconfig; sends no request yet.
    pub async fn connect(&self) -> Result<Session, Failure> {
        let mut config = self.config().await?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        let namespace = self.namespace.clone();
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config);
        let client =
            client.map_err(|error| Failure::from_error("reach", "the cluster", &error, &server))?;
        Ok(Session {
            client,
            namespace,
            server: server.trim_end_matches('/').to_owned(),
            request_timeout: self.request_timeout,
        })
    }

    /// Returns the kubeconfig's settings, overridden by the flags.
    async fn config(&self) -> Result<Config, Failure> {
        let mut config = self.configured().await?;
        if let Some(server) = &self.server {
            config.cluster_url = server.clone();
        }
        if self.as_user.is_some() {
            config.auth_info.impersonate.clone_from(&self.as_user);
            config.auth_info.impersonate_groups = Some(self.as_group.clone());
        }
        Ok(config)
    }

    async fn configured(&self) -> Result<Config, Failure> {
        let options = KubeConfigOptions {
            context: self.context.clone(),
            cluster: self.cluster.clone(),
            ..KubeConfigOptions::default()
        };
        let unusable = |error: &dyn std::fmt::Display| {
            let message =
                format!("no cluster is configured: {error}; set KUBECONFIG or --kubeconfig FILE");
            Failure::new(Exit::Unreachable, message)
        };
        if let Some(file) = &self.kubeconfig {
            let kubeconfig = Kubeconfig::read_from(file).map_err(|error| unusable(&error))?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
            return config.map_err(|error| unusable(&error));
        }
        match Config::from_kubeconfig(&options).await {
            Ok(config) => Ok(config),
            // In a pod, as kubectl does; a requested context must be in a file.
            Err(error) if self.context.is_none() && self.cluster.is_none() => {
                Config::incluster().map_err(|_| unusable(&error))
            }
            Err(error) => Err(unusable(&error)),
        }
    }
}

impl Session {
    /// Returns the `Api` of a kind in the namespace.
    pub fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Returns `Kind namespace/name`, for messages.
    pub fn named<K: Kind>(&self, name: &str) -> String {
        format!("{} {}/{name}", K::kind(&()), self.namespace)
    }

    /// Reads a path of the API server that is not an object, with the response head.
    pub async fn read<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<(http::response::Parts, T), Failure> {
        let asked = async {
            let request = http::Request::get(path).body(kube::client::Body::empty());
            let request = request.map_err(kube::Error::HttpError)?;
            let (head, body) = self.client.send(request).await?.into_parts();
            let status = kube::core::Status::failure("", "").with_code(head.status.as_u16());
            if !head.status.is_success() {
                return Err(kube::Error::Api(Box::new(status)));
            }
            let bytes = body.collect_bytes().await?;
            let read = serde_json::from_slice(&bytes).map_err(kube::Error::SerdeError)?;
            Ok((head, read))
        };
        self.call("read", path, asked).await
    }

    /// Makes one call with a timeout; a failure is a sentence.
    pub async fn call<T>(
        &self,
        operation: &'static str,
        object: &str,
        call: impl Future<Output = kube::Result<T>> + Send,
    ) -> Result<T, Failure> {
        let call = cluster::call(operation, object, call);
        let answer = match self.request_timeout {
            None => call.await,
            Some(limit) => {
                let answered = tokio::time::timeout(limit, call).await;
                answered.unwrap_or_else(|_| {
                    Err(cluster::Error::Timeout {
                        operation,
                        object: object.to_owned(),
                    })
                })
            }
        };
        answer.map_err(|error| Failure::of_call(error, &self.server))
    }
}
