//! Changes by users during a disturbance, and the state that they expect afterwards.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use fastrand::Rng;

use crate::{
    Timeline,
    support::world::{World, identity_manifest, token_manifest},
};

const SCOPES: [&str; 4] = ["chat", "chat.join", "voip", "voip.join"];

/// Expected objects, as a GitOps repository would declare them.
pub struct People {
    /// Maximum number of identities.
    users: u16,
    /// Maximum number of tokens.
    most: u16,
    /// Names of the identities.
    pub identities: BTreeSet<String>,
    /// Scopes of the tokens, by name.
    pub tokens: BTreeMap<String, BTreeSet<String>>,
    /// Names of objects that are being deleted; the names are free again after the round.
    pub deleted: BTreeSet<String>,
    /// Time of the last requested revocation, by identity.
    pub revoked: BTreeMap<String, Instant>,
    /// Tokens whose Secrets were edited: the repair of a second edit within an hour is delayed by
    /// minutes.
    meddled: BTreeSet<String>,
}

impl People {
    /// Starts without objects; creates at most this many.
    pub fn new(users: u16, most: u16) -> Self {
        Self {
            users,
            most,
            identities: BTreeSet::new(),
            tokens: BTreeMap::new(),
            deleted: BTreeSet::new(),
            revoked: BTreeMap::new(),
            meddled: BTreeSet::new(),
        }
    }

    /// Returns the identity of a token.
    pub fn identity_of(&self, token: &str) -> String {
        let number = token.rsplit('-').next().expect("a number");
        let number: u16 = number.parse().expect("one");
        format!("user-{}", number % self.users)
    }

    /// Creates all objects up to the maximum, a few hundred at a time.
    pub fn complete(&mut self, world: &World) {
        let mut manifests = Vec::new();
        for number in 0..self.most {
            let name = format!("token-{number}");
            let owner = self.identity_of(&name);
            if self.identities.insert(owner.clone()) {
                manifests.push(identity_manifest(&owner, ""));
            }
            if !self.tokens.contains_key(&name) {
                manifests.push(token_manifest(&name, &owner, "scopes: [chat]"));
                let scopes = BTreeSet::from(["chat".to_owned()]);
                self.tokens.insert(name, scopes);
            }
        }
        for some in manifests.chunks(400) {
            world.apply(&some.join("---\n"));
        }
    }

    /// Makes several changes at once, as a commit would.
    pub async fn change(&mut self, world: &World, random: &mut Rng, timeline: &mut Timeline) {
        for _ in 0..random.u8(1..=5) {
            let said = match random.u8(..10) {
                0..=4 => self.token(world, random),
                5 => self.identity(world, random),
                6 => self.without_token(world, random),
                7 if random.bool() => self.without_identity(world, random),
                8 => self.revocation(world, random),
                _ => self.secret(world, random),
            };
            if let Some(said) = said {
                timeline.note(said);
            }
        }
    }

    /// Frees the names of deleted objects.
    pub fn settled(&mut self) {
        self.deleted.clear();
    }

    fn token(&mut self, world: &World, random: &mut Rng) -> Option<String> {
        let name = format!("token-{}", random.u16(..self.most));
        if self.deleted.contains(&name) {
            return None;
        }
        let owner = self.identity_of(&name);
        if !self.deleted.contains(&owner) && self.identities.insert(owner.clone()) {
            world.identity(&owner, "");
        }
        let mut scopes: BTreeSet<_> = SCOPES.iter().filter(|_| random.bool()).copied().collect();
        scopes.insert(SCOPES[random.usize(..SCOPES.len())]);
        let list: Vec<_> = scopes.iter().copied().collect();
        let said = format!("{name} of {owner} has {}", list.join(","));
        world.apply(&token_manifest(
            &name,
            &owner,
            &format!("scopes: [{}]", list.join(", ")),
        ));
        let scopes = scopes.into_iter().map(ToOwned::to_owned).collect();
        self.tokens.insert(name, scopes);
        Some(said)
    }

    fn identity(&mut self, world: &World, random: &mut Rng) -> Option<String> {
        let name = format!("user-{}", random.u16(..self.users));
        if self.deleted.contains(&name) || !self.identities.insert(name.clone()) {
            return None;
        }
        world.identity(&name, "");
        Some(format!("{name} is made"))
    }

    fn without_token(&mut self, world: &World, random: &mut Rng) -> Option<String> {
        let names: Vec<_> = self.tokens.keys().cloned().collect();
        let name = random.choice(names)?;
        self.tokens.remove(&name);
        self.meddled.remove(&name);
        delete(world, "acstoken", &name);
        let said = format!("{name} is deleted");
        self.deleted.insert(name);
        Some(said)
    }

    fn without_identity(&mut self, world: &World, random: &mut Rng) -> Option<String> {
        let names: Vec<_> = self.identities.iter().cloned().collect();
        let name = random.choice(names)?;
        self.identities.remove(&name);
        delete(world, "acsidentity", &name);
        let said = format!("{name} is deleted");
        self.deleted.insert(name);
        Some(said)
    }

    fn revocation(&mut self, world: &World, random: &mut Rng) -> Option<String> {
        let names: Vec<_> = self.identities.iter().cloned().collect();
        let name = random.choice(names)?;
        let request = format!("acs-identity.dev/requested-at={}", random.u32(..));
        let object = format!("acsidentity/{name}");
        let annotate = [
            "annotate",
            &object,
            "--overwrite",
            "acs-identity.dev/request=revoke",
            &request,
        ];
        world
            .cluster
            .kubectl(&[&annotate[..], &["-n", &world.namespace]].concat());
        let said = format!("a revocation of {name} is asked for");
        self.revoked.insert(name, Instant::now());
        Some(said)
    }

    /// Deletes a token's Secret, or writes invalid data into it.
    fn secret(&mut self, world: &World, random: &mut Rng) -> Option<String> {
        let names = self
            .tokens
            .keys()
            .filter(|name| !self.meddled.contains(*name));
        let name = random.choice(names.cloned().collect::<Vec<_>>())?;
        let object = format!("secret/{name}");
        let patch = r#"{"stringData": {"token": "nonsense"}}"#;
        let (said, meddle) = if random.bool() {
            ("deleted", vec!["delete", &object, "--ignore-not-found"])
        } else {
            (
                "edited",
                vec!["patch", &object, "--type", "merge", "--patch", patch],
            )
        };
        // It may not exist, or may just be deleted.
        let _ = world
            .cluster
            .pipe(&[&meddle[..], &["-n", &world.namespace]].concat(), "");
        let said = format!("Secret {name} is {said}");
        self.meddled.insert(name);
        Some(said)
    }
}

fn delete(world: &World, kind: &str, name: &str) {
    let delete = ["delete", kind, name, "--wait=false", "-n", &world.namespace];
    world.cluster.kubectl(&delete);
}
