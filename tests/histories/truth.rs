//! Obligations of the contract towards users, tracked outside the operator's knowledge.

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

/// Token that must be revoked, because of a change that requires it (R1).
#[derive(Clone, Debug)]
pub struct Duty {
    /// UID of the `AcsToken`.
    pub uid: String,
    /// Id of the identity in ACS.
    pub id: String,
    /// Token.
    pub text: String,
    /// Parameters of the object's token at that time.
    held: TokenParameters,
}

/// Reason for updating the obligations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A token was written to its Secret.
    Stored,
    /// A user changed or deleted the token's object.
    Edited,
    /// A user changed `revocation`: earlier changes cause no new obligations.
    PolicyChanged,
    /// A user deleted the identity's object.
    IdentityDeleted,
}

#[derive(Debug, Default)]
pub struct Truth {
    pub duties: Vec<Duty>,
    /// Tokens whose revocation a user requested, by identity in ACS.
    pub requested: Vec<(String, String)>,
    /// Revocations whose targets are recorded.
    pub orders: BTreeSet<String>,
    /// Time of the first request for a revocation of the identity since the last recorded one, and
    /// the sum of the jumps of the operator's clock by then (R2).
    pub asked: BTreeMap<String, (Millis, Millis)>,
    /// Number of identities created in ACS, by object (I1).
    pub creates: BTreeMap<String, usize>,
    /// Deleted identity objects in their last state, by UID.
    pub gone: BTreeMap<String, AcsIdentity>,
    /// Last token of each object that was written to its Secret: time, reason, sum of the jumps by
    /// then (T2, T5).
    pub issues: BTreeMap<String, (Millis, &'static str, Millis)>,
    /// Identities that were released although ACS was not cleaned up, by object.
    pub abandoned: BTreeSet<String>,
    /// Identities that each process has reported as left behind in ACS, by the UID of their object.
    pub told_abandoned: BTreeSet<(u64, String)>,
    /// Created identities for which the current process received the answer (I6).
    pub answered: BTreeSet<String>,
    /// Start time of the current process, if it is not the first.
    pub restarted: Option<Millis>,
    /// Time of the last executed write without an answer.
    pub unanswered: Option<Millis>,
    /// Time of the last write that was lost on its way, so that it was not executed.
    pub lost: Option<Millis>,
    /// Time at which a silent watch, or the unreachable API server, came back.
    pub came_back: Millis,
    /// Time of the last restore from a backup.
    pub rewound: Option<Millis>,
    /// Time by which a write that a policy denied must have been retried.
    pub denied_until: Millis,
    /// Time at which the process last stood still.
    pub stood_still: Millis,
    /// Time since which a statement on an object, by its UID, is wrong.
    pub untrue_since: BTreeMap<(String, &'static str), Millis>,
    /// Number of calls to ACS and writes that arrived, by object.
    pub spent: BTreeMap<Key, u64>,
    /// Number of events, except the passing of time.
    pub events: u64,
    /// UIDs of copies of Secrets made by others.
    pub copies: BTreeSet<String>,
    /// Number of answered calls to the service.
    pub calls: usize,
}

impl Truth {
    /// Records an answered call to the service.
    pub fn called(&mut self, request: &Request, is_done: bool) {
        self.calls += 1;
        if let (Request::Create { uid, .. }, true) = (request, is_done) {
            *self.creates.entry(uid.clone()).or_default() += 1;
        }
    }

    /// Records that a Secret was written with a token.
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

    /// Records that a token's status was written.
    pub fn told(world: &mut World, object: &AcsToken) {
        let Some(status) = &object.status else { return };
        let mut tokens = world.service.tokens_mut();
        if let Some(token) =
            tokens.find(|token| Some(&token.fingerprint) == status.fingerprint.as_ref())
        {
            token.is_told = true;
        }
    }

    /// Records that an identity's status was written: a request may be completed, unless the intent
    /// remains.
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

    /// Records the deletion of an identity's object, and whether it was reported as left behind in
    /// ACS.
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

    /// Updates the obligations after a user changed a token's object, or its identity's. Only a
    /// user can withdraw a demand.
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
            // The obligations of its deletion were determined at that time.
            return;
        }
        let stays = identity.is_some_and(|it| it.metadata.deletion_timestamp.is_none());
        let is_leaving = object.metadata.deletion_timestamp.is_some();
        let limits = world.limits_by(&world.connection.told, object);
        let asks = Self::asks(object, held, is_leaving || !stays, &limits);
        // The obligations of an identity's deletion depend on its tokens' specs at that time, as
        // far as the other watch had delivered them.
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

    /// Updates the obligations of the remaining tokens once the operator knows the policy.
    pub fn policy_told(world: &mut World) {
        let tokens = world.cluster.tokens.values();
        let staying = tokens.filter(|token| token.metadata.deletion_timestamp.is_none());
        let uids: Vec<_> = staying.filter_map(ResourceExt::uid).collect();
        for uid in uids {
            Self::reconsider(world, &uid, Cause::Edited);
        }
    }

    /// Whether the object requires the revocation of `held`, according to the contract.
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

    /// Records a user's request to revoke all tokens that existed for an identity's object.
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
        Self::must_revoke(world, &id);
    }

    /// Records that all valid tokens of an identity must be revoked.
    fn must_revoke(world: &mut World, id: &str) {
        let tokens = world.service.identities[id].tokens.iter();
        let alive = tokens.filter(|token| world.service.lets_in(token, world.service_time()));
        let alive: Vec<_> = alive
            .map(|token| (id.to_owned(), token.text.clone()))
            .collect();
        world.truth.requested.extend(alive);
    }

    /// Records the targets of a revocation: their valid tokens must be revoked.
    pub fn ordered(world: &mut World, revocation: &AcsRevocation) {
        let status = revocation.status.clone().unwrap_or_default();
        let uid = revocation.uid().unwrap_or_default();
        if !world.truth.orders.insert(uid) {
            return;
        }
        // An object that was replaced by another of the same name meanwhile is not selected.
        let objects = &world.cluster.identities;
        let is_there = |uid: &Option<String>| objects.values().any(|it| it.uid() == *uid);
        let targets = status.open_targets().filter(|it| is_there(&it.uid));
        let ids: Vec<_> = targets.filter_map(|it| it.identity_id.clone()).collect();
        for id in ids {
            Self::must_revoke(world, &id);
        }
    }

    /// Records that others are about to destroy or edit a Secret: a token that is not in a status
    /// is unknown from then on.
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
