//! Manifests that `kubectl apply` rejects, with the message that says what is valid.

use crate::support::world::{World, token_manifest};

fn connection(spec: &str) -> String {
    format!(
        "apiVersion: acs-identity.dev/v1alpha1\nkind: AcsConnection\nmetadata: {{name: bad}}\nspec: {{{spec}}}\n"
    )
}

fn identity(spec: &str) -> String {
    format!(
        "apiVersion: acs-identity.dev/v1alpha1\nkind: AcsIdentity\nmetadata: {{name: bad}}\nspec: {{{spec}}}\n"
    )
}

fn revocation(spec: &str) -> String {
    format!(
        "apiVersion: acs-identity.dev/v1alpha1\nkind: AcsRevocation\nmetadata: {{name: bad}}\nspec: {{{spec}}}\n"
    )
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table")]
async fn nonsense_is_refused_with_a_sentence() {
    let world = World::bare(&[], &[]).await;
    let token = |spec: &str| token_manifest("bad", "alice", spec);
    let key = "accessKey: {secretRef: {name: a, key: k}}";
    let text = "connectionString: {secretRef: {name: a, key: k}}";
    let at = "endpoint: \"https://a.example\"";
    let guid = "11111111-2222-3333-4444-555555555555";
    let secret = "secretRef: {name: a, key: k}";
    let table = [
        (token("scopes: [vidoe]"), "supported values: \"chat\""),
        (token("scopes: []"), "should have at least 1 items"),
        (
            token("expiresIn: 1h"),
            "scopes is required with identityRef",
        ),
        (
            token("scopes: [chat, chat]"),
            "the list contains an entry twice; remove one of them",
        ),
        (
            token_manifest("bad", "\"?limit=1\"", "scopes: [chat]"),
            "name must be a Kubernetes name",
        ),
        (
            token("scopes: [chat], expiresIn: 30m"),
            "expiresIn must be a duration from 1h to 24h",
        ),
        (
            token("scopes: [chat], expiresIn: 25h"),
            "expiresIn must be a duration from 1h to 24h",
        ),
        (
            token("scopes: [chat], expiresIn: 1d"),
            "for example 90m or 24h",
        ),
        (
            token("scopes: [chat], expiresIn: tomorrow"),
            "for example 90m or 24h",
        ),
        (
            token("scopes: [chat], renewBefore: 24h"),
            "renewBefore must be shorter than the lifetime of the token",
        ),
        (
            token("scopes: [chat], expiresIn: 2h, renewBefore: 3h"),
            "renewBefore must be shorter",
        ),
        (
            token("scopes: [chat], renewBefore: soon"),
            "renewBefore must be a duration",
        ),
        (
            token("scopes: [chat], revocation: Sometimes"),
            "supported values: \"OnChange\"",
        ),
        (
            token("scopes: [chat], secret: {name: No_Name}"),
            "name must be a Kubernetes name",
        ),
        (
            token("scopes: [chat], secret: {keys: {token: endpoint}}"),
            "secret.keys must differ from each other",
        ),
        (
            token("scopes: [chat], secret: {keys: {token: \"a/b\"}}"),
            "must be a valid key of a Secret's data",
        ),
        (
            token("scopes: [chat], secret: {keys: {token: ..a}}"),
            "must be a valid key of a Secret's data",
        ),
        (
            token("scopes: [chat], secret: {name: a..b}"),
            "each part between dots must begin and end with a letter or digit",
        ),
        (
            token_manifest("bad", "a.-b", "scopes: [chat]"),
            "each part between dots must begin and end with a letter or digit",
        ),
        (
            token("scopes: [chat], secret: {labels: {acs-identity.dev/x: v}}"),
            "because other controllers act on them",
        ),
        (
            token("scopes: [chat], secret: {labels: {app.kubernetes.io/managed-by: v}}"),
            "because other controllers act on them",
        ),
        (
            token("scopes: [chat], secret: {labels: {a..b/c: v}}"),
            "must have valid label keys",
        ),
        (
            token("scopes: [chat], secret: {labels: {Example.com/c: v}}"),
            "must have valid label keys",
        ),
        (
            token("scopes: [chat], secret: {annotations: {\"a b\": v}}"),
            "must have valid annotation keys",
        ),
        (
            token("scopes: [chat], secret: {annotations: {Kubernetes.IO/x: v}}"),
            "because other controllers act on them",
        ),
        (
            token("scopes: [chat], secret: {annotations: {x.k8s.io/y: z}}"),
            "because other controllers act on them",
        ),
        (
            token("scopes: [chat], secret: {labels: {\"a b\": v}}"),
            "must have valid label keys",
        ),
        (
            token("scopes: [chat], secret: {labels: {a: \"y z\"}}"),
            "the value of a label must consist of",
        ),
        (
            identity("identityId: bob"),
            "identityId must be a complete ACS id",
        ),
        (
            identity("identityId: \"8:acs:a/../b\""),
            "identityId must be a complete ACS id",
        ),
        (
            identity("deletionPolicy: Keep"),
            "supported values: \"Delete\", \"Orphan\"",
        ),
        (
            identity("connectionRef: {kind: Connection, name: x}"),
            "supported values: \"AcsConnection\"",
        ),
        (
            identity("connectionRef: {kind: AcsConnection, name: a..b}"),
            "each part between dots must begin and end with a letter or digit",
        ),
        (
            revocation("names: [a, a]"),
            "the list contains an entry twice; remove one of them",
        ),
        (
            revocation("names: [a..b]"),
            "names must be Kubernetes names",
        ),
        (
            connection("auth: {connectionString: {secretRef: {name: a..b, key: k}}}"),
            "each part between dots must begin and end with a letter or digit",
        ),
        (
            connection(&format!(
                "auth: {{{text}}}, policy: {{scopes: [chat, chat]}}"
            )),
            "the list contains an entry twice; remove one of them",
        ),
        (
            connection(&format!("auth: {{{key}}}")),
            "endpoint is required with auth.accessKey",
        ),
        (
            connection(
                "endpoint: \"https://a.example\", auth: {accessKey: {secretRef: {name: a, key: k}, \
                 secondarySecretRef: {name: a, key: k}}}",
            ),
            "secondarySecretRef must refer to another key than secretRef",
        ),
        (
            connection(
                "auth: {connectionString: {secretRef: {name: a, key: k}, \
                 secondarySecretRef: {name: a, key: l}}}",
            ),
            "unknown field \"spec.auth.connectionString.secondarySecretRef\"",
        ),
        (
            connection("auth: {}"),
            "auth must have exactly one of connectionString, accessKey, workloadIdentity, managedIdentity and clientSecret",
        ),
        (
            connection(&format!(
                "auth: {{{key}, {text}}}, endpoint: \"https://a.example\""
            )),
            "auth must have exactly one of",
        ),
        (
            connection("auth: {managedIdentity: {}}"),
            "endpoint is required with auth.workloadIdentity, auth.managedIdentity and auth.clientSecret",
        ),
        (
            connection(&format!("{at}, auth: {{managedIdentity: {{}}, {key}}}")),
            "auth must have exactly one of",
        ),
        (
            connection(&format!(
                "{at}, auth: {{managedIdentity: {{clientId: mine}}}}"
            )),
            "clientId must be the client id of a user-assigned managed identity, a GUID",
        ),
        (
            connection(&format!(
                "{at}, auth: {{workloadIdentity: {{clientId: \"{guid}\"}}}}"
            )),
            "auth.workloadIdentity.tenantId: Required value",
        ),
        (
            connection(&format!(
                "{at}, auth: {{workloadIdentity: {{tenantId: a.example, clientId: app}}}}"
            )),
            "clientId must be the application (client) id, a GUID",
        ),
        (
            connection(&format!(
                "{at}, auth: {{workloadIdentity: {{tenantId: Common, clientId: \"{guid}\"}}}}"
            )),
            "common, organizations and consumers are not tenants",
        ),
        (
            connection(&format!(
                "{at}, auth: {{workloadIdentity: {{tenantId: a.example, clientId: \"{guid}\", serviceAccountRef: {{}}}}}}"
            )),
            "serviceAccountRef.name: Required value",
        ),
        (
            connection(&format!(
                "{at}, auth: {{clientSecret: {{tenantId: \"a/b\", clientId: \"{guid}\", {secret}}}}}"
            )),
            "tenantId must be the id of a tenant or one of its domain names",
        ),
        (
            connection(&format!(
                "{at}, auth: {{clientSecret: {{tenantId: a.example, clientId: \"{guid}0\", {secret}}}}}"
            )),
            "clientId",
        ),
        (
            connection(&format!(
                "{at}, auth: {{clientSecret: {{tenantId: a.example, clientId: \"{guid}\"}}}}"
            )),
            "auth.clientSecret.secretRef: Required value",
        ),
        (
            connection(&format!(
                "{at}, auth: {{clientSecret: {{tenantId: a.example, clientId: \"{guid}\", {secret}, authority: a.example}}}}"
            )),
            "unknown field",
        ),
        (
            connection(&format!("auth: {{{text}}}, endpoint: contoso")),
            "endpoint must be an absolute URL",
        ),
        (
            connection(&format!(
                "auth: {{{text}}}, endpoint: \"https://u:p@a.example\""
            )),
            "endpoint must be an absolute URL",
        ),
        (
            connection(&format!("auth: {{{text}}}, apiVersion: \"2021-03-07\"")),
            "apiVersion must be a stable version",
        ),
        (
            connection(&format!("auth: {{{text}}}, apiVersion: latest")),
            "apiVersion must be a stable version",
        ),
        (
            connection(&format!("auth: {{{text}}}, policy: {{adoption: Maybe}}")),
            "supported values: \"Allow\", \"Deny\"",
        ),
        (
            connection(&format!("auth: {{{text}}}, policy: {{maxTokens: 4}}")),
            "unknown field",
        ),
    ];
    for (manifest, sentence) in table {
        let said = world.refuse(&manifest);
        assert!(
            said.contains(sentence),
            "wanted: {sentence}\nsaid: {said}\n{manifest}"
        );
    }
}

#[tokio::test]
async fn what_is_immutable_says_so() {
    let world = World::bare(&[], &[]).await;
    world.token("web", "alice", "scopes: [chat]");
    let said = world.refuse(&token_manifest("web", "bob", "scopes: [chat]"));
    assert!(said.contains("identityRef is immutable"), "{said}");
    let id = |name: &str| format!("identityId: \"8:acs:a_{name}\"");
    world.apply(&identity(&id("x")));
    let said = world.refuse(&identity(&id("y")));
    assert!(said.contains("identityId is immutable"), "{said}");
    let said = world.refuse(&identity(""));
    assert!(said.contains("cannot be added or removed"), "{said}");
    world.identity("created", "");
    let said = world.refuse(&identity(&id("x")).replace("name: bad", "name: created"));
    assert!(said.contains("cannot be added or removed"), "{said}");
}

#[tokio::test]
async fn nothing_is_defaulted_into_a_spec_and_a_new_object_is_not_taken_for_current() {
    let world = World::bare(&[], &[]).await;
    world.token("web", "alice", "scopes: [chat]");
    let path = ["get", "acstoken", "web", "-n", &world.namespace, "-o"];
    let spec = world
        .cluster
        .kubectl(&[&path[..], &["jsonpath={.spec}"]].concat());
    assert_eq!(
        spec,
        r#"{"identityRef":{"name":"alice"},"scopes":["chat"]}"#
    );
    let generation = world
        .cluster
        .kubectl(&[&path[..], &["jsonpath={.status.observedGeneration}"]].concat());
    assert_eq!(generation, "-1");
}

#[tokio::test]
async fn kubectl_explain_is_a_manual() {
    let world = World::bare(&[], &[]).await;
    for (field, sentence) in [
        ("acstoken.spec.expiresIn", "1h to 24h"),
        ("acstoken.spec.renewBefore", "A third of the"),
        ("acstoken.spec.revocation", "OnNarrowing"),
        ("acsidentity.spec.deletionPolicy", "Orphan"),
        ("acsconnection.spec.apiVersion", "2023-10-01"),
        (
            "clusteracsconnection.spec.policy.namespaces",
            "If absent, no namespace may",
        ),
    ] {
        let said = world.cluster.kubectl(&["explain", field]);
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            said.to_lowercase().contains(&sentence.to_lowercase()),
            "{field}: {said}"
        );
    }
}

#[tokio::test]
async fn names_and_keys_that_kubernetes_knows_are_taken() {
    let world = World::bare(&[], &[]).await;
    let name = format!("a.b-c.{}", "d".repeat(247));
    world.apply(&token_manifest(
        "good",
        &name,
        &format!(
            "scopes: [chat], secret: {{name: {name}, keys: {{token: .token_1}}, \
             labels: {{app.kubernetes.io/part-of: shop, example.com/Team_1: \"\"}}, \
             annotations: {{Example.com/note: a note}}}}"
        ),
    ));
}

#[tokio::test]
async fn what_a_hand_has_added_to_a_policy_goes_with_the_next_apply_from_git() {
    let world = World::bare(&[], &[]).await;
    let name = &world.namespace;
    let manifest = format!(
        "{{apiVersion: acs-identity.dev/v1alpha1, kind: ClusterAcsConnection, metadata: {{name: {name}}}, spec: {{\
         auth: {{connectionString: {{secretRef: {{name: a, key: k}}}}}}, policy: {{scopes: [chat], \
         namespaces: {{names: [one], selector: {{matchLabels: {{team: chat}}}}}}}}}}}}"
    );
    let apply = || {
        let git = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--field-manager=git",
            "-f",
            "-",
        ];
        let (went_well, said) = world.cluster.pipe(&git, &manifest);
        assert!(went_well, "{said}");
    };
    let policy = || {
        let path = [
            "get",
            "clusteracsconnection",
            name,
            "-o",
            "jsonpath={.spec.policy}",
        ];
        serde_json::from_str::<serde_json::Value>(&world.cluster.kubectl(&path)).expect("JSON")
    };
    apply();
    let of_git = policy();
    let added = r#"[{"op": "add", "path": "/spec/policy/scopes/-", "value": "voip"},
        {"op": "add", "path": "/spec/policy/namespaces/names/-", "value": "two"},
        {"op": "add", "path": "/spec/policy/namespaces/selector/matchLabels/tier", "value": "1"}]"#;
    let patch = [
        "patch",
        "clusteracsconnection",
        name,
        "--type=json",
        "-p",
        added,
    ];
    world.cluster.kubectl(&patch);
    assert_ne!(policy(), of_git);
    apply();
    let after = policy();
    world
        .cluster
        .kubectl(&["delete", "clusteracsconnection", name]);
    assert_eq!(after, of_git);
}
