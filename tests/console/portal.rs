//! The workflow of the Azure portal: select scopes, generate an identity and a token, see the
//! expiry, copy the token.

use acs_identity_operator::crd::{AcsIdentity, AcsToken};
use kube::api::ListParams;

use crate::{browser::Browser, console::Console, run::says, support::world::World};

#[tokio::test]
async fn a_person_picks_scopes_and_a_life_generates_both_sees_the_expiry_and_takes_the_token() {
    let world = World::new().await;
    let namespace = &world.namespace;
    let console = Console::start(&world);
    let browser = Browser::open(&console).await;
    browser.allow_clipboard(&console).await;
    // 1. Select scopes and a lifetime.
    browser.click("#new").await;
    browser.fill("#name", "web").await;
    browser.click("#scopes input[value='chat']").await;
    browser.click("#scopes input[value='voip']").await;
    browser.fill("#life", "12h").await;
    let line =
        format!("kubectl acs issue web --scope=chat,voip --expires-in=12h --namespace={namespace}");
    let plan = browser.see("#create-plan", &line).await;
    says(
        &plan,
        &[
            "In git",
            "kind: AcsIdentity",
            "kind: AcsToken",
            "- chat",
            "- voip",
        ],
    );
    // 2. Generate.
    browser.press("#create-do").await;
    says(
        &browser.see("#toasts", "created AcsToken").await,
        &[
            &format!("created AcsIdentity {namespace}/web"),
            &format!("created AcsToken {namespace}/web"),
        ],
    );
    // 3. Check the identity and the expiry.
    let token = world.ready("web").await;
    let status = token.status.unwrap();
    let seen = browser.see("#detail", "TokenIssued").await;
    let ends = status.expires_at.unwrap().0.to_string();
    let id = status.identity_id.unwrap();
    says(
        &seen,
        &[
            "Id in ACS",
            &id,
            "Scopes",
            "chat, voip",
            "Expires",
            &ends,
            "(in 11h 5",
        ],
    );
    // 4. Copy the token.
    let held = world.live_token("web", &[]).await;
    assert!(
        !contains(&browser, &held).await,
        "the token was there before the click"
    );
    browser.press("#detail [data-verb='show']").await;
    let shown = browser.see("#secret", "ey").await;
    assert_eq!(shown, held);
    assert!(world.emulator.check(&shown).await.valid);
    browser.click("#secret + .buttons button").await;
    browser.see("#toasts", "Copied the token.").await;
    assert_eq!(
        browser.eval("navigator.clipboard.readText()").await,
        held.as_str()
    );
}

#[tokio::test]
async fn a_token_for_an_identity_that_exists_and_an_identity_without_a_token() {
    let world = World::new().await;
    world.identity("alice", "");
    let console = Console::start(&world);
    let browser = Browser::open(&console).await;
    browser.click("#tabs [data-tab='Identities']").await;
    browser
        .choose(&format!("AcsIdentity/{}/alice", world.namespace))
        .await;
    browser.press("#detail [data-verb='issue']").await;
    browser.fill("#name", "alice-bot").await;
    browser.click("#scopes input[value='chat.join']").await;
    browser
        .see("#create-plan", "--scope=chat.join --user=alice")
        .await;
    browser.press("#create-do").await;
    browser.see("#detail h2", "alice-bot").await;
    let token = world.ready("alice-bot").await;
    assert_eq!(token.identity_name(), Some("alice"));
    // Without scopes no token is created.
    browser.click("#new").await;
    browser.fill("#name", "bob").await;
    let line = format!("kubectl acs create bob --namespace={}", world.namespace);
    browser.see("#create-plan", &line).await;
    browser.press("#create-do").await;
    world.identity_says("bob", "IdentityReady").await;
    let tokens = world.api::<AcsToken>().list(&ListParams::default()).await;
    assert_eq!(tokens.unwrap().items.len(), 1);
}

#[tokio::test]
async fn a_refusal_is_told_in_the_form_and_yaml_only_makes_nothing() {
    let world = World::new().await;
    let console = Console::start(&world);
    let browser = Browser::open(&console).await;
    browser.allow_clipboard(&console).await;
    browser.click("#new").await;
    browser.fill("#name", "No Name").await;
    browser
        .see("#create-error", "`No Name` is not a Kubernetes name")
        .await;
    browser.fill("#name", "web").await;
    browser.click("#scopes input[value='chat']").await;
    browser.fill("#life", "30m").await;
    browser.see("#create-plan", "--expires-in=30m").await;
    browser.press("#create-do").await;
    browser
        .see(
            "#create-error",
            "expiresIn must be a duration from 1h to 24h",
        )
        .await;
    browser.fill("#life", "2h").await;
    browser.see("#create-plan", "--expires-in=2h").await;
    browser.click("#create-yaml").await;
    browser
        .see("#toasts", "Copied the YAML; nothing was changed.")
        .await;
    let copied = browser.eval("navigator.clipboard.readText()").await;
    let yaml = copied.as_str().unwrap();
    let made = world
        .api::<AcsIdentity>()
        .list(&ListParams::default())
        .await;
    assert!(made.unwrap().items.is_empty());
    world.apply(yaml);
    world.ready("web").await;
}

#[tokio::test]
async fn scopes_that_the_connections_policy_does_not_allow_are_greyed_out() {
    let world = World::new().await;
    let policy = serde_json::json!({"spec": {"policy": {"scopes": ["chat"]}}});
    world
        .patch::<acs_identity_operator::crd::AcsConnection>("default", policy)
        .await;
    let console = Console::start(&world);
    let browser = Browser::open(&console).await;
    browser.click("#tabs [data-tab='Connections']").await;
    browser.see("#rows", "default").await;
    browser.click("#new").await;
    browser
        .holds("document.querySelector('#scopes input[value=voip]').disabled")
        .await;
    browser
        .holds("!document.querySelector('#scopes input[value=chat]').disabled")
        .await;
}

/// Whether any element of the page contains a token.
async fn contains(browser: &Browser, token: &str) -> bool {
    let page = browser.eval("document.documentElement.outerHTML").await;
    let page = page.as_str().unwrap();
    token.split('.').any(|part| page.contains(part))
}
