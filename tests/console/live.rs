//! The page shows the objects, and their changes as they happen.

use acs_identity_operator::crd::{AcsConnection, AcsIdentity, AcsToken};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::{
    browser::Browser,
    console::Console,
    run::says,
    support::{eventually, world::World},
};

fn key(world: &World, kind: &str, name: &str) -> String {
    format!("{kind}/{}/{name}", world.namespace)
}

async fn token_status(world: &World, name: &str, change: Value) {
    let change = Patch::Merge(json!({"status": change}));
    let (api, parameters) = (world.api::<AcsToken>(), PatchParams::default());
    let patched = api.patch_status(name, &parameters, &change).await;
    patched.unwrap();
}

#[tokio::test]
async fn what_is_made_changed_and_deleted_by_others_is_seen_as_it_happens() {
    let world = World::new().await;
    let console = Console::start(&world);
    let browser = Browser::open(&console).await;
    browser
        .see(
            "#empty",
            &format!("There are no tokens in namespace {}.", world.namespace),
        )
        .await;
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat], expiresIn: 3h");
    browser.see("#rows", "TokenIssued").await;
    browser.see("#summary", "1 token").await;
    browser.choose(&key(&world, "AcsToken", "web")).await;
    let seen = browser.see("#detail", "TokenIssued").await;
    says(
        &seen,
        &[
            "Ready",
            "issued",
            "renewal due in 1h",
            "expires in 2h 59m",
            "Credential",
        ],
    );
    // Narrower scopes: the row shows them, and the identity has an Event.
    let change = json!({"spec": {"scopes": ["voip.join"]}});
    world.patch::<AcsToken>("web", change).await;
    browser.see("#rows", "voip.join").await;
    let event = world.event("alice", "TokensRevoked").await;
    browser.click("#detail dd button").await;
    browser.see("#detail h2", "alice").await;
    browser.see("#detail", "web Ready").await;
    let seen = browser.see("#detail", "TokensRevoked").await;
    says(&seen, &["Last revocation", "Events", &event]);
    browser.click("#tabs [data-tab='Events']").await;
    let seen = browser.see("#rows", "TokensRevoked").await;
    says(&seen, &["alice", &event]);
    browser.click("#tabs [data-tab='Tokens']").await;
    world.delete::<AcsIdentity>("alice").await;
    browser
        .holds("document.querySelector('#detail').hidden")
        .await;
    world.delete::<AcsToken>("web").await;
    browser.see("#empty", "There are no tokens").await;
}

#[tokio::test]
async fn what_needs_a_person_comes_first_and_says_what_to_do() {
    let world = World::new().await;
    world.identity("alice", "");
    world.token("a-good", "alice", "scopes: [chat]");
    world.apply("{apiVersion: v1, kind: Secret, metadata: {name: z-taken}, stringData: {a: b}}");
    world.token("z-taken", "alice", "scopes: [chat]");
    world.ready("a-good").await;
    let console = Console::start(&world);
    let browser = Browser::open(&console).await;
    browser.see("#summary", "2 tokens: 1 needs action").await;
    browser
        .holds("document.querySelector('#rows tr.row button').textContent === 'z-taken'")
        .await;
    browser.choose(&key(&world, "AcsToken", "z-taken")).await;
    let seen = browser.see("#detail .why", "SecretConflict").await;
    says(
        &seen,
        &["was not created by this operator; delete it or set another secret.name"],
    );
    browser.click("#summary button").await;
    browser.see("#summary", "1 of 2 tokens").await;
    world.delete::<Secret>("z-taken").await;
    browser
        .see("#empty", "No object matches the search and the state.")
        .await;
    browser.see("#detail .pill", "Ready").await;
}

#[tokio::test]
async fn a_renewal_that_is_late_is_seen_on_the_timeline_and_a_suspended_one_is_not_late() {
    let mut world = World::new().await;
    world.identity("alice", "");
    for name in ["late", "soon", "paused"] {
        world.token(name, "alice", "scopes: [chat], expiresIn: 4h");
        world.ready(name).await;
    }
    world
        .patch::<AcsToken>("paused", json!({"spec": {"suspend": true}}))
        .await;
    world.token_says("paused", "Suspended").await;
    world.kill_operator();
    let ago = |minutes| (Timestamp::now() - SignedDuration::from_mins(minutes)).to_string();
    token_status(
        &world,
        "late",
        json!({"issuedAt": ago(180), "renewAt": ago(25)}),
    )
    .await;
    token_status(
        &world,
        "paused",
        json!({"issuedAt": ago(180), "renewAt": ago(25)}),
    )
    .await;
    token_status(
        &world,
        "soon",
        json!({"renewAt": Timestamp::now().to_string()}),
    )
    .await;
    let console = Console::start(&world);
    let browser = Browser::open(&console).await;
    browser
        .see("#summary", "3 tokens: 1 renewal is overdue")
        .await;
    let late = |name: &str| {
        format!(
            "document.querySelector('tr[data-key=\"{}\"] .late')",
            key(&world, "AcsToken", name)
        )
    };
    browser
        .holds(&format!("{}.offsetWidth >= 6", late("late")))
        .await;
    browser.holds(&format!("{}.hidden", late("soon"))).await;
    browser.holds(&format!("{}.hidden", late("paused"))).await;
    browser
        .holds("document.querySelector('#rows tr.row button').textContent === 'late'")
        .await;
    browser.see("#rows", "Ready, renewal overdue").await;
    let order = format!(
        "(() => {{ const at = (part) => document.querySelector('tr[data-key=\"{}\"] .' + part).getBoundingClientRect(); \
         return at('life').left < at('renew').left && at('renew').left < at('now').left && at('now').left < at('life').right; }})()",
        key(&world, "AcsToken", "late")
    );
    browser.holds(&order).await;
    browser.choose(&key(&world, "AcsToken", "late")).await;
    browser.see("#detail", "renewal overdue by 25m").await;
    // The operator runs again.
    world.start_operator();
    browser.see("#summary", "3 tokens").await;
    browser
        .holds("!document.querySelector('#summary').textContent.includes('overdue')")
        .await;
}

#[tokio::test]
async fn a_key_roll_shows_how_far_it_is_and_when_the_key_may_go() {
    let mut world = World::new().await;
    // The page shows the credential once ACS has accepted it, which may be after the first Ready.
    world.identity("alice", "");
    let connections = world.api::<AcsConnection>();
    eventually("AcsConnection default tells its credential", || async {
        let status = connections.get("default").await.expect("readable").status;
        status?.credential
    })
    .await;
    world.kill_operator();
    let now = Timestamp::now().to_string();
    let condition = |type_: &str, status: &str, reason: &str, message: &str| json!({"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": now});
    let ready = condition("Ready", "True", "ConnectionReady", "fine");
    let early = condition(
        "SafeToRegenerate",
        "False",
        "RenewingSecrets",
        "30 Secrets are left",
    );
    world
        .patch_status("default", json!({"tokens": 40, "formerTokens": {"left": 30}, "refusedCredentials": ["sha256:abc"], "conditions": [ready, early]}))
        .await;
    let console = Console::start(&world);
    let browser = Browser::open(&console).await;
    browser.click("#tabs [data-tab='Connections']").await;
    browser
        .see("#rows", "30 tokens of the former credential remain")
        .await;
    browser
        .choose(&key(&world, "AcsConnection", "default"))
        .await;
    let seen = browser.see("#detail", "Key roll").await;
    says(
        &seen,
        &[
            "ACS rejects a credential that it accepted before",
            "Credential",
            "30 of 40 tokens were issued with the former credential.",
            "RenewingSecrets: 30 Secrets are left",
        ],
    );
    browser
        .holds("document.querySelector('#detail progress').value === 10")
        .await;
    let safe = condition(
        "SafeToRegenerate",
        "True",
        "FormerTokensExpired",
        "regenerate it",
    );
    world
        .patch_status(
            "default",
            json!({"formerTokens": {"left": 0}, "conditions": [ready, safe]}),
        )
        .await;
    browser
        .see("#detail", "FormerTokensExpired: regenerate it")
        .await;
    browser
        .holds("document.querySelector('#detail progress').value === 40")
        .await;
}

#[tokio::test]
async fn revocations_are_shown_with_their_progress_and_targets() {
    let world = World::with_a_token().await;
    let console = Console::start(&world);
    let browser = Browser::open(&console).await;
    browser.click("#tabs [data-tab='Revocations']").await;
    world.apply("{apiVersion: acs-identity.dev/v1alpha1, kind: AcsRevocation, metadata: {name: leaked}, spec: {names: [alice], reason: a log leaked}}");
    let seen = browser.see("#rows", "1 of 1").await;
    says(&seen, &["leaked", "a log leaked"]);
    browser
        .choose(&key(&world, "AcsRevocation", "leaked"))
        .await;
    browser.see("#detail", "alice: revoked").await;
}

#[tokio::test]
async fn search_state_and_namespace_narrow_what_is_shown() {
    let world = World::new().await;
    let other = World::new().await;
    for world in [&world, &other] {
        world.identity("alice", "");
        world.token("alice-web", "alice", "scopes: [chat]");
        world.token("alice-bot", "alice", "scopes: [voip.join], suspend: true");
        world.ready("alice-web").await;
        world.token_says("alice-bot", "Suspended").await;
    }
    let console = Console::start_with(&world.cluster.kubeconfig, &[]);
    let browser = Browser::open(&console).await;
    let row = |world: &World, name: &str| {
        format!(
            "document.querySelector('tr[data-key=\"{}\"]')",
            key(world, "AcsToken", name)
        )
    };
    // All namespaces, then a single one.
    browser.fill("#search", &other.namespace).await;
    browser
        .holds(&format!(
            "{} !== null && {} === null",
            row(&other, "alice-web"),
            row(&world, "alice-web")
        ))
        .await;
    browser.fill("#search", "alice").await;
    browser
        .holds(&format!(
            "{} !== null && {} !== null",
            row(&other, "alice-web"),
            row(&world, "alice-web")
        ))
        .await;
    browser.fill("#namespace", &world.namespace).await;
    browser.key(fantoccini::key::Key::Enter).await;
    browser.see("#summary", "2 tokens").await;
    browser
        .holds(&format!("{} === null", row(&other, "alice-web")))
        .await;
    browser.fill("#search", "voip.join BOT").await;
    browser.see("#summary", "1 of 2 tokens").await;
    browser.fill("#search", "a").await;
    browser.click("#state option[value='Suspended']").await;
    browser.see("#summary", "1 of 2 tokens").await;
    browser.see("#rows", "alice-bot").await;
}

#[tokio::test]
async fn text_from_the_cluster_is_never_markup() {
    let mut world = World::with_a_token().await;
    world.kill_operator();
    let markup = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>";
    let ready = json!({"type": "Ready", "status": "False", "reason": "Odd", "message": markup, "lastTransitionTime": Timestamp::now().to_string()});
    token_status(&world, "web", json!({"conditions": [ready], "lastFailure": {"time": Timestamp::now().to_string(), "reason": "Odd", "message": markup}})).await;
    let console = Console::start(&world);
    let browser = Browser::open(&console).await;
    browser.see("#rows", "<img src=x").await;
    browser.choose(&key(&world, "AcsToken", "web")).await;
    browser.see("#detail .why", markup).await;
    assert_eq!(
        browser
            .eval("document.querySelectorAll('img, main b b').length")
            .await,
        0
    );
    assert_eq!(browser.eval("document.title").await, "kubectl acs console");
    // The browser refuses HTML that a script inserts.
    let refused =
        "(() => { try { document.body.innerHTML = '<p>'; return false } catch { return true } })()";
    assert_eq!(browser.eval(refused).await, true);
}

#[tokio::test]
async fn a_console_that_has_ended_is_told_and_one_that_lost_its_cluster_too() {
    let world = World::new().await;
    let mut console = Console::start(&world);
    let browser = Browser::open(&console).await;
    console.process.terminate();
    browser
        .see(
            "#link",
            "no connection: check that kubectl acs console is still running",
        )
        .await;
    // A cluster that cannot be reached.
    let file = world.cluster.kubeconfig_in(&world.namespace);
    let text = std::fs::read_to_string(&file).unwrap();
    let server = text
        .lines()
        .find_map(|line| line.split_once("server: "))
        .unwrap()
        .1;
    let server = server.split(['}', ',']).next().unwrap();
    std::fs::write(&file, text.replace(server, "https://127.0.0.1:1")).unwrap();
    let console = Console::start_with(&file, &["-n", &world.namespace]);
    let browser = Browser::open(&console).await;
    browser
        .see("#denied", "cannot reach the API server https://127.0.0.1:1")
        .await;
}
