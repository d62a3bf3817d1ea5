//! Workloads whose pods use tokens: who restarts them, who reverts it, and what may cause a
//! restart.

use std::collections::BTreeMap;

use acs_identity_operator::{
    crd::{
        AcsToken, AcsTokenStatus, PendingRestart, REREADS, RESTARTED_AT, RestartAfter,
        RolloutRestart, RolloutRestartStatus, SecretKeys, WorkloadKind,
    },
    engine::Workload,
};
use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    cluster::Refused,
    invariants::is_all_told,
    service::{Millis, Revoker},
    world::{Key, World},
};

type Checked = Result<(), String>;

pub const WORKLOADS: [&str; 2] = ["web", "other"];
/// Minimum interval between restarts of one workload.
const INTERVAL: Millis = 300_000;

/// Change of a workload by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Delete,
    Create,
    /// Restores the deployed pod template.
    Undo,
    /// Writes another time into the operator's annotation: in the future, or invalid.
    Edit(bool),
    /// States in the pod template that the pods read the Secret again, or no longer do.
    Rereads(bool),
    /// Writes its status, as its controller does.
    Touch,
}

/// Operator's request that the API server rejects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refusal {
    #[default]
    Nothing,
    Restarts,
    Reads,
}

/// Tokens stored for an object, in order, and their effects on its workloads.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    texts: Vec<String>,
    known: BTreeMap<String, Known>,
    /// Restarts that the status reports as pending, and since when.
    pending: BTreeMap<String, (PendingRestart, Millis)>,
    /// Workloads that must be restarted, since a token replaced a revoked one.
    owed: BTreeMap<String, Millis>,
}

/// State when a workload was first named or last restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    /// Content of the status at that time.
    told: (i64, String),
    tokens: usize,
    /// Names in the Secret.
    names: String,
}

/// Workloads, and what is true of them.
#[derive(Debug, Default)]
pub struct Workloads {
    all: BTreeMap<String, Workload>,
    pub refusal: Refusal,
    version: u64,
    /// Time of the last restart of each, and the sum of the jumps of the operator's clock by then.
    restarted: BTreeMap<String, (Millis, Millis)>,
    /// Time at which others last changed the operator's annotation, or recreated the workload.
    meddled: BTreeMap<String, Millis>,
    pub stored: BTreeMap<String, Stored>,
}

/// Returns the workloads that a token names, by number.
pub fn targets(number: u8) -> Option<Vec<RolloutRestart>> {
    let target = |name: &str, after| RolloutRestart {
        kind: WorkloadKind::Deployment,
        name: name.to_owned(),
        after,
    };
    let [web, other] = WORKLOADS;
    match number % 4 {
        0 => None,
        1 => Some(vec![target(web, None)]),
        2 => Some(vec![
            target(web, Some(RestartAfter::Renewal)),
            target(other, Some(RestartAfter::Change)),
        ]),
        _ => Some(vec![target(other, None)]),
    }
}

/// Returns other names for keys; that of the token stays, since others read it.
pub fn keys(number: u8) -> Option<SecretKeys> {
    (number % 2 == 1).then(|| SecretKeys {
        scopes: Some("SCOPES".to_owned()),
        ..SecretKeys::default()
    })
}

/// Returns the names that a pod spec needs: of the Secret and of the key that may change.
fn names(object: &AcsToken) -> String {
    let keys = object.spec.secret.as_ref().and_then(|it| it.keys.clone());
    format!(
        "{} {:?}",
        object.secret_name(),
        keys.unwrap_or_default().scopes
    )
}

impl Workloads {
    /// Returns how many tokens were written for the `AcsToken` of this UID.
    pub fn tokens_stored(&self, uid: &str) -> usize {
        self.stored.get(uid).map_or(0, |stored| stored.texts.len())
    }
}

pub fn happen(world: &mut World, number: u8, deed: Deed) {
    let name = WORKLOADS[usize::from(number) % WORKLOADS.len()].to_owned();
    let now = world.now;
    let far = Timestamp::from_millisecond(now + 4_000_000_000)
        .unwrap()
        .to_string();
    let workloads = &mut world.workloads;
    workloads.version += 1;
    let version = workloads.version.to_string();
    match deed {
        Deed::Create => {
            workloads.all.entry(name.clone()).or_default().version = version;
            workloads.meddled.insert(name, now);
            return;
        }
        Deed::Delete => {
            workloads.all.remove(&name);
            workloads.restarted.remove(&name);
            return;
        }
        _ => {}
    }
    let Some(workload) = workloads.all.get_mut(&name) else {
        return;
    };
    workload.version = version;
    match deed {
        Deed::Undo => {
            workload.annotations.remove(RESTARTED_AT);
        }
        Deed::Edit(is_time) => {
            let text = if is_time { far } else { "nonsense".to_owned() };
            workload.annotations.insert(RESTARTED_AT.to_owned(), text);
        }
        Deed::Rereads(reads) => {
            workload
                .annotations
                .insert(REREADS.to_owned(), reads.to_string());
        }
        _ => return,
    }
    workloads.meddled.insert(name, now);
}

/// Reads a workload for the operator.
pub fn read(world: &mut World, by: &Key, name: &str) -> Result<Option<Workload>, Refused> {
    if world.workloads.refusal == Refusal::Reads {
        waive(world, by, name);
        return Err(Refused::Forbidden);
    }
    let found = world.workloads.all.get(name).cloned();
    let rereads = |it: &Workload| it.annotations.get(REREADS).is_some_and(|it| it == "true");
    if found.as_ref().is_none_or(rereads) {
        waive(world, by, name);
    }
    Ok(found)
}

/// Restarts a workload for the operator.
pub fn restart(
    world: &mut World,
    by: &Key,
    (name, version, at): (&str, &str, Timestamp),
) -> Result<Workload, Refused> {
    if world.workloads.refusal != Refusal::Nothing {
        waive(world, by, name);
        return Err(Refused::Denied);
    }
    let Some(found) = world.workloads.all.get(name).cloned() else {
        waive(world, by, name);
        return Err(Refused::NotFound);
    };
    if found.version != version {
        return Err(Refused::Conflict);
    }
    let checked = may_restart(world, by, name, &found);
    world.check(checked);
    let (now, jumped) = (world.now, world.jumped);
    let workloads = &mut world.workloads;
    workloads.version += 1;
    let version = workloads.version.to_string();
    let workload = workloads.all.get_mut(name).expect("just found");
    workload.version = version;
    workload
        .annotations
        .insert(RESTARTED_AT.to_owned(), at.to_string());
    let restarted = workload.clone();
    workloads.restarted.insert(name.to_owned(), (now, jumped));
    for stored in workloads.stored.values_mut() {
        stored.owed.remove(name);
    }
    Ok(restarted)
}

fn token_of<'a>(world: &'a World, by: &Key) -> Option<&'a AcsToken> {
    world.cluster.tokens.get(&by.name)
}

/// Records that a workload cannot be restarted for the token, which the status reports.
fn waive(world: &mut World, by: &Key, name: &str) {
    if let Some(uid) = token_of(world, by).and_then(ResourceExt::uid)
        && let Some(stored) = world.workloads.stored.get_mut(&uid)
    {
        stored.owed.remove(name);
    }
}

/// K5: checks that a restart is at least five minutes after another, has a cause, and is needed by
/// the pods.
fn may_restart(world: &World, by: &Key, name: &str, found: &Workload) -> Checked {
    let workloads = &world.workloads;
    let rereads = found
        .annotations
        .get(REREADS)
        .is_some_and(|it| it == "true");
    if rereads {
        return Err(format!(
            "{by} restarts {name}, whose pods read the Secret again"
        ));
    }
    if let Some((at, jumped)) = workloads.restarted.get(name) {
        let meddled = workloads.meddled.get(name).is_some_and(|it| it >= at);
        let forgot = world.truth.restarted.is_some_and(|it| it >= *at);
        let is_known = world.jumped == *jumped && !(meddled && forgot);
        // The annotation has whole seconds.
        if is_known && world.now - at < INTERVAL - 1000 {
            let ago = world.now - at;
            return Err(format!("K5: {by} restarts {name} again after {ago} ms"));
        }
    }
    let uid = token_of(world, by).and_then(ResourceExt::uid);
    let stored = uid.and_then(|uid| workloads.stored.get(&uid));
    let due = stored.and_then(|stored| stored.pending.get(name));
    if let (Some((_, told)), Some((at, jumped))) = (due, workloads.restarted.get(name)) {
        // The restart is in a later second.
        let is_done = *at >= told + 1000 && world.jumped == *jumped;
        let meddled = workloads.meddled.get(name).is_some_and(|it| it >= at);
        if is_done && !meddled {
            return Err(format!("{by} restarts {name} twice for one cause"));
        }
    }
    let status = token_of(world, by).and_then(|token| token.status.as_ref());
    let mut told = status
        .into_iter()
        .flat_map(|status| &status.rollout_restarts);
    let is_told = told.any(|told| told.name == name && told.pending.is_some());
    if is_told || status.is_none() || !is_all_told(world) || world.truth.unanswered.is_some() {
        return Ok(());
    }
    Err(format!(
        "{by} restarts {name} before its status tells that this is due"
    ))
}

/// K5: checks that a pending restart has a cause that the pods cannot see themselves.
fn is_caused(world: &World, object: &AcsToken, name: &str) -> Checked {
    let target = object.rollout_restarts().find(|target| target.name == name);
    let Some(target) = target else {
        return Err(format!("a restart of {name} is due, which nobody names"));
    };
    let stored = world
        .workloads
        .stored
        .get(&object.uid().unwrap_or_default());
    let Some((stored, known)) = stored.and_then(|it| Some((it, it.known.get(name)?))) else {
        return Err(format!("a restart of {name} is due for the first token"));
    };
    // Reported before the operator knew that etcd was restored: about a token that is no longer in
    // the Secret.
    if known.tokens == 0 && world.truth.rewound.is_some() {
        return Ok(());
    }
    // The token that existed before, and all later ones.
    let since = stored.texts.get(known.tokens.saturating_sub(1)..);
    let since = since.unwrap_or_default();
    let may_be_dead = |text: &String| {
        let mut all = world.service.tokens();
        !all.any(|token| token.text == *text && token.revoked.is_none())
    };
    let replaces_one = |text: &String| {
        let mut all = world.service.tokens();
        let found = all.find(|token| token.text == *text);
        // After the identity was deleted, nothing shows whether the former token belonged to the
        // same one.
        let reasons = ["Unsettled", "CredentialRefused", "First"];
        found.is_some_and(|token| reasons.contains(&token.why))
    };
    let is_new = since.len() > 1;
    let is_renewal = target.after == Some(RestartAfter::Renewal);
    let is_caused = known.names != names(object)
        || is_new
            && (is_renewal
                || since.iter().any(may_be_dead)
                || since.iter().skip(1).any(replaces_one));
    if is_caused {
        return Ok(());
    }
    Err(format!("K5: a restart of {name} is due without a cause"))
}

/// Restores the state of a backup: later changes require no restart.
pub fn rewind(world: &mut World, stored: BTreeMap<String, Stored>) {
    world.workloads.stored = stored;
    for stored in world.workloads.stored.values_mut() {
        stored.owed.clear();
    }
}

/// Records that a token was restored with another UID, with its status.
pub fn came_back(world: &mut World, lost: &str, back: &str) {
    if let Some(mut stored) = world.workloads.stored.remove(lost) {
        stored.owed.clear();
        world.workloads.stored.insert(back.to_owned(), stored);
    }
}

/// Records a token written to a Secret, and the resulting obligations to the workloads.
pub fn stored(world: &mut World, uid: &str, text: &str) {
    let now = world.now;
    let stored = world.workloads.stored.entry(uid.to_owned()).or_default();
    if stored.texts.iter().any(|known| known == text) {
        return;
    }
    let former = stored.texts.last().cloned();
    stored.texts.push(text.to_owned());
    let is_revoked = former.is_some_and(|former| {
        let mut all = world.service.tokens();
        let found = all.find(|token| token.text == former);
        found.is_some_and(|token| token.revoked == Some(Revoker::Operator))
    });
    let mut all = world.cluster.tokens.values();
    let object = all.find(|it| it.uid().as_deref() == Some(uid));
    let named = object.into_iter().flat_map(AcsToken::rollout_restarts);
    let named: Vec<_> = named.map(|it| it.name.clone()).collect();
    let stored = world.workloads.stored.entry(uid.to_owned()).or_default();
    for name in named.into_iter().filter(|_| is_revoked) {
        if stored.known.contains_key(&name) {
            stored.owed.insert(name, now);
        }
    }
}

/// Records that the status of a token was written.
pub fn told(world: &mut World, former: Option<&AcsToken>, object: &AcsToken) {
    let restarts = |object: &AcsToken| -> Vec<RolloutRestartStatus> {
        let status = object.status.clone().unwrap_or_default();
        status.rollout_restarts
    };
    let (before, told) = (former.map(restarts).unwrap_or_default(), restarts(object));
    let is_due = |all: &[RolloutRestartStatus], name: &str| {
        let mut all = all.iter();
        all.any(|it| it.name == name && it.pending.is_some())
    };
    for restart in &told {
        if is_due(&told, &restart.name) && !is_due(&before, &restart.name) {
            let checked = is_caused(world, object, &restart.name);
            world.check(checked);
        }
    }
    let Some(uid) = object.uid() else {
        return;
    };
    let now = world.now;
    let stored = world.workloads.stored.entry(uid).or_default();
    let pending: BTreeMap<_, _> = told
        .iter()
        .filter_map(|it| Some((it.name.clone(), it.pending.clone()?)))
        .map(|(name, pending)| {
            let former = stored.pending.get(&name).filter(|it| it.0 == pending);
            let since = former.map_or(now, |it| it.1);
            (name, (pending, since))
        })
        .collect();
    stored.pending = pending;
    let is_told = |name: &String| told.iter().any(|it| it.name == *name);
    stored.known.retain(|name, _| is_told(name));
    stored.owed.retain(|name, _| is_told(name));
    for restart in told {
        let known = Known {
            told: (restart.revision, restart.secret),
            tokens: stored.texts.len(),
            names: names(object),
        };
        let former = stored.known.get(&restart.name);
        if former.is_none_or(|former| former.told != known.told) {
            stored.known.insert(restart.name, known);
        }
    }
}

/// Whether a restart is pending.
pub fn is_one_due(status: &AcsTokenStatus) -> bool {
    status
        .rollout_restarts
        .iter()
        .any(|it| it.pending.is_some())
}

/// Checks the final state: nothing is owed, and nothing waits forever.
pub fn at_the_end(world: &World, object: &AcsToken) -> Checked {
    let name = object.name_any();
    let secret = world.cluster.secrets.get(&object.secret_name());
    if secret.is_some_and(|secret| secret.immutable == Some(true)) {
        // The token cannot be issued as specified, and nothing is restarted before.
        return Ok(());
    }
    let status = object.status.clone().unwrap_or_default();
    let is_late = |told: &RolloutRestartStatus| {
        let pending = told.pending.as_ref();
        pending.is_some_and(|pending| {
            world.local().as_millisecond() - pending.since.0.as_millisecond() > INTERVAL + 30_000
        })
    };
    if let Some(late) = status.rollout_restarts.iter().find(|it| is_late(it)) {
        return Err(format!(
            "AcsToken {name} still waits for a restart of {}",
            late.name
        ));
    }
    let stored = world
        .workloads
        .stored
        .get(&object.uid().unwrap_or_default());
    let owed = stored.into_iter().flat_map(|stored| &stored.owed);
    for (workload, since) in owed {
        let is_pending = status
            .rollout_restarts
            .iter()
            .any(|told| told.name == *workload && told.pending.is_some());
        if !is_pending {
            return Err(format!(
                "AcsToken {name} was made anew after a revocation {} ms ago, and {workload} is never restarted",
                world.now - since
            ));
        }
    }
    Ok(())
}
