//! Exhaustive search of small worlds: an identity, two tokens and one user action, in every order
//! that differs from the usual one in a limited number of places, with every crash and every lost
//! answer.

use std::fmt::Write as _;

use crate::{
    events::{Edit, Event, Setup},
    history::History,
    rest,
    service::Millis,
    world::{BEGIN, Fault},
};

/// Number of places where the order differs, unless `DEVIATIONS` sets another.
const DEVIATIONS: usize = 1;
/// Time after which nothing is disturbed: everything has settled by then.
const HORIZON: Millis = 60_000;

/// Deviation of a history from the usual one, at one step.
#[derive(Clone, Copy, Debug)]
enum Deviation {
    /// Another step happens first.
    Order(usize),
    /// The process crashes; its calls in flight arrive or not.
    Crash(u8),
    /// The next call to ACS is executed, and its answer is lost.
    LostAnswer,
    /// The next write to the API server gets no answer; done or not.
    LostWrite { done: bool },
}

/// Result of a run: the violated invariant, and the number of possible steps at each step.
struct Played {
    broken: Option<String>,
    choices: Vec<usize>,
}

#[test]
fn no_small_world_breaks_an_invariant() {
    let number = std::env::var("DEVIATIONS").ok();
    let most = number.and_then(|text| text.parse().ok());
    let most = most.unwrap_or(DEVIATIONS);
    let narrowed = Event::Edit(0, Edit::Scopes(0));
    let scenarios: [&[Event]; 6] = [
        &[],
        &[Event::Settle, narrowed],
        &[Event::Settle, Event::Revocation(0)],
        &[Event::Settle, narrowed, Event::Revocation(0)],
        &[Event::Settle, Event::DeleteIdentity(0)],
        &[Event::Settle, Event::DeleteToken(0)],
    ];
    let mut played = 0;
    for knows_custom_id in [false, true] {
        let setup = Setup {
            knows_custom_id,
            ..Setup::default()
        };
        for scenario in scenarios {
            let mut plan = Vec::new();
            search(setup, scenario, &mut plan, most, &mut played);
        }
    }
    println!("{played} histories with up to {most} deviations");
    assert!(played > 100, "nothing was searched: {played}");
}

/// Runs the plan, and all variants that deviate later in further places, up to this many.
fn search(
    setup: Setup,
    scenario: &[Event],
    plan: &mut Vec<(usize, Deviation)>,
    left: usize,
    played: &mut u64,
) {
    let outcome = play(setup, scenario, plan, false);
    *played += 1;
    if let Some(broken) = outcome.broken {
        panic!("{broken}\n{}", tell(setup, scenario, plan));
    }
    if left == 0 {
        return;
    }
    let from = plan.last().map_or(0, |(place, _)| place + 1);
    for (place, choices) in outcome.choices.iter().enumerate().skip(from) {
        let orders = (1..*choices).map(Deviation::Order);
        let faults = [
            Deviation::Crash(0),
            Deviation::Crash(255),
            Deviation::LostAnswer,
            Deviation::LostWrite { done: false },
            Deviation::LostWrite { done: true },
        ];
        for deviation in orders.chain(faults) {
            plan.push((place, deviation));
            search(setup, scenario, plan, left - 1, played);
            plan.pop();
        }
    }
}

fn play(setup: Setup, scenario: &[Event], plan: &[(usize, Deviation)], with_story: bool) -> Played {
    let mut history = History::begin(setup, with_story);
    for event in scenario {
        history.apply(*event);
    }
    let mut plan = plan.iter().peekable();
    let mut choices = Vec::new();
    while !history.is_broken() {
        let count = history.operator.choices();
        if count == 0 && !history.pass_to_next_moment(BEGIN + HORIZON) {
            break;
        }
        let deviation = plan.next_if(|(place, _)| *place == choices.len());
        choices.push(count);
        history.deviate(deviation.map(|(_, deviation)| *deviation));
    }
    if !history.is_broken() {
        rest::conclude(&mut history);
    }
    let mut world = history.world.borrow_mut();
    if let Some(story) = world.story.take() {
        for line in story {
            println!("{line}");
        }
    }
    Played {
        broken: world.broken.take(),
        choices,
    }
}

impl History {
    fn deviate(&mut self, deviation: Option<Deviation>) {
        match deviation {
            Some(Deviation::Order(choice)) => {
                self.operator.step(choice);
                return;
            }
            Some(Deviation::Crash(fates)) => self.apply(Event::Crash(fates)),
            Some(Deviation::LostAnswer) => self.apply(Event::Fault(Fault::LostAnswer)),
            Some(Deviation::LostWrite { done }) => self.apply(Event::ApiFault { done }),
            None => {}
        }
        self.operator.step(0);
    }

    /// Lets time pass until something happens by itself, if that is before `latest`.
    fn pass_to_next_moment(&mut self, latest: Millis) -> bool {
        let next = self.operator.next_moment().filter(|next| *next < latest);
        if let Some(next) = next {
            self.world.borrow_mut().pass_to(next);
        }
        next.is_some()
    }
}

fn tell(setup: Setup, scenario: &[Event], plan: &[(usize, Deviation)]) -> String {
    play(setup, scenario, plan, true);
    let mut text = format!("{setup:?}\n{scenario:?}\n");
    for (place, deviation) in plan {
        let _ = writeln!(text, "  at step {place}: {deviation:?}");
    }
    text
}
