//! State on disk: answered changes survive a restart.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _};

use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::{
    caller::{PREVIEW, Service, set},
    support::{
        emulator::Emulator,
        user_token::{USER, entra_token},
    },
};

fn start(dir: &tempfile::TempDir, more: &[&str]) -> Emulator {
    let mut arguments = vec!["--state-dir", dir.path().to_str().unwrap()];
    arguments.extend(more);
    Emulator::start(&arguments)
}

async fn everything(emulator: &Emulator) -> [Value; 3] {
    let mut all = [Value::Null, Value::Null, Value::Null];
    for (place, path) in all.iter_mut().zip(["identities", "settings", "clock"]) {
        *place = emulator.send(reqwest::Method::GET, path, None).await;
    }
    all[2].as_object_mut().unwrap().remove("now");
    all
}

#[tokio::test]
async fn two_thousand_identities_under_load_survive_a_kill_to_the_last_one_that_was_answered() {
    const IDENTITIES: usize = 2000;
    let dir = tempfile::tempdir().unwrap();
    let mut emulator = start(&dir, &[]);
    let service = Service::new(&emulator);
    let made: Vec<(String, String)> = stream::iter(0..IDENTITIES)
        .map(|number| {
            let service = &service;
            async move {
                let id = service.identity().await;
                let token = service.token(&id).await;
                match number % 4 {
                    0 => assert_eq!(service.revoke(&id).await.status, 204),
                    1 => assert_eq!(service.delete(&id).await.status, 204),
                    _ => {}
                }
                (id, token)
            }
        })
        .buffered(32)
        .collect()
        .await;
    let before = everything(&emulator).await;
    assert_eq!(before[0].as_array().unwrap().len(), IDENTITIES);

    // Further requests, so that the kill interrupts some of them.
    let answered = std::sync::Mutex::new(Vec::new());
    {
        let load = stream::iter(0..).for_each_concurrent(16, |_| async {
            let reply = service.call("POST", "/identities", "").try_send().await;
            if let Some(reply) = reply.filter(|it| it.status == 201) {
                let id = reply.json()["identity"]["id"].as_str().unwrap().to_owned();
                answered.lock().unwrap().push(id);
            }
        });
        let enough = crate::support::eventually("some more are made", || async {
            (answered.lock().unwrap().len() > 100).then_some(())
        });
        tokio::select! { () = load => {}, () = enough => {} }
    }
    emulator.process.kill();

    let emulator = start(&dir, &[]);
    let after = everything(&emulator).await;
    assert_eq!(
        after[0].as_array().unwrap()[..IDENTITIES],
        before[0].as_array().unwrap()[..]
    );
    assert_eq!(after[1..], before[1..]);
    let ids: BTreeSet<_> = emulator
        .identities()
        .await
        .into_iter()
        .map(|it| it.id)
        .collect();
    for id in answered.into_inner().unwrap() {
        assert!(ids.contains(&id), "{id} was answered and is lost");
    }
    // The emulator continues with the same state.
    let service = Service::new(&emulator);
    for (number, (id, token)) in made.iter().enumerate().step_by(50) {
        let reason = service.reason(token).await;
        let expected = [Some("revoked"), Some("identityDeleted"), None, None][number % 4];
        assert_eq!(reason.as_deref(), expected, "{number}");
        let issued = service.issue(id, r#"{"scopes":["chat"]}"#).await.status;
        assert_eq!(issued, if number % 4 == 1 { 404 } else { 200 });
    }
}

#[tokio::test]
async fn keys_settings_clock_assignments_and_custom_ids_survive_both_kinds_of_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut emulator = start(&dir, &[]);
    let preview = Service {
        emulator: &emulator,
        version: PREVIEW,
    };
    let alice = preview.create(r#"{"customId":"alice"}"#).await.json()["identity"]["id"].clone();
    let path = "/access/teamsExtension/tenants/t/assignments/o";
    preview
        .call("PUT", path, r#"{"principalType":"user"}"#)
        .send()
        .await;
    let teams = crate::exchange::teams(&emulator, PREVIEW, &crate::exchange::body())
        .await
        .json();
    set(&emulator, json!({"clockSkew": "7h", "limits": "published"})).await;
    let clock = json!({"offset": "-2h"});
    emulator
        .send(reqwest::Method::PUT, "clock", Some(clock))
        .await;
    let answer = emulator
        .send(reqwest::Method::POST, "keys/secondary/regenerate", None)
        .await;
    let key = answer["connectionString"]
        .as_str()
        .unwrap()
        .split_once("accesskey=")
        .unwrap()
        .1
        .to_owned();
    let before = everything(&emulator).await;
    for graceful in [true, false, true] {
        if graceful {
            assert!(emulator.process.terminate().success());
        } else {
            emulator.process.kill();
        }
        emulator = start(&dir, &[]);
        assert_eq!(everything(&emulator).await, before);
        let preview = Service {
            emulator: &emulator,
            version: PREVIEW,
        };
        let mut create = preview.call("POST", "/identities", r#"{"customId":"alice"}"#);
        create.key.clone_from(&key);
        let reply = create.send().await;
        assert_eq!(reply.json()["identity"]["id"], alice, "{reply:?}");
        assert_eq!(preview.call("GET", path, "").send().await.status, 200);
        let check = emulator.check(teams["token"].as_str().unwrap()).await;
        assert!(
            check.valid && check.identity_id == Some(format!("8:orgid:{USER}")),
            "{check:?}"
        );
        assert!(emulator.process.output().contains(&key));
    }
}

#[tokio::test]
async fn a_key_of_a_flag_is_a_new_key_only_where_the_flag_changed() {
    let dir = tempfile::tempdir().unwrap();
    let key = |emulator: &Emulator| emulator.access_key().to_owned();
    let mut emulator = start(&dir, &["--access-key", "b25l"]);
    let service = Service::new(&emulator);
    let token = service.token(&service.identity().await).await;
    emulator.process.kill();
    let mut emulator = start(&dir, &["--access-key", "b25l"]);
    assert_eq!(Service::new(&emulator).reason(&token).await, None);
    let answer = emulator
        .send(reqwest::Method::POST, "keys/primary/regenerate", None)
        .await;
    let regenerated = answer["connectionString"]
        .as_str()
        .unwrap()
        .split_once("accesskey=")
        .unwrap()
        .1
        .to_owned();
    emulator.process.kill();
    let mut emulator = start(&dir, &["--access-key", "b25l"]);
    assert_eq!(key(&emulator), regenerated);
    emulator.process.kill();
    let emulator = start(&dir, &["--access-key", "dHdv"]);
    assert_eq!(key(&emulator), "dHdv");
    assert_eq!(
        Service::new(&emulator).reason(&token).await.as_deref(),
        Some("keyRegenerated")
    );
}

#[tokio::test]
async fn a_line_that_was_cut_off_by_a_crash_is_dropped_and_a_broken_one_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut emulator = start(&dir, &[]);
    let service = Service::new(&emulator);
    for _ in 0..3 {
        service.identity().await;
    }
    emulator.process.kill();
    let file = dir.path().join("state.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 4);
    fs::write(&file, &text[..text.len() - 9]).unwrap();
    let mut emulator = start(&dir, &[]);
    assert_eq!(emulator.identities().await.len(), 2);
    emulator.process.kill();

    for (broken, hint) in [
        (String::new(), "it is empty"),
        ("{}\n".to_owned(), "line 1"),
        (text.replacen("\"event\"", "\"evnt\"", 1), "line 2"),
        (text.split_once('\n').unwrap().1.to_owned(), "snapshot"),
    ] {
        fs::write(&file, broken).unwrap();
        let said = crate::program::fails(&["--state-dir", dir.path().to_str().unwrap()]);
        assert!(
            said.contains(hint) && said.contains("state.jsonl"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn only_the_owner_can_read_the_state_and_only_one_emulator_uses_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("new/deep");
    let text = state.to_str().unwrap().to_owned();
    let emulator = Emulator::start(&["--state-dir", &text]);
    Service::new(&emulator).identity().await;
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    let mut files = Vec::new();
    for entry in fs::read_dir(&state).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        files.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    files.sort();
    assert_eq!(files, ["ca-key.pem", "ca.pem", "lock", "state.jsonl"]);
    let said = crate::program::fails(&["--state-dir", &text]);
    assert!(
        said.contains("another acs-emulator uses this directory"),
        "{said}"
    );
}

#[tokio::test]
async fn no_token_is_written_to_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let emulator = start(&dir, &[]);
    let service = Service::new(&emulator);
    let token = service.token(&service.identity().await).await;
    let entra = entra_token(&json!({}));
    crate::exchange::teams(&emulator, "2023-10-01", &crate::exchange::body()).await;
    let text = fs::read_to_string(dir.path().join("state.jsonl")).unwrap();
    for part in token.split('.').chain(entra.split('.')) {
        assert!(!text.contains(part), "{part}");
    }
}
