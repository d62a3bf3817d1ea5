//! Progress of a revocation. Pure: no I/O, no clock.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::kinds::Terms;
use crate::{
    crd::{QueuedTargets, Reason, RevocationStatus, RevocationTarget, Verdict},
    renewal,
};

/// Maximum number of targets with a full record. With more, all but the first are recorded by name
/// until it is their turn, because etcd accepts no object over 1.5 MiB.
const MOST_TARGETS: usize = 4000;
/// Number of targets in progress at a time if there are more than that. ACS revokes fewer in the
/// time that it takes to write the status.
pub const AT_A_TIME: usize = 1000;
/// Maximum size of the record, in bytes of JSON. Each target grows by the time of its revocation.
const MOST_BYTES: usize = 1_000_000;
/// Note for a target that was deleted before its turn.
pub const DELETED_MEANWHILE: &str = "the AcsIdentity was deleted in the meantime";
/// Maximum number of names in a message.
const NAMED: usize = 3;

/// Input for a new revocation.
#[derive(Clone, Debug)]
pub struct FirstSight {
    /// Time by the operator's clock.
    pub now: Timestamp,
    /// Terms of the revocation.
    pub terms: Terms,
    /// Selected targets, or why the selector is invalid.
    pub selected: Result<Vec<RevocationTarget>, String>,
}

/// Input for a revocation with recorded targets.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Time by the operator's clock.
    pub now: Timestamp,
    /// State of its open targets, in the same order.
    pub seen: Vec<Seen>,
    /// First queued targets, as they are now: at least as many as can be started.
    pub queued: Vec<RevocationTarget>,
}

/// State of an open target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Its tokens are not revoked yet; with the reason, if it is known.
    Waiting(Option<Reason>),
    /// ACS has answered that its tokens are revoked.
    Revoked(Time),
    /// The object no longer exists.
    Gone,
}

/// Next status without its conditions, and the verdict for them.
#[derive(Clone, Debug, PartialEq)]
pub struct Next {
    /// Status without conditions.
    pub status: RevocationStatus,
    /// Verdict for the conditions.
    pub verdict: Verdict,
}

impl Next {
    /// Whether the revocation is completed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.status.completed_at.is_some()
    }
}

/// Starts a revocation: records its targets, once and for all, or the reason why it is not started.
#[must_use]
pub fn begin(revocation: &FirstSight) -> Next {
    let now = Some(Time(renewal::whole_seconds(revocation.now)));
    let never = |verdict| Next {
        status: RevocationStatus {
            completed_at: now.clone(),
            ..RevocationStatus::default()
        },
        verdict,
    };
    if let Some(not_after) = revocation
        .terms
        .not_after
        .filter(|until| revocation.now > *until)
    {
        let message = format!(
            "nothing is revoked: the operator first saw this revocation after {not_after} \
             (notAfter)"
        );
        return never(Verdict::ready(Reason::TooLate, message));
    }
    let targets = match &revocation.selected {
        Ok(targets) => targets.clone(),
        Err(why) => return never(Verdict::stalled(Reason::InvalidSelector, why.clone())),
    };
    let status = recorded(targets, now.clone());
    let bytes = serde_json::to_vec(&status).map_or(0, |json| json.len());
    if bytes > MOST_BYTES {
        let message = format!(
            "nothing is revoked: this revocation selects {} AcsIdentities, more names than one \
             object can record; create several revocations that select fewer, for example one per \
             namespace",
            status.total.unwrap_or(0)
        );
        return never(Verdict::stalled(Reason::TooManyTargets, message));
    }
    if revocation.terms.is_dry_run {
        let verdict = of_dry_run(&status);
        let status = RevocationStatus {
            completed_at: now,
            ..status
        };
        return Next { status, verdict };
    }
    conclude(status, revocation.now, &[])
}

/// Returns a status that records all targets.
fn recorded(mut targets: Vec<RevocationTarget>, now: Option<Time>) -> RevocationStatus {
    let total = i64::try_from(targets.len()).ok();
    let is_too_many = targets.len() > MOST_TARGETS;
    let later =
        targets.split_off(
            targets
                .len()
                .min(if is_too_many { AT_A_TIME } else { MOST_TARGETS }),
        );
    let mut queued: Vec<QueuedTargets> = Vec::new();
    for RevocationTarget {
        namespace, name, ..
    } in later
    {
        match queued.last_mut() {
            Some(last) if last.namespace == namespace => last.names.push(name),
            _ => queued.push(QueuedTargets {
                namespace,
                names: vec![name],
            }),
        }
    }
    RevocationStatus {
        started_at: now,
        total,
        revoked: Some(0),
        targets,
        queued,
        ..RevocationStatus::default()
    }
}

/// Starts queued targets in place of the completed ones.
fn next_turn(status: &mut RevocationStatus, queued: &[RevocationTarget]) {
    if status.queued.is_empty() {
        return;
    }
    status.targets.retain(RevocationTarget::is_open);
    for target in queued {
        if status.targets.len() >= AT_A_TIME {
            break;
        }
        status.targets.push(target.clone());
        if let Some(first) = status.queued.first_mut() {
            first.names.remove(0);
        }
        status.queued.retain(|group| !group.names.is_empty());
    }
}

/// Returns the next status from the state of the open targets.
#[must_use]
pub fn go_on(former: &RevocationStatus, revocation: &Progress) -> Next {
    let mut status = RevocationStatus {
        conditions: Vec::new(),
        observed_generation: None,
        ..former.clone()
    };
    let mut waiting = Vec::new();
    let mut revoked = former.revoked.unwrap_or(0);
    let open = status.targets.iter_mut().filter(|target| target.is_open());
    for (target, seen) in open.zip(&revocation.seen) {
        match seen {
            Seen::Waiting(None) => waiting.push(called(target)),
            Seen::Waiting(Some(why)) => waiting.push(format!("{} ({why})", called(target))),
            Seen::Revoked(time) => {
                target.revoked_at = Some(time.clone());
                revoked += 1;
            }
            Seen::Gone => target.note = Some(DELETED_MEANWHILE.to_owned()),
        }
    }
    status.revoked = Some(revoked);
    next_turn(&mut status, &revocation.queued);
    conclude(status, revocation.now, &waiting)
}

fn conclude(status: RevocationStatus, now: Timestamp, waiting: &[String]) -> Next {
    let (revoked, total) = (status.revoked.unwrap_or(0), status.total.unwrap_or(0));
    if status.open_targets().next().is_some() || !status.queued.is_empty() {
        let mut message = format!("{revoked} of {total} revoked");
        if !waiting.is_empty() {
            message = format!("{message}; waiting for {}", list(waiting, waiting.len()));
        }
        let verdict = Verdict::reconciling(Reason::Revoking, message);
        return Next { status, verdict };
    }
    let verdict = in_vain(&status).unwrap_or_else(|| {
        let named = status.targets.iter().filter(|it| it.note.is_some());
        let named: Vec<_> = named.map(called).collect();
        let mut message = format!("all tokens of {} are revoked", identities(revoked));
        let had_none = usize::try_from(total - revoked).unwrap_or(0);
        if had_none > 0 {
            message = format!(
                "{message}; nothing to revoke for {}",
                list(&named, had_none)
            );
        }
        Verdict::ready(Reason::Revoked, message)
    });
    let status = RevocationStatus {
        completed_at: Some(Time(renewal::whole_seconds(now))),
        ..status
    };
    Next { status, verdict }
}

fn of_dry_run(status: &RevocationStatus) -> Verdict {
    in_vain(status).unwrap_or_else(|| {
        let had_none = status.targets.len() - status.open_targets().count();
        let had_none = i64::try_from(had_none).unwrap_or(0);
        let message = format!(
            "dryRun is true, so nothing is revoked; without it, all tokens of {} would be revoked",
            identities(status.total.unwrap_or(0) - had_none)
        );
        Verdict::ready(Reason::DryRun, message)
    })
}

/// Returns the verdict if a selected or named identity does not exist. A person must know that,
/// because a name may be mistyped.
fn in_vain(status: &RevocationStatus) -> Option<Verdict> {
    if status.targets.is_empty() {
        let message = "nothing is revoked: this revocation selects no AcsIdentity; correct the \
         selector in a new revocation";
        return Some(Verdict::stalled(Reason::NothingSelected, message));
    }
    let missing = status.targets.iter().filter(|it| it.uid.is_none());
    let missing: Vec<_> = missing.map(called).collect();
    if missing.is_empty() {
        return None;
    }
    let others = status.targets.len() - missing.len();
    let message = format!(
        "AcsIdentity {} does not exist; correct the names in a new revocation. Of the other \
         {others}, {} revoked",
        list(&missing, missing.len()),
        status.revoked.unwrap_or(0)
    );
    Some(Verdict::stalled(Reason::IdentityNotFound, message))
}

/// Returns the name of a target for messages.
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

/// Returns the first few names of `count` targets, and how many more there are.
fn list(names: &[String], count: usize) -> String {
    let first: Vec<_> = names.iter().take(NAMED).map(String::as_str).collect();
    let first = first.join(", ");
    match count.saturating_sub(names.len().min(NAMED)) {
        0 => first,
        more if first.is_empty() => more.to_string(),
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

    fn targets(count: i32, name: &str) -> Vec<RevocationTarget> {
        (0..count)
            .map(|number| target(&format!("{name}-{number}")))
            .collect()
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

    #[test]
    fn targets_are_recorded_then_marked_as_they_are_revoked_and_then_the_order_is_over() {
        let next = begin(&first_sight(vec![target("alice"), target("bob")]));
        assert_eq!(
            (next.verdict.reason(), next.is_over()),
            (Reason::Revoking, false)
        );
        assert_eq!(next.status.total, Some(2));
        let revocation = Progress {
            now: at(5),
            seen: vec![
                Seen::Waiting(Some(Reason::Throttled)),
                Seen::Revoked(Time(at(4))),
            ],
            queued: Vec::new(),
        };
        let next = go_on(&next.status, &revocation);
        assert!(!next.is_over());
        assert_eq!(
            next.verdict.message(),
            "1 of 2 revoked; waiting for alice (Throttled)"
        );
        // Only alice is open, so the state is hers.
        let revocation = Progress {
            now: at(9),
            seen: vec![Seen::Revoked(Time(at(8)))],
            queued: Vec::new(),
        };
        let next = go_on(&next.status, &revocation);
        assert_eq!(
            (next.verdict.reason(), next.is_over()),
            (Reason::Revoked, true)
        );
        assert_eq!(next.status.revoked, Some(2));
        let times = next.status.targets.iter().map(|it| it.revoked_at.clone());
        let times: Vec<_> = times.map(|time| time.unwrap().0).collect();
        assert_eq!(times, [at(8), at(4)]);
        assert_eq!(next.status.open_targets().count(), 0);
    }

    #[test]
    fn an_order_first_seen_after_its_time_records_nobody() {
        let mut revocation = first_sight(vec![target("alice")]);
        revocation.terms.not_after = Some(at(0));
        assert_eq!(begin(&revocation).verdict.reason(), Reason::Revoking);
        revocation.now = at(0) + SignedDuration::from_millis(1);
        let next = begin(&revocation);
        assert_eq!(
            (next.verdict.reason(), next.is_over()),
            (Reason::TooLate, true)
        );
        assert!(next.status.targets.is_empty());
        assert_eq!(next.status.started_at, None);
    }

    #[test]
    fn a_dry_run_tells_whom_it_would_hit_and_leaves_no_open_target() {
        let mut revocation = first_sight(vec![target("alice")]);
        revocation.terms.is_dry_run = true;
        let next = begin(&revocation);
        assert_eq!(
            (next.verdict.reason(), next.is_over()),
            (Reason::DryRun, true)
        );
        assert_eq!(next.status.targets, [target("alice")]);
        assert_eq!(next.status.open_targets().count(), 0);
        assert!(next.verdict.message().contains("1 AcsIdentity would be"));
    }

    #[test]
    fn who_is_not_found_and_who_had_nothing_is_told() {
        let nobody = begin(&first_sight(Vec::new()));
        assert_eq!(
            (nobody.verdict.reason(), nobody.is_over()),
            (Reason::NothingSelected, true)
        );
        let mistyped = RevocationTarget {
            uid: None,
            note: Some("the AcsIdentity does not exist".to_owned()),
            ..target("alcie")
        };
        let next = begin(&first_sight(vec![mistyped.clone(), target("bob")]));
        assert_eq!(next.verdict.reason(), Reason::Revoking);
        let revocation = Progress {
            now: at(1),
            seen: vec![Seen::Gone],
            queued: Vec::new(),
        };
        let next = go_on(&next.status, &revocation);
        assert_eq!(
            (next.verdict.reason(), next.is_over()),
            (Reason::IdentityNotFound, true)
        );
        let message = next.verdict.message();
        assert!(
            message.contains("AcsIdentity alcie does not exist"),
            "{message}"
        );
        let alone = begin(&first_sight(vec![target("bob")]));
        let next = go_on(&alone.status, &revocation);
        assert_eq!(next.verdict.reason(), Reason::Revoked);
        assert_eq!(next.status.revoked, Some(0));
        let message = next.verdict.message();
        assert!(message.contains("nothing to revoke for bob"), "{message}");
    }

    #[test]
    fn names_of_more_targets_than_an_object_can_hold_are_refused() {
        let long = "a".repeat(240);
        let many = |count: i32| begin(&first_sight(targets(count, &long)));
        assert_eq!(many(1000).verdict.reason(), Reason::Revoking);
        let next = many(6000);
        assert_eq!(
            (next.verdict.reason(), next.is_over()),
            (Reason::TooManyTargets, true)
        );
        assert!(next.status.targets.is_empty() && next.status.queued.is_empty());
        let message = next.verdict.message();
        assert!(message.contains("selects 6000 AcsIdentities"), "{message}");
    }

    #[test]
    fn of_many_targets_as_many_as_fit_have_their_turn_and_all_are_revoked_or_told() {
        let all = targets(10_000, "an-identity-of-a-usual-name");
        let mut next = begin(&first_sight(all.clone()));
        assert_eq!(next.status.targets, all[..AT_A_TIME]);
        assert_eq!(next.status.total, Some(10_000));
        let mut revoked = Vec::new();
        while !next.is_over() {
            assert!(next.status.targets.len() <= AT_A_TIME);
            let open: Vec<_> = next.status.open_targets().cloned().collect();
            let names = next.status.queued.iter().flat_map(|group| &group.names);
            let is_later = |name: &&String| open.iter().all(|target| target.name != **name);
            let queued = names.filter(is_later).take(AT_A_TIME);
            let gone = |name: &str| name.ends_with('7').then(|| DELETED_MEANWHILE.to_owned());
            let queued = queued.map(|name| RevocationTarget {
                note: gone(name),
                ..target(name)
            });
            // The first target of each run is delayed; the others do not wait for it.
            let seen = open.iter().enumerate().map(|(place, target)| match place {
                0 if open.len() > 1 => Seen::Waiting(None),
                _ => {
                    revoked.push(target.name.clone());
                    Seen::Revoked(Time(at(4)))
                }
            });
            let revocation = Progress {
                now: at(5),
                seen: seen.collect(),
                queued: queued.collect(),
            };
            next = go_on(&next.status, &revocation);
        }
        let gone = |target: &&RevocationTarget| {
            let number: usize = target.name.rsplit('-').next().unwrap().parse().unwrap();
            number >= AT_A_TIME && number % 10 == 7
        };
        revoked.sort();
        let mut wanted: Vec<_> = all
            .iter()
            .filter(|it| !gone(it))
            .map(|it| it.name.clone())
            .collect();
        wanted.sort();
        assert_eq!(revoked, wanted);
        assert_eq!(next.status.revoked, Some(9100));
        assert_eq!(next.verdict.reason(), Reason::Revoked);
        let message = next.verdict.message();
        assert!(
            message.starts_with("all tokens of 9100 AcsIdentities"),
            "{message}"
        );
        assert!(message.contains("nothing to revoke for"), "{message}");
    }

    #[test]
    fn a_message_names_a_few_and_counts_the_others() {
        let names: Vec<_> = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        assert_eq!(list(&names, 5), "a, b, c and 2 more");
        assert_eq!(list(&names[..3], 3), "a, b, c");
        assert_eq!(list(&names[..1], 7), "a and 6 more");
        assert_eq!(list(&[], 7), "7");
    }
}
