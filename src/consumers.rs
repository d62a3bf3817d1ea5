//! Pods that use a Secret, and those of them whose containers hold a former token.
//!
//! A container reads an environment variable and a file mounted by `subPath` once, when it starts.
//! A volume without `subPath` is updated while the container runs.

#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{EnvFromSource, EnvVar, KeyToPath, Pod, Volume, VolumeMount},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::Resource;
use serde::{Deserialize, Serialize};

use crate::crd::{AcsToken, ConsumersStatus};

/// Field selector of the pods that may have running containers.
pub const NOT_TERMINATED: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// A container that starts this long after a token was written may still get the former one: the
/// clocks of the operator and of the nodes differ, and kubelets read Secrets from a cache.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(5);

/// Pod, with the fields that are read.
#[derive(Resource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[resource(inherit = Pod)]
pub struct ConsumerPod {
    /// Metadata of the pod.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// Uses of Secrets.
    #[serde(default)]
    pub spec: Spec,
    /// Start times of containers.
    #[serde(default)]
    pub status: Status,
}

/// Parts of a pod's spec that may name Secrets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containers: Vec<Container>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<Container>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ephemeral_containers: Vec<Container>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    volumes: Vec<Volume>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Container {
    name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    env: Vec<EnvVar>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    env_from: Vec<EnvFromSource>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    volume_mounts: Vec<VolumeMount>,
}

/// Parts of a pod's status that tell when containers started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(clippy::struct_field_names, reason = "the names of the API")]
pub struct Status {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    container_statuses: Vec<ContainerStatus>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    init_container_statuses: Vec<ContainerStatus>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ephemeral_container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct ContainerStatus {
    name: String,
    state: ContainerState,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct ContainerState {
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<Running>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Running {
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Time>,
}

/// How a container uses a Secret without noticing its changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FixedUse {
    /// As an environment variable.
    Environment,
    /// As a file mounted by `subPath`.
    SubPath,
}

/// Container that holds a former token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutdatedContainer {
    /// Name of the container.
    pub name: String,
    /// How it uses the Secret.
    pub by: FixedUse,
    /// Time at which it started.
    pub started_at: Timestamp,
}

/// Secret of a token and the keys whose values change with each token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedSecret {
    name: String,
    keys: [String; 2],
}

impl UsedSecret {
    /// Returns the Secret of an `AcsToken`.
    #[must_use]
    pub fn of_token(token: &AcsToken) -> Self {
        Self {
            name: token.secret_name(),
            keys: [token.token_key(), token.expires_on_key()],
        }
    }

    fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|it| it == key)
    }
}

impl ConsumerPod {
    /// Returns the names of the Secrets that the pod's volumes show.
    pub fn mounted(&self) -> impl Iterator<Item = &str> {
        let volumes = self.spec.volumes.iter();
        volumes.flat_map(secrets_of).map(|secret| secret.name)
    }

    /// Returns the names of all Secrets that the pod uses, sorted.
    #[must_use]
    pub fn secrets(&self) -> Vec<&str> {
        let by_environment = self.containers().flat_map(|container| {
            let single = container.env.iter().filter_map(|variable| {
                let source = variable.value_from.as_ref()?;
                Some(source.secret_key_ref.as_ref()?.name.as_str())
            });
            let whole = container.env_from.iter();
            single.chain(whole.filter_map(|it| Some(it.secret_ref.as_ref()?.name.as_str())))
        });
        let mut all: Vec<_> = self.mounted().chain(by_environment).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Drops what does not tell how Secrets are used.
    pub fn slim(&mut self) {
        let former = std::mem::take(&mut self.metadata);
        self.metadata = ObjectMeta {
            name: former.name,
            namespace: former.namespace,
            uid: former.uid,
            resource_version: former.resource_version,
            ..ObjectMeta::default()
        };
        let spec = &mut self.spec;
        spec.volumes
            .retain(|volume| secrets_of(volume).next().is_some());
        let volumes = &spec.volumes;
        for container in [
            &mut spec.containers,
            &mut spec.init_containers,
            &mut spec.ephemeral_containers,
        ]
        .into_iter()
        .flatten()
        {
            container.env.retain(|variable| {
                let source = variable.value_from.as_ref();
                source.is_some_and(|source| source.secret_key_ref.is_some())
            });
            container.env_from.retain(|it| it.secret_ref.is_some());
            container.volume_mounts.retain(|mount| {
                is_sub_path(mount) && volumes.iter().any(|volume| volume.name == mount.name)
            });
        }
    }

    /// Returns how the container of this name uses the values of a Secret that change with each
    /// token, if only a restart of the container shows it a change.
    fn fixed_use(&self, container: &Container, secret: &UsedSecret) -> Option<FixedUse> {
        let is_single = container.env.iter().any(|variable| {
            let source = variable.value_from.as_ref();
            let source = source.and_then(|source| source.secret_key_ref.as_ref());
            source.is_some_and(|source| source.name == secret.name && secret.has(&source.key))
        });
        let is_whole = container.env_from.iter().any(|it| {
            let source = it.secret_ref.as_ref();
            source.is_some_and(|source| source.name == secret.name)
        });
        if is_single || is_whole {
            return Some(FixedUse::Environment);
        }
        let mut mounts = container.volume_mounts.iter();
        let is_sub_path = mounts.any(|mount| {
            is_sub_path(mount)
                && self
                    .spec
                    .volumes
                    .iter()
                    .any(|volume| volume.name == mount.name && shows(volume, mount, secret))
        });
        is_sub_path.then_some(FixedUse::SubPath)
    }

    /// Whether only a restart of one of its containers shows the pod a change of the Secret.
    #[must_use]
    pub fn has_fixed_use(&self, secret: &UsedSecret) -> bool {
        self.containers()
            .any(|container| self.fixed_use(container, secret).is_some())
    }

    /// Returns the running containers that hold a former token, by their start time and the time at
    /// which the current token was written to the Secret.
    #[must_use]
    pub fn outdated(&self, secret: &UsedSecret, since: Timestamp) -> Vec<OutdatedContainer> {
        let renewed = since.saturating_add(TOLERANCE).unwrap_or(since);
        let outdated = self.containers().filter_map(|container| {
            let by = self.fixed_use(container, secret)?;
            let started_at = self.started_at(&container.name)?;
            (started_at <= renewed).then(|| OutdatedContainer {
                name: container.name.clone(),
                by,
                started_at,
            })
        });
        outdated.collect()
    }

    fn containers(&self) -> impl Iterator<Item = &Container> {
        let spec = &self.spec;
        let all = spec.containers.iter().chain(&spec.init_containers);
        all.chain(&spec.ephemeral_containers)
    }

    fn started_at(&self, container: &str) -> Option<Timestamp> {
        let status = &self.status;
        let all = status.container_statuses.iter();
        let all = all.chain(&status.init_container_statuses);
        let mut all = all.chain(&status.ephemeral_container_statuses);
        let found = all.find(|it| it.name == container)?;
        Some(found.state.running.as_ref()?.started_at.as_ref()?.0)
    }
}

/// Counts the pods that use a Secret, for a token that was written at `since`.
pub fn count<'a>(
    pods: impl Iterator<Item = &'a ConsumerPod>,
    secret: &UsedSecret,
    since: Timestamp,
) -> ConsumersStatus {
    let mut counts = ConsumersStatus::default();
    for pod in pods {
        counts.pods += 1;
        counts.fixed += i64::from(pod.has_fixed_use(secret));
        counts.outdated += i64::from(!pod.outdated(secret, since).is_empty());
    }
    counts
}

/// Secret of a volume, with the file names of its keys; without items each key has its own name.
struct MountedSecret<'a> {
    name: &'a str,
    items: Option<&'a [KeyToPath]>,
}

/// Returns the Secrets of a volume: mounted directly, or as sources of a projected volume.
fn secrets_of(volume: &Volume) -> impl Iterator<Item = MountedSecret<'_>> {
    let itself = volume.secret.as_ref().and_then(|secret| {
        Some(MountedSecret {
            name: secret.secret_name.as_deref()?,
            items: secret.items.as_deref(),
        })
    });
    let sources = volume.projected.as_ref();
    let sources = sources
        .into_iter()
        .flat_map(|it| it.sources.iter().flatten());
    let projected = sources.filter_map(|source| {
        let secret = source.secret.as_ref()?;
        Some(MountedSecret {
            name: &secret.name,
            items: secret.items.as_deref(),
        })
    });
    itself.into_iter().chain(projected)
}

fn is_sub_path(mount: &VolumeMount) -> bool {
    let paths = [&mount.sub_path, &mount.sub_path_expr];
    paths.into_iter().flatten().any(|path| !path.is_empty())
}

/// Whether a mount by `subPath` shows a value of the Secret that changes with each token.
fn shows(volume: &Volume, mount: &VolumeMount, secret: &UsedSecret) -> bool {
    let mut all = secrets_of(volume).filter(|it| it.name == secret.name);
    all.any(|mounted| {
        // The value of an expression is known only to the kubelet.
        let Some(path) = mount.sub_path.as_deref().filter(|path| !path.is_empty()) else {
            return true;
        };
        let lies_in = |file: &str| {
            let rest = file.strip_prefix(path.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match mounted.items {
            None => secret.has(path),
            Some(items) => items
                .iter()
                .any(|item| secret.has(&item.key) && lies_in(&item.path)),
        }
    })
}
