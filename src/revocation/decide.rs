//! How an order goes on. Pure: no I/O, no clock.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::kinds::Terms;
use crate::{
    crd::{RevocationStatus, RevocationTarget, Verdict},
    renewal,
};

/// More targets than this are not recorded: etcd takes no object over 1.5 MiB.
pub const MOST_TARGETS: usize = 4000;
/// Nor are targets whose JSON is longer, in bytes: each grows by its time.
const MOST_BYTES: usize = 1_000_000;
/// So many names stand in a message.
const NAMED: usize = 3;

/// An order as it is first seen.
#[derive(Clone, Debug)]
pub struct FirstSight {
    /// The operator's clock.
    pub now: Timestamp,
    /// What it asks for.
    pub terms: Terms,
    /// Whom it selects, or why that can't be told.
    pub selected: Result<Vec<RevocationTarget>, String>,
}

/// An order whose targets are recorded.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The operator's clock.
    pub now: Timestamp,
    /// What has become of its open targets, in their order.
    pub seen: Vec<Seen>,
}

/// What has become of an open target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Its tokens are still to be revoked; the word says what it waits for, where that is known.
    Waiting(Option<String>),
    /// The service has answered that its tokens are revoked.
    Revoked(Time),
    /// The object is gone.
    Gone,
}

/// The next status, without its conditions, and what they say.
#[derive(Clone, Debug, PartialEq)]
pub struct Next {
    /// The facts.
    pub status: RevocationStatus,
    /// The conditions.
    pub verdict: Verdict,
}

impl Next {
    /// Whether the order is done with.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.status.completed_at.is_some()
    }
}

/// Begins an order: records its targets, once and for all, or says why it is not begun.
#[must_use]
pub fn begin(order: &FirstSight) -> Next {
    let now = Some(Time(renewal::whole_seconds(order.now)));
    let never = |verdict| Next {
        status: RevocationStatus {
            completed_at: now.clone(),
            ..RevocationStatus::default()
        },
        verdict,
    };
    if let Some(not_after) = order.terms.not_after.filter(|until| order.now > *until) {
        let message =
            format!("the order was first seen after {not_after} (notAfter): nothing is revoked");
        return never(Verdict::ready("TooLate", message));
    }
    let targets = match &order.selected {
        Ok(targets) => targets.clone(),
        Err(why) => return never(Verdict::stalled("InvalidSelector", why.clone())),
    };
    let bytes = serde_json::to_vec(&targets).map_or(0, |json| json.len());
    if targets.len() > MOST_TARGETS || bytes > MOST_BYTES {
        let message = format!(
            "the order selects {} AcsIdentities, more than one object can record (at most \
             {MOST_TARGETS}): nothing is revoked; make several orders that select less",
            targets.len()
        );
        return never(Verdict::stalled("TooManyTargets", message));
    }
    let status = RevocationStatus {
        started_at: now.clone(),
        total: i64::try_from(targets.len()).ok(),
        revoked: Some(0),
        targets,
        ..RevocationStatus::default()
    };
    if order.terms.is_dry_run {
        let verdict = of_dry_run(&status);
        let status = RevocationStatus {
            completed_at: now,
            ..status
        };
        return Next { status, verdict };
    }
    conclude(status, order.now, &[])
}

/// Takes in what has become of the open targets.
#[must_use]
pub fn go_on(former: &RevocationStatus, order: &Progress) -> Next {
    let mut status = RevocationStatus {
        conditions: Vec::new(),
        observed_generation: None,
        ..former.clone()
    };
    let mut waiting = Vec::new();
    let open = status.targets.iter_mut().filter(|target| target.is_open());
    for (target, seen) in open.zip(&order.seen) {
        match seen {
            Seen::Waiting(None) => waiting.push(called(target)),
            Seen::Waiting(Some(why)) => waiting.push(format!("{} ({why})", called(target))),
            Seen::Revoked(time) => target.revoked_at = Some(time.clone()),
            Seen::Gone => {
                target.note = Some("the AcsIdentity was deleted meanwhile".to_owned());
            }
        }
    }
    let revoked = status.targets.iter().filter(|it| it.revoked_at.is_some());
    status.revoked = i64::try_from(revoked.count()).ok();
    conclude(status, order.now, &waiting)
}

fn conclude(status: RevocationStatus, now: Timestamp, waiting: &[String]) -> Next {
    if status.open_targets().next().is_some() {
        let (revoked, total) = (status.revoked.unwrap_or(0), status.targets.len());
        let mut message = format!("{revoked} of {total} revoked");
        if !waiting.is_empty() {
            message = format!("{message}; waiting for {}", list(waiting));
        }
        let verdict = Verdict::reconciling("Revoking", message);
        return Next { status, verdict };
    }
    let verdict = in_vain(&status).unwrap_or_else(|| {
        let revoked = status.revoked.unwrap_or(0);
        let had_none = status.targets.iter().filter(|it| it.note.is_some());
        let had_none: Vec<_> = had_none.map(called).collect();
        let mut message = format!("all tokens of {} are revoked", identities(revoked));
        if !had_none.is_empty() {
            message = format!("{message}; nothing was to revoke of {}", list(&had_none));
        }
        Verdict::ready("Revoked", message)
    });
    let status = RevocationStatus {
        completed_at: Some(Time(renewal::whole_seconds(now))),
        ..status
    };
    Next { status, verdict }
}

fn of_dry_run(status: &RevocationStatus) -> Verdict {
    in_vain(status).unwrap_or_else(|| {
        let open = status.open_targets().count();
        let message = format!(
            "dryRun is true: nothing is revoked; without it, all tokens of {} would be",
            identities(i64::try_from(open).unwrap_or_default())
        );
        Verdict::ready("DryRun", message)
    })
}

/// Where the order did not find whom it names, a person must know: something may be mistyped.
fn in_vain(status: &RevocationStatus) -> Option<Verdict> {
    if status.targets.is_empty() {
        let message = "the order selects no AcsIdentity: nothing is revoked; look at its selector, \
                       and make another order";
        return Some(Verdict::stalled("NothingSelected", message));
    }
    let missing = status.targets.iter().filter(|it| it.uid.is_none());
    let missing: Vec<_> = missing.map(called).collect();
    if missing.is_empty() {
        return None;
    }
    let others = status.targets.len() - missing.len();
    let message = format!(
        "there is no AcsIdentity {}: look at the names, and make another order; of the other \
         {others}, {} revoked",
        list(&missing),
        status.revoked.unwrap_or(0)
    );
    Some(Verdict::stalled("IdentityNotFound", message))
}

/// A target as people call it.
fn called(target: &RevocationTarget) -> String {
    match &target.namespace {
        Some(namespace) => format!("{namespace}/{}", target.name),
        None => target.name.clone(),
    }
}

fn identities(count: i64) -> String {
    let noun = if count == 1 {
        "AcsIdentity"
    } else {
        "AcsIdentities"
    };
    format!("{count} {noun}")
}

/// The first few of them, and how many more there are.
fn list(names: &[String]) -> String {
    let first: Vec<_> = names.iter().take(NAMED).map(String::as_str).collect();
    let first = first.join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn target(name: &str) -> RevocationTarget {
        RevocationTarget {
            name: name.to_owned(),
            uid: Some(format!("uid-{name}")),
            identity_id: Some(format!("8:acs:r_{name}")),
            ..RevocationTarget::default()
        }
    }

    fn first_sight(targets: Vec<RevocationTarget>) -> FirstSight {
        FirstSight {
            now: at(0),
            terms: Terms {
                not_after: None,
                is_dry_run: false,
            },
            selected: Ok(targets),
        }
    }

    fn reason(next: &Next) -> &str {
        match &next.verdict {
            Verdict::Ready { reason, .. }
            | Verdict::Reconciling { reason, .. }
            | Verdict::Stalled { reason, .. }
            | Verdict::ReadyButStalled { reason, .. } => reason,
            Verdict::Suspended { .. } => "Suspended",
        }
    }

    #[test]
    fn targets_are_recorded_then_marked_as_they_are_revoked_and_then_the_order_is_over() {
        let next = begin(&first_sight(vec![target("alice"), target("bob")]));
        assert_eq!((reason(&next), next.is_over()), ("Revoking", false));
        assert_eq!(next.status.total, Some(2));
        let order = Progress {
            now: at(5),
            seen: vec![
                Seen::Waiting(Some("Throttled".to_owned())),
                Seen::Revoked(Time(at(4))),
            ],
        };
        let next = go_on(&next.status, &order);
        assert!(!next.is_over());
        assert_eq!(
            next.verdict.message(),
            "1 of 2 revoked; waiting for alice (Throttled)"
        );
        // Only alice is open: what is seen is of her.
        let order = Progress {
            now: at(9),
            seen: vec![Seen::Revoked(Time(at(8)))],
        };
        let next = go_on(&next.status, &order);
        assert_eq!((reason(&next), next.is_over()), ("Revoked", true));
        assert_eq!(next.status.revoked, Some(2));
        let times = next.status.targets.iter().map(|it| it.revoked_at.clone());
        let times: Vec<_> = times.map(|time| time.unwrap().0).collect();
        assert_eq!(times, [at(8), at(4)]);
        assert_eq!(next.status.open_targets().count(), 0);
    }

    #[test]
    fn an_order_first_seen_after_its_time_records_nobody() {
        let mut order = first_sight(vec![target("alice")]);
        order.terms.not_after = Some(at(0));
        assert_eq!(reason(&begin(&order)), "Revoking");
        order.now = at(0) + SignedDuration::from_millis(1);
        let next = begin(&order);
        assert_eq!((reason(&next), next.is_over()), ("TooLate", true));
        assert!(next.status.targets.is_empty());
        assert_eq!(next.status.started_at, None);
    }

    #[test]
    fn a_dry_run_tells_whom_it_would_hit_and_leaves_no_open_target() {
        let mut order = first_sight(vec![target("alice")]);
        order.terms.is_dry_run = true;
        let next = begin(&order);
        assert_eq!((reason(&next), next.is_over()), ("DryRun", true));
        assert_eq!(next.status.targets, [target("alice")]);
        assert_eq!(next.status.open_targets().count(), 0);
        assert!(next.verdict.message().contains("1 AcsIdentity would be"));
    }

    #[test]
    fn who_is_not_found_and_who_had_nothing_is_told() {
        let nobody = begin(&first_sight(Vec::new()));
        assert_eq!(
            (reason(&nobody), nobody.is_over()),
            ("NothingSelected", true)
        );
        let mistyped = RevocationTarget {
            uid: None,
            note: Some("there is no such AcsIdentity".to_owned()),
            ..target("alcie")
        };
        let next = begin(&first_sight(vec![mistyped.clone(), target("bob")]));
        assert_eq!(reason(&next), "Revoking");
        let order = Progress {
            now: at(1),
            seen: vec![Seen::Gone],
        };
        let next = go_on(&next.status, &order);
        assert_eq!((reason(&next), next.is_over()), ("IdentityNotFound", true));
        let message = next.verdict.message();
        assert!(message.contains("no AcsIdentity alcie"), "{message}");
        let alone = begin(&first_sight(vec![target("bob")]));
        let next = go_on(&alone.status, &order);
        assert_eq!(reason(&next), "Revoked");
        assert_eq!(next.status.revoked, Some(0));
        let message = next.verdict.message();
        assert!(
            message.contains("nothing was to revoke of bob"),
            "{message}"
        );
    }

    #[test]
    fn more_targets_than_an_object_can_hold_are_refused_by_number_and_by_size() {
        let many = |count: usize, name: &str| {
            let name = |number| format!("{name}-{number}");
            let targets = (0..count).map(|number| target(&name(number)));
            begin(&first_sight(targets.collect()))
        };
        assert_eq!(reason(&many(MOST_TARGETS, "a")), "Revoking");
        let next = many(MOST_TARGETS + 1, "a");
        assert_eq!((reason(&next), next.is_over()), ("TooManyTargets", true));
        assert!(next.status.targets.is_empty());
        let long = "a".repeat(240);
        assert_eq!(reason(&many(1500, &long)), "TooManyTargets");
        let message = next.verdict.message();
        assert!(message.contains("selects 4001 AcsIdentities"), "{message}");
    }

    #[test]
    fn a_message_names_a_few_and_counts_the_others() {
        let names: Vec<_> = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        assert_eq!(list(&names), "a, b, c and 2 more");
        assert_eq!(list(&names[..3]), "a, b, c");
    }
}
