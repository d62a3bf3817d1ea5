//! Crashes: the real process is killed at random moments of create, issue, rotate, revoke and
//! delete; afterwards the state of the emulator is checked.

use std::collections::{BTreeMap, BTreeSet};

use acs_identity_operator::{
    crd::scopes_text,
    crd::{AcsIdentity, AcsToken},
};
use kube::{ResourceExt, api::ListParams};
use serde_json::json;

use crate::support::world::{World, spec};

/// Number of times that the process is killed.
const CRASHES: u32 = 50;
const IDENTITIES: u32 = 4;

#[tokio::test]
async fn fifty_crashes_lose_no_identity_and_leave_no_token_alive_that_was_given_up() {
    let mut world = World::with(&["--minute", "1s"], &[]).await;
    // Every token that a Secret ever held, with the scopes that it was issued for.
    let mut held: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut objects: BTreeMap<String, i64> = BTreeMap::new();
    let seed = std::process::id();
    println!("seed {seed}");
    let mut dice = Dice(u64::from(seed));
    for round in 0..CRASHES {
        disturb(&world, round, &mut dice).await;
        // A moment somewhere within the work that the change causes.
        let after = dice.roll(400);
        let until = tokio::time::Instant::now() + std::time::Duration::from_millis(after);
        while tokio::time::Instant::now() < until {
            note(&world, &mut held, &mut objects).await;
        }
        world.kill_operator();
        note(&world, &mut held, &mut objects).await;
        world.start_operator();
    }
    world.no_deletion_is_under_way().await;
    for token in tokens(&world).await {
        world.ready(&token.name_any()).await;
    }
    note(&world, &mut held, &mut objects).await;
    world.settled().await;

    let created = world.emulator.identities().await.len();
    let unknown: i64 = objects.values().sum();
    let bound = objects.len() + usize::try_from(unknown).expect("few");
    assert!(
        created <= bound,
        "{created} identities, but {} objects and {unknown} unknown",
        objects.len()
    );

    let current: BTreeMap<_, _> = tokens(&world)
        .await
        .into_iter()
        .map(|token| (token.name_any(), token))
        .collect();
    let mut dead = 0;
    for (bytes, (name, scopes)) in &held {
        let check = world.emulator.check(bytes).await;
        if !check.valid {
            dead += 1;
            continue;
        }
        let token = current
            .get(name)
            .unwrap_or_else(|| panic!("a token of {name} survived it"));
        let wanted = scopes_text(&token.scopes());
        assert_eq!(
            *scopes, wanted,
            "a token of {name} with given-up scopes still works"
        );
    }
    println!(
        "{created} identities of {} objects, {unknown} unknown; {dead} of {} held tokens dead",
        objects.len(),
        held.len()
    );
}

/// Makes one change of the desired state.
async fn disturb(world: &World, round: u32, dice: &mut Dice) {
    let name = format!("user-{}", dice.roll(u64::from(IDENTITIES)));
    let identity = world.find::<AcsIdentity>(&name).await;
    if identity.is_none_or(|identity| identity.metadata.deletion_timestamp.is_some()) {
        world.gone_if_deleting(&name).await;
        world.identity(&name, "");
    }
    match dice.roll(6) {
        0 => world.delete::<AcsIdentity>(&name).await,
        1 => {
            let listed = tokens(world).await;
            if let Some(token) = listed
                .iter()
                .find(|token| token.metadata.deletion_timestamp.is_none())
            {
                world.delete::<AcsToken>(&token.name_any()).await;
            }
        }
        _ => {
            let token = format!("{name}-{}", dice.roll(2));
            let scopes = [json!(["chat"]), json!(["voip"]), json!(["chat", "voip"])];
            let scopes = &scopes[usize::try_from(dice.roll(3)).expect("small")];
            let existing = world.find::<AcsToken>(&token).await;
            match existing {
                Some(existing) if existing.metadata.deletion_timestamp.is_none() => {
                    world
                        .patch::<AcsToken>(&token, spec(&json!({"scopes": scopes})))
                        .await;
                }
                Some(_) => {}
                None => world.token(
                    &token,
                    &name,
                    &format!("scopes: {scopes}, expiresIn: {}h", 1 + round % 24),
                ),
            }
        }
    }
}

async fn tokens(world: &World) -> Vec<AcsToken> {
    let tokens = world
        .api::<AcsToken>()
        .list(&ListParams::default())
        .await
        .expect("readable")
        .items;
    let identities = world
        .api::<AcsIdentity>()
        .list(&ListParams::default())
        .await
        .expect("readable");
    let names: BTreeSet<_> = identities.iter().map(ResourceExt::name_any).collect();
    tokens
        .into_iter()
        .filter(|token| token.metadata.deletion_timestamp.is_none())
        .filter(|token| {
            token
                .identity_name()
                .is_some_and(|name| names.contains(name))
        })
        .collect()
}

/// Records the tokens in the Secrets, and the number of creates with an unknown outcome.
async fn note(
    world: &World,
    held: &mut BTreeMap<String, (String, String)>,
    objects: &mut BTreeMap<String, i64>,
) {
    let identities = world
        .api::<AcsIdentity>()
        .list(&ListParams::default())
        .await
        .expect("readable");
    for identity in identities {
        let unknown = identity
            .status
            .as_ref()
            .and_then(|status| status.unknown_creates)
            .unwrap_or(0);
        // A create that is recorded and not answered counts as soon as its object is deleted.
        let pending = identity
            .status
            .as_ref()
            .is_some_and(|status| status.pending_create.is_some());
        let leaving = pending && identity.metadata.deletion_timestamp.is_some();
        let noted = objects
            .entry(identity.uid().unwrap_or_default())
            .or_default();
        *noted = (*noted).max(unknown + i64::from(leaving));
    }
    let secrets = world.api::<k8s_openapi::api::core::v1::Secret>();
    for secret in secrets
        .list(&ListParams::default())
        .await
        .expect("readable")
    {
        let name = secret.name_any();
        let data = secret.data.unwrap_or_default();
        if let (Some(token), Some(scopes)) = (data.get("token"), data.get("scopes")) {
            let text =
                |bytes: &k8s_openapi::ByteString| String::from_utf8(bytes.0.clone()).expect("text");
            held.insert(text(token), (name, text(scopes)));
        }
    }
}

/// Pseudorandom numbers, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}
