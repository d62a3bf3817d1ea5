//! Problems that users reported of similar operators, on the real API server: copied Secrets,
//! policies that change or deny, exceeded quotas, connections and users that disappear and return,
//! edited annotations.

use acs_identity_operator::{
    acs::{AccessKey, ApiVersion, Endpoint, Service, ServiceConfig},
    crd::{AcsConnection, AcsIdentity, AcsToken},
};
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota, Secret};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::support::{
    eventually,
    world::{World, spec},
};

/// Creates a policy for the Secrets of the world's namespace. It ends with the world's control
/// plane.
fn policy(world: &World, kind: &str, name: &str, body: &str) {
    let namespace = &world.namespace;
    let actions = if kind == "ValidatingAdmissionPolicy" {
        ", validationActions: [Deny]"
    } else {
        ""
    };
    world.cluster.apply(
        namespace,
        &format!(
            "
apiVersion: admissionregistration.k8s.io/v1
kind: {kind}
metadata: {{name: {namespace}-{name}}}
spec:
  failurePolicy: Fail
  matchConstraints:
    namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}
    resourceRules:
    - {{apiGroups: [''], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [secrets]}}
{body}
---
apiVersion: admissionregistration.k8s.io/v1
kind: {kind}Binding
metadata: {{name: {namespace}-{name}}}
spec: {{policyName: {namespace}-{name}{actions}}}
"
        ),
    );
}

/// Waits until the policy is enforced: a Secret of the kind that it denies is rejected.
async fn enforced(world: &World, labels: &str) {
    eventually("the policy is enforced", || async {
        let probe =
            format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: probe, labels: {labels}}}\n");
        let (is_done, _) = world.cluster.try_apply(&world.namespace, &probe);
        (!is_done).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_copied_secret_neither_holds_an_identity_nor_is_touched() {
    let mut world = World::bare(&[], &[]).await;
    let other = format!("{}-copies", world.namespace);
    world.cluster.kubectl(&["create", "namespace", &other]);
    // The operator also sees the copy.
    let watched = ["--watch-namespace", &other].map(ToOwned::to_owned);
    world.arguments.extend(watched);
    world.connect("default", &world.emulator.connection_string.clone());
    world.start_operator();
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat]");
    world.ready("web").await;
    let made = world.get::<Secret>("web").await;
    let copy = Secret {
        metadata: ObjectMeta {
            name: Some("web".to_owned()),
            labels: made.metadata.labels.clone(),
            annotations: made.metadata.annotations.clone(),
            ..ObjectMeta::default()
        },
        ..made
    };
    let copies: Api<Secret> = Api::namespaced(world.client.clone(), &other);
    let made = copies.create(&PostParams::default(), &copy).await;
    let version = made.unwrap().resource_version();
    world.delete::<AcsToken>("web").await;
    world.delete::<AcsIdentity>("alice").await;
    world.gone::<AcsIdentity>("alice").await;
    assert!(world.emulator.living().await.is_empty());
    let left = copies.get("web").await.unwrap();
    assert_eq!(left.resource_version(), version);
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let _ = namespaces.delete(&other, &DeleteParams::default()).await;
}

#[tokio::test]
async fn a_full_quota_costs_one_token_and_heals_when_there_is_room() {
    let world = World::new().await;
    world.identity("alice", "");
    world.cluster.kubectl(&[
        "-n",
        &world.namespace,
        "create",
        "quota",
        "q",
        "--hard=count/secrets=1",
    ]);
    eventually("the quota counts", || async {
        let quota = world.get::<ResourceQuota>("q").await;
        quota.status.and_then(|status| status.used).map(drop)
    })
    .await;
    world.token("web", "alice", "scopes: [chat]");
    let message = world.token_says("web", "QuotaExceeded").await;
    for part in [
        "exceeded quota: q",
        "used: count/secrets=1",
        "limited: count/secrets=1",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!message.contains("Status {"), "{message}");
    // Several attempts, and a restart, cause no further token.
    let tries = |token: AcsToken| token.status.unwrap().failed_attempts.unwrap_or(0);
    eventually("it was tried again", || async {
        let token = world.get::<AcsToken>("web").await;
        (tries(token) >= 3).then_some(())
    })
    .await;
    assert_eq!(world.issued().await, 1);
    let mut world = world;
    world.kill_operator();
    world.start_operator();
    eventually("it was tried by the next process", || async {
        let token = world.get::<AcsToken>("web").await;
        (tries(token) >= 4).then_some(())
    })
    .await;
    assert_eq!(world.issued().await, 1);
    world
        .cluster
        .kubectl(&["-n", &world.namespace, "delete", "quota", "q"]);
    world.ready("web").await;
    // The cached token is lost with its process.
    assert_eq!(world.issued().await, 2);
}

#[tokio::test]
async fn a_full_quota_lets_a_renewal_through_and_a_new_name_of_the_secret_waits_and_says_so() {
    let world = World::with_a_token().await;
    let (namespace, hard) = (world.namespace.clone(), "--hard=count/secrets=1");
    let create = ["-n", &namespace, "create", "quota", "q", hard];
    world.cluster.kubectl(&create);
    eventually("the quota counts", || async {
        let quota = world.get::<ResourceQuota>("q").await;
        quota.status.and_then(|status| status.used).map(drop)
    })
    .await;
    let first = world.live_token("web", &[]).await;
    let request = json!({"metadata": {"annotations": {"acs-identity.dev/requested-at": "1"}}});
    world.patch::<AcsToken>("web", request).await;
    let second = world.live_token("web", &[&first]).await;
    let renamed = spec(&json!({"secret": {"name": "moved"}}));
    world.patch::<AcsToken>("web", renamed).await;
    let message = world.token_says("web", "QuotaExceeded").await;
    assert!(message.contains("exceeded quota: q"), "{message}");
    assert_eq!(world.secret_value("web", "token").await, Some(second));
    world
        .cluster
        .kubectl(&["-n", &namespace, "delete", "quota", "q"]);
    world.ready("web").await;
    world.live_token("moved", &[]).await;
    world.gone::<Secret>("web").await;
    assert_eq!(world.issued().await, 2);
}

#[tokio::test]
async fn a_policy_that_denies_is_told_in_its_own_words_and_costs_one_token() {
    let world = World::new().await;
    let body = "
  validations:
  - {expression: \"object.metadata.?labels['team'].hasValue()\", message: every Secret needs a team}
";
    policy(&world, "ValidatingAdmissionPolicy", "team", body);
    enforced(&world, "{}").await;
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat]");
    let message = world.token_says("web", "AdmissionDenied").await;
    assert!(message.contains("every Secret needs a team"), "{message}");
    assert_eq!(world.issued().await, 1);
    // The cached token is written as soon as the spec satisfies the policy.
    world
        .patch::<AcsToken>("web", spec(&json!({"secret": {"labels": {"team": "a"}}})))
        .await;
    world.ready("web").await;
    assert_eq!(world.issued().await, 1);
}

#[tokio::test]
async fn a_policy_that_denies_updates_of_our_objects_is_told_on_them() {
    let world = World::new().await;
    world.identity("alice", "");
    world.identity_says("alice", "IdentityReady").await;
    let (namespace, sentence) = (&world.namespace, "nobody may touch tokens");
    world.cluster.apply(
        namespace,
        &format!(
            "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{name: {namespace}-tokens}}
spec:
  failurePolicy: Fail
  matchConstraints:
    namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}
    resourceRules:
    - {{apiGroups: [acs-identity.dev], apiVersions: ['*'], operations: [UPDATE], resources: [acstokens, acstokens/status]}}
  validations:
  - {{expression: 'false', message: {sentence}}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{name: {namespace}-tokens}}
spec: {{policyName: {namespace}-tokens, validationActions: [Deny]}}
"
        ),
    );
    let suspended = "scopes: [chat], suspend: true";
    world.token("probe", "alice", suspended);
    eventually("the policy is enforced", || async {
        let label = "{\"metadata\": {\"labels\": {\"try\": \"it\"}}}";
        let patch = ["patch", "acstoken/probe", "--type=merge", "-p", label];
        let change = [&patch[..], &["--dry-run=server", "-n", namespace]].concat();
        let (is_done, said) = world.cluster.pipe(&change, "");
        (!is_done && said.contains(sentence)).then_some(())
    })
    .await;
    world.token("web", "alice", "scopes: [chat]");
    let note = world.event("web", "WriteRefused").await;
    assert!(note.contains(sentence), "{note}");
    assert_eq!(world.issued().await, 0);
    let name = format!("{namespace}-tokens");
    let remove = ["delete", "validatingadmissionpolicybinding", &name];
    world.cluster.kubectl(&remove);
    world.ready("web").await;
}

#[tokio::test]
async fn a_policy_that_wants_the_recommended_labels_is_satisfied() {
    let world = World::new().await;
    let body = "
  validations:
  - {expression: \"object.metadata.?labels['app.kubernetes.io/name'].hasValue()\"}
";
    policy(&world, "ValidatingAdmissionPolicy", "name", body);
    enforced(&world, "{}").await;
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat]");
    world.ready("web").await;
}

#[tokio::test]
async fn who_else_sets_a_label_of_the_template_is_told_and_the_status_goes_on() {
    let world = World::new().await;
    world.identity("alice", "");
    world.token(
        "web",
        "alice",
        "scopes: [chat], secret: {labels: {team: a}}",
    );
    world.ready("web").await;
    // As a labeller does, once for each write of the operator.
    for round in 0..3 {
        let label = json!({"metadata": {"labels": {"team": format!("theirs-{round}")}}});
        world.patch::<Secret>("web", label).await;
        eventually("the label is as the spec says", || async {
            let secret = world.get::<Secret>("web").await;
            (secret.labels().get("team").map(String::as_str) == Some("a")).then_some(())
        })
        .await;
    }
    let note = world.event("web", "SecretContested").await;
    assert!(note.contains("Secret web"), "{note}");
    world
        .patch::<Secret>("web", json!({"metadata": {"labels": {"team": "theirs"}}}))
        .await;
    world
        .patch::<AcsToken>(
            "web",
            json!({"metadata": {"annotations": {"theirs": "yes"}}}),
        )
        .await;
    world.settled().await;
    let secret = world.get::<Secret>("web").await;
    assert_eq!(
        secret.labels().get("team").map(String::as_str),
        Some("theirs")
    );
    assert_eq!(world.issued().await, 1);
}

/// Returns the number of the operator's writes of Secrets.
fn writes(world: &World) -> usize {
    let user = format!("system:serviceaccount:{}:operator", world.namespace);
    let events = world.cluster.audited(&user);
    let written = events.iter().filter(|event| {
        event["objectRef"]["resource"] == "secrets"
            && ["create", "update", "patch"].contains(&event["verb"].as_str().unwrap_or_default())
    });
    written.count()
}

#[tokio::test]
async fn a_policy_that_changes_what_is_written_costs_a_few_writes_and_the_status_goes_on() {
    for (change, spec) in [
        (
            "labels: Object.metadata.labels{team: 'platform'}",
            "secret: {labels: {team: a}}",
        ),
        (
            "annotations: Object.metadata.annotations{note: 'platform'}",
            "secret: {annotations: {note: a}}",
        ),
    ] {
        let mut world = World::bare(&[], &[]).await;
        world.connect("default", &world.emulator.connection_string.clone());
        let body = format!(
            "
  reinvocationPolicy: Never
  mutations:
  - {{patchType: ApplyConfiguration, applyConfiguration: {{expression: \"Object{{metadata: Object.metadata{{{change}}}}}\"}}}}
"
        );
        policy(&world, "MutatingAdmissionPolicy", "platform", &body);
        let probe = "{apiVersion: v1, kind: Secret, metadata: {name: probe}}";
        eventually("the policy is in force", || async {
            let dry = [
                "apply",
                "--dry-run=server",
                "-o",
                "yaml",
                "-n",
                &world.namespace,
                "-f",
                "-",
            ];
            let (_, said) = world.cluster.pipe(&dry, probe);
            said.contains("platform").then_some(())
        })
        .await;
        let operator = world.as_admin("operator");
        world.start_operator_with(&operator.kubeconfig);
        world.identity("alice", "");
        world.token("web", "alice", &format!("scopes: [chat], {spec}"));
        world.ready("web").await;
        let note = world.event("web", "SecretContested").await;
        assert!(note.contains("Secret web"), "{note}");
        let before = writes(&world);
        assert!(before <= 5, "{before} writes");
        for before in ["30m", "40m", "50m"] {
            world
                .patch::<AcsToken>("web", json!({"spec": {"renewBefore": before}}))
                .await;
            world.ready("web").await;
        }
        world.settled().await;
        // Each change of the spec causes one attempt; nothing else does.
        let more = writes(&world) - before;
        assert!(more <= 3, "{more} more writes");
        assert_eq!(world.issued().await, 1);
    }
}

#[tokio::test]
async fn a_description_that_a_controller_overwrites_is_left_as_it_is() {
    let world = World::with_a_token().await;
    let label = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "platform"}}});
    world.patch::<Secret>("web", label).await;
    let patched = world.get::<Secret>("web").await;
    world.settled().await;
    let left = world.get::<Secret>("web").await;
    assert_eq!(left.resource_version(), patched.resource_version());
}

#[tokio::test]
async fn an_edited_annotation_makes_no_token_live_longer_and_costs_one_repair() {
    let world = World::with_a_token().await;
    let ends = world.ready("web").await.status.unwrap().expires_at;
    for (key, value) in [
        ("expires-at", "2099-01-01T00:00:00Z"),
        ("issued-at", "2026-01-01T00:00:00.5Z"),
        ("life", "nonsense"),
    ] {
        let note = json!({"metadata": {"annotations": {format!("acs-identity.dev/{key}"): value}}});
        world.patch::<Secret>("web", note).await;
        world.settled().await;
        let token = world.get::<AcsToken>("web").await;
        let told = token.status.unwrap().expires_at.unwrap();
        assert!(
            told.0.as_second() <= ends.as_ref().unwrap().0.as_second() + 600,
            "{key}: {told:?}"
        );
        if key == "expires-at" {
            // With the same token.
            eventually("the annotation is put right", || async {
                let secret = world.get::<Secret>("web").await;
                let told = secret.annotations().get("acs-identity.dev/expires-at");
                (told.map(String::as_str) != Some(value)).then_some(())
            })
            .await;
            assert_eq!(world.issued().await, 1);
        }
    }
    assert!(world.issued().await <= 2);
}

#[tokio::test]
async fn a_connection_made_anew_leads_where_it_says_now() {
    let mut world = World::bare(&[], &[]).await;
    world.start_operator();
    world.apply(
        "
apiVersion: acs-identity.dev/v1alpha1
kind: AcsConnection
metadata: {name: default}
spec:
  endpoint: https://elsewhere.example
  auth: {accessKey: {secretRef: {name: acs, key: key}}}
---
apiVersion: v1
kind: Secret
metadata: {name: acs}
stringData: {key: c2VjcmV0}
",
    );
    world.connection_says("default", "EndpointNotAllowed").await;
    world.delete::<AcsConnection>("default").await;
    world.gone::<AcsConnection>("default").await;
    world.apply(
        "
apiVersion: acs-identity.dev/v1alpha1
kind: AcsConnection
metadata: {name: default}
spec:
  endpoint: https://contoso.communication.azure.com
  auth: {accessKey: {secretRef: {name: acs, key: key}}}
",
    );
    let connection = eventually("the new one is resolved", || async {
        let connection = world.get::<AcsConnection>("default").await;
        let endpoint = connection.status.as_ref()?.endpoint.clone()?;
        Some(endpoint)
    })
    .await;
    assert!(connection.contains("contoso"), "{connection}");
}

#[tokio::test]
async fn a_user_that_was_deleted_in_acs_is_told_and_its_revocation_is_done() {
    let world = World::with_a_token().await;
    world.identity("bob", "");
    world.token("other", "bob", "scopes: [chat]");
    world.ready("other").await;
    let identity = world.get::<AcsIdentity>("alice").await;
    let id = identity.status.unwrap().identity_id.unwrap();
    let service = Service::new(ServiceConfig::default()).unwrap();
    let key = AccessKey::parse(world.emulator.access_key()).unwrap();
    let endpoint = Endpoint::parse(&world.emulator.url).unwrap();
    let somebody = service.client(&endpoint, &ApiVersion::default(), &key.into());
    somebody
        .delete_identity(&id, jiff::Timestamp::now())
        .await
        .unwrap();
    let request = json!({"metadata": {"annotations": {"acs-identity.dev/requested-at": "now"}}});
    world.patch::<AcsToken>("web", request).await;
    world.identity_says("alice", "IdentityNotFound").await;
    world.token_says("web", "IdentityNotFound").await;
    world.apply(
        "
apiVersion: acs-identity.dev/v1alpha1
kind: AcsRevocation
metadata: {name: both}
spec: {names: [alice, bob]}
",
    );
    world.cluster.kubectl(&[
        "-n",
        &world.namespace,
        "wait",
        "--for=condition=Ready",
        "--timeout=60s",
        "acsrev/both",
    ]);
}

#[tokio::test]
async fn a_change_that_waits_for_the_connection_says_so() {
    let world = World::with_a_token().await;
    world.delete::<Secret>("default-acs").await;
    world.connection_says("default", "SecretNotFound").await;
    let change = spec(&json!({"scopes": ["voip"]}));
    world.patch::<AcsToken>("web", change).await;
    let message = world.token_says("web", "ChangeWaits").await;
    assert!(
        message.contains("still holds the previous token"),
        "{message}"
    );
    assert!(
        message.contains("SecretNotFound") || message.contains("does not exist"),
        "{message}"
    );
    let token = world.get::<AcsToken>("web").await;
    let status = token.status.unwrap();
    assert_eq!(status.observed_generation, token.metadata.generation);
}

#[tokio::test]
async fn the_deletion_of_a_connection_says_what_it_waits_for() {
    let world = World::with_a_token().await;
    world.delete::<AcsConnection>("default").await;
    let message = world.connection_says("default", "Deleting").await;
    let alice = format!("{}/alice", world.namespace);
    assert!(message.contains(&alice), "{message}");
}

#[tokio::test]
async fn a_label_that_comes_while_an_identity_is_created_loses_no_id() {
    let world = World::new().await;
    world
        .emulator
        .faults(json!([{"operation": "createIdentity", "effect": "delay", "delay": "2s", "when": "after", "count": 1}]))
        .await;
    world.identity("alice", "");
    eventually("the create call is on its way", || async {
        (!world.emulator.living().await.is_empty()).then_some(())
    })
    .await;
    let api = world.api::<AcsIdentity>();
    let label = json!({"metadata": {"labels": {"theirs": "yes"}}});
    api.patch("alice", &PatchParams::default(), &Patch::Merge(&label))
        .await
        .unwrap();
    world.identity_says("alice", "IdentityReady").await;
    assert_eq!(world.emulator.identities().await.len(), 1);
    let identity = api.get("alice").await.unwrap();
    assert_eq!(identity.status.unwrap().unknown_creates, None);
}

#[tokio::test]
async fn a_restored_secret_of_a_former_token_is_told_and_one_command_settles_it() {
    let world = World::new().await;
    let uid = "00000000-1111-2222-3333-444444444444";
    world.apply(&format!(
        "
apiVersion: v1
kind: Secret
metadata:
  name: web
  labels:
    app.kubernetes.io/managed-by: acs-identity-operator
    acs-identity.dev/token-uid: {uid}
  annotations: {{acs-identity.dev/token-uid: {uid}}}
stringData: {{token: restored}}
"
    ));
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat]");
    let message = world.token_says("web", "SecretConflict").await;
    assert!(
        message.contains("belongs to a deleted AcsToken"),
        "{message}"
    );
    let command = message.split('`').nth(1).expect("a command").to_owned();
    assert_eq!(world.issued().await, 0);
    let arguments: Vec<_> = command.split(' ').skip(1).collect();
    world.cluster.kubectl(&arguments);
    world.ready("web").await;
}
