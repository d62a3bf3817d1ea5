//! A token is only in the answer to a user's click, and only for a short time.

use reqwest::Method;
use serde_json::json;

use crate::{browser::Browser, console::Console, support::world::World};

async fn world_of_web() -> (World, String) {
    let world = World::with_a_token().await;
    let token = world.live_token("web", &[]).await;
    (world, token)
}

#[tokio::test]
async fn no_data_of_the_page_holds_a_token_or_a_key_but_the_one_answer_that_was_asked_for() {
    let (world, token) = world_of_web().await;
    let console = Console::start(&world);
    let cookie = console.enter().await;
    let namespace = &world.namespace;
    let key = world.emulator.access_key().to_owned();
    let mut outputs = Vec::new();
    let path = format!("/api/live?namespace={namespace}");
    let mut stream = console
        .own(&cookie, Method::GET, &path)
        .send()
        .await
        .unwrap();
    let mut told = String::new();
    let is_whole = |told: &str| {
        let mut kinds = ["AcsToken", "AcsConnection", "AcsIdentity"].into_iter();
        kinds.all(|kind| told.contains(&format!("\"kind\":\"{kind}\"")))
    };
    while !is_whole(&told) {
        let chunk = stream.chunk().await.unwrap().expect("more");
        told += &String::from_utf8_lossy(&chunk);
    }
    outputs.push(("the changes", told));
    let rights = format!("/api/rights?namespace={namespace}&token=web&secret=web");
    for path in ["/", "/app.js", "/api/about", &rights] {
        let answer = console
            .own(&cookie, Method::GET, path)
            .send()
            .await
            .unwrap();
        outputs.push(("a path", answer.text().await.unwrap()));
    }
    for verb in ["renew", "revoke", "deleteToken", "suspendToken"] {
        let name = if verb == "revoke" { "alice" } else { "web" };
        let action = json!({"verb": verb, "namespace": namespace, "name": name});
        let answer = console.post(&cookie, "/api/plan", &action).await;
        assert_eq!(answer.status(), 200, "{verb}");
        outputs.push(("a plan", answer.text().await.unwrap()));
    }
    let issue = json!({"verb": "issue", "namespace": namespace, "name": "bot", "user": "alice", "scopes": ["chat"]});
    let answer = console.post(&cookie, "/api/do", &issue).await;
    assert_eq!(answer.status(), 200);
    outputs.push(("what was done", answer.text().await.unwrap()));
    let new = world.live_token("bot", &[]).await;
    let wanted = json!({"namespace": namespace, "token": "web"});
    let shown = console.post(&cookie, "/api/token", &wanted).await;
    assert_eq!(
        shown.text().await.unwrap(),
        json!({"token": token}).to_string()
    );
    // Only the token of an AcsToken is returned, and only to a POST.
    let wanted = json!({"namespace": namespace, "token": "default-acs"});
    let other = console.post(&cookie, "/api/token", &wanted).await;
    assert_eq!(other.status(), 404);
    outputs.push(("another Secret", other.text().await.unwrap()));
    let got = console
        .own(&cookie, Method::GET, "/api/token")
        .send()
        .await
        .unwrap();
    assert_eq!(got.status(), 405);
    outputs.push(("the console's output", console.process.output()));
    outputs.push((
        "the console's command line",
        command_line(console.process.id()),
    ));
    let mut needles: Vec<&str> = token
        .split('.')
        .skip(1)
        .chain(new.split('.').skip(1))
        .collect();
    let (_, secret) = cookie.split_once('=').unwrap();
    needles.extend([key.as_str(), secret]);
    for (what, output) in outputs {
        for needle in &needles {
            assert!(
                !output.contains(needle),
                "{what} holds a part of a secret: {output}"
            );
        }
    }
}

fn command_line(id: u32) -> String {
    std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap()
}

#[tokio::test]
async fn a_token_is_cleared_when_the_person_hides_it_or_looks_elsewhere() {
    let (world, token) = world_of_web().await;
    world.token("bot", "alice", "scopes: [voip]");
    world.ready("bot").await;
    let console = Console::start(&world);
    let browser = Browser::open(&console).await;
    let key = |name: &str| format!("AcsToken/{}/{name}", world.namespace);
    browser.choose(&key("web")).await;
    for cleared_by in ["hide", "another", "hidden"] {
        browser.press("#detail [data-verb='show']").await;
        browser.see("#secret", &token).await;
        match cleared_by {
            "hide" => {
                browser
                    .click("#secret + .buttons button:nth-of-type(2)")
                    .await;
            }
            "another" => browser.choose(&key("bot")).await,
            _ => {
                // As if the user switched to another tab.
                let hidden = "(Object.defineProperty(document, 'hidden', {value: true, configurable: true}), document.dispatchEvent(new Event('visibilitychange')))";
                browser.eval(hidden).await;
                browser.see("#link", "paused").await;
            }
        }
        browser
            .holds("document.querySelector('#secret') === null")
            .await;
        let page = browser.eval("document.documentElement.outerHTML").await;
        assert!(!page.as_str().unwrap().contains(&token), "{cleared_by}");
        browser.choose(&key("web")).await;
    }
}

#[tokio::test]
async fn a_token_is_cleared_by_itself_after_a_while() {
    let (world, token) = world_of_web().await;
    let console = Console::start(&world);
    let browser = Browser::open(&console).await;
    browser
        .choose(&format!("AcsToken/{}/web", world.namespace))
        .await;
    browser.press("#detail [data-verb='show']").await;
    browser.see("#secret", &token).await;
    browser.see("#detail", "cleared in ").await;
    browser
        .holds("document.querySelector('#secret') === null")
        .await;
    let page = browser.eval("document.documentElement.outerHTML").await;
    assert!(!page.as_str().unwrap().contains(&token));
}
