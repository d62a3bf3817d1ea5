//! Actions on existing objects: each shows its command and its YAML, and does the same as they do.

use acs_identity_operator::crd::{AcsIdentity, AcsToken};
use serde_json::json;

use crate::{
    browser::Browser,
    console::Console,
    run::{end, program, says},
    support::world::World,
};

/// Returns the command, or the YAML, that the dialog shows.
async fn shown(browser: &Browser, number: usize) -> String {
    let text = format!("document.querySelectorAll('#act-plan pre')[{number}]?.textContent ?? ''");
    browser.see("#act-plan", "kubectl acs").await;
    browser.eval(&text).await.as_str().unwrap().to_owned()
}

/// Runs a command that the page has shown.
fn run(world: &World, line: &str) -> crate::run::Output {
    let words = line.strip_prefix("kubectl acs ").unwrap().split(' ');
    end(program(&world.cluster.kubeconfig).args(words))
}

fn key(world: &World, kind: &str, name: &str) -> String {
    format!("{kind}/{}/{name}", world.namespace)
}

async fn world_of_alice() -> World {
    let world = World::new().await;
    world.identity("alice", "");
    world.token("alice-web", "alice", "scopes: [chat]");
    world.token("alice-bot", "alice", "scopes: [voip]");
    world.ready("alice-web").await;
    world.ready("alice-bot").await;
    world
}

#[tokio::test]
async fn renewing_suspending_and_resuming_do_what_their_line_and_yaml_say() {
    let world = world_of_alice().await;
    let console = Console::start(&world);
    let browser = Browser::open(&console).await;
    browser.choose(&key(&world, "AcsToken", "alice-web")).await;
    let former = world.live_token("alice-web", &[]).await;
    browser.press("#detail [data-verb='renew']").await;
    let line = shown(&browser, 0).await;
    assert_eq!(
        line,
        format!(
            "kubectl acs renew alice-web --namespace={}",
            world.namespace
        )
    );
    let yaml = shown(&browser, 1).await;
    says(
        &yaml,
        &[
            "acs-identity.dev/request: renew",
            "acs-identity.dev/requested-at: \"20",
            "name: alice-web",
            "scopes:\n  - chat\n",
        ],
    );
    assert!(!yaml.contains("status") && !yaml.contains("uid"), "{yaml}");
    browser.press("#act-do").await;
    browser.see("#toasts", "renewed AcsToken").await;
    let second = world.live_token("alice-web", &[&former]).await;
    assert!(
        world.emulator.check(&former).await.valid,
        "a renewal revokes nothing"
    );
    // The command and the YAML do the same.
    run(&world, &line).fine();
    let third = world.live_token("alice-web", &[&former, &second]).await;
    world.apply(&yaml.replace("requested-at: \"20", "requested-at: \"x20"));
    world
        .live_token("alice-web", &[&former, &second, &third])
        .await;

    browser.press("#detail [data-verb='suspendToken']").await;
    says(
        &shown(&browser, 0).await,
        &["kubectl acs suspend --token alice-web --namespace="],
    );
    says(&shown(&browser, 1).await, &["suspend: true"]);
    browser.press("#act-do").await;
    browser.see("#detail .pill", "suspended").await;
    let token = world.get::<AcsToken>("alice-web").await;
    assert_eq!(token.spec.suspend, Some(true));
    browser.press("#detail [data-verb='resumeToken']").await;
    let line = shown(&browser, 0).await;
    assert!(!shown(&browser, 1).await.contains("suspend"));
    browser.press("#act-do").await;
    browser.see("#detail .pill", "Ready").await;
    let token = world.get::<AcsToken>("alice-web").await;
    assert_eq!(token.spec.suspend, None);
    run(&world, &line).fine();
}

#[tokio::test]
async fn revoking_asks_first_says_who_else_is_hit_and_may_suspend() {
    let world = world_of_alice().await;
    world.identity("bob", "");
    world.token("bob-web", "bob", "scopes: [chat]");
    let bobs = world.live_token("bob-web", &[]).await;
    let web = world.live_token("alice-web", &[]).await;
    let bot = world.live_token("alice-bot", &[]).await;
    let console = Console::start(&world);
    let browser = Browser::open(&console).await;
    browser.choose(&key(&world, "AcsToken", "alice-web")).await;
    browser.press("#detail [data-verb='revoke']").await;
    browser
        .see("#act-title", "Revoke all tokens of AcsIdentity alice")
        .await;
    browser
        .see(
            "#act-question",
            "Revoke all tokens of AcsIdentity alice and issue new ones?",
        )
        .await;
    let hit = browser.see("#act-affected", "loses access (2)").await;
    says(
        &hit,
        &[
            "AcsToken alice-bot, Secret alice-bot",
            "AcsToken alice-web, Secret alice-web",
        ],
    );
    assert!(!hit.contains("bob"), "{hit}");
    assert_eq!(world.emulator.count("revokeTokens").await, 0);
    browser.click("#act-suspend").await;
    browser
        .see(
            "#act-question",
            "and issue no new ones until it is resumed?",
        )
        .await;
    says(
        &browser.see("#act-plan", "--suspend").await,
        &["kubectl acs revoke alice", "--suspend", "suspend: true"],
    );
    browser.click("#act-suspend").await;
    browser.see("#act-question", "and issue new ones?").await;
    browser.press("#act-do").await;
    let toast = browser.see("#toasts", "issued AcsToken").await;
    says(&toast, &["revoked all tokens of AcsIdentity"]);
    assert!(!world.emulator.check(&web).await.valid && !world.emulator.check(&bot).await.valid);
    assert!(world.emulator.check(&bobs).await.valid);
    world.live_token("alice-web", &[&web]).await;
    assert_eq!(world.get::<AcsIdentity>("alice").await.spec.suspend, None);
}

#[tokio::test]
async fn deleting_asks_first_and_an_object_that_git_keeps_is_told() {
    let world = world_of_alice().await;
    let kept = json!({"metadata": {"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}}});
    world.patch::<AcsIdentity>("alice", kept).await;
    let console = Console::start(&world);
    let browser = Browser::open(&console).await;
    browser.allow_clipboard(&console).await;
    browser.choose(&key(&world, "AcsToken", "alice-bot")).await;
    browser.press("#detail [data-verb='deleteToken']").await;
    browser
        .see("#act-question", "Delete AcsToken alice-bot?")
        .await;
    // Neither closing the dialog nor copying the YAML changes anything.
    browser.click("#act [data-close]").await;
    browser.press("#detail [data-verb='deleteToken']").await;
    says(
        &shown(&browser, 0).await,
        &["kubectl acs delete --token alice-bot"],
    );
    browser.click("#act-yaml").await;
    browser.see("#toasts", "nothing was changed").await;
    assert!(world.find::<AcsToken>("alice-bot").await.is_some());
    browser.press("#detail [data-verb='deleteToken']").await;
    browser.press("#act-do").await;
    world.gone::<AcsToken>("alice-bot").await;
    browser
        .holds("document.querySelector('#detail').hidden")
        .await;
    browser.click("#tabs [data-tab='Identities']").await;
    browser.choose(&key(&world, "AcsIdentity", "alice")).await;
    browser.press("#detail [data-verb='deleteIdentity']").await;
    browser
        .see(
            "#act-question",
            "Delete AcsIdentity alice, also in ACS with all data; and AcsToken alice-web?",
        )
        .await;
    browser
        .see("#act-keepers", "Managed by Flux: also change it in git")
        .await;
    browser.press("#act-do").await;
    browser
        .see(
            "#toasts",
            &format!("deleted AcsIdentity {}/alice", world.namespace),
        )
        .await;
    assert!(world.emulator.living().await.is_empty());
}

#[tokio::test]
async fn an_action_that_fails_says_why_and_a_page_that_goes_away_stops_none() {
    let world = world_of_alice().await;
    let console = Console::start(&world);
    let cookie = console.enter().await;
    let action =
        |verb: &str, name: &str| json!({"verb": verb, "namespace": world.namespace, "name": name});
    let answer = console
        .post(&cookie, "/api/do", &action("renew", "nobody"))
        .await;
    assert_eq!(answer.status(), 404);
    says(
        &answer.text().await.unwrap(),
        &["AcsToken", "nobody does not exist"],
    );
    for name in ["--kubeconfig=/etc/passwd", "-A", "Not A Name"] {
        let answer = console
            .post(&cookie, "/api/do", &action("renew", name))
            .await;
        assert_eq!(answer.status(), 422, "{name}");
        says(&answer.text().await.unwrap(), &["is not a Kubernetes name"]);
    }
    let taken = json!({"verb": "issue", "namespace": world.namespace, "name": "alice-web", "user": "alice", "scopes": ["chat"]});
    let answer = console.post(&cookie, "/api/do", &taken).await;
    assert_eq!(answer.status(), 409);
    says(&answer.text().await.unwrap(), &["already exists"]);
    let other = json!({"verb": "exchange", "namespace": world.namespace, "name": "x"});
    assert_eq!(console.post(&cookie, "/api/do", &other).await.status(), 422);
    // The page is closed while ACS does not answer.
    world
        .emulator
        .faults(json!([{"operation": "createIdentity", "effect": "hang", "count": 1}]))
        .await;
    let new =
        json!({"verb": "issue", "namespace": world.namespace, "name": "bob", "scopes": ["chat"]});
    let asking = console.own(&cookie, reqwest::Method::POST, "/api/do");
    let asking = asking
        .header("content-type", "application/json")
        .body(new.to_string())
        .send();
    let asked = crate::support::eventually("the identity is made", || async {
        world.find::<AcsIdentity>("bob").await
    });
    tokio::select! {
        _ = asking => panic!("ACS has not answered"),
        _ = asked => {}
    }
    world.token_where("is made", "bob", |_| true).await;
}
