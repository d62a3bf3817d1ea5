//! Key rotation without interruption (C1): what is reported meanwhile, and when it is safe to
//! regenerate the former key.

use std::{cell::Cell, collections::BTreeMap};

use acs_identity_operator::crd::{
    AcsConnection, AcsIdentity, AcsToken, ConnectionStatus, FormerTokens, SAFE_TO_REGENERATE,
    is_ready,
};
use futures::{StreamExt, stream};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, api::ListParams};
use serde_json::json;

use crate::support::{
    emulator::Emulator,
    eventually,
    kubernetes::root,
    world::{World, condition, spec, token_manifest},
};

/// Creates a world with both keys of the emulator in one Secret; the first is in use.
pub async fn world_with_two_keys(operator: &[&str], emulator: &[&str]) -> World {
    let mut world = World::bare(emulator, operator).await;
    let secondary = world.emulator.regenerate("secondary").await;
    world.apply(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: acs-keys}}\n\
         stringData: {{primary: \"{}\", secondary: \"{secondary}\"}}\n---\n\
         apiVersion: acs-identity.dev/v1alpha1\nkind: AcsConnection\nmetadata: {{name: default}}\n\
         spec: {{endpoint: \"{}\", auth: {{accessKey: {{secretRef: {{name: acs-keys, key: primary}}}}}}}}\n",
        world.emulator.access_key(),
        world.emulator.url
    ));
    world.start_operator();
    world
}

/// Switches to the key with this name in the Secret.
async fn use_key(world: &World, key: &str) {
    let change = json!({"spec": {"auth": {"accessKey": {"secretRef": {"key": key}}}}});
    world.patch::<AcsConnection>("default", change).await;
}

/// Sets the key of the Secret that is tried when the other is rejected.
pub async fn fall_back_to(world: &World, key: &str) {
    let second = json!({"secondarySecretRef": {"name": "acs-keys", "key": key}});
    let change = json!({"spec": {"auth": {"accessKey": second}}});
    world.patch::<AcsConnection>("default", change).await;
}

/// Stores a key in the Secret.
pub async fn store_key(world: &World, name: &str, key: &str) {
    let change = json!({"stringData": {name: key}});
    world.patch::<Secret>("acs-keys", change).await;
}

/// Creates this many tokens, ten per identity, and waits until all are Ready.
pub async fn make_tokens(world: &World, count: usize) {
    let mut manifests = String::new();
    for number in 0..count {
        let identity = format!("user-{}", number / 10);
        if number % 10 == 0 {
            manifests += "apiVersion: acs-identity.dev/v1alpha1\nkind: AcsIdentity\nspec: {}\n";
            manifests += &["metadata: {name: ", &identity, "}\n---\n"].concat();
        }
        manifests += &token_manifest(&format!("token-{number}"), &identity, "scopes: [chat]");
        manifests += "---\n";
    }
    world.apply(&manifests);
    eventually("all tokens are Ready", || async {
        (ready_tokens(world).await == count).then_some(())
    })
    .await;
}

pub async fn tokens(world: &World) -> Vec<AcsToken> {
    let all = world.api::<AcsToken>().list(&ListParams::default()).await;
    all.expect("readable").items
}

pub async fn ready_tokens(world: &World) -> usize {
    let tokens = tokens(world).await;
    let statuses = tokens.iter().filter_map(|token| token.status.as_ref());
    statuses
        .filter(|status| is_ready(&status.conditions))
        .count()
}

/// Returns the tokens in all Secrets of the operator.
pub async fn secrets(world: &World) -> BTreeMap<String, String> {
    let ours = ListParams::default().labels("acs-identity.dev/token-uid");
    let all = world.api::<Secret>().list(&ours).await.expect("readable");
    let token = |secret: &Secret| {
        let bytes = secret.data.as_ref().expect("data")["token"].0.clone();
        String::from_utf8(bytes).expect("text")
    };
    let named = |secret: &Secret| (secret.name_any(), token(secret));
    all.items.iter().map(named).collect()
}

/// Returns those of these tokens that ACS would reject, and why.
async fn dead(world: &World, tokens: &BTreeMap<String, String>) -> Vec<String> {
    stream::iter(tokens)
        .map(|(name, token)| async move {
            let check = world.emulator.check(token).await;
            (!check.valid).then(|| format!("{name}: {:?}", check.reason))
        })
        .buffer_unordered(8)
        .filter_map(|dead| async { dead })
        .collect()
        .await
}

/// Simulates the kubelet: Secrets are read repeatedly, and pods see the previous reading. Returns
/// the invalid tokens that pods saw, and the number of readings.
async fn watch_mounts(world: &World, is_over: &Cell<bool>) -> (Vec<String>, usize) {
    let (mut seen, mut looks) = (Vec::new(), 0);
    let mut mounted = secrets(world).await;
    while !is_over.get() {
        let read = secrets(world).await;
        seen.extend(dead(world, &mounted).await);
        mounted = read;
        looks += 1;
    }
    seen.extend(dead(world, &mounted).await);
    (seen, looks)
}

/// Returns the number of calls that ACS rejected for their signature.
pub async fn refusals(world: &World) -> usize {
    let requests = world.emulator.requests().await;
    requests
        .iter()
        .filter(|request| request.status == Some(401))
        .count()
}

/// Waits until every Secret holds a valid token of this key, and every token is Ready.
pub async fn all_are_made_with(world: &World, key: &str, count: usize) {
    eventually(&format!("all tokens are made with {key}"), || async {
        let secrets = secrets(world).await;
        let mut made = 0;
        for token in secrets.values() {
            let check = world.emulator.check(token).await;
            made += usize::from(check.valid && check.key.as_deref() == Some(key));
        }
        (made == count && ready_tokens(world).await == count).then_some(())
    })
    .await;
}

pub async fn status(world: &World) -> ConnectionStatus {
    let connection = world.api::<AcsConnection>().get("default").await;
    connection.expect("a connection").status.unwrap_or_default()
}

/// Waits until `SafeToRegenerate` has this status and reason.
pub async fn safe_to_regenerate(world: &World, safe: &str, reason: &str) -> (String, FormerTokens) {
    eventually(&format!("SafeToRegenerate is {safe}: {reason}"), || async {
        let status = status(world).await;
        let said = condition(&status.conditions, SAFE_TO_REGENERATE)?;
        let is_it = said.status == safe && said.reason == reason;
        is_it.then(|| {
            (
                said.message.clone(),
                status.former_tokens.clone().unwrap_or_default(),
            )
        })
    })
    .await
}

#[tokio::test]
async fn what_is_left_of_a_former_key_is_told_until_it_has_run_out() {
    // An hour of token lifetime lasts 48 s.
    let arguments = ["--pods-reread-within", "15s"];
    let mut world = world_with_two_keys(&arguments, &["--minute", "800ms"]).await;
    world.identity("alice", "");
    for name in ["a", "b", "c"] {
        world.token(name, "alice", "scopes: [chat], expiresIn: 1h");
    }
    for name in ["a", "b", "c"] {
        world.ready(name).await;
    }
    let (_, former) = safe_to_regenerate(&world, "True", "NoFormerTokens").await;
    assert_eq!(former, FormerTokens::default());
    let mut last_end = None;
    for name in ["a", "b", "c"] {
        let token = world.ready(name).await.status.expect("a status");
        last_end = last_end.max(token.expires_at.map(|end| end.0));
    }
    use_key(&world, "secondary").await;
    // Counted again ten seconds later.
    let (_, counted) = safe_to_regenerate(&world, "False", "FormerTokensLeft").await;
    let (_, metrics) = world.operator().get("/metrics").await;
    let line = format!("\nacs_identity_operator_former_tokens {}\n", counted.left);
    assert!(metrics.contains(&line), "{line} is missing in\n{metrics}");
    let (message, former) = safe_to_regenerate(&world, "False", "SecretsJustRewritten").await;
    assert_eq!(former.left, 0);
    let rewritten = former.last_rewrite.clone().expect("a rewrite").0;
    assert!(
        message.contains(&(rewritten + SignedDuration::from_secs(15)).to_string()),
        "{message}"
    );
    // A renewal may have come between; it is no earlier than what was seen.
    let end = former.expire_at.clone().expect("an end").0;
    assert!(Some(end) >= last_end, "{end} is before {last_end:?}");
    let (message, same) = safe_to_regenerate(&world, "False", "SecretsRenewed").await;
    assert_eq!(same, former);
    assert!(message.contains(&end.to_string()), "{message}");
    let tokens = world.emulator.identities().await.remove(0).tokens;
    assert!(tokens.iter().any(|token| token.key == "primary"));

    // After a restart all of that is read from the cluster.
    world.kill_operator();
    world
        .patch_status("default", json!({"formerTokens": null, "conditions": []}))
        .await;
    world.start_operator();
    let (_, found) = safe_to_regenerate(&world, "False", "SecretsRenewed").await;
    assert_eq!(found, former);
    let (_, after) = safe_to_regenerate(&world, "True", "NoFormerTokens").await;
    assert_eq!(after, former);
    assert!(
        jiff::Timestamp::now() >= end,
        "it was called safe before {end}"
    );
}

#[tokio::test]
async fn tokens_of_an_identity_that_names_another_resource_now_count_for_the_one_that_issued_them()
{
    let world = world_with_two_keys(&["--pods-reread-within", "1s"], &[]).await;
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat]");
    world.ready("web").await;
    safe_to_regenerate(&world, "True", "NoFormerTokens").await;
    let other = Emulator::start(&[]);
    world.connect("other", &other.connection_string);
    let elsewhere = json!({"connectionRef": {"kind": "AcsConnection", "name": "other"}});
    world.patch::<AcsIdentity>("alice", spec(&elsewhere)).await;
    world.identity_says("alice", "EndpointChanged").await;
    use_key(&world, "secondary").await;
    // A call with the new key is needed.
    world.identity("bob", "");
    world.identity_says("bob", "IdentityReady").await;
    let (_, former) = safe_to_regenerate(&world, "False", "FormerTokensLeft").await;
    assert_eq!(former.left, 1);
    let back = json!({"connectionRef": {"name": "default"}});
    world.patch::<AcsIdentity>("alice", spec(&back)).await;
    let (_, former) = safe_to_regenerate(&world, "False", "SecretsRenewed").await;
    assert_eq!(former.left, 0);
}

#[tokio::test]
async fn a_key_is_rotated_and_no_mounted_secret_ever_holds_a_dead_token() {
    let count = 300;
    let world = world_with_two_keys(&["--pods-reread-within", "10s"], &[]).await;
    make_tokens(&world, count).await;
    let is_over = Cell::new(false);
    let rotate = async {
        use_key(&world, "secondary").await;
        let (message, _) = safe_to_regenerate(&world, "False", "FormerTokensLeft").await;
        assert!(
            message.contains("regenerating its key would invalidate them"),
            "{message}"
        );
        let (_, former) = safe_to_regenerate(&world, "False", "SecretsRenewed").await;
        assert_eq!(former.left, 0);
        let fresh = world.emulator.regenerate("primary").await;
        let before = secrets(&world).await;
        // The new key is for the next rotation; until then it changes nothing.
        store_key(&world, "primary", &fresh).await;
        world.settled().await;
        assert_eq!(secrets(&world).await, before);
        is_over.set(true);
    };
    let ((dead, looks), ()) = tokio::join!(watch_mounts(&world, &is_over), rotate);
    assert_eq!(dead, Vec::<String>::new(), "pods held dead tokens");
    assert!(looks > 3, "pods looked {looks} times");
    assert_eq!(secrets(&world).await.len(), count);
    all_are_made_with(&world, "secondary", count).await;
    assert_eq!(
        world.issued().await,
        2 * count,
        "not one token more than needed"
    );
    assert_eq!(refusals(&world).await, 0);
}

/// Replacement for `az` with the commands of the page: it returns the emulator's keys.
const AZ: &str = r#"#!/usr/bin/env bash
set -euo pipefail
[[ "$1 $3 $4 $5 $6" == "communication --name contoso --resource-group apps" && "$*" == *"--output tsv" ]]
case "$2 $*" in
  list-key*" --query primaryKey "*) cat "$KEYS/primary" ;;
  list-key*" --query secondaryKey "*) cat "$KEYS/secondary" ;;
  regenerate-key*" --key-type Primary --query primaryKey "*)
    curl -sSf -X POST "$EMULATOR/_emulator/keys/primary/regenerate" | sed 's/.*accesskey=\([^"]*\).*/\1/' ;;
  *) echo "az does not know: $*" >&2; exit 1 ;;
esac
"#;

#[tokio::test]
async fn the_page_on_rotating_a_key_works_word_for_word() {
    let mut world = World::bare(&[], &["--pods-reread-within", "2s"]).await;
    world.start_operator();
    let folder = tempfile::tempdir().expect("a folder");
    let programs = folder.path();
    std::fs::write(programs.join("az"), AZ).expect("writable");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(programs.join("az"), executable).expect("permitted");
    let page = std::fs::read_to_string(root("docs/rotate-a-key.md")).expect("the page");
    let mut run = 0;
    for block in page.split("```").skip(1).step_by(2) {
        let (language, text) = block.split_once('\n').expect("a block");
        if language == "yaml" {
            let azure = "https://contoso.communication.azure.com";
            assert!(text.contains(azure), "{text}");
            world.apply(&text.replace(azure, &world.emulator.url));
            make_tokens(&world, 3).await;
            continue;
        }
        assert_eq!(language, "sh");
        if text.contains("list-key") {
            // Keys that the operator has not seen yet.
            let secondary = world.emulator.regenerate("secondary").await;
            std::fs::write(programs.join("secondary"), secondary).expect("writable");
            std::fs::write(programs.join("primary"), world.emulator.access_key())
                .expect("writable");
        }
        if run == 4 {
            // The last block is about a rejected key; a call has to detect it.
            world.token("new", "user-0", "scopes: [voip]");
            world.connection_says("default", "SecondaryKeyInUse").await;
        }
        let path = format!(
            "{}:{}:{}",
            programs.display(),
            world.cluster.programs.display(),
            std::env::var("PATH").expect("a PATH")
        );
        // The page waits for hours; here minutes are a failure.
        let mut script = std::process::Command::new("timeout");
        script
            .args(["2m", "bash", "-euo", "pipefail", "-c", text])
            .env("PATH", path)
            .env("KUBECONFIG", world.cluster.kubeconfig_in(&world.namespace))
            .env("EMULATOR", &world.emulator.url)
            .env("KEYS", programs);
        let output = script.output().expect("bash runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}\n{said}");
        run += 1;
    }
    assert_eq!(run, 5);
    assert!(dead(&world, &secrets(&world).await).await.is_empty());
}

#[tokio::test]
async fn while_a_key_rolls_the_most_urgent_go_first_and_a_new_token_finds_room() {
    let (late, soon) = (200, 20);
    let world = world_with_two_keys(&[], &[]).await;
    make_tokens(&world, late).await;
    world.identity("soon", "");
    let manifest = |number| {
        token_manifest(
            &format!("soon-{number}"),
            "soon",
            "scopes: [chat], expiresIn: 2h",
        )
    };
    world.apply(&(0..soon).map(manifest).collect::<Vec<_>>().join("---\n"));
    world.identity("new", "");
    eventually("all tokens are Ready", || async {
        (ready_tokens(&world).await == late + soon).then_some(())
    })
    .await;
    let before = world.issued().await;
    let slow =
        json!([{"operation": "issueToken", "effect": "delay", "delay": "1s", "probability": 1.0}]);
    world.emulator.faults(slow).await;
    use_key(&world, "secondary").await;
    eventually("the roll is on its way", || async {
        (world.issued().await >= before + 40).then_some(())
    })
    .await;
    world.token("new", "new", "scopes: [chat]");
    world.ready("new").await;
    world.emulator.heal().await;
    all_are_made_with(&world, "secondary", late + soon + 1).await;

    let id_of = |name: &'static str| {
        let world = &world;
        async move {
            let identity = world.get::<AcsIdentity>(name).await;
            identity.status.expect("a status").identity_id
        }
    };
    let (soon_id, new_id) = (id_of("soon").await, id_of("new").await);
    let mut roll = world.emulator.requests().await;
    roll.retain(|request| request.operation == "issueToken");
    let roll = roll.split_off(before);
    assert_eq!(roll.len(), late + soon + 1);
    let last_of = |id: &Option<String>| roll.iter().rposition(|request| request.identity_id == *id);
    // One call tries the key; 32 calls are in flight before the queue is sorted.
    let last = last_of(&soon_id).expect("made anew");
    assert!(
        last < 1 + 2 * 32 + soon,
        "an urgent token was made anew as number {last}"
    );
    let new = last_of(&new_id).expect("made");
    assert!(
        new + 50 < roll.len(),
        "a new token waited for the roll: it was number {new}"
    );
}
