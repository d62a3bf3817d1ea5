//! Layout and accessibility: narrow windows, use by keyboard, and both colour schemes.

use std::path::PathBuf;

use acs_identity_operator::crd::AcsToken;
use fantoccini::key::Key;
use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::{
    browser::Browser,
    console::Console,
    support::{kubernetes::root, world::World},
};

/// Texts with less contrast to their background than WCAG requires (4.5), except disabled ones, as
/// a JavaScript expression.
const PALE: &str = r"(() => {
  const context = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const pixel = (colours) => {
    for (const colour of colours) { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); }
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const pale = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join('');
    const isGrey = element.closest('[aria-disabled=true], :disabled, .denied, option');
    if (!own || isGrey || !element.checkVisibility({ visibilityProperty: true })) continue;
    const above = [];
    for (let at = element; at; at = at.parentElement) above.unshift(getComputedStyle(at).backgroundColor);
    const back = pixel(['white', ...above]), front = pixel(['white', ...above, getComputedStyle(element).color]);
    const [low, high] = [light(back), light(front)].sort((a, b) => a - b);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < 4.5) pale.push(`${own.slice(0, 40)} (${contrast.toFixed(2)})`);
  }
  return pale;
})()";

/// Controls without an accessible name, as a JavaScript expression.
const NAMELESS: &str = r"[...document.querySelectorAll('button, input, select, dialog, table, [role=img]')]
  .filter((element) => element.checkVisibility())
  .filter((element) => !(element.getAttribute('aria-label') || element.getAttribute('aria-labelledby') || element.textContent.trim() ||
    [...(element.labels ?? [])].some((label) => label.textContent.trim())))
  .map((element) => element.outerHTML.slice(0, 80))";

/// Creates a namespace with objects in all states.
async fn motley() -> World {
    let mut world = World::new().await;
    for (name, lives) in [
        ("alice", ["12h", "4h"]),
        ("bob", ["24h", "8h"]),
        ("carol", ["6h", "2h"]),
        ("dora", ["18h", "3h"]),
    ] {
        world.identity(name, "");
        world.token(
            &format!("{name}-web"),
            name,
            &format!("scopes: [chat, voip], expiresIn: {}", lives[0]),
        );
        world.token(
            &format!("{name}-bot"),
            name,
            &format!("scopes: [chat.join], expiresIn: {}", lives[1]),
        );
    }
    world.apply("{apiVersion: v1, kind: Secret, metadata: {name: bob-desk}, stringData: {a: b}}");
    world.token("bob-desk", "bob", "scopes: [chat]");
    world.token_says("bob-desk", "SecretConflict").await;
    for name in ["alice", "bob", "carol", "dora"] {
        world.ready(&format!("{name}-web")).await;
        world.ready(&format!("{name}-bot")).await;
    }
    world
        .patch::<AcsToken>("carol-web", json!({"spec": {"suspend": true}}))
        .await;
    world.token_says("carol-web", "Suspended").await;
    world.apply("{apiVersion: acs-identity.dev/v1alpha1, kind: AcsRevocation, metadata: {name: lost-laptop}, spec: {names: [dora], reason: Dora lost a laptop}}");
    world.event("dora", "TokensRevoked").await;
    world.event("lost-laptop", "RevocationCompleted").await;
    world.ready("dora-web").await;
    world.ready("dora-bot").await;
    world.kill_operator();
    // Some tokens look as if they were issued earlier.
    for (name, life, age) in [
        ("alice-web", 720, 200),
        ("alice-bot", 240, 190),
        ("bob-web", 1440, 700),
        ("bob-bot", 480, 100),
        ("carol-web", 360, 150),
        ("carol-bot", 120, 60),
        ("dora-web", 1080, 20),
        ("dora-bot", 180, 90),
    ] {
        let at = |minutes: i64| (Timestamp::now() + SignedDuration::from_mins(minutes)).to_string();
        let status = json!({"status": {"issuedAt": at(-age), "renewAt": at(life * 2 / 3 - age), "expiresAt": at(life - age)}});
        let parameters = PatchParams::default();
        let patched = world
            .api::<AcsToken>()
            .patch_status(name, &parameters, &Patch::Merge(&status))
            .await;
        patched.unwrap();
    }
    world
}

/// The screenshots are kept for people to look at.
fn picture(name: &str) -> PathBuf {
    let folder = PathBuf::from(root("target/console"));
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(format!("{name}.png"))
}

#[tokio::test]
async fn both_colour_schemes_can_be_read_and_every_control_has_a_name() {
    let world = motley().await;
    let console = Console::start(&world);
    let browser = Browser::open(&console).await;
    browser
        .see("#summary", "9 tokens: 1 renewal is overdue, 1 needs action")
        .await;
    let mut backs = Vec::new();
    for scheme in ["light", "dark"] {
        browser.appear(1280, 800, scheme).await;
        let look = async |name: &str| {
            browser.picture(&picture(&format!("{scheme}-{name}"))).await;
            assert_eq!(browser.eval(PALE).await, json!([]), "{scheme} {name}");
            assert_eq!(browser.eval(NAMELESS).await, json!([]), "{scheme} {name}");
        };
        look("tokens").await;
        browser
            .choose(&format!("AcsToken/{}/alice-bot", world.namespace))
            .await;
        browser.see("#detail", "overdue by").await;
        browser
            .holds("!document.querySelector('#detail [aria-disabled]')")
            .await;
        look("detail").await;
        browser.press("#detail [data-verb='revoke']").await;
        browser.see("#act-affected", "loses access").await;
        browser.see("#act-plan", "kubectl acs").await;
        look("revoke").await;
        browser.click("#act [data-close]").await;
        browser.click("#new").await;
        browser.click("#scopes input[value='chat']").await;
        browser.see("#create-plan", "--scope=chat").await;
        look("create").await;
        browser.click("#create [data-close]").await;
        for tab in ["Identities", "Connections", "Revocations", "Events"] {
            browser.click(&format!("#tabs [data-tab='{tab}']")).await;
            browser
                .holds("document.querySelectorAll('#rows tr.row').length > 0")
                .await;
            look(tab).await;
        }
        browser.click("#tabs [data-tab='Tokens']").await;
        browser.click("#detail .top > button").await;
        backs.push(
            browser
                .eval("getComputedStyle(document.body).backgroundColor")
                .await,
        );
    }
    assert_ne!(backs[0], backs[1]);
}

#[tokio::test]
async fn a_narrow_window_shows_all_without_scrolling_sideways() {
    let world = motley().await;
    let console = Console::start(&world);
    let browser = Browser::open(&console).await;
    browser.appear(360, 740, "light").await;
    let fits = async |what: &str| {
        browser.picture(&picture(&format!("narrow-{what}"))).await;
        let wide = "[document.scrollingElement, document.querySelector('#scroll'), document.querySelector('#detail'), ...document.querySelectorAll('dialog[open]')]\
                    .filter((part) => part.scrollWidth > part.clientWidth).map((part) => part.id || part.tagName)";
        assert_eq!(browser.eval(wide).await, json!([]), "{what}");
        let outside = "[...document.querySelectorAll('button, input, select')].filter((control) => control.checkVisibility() && !control.closest('[hidden]'))\
                       .filter((control) => { const { left, right } = control.getBoundingClientRect(); return left < 0 || right > innerWidth; }).map((control) => control.outerHTML.slice(0, 60))";
        assert_eq!(browser.eval(outside).await, json!([]), "{what}");
    };
    browser.see("#rows", "alice-bot").await;
    browser
        .holds("document.querySelector('#scroll').clientHeight > 150")
        .await;
    fits("tokens").await;
    browser
        .choose(&format!("AcsToken/{}/bob-desk", world.namespace))
        .await;
    browser.see("#detail .why", "SecretConflict").await;
    fits("detail").await;
    browser.press("#detail [data-verb='revoke']").await;
    browser.see("#act-affected", "loses access").await;
    browser.see("#act-plan", "kubectl acs").await;
    fits("revoke").await;
    browser.click("#act [data-close]").await;
    browser.click("#detail .top > button").await;
    browser.click("#new").await;
    browser.click("#scopes input[value='chat']").await;
    browser.see("#create-plan", "--scope=chat").await;
    fits("create").await;
}

#[tokio::test]
async fn all_of_it_works_by_keyboard() {
    let world = World::new().await;
    for (name, identity) in [
        ("alice-bot", "alice"),
        ("alice-web", "alice"),
        ("other", "bob"),
    ] {
        world.identity(identity, "");
        world.token(name, identity, "scopes: [chat]");
        world.ready(name).await;
    }
    let console = Console::start(&world);
    let browser = Browser::open(&console).await;
    browser.see("#summary", "3 tokens").await;
    let focus = |text: &str| format!("document.activeElement.textContent === '{text}'");
    browser.type_text("/").await;
    browser
        .holds("document.activeElement.id === 'search'")
        .await;
    browser.type_text("alice").await;
    browser.see("#summary", "2 of 3 tokens").await;
    browser.key(Key::Down).await;
    browser.holds(&focus("alice-bot")).await;
    browser.key(Key::Down).await;
    browser.holds(&focus("alice-web")).await;
    browser.key(Key::Enter).await;
    browser
        .holds("document.activeElement.matches('#detail h2')")
        .await;
    browser
        .holds("!document.querySelector('#detail [data-verb=renew][aria-disabled]')")
        .await;
    browser.key(Key::Tab).await;
    browser.holds(&focus("Close")).await;
    browser.key(Key::Tab).await;
    browser.holds(&focus("Renew")).await;
    let outline = "getComputedStyle(document.activeElement).outlineStyle";
    assert_eq!(browser.eval(outline).await, "solid", "the focus is seen");
    browser.key(Key::Enter).await;
    browser
        .see("#act-plan", "kubectl acs renew alice-web")
        .await;
    browser.key(Key::Escape).await;
    browser
        .holds("!document.querySelector('dialog[open]')")
        .await;
    browser.holds(&focus("Renew")).await;
    browser.key(Key::Escape).await;
    browser
        .holds("document.querySelector('#detail').hidden")
        .await;
    browser.holds(&focus("alice-web")).await;
}
