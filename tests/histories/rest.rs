//! Invariants at rest: temporarily, and at the end.

use std::collections::BTreeSet;

use acs_identity_operator::{
    crd::{
        AcsIdentity, AcsToken, DeletionPolicy, Origin, REQUESTED_AT, Reason, is_ready, ready_reason,
    },
    token::renew_at,
};
use jiff::{SignedDuration, Timestamp};
use kube::{Resource, ResourceExt, runtime::reflector::ObjectRef};

use crate::{
    connection::{self, keys},
    events::{Admission, Event, SignIn},
    history::History,
    invariants::{
        facts_in, is_all_told, is_denied, is_of_former_user_token, is_ours, is_owed, is_suspended,
        with_id,
    },
    operator::{DEADLINE, Operator},
    pods, running,
    service::{Millis, Revoker, Token},
    workloads,
    world::{World, text_in},
};

type Checked = Result<(), String>;

macro_rules! hold {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err(format!($($text)*));
        }
    };
}

/// Maximum wait for ACS that need not be reported.
const QUIET: Millis = 3_100;

/// Checks what every user may rely on when nothing more happens without the passing of time,
/// regardless of hanging calls.
pub fn check(history: &History) {
    let mut world = history.world.borrow_mut();
    let is_deaf = world.is_api_down || world.cluster.denies_ours;
    let is_rest = is_all_told(&world) && !is_deaf && history.operator.is_idle();
    if is_rest {
        let checked = at_rest(&world, &history.operator);
        world.check(checked);
    }
}

fn at_rest(world: &World, operator: &Operator) -> Checked {
    for object in world.cluster.tokens.values() {
        let call = operator
            .context
            .calls
            .stage(&ObjectRef::from_obj(object).into());
        let local = world.local().as_millisecond();
        // A duration across a jump cannot be measured with that clock.
        let has_jumped = world.jumped_at.is_some_and(|at| world.now - at < QUIET);
        let is_moment = call.since().is_some_and(|since| {
            has_jumped || (0..QUIET).contains(&(local - since.as_millisecond()))
        });
        if !is_moment
            && object
                .status
                .as_ref()
                .is_some_and(|s| is_ready(&s.conditions))
        {
            is_truly_ready(world, object)?;
        }
        goes_in_time(world, object, &object.name_any())?;
    }
    for object in world.cluster.identities.values() {
        goes_in_time(world, object, &object.name_any())?;
    }
    Ok(())
}

/// T1, T5: checks that the Secret of a Ready token holds a working token.
pub fn is_truly_ready(world: &World, object: &AcsToken) -> Checked {
    let name = object.name_any();
    let secret = world.cluster.secrets.get(&object.secret_name());
    let Some(secret) = secret.filter(|secret| is_ours(&secret.metadata, object)) else {
        return Err(format!("T5: AcsToken {name} is Ready without its Secret"));
    };
    let text = text_in(secret, "token");
    let Some(token) = text.and_then(|text| world.service.token(&text)) else {
        return Err(format!(
            "T5: AcsToken {name} is Ready with bytes that are no token"
        ));
    };
    let now = world.service_time();
    let late = now - token.expires;
    // Answers are dated in whole seconds, and the estimate of a jumping clock is off by the jump.
    let tolerance = 2_500 + (world.jumped - token.jumped);
    hold!(
        late <= tolerance,
        "T1: AcsToken {name} is Ready with a token that ended {late} ms ago"
    );
    match token.revoked {
        Some(Revoker::Operator) => {
            return Err(format!(
                "T1: AcsToken {name} is Ready with a token that we revoked"
            ));
        }
        Some(Revoker::Straggler) => {
            // The next token is due, and issuing takes this long.
            let status = object.status.as_ref();
            let is_tried = status.is_some_and(|status| status.last_failure.is_some())
                || secret.immutable == Some(true)
                || has_forbidden_label(object)
                || !has_good_credential(world);
            let until = unsettled_until(world, object).map_or(0, Timestamp::as_millisecond);
            hold!(
                now <= until + 3_000 || is_tried || world.jumped > 0,
                "T1, R3: AcsToken {name} is Ready with a token that a lost call revoked"
            );
        }
        Some(Revoker::Stranger) | None => {}
    }
    Ok(())
}

fn unsettled_until(world: &World, object: &AcsToken) -> Option<Timestamp> {
    let identity = world
        .cluster
        .identities
        .get(object.identity_name().unwrap_or_default())?;
    let id = identity.status.as_ref()?.identity_id.as_ref()?;
    let known = with_id(world, id).filter_map(|identity| {
        let status = identity.status.as_ref()?;
        let last = status
            .last_revocation
            .as_ref()
            .and_then(|last| last.unsettled_until.clone());
        let pending = status.pending_revocation.as_ref();
        let pending = pending.and_then(|pending| pending.unsettled_until.clone());
        last.into_iter().chain(pending).map(|until| until.0).max()
    });
    known.max()
}

/// I3: checks that a deleted object is gone in time.
fn goes_in_time<K: Resource>(world: &World, object: &K, name: &str) -> Checked {
    let Some(since) = &object.meta().deletion_timestamp else {
        return Ok(());
    };
    // The time counts by the operator's clock, at the latest from when the process saw the
    // deletion.
    let deleted = since.0.as_millisecond();
    let span = Millis::try_from(DEADLINE.as_millis()).unwrap();
    let again = if world.local_offset < 0 { span } else { 60_000 };
    let found = world
        .truth
        .restarted
        .unwrap_or(0)
        .max(world.truth.came_back)
        + again;
    let late = world.now - (deleted + span).max(found);
    hold!(
        late <= 30_000 || world.jumped > 0,
        "I3: {name} is still there {late} ms after its deadline"
    );
    Ok(())
}

fn has_forbidden_label(object: &AcsToken) -> bool {
    let template = object.spec.secret.as_ref();
    let labels = template.and_then(|secret| secret.labels.as_ref());
    let mut keys = labels.into_iter().flatten().map(|(key, _)| key);
    keys.any(|key| key.contains("argocd"))
}

/// A first key that never worked is tried once more after a restart: no status may disclose it.
fn forgets_a_refusal(world: &World) -> bool {
    let told = connection::status(&world.cluster).refused_credentials;
    let is_told = |first: &str| told.iter().any(|one| one == first);
    let first = world.connection.credential();
    let is_unknown =
        first.is_some_and(|first| !world.service.keys.contains(first) && !is_told(first));
    // After a restart, a rejection is unknown until a call has tried the key.
    let conditions = connection::status(&world.cluster).conditions;
    is_unknown || ready_reason(&conditions) == Some(Reason::CredentialRefused)
}

fn has_good_credential(world: &World) -> bool {
    let takes = |credential| world.service.keys.contains(credential);
    // That the second key must be used instead is only found by the next call.
    let accepted = connection::status(&world.cluster).credential;
    let mut found = world.connection.credentials();
    world.connection.credential().is_some_and(takes)
        || found.any(|one| Some(one) == accepted.as_deref() && takes(one))
}

/// Ends all faults. Then everything must settle by itself, and remain so without further calls.
pub fn conclude(history: &mut History) {
    {
        let mut world = history.world.borrow_mut();
        world.tell(|| "--- all faults end".to_owned());
        world.service.is_down = false;
        world.is_api_down = false;
        world.faults.clear();
        world.api_faults.clear();
        world.cluster.admission = Admission::Open;
        if std::mem::take(&mut world.cluster.denies_ours) {
            world.truth.came_back = world.now;
            world.truth.denied_until = world.now + running::DENIED;
        }
    }
    history.apply(Event::Free);
    history.apply(Event::SignIn(SignIn::For(90_000)));
    let needs_key = !has_good_credential(&history.world.borrow());
    if needs_key {
        let former = history.world.borrow().connection.key.unwrap_or_default();
        let next = (former + 1) % keys().len();
        history.apply(Event::UseKey(u8::try_from(next).unwrap()));
    }
    // A service's clock that has stepped back causes a pause of the same length.
    let stepped = history.world.borrow().stepped;
    history.wait(30 * 60_000 + stepped);
    if history.is_broken() {
        return;
    }
    let checked = at_the_end(&history.world.borrow());
    history.world.borrow_mut().check(checked);
    if !history.is_broken() {
        stays_at_rest(history);
    }
}

/// T3, K4: checks that a restart and reconciling everything cause no calls.
fn stays_at_rest(history: &mut History) {
    const SPAN: Millis = 20_000;
    let costs = |world: &World| (world.cluster.writes, world.truth.calls);
    if is_something_due(&history.world.borrow(), SPAN) || forgets_a_refusal(&history.world.borrow())
    {
        return;
    }
    // Secrets of others are not watched: changes to them are found by the next reconcile.
    history.operator.resync();
    history.settle();
    let before = costs(&history.world.borrow());
    history
        .world
        .borrow_mut()
        .tell(|| "--- at rest: a restart".to_owned());
    history.operator.crash(0);
    history.settle();
    history.operator.resync();
    history.settle();
    let after = costs(&history.world.borrow());
    let mut world = history.world.borrow_mut();
    if after != before {
        world.break_with(format!(
            "T3, K4: a restart at rest cost {before:?} -> {after:?}"
        ));
        return;
    }
    drop(world);
    let former = history.operator.started;
    history.wait(SPAN);
    let runs = history.operator.started - former;
    let mut world = history.world.borrow_mut();
    let objects = world.cluster.objects();
    if costs(&world) != before || runs > objects {
        let after = costs(&world);
        world.break_with(format!(
            "K4: at rest, {SPAN} ms cost {runs} runs of {objects} objects, {before:?} -> {after:?}"
        ));
    }
}

/// Whether a renewal or a retry is due within the span.
fn is_something_due(world: &World, span: Millis) -> bool {
    let local = world.local().as_millisecond();
    let is_failing = world
        .cluster
        .tokens
        .values()
        .filter_map(|token| token.status.as_ref())
        .any(|status| status.last_failure.is_some() || workloads::is_one_due(status));
    let is_unsure = world
        .cluster
        .identities
        .values()
        .filter_map(|identity| identity.status.as_ref())
        .any(|status| status.last_failure.is_some());
    let is_due = world.cluster.tokens.values().any(|object| {
        let secret = world.cluster.secrets.get(&object.secret_name());
        let record = secret.and_then(facts_in);
        record.is_some_and(|record| renew_at(object, &record).as_millisecond() <= local + 2 * span)
    });
    is_failing
        || is_unsure
        || is_due
        || world
            .connection
            .is_first_key_unknown(&connection::status(&world.cluster))
}

fn at_the_end(world: &World) -> Checked {
    for object in world.cluster.identities.values() {
        let name = object.name_any();
        let is_deleted = object.metadata.deletion_timestamp.is_some();
        hold!(!is_deleted, "I3: AcsIdentity {name} is still being deleted");
        if is_out_of_reach(world, object) {
            continue;
        }
        let status = object.status.clone().unwrap_or_default();
        let is_suspended = object.spec.suspend == Some(true);
        let reason = ready_reason(&status.conditions);
        let is_denied_identity = world.is_denied_identity(object);
        hold!(
            is_denied_identity == status.denied_since.is_some(),
            "AcsIdentity {name} is denied since {:?} in the end, and says {reason:?}",
            status.denied_since
        );
        let is_refused = matches!(reason, Some(Reason::PolicyDenied | Reason::IdentityInUse));
        if is_denied_identity || status.identity_id.is_none() && is_refused {
            hold!(
                is_refused,
                "AcsIdentity {name} says {reason:?} in the end although it is denied"
            );
            continue;
        }
        hold!(
            is_suspended == (reason == Some(Reason::Suspended)),
            "AcsIdentity {name} says {reason:?} in the end, suspended or not"
        );
        if is_suspended && status.identity_id.is_none() {
            continue;
        }
        let asked = object.annotations().get(REQUESTED_AT);
        hold!(
            asked.is_none() || asked == status.last_handled_request.as_ref(),
            "AcsIdentity {name} has not obeyed its request in the end"
        );
        hold!(
            is_suspended || is_ready(&status.conditions),
            "I1: AcsIdentity {name} is not Ready in the end: {:?}",
            ready_reason(&status.conditions)
        );
        let is_pending = status.pending_revocation.is_some();
        hold!(
            !is_pending,
            "R3: AcsIdentity {name} has a revocation pending in the end"
        );
    }
    for object in world.cluster.tokens.values() {
        ends_well(world, object)?;
        let status = object.status.as_ref();
        let reason = status.and_then(|status| ready_reason(&status.conditions));
        let name = object.identity_name().unwrap_or_default();
        let identity = world.cluster.identities.get(name);
        let is_lost = identity.is_some_and(|identity| is_out_of_reach(world, identity));
        if reason == Some(Reason::TokenIssued) && !is_lost {
            workloads::at_the_end(world, object)?;
            pods::at_the_end(world, object)?;
        }
    }
    for duty in &world.truth.duties {
        hold!(
            !is_owed(world, &duty.text),
            "R1: {} of {} works although it had to be revoked",
            duty.text,
            duty.uid
        );
    }
    for (id, text) in &world.truth.requested {
        let is_gone = with_id(world, id).next().is_none();
        hold!(
            is_gone || !is_owed(world, text),
            "R1: {text} works although a revocation was asked for"
        );
    }
    for revocation in world.cluster.orders.values() {
        let status = revocation.status.clone().unwrap_or_default();
        let mut open = status.open_targets();
        let left = open.find(|target| {
            let identity = world.cluster.identities.get(&target.name);
            !identity.is_some_and(|identity| is_out_of_reach(world, identity))
        });
        hold!(
            status.completed_at.is_some() || status.started_at.is_some() && left.is_none(),
            "order {} is not done in the end: {left:?}",
            revocation.name_any()
        );
    }
    nothing_is_lost(world)
}

/// Whether the identity in ACS was deleted or moved to another resource by others.
fn is_out_of_reach(world: &World, identity: &AcsIdentity) -> bool {
    let status = identity.status.as_ref();
    let id = status.and_then(|status| status.identity_id.as_ref());
    let identity = id.and_then(|id| world.service.identities.get(id));
    identity.is_some_and(|identity| identity.is_not_owned || identity.is_deleted)
}

fn ends_well(world: &World, object: &AcsToken) -> Checked {
    let name = object.name_any();
    let is_deleted = object.metadata.deletion_timestamp.is_some();
    hold!(!is_deleted, "I3: AcsToken {name} is still being deleted");
    let status = object.status.clone().unwrap_or_default();
    let reason = ready_reason(&status.conditions);
    let ready = is_ready(&status.conditions);
    let identity = world
        .cluster
        .identities
        .get(object.identity_name().unwrap_or_default());
    if identity.is_some_and(|identity| is_out_of_reach(world, identity)) {
        return Ok(());
    }
    let is_current = status.observed_generation == object.metadata.generation;
    hold!(
        is_current,
        "AcsToken {name} tells of generation {:?}",
        status.observed_generation
    );
    let secrets = world.cluster.secrets.values();
    let ours: BTreeSet<_> = secrets
        .filter(|secret| is_ours(&secret.metadata, object))
        .map(ResourceExt::name_any)
        .collect();
    let is_of_user = object.spec.teams_user.is_some();
    if identity.is_none() && !is_of_user {
        hold!(
            !ready
                && matches!(
                    reason,
                    Some(Reason::IdentityNotFound | Reason::SecretConflict)
                )
                && ours.is_empty(),
            "I5: AcsToken {name} says {reason:?} and has {ours:?} without its identity"
        );
        return Ok(());
    }
    let is_suspended = is_suspended(world, object);
    let has_id = identity.is_some_and(|it| {
        let status = it.status.as_ref();
        status.is_some_and(|status| status.identity_id.is_some())
    });
    if is_suspended && !has_id && !is_of_user && !ready && reason == Some(Reason::IdentityNotReady)
    {
        return Ok(());
    }
    if identity.is_some_and(|identity| !is_suspended && !has_id && !is_ready_identity(identity)) {
        // The policy forbids its adoption.
        hold!(
            !ready
                && matches!(
                    reason,
                    Some(Reason::IdentityNotReady | Reason::SecretConflict)
                ),
            "AcsToken {name} says {reason:?} in the end without an identity"
        );
        return Ok(());
    }
    let wanted = object.secret_name();
    let rivals = world
        .cluster
        .tokens
        .values()
        .filter(|other| other.secret_name() == wanted);
    let rank = |it: &AcsToken| {
        (
            it.metadata.creation_timestamp.as_ref().map(|t| t.0),
            it.name_any(),
        )
    };
    let is_first = rivals
        .min_by_key(|other| rank(other))
        .is_some_and(|it| it.name_any() == name);
    let secret = world.cluster.secrets.get(&wanted);
    let is_taken = secret.is_some_and(|secret| !is_ours(&secret.metadata, object));
    let is_forbidden = has_forbidden_label(object);
    let is_denied = is_denied(world, object);
    // The Secret of a withheld token is not checked.
    let is_withheld = is_suspended && reason == Some(Reason::Suspended)
        || is_denied && reason == Some(Reason::PolicyDenied);
    if is_taken || secret.is_none() && !is_first {
        hold!(
            !ready && (reason == Some(Reason::SecretConflict) || is_forbidden || is_withheld),
            "T5: AcsToken {name} says {reason:?} although Secret {wanted} is another's"
        );
        return Ok(());
    }
    let is_immutable = secret.is_some_and(|secret| secret.immutable == Some(true));
    if is_suspended || is_denied {
        let expected = if is_suspended {
            Reason::Suspended
        } else {
            Reason::PolicyDenied
        };
        let text = secret.and_then(|secret| text_in(secret, "token"));
        let held = text.and_then(|text| world.service.token(&text));
        let is_allowed = held
            .is_some_and(|held| world.limits(object).denial(&held.parameters).is_none())
            && world.connection.serves;
        // A suspended object stays Ready as long as its token works.
        let is_told = reason == Some(expected) && (!ready || is_suspended);
        hold!(
            is_told || ready && is_allowed && !is_suspended,
            "AcsToken {name} says {reason:?} in the end although it is withheld"
        );
        let is_denied_identity =
            identity.is_some_and(|identity| world.is_denied_identity(identity));
        let lives = held.is_some_and(|held| world.service.lets_in(held, world.service_time()));
        // A lost call may have revoked it, which cannot be known.
        let is_unsure = held.is_some_and(|held| {
            unsettled_until(world, object)
                .is_some_and(|until| held.issued.div_euclid(1000) <= until.as_second())
        });
        hold!(
            ready
                || !is_suspended
                || !lives
                || is_unsure
                || is_denied
                || secret.and_then(facts_in).is_none()
                || world.jumped > 0,
            "AcsToken {name} is suspended and not Ready although its token works"
        );
        let stays = is_allowed && !is_denied_identity || is_suspended;
        hold!(
            !lives || stays,
            "Secret {wanted} holds a token that the policy denies"
        );
        let text = secret.and_then(|secret| text_in(secret, "token"));
        let token = text.and_then(|text| world.service.token(&text));
        let is_dead = token.is_some_and(|token| {
            let is_ours = token.revoked == Some(Revoker::Operator);
            let ended = world.service_time() - token.expires;
            is_ours || ended > 2_500 && world.jumped == 0
        });
        hold!(
            !is_dead,
            "T1: Secret {wanted} of a suspended token holds a dead one"
        );
        return Ok(());
    }
    if is_forbidden || is_immutable {
        return Ok(());
    }
    hold!(ready, "AcsToken {name} is not Ready in the end: {reason:?}");
    let asked = object.annotations().get(REQUESTED_AT);
    hold!(
        asked.is_none() || asked == status.last_handled_request.as_ref(),
        "AcsToken {name} has not obeyed its request in the end"
    );
    hold!(
        ours.len() == 1 && ours.contains(&wanted),
        "T6: AcsToken {name} has the Secrets {ours:?} in the end"
    );
    let record = secret.and_then(facts_in);
    let Some(record) = record else {
        return Err(format!("T3: Secret {wanted} does not tell its token"));
    };
    hold!(
        record.is_reported_by(&status),
        "T3: AcsToken {name} does not tell the token in its Secret"
    );
    hold!(
        record
            .parameters
            .is_wanted_by(object, &world.limits(object)),
        "T4: Secret {wanted} holds {:?}",
        record.parameters
    );
    hold!(
        !is_of_former_user_token(world, object, &record),
        "Secret {wanted} holds a token of a former Entra token"
    );
    let mut credentials = world.connection.credentials();
    hold!(
        credentials.any(|credential| credential == record.credential),
        "C1: Secret {wanted} holds a token of a former credential"
    );
    let token = world
        .service
        .tokens()
        .find(|it| it.fingerprint == record.fingerprint);
    let is_life = |token: &Token| (token.life() - record.life.as_millis() as Millis).abs() < 2_000;
    hold!(
        token.is_none_or(is_life),
        "T9: AcsToken {name} believes in a life of {}",
        record.life_text()
    );
    let works = |token: &Token| {
        let is_others_doing = token.revoked == Some(Revoker::Stranger)
            || token.revoked == Some(Revoker::Straggler) && world.jumped > 0;
        // A clock that jumps after a token was issued is tolerated up to the renewal margin, not
        // further (C3).
        let is_clock = world.service_time() >= token.expires && world.jumped > token.jumped;
        world.service.lets_in(token, world.service_time()) || is_others_doing || is_clock
    };
    hold!(
        token.is_some_and(works),
        "R1, T1: Secret {wanted} holds a dead token in the end"
    );
    // A reconcile starts a moment after the time it waits for, and its call is in flight for
    // another.
    let is_late = world.local() > renew_at(object, &record) + SignedDuration::from_secs(1);
    hold!(
        !is_late || world.jumped > 0,
        "T2: Secret {wanted} was not renewed in time"
    );
    Ok(())
}

fn is_ready_identity(identity: &AcsIdentity) -> bool {
    let status = identity.status.as_ref();
    status.is_some_and(|status| is_ready(&status.conditions))
}

/// I1, I3: checks that everything in ACS is known, or counted.
fn nothing_is_lost(world: &World) -> Checked {
    let live = world.cluster.identities.values();
    for object in live.chain(world.truth.gone.values()) {
        let uid = object.uid().unwrap_or_default();
        let status = object.status.clone().unwrap_or_default();
        let made: Vec<_> = world
            .service
            .identities
            .iter()
            .filter(|(_, identity)| identity.made_for.as_ref() == Some(&uid))
            .collect();
        let is_known = status.identity_id.is_some() && status.origin == Some(Origin::Created);
        let known = usize::from(is_known);
        let unknown = usize::try_from(status.unknown_creates.unwrap_or(0)).unwrap();
        let pending = usize::from(status.pending_create.is_some());
        hold!(
            made.len() <= known + unknown + pending,
            "I1: {} identities were made for {}, which knows {known} and counts {unknown}",
            made.len(),
            object.name_any()
        );
        for (id, identity) in made {
            let is_answered = world.truth.answered.contains(id) && world.truth.rewound.is_none();
            let is_told = status.identity_id.as_ref() == Some(id);
            hold!(
                !is_answered || is_told || identity.is_deleted || identity.is_not_owned,
                "I6: {id} was made for {}, and the answer is forgotten",
                object.name_any()
            );
        }
        let is_gone = world.truth.gone.contains_key(&uid);
        let is_kept = object.spec.deletion_policy == Some(DeletionPolicy::Orphan);
        let id = status.identity_id.unwrap_or_default();
        if is_gone && is_known && !is_kept && !world.truth.abandoned.contains(&uid) {
            let identity = &world.service.identities[&id];
            hold!(
                identity.is_deleted || identity.is_not_owned,
                "I3: {id} was left behind without a word"
            );
        }
    }
    Ok(())
}
