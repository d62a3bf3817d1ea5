//! Conditions that must hold when everything works again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use acs_identity_operator::crd::{AcsIdentity, AcsToken, is_ready};
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, api::ListParams};

use crate::{changes::People, support::world::World};

/// Time within which the world must settle. Back-offs end after a minute, and lost calls may take
/// effect for half a minute.
const SETTLING: Duration = Duration::from_mins(4);

/// Tokens that were ever seen in Secrets: the names of their `AcsTokens`, and when they were first
/// seen; and the number of further ones, which are invalid.
#[derive(Default)]
pub struct Seen(BTreeMap<String, (String, Instant)>, usize);

impl Seen {
    /// Reads all Secrets.
    pub async fn look(&mut self, world: &World) {
        let secrets = world.api::<Secret>().list(&ListParams::default()).await;
        for secret in secrets.expect("readable") {
            let name = secret.name_any();
            let token = secret.data.and_then(|mut data| data.remove("token"));
            if let Some(Ok(token)) = token.map(|bytes| String::from_utf8(bytes.0)) {
                self.0.entry(token).or_insert((name, Instant::now()));
            }
        }
    }

    /// Drops invalid tokens: they never become valid again.
    pub async fn forget_dead(&mut self, world: &World) {
        let mut dead = Vec::new();
        for token in self.0.keys() {
            if !world.emulator.check(token).await.valid {
                dead.push(token.clone());
            }
        }
        self.1 += dead.len();
        for token in dead {
            self.0.remove(&token);
        }
    }

    /// Returns a summary of the tokens.
    pub fn sum(&self) -> String {
        format!("{} tokens were seen in Secrets", self.0.len() + self.1)
    }
}

/// Waits until everything has the expected state; fails with what does not.
pub async fn settles(world: &World, people: &People, seen: &mut Seen) -> Result<(), String> {
    let deadline = Instant::now() + SETTLING;
    loop {
        seen.look(world).await;
        match check(world, people, seen).await {
            Ok(()) => return Ok(()),
            Err(broken) if Instant::now() > deadline => return Err(broken),
            Err(_) => tokio::time::sleep(Duration::from_millis(250)).await,
        }
    }
}

async fn check(world: &World, people: &People, seen: &Seen) -> Result<(), String> {
    let all = ListParams::default();
    let identities = world
        .api::<AcsIdentity>()
        .list(&all)
        .await
        .expect("readable");
    let tokens = world.api::<AcsToken>().list(&all).await.expect("readable");
    let names: BTreeSet<_> = identities.iter().map(ResourceExt::name_any).collect();
    if names != people.identities {
        return Err(format!(
            "I3: there are {names:?}, wanted are {:?}",
            people.identities
        ));
    }
    let names: BTreeSet<_> = tokens.iter().map(ResourceExt::name_any).collect();
    if !names.iter().eq(people.tokens.keys()) {
        return Err(format!(
            "I3: there are {names:?}, wanted are {:?}",
            people.tokens.keys()
        ));
    }
    let mut ids = BTreeSet::new();
    for identity in &identities {
        let status = identity.status.as_ref();
        let id = status.and_then(|status| status.identity_id.clone());
        let is_fine = status.is_some_and(|status| {
            is_ready(&status.conditions) && status.pending_revocation.is_none()
        });
        match id {
            Some(id) if is_fine => ids.insert(id),
            _ => return Err(format!("{} is not Ready", identity.name_any())),
        };
    }
    for token in &tokens {
        is_as_wanted(world, people, token).await?;
    }
    nobody_else_has_one(world, people, seen, &ids).await
}

/// T1, T2: a Ready token works and has the wanted scopes; a token without an identity is not Ready.
async fn is_as_wanted(world: &World, people: &People, token: &AcsToken) -> Result<(), String> {
    let name = token.name_any();
    let status = token
        .status
        .as_ref()
        .ok_or(format!("{name} has no status"))?;
    if status.observed_generation != token.metadata.generation {
        return Err(format!("{name} tells of a former generation"));
    }
    let wanted = people.identities.contains(&people.identity_of(&name));
    if is_ready(&status.conditions) != wanted {
        return Err(format!("{name} is Ready: {}", !wanted));
    }
    if !wanted {
        return Ok(());
    }
    let bytes = world.secret_value(&name, "token").await;
    let bytes = bytes.ok_or(format!("T5: {name} is Ready without its Secret"))?;
    let check = world.emulator.check(&bytes).await;
    if !check.valid {
        return Err(format!(
            "T1: {name} is Ready with a dead token: {:?}",
            check.reason
        ));
    }
    let scopes: BTreeSet<_> = check.scopes.unwrap_or_default().into_iter().collect();
    if scopes != people.tokens[&name] {
        return Err(format!(
            "T2: {name} has {scopes:?}, wanted are {:?}",
            people.tokens[&name]
        ));
    }
    Ok(())
}

/// R1, I1: a token that allows more than is wanted now, or whose object or user was deleted, is
/// invalid; and so are all tokens of users without an object.
async fn nobody_else_has_one(
    world: &World,
    people: &People,
    seen: &Seen,
    ids: &BTreeSet<String>,
) -> Result<(), String> {
    for (token, (name, first)) in &seen.0 {
        let check = world.emulator.check(token).await;
        let scopes: BTreeSet<_> = check.scopes.unwrap_or_default().into_iter().collect();
        let has_user = people.identities.contains(&people.identity_of(name));
        let wanted = people.tokens.get(name).filter(|_| has_user);
        if check.valid && wanted.is_none_or(|wanted| !scopes.is_subset(wanted)) {
            return Err(format!(
                "R1: a token of {name} with {scopes:?} is alive, wanted are {wanted:?}"
            ));
        }
        let revoked = people.revoked.get(&people.identity_of(name));
        if check.valid && revoked.is_some_and(|asked| first < asked) {
            return Err(format!(
                "R2: a token of {name} is alive, which was to be revoked"
            ));
        }
    }
    for user in world.emulator.living().await {
        let lives = user.tokens.iter().any(|token| !token.revoked);
        if !ids.contains(&user.id) && lives {
            return Err(format!(
                "I1: {} has a live token, and nobody knows it",
                user.id
            ));
        }
    }
    let living: BTreeSet<_> = world
        .emulator
        .living()
        .await
        .into_iter()
        .map(|it| it.id)
        .collect();
    match ids.difference(&living).next() {
        Some(id) => Err(format!(
            "I2: {id} was deleted in ACS although its object is there"
        )),
        None => Ok(()),
    }
}
