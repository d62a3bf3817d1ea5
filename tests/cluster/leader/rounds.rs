//! Repeated disturbances of the leader while tokens are created. `LEADER_ROUNDS` is the number of
//! disturbances (`make test-leader`: 50), `LEADER_TOKENS` the number of tokens that are created in
//! a round.

use super::{
    Duration, Instant, Network, Replica, SHORT, Sum, is_served, load, number, settle, slow_world,
    wrote,
};

/// Disturbance of the leader.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Disturbance {
    /// SIGKILL.
    Kill,
    /// SIGTERM.
    Stop,
    /// SIGSTOP until another process leads, then SIGCONT.
    Freeze,
    /// Its network to the API server silently drops everything.
    Cut,
}

/// Disturbs the leader in every round; returns the totals.
async fn rounds(disturbance: Disturbance) -> Sum {
    let world = slow_world().await;
    let mut leader = Replica::start(&world, &SHORT).await;
    leader.leads();
    let mut accounts = vec![leader.account.clone()];
    let tokens = number("LEADER_TOKENS", 20);
    for round in 0..number("LEADER_ROUNDS", 2) {
        let mut next = Replica::start(&world, &SHORT).await;
        next.says("standby: ").await;
        load(&world, round, tokens);
        // A moment within the work, a different one in each round.
        let moment = Duration::from_millis(u64::try_from(round * 137 % 600).expect("few"));
        tokio::time::sleep(moment).await;
        disturb(disturbance, &mut leader, &mut next).await;
        let (last, first) = (leader.acs.last_sent(), next.acs.first_sent());
        let of_both = last.zip(first);
        assert!(
            of_both.is_none_or(|(last, first)| last < first),
            "round {round}: {of_both:?}"
        );
        accounts.push(next.account.clone());
        leader = next;
        is_served(&world, round, tokens);
    }
    world.emulator.heal().await;
    let sum = settle(&world).await;
    sum.is_counted();
    let wrote: Vec<_> = accounts.iter().filter_map(|it| wrote(&world, it)).collect();
    assert!(wrote.len() > 1, "no two of {accounts:?} wrote");
    let is_apart = wrote.is_sorted_by(|(_, last), (first, _)| last < first);
    assert!(is_apart, "first and last writes of each: {wrote:?}");
    sum
}

async fn disturb(disturbance: Disturbance, leader: &mut Replica, next: &mut Replica) {
    match disturbance {
        Disturbance::Kill => leader.operator.process.kill(),
        Disturbance::Stop => {
            let status = leader.operator.process.terminate();
            assert!(status.success(), "{}", leader.operator.process.output());
        }
        Disturbance::Freeze => leader.operator.process.signal("STOP"),
        Disturbance::Cut => leader.cluster.set(Network::Silent),
    }
    let began = Instant::now();
    next.leads();
    println!("another leads after {:?}", began.elapsed());
    match disturbance {
        Disturbance::Kill | Disturbance::Stop => {}
        Disturbance::Freeze => {
            leader.operator.process.signal("CONT");
            leader.ends().await;
        }
        Disturbance::Cut => leader.ends().await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_leaves_nothing_that_nobody_counts() {
    let sum = rounds(Disturbance::Kill).await;
    assert!(sum.issued >= sum.objects);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_leader_leaves_nothing_to_do_twice() {
    let sum = rounds(Disturbance::Stop).await;
    assert_eq!((sum.created, sum.unknown), (sum.objects, 0));
    assert_eq!(sum.issued, sum.objects);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_frozen_does_nothing_afterwards() {
    rounds(Disturbance::Freeze).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_the_api_server_does_nothing_once_another_may_lead() {
    rounds(Disturbance::Cut).await;
}
