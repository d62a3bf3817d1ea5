//! Initial permissions of the attacker, and what its objects cannot contain.

use acs_identity_operator::crd::{AcsIdentity, AcsToken};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{Attack, made_up};
use crate::entra::{CLIENT, TENANT};

const AT: &str = "endpoint: \"https://a.communication.azure.com\"";

#[tokio::test]
async fn the_attacker_has_the_rights_of_a_tenant_and_no_other() {
    let attack = Attack::prepared().await;
    let victims = attack.world.namespace.as_str();
    let own = attack.namespace.as_str();
    for (verb, what, namespace, may) in [
        ("create", "acsconnections.acs-identity.dev", own, true),
        ("patch", "acsidentities.acs-identity.dev", own, true),
        ("update", "acstokens.acs-identity.dev", own, true),
        ("delete", "acsrevocations.acs-identity.dev", own, true),
        ("get", "acsidentities.acs-identity.dev", victims, false),
        ("create", "acsrevocations.acs-identity.dev", victims, false),
        (
            "create",
            "clusteracsconnections.acs-identity.dev",
            "",
            false,
        ),
        (
            "create",
            "clusteracsrevocations.acs-identity.dev",
            "",
            false,
        ),
        (
            "patch",
            "acsconnections/status.acs-identity.dev",
            own,
            false,
        ),
        (
            "update",
            "acsidentities/status.acs-identity.dev",
            own,
            false,
        ),
        ("patch", "acstokens/status.acs-identity.dev", own, false),
        (
            "patch",
            "acsrevocations/status.acs-identity.dev",
            own,
            false,
        ),
        ("get", "secrets", own, false),
        ("list", "secrets", own, false),
        ("create", "secrets", own, false),
        ("patch", "secrets", own, false),
        ("create", "serviceaccounts/token", own, false),
        ("create", "pods", own, false),
        ("patch", "namespaces", own, false),
    ] {
        let (path, group) = what.split_once('.').unwrap_or((what, ""));
        let (resource, subresource) = path.split_once('/').unwrap_or((path, ""));
        let attributes = ResourceAttributes {
            verb: Some(verb.to_owned()),
            group: Some(group.to_owned()),
            resource: Some(resource.to_owned()),
            subresource: Some(subresource.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ResourceAttributes::default()
        };
        let question = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(attributes),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let api = Api::all(attack.client.clone());
        let answer = api.create(&PostParams::default(), &question).await;
        let answer = answer.expect("an answer").status.expect("a status");
        assert_eq!(answer.allowed, may, "{verb} {what} in {namespace}");
    }
}

#[tokio::test]
async fn a_status_that_the_attacker_writes_is_dropped() {
    let attack = Attack::new().await;
    let world = &attack.world;
    let status = json!({"status": {
        "identityId": attack.victims_id().await, "origin": "Created", "endpoint": world.emulator.url,
        "connectionRef": {"kind": "ClusterAcsConnection", "name": world.namespace},
    }});
    let spec = json!({"spec": {"deletionPolicy": "Delete"}, "status": status["status"]});
    let made = attack.try_write("AcsIdentity", "alice", spec).await;
    made.expect("it is taken");
    attack.identity_says("alice", "ConnectionNotFound").await;
    attack.patch::<AcsIdentity>("alice", &status).await;
    let api = Api::<AcsIdentity>::namespaced(attack.client.clone(), &attack.namespace);
    let patch = Patch::Merge(&status);
    let parameters = PatchParams::default();
    let patched = api.patch_status("alice", &parameters, &patch).await;
    let said = patched.expect_err("no right").to_string();
    assert!(said.contains("forbidden"), "{said}");
    let told = api.get("alice").await.expect("alice").status.expect("one");
    assert_eq!(
        (told.identity_id, told.origin, told.endpoint),
        (None, None, None)
    );
    attack.delete::<AcsIdentity>("alice").await;
    assert_eq!(world.emulator.living().await.len(), 1);
    attack.victim_is_well().await;
}

#[tokio::test]
async fn no_reference_leaves_its_namespace() {
    let attack = Attack::new().await;
    let victims = attack.world.namespace.as_str();
    let secret =
        format!("secretRef: {{name: default-acs, key: connectionString, namespace: {victims}}}");
    let spec = format!("namespace: {victims}, auth: {{connectionString: {{{secret}}}}}");
    attack.connection("stolen", &spec).await;
    let said = attack.connection_says("stolen", "SecretNotFound").await;
    let own = format!("Secret {}/default-acs", attack.namespace);
    assert!(said.contains(&own), "{said}");
    for (number, path) in ["", &format!("{victims}/"), &format!("../{victims}/")]
        .into_iter()
        .enumerate()
    {
        let name = format!("n{number}");
        let connection = format!(
            "connectionRef: {{kind: AcsConnection, name: \"{path}default\", namespace: {victims}}}"
        );
        let identity = format!("identityRef: {{name: \"{path}alice\", namespace: {victims}}}");
        let spec = format!("{identity}, scopes: [chat]");
        if path.is_empty() {
            attack.identity(&name, &connection).await;
            attack.identity_says(&name, "ConnectionNotFound").await;
            attack.create("AcsToken", &name, &spec).await;
            attack.says::<AcsToken>(&name, "IdentityNotFound").await;
        } else {
            for (kind, spec) in [("AcsIdentity", &connection), ("AcsToken", &spec)] {
                let said = attack.refused(kind, spec).await;
                assert!(said.contains("name must be a Kubernetes name"), "{said}");
            }
        }
    }
}

/// Every value in a path of the operator's requests to the API server must be a valid name.
#[tokio::test]
async fn no_name_asks_for_another_secret_or_service_account_or_for_all() {
    let attack = Attack::prepared().await;
    let victims = attack.world.namespace.as_str();
    for path in [
        &format!("../../{victims}/secrets/default-acs"),
        &format!("..%2F..%2F{victims}%2Fsecrets%2Fdefault-acs"),
        "?limit=1",
        "default-acs?x=",
        "default/token?x=",
        "..",
        "a,metadata.name=b",
        "a\\nb",
    ] {
        let secret = format!("{{name: \"{path}\", key: k}}");
        for auth in [
            format!("connectionString: {{secretRef: {secret}}}"),
            format!("accessKey: {{secretRef: {secret}}}"),
            format!("accessKey: {{secretRef: {{name: a, key: k}}, secondarySecretRef: {secret}}}"),
            format!(
                "clientSecret: {{tenantId: {TENANT}, clientId: {CLIENT}, secretRef: {secret}}}"
            ),
            made_up().replace("mallory", &format!("\"{path}\"")),
        ] {
            let spec = format!("{AT}, auth: {{{auth}}}");
            let said = attack.refused("AcsConnection", &spec).await;
            assert!(said.contains("name must be a Kubernetes name"), "{said}");
        }
    }
    let spec = "auth: {connectionString: {secretRef: {name: a, key: \"a\\nb\"}}}";
    let said = attack.refused("AcsConnection", spec).await;
    assert!(
        said.contains("must be a valid key of a Secret's data"),
        "{said}"
    );
}

#[tokio::test]
async fn no_field_reaches_into_a_request_to_azure() {
    let attack = Attack::prepared().await;
    let spec = format!(
        "{AT}, apiVersion: \"2023-10-01&x=y\", auth: {{{}}}",
        made_up()
    );
    let said = attack.refused("AcsConnection", &spec).await;
    assert!(said.contains("apiVersion must be"), "{said}");
    for tenant in [
        "..",
        "../x",
        "a/..",
        "a%2f..",
        "a?b",
        "a#b",
        "a@b.example",
        "//b.example",
        "a\\n",
        "a\\\\b",
    ] {
        let auth = made_up().replace(TENANT, &format!("\"{tenant}\""));
        let spec = format!("{AT}, auth: {{{auth}}}");
        let said = attack.refused("AcsConnection", &spec).await;
        assert!(said.contains("tenantId must be"), "{tenant}: {said}");
    }
    for client in [
        "../../../../../../../../../../../x",
        "11111111-2222-3333-4444-5555555555&a",
        "11111111-2222-3333-4444-55555555555\\n",
    ] {
        let auth = made_up().replace(CLIENT, &format!("\"{client}\""));
        let spec = format!("{AT}, auth: {{{auth}}}");
        let said = attack.refused("AcsConnection", &spec).await;
        assert!(said.contains("clientId must be"), "{client}: {said}");
    }
    for id in [
        "8:acs:a/../b",
        "8:acs:a?b",
        "8:acs:a#b",
        "8:acs:a%2fb",
        "8:acs:a b",
        "..",
        "8:acs:",
        "8:a/b:c",
    ] {
        let spec = format!("identityId: \"{id}\"");
        let said = attack.refused("AcsIdentity", &spec).await;
        assert!(said.contains("identityId must be"), "{id}: {said}");
    }
}
