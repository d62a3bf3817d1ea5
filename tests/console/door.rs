//! Access: only the console's own page, in the browser that opened the one-time URL, is accepted.

use std::fs;

use acs_identity_operator::crd::AcsIdentity;
use kube::api::ListParams;
use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::{console::Console, run::says, support::world::World};

/// Request for a change, which would be made if the console accepted it.
fn creation(world: &World) -> Value {
    json!({"verb": "create", "namespace": world.namespace, "name": "eve"})
}

#[tokio::test]
async fn the_url_works_once_and_gives_a_cookie_that_other_sites_cannot_use() {
    let world = World::bare(&[], &[]).await;
    let console = Console::start(&world);
    let wrong = console
        .bare(Method::GET, "/open?secret=guess")
        .send()
        .await
        .unwrap();
    assert_eq!(wrong.status(), 401);
    let first = reqwest::get(&console.url).await.unwrap();
    assert_eq!(first.status(), 200);
    let cookie = first.headers()[header::SET_COOKIE]
        .to_str()
        .unwrap()
        .to_owned();
    says(
        &cookie,
        &[
            &format!("acs-console-{}=", console.port()),
            "; Path=/; HttpOnly; SameSite=Strict",
        ],
    );
    let (_, secret) = console.url.split_once("secret=").unwrap();
    assert!(secret.len() >= 64 && !cookie.contains(secret), "{cookie}");
    let second = reqwest::get(&console.url).await.unwrap();
    assert_eq!(second.status(), 401);
    assert!(second.headers().get(header::SET_COOKIE).is_none());
    says(
        &second.text().await.unwrap(),
        &[
            "This URL was already used",
            "Start `kubectl acs console` again",
        ],
    );
}

#[tokio::test]
async fn a_request_without_the_cookie_is_refused_on_every_path() {
    let world = World::bare(&[], &[]).await;
    let console = Console::start(&world);
    let cookie = console.enter().await;
    for path in [
        "/",
        "/app.js",
        "/page.css",
        "/api/about",
        "/api/live?namespace=",
        "/nothing",
    ] {
        let answer = console.bare(Method::GET, path).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{path}");
        says(
            &answer.text().await.unwrap(),
            &["Open the URL that `kubectl acs console` printed"],
        );
        let stale = format!("{cookie}x");
        let answer = console.own(&stale, Method::GET, path).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{path} with another cookie");
    }
    for path in ["/api/plan", "/api/do", "/api/token"] {
        let request = console.own("a=b", Method::POST, path);
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let answer = request
            .body(creation(&world).to_string())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 401, "{path}");
    }
    let page = console.own(&cookie, Method::GET, "/").send().await.unwrap();
    assert_eq!(page.status(), 200);
    nothing_was_made(&world).await;
}

#[tokio::test]
async fn another_host_name_or_another_origin_is_refused_even_with_the_cookie() {
    let world = World::bare(&[], &[]).await;
    let console = Console::start(&world);
    let cookie = console.enter().await;
    let port = console.port();
    let hosts = [
        format!("localhost:{port}"),
        format!("evil.example:{port}"),
        "127.0.0.1".to_owned(),
    ];
    for path in ["/", "/open?secret=x", "/api/about"] {
        for host in &hosts {
            let request = console
                .own(&cookie, Method::GET, path)
                .header(header::HOST, host);
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 403, "{path} under {host}");
            says(
                &answer.text().await.unwrap(),
                &["not served under that host name"],
            );
        }
    }
    let send = |origin: Option<&str>, site: &str, kind: &str| {
        let request = console
            .bare(Method::POST, "/api/do")
            .header(header::COOKIE, &cookie);
        let request = request
            .header("sec-fetch-site", site)
            .header(header::CONTENT_TYPE, kind);
        let request = match origin {
            Some(origin) => request.header(header::ORIGIN, origin),
            None => request,
        };
        let body = creation(&world).to_string();
        async { request.body(body).send().await.unwrap().status().as_u16() }
    };
    let (own, json) = (Some(console.origin.as_str()), "application/json");
    assert_eq!(
        send(Some("http://evil.example"), "same-origin", json).await,
        403
    );
    assert_eq!(send(Some("null"), "same-origin", json).await, 403);
    let localhost = format!("http://localhost:{port}");
    assert_eq!(send(Some(&localhost), "same-origin", json).await, 403);
    assert_eq!(send(None, "same-origin", json).await, 403);
    for site in ["cross-site", "same-site", "none"] {
        assert_eq!(send(own, site, json).await, 403, "{site}");
    }
    // Requests that a form of another site can send without a CORS preflight.
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ] {
        assert_eq!(send(own, "same-origin", kind).await, 415, "{kind}");
    }
    let reading = console.own(&cookie, Method::GET, "/api/about");
    let reading = reading.header("sec-fetch-site", "cross-site");
    assert_eq!(reading.send().await.unwrap().status(), 403);
    nothing_was_made(&world).await;
    let cookie = cookie.as_str();
    let made = console.post(cookie, "/api/plan", &creation(&world)).await;
    assert_eq!(made.status(), 200);
}

#[tokio::test]
async fn no_answer_lets_another_site_read_frame_or_keep_it() {
    let world = World::bare(&[], &[]).await;
    let console = Console::start(&world);
    let cookie = console.enter().await;
    let mut answers = Vec::new();
    for path in ["/", "/app.js", "/page.css", "/api/about", "/nothing"] {
        answers.push(
            console
                .own(&cookie, Method::GET, path)
                .send()
                .await
                .unwrap(),
        );
        answers.push(console.bare(Method::GET, path).send().await.unwrap());
    }
    let asks = console.bare(Method::OPTIONS, "/api/do");
    let asks = asks.header(header::ORIGIN, "http://evil.example");
    let asked = asks
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .send()
        .await
        .unwrap();
    assert_eq!(asked.status(), 403);
    answers.push(asked);
    for answer in answers {
        let path = answer.url().path().to_owned();
        let text = |name: &str| {
            let value = answer.headers().get(name);
            value
                .map(|value| value.to_str().unwrap().to_owned())
                .unwrap_or_default()
        };
        let policy = text("content-security-policy");
        says(
            &policy,
            &[
                "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';",
                "frame-ancestors 'none'",
                "trusted-types 'none'",
            ],
        );
        assert!(
            !policy.contains("unsafe") && !policy.contains("data:"),
            "{policy}"
        );
        for (name, value) in [
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
        ] {
            assert_eq!(text(name), value, "{name} of {path}");
        }
        let mut names = answer.headers().keys();
        assert!(
            names.all(|name| !name.as_str().starts_with("access-control-")),
            "{path}"
        );
    }
}

#[tokio::test]
async fn it_listens_on_loopback_only() {
    let world = World::bare(&[], &[]).await;
    let console = Console::start(&world);
    let port = format!(":{:04X}", console.port());
    let mut addresses = Vec::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let table = fs::read_to_string(file).unwrap_or_default();
        let fields = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        // 0A is LISTEN.
        let listening = fields
            .filter(|fields| fields.len() > 3 && fields[3] == "0A" && fields[1].ends_with(&port));
        addresses.extend(listening.map(|fields| fields[1].to_owned()));
    }
    assert_eq!(addresses, [format!("0100007F{port}")]);
}

async fn nothing_was_made(world: &World) {
    let all = world
        .api::<AcsIdentity>()
        .list(&ListParams::default())
        .await;
    assert!(all.unwrap().items.is_empty());
}
