//! Start and exit of the console.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use reqwest::Method;

use crate::{
    console::Console,
    run::{end, program, says},
    support::{eventually, process::Process, world::World},
};

#[tokio::test]
async fn ctrl_c_ends_it_even_while_a_page_is_open() {
    let world = World::bare(&[], &[]).await;
    let mut console = Console::start(&world);
    says(&console.process.output(), &["http://127.0.0.1:"]);
    console.process.wait_for("what it says", |line| {
        let is_shown = line.starts_with("This URL opens the console of https://")
            && line.ends_with("; it works once. Press Ctrl-C to stop the console.");
        is_shown.then_some(())
    });
    let cookie = console.enter().await;
    let stream = console
        .own(&cookie, Method::GET, "/api/live?namespace=")
        .send()
        .await
        .unwrap();
    assert_eq!(stream.status(), 200);
    console.process.signal("INT");
    assert!(console.process.ended().await.success());
}

/// Idle timeout of the console.
const TIMEOUT: Duration = Duration::from_secs(2);

#[tokio::test]
async fn it_ends_by_itself_when_nobody_looks_and_not_while_somebody_does() {
    let world = World::bare(&[], &[]).await;
    let mut console = Console::start_with(&world.cluster.kubeconfig, &["--idle-timeout", "2s"]);
    let cookie = console.enter().await;
    let mut stream = console
        .own(&cookie, Method::GET, "/api/live?namespace=")
        .send()
        .await
        .unwrap();
    let mut told = String::new();
    // The page shows a change made after the timeout: the console still runs.
    let start = std::time::Instant::now();
    while start.elapsed() < TIMEOUT * 2 {
        let chunk = stream.chunk().await.unwrap();
        told += &String::from_utf8_lossy(&chunk.expect("it ended while somebody looked"));
        world.identity(&format!("user-{}", told.len()), "");
    }
    world.identity("last", "");
    while !told.contains("\"last\"") {
        let chunk = stream.chunk().await.unwrap();
        told += &String::from_utf8_lossy(&chunk.expect("it ended while somebody looked"));
    }
    drop(stream);
    assert!(console.process.ended().await.success());
    says(
        &console.process.output(),
        &["The console stopped, because no page was visible for 2s."],
    );
    let error =
        end(program(&world.cluster.kubeconfig).args(["console", "--idle-timeout", "0s"])).failed(2);
    says(&error, &["use a duration up to 24h"]);
}

#[tokio::test]
async fn a_port_is_served_as_asked_and_a_taken_one_is_told() {
    let world = World::bare(&[], &[]).await;
    let console = Console::start(&world);
    let port = console.port().to_string();
    let taken =
        end(program(&world.cluster.kubeconfig).args(["console", "--no-browser", "--port", &port]))
            .failed(1);
    says(
        &taken,
        &[
            &format!("cannot listen on 127.0.0.1:{port}: "),
            "choose another port with --port",
        ],
    );
    drop(console);
    let console = Console::start_with(&world.cluster.kubeconfig, &["--port", &port]);
    assert_eq!(console.port().to_string(), port);
}

#[tokio::test]
async fn it_opens_the_persons_browser_unless_told_not_to() {
    let world = World::bare(&[], &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let opened = folder.path().join("opened");
    let program_file = folder.path().join("xdg-open");
    let script = format!("#!/bin/sh\necho \"$1\" >> {}\n", opened.display());
    fs::write(&program_file, script).unwrap();
    fs::set_permissions(&program_file, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!(
        "{}:{}",
        folder.path().display(),
        std::env::var("PATH").unwrap()
    );
    let start = |arguments: &[&str]| {
        let mut command = program(&world.cluster.kubeconfig);
        command.arg("console").args(arguments).env("PATH", &path);
        let mut process = Process::start(&mut command);
        let url = process.wait_for("the URL", |line| {
            line.starts_with("http://").then(|| line.to_owned())
        });
        // The console prints this after it has opened the browser.
        process.wait_for("what it says", |line| {
            line.starts_with("This URL opens the console of")
                .then_some(())
        });
        (process, url)
    };
    let _quiet = start(&["--no-browser"]);
    let (_process, url) = start(&[]);
    let seen = eventually("a browser", || async {
        let text = fs::read_to_string(&opened).ok()?;
        text.contains(&url).then_some(text)
    });
    assert_eq!(seen.await, format!("{url}\n"));
}
