//! The page with 2,000 tokens: few elements and few messages. The durations are printed, not
//! asserted.

use acs_identity_operator::crd::AcsToken;
use fantoccini::key::Key;
use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::{browser::Browser, console::Console, support::world::World};

const TOKENS: usize = 2_000;
const LATE: usize = 3;
const BURST: usize = 400;
/// Number of concurrent calls to the API server.
const AT_ONCE: usize = 24;

async fn each(calls: impl Iterator<Item = impl Future<Output = ()>>) {
    stream::iter(calls)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<()>>()
        .await;
}

/// Returns a status as the operator writes it. The renewal of the first tokens is overdue.
fn status(number: usize, reason: &str) -> Value {
    let now = Timestamp::now();
    let at = |minutes: i64| (now + SignedDuration::from_mins(minutes)).to_string();
    let renew = if number < LATE {
        -20
    } else {
        60 + i64::try_from(number % 300).unwrap()
    };
    let ready = json!({"type": "Ready", "status": "True", "reason": reason, "message": "", "observedGeneration": 1, "lastTransitionTime": at(-180)});
    json!({"status": {"secretName": format!("token-{number:04}"), "identityId": format!("8:acs:x_{number}"), "scopes": ["chat"],
        "issuedAt": at(-180), "renewAt": at(renew), "expiresAt": at(renew + 240), "observedGeneration": 1, "conditions": [ready]}})
}

async fn set(world: &World, number: usize, reason: &str) {
    let change = Patch::Merge(status(number, reason));
    let name = format!("token-{number:04}");
    let patched = world
        .api::<AcsToken>()
        .patch_status(&name, &PatchParams::default(), &change)
        .await;
    patched.unwrap();
}

async fn fleet() -> World {
    let world = World::bare(&[], &[]).await;
    let make = |number: usize| {
        let world = &world;
        async move {
            let token = json!({"apiVersion": "acs-identity.dev/v1alpha1", "kind": "AcsToken", "metadata": {"name": format!("token-{number:04}")},
                "spec": {"identityRef": {"name": format!("user-{}", number / 4)}, "scopes": ["chat"]}});
            let token: AcsToken = serde_json::from_value(token).unwrap();
            world
                .api()
                .create(&PostParams::default(), &token)
                .await
                .unwrap();
            set(world, number, "TokenIssued").await;
        }
    };
    each((0..TOKENS).map(make)).await;
    world
}

/// Number and durations (median and maximum, in ms) of the page's tasks.
async fn measured(browser: &Browser, name: &str) -> (usize, f64, f64) {
    let list = browser
        .eval(&format!(
            "performance.getEntriesByName('{name}').map((entry) => entry.duration)"
        ))
        .await;
    let mut list: Vec<f64> = list
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_f64)
        .collect();
    list.sort_by(f64::total_cmp);
    let at = |share: usize| {
        list.get(list.len() * share / 100)
            .or_else(|| list.last())
            .copied()
            .unwrap_or_default()
    };
    (list.len(), at(50), at(100))
}

#[tokio::test]
async fn two_thousand_tokens_are_few_elements_and_few_messages() {
    let world = fleet().await;
    let console = Console::start(&world);
    let browser = Browser::start().await;
    let begun = std::time::Instant::now();
    browser.go(&console.url).await;
    browser
        .see("#summary", "2000 tokens: 3 renewals are overdue")
        .await;
    eprintln!(
        "{TOKENS} tokens are shown {:?} after the page was opened",
        begun.elapsed()
    );
    let rows = "document.querySelectorAll('#rows tr.row').length";
    let few = async || {
        let shown = browser.eval(rows).await.as_u64().unwrap();
        assert!((1..60).contains(&shown), "{shown} rows are elements");
    };
    few().await;
    browser
        .holds("document.querySelector('#table').getAttribute('aria-rowcount') === '2001'")
        .await;
    browser
        .holds("document.querySelector('#rows tr.row button').textContent === 'token-0000'")
        .await;
    // Go to the end with a key, and back with the search.
    browser.click("#rows tr.row button").await;
    browser.key(Key::Escape).await;
    browser.key(Key::End).await;
    browser
        .holds("document.activeElement.textContent === 'token-1999'")
        .await;
    browser
        .holds("document.activeElement.closest('tr').getAttribute('aria-rowindex') === '2001'")
        .await;
    few().await;
    browser.fill("#search", "user-321").await;
    browser.see("#summary", "4 of 2000 tokens").await;
    browser.see("#rows", "token-1284").await;
    browser.fill("#search", "token").await;
    browser
        .eval("(document.querySelector('#scroll').scrollTop = 0)")
        .await;
    // A burst of changes.
    browser.eval("performance.clearMeasures()").await;
    each((0..BURST).map(|number| set(&world, TOKENS - 1 - number, "Renewed"))).await;
    browser.fill("#search", "Renewed").await;
    browser
        .see("#summary", &format!("{BURST} of 2000 tokens"))
        .await;
    let (refreshes, median, worst) = measured(&browser, "refresh").await;
    eprintln!(
        "{BURST} changes: {refreshes} refreshes, {median:.1} ms in the middle, {worst:.1} ms at worst"
    );
    assert!(
        refreshes < BURST / 2,
        "{refreshes} refreshes for {BURST} changes"
    );
    // Scroll through all tokens.
    browser.fill("#search", "token").await;
    browser.eval("performance.clearMeasures()").await;
    let scroll = "(async () => { const list = document.querySelector('#scroll'); let frames = 0; \
                  for (let at = 0; at < list.scrollHeight; at += 400) { list.scrollTop = at; \
                  await new Promise(requestAnimationFrame); frames += 1; } return frames; })()";
    let frames = browser.eval(scroll).await;
    let (draws, median, worst) = measured(&browser, "draw").await;
    eprintln!(
        "{frames} frames of scrolling: {draws} draws, {median:.1} ms in the middle, {worst:.1} ms at worst"
    );
    few().await;
}
