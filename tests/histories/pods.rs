//! Pods that use Secrets: what their containers read, and how the operator counts and nudges them.

use std::collections::BTreeMap;

use acs_identity_operator::{
    consumers::{ConsumerPod, UsedSecret},
    crd::{AcsToken, NUDGED_AT},
    engine::PodPage,
};
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::{
    cluster::Refused,
    history::TOKENS,
    world::{World, text_in},
};

type Checked = Result<(), String>;

const PODS: [&str; 2] = ["p0", "p1"];

/// How a pod uses the Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Variable,
    SubPath,
    Volume,
}

/// Change of a pod by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodDeed {
    /// Creates the pod, or replaces it, for the Secret of a token.
    Replace(u8, Use),
    /// Restarts its container.
    Restart,
    Delete,
}

/// What is true of the pods.
#[derive(Debug, Default)]
pub struct Pods {
    /// Token that the container of each pod read when it started.
    read: BTreeMap<String, Option<String>>,
    /// Nudges of each pod, by UID.
    nudges: BTreeMap<String, usize>,
}

pub fn happen(world: &mut World, number: u8, deed: PodDeed) {
    let name = PODS[usize::from(number) % PODS.len()];
    let now = world.time();
    match deed {
        PodDeed::Delete => {
            let _ = world.cluster.delete::<ConsumerPod>(name, None, now);
        }
        PodDeed::Replace(token, by) => {
            let _ = world.cluster.delete::<ConsumerPod>(name, None, now);
            let (token, _) = TOKENS[usize::from(token) % TOKENS.len()];
            let token = world.cluster.tokens.get(token);
            let secret = token.map_or_else(|| "t0".to_owned(), AcsToken::secret_name);
            let mut pod: ConsumerPod = serde_json::from_value(pod(name, &secret, by)).unwrap();
            start(world, &mut pod, &secret);
            let _ = world.cluster.create(pod, now);
        }
        PodDeed::Restart => {
            let Some(mut pod) = world.cluster.pods.get(name).cloned() else {
                return;
            };
            let secret = pod.secrets().first().map(|it| (*it).to_owned());
            start(world, &mut pod, &secret.unwrap_or_default());
            let status = pod.status;
            let edit = |it: &mut ConsumerPod| it.status = status;
            let _ = world.cluster.update::<ConsumerPod>(name, None, edit);
        }
    }
}

fn pod(name: &str, secret: &str, by: Use) -> Value {
    let container = match by {
        Use::Variable => json!({"name": "main", "env": [
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": secret, "key": "token"}}},
        ]}),
        Use::SubPath => json!({"name": "main", "volumeMounts": [
            {"name": "acs", "mountPath": "/acs/token", "subPath": "token"},
        ]}),
        Use::Volume => json!({"name": "main", "volumeMounts": [
            {"name": "acs", "mountPath": "/acs"},
        ]}),
    };
    let mut spec = json!({"containers": [container]});
    if by != Use::Variable {
        spec["volumes"] = json!([{"name": "acs", "secret": {"secretName": secret}}]);
    }
    json!({"metadata": {"name": name}, "spec": spec})
}

/// Starts the container, if the Secret exists: a kubelet waits for it.
fn start(world: &mut World, pod: &mut ConsumerPod, secret: &str) {
    let found = world.cluster.secrets.get(secret);
    let state = match found {
        Some(_) => json!({"running": {"startedAt": seconds(world.time())}}),
        None => json!({"waiting": {"reason": "CreateContainerConfigError"}}),
    };
    let read = found.and_then(|secret| text_in(secret, "token"));
    world.pods.read.insert(pod.name_any(), read);
    let status = json!({"containerStatuses": [{"name": "main", "state": state}]});
    pod.status = serde_json::from_value(status).unwrap();
}

fn seconds(time: Timestamp) -> String {
    crate::cluster::seconds(time).to_string()
}

/// Lists the pods for the operator.
pub fn list(world: &World) -> PodPage {
    PodPage {
        items: world.cluster.pods.values().cloned().collect(),
        next: None,
    }
}

/// Annotates a pod for the operator.
pub fn nudge(world: &mut World, pod: &ConsumerPod, at: Timestamp) -> Result<(), Refused> {
    let name = pod.name_any();
    let found = world.cluster.pods.get(&name).ok_or(Refused::NotFound)?;
    if found.uid() != pod.uid() {
        return Err(Refused::Conflict);
    }
    let checked = is_caused(world, pod);
    world.check(checked);
    let nudges = world.pods.nudges.entry(pod.uid().unwrap_or_default());
    *nudges.or_default() += 1;
    let edit = |it: &mut ConsumerPod| {
        let all = it.metadata.annotations.get_or_insert_default();
        all.insert(NUDGED_AT.to_owned(), at.to_string());
    };
    world
        .cluster
        .update::<ConsumerPod>(&name, None, edit)
        .map(|_| ())
}

/// K5: checks that a nudged pod mounts a Secret whose token replaced one that did not work, and
/// that each token nudges it once.
fn is_caused(world: &World, pod: &ConsumerPod) -> Checked {
    let name = pod.name_any();
    let mut issued = 0;
    for secret in pod.mounted() {
        let mut all = world.cluster.tokens.values();
        let owner = all.find(|token| token.secret_name() == secret);
        let uid = owner.and_then(ResourceExt::uid).unwrap_or_default();
        issued += world.workloads.tokens_stored(&uid);
    }
    let nudges = world.pods.nudges.get(&pod.uid().unwrap_or_default());
    if nudges.is_some_and(|nudges| *nudges >= issued) || issued == 0 {
        return Err(format!(
            "K5: pod {name} is nudged for the {nudges:?}th time, after {issued} tokens"
        ));
    }
    Ok(())
}

/// Checks the counts in the status of a token that is Ready in the end.
pub fn at_the_end(world: &World, object: &AcsToken) -> Checked {
    let (name, secret) = (object.name_any(), UsedSecret::of_token(object));
    let told = object.status.as_ref().and_then(|status| status.consumers);
    let told = told.unwrap_or_default();
    let held = world.cluster.secrets.get(&object.secret_name());
    let current = held.and_then(|secret| text_in(secret, "token"));
    let uses = |pod: &&ConsumerPod| pod.secrets().contains(&object.secret_name().as_str());
    let pods: Vec<_> = world.cluster.pods.values().filter(uses).collect();
    let fixed: Vec<_> = pods
        .iter()
        .filter(|pod| pod.has_fixed_use(&secret))
        .collect();
    let count = |number: usize| i64::try_from(number).unwrap();
    if (told.pods, told.fixed) != (count(pods.len()), count(fixed.len())) {
        return Err(format!(
            "AcsToken {name} counts {told:?} in the end, of {} pods, {} of them fixed",
            pods.len(),
            fixed.len()
        ));
    }
    let written_at = object.written_at().unwrap_or(Timestamp::MIN);
    let is_early = |pod: &ConsumerPod| !pod.outdated(&secret, written_at).is_empty();
    let is_stale = |pod: &ConsumerPod| {
        let is_running = !pod.outdated(&secret, Timestamp::MAX).is_empty();
        is_running && world.pods.read.get(&pod.name_any()) != Some(&current)
    };
    let stale = count(fixed.iter().filter(|pod| is_stale(pod)).count());
    let most = count(fixed.iter().filter(|pod| is_early(pod)).count());
    // A clock that was wrong by more than some seconds dates the token wrongly.
    let is_right = world.jumped == 0 && world.local_offset.abs() <= 5_000;
    let least = if is_right { stale } else { 0 };
    if told.outdated < least || told.outdated > most {
        return Err(format!(
            "AcsToken {name} counts {told:?} in the end, but {stale} pods hold a former token and \
             {most} started before {written_at}"
        ));
    }
    Ok(())
}
