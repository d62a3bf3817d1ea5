//! Second process of the operator: it takes over by the Lease, while the former one resumes later,
//! or finishes its calls first. The check of the claim, and the error of a call without it, are the
//! shipped code.

use std::{cell::RefCell, rc::Rc, sync::OnceLock, time::Duration, time::Instant};

use acs_identity_operator::{acs::Kind as Wrong, acs::Outcome, engine::Claim};

use crate::{
    cluster::Refused,
    history::History,
    operator::Operator,
    service::{Failure, Millis},
    world::{BEGIN, Message, Reply, State, World},
};

/// Time after which a leader that cannot renew the Lease begins no further call.
const RENEW_DEADLINE: Millis = 10_000;
/// Duration of the Lease, after which another process leads.
const DURATION: Millis = 15_000;
/// Time within which a stopping process finishes its calls.
const DRAIN: Millis = 30_000;
/// Maximum number of steps; a process needs fewer to finish.
const MOST_STEPS: usize = 2000;

/// Way in which one process succeeds another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Succession {
    /// The former process is frozen, and resumes after the next one has begun its work.
    Frozen,
    /// The former process has lost the API server but not ACS, and does what it still may.
    Cut,
    /// The former process is asked to stop.
    Stopped,
}

/// Lease.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// Number of the process that holds it.
    pub holder: u64,
    /// Time of the last renewal.
    pub renewed: Millis,
}

/// Converts a time of the world to a monotonic instant.
pub fn instant(at: Millis) -> Instant {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let began = *BEGAN.get_or_init(Instant::now);
    began + Duration::from_millis((at - BEGIN).cast_unsigned())
}

/// Renews the Lease of the holder, and with it its claim.
pub fn renew(world: &mut World, process: u64, claim: &Claim) {
    if world.lease.holder == process {
        world.lease.renewed = world.now;
        claim.extend(
            instant(world.now + RENEW_DEADLINE),
            instant(world.now + DURATION),
        );
    }
}

/// K2: checks that the process may begin an effect now, according to the Lease and not to its own
/// state.
pub fn check(world: &World, process: u64) -> Result<(), String> {
    let Lease { holder, renewed } = world.lease;
    if holder == process && world.now < renewed + RENEW_DEADLINE {
        return Ok(());
    }
    Err(format!(
        "K2: process {process} begins an effect without a claim; {holder} leads"
    ))
}

/// Lets another process take over.
pub fn take_over(history: &mut History, how: Succession, fates: u8) {
    match how {
        Succession::Frozen => pass(&history.world, DURATION),
        Succession::Cut => be_cut(history),
        Succession::Stopped => return stop(history, fates),
    }
    let outstanding = outstanding(&history.world);
    let mut world = history.world.borrow_mut();
    world.lose_calls(fates);
    world.truth.restarted = Some(world.now);
    world.truth.came_back = world.truth.came_back.max(world.now);
    drop(world);
    let next = Operator::start(&history.world);
    let former = std::mem::replace(&mut history.operator, next);
    for _ in 0..fates % 16 {
        if history.is_broken() || !history.operator.step(0) {
            break;
        }
    }
    go_on(former, outstanding, &history.world);
}

/// Continues everything except the API server, as seen by the former process, and the Lease.
fn be_cut(history: &mut History) {
    let was_down = std::mem::replace(&mut history.world.borrow_mut().is_api_down, true);
    history.operator.renews = false;
    let until = history.world.borrow().now + DURATION;
    loop {
        for _ in 0..MOST_STEPS {
            if history.is_broken() || !history.operator.step(0) {
                break;
            }
        }
        let next = history.operator.next_moment();
        let Some(next) = next.filter(|next| *next < until && !history.is_broken()) else {
            break;
        };
        history.world.borrow_mut().pass_to(next);
    }
    let mut world = history.world.borrow_mut();
    world.is_api_down = was_down;
    world.pass_to(until);
}

fn pass(world: &Rc<RefCell<World>>, span: Millis) {
    let mut world = world.borrow_mut();
    let then = world.now + span;
    world.pass_to(then);
}

/// Returns the calls that the process waits for, with their later results: the answer that arrived
/// meanwhile, or none.
fn outstanding(world: &Rc<RefCell<World>>) -> Vec<(u64, Reply)> {
    let world = world.borrow();
    let replies = world.calls.iter().map(|call| {
        let reply = match &call.state {
            State::Answered(reply) => reply.clone(),
            _ => no_answer(&call.message),
        };
        (call.id, reply)
    });
    replies.collect()
}

fn no_answer(to: &Message) -> Reply {
    match to {
        Message::Api(_) => Reply::Api(Err(Refused::NoAnswer)),
        Message::Acs(..) => {
            let lost = Failure::new(Wrong::NoAnswer, Outcome::Unknown);
            Reply::Acs(Err(lost), None)
        }
    }
}

/// Resumes the former process as if nothing had happened: it receives its answers, but must not
/// begin any effect.
fn go_on(mut former: Operator, outstanding: Vec<(u64, Reply)>, world: &Rc<RefCell<World>>) {
    world
        .borrow_mut()
        .tell(|| "the former process goes on".to_owned());
    world.borrow_mut().replies.extend(outstanding);
    let of_next: Vec<u64> = world.borrow().calls.iter().map(|call| call.id).collect();
    for _ in 0..20 {
        former.go_on();
        let mut world = world.borrow_mut();
        let World { calls, replies, .. } = &mut *world;
        // It receives no answers to its reads, as a process without network.
        for read in calls.extract_if(.., |call| !of_next.contains(&call.id)) {
            replies.insert(read.id, no_answer(&read.message));
        }
    }
}

/// Stops the former process: it begins nothing, finishes and records its calls, and releases the
/// Lease.
fn stop(history: &mut History, fates: u8) {
    let until = history.world.borrow().now + DRAIN;
    history.operator.stop();
    loop {
        for _ in 0..MOST_STEPS {
            if history.is_broken() || !history.operator.step(usize::from(fates)) {
                break;
            }
        }
        if history.operator.is_stopped() || history.is_broken() {
            break;
        }
        let next = history.operator.next_moment();
        let Some(next) = next.filter(|next| *next < until) else {
            break;
        };
        history.world.borrow_mut().pass_to(next);
    }
    if !history.operator.is_stopped() {
        // It is killed, and the Lease expires.
        pass(&history.world, DURATION);
    }
    history.operator.crash(fates);
}
