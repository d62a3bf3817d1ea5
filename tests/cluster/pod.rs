//! The operator's pod as the chart defines it: image, environment and volumes.

use acs_identity_operator::crd::AcsIdentity;
use serde_json::{Value, json};

use crate::{
    chart::value_sets,
    support::{
        helm::{arguments, chart, helm, objects, only, template, with_image},
        world::World,
    },
};

/// Returns the pod's spec.
fn pod(values: &Value) -> Value {
    let objects = objects(&template("a", values).expect("rendered"));
    only(&objects, "Deployment")["spec"]["template"]["spec"].clone()
}

fn by_name(list: &Value, name: &str) -> Value {
    let mut items = list.as_array().expect("a list").iter();
    let found = items.find(|item| item["name"] == name);
    found
        .unwrap_or_else(|| panic!("{name} is not in {list}"))
        .clone()
}

fn variable(pod: &Value, name: &str) -> String {
    let variable = by_name(&pod["containers"][0]["env"], name);
    variable["value"].as_str().expect("text").to_owned()
}

#[test]
fn the_operators_own_token_is_mounted_where_the_program_looks_for_it() {
    let everything = objects(&template("a", &value_sets("a")[1]).expect("rendered"));
    let pod = &only(&everything, "Deployment")["spec"]["template"]["spec"];
    let mount = by_name(&pod["containers"][0]["volumeMounts"], "entra-token");
    let volume = by_name(&pod["volumes"], "entra-token");
    let source = &volume["projected"]["sources"][0]["serviceAccountToken"];
    let folder = mount["mountPath"].as_str().expect("a path");
    let file = format!("{folder}/{}", source["path"].as_str().expect("a path"));
    let given = arguments(only(&everything, "Deployment")).join(" ");
    let flag = format!("--federated-token-file={file} ");
    assert!(given.contains(&flag), "{given}");
    assert_eq!(source["audience"], "api://AzureADTokenExchangeUSGov");
}

#[test]
fn the_digest_wins_over_the_tag_and_without_both_it_is_the_charts_own_version() {
    let image = |values: &Value| {
        let image = &pod(values)["containers"][0]["image"];
        image.as_str().expect("text").to_owned()
    };
    let [default, everything, tag] = value_sets("a").map(|values| image(&values));
    let version = env!("CARGO_PKG_VERSION");
    let ours = "registry.example/acs-identity-operator";
    assert_eq!(default, format!("{ours}:{version}"));
    assert!(everything.starts_with("mirror.example:5000/acs/operator@sha256:0f"));
    assert_eq!(tag, format!("{ours}:other"));
    for (repository, mirrored) in [
        ("registry.example/a/b", "mirror.example/a/b:1"),
        ("localhost/b", "mirror.example/b:1"),
        ("team/b", "mirror.example/team/b:1"),
        ("b", "mirror.example/b:1"),
    ] {
        let values = json!({
            "global": {"imageRegistry": "mirror.example"},
            "image": {"repository": repository, "tag": "1"},
        });
        assert_eq!(image(&values), mirrored);
    }
}

#[test]
fn the_api_server_and_the_metadata_service_never_take_the_proxy() {
    let none = pod(&json!({"proxy": {"noProxy": ["a.example"]}}));
    assert!(!none.to_string().contains("PROXY"), "{none}");
    let pod = pod(&json!({"proxy": {"https": "http://p.example:3128", "noProxy": ["a.example"]}}));
    assert_eq!(variable(&pod, "HTTPS_PROXY"), "http://p.example:3128");
    let spared = variable(&pod, "NO_PROXY");
    let spared: Vec<_> = spared.split(',').collect();
    for host in [
        "$(KUBERNETES_SERVICE_HOST)",
        "169.254.169.254",
        "127.0.0.1",
        "a.example",
    ] {
        assert!(spared.contains(&host), "{host} is not in {spared:?}");
    }
    assert!(!pod.to_string().contains("\"HTTP_PROXY\""), "{pod}");
}

/// No DNS server knows the host, so only the proxy reaches it; the emulator itself is the proxy.
#[tokio::test]
async fn requests_to_the_service_take_the_proxy() {
    let flags = ["--allow-insecure-endpoint", "acs.example"];
    let mut world = World::bare(&[], &flags).await;
    let pod = pod(&json!({"proxy": {"http": world.emulator.url}}));
    world.environment = ["HTTP_PROXY", "NO_PROXY"]
        .map(|name| (name.to_owned(), variable(&pod, name)))
        .into();
    let text = world.emulator.connection_string.clone();
    let (_, key) = text.split_once(';').expect("two parts");
    world.connect("default", &format!("endpoint=http://acs.example/;{key}"));
    world.start_operator();
    world.identity("alice", "");
    world.identity_says("alice", "IdentityReady").await;
    world.delete::<AcsIdentity>("alice").await;
    world.gone::<AcsIdentity>("alice").await;
}

#[test]
fn openshift_chooses_the_users_itself() {
    let users = |on_openshift: bool, adapt: &str| {
        let values = with_image(&json!({"openshift": {"adaptSecurityContext": adapt}}));
        let api = ["--api-versions", "security.openshift.io/v1"];
        let template = ["template", "story", &chart()];
        let arguments = if on_openshift {
            [&template[..], &api].concat()
        } else {
            template.to_vec()
        };
        let objects = objects(&helm(None, &arguments, &values).expect("rendered"));
        let context = &only(&objects, "Deployment")["spec"]["template"]["spec"]["securityContext"];
        assert_eq!(context["runAsNonRoot"], true);
        context["runAsUser"].as_u64().is_some()
    };
    assert!(users(false, "auto"));
    assert!(!users(true, "auto"));
    assert!(!users(false, "force"));
    assert!(users(true, "disabled"));
}

/// The public certificate authorities remain trusted, so that ACS can be reached, too.
#[tokio::test]
async fn an_authority_of_the_bundle_is_trusted() {
    let mut world = World::bare(&[], &["--allow-endpoint", "127.0.0.1"]).await;
    let pod = pod(&json!({"caBundle": {"configMap": "authorities", "key": "bundle.pem"}}));
    let mount = by_name(&pod["containers"][0]["volumeMounts"], "ca-bundle");
    let item = by_name(&pod["volumes"], "ca-bundle")["configMap"]["items"][0].clone();
    assert_eq!(item["key"], "bundle.pem");
    assert_eq!(mount["mountPath"], variable(&pod, "SSL_CERT_DIR"));
    // The directory of the pod, at a path that this test may write.
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join(item["path"].as_str().expect("a path"));
    std::fs::copy(world.emulator.printed("ca-file"), file).expect("copied");
    world.environment = vec![
        ("SSL_CERT_FILE".to_owned(), variable(&pod, "SSL_CERT_FILE")),
        (
            "SSL_CERT_DIR".to_owned(),
            folder.path().display().to_string(),
        ),
    ];
    let authority = world.emulator.printed("entra-authority");
    let (_, key) = world
        .emulator
        .connection_string
        .split_once(';')
        .expect("two parts");
    world.connect("default", &format!("endpoint={authority}/;{key}"));
    world.start_operator();
    world.identity("alice", "");
    world.identity_says("alice", "IdentityReady").await;
    world.delete::<AcsIdentity>("alice").await;
    world.gone::<AcsIdentity>("alice").await;
}
