//! Regression tests: histories that a search found, whose violations are fixed.

use crate::{
    events::{
        Edit,
        Event::{
            self, ApiDown, Busy, Crash, DeleteIdentity, DenyOurs, DropKey, Edit as Edited, Pod,
            Regenerate, RequestRevocation, Secret, ServiceDown, Settle, Step, Steps,
            StripFinalizer, SuspendIdentity, Wait,
        },
        Meddling, Setup,
    },
    history,
    pods::{PodDeed, Use},
};

fn holds(setup: Setup, events: &[Event]) {
    let broken = history::happen(setup, events, false).broken;
    assert_eq!(broken, None, "{setup:?} {events:?}");
}

/// Setup with a token of a Teams user, who is signed in.
const TEAMS: Setup = Setup {
    knows_custom_id: false,
    is_shared: false,
    is_fast: false,
    is_stingy: false,
    is_of_cluster: false,
    local_offset: 0,
    service_offset: 0,
    policies: 128,
};

/// K5: the answers for one credential contradict each other, are cached because no status can be
/// written, and were treated as changes by each reconcile.
#[test]
fn answers_that_cannot_be_recorded_do_not_wake_each_other() {
    holds(
        TEAMS,
        &[
            Steps(4, 134),
            Steps(23, 21),
            Steps(19, 89),
            Regenerate,
            DenyOurs(true),
            Settle,
        ],
    );
}

/// K4: a suspended token of a former credential expires; its connection did not count again.
#[test]
fn a_connection_counts_anew_when_a_token_of_a_former_credential_ends() {
    let setup = Setup {
        is_shared: true,
        ..TEAMS
    };
    holds(
        setup,
        &[
            Wait(3600),
            DeleteIdentity(0),
            Steps(16, 5),
            DropKey,
            Edited(3, Edit::Suspend(true)),
            Crash(52),
        ],
    );
}

/// R3: the service's clock steps back after a revocation, and everything is revoked again with the
/// earlier time.
#[test]
fn a_revocation_after_the_clock_stepped_back_forgets_none_before() {
    holds(
        TEAMS,
        &[
            Wait(1),
            Settle,
            Edited(0, Edit::Scopes(2)),
            Wait(3),
            Step(-60),
            RequestRevocation(0),
            Settle,
            Settle,
        ],
    );
}

/// I6: someone removes the finalizer, and the object is deleted at any moment of its creation.
#[test]
fn an_identity_whose_object_goes_while_it_is_created_is_deleted() {
    for steps in 1..24 {
        holds(
            Setup::default(),
            &[
                Steps(steps, 0),
                DeleteIdentity(0),
                StripFinalizer(0),
                Settle,
            ],
        );
    }
}

/// Honesty: the spec of a token that failed once changes while it waits for its turn.
#[test]
fn a_token_that_waits_tells_that_it_has_seen_its_spec() {
    let setup = Setup {
        is_shared: true,
        ..Setup::default()
    };
    holds(
        setup,
        &[
            Regenerate,
            Settle,
            Busy(90),
            Edited(0, Edit::ExpiresIn(1)),
            Crash(0),
            Wait(41),
        ],
    );
}

/// Honesty: the same for an identity that waits to revoke.
#[test]
fn an_identity_that_waits_to_revoke_tells_that_it_has_seen_its_spec() {
    holds(
        Setup::default(),
        &[
            Settle,
            Wait(3),
            Busy(90),
            RequestRevocation(0),
            Settle,
            SuspendIdentity(0, true),
            Wait(60),
        ],
    );
}

/// I3, K4: the answer to a token's call could not be recorded, because the API server was down. The
/// deletion of its identity waited for that beyond its deadline, 50 times a second.
#[test]
fn a_deletion_does_not_wait_for_a_token_beyond_its_deadline() {
    let setup = Setup {
        knows_custom_id: false,
        is_shared: true,
        local_offset: 3600,
        policies: 48,
        ..Setup::default()
    };
    holds(
        setup,
        &[
            ServiceDown(true),
            Settle,
            Edited(0, Edit::Scopes(2)),
            Steps(4, 0),
            DeleteIdentity(0),
            ApiDown(true),
            Wait(180),
        ],
    );
}

/// The pods of a Secret that cannot be changed were not counted.
#[test]
fn the_pods_of_an_immutable_secret_are_counted() {
    holds(
        TEAMS,
        &[
            Wait(1),
            Pod(0, PodDeed::Replace(15, Use::Variable)),
            Secret(4, Meddling::MakeImmutable),
        ],
    );
}
