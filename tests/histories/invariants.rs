//! Invariants of actions, checked when a call or a write arrives.

use std::collections::VecDeque;

use acs_identity_operator::{
    acs::UserToken,
    crd::{
        AcsIdentity, AcsRevocation, AcsToken, FINALIZER, REQUESTED_AT, TOKEN_UID_LABEL,
        TokenParameters, TokenRecord, is_ready,
    },
    engine::Object,
    token::renew_at,
};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::ResourceExt;
use secrecy::SecretString;

use crate::{
    connection::{self, SECRET},
    events::Admission,
    operator::DEADLINE,
    service::{Millis, Request, Revoker},
    world::{ApiCall, Key, Message, World, text_in},
};

type Checked = Result<(), String>;

/// Returns an error that names the violated invariant.
macro_rules! hold {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err(format!($($text)*));
        }
    };
}

/// Whether the watches have delivered everything, and the connection's Secret has been read since.
pub fn is_all_told(world: &World) -> bool {
    let secret = world.cluster.secrets.get(SECRET);
    world.cluster.unrecorded.iter().all(VecDeque::is_empty)
        && world.connection.read == Some(secret.and_then(ResourceExt::resource_version))
}

/// Checks a call to the service at the moment of its decision.
pub fn on_send(world: &World, by: &Key, request: &Request) -> Checked {
    if let Request::Revoke { id } = request {
        // There could be no replacement for the tokens that a change would revoke.
        let is_connected = world.connection.credential().is_some() || !is_all_told(world);
        let is_wanted = with_id(world, id).any(|identity| {
            let status = identity.status.clone().unwrap_or_default();
            let intent = status.pending_revocation;
            let is_asked = |why: &str| why == "Requested" || why == "Ordered";
            intent.is_some_and(|intent| is_asked(&intent.reason))
                || status.denied_since.is_some()
                || world.is_denied_identity(identity)
                || identity.metadata.deletion_timestamp.is_some()
        });
        hold!(
            is_connected || is_wanted,
            "{by} revokes for a change while nothing can be issued"
        );
    }
    let Request::Issue {
        id,
        parameters,
        uid,
        why,
        ..
    } = request
    else {
        return Ok(());
    };
    for identity in with_id(world, id) {
        let status = identity.status.as_ref();
        let pending = status.and_then(|status| status.pending_revocation.as_ref());
        // An intent counts once the API server's answer is back; before that, nothing was decided.
        let is_being_written = world.calls.iter().any(|call| match &call.message {
            Message::Api(ApiCall::Status(Object::Identity(other))) => other.uid() == identity.uid(),
            _ => false,
        });
        // Nor does an intent whose answer was lost, before the watch reports it.
        let is_untold = world.truth.unanswered.is_some() && !is_all_told(world);
        hold!(
            pending.is_none() || is_being_written || is_untold,
            "R3: {by} issues while a revocation is pending"
        );
    }
    // A reconcile continues with the state from before a backup was restored.
    let is_of_former = (world.truth.rewound).is_some_and(|at| world.now - at < 1_000);
    if !is_all_told(world) || is_of_former {
        return Ok(());
    }
    let Some(object) = token_of(world, uid) else {
        return Err(format!("R2: {by} issues for an object that is gone"));
    };
    let is_deleting = object.metadata.deletion_timestamp.is_some();
    hold!(
        !is_deleting,
        "R2: {by} issues for an object that is being deleted"
    );
    let is_held = object.finalizers().iter().any(|name| name == FINALIZER);
    hold!(
        is_held,
        "R1: {by} issues before a deletion would wait for it"
    );
    let identity = world
        .cluster
        .identities
        .get(object.identity_name().unwrap_or_default());
    hold!(
        has_identity(world, object),
        "I5: {by} issues for an identity that is going"
    );
    hold!(
        !is_suspended(world, object),
        "{by} issues although it is suspended"
    );
    let limits = world.limits(object);
    let denial = limits.denial(&TokenParameters::wanted(object, &limits));
    hold!(
        denial.is_none(),
        "{by} issues what the policy denies: {denial:?}"
    );
    let is_told_denied = identity.is_some_and(|it| {
        let status = it.status.as_ref();
        status.is_some_and(|status| status.denied_since.is_some()) && world.is_denied_identity(it)
    });
    hold!(
        !is_told_denied,
        "{by} issues for an identity that the policy denies"
    );
    let wanted = TokenParameters::wanted(object, &world.limits(object));
    hold!(
        parameters.is_same_as(&wanted),
        "T4: {by} asks for {parameters:?}, not {wanted:?}"
    );
    hold!(
        is_due(world, object, id),
        "T3, T4: {by} issues ({why:?}) what is not due"
    );
    Ok(())
}

/// Whether the token has an owner: a Teams user always is one.
fn has_identity(world: &World, object: &AcsToken) -> bool {
    let name = object.identity_name().unwrap_or_default();
    let identity = world.cluster.identities.get(name);
    let stays = identity.is_some_and(|it| it.metadata.deletion_timestamp.is_none());
    stays || object.spec.teams_user.is_some()
}

/// Whether a Teams user's token was exchanged for another Entra token than the current one.
pub fn is_of_former_user_token(world: &World, object: &AcsToken, record: &TokenRecord) -> bool {
    let Some(user) = &object.spec.teams_user else {
        return false;
    };
    let secret = world.cluster.secrets.get(&user.secret_ref.name);
    let text = secret.and_then(|secret| text_in(secret, &user.secret_ref.key));
    let held = text.and_then(|text| UserToken::parse(&text, &user.app_id, &user.user_id).ok());
    let exchange = record.exchange.as_ref();
    held.is_some_and(|held| exchange.is_none_or(|it| it.user_token != held.fingerprint))
}

/// Whether a new token is needed, according to the whole cluster.
fn is_due(world: &World, object: &AcsToken, id: &str) -> bool {
    let ours = |secret: &&Secret| is_ours(&secret.metadata, object);
    let good = |secret: &Secret| facts_in(secret).filter(|record| record.identity_id == id);
    let dead = |record: &TokenRecord| {
        with_id(world, id).any(|identity| {
            let status = identity.status.as_ref();
            let after = status.and_then(|status| status.tokens_valid_after.as_ref());
            after.is_some_and(|after| record.issued_at <= after.0)
        })
    };
    let held = world.cluster.secrets.get(&object.secret_name());
    let Some(held) = held.filter(ours) else {
        // T6: the former Secret's token would suffice, unless its identity was deleted (T8).
        let is_gone = world.service.identities[id].is_deleted;
        let mut former = world.cluster.secrets.values().filter(ours).filter_map(good);
        return former.all(|record| {
            let has_ended = world.local() >= record.expires_at;
            let works = world.service.keys.contains(&record.credential);
            is_gone || dead(&record) || has_ended || !works
        });
    };
    let Some(record) = good(held) else {
        return true;
    };
    let unsettled = with_id(world, id).any(|identity| {
        let status = identity.status.as_ref();
        let last = status.and_then(|status| status.last_revocation.as_ref());
        let until = last.and_then(|last| last.unsettled_until.as_ref());
        until.is_some_and(|until| {
            let clock = world.believed_service_time();
            let is_over = clock.is_none_or(|now| now.as_second() > until.0.as_second());
            record.issued_at <= until.0 && is_over
        })
    });
    // Its annotations may have been edited.
    let text = text_in(held, "token").unwrap_or_default();
    let token = world.service.token(&text);
    let is_revoked = token.is_some_and(|token| token.revoked.is_some());
    dead(&record)
        || is_revoked
        || unsettled
        || !record
            .parameters
            .is_wanted_by(object, &world.limits(object))
        || Some(record.credential.as_str()) != world.connection.credential()
        || !world.service.keys.contains(&record.credential)
        || world.local() >= renew_at(object, &record)
        || is_of_former_user_token(world, object, &record)
        || has_open_request(object)
}

/// Whether a user's request for a renewal is open.
fn has_open_request(object: &AcsToken) -> bool {
    let status = object.status.as_ref();
    let handled = status.and_then(|status| status.last_handled_request.as_ref());
    object
        .annotations()
        .get(REQUESTED_AT)
        .is_some_and(|asked| handled != Some(asked))
}

/// Checks a call when it arrives at the service.
pub fn on_call(world: &World, by: &Key, request: &Request) -> Checked {
    let on_the_wire = |wanted: fn(&Request) -> Option<&String>, id: &String| {
        world.calls.iter().any(|call| match &call.message {
            Message::Acs(request, _) => call.by != *by && wanted(request) == Some(id),
            Message::Api(_) => false,
        })
    };
    match request {
        Request::Create { uid, custom_id } => {
            let mut objects = world.cluster.identities.values();
            // The finalizer was removed by someone else, and the object was deleted while its call
            // was in flight.
            let gone = world.truth.gone.get(uid);
            let object = objects.find(|it| it.uid().as_ref() == Some(uid)).or(gone);
            let status = object.and_then(|object| object.status.as_ref());
            let is_intended = status.is_some_and(|status| status.pending_create.is_some());
            let is_made = status.is_some_and(|status| status.identity_id.is_some());
            // The same custom id finds the created identity, so an outdated view is harmless,
            // whether it lacks the id or an intent that was withdrawn by a write whose answer was
            // lost.
            let is_untold = world.truth.unanswered.is_some() && !is_all_told(world);
            let is_again = custom_id.is_some() && (is_made || is_untold);
            hold!(
                is_intended || is_again,
                "I1: {by} creates without a recorded intent"
            );
            hold!(
                !is_made || is_again,
                "I1, I4: {by} creates a second identity"
            );
            let is_held =
                object.is_some_and(|it| it.finalizers().iter().any(|name| name == FINALIZER));
            hold!(
                is_held || gone.is_some(),
                "I3: {by} creates before a deletion would wait for it"
            );
        }
        Request::Issue {
            id,
            uid,
            why,
            user_token,
            parameters,
        } => {
            hold!(
                world.jumped > 0 || !is_in_hand(world, (id, uid), parameters, user_token.as_ref()),
                "T7: {by} issues a token although one is in hand"
            );
            hold!(
                !on_the_wire(ends_tokens, id),
                "R3: {by} issues while a revoke is on the wire"
            );
            let second = world.service_time().div_euclid(1000);
            let knew_clock = world
                .calls
                .iter()
                .any(|call| call.by == *by && call.knew_clock == Some(world.stepped));
            for identity in with_id(world, id) {
                let status = identity.status.as_ref();
                let after = status.and_then(|status| status.tokens_valid_after.as_ref());
                let is_later = after.is_none_or(|after| second > after.0.as_second());
                hold!(
                    is_later || !knew_clock,
                    "R3: {by} issues in the second of the revocation"
                );
            }
            paced(world, by, uid, why)?;
            exchanged_well(world, by, uid, why, user_token.as_ref())?;
        }
        Request::Revoke { id } => {
            hold!(
                !on_the_wire(makes_a_token, id),
                "R3: {by} revokes while an issue is on the wire"
            );
            on_revoke(world, by, id)?;
        }
        Request::Delete { id } => {
            hold!(
                !on_the_wire(makes_a_token, id),
                "R3: {by} deletes while an issue is on the wire"
            );
            for (name, secret) in &world.cluster.secrets {
                let token = text_in(secret, "token").and_then(|text| world.service.token(&text));
                let is_of_it = facts_in(secret).is_some_and(|record| record.identity_id == *id);
                let uid = secret.uid().unwrap_or_default();
                let is_copy = world.truth.copies.contains(&uid);
                hold!(
                    token.is_none() || is_copy || !is_of_it || !sole_user(world, id),
                    "I5: {by} deletes the identity before Secret {name}"
                );
            }
        }
    }
    Ok(())
}

/// Whether tokens wait in a circle for each other's Secret.
fn is_in_circle(world: &World, object: &AcsToken) -> bool {
    let holder_of_wanted = |token: &AcsToken| {
        let secret = world.cluster.secrets.get(&token.secret_name())?;
        let mut tokens = world.cluster.tokens.values();
        tokens.find(|holder| is_ours(&secret.metadata, holder))
    };
    let mut next = holder_of_wanted(object).filter(|holder| holder.uid() != object.uid());
    for _ in 0..world.cluster.tokens.len() {
        match next {
            Some(holder) if holder.uid() == object.uid() => return true,
            Some(holder) => next = holder_of_wanted(holder),
            None => return false,
        }
    }
    false
}

/// K5: only an external cause may undo the operator's writes: a policy, a watch that lags, a lost
/// answer.
pub fn on_no_progress(world: &World, by: &Key, step: &str) -> Checked {
    let is_undone = world.cluster.admission != Admission::Open || world.cluster.denies_ours;
    let is_untold = !is_all_told(world) || world.truth.unanswered.is_some();
    hold!(
        is_undone || is_untold,
        "K4, K5: {by} does {step} again and again, and nobody undoes it"
    );
    Ok(())
}

/// Returns the identity whose tokens the call revokes.
fn ends_tokens(request: &Request) -> Option<&String> {
    match request {
        Request::Revoke { id } | Request::Delete { id } => Some(id),
        _ => None,
    }
}

/// Returns the identity for which the call issues a token.
fn makes_a_token(request: &Request) -> Option<&String> {
    match request {
        Request::Issue { id, .. } => Some(id),
        _ => None,
    }
}

fn sole_user(world: &World, id: &str) -> bool {
    with_id(world, id).count() < 2
}

/// Whether a suitable token is cached: it must be written, not issued again (T7).
fn is_in_hand(
    world: &World,
    (id, uid): (&str, &str),
    parameters: &TokenParameters,
    user_token: Option<&String>,
) -> bool {
    let now = world.service_time();
    let asked = world
        .cluster
        .tokens
        .values()
        .any(|object| object.uid().as_deref() == Some(uid) && has_open_request(object));
    let credential = world.connection.credential();
    world.service.tokens().any(|token| {
        // After a third of its lifetime it may be due for renewal (T2).
        let is_young = token.expires - now > token.life() / 3 * 2;
        let is_good = world.service.lets_in(token, now) && is_young;
        let is_same = token.parameters.is_same_as(parameters)
            && token.exchanged_for.as_ref().map(|(text, _)| text) == user_token
            && Some(token.key.as_str()) == credential;
        // A token issued in the second of a revocation is dropped.
        let is_of_revocation = with_id(world, id).any(|identity| {
            let status = identity.status.as_ref();
            let after = status.and_then(|status| status.tokens_valid_after.as_ref());
            after.is_some_and(|after| token.issued.div_euclid(1000) <= after.0.as_second() + 1)
        });
        let is_held = token.uid == uid && token.is_known && !token.is_stored;
        is_held && is_good && is_same && !asked && !is_of_revocation
    })
}

/// Checks the minimum interval between tokens issued for one object (T2, T5).
fn paced(world: &World, by: &Key, uid: &str, why: &'static str) -> Checked {
    let Some((last, former, jumped)) = world.truth.issues.get(uid) else {
        return Ok(());
    };
    if *jumped != world.jumped {
        return Ok(());
    }
    let pause = world.now - last;
    if why == "Renewal" {
        let tokens = || world.service.tokens().filter(|token| token.uid == uid);
        let lives = tokens().map(|token| {
            let entra = token.exchanged_for.as_ref();
            let end = entra.map_or(token.expires, |(_, end)| token.expires.min(*end));
            end - token.issued
        });
        let shortest = lives.min().unwrap_or_default();
        // By one clock: it may have stepped since earlier ones.
        let held = tokens().filter(|token| token.is_stored && token.jumped == world.jumped);
        let issued = held.map(|token| token.issued).max().unwrap_or_default();
        let age = world.service_time() - issued;
        hold!(
            age >= shortest / 3 - 2000,
            "T2: {by} renews a token {age} ms old, of a life of {shortest} ms"
        );
    }
    // The process that received the answer remembers what it repaired.
    let is_since = |at: Option<Millis>| at.is_some_and(|at| at >= *last);
    let forgot = is_since(world.truth.restarted) || is_since(world.truth.unanswered);
    if why == "SecretEdited" && *former == "SecretEdited" && !forgot {
        hold!(
            pause >= 5 * 60_000,
            "T5: {by} repairs an edit {pause} ms after the last repair"
        );
    }
    Ok(())
}

/// Checks that only Entra tokens of the Teams user are sent, and none twice without effect.
fn exchanged_well(
    world: &World,
    by: &Key,
    uid: &str,
    why: &'static str,
    user_token: Option<&String>,
) -> Checked {
    let Some(sent) = user_token else {
        return Ok(());
    };
    let Some(end) = world.service.user_tokens.get(sent) else {
        return Err(format!("{by} sends {sent}, no token of the Teams user"));
    };
    let stored = world.service.tokens().filter(|token| token.is_stored);
    let last = stored
        .filter(|token| token.uid == uid)
        .max_by_key(|token| token.issued);
    let is_in_vain = last.is_some_and(|last| {
        let former = last.exchanged_for.as_ref();
        let is_same = former.is_some_and(|(text, _)| text == sent);
        is_same && *end <= last.expires && *end > world.service_time()
    });
    hold!(
        why != "Renewal" || !is_in_vain || world.jumped > 0,
        "T2: {by} exchanges an Entra token again for a token that ends no later"
    );
    Ok(())
}

fn on_revoke(world: &World, by: &Key, id: &str) -> Checked {
    let now = world.service_time();
    let is_ending = with_id(world, id).any(|it| it.metadata.deletion_timestamp.is_some());
    let intent = with_id(world, id).find_map(|identity| {
        let status = identity.status.as_ref()?;
        status.pending_revocation.as_ref()
    });
    let Some(intent) = intent else {
        return Err(format!("R3: {by} revokes without a recorded intent"));
    };
    // R4: at most 5 s, by the operator's clock, are spent on the marks.
    let spent = world.local().duration_since(intent.time.0).as_millis();
    let is_patient = (0..5000).contains(&spent);
    for object in world.cluster.tokens.values() {
        let is_reported_ready = object
            .status
            .as_ref()
            .is_some_and(|s| is_ready(&s.conditions));
        let secret = world.cluster.secrets.get(&object.secret_name());
        let secret = secret.filter(|secret| is_ours(&secret.metadata, object));
        let text = secret.and_then(|secret| text_in(secret, "token"));
        let token = text.and_then(|text| world.service.token(&text));
        let dies = token.is_some_and(|token| {
            let is_of_it = world.service.identities[id]
                .tokens
                .iter()
                .any(|other| other.text == token.text);
            is_of_it && world.service.lets_in(token, now)
        });
        hold!(
            !(is_reported_ready && dies && is_patient),
            "R4: {by} revokes before AcsToken {} is marked not Ready",
            object.name_any()
        );
    }
    if is_ending {
        return Ok(());
    }
    if intent.reason == "Requested" || intent.reason == "Ordered" {
        return Ok(());
    }
    // R2, counted from the first change that requests it.
    if let Some((since, jumped)) = world.truth.asked.get(id)
        && *jumped == world.jumped
    {
        let waited = world.now - since;
        hold!(
            waited >= 2000,
            "R2: {by} revokes {waited} ms after the first change"
        );
    }
    Ok(())
}

/// Checks a write when it arrives at the API server.
pub fn on_write(world: &World, by: &Key, call: &ApiCall) -> Checked {
    match call {
        ApiCall::CreateSecret(secret, false) | ApiCall::ReplaceSecret(secret, false) => {
            let name = secret.name_any();
            let text = text_in(secret, "token").unwrap_or_default();
            let token = world.service.token(&text);
            let is_dead = token
                .is_some_and(|token| !token.is_stored && token.revoked == Some(Revoker::Operator));
            hold!(!is_dead, "R3: {by} puts a dead token into Secret {name}");
            let Some(former) = world.cluster.secrets.get(&name) else {
                return Ok(());
            };
            let would_conflict = former.resource_version() != secret.resource_version();
            let is_create = matches!(call, ApiCall::CreateSecret(..));
            let owner = owner_uid(&former.metadata);
            let ours = owner.is_some() && owner == owner_uid(&secret.metadata);
            hold!(
                is_create || would_conflict || ours,
                "T5: {by} overwrites Secret {name}, which is not its own"
            );
            let others = former
                .labels()
                .iter()
                .find(|(key, _)| key.starts_with("other"));
            let keeps = others.is_none_or(|(key, _)| secret.labels().contains_key(key));
            hold!(
                is_create || would_conflict || keeps,
                "T5: {by} takes another's label from Secret {name}"
            );
        }
        ApiCall::DeleteSecret(name, uid) => {
            let Some(former) = world.cluster.secrets.get(name) else {
                return Ok(());
            };
            if Some(uid) != former.uid().as_ref() {
                return Ok(());
            }
            // A watch of objects from before a restore reports what came back as having no owner.
            let is_back = world.truth.rewound.is_some() && !is_all_told(world);
            hold!(
                !world.truth.copies.contains(uid) || is_back,
                "K6: {by} deletes Secret {name}, a copy that somebody else made"
            );
            let owner = owner_uid(&former.metadata);
            let ours = world
                .cluster
                .tokens
                .values()
                .find(|token| token.uid() == owner);
            let Some(object) = ours else {
                let is_stale = owner.is_some();
                hold!(
                    is_stale,
                    "T5: {by} deletes Secret {name}, which is not ours"
                );
                return Ok(());
            };
            moved_before(world, by, object, former)?;
        }
        ApiCall::Status(Object::Revocation(revocation)) => selects_all(world, revocation)?,
        ApiCall::Finalizers(Object::Token(object), left, abandoned) if left.is_empty() => {
            let Some(object) = world.cluster.tokens.get(&object.name_any()) else {
                return Ok(());
            };
            may_abandon(world, by, &object.metadata, abandoned.as_deref())?;
            let uid = object.uid().unwrap_or_default();
            let mut duties = world.truth.duties.iter().filter(|duty| duty.uid == uid);
            // A recorded revocation is executed, regardless of its cause.
            let is_ordered = |id: &str| {
                with_id(world, id).any(|identity| {
                    let status = identity.status.as_ref();
                    status.is_some_and(|status| status.pending_revocation.is_some())
                })
            };
            let lives = duties.find(|duty| is_owed(world, &duty.text) && !is_ordered(&duty.id));
            hold!(
                abandoned.is_some() || lives.is_none(),
                "R1: {by} is let go while its token {} works",
                lives.map_or("", |duty| duty.text.as_str())
            );
        }
        ApiCall::Finalizers(Object::Identity(object), left, abandoned) if left.is_empty() => {
            let Some(object) = world.cluster.identities.get(&object.name_any()) else {
                return Ok(());
            };
            may_abandon(world, by, &object.metadata, abandoned.as_deref())?;
        }
        _ => {}
    }
    Ok(())
}

/// Whether a token that must be invalid still works, in an identity of this resource.
pub fn is_owed(world: &World, text: &str) -> bool {
    let now = world.service_time();
    let ours = world
        .service
        .identities
        .values()
        .filter(|it| !it.is_not_owned);
    let mut tokens = ours.flat_map(|identity| &identity.tokens);
    let token = tokens.find(|token| token.text == text);
    token.is_some_and(|token| {
        // By a clock that has jumped over the rest of its lifetime it has expired (C3).
        let seems_over = world.jumped - token.jumped >= token.expires - now;
        world.service.lets_in(token, now) && !seems_over
    })
}

/// Checks that a revocation selects every object that existed when it was created, regardless of
/// what the watches have delivered.
fn selects_all(world: &World, revocation: &AcsRevocation) -> Checked {
    let number = |uid: Option<String>| -> Option<u64> { uid?.strip_prefix("uid-")?.parse().ok() };
    let made = number(revocation.uid());
    let targets = revocation.status.iter().flat_map(|status| &status.targets);
    for missing in targets.filter(|target| target.uid.is_none()) {
        let found = world.cluster.identities.get(&missing.name);
        let was_there = found.is_some_and(|it| number(it.uid()) < made);
        hold!(
            !was_there,
            "AcsRevocation {} does not find AcsIdentity {}",
            revocation.name_any(),
            missing.name
        );
    }
    Ok(())
}

/// Checks that nothing is left behind in ACS before the deadline (I3).
fn may_abandon(world: &World, by: &Key, metadata: &ObjectMeta, why: Option<&str>) -> Checked {
    let (Some(why), Some(since)) = (why, &metadata.deletion_timestamp) else {
        return Ok(());
    };
    let age = world.now - since.0.as_millisecond();
    // A clock that is ahead may shorten the time, but not below a minute of trying.
    let span = Millis::try_from(DEADLINE.as_millis()).unwrap_or_default();
    let least = (span - world.local_offset).clamp(60_000, span);
    let is_over = age >= least - 1_500;
    let is_unknown_create = why.contains("no known outcome");
    let has_credential = world.connection.credential().is_some();
    hold!(
        is_over || is_unknown_create || !has_credential || world.jumped > 0,
        "I3: {by} gives up after {age} ms: {why}"
    );
    Ok(())
}

/// Checks that the Secret with the new name is written before the old one is deleted (T6).
fn moved_before(world: &World, by: &Key, object: &AcsToken, former: &Secret) -> Checked {
    let name = object.secret_name();
    let is_leaving = object.metadata.deletion_timestamp.is_some();
    if is_leaving
        || !has_identity(world, object)
        || !is_all_told(world)
        || facts_in(former).is_none()
    {
        return Ok(());
    }
    if is_in_circle(world, object) {
        // Tokens that want each other's Secret: one of them must give up its own.
        return Ok(());
    }
    let new = world.cluster.secrets.get(&name);
    let is_written =
        new.is_some_and(|new| is_ours(&new.metadata, object) && facts_in(new).is_some());
    let is_moved = is_written && name != former.name_any();
    let is_untold = connection::is_untold(world);
    let is_late = is_untold || world.now - world.connection.changed_at < 1000;
    if object.spec.teams_user.is_some() && (is_denied(world, object) || is_late) {
        // It cannot be revoked, so its Secret is deleted at once, by the policy that the watch had
        // reported.
        return Ok(());
    }
    if is_suspended(world, object) || is_denied(world, object) {
        // There is no replacement; the Secret is deleted when its token has expired.
        let text = text_in(former, "token").unwrap_or_default();
        let token = world.service.token(&text);
        // Answers are dated in whole seconds.
        let soon = world.service_time() + 2_500;
        let lives = token.is_some_and(|token| world.service.lets_in(token, soon));
        hold!(
            is_moved || !lives || world.jumped > 0,
            "{by} deletes Secret {} of a withheld token that works",
            former.name_any()
        );
        return Ok(());
    }
    hold!(
        is_moved,
        "T6: {by} deletes Secret {} before Secret {name} holds a token",
        former.name_any()
    );
    Ok(())
}

/// Whether no token may be issued for the object, because its own spec or its identity's suspends
/// it.
pub fn is_suspended(world: &World, object: &AcsToken) -> bool {
    let identity = world
        .cluster
        .identities
        .get(object.identity_name().unwrap_or_default());
    object.spec.suspend == Some(true) || identity.is_some_and(|it| it.spec.suspend == Some(true))
}

/// Whether the policy denies the object a token.
pub fn is_denied(world: &World, object: &AcsToken) -> bool {
    let limits = world.limits(object);
    let identity = world
        .cluster
        .identities
        .get(object.identity_name().unwrap_or_default());
    let is_denied_identity = identity.is_some_and(|it| {
        let status = it.status.as_ref();
        world.is_denied_identity(it) || status.is_some_and(|status| status.denied_since.is_some())
    });
    is_denied_identity
        || object.spec.teams_user.is_some() && !world.connection.serves
        || limits
            .denial(&TokenParameters::wanted(object, &limits))
            .is_some()
}

/// Returns the objects that have this id.
pub fn with_id<'a>(world: &'a World, id: &'a str) -> impl Iterator<Item = &'a AcsIdentity> {
    let all = world.cluster.identities.values();
    all.filter(move |identity| {
        let status = identity.status.as_ref();
        status.and_then(|status| status.identity_id.as_deref()) == Some(id)
    })
}

fn token_of<'a>(world: &'a World, uid: &str) -> Option<&'a AcsToken> {
    let mut all = world.cluster.tokens.values();
    all.find(|token| token.uid().as_deref() == Some(uid))
}

/// Returns the UID of a Secret's owner, by the contract: its controller, or without one, its
/// annotation.
fn owner_uid(metadata: &ObjectMeta) -> Option<String> {
    let mut owners = metadata.owner_references.iter().flatten();
    let controller = owners.find(|owner| owner.controller == Some(true));
    let annotation = || metadata.annotations.as_ref()?.get(TOKEN_UID_LABEL).cloned();
    controller.map_or_else(annotation, |owner| Some(owner.uid.clone()))
}

pub fn is_ours(metadata: &ObjectMeta, object: &AcsToken) -> bool {
    metadata.namespace == object.namespace()
        && owner_uid(metadata).is_some()
        && owner_uid(metadata) == object.uid()
}

/// Returns the record of a Secret's token, if its bytes are that token.
pub fn facts_in(secret: &Secret) -> Option<TokenRecord> {
    let record = TokenRecord::from_annotations(secret.metadata.annotations.as_ref()?)?;
    let text = SecretString::from(text_in(secret, "token")?);
    let is_true = acs_identity_operator::crd::fingerprint(&text) == record.fingerprint;
    is_true.then_some(record)
}
