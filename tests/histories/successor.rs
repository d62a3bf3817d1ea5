//! A second process of the operator: it takes over by the Lease, and the former one goes on later, or
//! ends its calls first. The check of the claim, and the error of a call without it, are the shipped code.

use std::{cell::RefCell, rc::Rc, sync::OnceLock, time::Duration, time::Instant};

use acs_identity_operator::{acs::Kind as Wrong, acs::Outcome, engine::Claim};

use crate::{
    cluster::Refused,
    history::History,
    operator::Operator,
    service::{Failure, Millis},
    world::{BEGIN, Message, Reply, State, World},
};

/// A leader that can't renew the Lease for so long begins nothing any more.
const RENEW_DEADLINE: Millis = 10_000;
/// Another process leads after so long.
const DURATION: Millis = 15_000;
/// A process that stops ends its calls within this.
const DRAIN: Millis = 30_000;
/// More steps than what ends needs.
const MOST_STEPS: usize = 2000;

/// How a process comes to follow another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Succession {
    /// The former one is frozen, and goes on when the next one has begun its work.
    Frozen,
    /// The former one has lost the API server and not ACS, and does what it still may.
    Cut,
    /// The former one is asked to stop.
    Stopped,
}

/// The Lease.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// The number of the process that holds it.
    pub holder: u64,
    /// When it was renewed last.
    pub renewed: Millis,
}

/// A moment of the world by a monotonic clock.
pub fn instant(at: Millis) -> Instant {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let began = *BEGAN.get_or_init(Instant::now);
    began + Duration::from_millis((at - BEGIN).cast_unsigned())
}

/// The holder renews the Lease, and with it its claim.
pub fn renew(world: &mut World, process: u64, claim: &Claim) {
    if world.lease.holder == process {
        world.lease.renewed = world.now;
        claim.extend(
            instant(world.now + RENEW_DEADLINE),
            instant(world.now + DURATION),
        );
    }
}

/// K2: whether the process may begin an effect now, by what the Lease says and not by what it thinks.
pub fn check(world: &World, process: u64) -> Result<(), String> {
    let Lease { holder, renewed } = world.lease;
    if holder == process && world.now < renewed + RENEW_DEADLINE {
        return Ok(());
    }
    Err(format!(
        "K2: process {process} begins an effect without a claim; {holder} leads"
    ))
}

/// Another process takes over.
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

/// Everything goes on but the API server, as the former process sees it, and the Lease.
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

/// The calls that the process waits for, and what it will be told of them: the answer that has come
/// meanwhile, or that none has.
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

/// The former process goes on as if nothing had happened: it hears its answers, and whatever it wants
/// to do with them it must not begin.
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
        // What it reads it is not told, as a process that has lost the network.
        for read in calls.extract_if(.., |call| !of_next.contains(&call.id)) {
            replies.insert(read.id, no_answer(&read.message));
        }
    }
}

/// The former process begins nothing, ends and records its calls, and releases the Lease.
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
        // It is killed, and the Lease runs out.
        pass(&history.world, DURATION);
    }
    history.operator.crash(fates);
}
