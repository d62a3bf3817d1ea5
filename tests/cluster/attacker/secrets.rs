//! Attacks that overwrite a foreign Secret.

use acs_identity_operator::crd::AcsToken;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PropagationPolicy},
};
use serde_json::json;

use super::Attack;
use crate::support::eventually;

/// Foreign Secrets in the attacker's namespace.
const OTHERS: &str = "apiVersion: v1
kind: Secret
metadata: {name: robot-token, annotations: {kubernetes.io/service-account.name: default}}
type: kubernetes.io/service-account-token
---
apiVersion: v1
kind: Secret
metadata: {name: sh.helm.release.v1.shop.v1, labels: {owner: helm, name: shop}}
type: helm.sh/release.v1
stringData: {release: H4sIAAAA}
---
apiVersion: v1
kind: Secret
metadata: {name: database}
stringData: {password: hunter2-and-more}
";

#[tokio::test]
async fn a_name_that_another_secret_has_is_not_to_be_had() {
    let attack = Attack::with_a_token().await;
    let world = &attack.world;
    world.cluster.apply(&attack.namespace, OTHERS);
    let secrets = Api::<Secret>::namespaced(world.client.clone(), &attack.namespace);
    eventually("the ServiceAccount's token is there", || async {
        let found = secrets.get("robot-token").await.expect("it");
        found.data?.contains_key("token").then_some(())
    })
    .await;
    let names = [
        "robot-token",
        "sh.helm.release.v1.shop.v1",
        "database",
        "acs",
    ];
    let mut before = Vec::new();
    for name in names {
        before.push(secrets.get(name).await.expect("it"));
    }
    let issued = world.issued().await;
    for (number, name) in names.iter().enumerate() {
        let token = format!("t{number}");
        let spec = format!("scopes: [chat], secret: {{name: {name}}}");
        attack.token(&token, "bob", &spec).await;
        let said = attack.says::<AcsToken>(&token, "SecretConflict").await;
        assert!(said.contains("was not created by this operator"), "{said}");
    }
    // With a token that has a Secret already, and with one that is deleted.
    for name in names {
        let rename = json!({"spec": {"secret": {"name": name}}});
        attack.patch::<AcsToken>("bob", &rename).await;
        attack
            .token_where("bob", |token| {
                let status = serde_json::to_string(&token.status).expect("JSON");
                status.contains(&format!("Secret {name} already exists"))
            })
            .await;
    }
    attack.delete::<AcsToken>("t0").await;
    attack.delete::<AcsToken>("bob").await;
    for (name, before) in names.iter().zip(before) {
        assert_eq!(secrets.get(name).await.expect("it"), before);
    }
    assert_eq!(world.issued().await, issued);
}

#[tokio::test]
async fn a_token_of_the_same_name_does_not_inherit_the_secret_of_the_former() {
    let mut attack = Attack::with_a_token().await;
    attack.world.kill_operator();
    let tokens = Api::<AcsToken>::namespaced(attack.client.clone(), &attack.namespace);
    let let_go = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let patched = tokens.patch("bob", &PatchParams::default(), &let_go).await;
    patched.expect("let go");
    let alone = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    tokens.delete("bob", &alone).await.expect("a deletion");
    eventually("the token is gone", || async {
        let found = tokens.get_opt("bob").await.expect("readable");
        found.is_none().then_some(())
    })
    .await;
    let secrets = Api::<Secret>::namespaced(attack.world.client.clone(), &attack.namespace);
    let former = secrets.get("bob").await.expect("it stays");
    assert_eq!(former.metadata.owner_references, None);
    attack.world.start_operator();
    attack.token("bob", "bob", "scopes: [chat, voip]").await;
    attack.says::<AcsToken>("bob", "SecretConflict").await;
    attack.delete::<AcsToken>("bob").await;
    assert_eq!(secrets.get("bob").await.expect("it stays"), former);
}

#[tokio::test]
async fn a_template_makes_no_secret_that_others_obey() {
    let attack = Attack::with_a_token().await;
    let template = "name: obey, type: kubernetes.io/service-account-token, namespace: default, \
                    immutable: true, ownerReferences: [], finalizers: [example.com/stay]";
    let spec = format!("scopes: [chat], secret: {{{template}}}");
    attack.token("obey", "bob", &spec).await;
    attack.says::<AcsToken>("obey", "TokenIssued").await;
    let secrets = Api::<Secret>::namespaced(attack.world.client.clone(), &attack.namespace);
    let secret = secrets.get("obey").await.expect("in its own namespace");
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
    assert_eq!((secret.immutable, secret.metadata.finalizers), (None, None));
    let owners = secret.metadata.owner_references.expect("owners");
    let owners: Vec<_> = owners.iter().map(|owner| owner.kind.as_str()).collect();
    assert_eq!(owners, ["AcsToken"]);

    for (template, sentence) in [
        ("name: ../kube-system/web", "name must be a Kubernetes name"),
        (
            "annotations: {kubernetes.io/service-account.name: default}",
            "because other controllers act on them",
        ),
        (
            "annotations: {acs-identity.dev/token-uid: a}",
            "because other controllers act on them",
        ),
        (
            "annotations: {acs-identity.dev/fingerprint: a}",
            "because other controllers act on them",
        ),
        (
            "labels: {a.acs-identity.dev/token-uid: a}",
            "because other controllers act on them",
        ),
        (
            "labels: {node.kubernetes.io/x: a}",
            "because other controllers act on them",
        ),
        ("labels: {Kubernetes.io/x: a}", "must have valid label keys"),
    ] {
        let spec = format!("identityRef: {{name: bob}}, scopes: [chat], secret: {{{template}}}");
        let said = attack.refused("AcsToken", &spec).await;
        assert!(said.contains(sentence), "wanted: {sentence}\nsaid: {said}");
    }
}
