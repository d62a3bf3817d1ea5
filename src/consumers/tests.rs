use serde_json::{Value, json};

use super::*;

/// Time at which the token was written.
const WRITTEN: &str = "2027-01-15T08:00:00Z";
const BEFORE: &str = "2027-01-15T07:59:00Z";
const SOON: &str = "2027-01-15T08:00:05Z";
const AFTER: &str = "2027-01-15T08:00:06Z";

fn token(keys: &Value) -> AcsToken {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "team"},
        "spec": {"identityRef": {"name": "alice"}, "secret": {"keys": keys}},
    }))
    .unwrap()
}

/// Returns a pod with one container, which started at that time, as the operator keeps it.
fn pod(volumes: &Value, container: Value, started_at: &str) -> ConsumerPod {
    let mut container = container;
    container["name"] = "main".into();
    container["image"] = "busybox".into();
    let mut pod: ConsumerPod = serde_json::from_value(json!({
        "metadata": {"name": "web-0", "namespace": "team", "labels": {"app": "web"}},
        "spec": {"volumes": volumes, "containers": [container], "nodeName": "n1"},
        "status": {"phase": "Running", "containerStatuses": [
            {"name": "main", "state": {"running": {"startedAt": started_at}}, "ready": true},
        ]},
    }))
    .unwrap();
    let whole = pod.clone();
    pod.slim();
    assert_eq!(whole.secrets(), pod.secrets());
    pod
}

fn variable(secret: &str, key: &str) -> Value {
    json!({"env": [
        {"name": "PLAIN", "value": "x"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}},
    ]})
}

fn sub_path(path: &str) -> Value {
    json!({"volumeMounts": [{"name": "acs", "mountPath": "/acs", "subPath": path}]})
}

fn volume(name: &str, secret: &Value) -> Value {
    json!([{"name": "cache", "emptyDir": {}}, {"name": name, "secret": secret}])
}

/// Returns how the pod uses the Secret of the token: whether a change needs a restart, and which
/// containers hold a former token.
fn used(pod: &ConsumerPod, keys: &Value) -> (bool, Vec<FixedUse>) {
    let secret = UsedSecret::of_token(&token(keys));
    let outdated = pod.outdated(&secret, WRITTEN.parse().unwrap());
    let outdated = outdated.into_iter().map(|it| it.by).collect();
    (pod.has_fixed_use(&secret), outdated)
}

#[test]
fn an_environment_variable_is_fixed_if_its_value_changes_with_the_token() {
    use FixedUse::Environment;
    let none = Value::Null;
    let by = |container: Value, at| pod(&json!([]), container, at);
    for key in ["token", "expiresOn"] {
        let outdated = (true, vec![Environment]);
        assert_eq!(used(&by(variable("web", key), BEFORE), &none), outdated);
        assert_eq!(used(&by(variable("web", key), SOON), &none), outdated);
        assert_eq!(
            used(&by(variable("web", key), AFTER), &none),
            (true, vec![])
        );
    }
    let unused = (false, vec![]);
    assert_eq!(
        used(&by(variable("web", "endpoint"), BEFORE), &none),
        unused
    );
    assert_eq!(used(&by(variable("other", "token"), BEFORE), &none), unused);
    let renamed = json!({"token": "ACS_TOKEN"});
    let found = used(&by(variable("web", "ACS_TOKEN"), BEFORE), &renamed);
    assert_eq!(found, (true, vec![Environment]));
    assert_eq!(
        used(&by(variable("web", "token"), BEFORE), &renamed),
        unused
    );
    let all =
        json!({"envFrom": [{"configMapRef": {"name": "web"}}, {"secretRef": {"name": "web"}}]});
    assert_eq!(used(&by(all, BEFORE), &none), (true, vec![Environment]));
}

#[test]
fn a_mount_is_fixed_if_it_has_a_sub_path_that_shows_the_token() {
    use FixedUse::SubPath;
    let none = Value::Null;
    let outdated = (true, vec![SubPath]);
    let unused = (false, vec![]);
    let whole = volume("acs", &json!({"secretName": "web"}));
    let by = |path: &str| pod(&whole, sub_path(path), BEFORE);
    assert_eq!(used(&by("token"), &none), outdated);
    assert_eq!(used(&by("endpoint"), &none), unused);
    assert_eq!(used(&by(""), &none), unused, "the kubelet updates it");
    let items = json!([
        {"key": "token", "path": "folder/acs"}, {"key": "scopes", "path": "folder/scopes"},
    ]);
    let chosen = volume("acs", &json!({"secretName": "web", "items": items}));
    for (path, expected) in [
        ("folder/acs", &outdated),
        ("folder", &outdated),
        ("folder/", &outdated),
        ("fold", &unused),
        ("folder/scopes", &unused),
        ("token", &unused),
    ] {
        assert_eq!(
            used(&pod(&chosen, sub_path(path), BEFORE), &none),
            *expected,
            "{path}"
        );
    }
    let projected = json!([{"name": "acs", "projected": {"sources": [
        {"configMap": {"name": "web"}}, {"secret": {"name": "web"}},
    ]}}]);
    assert_eq!(
        used(&pod(&projected, sub_path("token"), BEFORE), &none),
        outdated
    );
    let by_expression = json!({"volumeMounts": [
        {"name": "acs", "mountPath": "/acs", "subPathExpr": "$(KEY)"},
    ]});
    assert_eq!(used(&pod(&whole, by_expression, BEFORE), &none), outdated);
}

#[test]
fn containers_of_every_kind_count_while_they_run() {
    let secret = UsedSecret::of_token(&token(&Value::Null));
    let since = WRITTEN.parse().unwrap();
    let with = |list: &str, statuses: &str, state: &Value| -> ConsumerPod {
        let mut container = variable("web", "token");
        container["name"] = "main".into();
        serde_json::from_value(json!({
            "metadata": {"name": "web-0"}, "spec": {list: [container]},
            "status": {statuses: [{"name": "main", "state": state}]},
        }))
        .unwrap()
    };
    let running = json!({"running": {"startedAt": BEFORE}});
    for (list, statuses) in [
        ("containers", "containerStatuses"),
        ("initContainers", "initContainerStatuses"),
        ("ephemeralContainers", "ephemeralContainerStatuses"),
    ] {
        let pod = with(list, statuses, &running);
        let outdated = pod.outdated(&secret, since);
        let [container] = outdated.as_slice() else {
            panic!("{list}: {outdated:?}");
        };
        assert_eq!(
            (container.name.as_str(), container.by),
            ("main", FixedUse::Environment)
        );
        for ended in [
            json!({"terminated": {"exitCode": 0}}),
            json!({"waiting": {}}),
            json!({}),
        ] {
            assert_eq!(with(list, statuses, &ended).outdated(&secret, since), []);
        }
    }
}

#[test]
fn pods_are_counted_by_how_they_use_the_secret() {
    let secret = UsedSecret::of_token(&token(&Value::Null));
    let whole = volume("acs", &json!({"secretName": "web"}));
    let mount = json!({"volumeMounts": [{"name": "acs", "mountPath": "/acs"}]});
    let pods = [
        pod(&whole, mount, BEFORE),
        pod(&json!([]), variable("web", "token"), BEFORE),
        pod(&json!([]), variable("web", "token"), AFTER),
    ];
    let counts = count(pods.iter(), &secret, WRITTEN.parse().unwrap());
    let expected = ConsumersStatus {
        pods: 3,
        fixed: 2,
        outdated: 1,
    };
    assert_eq!(counts, expected);
}
