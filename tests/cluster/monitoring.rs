//! Metrics, and the alerts and the dashboard that use them.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    pages::commands,
    support::{
        eventually,
        helm::{objects, only, template},
        kubernetes::{built, root},
        world::World,
    },
};

fn read(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|character: char| !(character.is_alphanumeric() || character == '_'));
    words
        .filter(|word| word.starts_with("process_") || word.starts_with("acs_identity_operator_"))
        .map(ToOwned::to_owned)
        .collect()
}

/// Returns the names of the served samples.
fn samples(served: &str) -> BTreeSet<String> {
    let lines = served.lines().filter(|line| !line.starts_with('#'));
    lines
        .flat_map(|line| names(line.split(['{', ' ']).next().expect("a name")))
        .collect()
}

#[tokio::test]
async fn every_metric_of_the_alerts_and_the_dashboard_is_served() {
    let mut world = World::new().await;
    world
        .emulator
        .faults(json!([{"operation": "issueToken", "effect": "status", "status": 503, "count": 4}]))
        .await;
    world.identity("alice", "");
    world.token("web", "alice", "scopes: [chat]");
    world.ready("web").await;
    let url = format!("{}/metrics", world.operator().url);
    let served = eventually("the token is counted as Ready", || async {
        let answer = reqwest::get(&url).await.expect("an answer");
        let kind = answer.headers()["content-type"].to_str().expect("text");
        assert_eq!(
            kind,
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        );
        let served = answer.text().await.expect("text");
        let ready = "acs_identity_operator_tokens{ready=\"True\"} 1\n";
        served.contains(ready).then_some(served)
    })
    .await;
    assert!(served.ends_with("# EOF\n"), "{served}");
    let expiry = "acs_identity_operator_token_expiry_min_timestamp_seconds";
    for sample in [
        format!(
            "{expiry}{{connection=\"AcsConnection {}/default\"}} 1",
            world.namespace
        ),
        "acs_identity_operator_connections{kind=\"AcsConnection\",ready=\"True\"} 1\n".to_owned(),
        "acs_identity_operator_tokens_overdue 0\n".to_owned(),
        "acs_identity_operator_acs_queue_depth{operation=\"issue_token\"} 0\n".to_owned(),
    ] {
        assert!(served.contains(&sample), "{sample} is not in {served}");
    }
    let chart = "charts/acs-identity-operator/files";
    let served = samples(&served);
    for file in ["alerts.yaml", "dashboard.json"] {
        let used = names(&read(&format!("{chart}/{file}")));
        assert!(used.len() > 5, "{used:?}");
        let missing: Vec<_> = used.difference(&served).collect();
        assert!(
            missing.is_empty(),
            "{file}: {missing:?} are not in {served:?}"
        );
    }
    // The page lists all of them.
    let page = names(&read("docs/monitoring.md"));
    let is_part = |name: &&String| name.ends_with("_bucket") || name.ends_with("_sum");
    let served: BTreeSet<_> = served.iter().filter(|name| !is_part(name)).collect();
    let unrecorded: Vec<_> = served
        .into_iter()
        .filter(|name| !page.contains(name.trim_end_matches("_count")))
        .collect();
    assert!(
        unrecorded.is_empty(),
        "docs/monitoring.md lacks {unrecorded:?}"
    );
}

#[test]
fn every_alert_has_its_runbook_and_links_to_it() {
    let values = json!({"metrics": {
        "serviceMonitor": {"enabled": true, "labels": {"release": "prometheus"}, "interval": "30s"},
        "prometheusRule": {"enabled": true, "runbookURL": "https://docs.example/runbooks/"},
        "dashboard": {"enabled": true},
    }});
    let objects = objects(&template("home", &values).expect("rendered"));
    let rule = only(&objects, "PrometheusRule");
    let rules = rule["spec"]["groups"][0]["rules"]
        .as_array()
        .expect("rules");
    let mut alerts = BTreeSet::new();
    for rule in rules {
        let alert = rule["alert"].as_str().expect("a name");
        let link = format!("https://docs.example/runbooks/{alert}.md");
        assert_eq!(rule["annotations"]["runbook_url"], link);
        assert!(
            rule["expr"]
                .as_str()
                .expect("text")
                .contains("namespace=\"home\"")
        );
        assert!(!rule.to_string().contains("NAMESPACE"), "{rule}");
        alerts.insert(format!("{alert}.md"));
    }
    let pages = fs::read_dir(root("docs/runbooks")).expect("the runbooks");
    let pages: BTreeSet<_> = pages
        .map(|page| {
            page.expect("a page")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect();
    assert_eq!(pages, alerts);
    let monitor = only(&objects, "ServiceMonitor");
    let service = only(&objects, "Service");
    let selector = monitor["spec"]["selector"]["matchLabels"]
        .as_object()
        .expect("labels");
    for (name, value) in selector {
        assert_eq!(&service["metadata"]["labels"][name], value);
    }
    assert_eq!(
        monitor["spec"]["endpoints"][0]["port"],
        service["spec"]["ports"][0]["name"]
    );
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    let text = only(&objects, "ConfigMap")["data"]["story-acs-identity-operator.json"].as_str();
    let dashboard: Value = serde_json::from_str(text.expect("text")).expect("JSON");
    let file = read("charts/acs-identity-operator/files/dashboard.json");
    assert_eq!(
        dashboard,
        serde_json::from_str::<Value>(&file).expect("JSON")
    );
}

#[test]
fn a_pod_is_scraped_once() {
    let both =
        json!({"metrics": {"serviceMonitor": {"enabled": true}, "podMonitor": {"enabled": true}}});
    let said = template("home", &both).expect_err("twice");
    assert!(said.contains("scrape the same pod twice"), "{said}");
    let lone =
        json!({"metrics": {"serviceMonitor": {"enabled": true}, "service": {"enabled": false}}});
    let said = template("home", &lone).expect_err("no Service");
    assert!(said.contains("requires the Service"), "{said}");
    let pods = json!({"metrics": {"podMonitor": {"enabled": true}}});
    let objects = objects(&template("home", &pods).expect("rendered"));
    let pod = &only(&objects, "Deployment")["spec"]["template"];
    let monitor = &only(&objects, "PodMonitor")["spec"];
    for (name, value) in monitor["selector"]["matchLabels"]
        .as_object()
        .expect("labels")
    {
        assert_eq!(&pod["metadata"]["labels"][name], value);
    }
    let port = &pod["spec"]["containers"][0]["ports"][0]["name"];
    assert_eq!(&monitor["podMetricsEndpoints"][0]["port"], port);
}

/// Runs promtool in a directory.
fn promtool(folder: &Path, arguments: &[&str]) {
    let output = Command::new(built("promtool").join("promtool"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("promtool runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
}

#[test]
fn the_alerts_fire_when_they_should_and_only_then() {
    let values = json!({"metrics": {"prometheusRule": {"enabled": true}}});
    let objects = objects(&template("acs", &values).expect("rendered"));
    let rules = &only(&objects, "PrometheusRule")["spec"];
    let folder = tempfile::tempdir().expect("a folder");
    // JSON is valid YAML.
    fs::write(folder.path().join("rules.yaml"), rules.to_string()).expect("written");
    let tests = read("tests/cluster/alerts.yaml");
    fs::write(folder.path().join("tests.yaml"), &tests).expect("written");
    promtool(folder.path(), &["check", "rules", "rules.yaml"]);
    promtool(folder.path(), &["test", "rules", "tests.yaml"]);
    for rule in rules["groups"][0]["rules"].as_array().expect("rules") {
        let name = rule["alert"].as_str().expect("a name");
        assert!(
            tests.contains(&format!("alertname: {name}\n")),
            "{name} never fires"
        );
    }
}

/// Grafana's variables are replaced by values; the panels must not overlap.
#[test]
fn the_queries_of_the_dashboard_are_promql_and_its_panels_have_places_of_their_own() {
    let text = read("charts/acs-identity-operator/files/dashboard.json");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut rules = Vec::new();
    let mut taken = BTreeSet::new();
    for panel in panels {
        for target in panel["targets"].as_array().expect("targets") {
            let query = target["expr"].as_str().expect("a query");
            let query = query.replace("$__rate_interval", "5m");
            let query = query.replace("$namespace", "acs");
            assert!(!query.contains('$'), "{query}");
            let record = format!("query:{}", rules.len());
            rules.push(json!({"record": record, "expr": query}));
        }
        let place = |name: &str| panel["gridPos"][name].as_u64().expect("a number");
        assert!(place("x") + place("w") <= 24, "{panel}");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{} covers another", panel["title"]);
            }
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let rules = json!({"groups": [{"name": "dashboard", "rules": rules}]});
    fs::write(folder.path().join("rules.yaml"), rules.to_string()).expect("written");
    promtool(folder.path(), &["check", "rules", "rules.yaml"]);
}

/// Logs require clusters with nodes; everything else is run as documented.
#[tokio::test]
async fn the_commands_of_the_runbooks_are_commands() {
    let world = World::bare(&[], &[]).await;
    let pages = fs::read_dir(root("docs/runbooks")).expect("the runbooks");
    // Discovery lags behind CRDs that were just installed.
    eventually("the category of our kinds is known", || async {
        let get = ["get", "acs", "--all-namespaces"];
        world.cluster.pipe(&get, "").0.then_some(())
    })
    .await;
    let mut tried = 0;
    for page in pages {
        let name = page.expect("a page").file_name();
        let blocks = commands(&format!("docs/runbooks/{}", name.display()));
        for line in blocks.iter().flat_map(|block| block.lines()) {
            if !line.contains(" logs ") {
                world.bash(line);
                tried += 1;
            }
        }
    }
    assert!(tried > 5, "{tried}");
}
