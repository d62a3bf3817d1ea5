//! What the contract owes to users, kept beside the world: no part of it is known to the operator.

use std::collections::{BTreeMap, BTreeSet};

use acs_identity_operator::{
    crd::{AcsIdentity, AcsRevocation, AcsToken, Revocation, TokenParameters},
    token::Limits,
};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use crate::{
    service::{Millis, Request, Token},
    workloads,
    world::{Key, World, text_in},
};

/// A token that must die, because of a change that asks for it (R1).
#[derive(Clone, Debug)]
pub struct Duty {
    /// Of which `AcsToken`.
    pub uid: String,
    /// Of which identity in ACS.
    pub id: String,
    /// The token.
    pub text: String,
    /// What the object held when it was asked.
    held: TokenParameters,
}

/// Why it is asked what is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A token has got into its Secret.
    Stored,
    /// A user changed or deleted the token's object.
    Edited,
    /// A user changed `revocation`: of what was changed before, nothing is owed that was not.
    PolicyChanged,
    /// A user deleted the identity's object.
    IdentityDeleted,
}

#[derive(Debug, Default)]
pub struct Truth {
    pub duties: Vec<Duty>,
    /// Tokens that a user asked to be revoked, by identity in ACS.
    pub requested: Vec<(String, String)>,
    /// Orders whose targets are recorded.
    pub orders: BTreeSet<String>,
    /// When a revocation of the identity was first asked for since the last one was recorded, and
    /// how far the operator's clock had jumped by then (R2).
    pub asked: BTreeMap<String, (Millis, Millis)>,
    /// Identities made in ACS, by object (I1).
    pub creates: BTreeMap<String, usize>,
    /// Identity objects that are gone, as they were last, by UID.
    pub gone: BTreeMap<String, AcsIdentity>,
    /// The last token of each object that reached its Secret: when, why, the jumps by then (T2, T5).
    pub issues: BTreeMap<String, (Millis, &'static str, Millis)>,
    /// Identities that were let go although ACS was not cleaned up, by object.
    pub abandoned: BTreeSet<String>,
    /// What each process has told to be left behind in ACS, by the UID of its object.
    pub told_abandoned: BTreeSet<(u64, String)>,
    /// Identities that were created, as the process that lives now was answered (I6).
    pub answered: BTreeSet<String>,
    /// When the process that is running was started, if it is not the first.
    pub restarted: Option<Millis>,
    /// When a write was last done without an answer.
    pub unanswered: Option<Millis>,
    /// When a watch that had told nothing, or an API server that was away, came back.
    pub came_back: Millis,
    /// When something was last restored from a backup.
    pub rewound: Option<Millis>,
    /// What a policy has denied is tried again until then at the latest.
    pub denied_until: Millis,
    /// When the process last stood still.
    pub stood_still: Millis,
    /// Since when a statement on an object, by its UID, is not true.
    pub untrue_since: BTreeMap<(String, &'static str), Millis>,
    /// Calls to ACS and writes that got there, by object.
    pub spent: BTreeMap<Key, u64>,
    /// What has happened, but for the passing of time.
    pub events: u64,
    /// UIDs of copies that others made of Secrets.
    pub copies: BTreeSet<String>,
    /// Every call to the service that was answered.
    pub calls: usize,
}

impl Truth {
    /// The service has answered a call.
    pub fn called(&mut self, request: &Request, is_done: bool) {
        self.calls += 1;
        if let (Request::Create { uid, .. }, true) = (request, is_done) {
            *self.creates.entry(uid.clone()).or_default() += 1;
        }
    }

    /// A Secret was written with a token in it.
    pub fn stored(world: &mut World, secret: &Secret) {
        let Some(text) = text_in(secret, "token") else {
            return;
        };
        let mut tokens = world.service.tokens_mut();
        if let Some(token) = tokens.find(|token| token.text == text) {
            let is_new = !std::mem::replace(&mut token.is_stored, true);
            let (uid, why, jumped) = (token.uid.clone(), token.why, token.jumped);
            drop(tokens);
            if is_new {
                let issue = (world.now, why, jumped);
                world.truth.issues.insert(uid.clone(), issue);
            }
            workloads::stored(world, &uid, &text);
            Self::reconsider(world, &uid, Cause::Stored);
        }
    }

    /// A status was written.
    pub fn told(world: &mut World, object: &AcsToken) {
        let Some(status) = &object.status else { return };
        let mut tokens = world.service.tokens_mut();
        if let Some(token) =
            tokens.find(|token| Some(&token.fingerprint) == status.fingerprint.as_ref())
        {
            token.is_told = true;
        }
    }

    /// An identity's status was written: what was asked for may be done, unless the intent stays.
    pub fn identity_told(&mut self, former: Option<&AcsIdentity>, identity: &AcsIdentity) {
        let after = |identity: &AcsIdentity| identity.status.clone()?.tokens_valid_after;
        let status = identity.status.as_ref();
        let is_over = status.is_some_and(|status| status.pending_revocation.is_none());
        if is_over
            && after(identity) != former.and_then(after)
            && let Some(id) = status.and_then(|status| status.identity_id.as_ref())
        {
            self.asked.remove(id);
        }
    }

    /// An identity's object goes; what it leaves behind was told.
    pub fn let_go(&mut self, identity: &AcsIdentity, is_abandoned: bool) {
        let uid = identity.uid().unwrap_or_default();
        if is_abandoned {
            self.abandoned.insert(uid.clone());
            let status = identity.status.as_ref();
            if let Some(id) = status.and_then(|status| status.identity_id.as_ref()) {
                self.duties.retain(|duty| duty.id != *id);
                self.requested.retain(|(of, _)| of != id);
            }
        }
        self.gone.insert(uid, identity.clone());
    }

    /// A user changed a token's object, or its identity's: what is owed now? Only a user takes an
    /// order back.
    pub fn reconsider(world: &mut World, uid: &str, why: Cause) {
        let objects = world.cluster.tokens.values();
        let Some(object) = objects
            .into_iter()
            .find(|o| o.uid().as_deref() == Some(uid))
        else {
            return;
        };
        let tokens = || {
            let all = world.service.identities.iter();
            all.flat_map(|(id, identity)| identity.tokens.iter().map(move |token| (id, token)))
                .filter(|(_, token)| token.uid == uid && token.is_stored && !token.is_lost)
        };
        let Some((id, held)) = tokens().max_by_key(|(_, token)| token.issued) else {
            return;
        };
        let now = world.service_time();
        let identity = world
            .cluster
            .identities
            .get(object.identity_name().unwrap_or_default());
        let status = identity.and_then(|identity| identity.status.as_ref());
        if status.and_then(|status| status.identity_id.as_ref()) != Some(id) {
            // What its end asked for was settled when it ended.
            return;
        }
        let stays = identity.is_some_and(|it| it.metadata.deletion_timestamp.is_none());
        let is_leaving = object.metadata.deletion_timestamp.is_some();
        let limits = world.limits_by(&world.connection.told, object);
        let asks = Self::asks(object, held, is_leaving || !stays, &limits);
        // What an identity's end asks for is settled by what its tokens said then, as far as the
        // other watch had told that.
        let is_told = world.cluster.is_told(object);
        let is_late = !stays
            && match why {
                Cause::Edited => !is_leaving,
                Cause::IdentityDeleted => !is_told,
                Cause::PolicyChanged | Cause::Stored => false,
            };
        if asks {
            let (id, at) = (id.clone(), (world.now, world.jumped));
            world.truth.asked.entry(id).or_insert(at);
        }
        if asks && !is_late && why != Cause::PolicyChanged {
            let duties: Vec<_> = tokens()
                .filter(|(of, token)| *of == id && world.service.lets_in(token, now))
                .filter(|(_, token)| {
                    world
                        .truth
                        .duties
                        .iter()
                        .all(|duty| duty.text != token.text)
                })
                .map(|(id, token)| Duty {
                    uid: uid.to_owned(),
                    id: id.clone(),
                    text: token.text.clone(),
                    held: held.parameters.clone(),
                })
                .collect();
            world.truth.duties.extend(duties);
        } else if !asks && why != Cause::Stored {
            let held = held.parameters.clone();
            let is_taken_back = |duty: &Duty| duty.uid == uid && duty.held.is_same_as(&held);
            world.truth.duties.retain(|duty| !is_taken_back(duty));
        }
    }

    /// The operator knows the policy: what is owed now by those who stay?
    pub fn policy_told(world: &mut World) {
        let tokens = world.cluster.tokens.values();
        let staying = tokens.filter(|token| token.metadata.deletion_timestamp.is_none());
        let uids: Vec<_> = staying.filter_map(ResourceExt::uid).collect();
        for uid in uids {
            Self::reconsider(world, &uid, Cause::Edited);
        }
    }

    /// Whether the object asks that `held` be revoked, by the contract's words.
    fn asks(object: &AcsToken, held: &Token, ends: bool, limits: &Limits) -> bool {
        let (was, wanted) = (&held.parameters, TokenParameters::wanted(object, limits));
        if limits.denial(was).is_some() {
            return true;
        }
        let minutes = (was.minutes(), wanted.minutes());
        let policy = object.spec.revocation.unwrap_or_default();
        match policy {
            Revocation::Never => false,
            _ if ends => true,
            Revocation::OnChange => {
                let is_other = match object.spec.expires_in {
                    Some(_) => minutes.0 != minutes.1,
                    None => minutes.0 > minutes.1,
                };
                was.scopes != wanted.scopes || is_other
            }
            Revocation::OnNarrowing => {
                !was.scopes.is_subset(&wanted.scopes) || minutes.1 < minutes.0
            }
        }
    }

    /// A user asked for a revocation of all that an identity's object has seen come.
    pub fn revocation_requested(world: &mut World, name: &str) {
        let Some(identity) = world.cluster.identities.get(name) else {
            return;
        };
        let status = identity.status.clone().unwrap_or_default();
        let is_seen = status.observed_generation.is_some();
        let is_leaving = identity.metadata.deletion_timestamp.is_some();
        let Some(id) = status.identity_id.filter(|_| is_seen && !is_leaving) else {
            return;
        };
        let tokens = world.service.identities[&id].tokens.iter();
        let alive = tokens.filter(|token| world.service.lets_in(token, world.service_time()));
        let alive: Vec<_> = alive
            .map(|token| (id.clone(), token.text.clone()))
            .collect();
        world.truth.requested.extend(alive);
    }

    /// An order has recorded its targets: what is alive now must die.
    pub fn ordered(world: &mut World, revocation: &AcsRevocation) {
        let status = revocation.status.clone().unwrap_or_default();
        let uid = revocation.uid().unwrap_or_default();
        if !world.truth.orders.insert(uid) {
            return;
        }
        // One that has left its name to another object meanwhile is not selected.
        let objects = &world.cluster.identities;
        let is_there = |uid: &Option<String>| objects.values().any(|it| it.uid() == *uid);
        let targets = status.open_targets().filter(|it| is_there(&it.uid));
        for id in targets.filter_map(|it| it.identity_id.clone()) {
            let tokens = world.service.identities[&id].tokens.iter();
            let alive = tokens.filter(|token| world.service.lets_in(token, world.service_time()));
            let alive: Vec<_> = alive
                .map(|token| (id.clone(), token.text.clone()))
                .collect();
            world.truth.requested.extend(alive);
        }
    }

    /// A Secret is about to be destroyed or edited by someone else: of a token that no status told,
    /// nobody knows any longer.
    pub fn lose(world: &mut World, secret: &str) {
        let found = world.cluster.secrets.get(secret);
        let Some(text) = found.and_then(|secret| text_in(secret, "token")) else {
            return;
        };
        let mut tokens = world.service.tokens_mut();
        if let Some(token) = tokens.find(|token| token.text == text && !token.is_told) {
            token.is_lost = true;
            drop(tokens);
            world.truth.duties.retain(|duty| duty.text != text);
        }
    }
}
