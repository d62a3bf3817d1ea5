//! Attacks that make the operator send a credential to a new endpoint.

use std::{io::ErrorKind, net::TcpListener};

use acs_identity_operator::crd::{AcsConnection, AcsIdentity, AcsToken};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

use super::{Attack, made_up};
use crate::support::emulator::Emulator;

#[tokio::test]
async fn no_spelling_of_an_endpoint_leads_to_a_host_that_nobody_allowed() {
    let attack = Attack::new().await;
    let thieves = ["127.0.0.2:0", "[::1]:0"].map(|address| {
        let thief = TcpListener::bind(address).expect("a free port");
        thief.set_nonblocking(true).expect("a setting");
        thief
    });
    let [four, six] = [0, 1].map(|it: usize| thieves[it].local_addr().expect("an address").port());
    let azure = "communication.azure.com";
    let mut wrong = Vec::new();
    for (endpoint, reason) in [
        (format!("http://127.0.0.2:{four}"), "EndpointNotAllowed"),
        (format!("https://127.0.0.2:{four}"), "EndpointNotAllowed"),
        (format!("http://2130706434:{four}"), "EndpointNotAllowed"),
        (format!("http://0x7f.2:{four}/"), "EndpointNotAllowed"),
        (format!("http://[::1]:{six}"), "EndpointNotAllowed"),
        (format!("http://localhost:{six}"), "EndpointNotAllowed"),
        (
            format!("http://[::ffff:127.0.0.2]:{four}"),
            "EndpointNotAllowed",
        ),
        (format!("http://contoso.{azure}"), "EndpointNotAllowed"),
        ("https://169.254.169.254".to_owned(), "EndpointNotAllowed"),
        (format!("https://evil{azure}"), "EndpointNotAllowed"),
        (
            format!("https://contoso.{azure}.evil.example"),
            "EndpointNotAllowed",
        ),
        (format!("https://contoso-{azure}"), "EndpointNotAllowed"),
        (
            "https://contoso.c\u{43e}mmunication.azure.com".to_owned(),
            "EndpointNotAllowed",
        ),
        (format!("https://contoso.{azure}."), "InvalidEndpoint"),
        (format!("https://contoso..{azure}"), "InvalidEndpoint"),
        (
            format!("http://127.0.0.2:{four}\\\\.{azure}"),
            "InvalidEndpoint",
        ),
        (
            format!("http://127.0.0.2:{four}\\t.{azure}"),
            "InvalidEndpoint",
        ),
        (
            format!("http://127.0.0.2%3a{four}%2f.{azure}"),
            "InvalidEndpoint",
        ),
        (format!("http://127.0.0.2%23.{azure}"), "InvalidEndpoint"),
        (format!("https://contoso.{azure}@127.0.0.2:{four}"), ""),
        (format!("https://contoso.{azure}:x@127.0.0.2:{four}/"), ""),
        (format!("http://127.0.0.2:{four}#.{azure}"), ""),
        (format!("http://127.0.0.2:{four}?.{azure}"), ""),
        (format!("http://127.0.0.2:{four}/.{azure}"), ""),
        (format!("//127.0.0.2:{four}"), ""),
        ("file:///etc/passwd".to_owned(), ""),
    ] {
        let spec = format!("endpoint: \"{endpoint}\", auth: {{{}}}", made_up());
        let name = format!("e{}", wrong.len());
        if reason.is_empty() {
            let said = attack.refused("AcsConnection", &spec).await;
            assert!(
                said.contains("endpoint must be an absolute URL"),
                "{endpoint}: {said}"
            );
        } else {
            attack.connection(&name, &spec).await;
            let uses = format!("connectionRef: {{kind: AcsConnection, name: {name}}}");
            attack.identity(&name, &uses).await;
            wrong.push((name, endpoint, reason));
        }
    }
    for (name, endpoint, reason) in &wrong {
        println!("{endpoint}");
        attack.connection_says(name, reason).await;
        attack.identity_says(name, reason).await;
    }
    for thief in &thieves {
        let called = thief.accept().map(|(_, caller)| caller);
        assert_eq!(called.expect_err("nobody").kind(), ErrorKind::WouldBlock);
    }
    assert_eq!(attack.world.emulator.count("entraToken").await, 0);
}

#[tokio::test]
async fn a_connection_made_anew_takes_no_identity_elsewhere() {
    let attack = Attack::new().await;
    let other = Emulator::start(&[]);
    attack.give_a_key();
    attack
        .connect_by_key("mine", &attack.world.emulator.url)
        .await;
    let mine = "connectionRef: {kind: AcsConnection, name: mine}";
    attack.identity("bob", mine).await;
    attack.token("bob", "bob", "scopes: [chat]").await;
    attack.says::<AcsToken>("bob", "TokenIssued").await;

    let api = Api::<AcsConnection>::namespaced(attack.client.clone(), &attack.namespace);
    let let_go = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let deleted = api.delete("mine", &DeleteParams::default()).await;
    deleted.expect("a deletion");
    let patched = api.patch("mine", &PatchParams::default(), &let_go).await;
    patched.expect("let go");
    attack.connect_by_key("mine", &other.url).await;
    let said = attack.identity_says("bob", "EndpointChanged").await;
    assert!(said.contains(&other.url), "{said}");
    let revoke = json!({"metadata": {"annotations": {
        "acs-identity.dev/requested-at": "1", "acs-identity.dev/request": "revoke",
    }}});
    attack.patch::<AcsIdentity>("bob", &revoke).await;
    let identities = Api::<AcsIdentity>::namespaced(attack.client.clone(), &attack.namespace);
    let deleted = identities.delete("bob", &DeleteParams::default()).await;
    deleted.expect("a deletion");
    attack.identity_says("bob", "Deleting").await;
    attack.world.settled().await;
    assert!(other.requests().await.is_empty());
}
