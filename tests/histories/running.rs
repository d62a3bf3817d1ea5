//! Invariants while everything runs: truthful statuses, and bounded cost.

use acs_identity_operator::crd::is_ready;
use kube::{Resource, ResourceExt};

use crate::{
    history::History,
    rest::is_truly_ready,
    service::Millis,
    world::{BEGIN, Key, World},
};

/// Maximum time for which a Ready condition may be wrong after the world has changed.
const UNTRUE: Millis = 10_000;
/// Maximum interval of retries after an admission denial.
pub const DENIED: Millis = 60_000;
/// Maximum time for which a status may describe a former generation.
const STALE: Millis = 30_000;
/// Calls and writes of one object that are allowed initially, and for each event.
const AT_FIRST: u64 = 40;
const PER_EVENT: u64 = 14;
/// Calls and writes of one object that are allowed in each span of time: a renewal, a repair, or a
/// retry.
const PER_SPAN: u64 = 4;

/// Statement that is wrong now, and the maximum time that it may be.
struct Untrue {
    uid: String,
    about: &'static str,
    limit: Millis,
    why: String,
}

/// Checks all statuses at this instant.
pub fn check(history: &History) {
    let mut world = history.world.borrow_mut();
    let now = world.now;
    let is_held = history.operator.held.iter().any(|until| *until > now);
    let is_deaf = is_held || world.is_api_down || world.cluster.denies_ours;
    let truth = &world.truth;
    // A lost write is repeated as late as one whose answer was lost.
    let heard = [
        truth.restarted,
        truth.unanswered,
        truth.lost,
        is_deaf.then_some(now),
    ];
    let heard = heard.into_iter().flatten().max().unwrap_or(0);
    let heard = heard.max(truth.came_back).max(truth.stood_still);
    let heard = heard.max(truth.denied_until);
    let former = std::mem::take(&mut world.truth.untrue_since);
    for untrue in untrue(&world) {
        let key = (untrue.uid, untrue.about);
        let since = former.get(&key).copied().unwrap_or(now);
        world.truth.untrue_since.insert(key, since);
        let lasted = now - since.max(heard);
        if lasted > untrue.limit {
            world.break_with(format!("honesty: {}; for {lasted} ms", untrue.why));
        }
    }
}

fn untrue(world: &World) -> Vec<Untrue> {
    let cluster = &world.cluster;
    let mut found = Vec::new();
    for token in cluster.tokens.values() {
        let status = token.status.as_ref();
        if status.is_some_and(|status| is_ready(&status.conditions))
            && let Err(why) = is_truly_ready(world, token)
        {
            let (uid, about, limit) = (token.uid().unwrap_or_default(), "Ready", UNTRUE);
            found.push(Untrue {
                uid,
                about,
                limit,
                why,
            });
        }
    }
    macro_rules! stale {
        ($($objects:expr),*) => {$(
            for object in $objects.values() {
                let told = object.status.as_ref();
                found.extend(stale(object, told.and_then(|status| status.observed_generation)));
            }
        )*};
    }
    stale!(
        cluster.tokens,
        cluster.identities,
        cluster.connections,
        cluster.global_connections
    );
    found
}

fn stale<K: Resource<DynamicType = ()>>(object: &K, told: Option<i64>) -> Option<Untrue> {
    let meta = object.meta();
    let is_stale = told != meta.generation && meta.deletion_timestamp.is_none();
    is_stale.then(|| Untrue {
        uid: object.uid().unwrap_or_default(),
        about: "generation",
        limit: STALE,
        why: format!(
            "{} {} is at generation {:?} and tells of {told:?}",
            K::kind(&()),
            object.name_any(),
            meta.generation
        ),
    })
}

/// K5: records a call to ACS or a write of the object.
pub fn spend(world: &mut World, by: &Key) {
    let spent = world.truth.spent.entry(by.clone()).or_default();
    *spent += 1;
    let spent = *spent;
    let span = if world.is_fast { 20_000 } else { 60_000 };
    let spans = u64::try_from((world.now - BEGIN) / span).unwrap_or(0);
    let most = AT_FIRST + PER_EVENT * world.truth.events + PER_SPAN * spans;
    if spent > most {
        let events = world.truth.events;
        world.break_with(format!(
            "K5: {by} has made {spent} calls and writes after {events} events and {spans} spans"
        ));
    }
}
