use serde_json::{Value, json};

use super::*;
use crate::crd::{Scope, TokenParameters};

const BEGIN: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(BEGIN + second).unwrap()
}

fn token(spec: &Value, reported: &[RolloutRestartStatus]) -> AcsToken {
    let mut token: AcsToken = serde_json::from_value(json!({
        "apiVersion": "acs-identity.dev/v1alpha1", "kind": "AcsToken",
        "metadata": {"name": "web"}, "spec": spec,
    }))
    .unwrap();
    token.status = Some(AcsTokenStatus {
        rollout_restarts: reported.to_vec(),
        ..AcsTokenStatus::default()
    });
    token
}

fn record(revision: i64, restart_revision: Option<i64>) -> TokenRecord {
    TokenRecord {
        identity_id: "8:acs:a_b".to_owned(),
        parameters: TokenParameters {
            scopes: [Scope::Chat].into(),
            expires_in: "24h".to_owned(),
        },
        issued_at: at(0),
        expires_at: at(86_400),
        life: SignedDuration::from_hours(24),
        fingerprint: String::new(),
        credential: String::new(),
        former: None,
        revision,
        restart_revision,
        request: None,
        exchange: None,
    }
}

/// Plans for one Deployment that is restarted `after`, with `keys`, from an earlier status.
fn planned(
    (after, keys): (&str, &Value),
    reported: &[RolloutRestartStatus],
    (revision, restart): (i64, Option<i64>),
    last: Option<LastRestart>,
    now: i64,
) -> Plan {
    let targets = json!([{"kind": "Deployment", "name": "web", "after": after}]);
    let spec = json!({"rolloutRestart": targets, "secret": {"keys": keys}});
    let restarts = Restarts {
        is_allowed: true,
        last: vec![last],
    };
    plan(
        &token(&spec, reported),
        &record(revision, restart),
        &restarts,
        at(now),
    )
}

fn first(after: &str) -> Vec<RolloutRestartStatus> {
    planned((after, &Value::Null), &[], (1, None), None, 0).reported
}

#[test]
fn a_restart_is_due_for_what_pods_cant_see_and_ten_seconds_later() {
    let renamed = json!({"token": "ACS_TOKEN"});
    for (after, keys, revisions, is_due) in [
        ("Change", &Value::Null, (1, None), false),
        ("Change", &Value::Null, (2, None), false),
        ("Change", &Value::Null, (2, Some(2)), true),
        ("Change", &Value::Null, (3, Some(2)), true),
        ("Change", &renamed, (1, None), true),
        ("Renewal", &Value::Null, (1, None), false),
        ("Renewal", &Value::Null, (2, None), true),
    ] {
        let reported = first(after);
        let seen = planned((after, keys), &reported, revisions, None, 5);
        assert_eq!(seen.due, None, "{after} {keys} {revisions:?}");
        assert_eq!(
            seen.requeue_at.is_some(),
            is_due,
            "{after} {keys} {revisions:?}"
        );
        let later = planned((after, keys), &seen.reported, revisions, None, 15);
        assert_eq!(later.due.is_some(), is_due, "{after} {keys} {revisions:?}");
        assert_eq!(later.reported, seen.reported);
    }
}

#[test]
fn a_new_cause_waits_anew_and_an_earlier_restart_does_not_serve_it() {
    let of = ("Change", &Value::Null);
    let seen = planned(of, &first("Change"), (2, Some(2)), None, 0);
    let again = planned(of, &seen.reported, (3, Some(3)), None, 9);
    assert_eq!(again.requeue_at, Some(at(19)));
    let last = |restarted| LastRestart {
        tried: at(restarted),
        restarted: Some(at(restarted)),
    };
    let early = planned(of, &again.reported, (3, Some(3)), Some(last(9)), 20);
    assert_eq!((early.due, early.requeue_at), (None, Some(at(309))));
    let served = planned(of, &again.reported, (3, Some(3)), Some(last(10)), 20);
    let reported = served.reported.first().unwrap();
    assert_eq!((reported.revision, &reported.pending), (3, &None));
    // A restart in the future, by a clock that was set back, serves no cause.
    let ahead = planned(of, &again.reported, (3, Some(3)), Some(last(4000)), 20);
    assert!(ahead.due.is_some());
}

#[test]
fn what_happens_while_restarts_are_switched_off_restarts_nothing_later() {
    let spec = json!({"rolloutRestart": [{"kind": "Deployment", "name": "web"}]});
    let off = Restarts::default();
    let reported = plan(
        &token(&spec, &first("Change")),
        &record(2, Some(2)),
        &off,
        at(0),
    )
    .reported;
    assert_eq!(
        reported.first().unwrap().message.as_deref(),
        Some(SWITCHED_OFF)
    );
    let on = planned(("Change", &Value::Null), &reported, (2, Some(2)), None, 100);
    assert_eq!((on.due, on.requeue_at), (None, None));
    assert_eq!(on.reported.first().unwrap().message, None);
}

#[test]
fn a_workload_is_judged_by_its_pod_template() {
    let found = |key: &str, value: &str| Workload {
        version: String::new(),
        annotations: [(key.to_owned(), value.to_owned())].into(),
    };
    let marked = |second: i64| {
        judge(
            &found(RESTARTED_AT, &at(second).to_string()),
            at(0),
            at(100),
        )
    };
    assert_eq!(
        judge(&Workload::default(), at(0), at(100)),
        Judgement::Restart(at(100))
    );
    assert_eq!(marked(1), Judgement::IsRestarted(at(1)));
    assert_eq!(marked(0), Judgement::TooSoon(at(0)));
    assert_eq!(marked(-201), Judgement::Restart(at(100)));
    // An invalid time, and a time that a clock left behind that was ahead.
    assert_eq!(marked(4000), Judgement::Restart(at(100)));
    let nonsense = found(RESTARTED_AT, "nonsense");
    assert_eq!(
        judge(&nonsense, at(0), at(100)),
        Judgement::Restart(at(100))
    );
    assert_eq!(
        judge(&found(REREADS, "true"), at(0), at(100)),
        Judgement::Rereads
    );
    assert_eq!(
        judge(&found(REREADS, "false"), at(0), at(100)),
        Judgement::Restart(at(100))
    );
    // The clock was set back to before the cause.
    assert_eq!(
        judge(&Workload::default(), at(500), at(100)),
        Judgement::Restart(at(501))
    );
}
