//! Permissions on the operator's kinds that the chart aggregates to the roles of Kubernetes.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};
use serde_json::json;

use crate::support::{
    eventually,
    helm::Release,
    kubernetes::{self, root},
};

const ROLES: [&str; 3] = ["view", "edit", "admin"];
const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];

async fn may(client: &Client, role: &str, verb: &str, what: &str) -> bool {
    let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
    let attributes = ResourceAttributes {
        verb: Some(verb.to_owned()),
        group: Some("acs-identity.dev".to_owned()),
        resource: Some(resource.to_owned()),
        subresource: Some(subresource.to_owned()),
        namespace: (!resource.starts_with("cluster")).then(|| "team".to_owned()),
        ..ResourceAttributes::default()
    };
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            user: Some(format!("{role}er")),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let api = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await;
    answer.expect("an answer").status.expect("a status").allowed
}

/// Whether the table in docs/security.md grants the permission.
fn promised(role: &str, verb: &str, what: &str) -> bool {
    let objects = ["acsidentities", "acstokens", "acsrevocations"].contains(&what);
    let connections = what == "acsconnections";
    match verb {
        verb if READ.contains(&verb) => objects || connections,
        verb if WRITE.contains(&verb) => {
            (objects && role != "view") || (connections && role == "admin")
        }
        _ => connections && role == "admin",
    }
}

#[tokio::test]
async fn the_roles_of_kubernetes_get_the_rights_on_our_kinds_that_the_values_say() {
    let cluster = kubernetes::start();
    let crds = root("crds/acs-identity.dev.yaml");
    cluster.kubectl(&["apply", "--server-side", "-f", &crds]);
    cluster.kubectl(&["create", "namespace", "acs"]);
    cluster.kubectl(&["create", "namespace", "team"]);
    for role in ROLES {
        let (clusterrole, user) = (format!("--clusterrole={role}"), format!("--user={role}er"));
        let bind = ["create", "rolebinding", role, "-n", "team"];
        cluster.kubectl(&[&bind[..], &[&clusterrole, &user]].concat());
    }
    let none = json!({"rbac": {"aggregateToView": false, "aggregateToEdit": false, "aggregateToAdmin": false}});
    let release = Release::install(&cluster, "acs", "acs", &none);
    let client = cluster.client().await;
    for role in ROLES {
        assert!(!may(&client, role, "get", "acstokens").await, "{role}");
    }
    let all = json!({"rbac": {"aggregateToView": true, "aggregateToEdit": true, "aggregateToAdmin": true}});
    release.upgrade(&all);
    // The controller aggregates one role after the other.
    for (role, verb, what) in [
        ("view", "get", "acstokens"),
        ("edit", "create", "acstokens"),
        ("admin", "use", "acsconnections"),
    ] {
        eventually(&format!("{role} may {verb} {what}"), || async {
            may(&client, role, verb, what).await.then_some(())
        })
        .await;
    }
    for what in [
        "acsconnections",
        "acsidentities",
        "acstokens",
        "acsrevocations",
        "clusteracsconnections",
        "clusteracsrevocations",
        "acsconnections/status",
        "acsidentities/status",
        "acstokens/status",
        "acsrevocations/status",
    ] {
        for role in ROLES {
            for verb in READ.into_iter().chain(WRITE).chain(["use"]) {
                let may = may(&client, role, verb, what).await;
                assert_eq!(may, promised(role, verb, what), "{role}: {verb} {what}");
            }
        }
    }
    release.uninstall();
}
