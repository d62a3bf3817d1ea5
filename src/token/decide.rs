//! What to do next for an `AcsToken`. Pure: no I/O, no clock, no randomness.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};

use super::{
    facts::{POLICY_DENIED, Shape, TokenFacts, claim},
    limits::Limits,
};
use crate::{
    crd::{AcsToken, FINALIZER, Verdict, is_ready, parse_duration},
    renewal,
};

/// A change that other controllers fight over is repaired at once, then this far apart (T5).
pub const REPAIR_INTERVAL: SignedDuration = SignedDuration::from_mins(5);
/// Whether a Secret's name is free again is looked at this far apart.
const RIVAL_INTERVAL: SignedDuration = SignedDuration::from_mins(1);
/// A wait that the object's own identity will end soon is told only when it lasts this long: a
/// token applied together with its identity then costs one status write, not two.
const QUIET_WAIT: SignedDuration = SignedDuration::from_secs(10);

/// Tokens of a dead credential may be thousands, all as urgent: first tokens of so long a time go
/// before them, and they before routine renewals, which begin 12 minutes ahead of an end.
const FIRSTS_FIRST: SignedDuration = SignedDuration::from_mins(10);

/// A service's clock that seems to be further behind a time that it has told is not believed.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(5);

/// All that the decision depends on.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// The operator's clock.
    pub now: Timestamp,
    /// The service's clock, or a little earlier, never later; unknown before its first answer.
    pub service_now: Option<Timestamp>,
    /// The object.
    pub token: &'a AcsToken,
    /// Its identity.
    pub identity: IdentityView,
    /// What the connection's policy lets it be.
    pub limits: Limits,
    /// The Secret of the name that the spec asks for.
    pub secret: SecretView,
    /// A Secret of ours under another name (T6).
    pub former: Option<FormerSecret>,
    /// Another `AcsToken` that names the same Secret and goes first.
    pub rival: Option<String>,
    /// A label or annotation that the operator's flags forbid on Secrets.
    pub forbidden_key: Option<String>,
    /// When edits of the Secret were repaired within the last hour, latest first.
    pub last_repair: Option<Timestamp>,
    /// The service asked not to be called before this time.
    pub not_before: Option<Timestamp>,
    /// When a deletion goes on without ACS (I3).
    pub deletion_deadline: Timestamp,
}

/// The identity of a token, as far as the token cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityView {
    /// There is no such `AcsIdentity`.
    Missing,
    /// It is being deleted, and its tokens with it (I5).
    Deleting,
    /// It has no id in ACS yet.
    NotReady {
        /// Why, in a word.
        reason: Cow<'static, str>,
        /// Why, in a sentence.
        message: String,
        /// Whether it is only a matter of a moment.
        is_brief: bool,
    },
    /// It has an id.
    Usable(Box<UsableIdentity>),
}

/// An identity that has an id in ACS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsableIdentity {
    /// The id in ACS.
    pub id: String,
    /// Tokens issued at this time or before are dead; by the service's clock.
    pub tokens_valid_after: Option<Timestamp>,
    /// A revocation is under way: nothing may be issued (R3).
    pub is_revoking: bool,
    /// Tokens issued before this time are issued once more when it has passed (R3).
    pub unsettled_until: Option<Timestamp>,
    /// How the connection is.
    pub connection: ConnectionView,
    /// Whether its `spec.suspend` is true: nothing may be issued.
    pub is_suspended: bool,
    /// Why the policy does not let the identity be used, if it does not.
    pub denial: Option<String>,
    /// Fingerprints of former credentials whose tokens are dead: the service refuses them, and
    /// accepts another (C1).
    pub dead_credentials: Vec<String>,
    /// Whether revokes can still be sent; false lets a deletion in a terminating namespace go at once.
    pub can_revoke: bool,
}

/// The connection of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionView {
    /// It can be called with this credential.
    Usable {
        /// Fingerprint of the credential in use.
        credential: String,
    },
    /// It can't be called.
    Unusable {
        /// Why, in a word.
        reason: Cow<'static, str>,
        /// What to do, in a sentence.
        message: String,
        /// Whether a human must act.
        is_stalled: bool,
        /// When to look again, unless an event comes first.
        retry_at: Option<Timestamp>,
    },
}

/// A Secret under the wanted name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretView {
    /// Its bytes were not looked at since it last changed, or its absence is not confirmed.
    Unknown,
    /// There is none.
    Absent,
    /// It is not ours (T5).
    Foreign {
        /// Whose it is, as far as one can tell.
        owner: String,
    },
    /// It is ours.
    Ours {
        /// What it says of its token; `None` when bytes and facts do not fit: it was edited.
        facts: Option<TokenFacts>,
        /// Whether keys, labels or annotations differ from what the spec asks for.
        is_outdated: bool,
        /// Whether it is `immutable`, which nobody can take back.
        is_immutable: bool,
    },
}

/// A Secret of ours that the spec no longer names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerSecret {
    /// Its name.
    pub name: String,
    /// What it says of its token, its bytes not yet looked at.
    pub facts: Option<TokenFacts>,
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make sure that a deletion waits for us.
    AddFinalizer,
    /// Read the Secret of the wanted name.
    ReadSecret,
    /// Bring the status up to what the Secret tells.
    Record(TokenFacts),
    /// Issue a token into the Secret.
    Issue(IssueOrder),
    /// Write keys, labels and annotations anew around the same token.
    RewriteSecret,
    /// Write the token of the former Secret under the wanted name.
    CopySecret {
        /// The former Secret.
        from: String,
    },
    /// Delete a Secret of ours.
    DeleteSecret {
        /// Its name.
        name: String,
        /// Look first whether the identity is really gone.
        only_without_identity: bool,
    },
    /// Tell that nobody can obey a request, and that it is done with.
    RefuseRequest {
        /// Its value.
        request: String,
    },
    /// Let the object go.
    RemoveFinalizer {
        /// Tokens that may still be alive are left behind: why.
        abandoned: Option<&'static str>,
    },
    /// Tell that the token is not good, before a new one is waited for.
    Mark,
    /// Nothing to do but to tell, and to wait.
    Rest,
}

/// What to ask the service for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueOrder {
    /// For which identity.
    pub identity_id: String,
    /// What to ask for.
    pub shape: Shape,
    /// Why; one word for metrics and Events.
    pub why: Why,
    /// When it should have been done; the most urgent is served first.
    pub deadline: Timestamp,
}

/// Why a token is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There was none for this identity.
    First,
    /// Its time has come.
    Renewal,
    /// Scopes or life are others now.
    Changed,
    /// The identity's tokens were revoked.
    Revoked,
    /// The Secret was deleted.
    SecretMissing,
    /// The Secret was edited.
    SecretEdited,
    /// The credential that it was made with is no longer the connection's.
    CredentialChanged,
    /// The credential that it was made with is refused, so it is dead.
    CredentialRefused,
    /// A revocation without an answer may have killed it.
    Unsettled,
    /// Someone asked for a new one.
    Requested,
}

impl Why {
    /// One word for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::First => "First",
            Self::Renewal => "Renewal",
            Self::Changed => "Changed",
            Self::Revoked => "Revoked",
            Self::SecretMissing => "SecretMissing",
            Self::SecretEdited => "SecretEdited",
            Self::CredentialChanged => "CredentialChanged",
            Self::CredentialRefused => "CredentialRefused",
            Self::Unsettled => "Unsettled",
            Self::Requested => "Requested",
        }
    }
}

/// What to do, what to tell, and when to look again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The next step.
    pub step: Step,
    /// What the conditions say when the step is [`Step::Rest`] or [`Step::Mark`]; `None` leaves the
    /// status alone.
    pub verdict: Option<Verdict>,
    /// The token that the status tells.
    pub facts: Option<TokenFacts>,
    /// Whether the status forgets its token: it is dead, and nothing is left to revoke.
    pub forgets: bool,
    /// When to look again, unless an event comes first.
    pub wake: Option<Timestamp>,
}

impl Decision {
    fn step(step: Step) -> Self {
        Self {
            step,
            verdict: None,
            facts: None,
            forgets: false,
            wake: None,
        }
    }

    fn rest(verdict: Verdict, facts: Option<&TokenFacts>, wake: Option<Timestamp>) -> Self {
        Self {
            step: Step::Rest,
            verdict: Some(verdict),
            facts: facts.cloned(),
            forgets: false,
            wake,
        }
    }
}

/// Chooses the next step for a token.
#[must_use]
pub fn decide(observed: &Observed<'_>) -> Decision {
    let metadata = &observed.token.metadata;
    let is_held = metadata
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == FINALIZER);
    match (&metadata.deletion_timestamp, is_held) {
        (Some(_), false) => Decision {
            wake: None,
            ..Decision::step(Step::Rest)
        },
        (Some(_), true) => decide_deletion(observed),
        (None, false) => Decision::step(Step::AddFinalizer),
        (None, true) => decide_life(observed),
    }
}

fn decide_deletion(observed: &Observed<'_>) -> Decision {
    if let Some(step) = record_or_delete(observed, false) {
        return Decision::step(step);
    }
    let deadline = observed.deletion_deadline;
    let abandon = |why| {
        Decision::step(Step::RemoveFinalizer {
            abandoned: Some(why),
        })
    };
    match revocation_owed(observed) {
        Owed::Nothing => Decision::step(Step::RemoveFinalizer { abandoned: None }),
        Owed::Revocation { can_be_sent: false } => abandon("the connection's credential is gone"),
        Owed::Revocation { .. } if observed.now >= deadline => {
            abandon("the service did not answer in time")
        }
        Owed::Revocation { .. } => Decision::rest(
            Verdict::reconciling(
                "Deleting",
                "waiting until the identity's tokens are revoked",
            ),
            None,
            Some(deadline),
        ),
    }
}

enum Owed {
    Nothing,
    Revocation { can_be_sent: bool },
}

/// Whether a token that was issued for the object may still live although its object goes (R1).
fn revocation_owed(observed: &Observed<'_>) -> Owed {
    match &observed.identity {
        IdentityView::Missing | IdentityView::NotReady { .. } => Owed::Nothing,
        // The identity's own deletion kills its tokens, or revokes them; it is bounded itself.
        IdentityView::Deleting => {
            let status = observed.token.status.as_ref();
            let id = status.and_then(|status| status.identity_id.as_deref());
            let claim = id.and_then(|id| claim(observed.token, id, &observed.limits));
            if claim.is_some_and(|claim| claim.asks_at_the_end) {
                Owed::Revocation { can_be_sent: true }
            } else {
                Owed::Nothing
            }
        }
        IdentityView::Usable(identity) => {
            let lives = claim(observed.token, &identity.id, &observed.limits)
                .is_some_and(|claim| claim.asks.is_some() && !is_dead(claim.issued_at, identity));
            if lives {
                Owed::Revocation {
                    can_be_sent: identity.can_revoke,
                }
            } else {
                Owed::Nothing
            }
        }
    }
}

/// Before Secrets of ours go, what they tell is recorded: a revocation may depend on it.
fn record_or_delete(observed: &Observed<'_>, only_without_identity: bool) -> Option<Step> {
    let name = match &observed.secret {
        SecretView::Ours { facts, .. } => {
            let untold = facts
                .as_ref()
                .filter(|facts| is_untold(observed.token, facts));
            if let Some(facts) = untold {
                return Some(Step::Record(facts.clone()));
            }
            observed.token.secret_name()
        }
        SecretView::Unknown => return Some(Step::ReadSecret),
        SecretView::Absent | SecretView::Foreign { .. } => {
            if let Some(facts) = untold_former(observed) {
                return Some(Step::Record(facts.clone()));
            }
            observed.former.as_ref()?.name.clone()
        }
    };
    Some(Step::DeleteSecret {
        name,
        only_without_identity,
    })
}

/// A token that is in a former Secret only, and that the status does not tell.
fn untold_former<'a>(observed: &'a Observed<'_>) -> Option<&'a TokenFacts> {
    let facts = observed.former.as_ref()?.facts.as_ref()?;
    let is_moved = matches!(&observed.secret, SecretView::Ours { facts: Some(_), .. });
    let status = observed.token.status.as_ref();
    let told = status.and_then(|status| status.issued_at.as_ref());
    let is_newer = told.is_none_or(|told| facts.issued_at > told.0);
    (is_newer && !is_moved).then_some(facts)
}

fn decide_life(observed: &Observed<'_>) -> Decision {
    if let Some(facts) = untold_former(observed) {
        // Renamed between Secret and status; whatever comes, a revocation may depend on it.
        return Decision::step(Step::Record(facts.clone()));
    }
    if let Some(rival) = &observed.rival {
        let conflict = stalled(
            "SecretConflict",
            format!(
                "Secret {} belongs to AcsToken {rival}; give this one another secret.name",
                observed.token.secret_name()
            ),
        );
        // A rival that never had the Secret and takes another name tells nobody.
        return Decision {
            wake: Some(renewal::add(observed.now, RIVAL_INTERVAL)),
            ..conflict
        };
    }
    match &observed.identity {
        IdentityView::Missing | IdentityView::Deleting => {
            let is_missing = observed.identity == IdentityView::Missing;
            if let Some(step) = record_or_delete(observed, is_missing) {
                return Decision::step(step);
            }
            let message = format!(
                "waiting for AcsIdentity {}, which does not exist{} in this namespace",
                observed.token.spec.identity_ref.name,
                if is_missing { "" } else { " any longer" }
            );
            // While the identity is being deleted, its revocation depends on what the status tells.
            Decision {
                forgets: is_missing,
                ..Decision::rest(
                    Verdict::reconciling("IdentityNotFound", message),
                    None,
                    None,
                )
            }
        }
        IdentityView::NotReady {
            reason,
            message,
            is_brief,
        } => {
            let verdict = Verdict::reconciling(reason.clone(), message.clone());
            let quiet = renewal::pause(created_at(observed.token), QUIET_WAIT, observed.now);
            let is_new = observed
                .token
                .status
                .as_ref()
                .is_none_or(|s| s.conditions.is_empty());
            if *is_brief && is_new && quiet.is_some() {
                return Decision {
                    wake: quiet,
                    ..Decision::step(Step::Rest)
                };
            }
            Decision::rest(verdict, None, None)
        }
        IdentityView::Usable(identity) => decide_with_identity(observed, identity),
    }
}

fn decide_with_identity(observed: &Observed<'_>, identity: &UsableIdentity) -> Decision {
    let name = observed.token.secret_name();
    let (facts, is_outdated, is_immutable, is_there) = match &observed.secret {
        SecretView::Unknown => return Decision::step(Step::ReadSecret),
        SecretView::Foreign { owner } => {
            return stalled(
                "SecretConflict",
                format!(
                    "Secret {name} exists and {owner}; delete it or give this AcsToken another secret.name"
                ),
            );
        }
        SecretView::Absent => (None, false, false, false),
        SecretView::Ours {
            facts,
            is_outdated,
            is_immutable,
        } => (facts.as_ref(), *is_outdated, *is_immutable, true),
    };
    if let Some(facts) = facts.filter(|facts| is_untold(observed.token, facts)) {
        return Decision::step(Step::Record(facts.clone()));
    }
    if let (Some(former), false) = (&observed.former, is_there) {
        let is_good = former.facts.as_ref().is_some_and(|facts| {
            facts.identity_id == identity.id && is_good(observed, identity, facts)
        });
        if is_good {
            return Decision::step(Step::CopySecret {
                from: former.name.clone(),
            });
        }
    }
    let facts = facts.filter(|facts| facts.identity_id == identity.id);
    let good = facts.filter(|facts| is_good(observed, identity, facts));

    if let Some(message) = suspension(observed.token, identity) {
        let verdict = Verdict::Suspended { message };
        return withheld(observed, identity, facts, good, verdict);
    }
    if identity.is_revoking {
        return Decision::rest(revoking(), facts, None);
    }
    if claim(observed.token, &identity.id, &observed.limits)
        .is_some_and(|claim| claim.asks.is_some() && !is_dead(claim.issued_at, identity))
    {
        // The identity revokes first (R1). Until then the old token is what the status tells, as
        // long as it is good.
        return match good {
            Some(facts) => Decision {
                wake: Some(facts.expires_at),
                ..Decision::step(Step::Rest)
            },
            None => Decision::rest(revoking(), facts, None),
        };
    }
    if let Some(message) = denial(observed, identity) {
        let reason = POLICY_DENIED.into();
        let verdict = match good {
            Some(_) => Verdict::ReadyButStalled { reason, message },
            None => Verdict::stalled(reason, message),
        };
        return withheld(observed, identity, facts, good, verdict);
    }
    if let Some(key) = &observed.forbidden_key {
        let reason = "SecretMetadataForbidden".into();
        let message = format!(
            "secret.labels and secret.annotations must not use {key}: the operator's \
             --forbid-secret-metadata refuses it"
        );
        let wake = good.map(|facts| facts.expires_at);
        let verdict = match good {
            Some(_) => Verdict::ReadyButStalled { reason, message },
            None => Verdict::stalled(reason, message),
        };
        return Decision::rest(verdict, good, wake);
    }
    let Some(why) = why_issue(observed, identity, facts, is_there) else {
        return settle(observed, identity, facts, is_outdated, is_immutable);
    };
    if is_immutable {
        return unable(
            observed,
            good,
            "SecretImmutable",
            format!(
                "Secret {name} was made immutable, so no token can be renewed in it; delete it and it comes back"
            ),
            true,
            None,
        );
    }
    issue_or_wait(observed, identity, good, why)
}

/// Why the policy forbids that a token is issued, if it does.
fn denial(observed: &Observed<'_>, identity: &UsableIdentity) -> Option<String> {
    let wanted = Shape::wanted(observed.token, &observed.limits);
    let denial = observed.limits.denial(&wanted);
    identity.denial.clone().or(denial)
}

/// By what the token is suspended, if it is: nothing is issued, and its Secret goes when its token
/// has ended.
fn suspension(token: &AcsToken, identity: &UsableIdentity) -> Option<String> {
    let until = "nothing is issued until it is false again";
    if token.spec.suspend == Some(true) {
        Some(format!("spec.suspend is true: {until}"))
    } else if identity.is_suspended {
        let name = &token.spec.identity_ref.name;
        Some(format!(
            "spec.suspend of AcsIdentity {name} is true: {until}"
        ))
    } else {
        None
    }
}

/// Nothing is issued. The Secret stays until its token has ended.
fn withheld(
    observed: &Observed<'_>,
    identity: &UsableIdentity,
    facts: Option<&TokenFacts>,
    good: Option<&TokenFacts>,
    verdict: Verdict,
) -> Decision {
    let is_over = facts.map_or_else(|| is_over(observed, identity), |_| good.is_none());
    let is_there = matches!(observed.secret, SecretView::Ours { .. });
    let over = (is_there && is_over).then(|| observed.token.secret_name());
    // What would be copied was.
    let former = || observed.former.as_ref().map(|former| former.name.clone());
    if let Some(name) = over.or_else(former) {
        return Decision::step(Step::DeleteSecret {
            name,
            only_without_identity: false,
        });
    }
    let wake = good.map(|facts| facts.expires_at);
    Decision {
        forgets: is_over,
        ..Decision::rest(verdict, good, wake)
    }
}

/// There is nothing to issue: tidy up, then rest until the renewal.
fn settle(
    observed: &Observed<'_>,
    identity: &UsableIdentity,
    facts: Option<&TokenFacts>,
    is_outdated: bool,
    is_immutable: bool,
) -> Decision {
    if let Some(request) = observed.token.open_request() {
        // Of one for a renewal, `why_issue` has told.
        return Decision::step(Step::RefuseRequest {
            request: request.value.to_owned(),
        });
    }
    if is_outdated && !is_immutable {
        return Decision::step(Step::RewriteSecret);
    }
    if let Some(former) = &observed.former {
        return Decision::step(Step::DeleteSecret {
            name: former.name.clone(),
            only_without_identity: false,
        });
    }
    let wake = facts.map(|facts| {
        let unsettled = identity
            .unsettled_until
            .filter(|until| facts.issued_at <= *until);
        let unsettled = unsettled.map(|until| local_time(observed, after(until)));
        let renewal = renew_at(observed.token, facts).min(facts.expires_at);
        // A credential that was refused may work by now, and the token be of a former one (C1).
        let refused = match &identity.connection {
            ConnectionView::Unusable { retry_at, .. } => *retry_at,
            ConnectionView::Usable { .. } => None,
        };
        let sooner = unsettled.into_iter().chain(refused).min();
        sooner.map_or(renewal, |sooner| sooner.min(renewal))
    });
    Decision::rest(ready(observed.token), facts, wake)
}

fn issue_or_wait(
    observed: &Observed<'_>,
    identity: &UsableIdentity,
    good: Option<&TokenFacts>,
    why: Why,
) -> Decision {
    if let ConnectionView::Unusable {
        reason,
        message,
        is_stalled,
        retry_at,
    } = &identity.connection
    {
        return unable(
            observed,
            good,
            reason.clone(),
            message.clone(),
            *is_stalled,
            *retry_at,
        );
    }
    if let Some(next_second) = identity.tokens_valid_after.map(after)
        && service_now(observed, next_second).is_some_and(|now| now < next_second)
    {
        // A token of the very second of the revocation might be hit by it (R3).
        let wake = Some(local_time(observed, next_second));
        return match good {
            Some(_) => Decision {
                wake,
                ..Decision::step(Step::Rest)
            },
            None => Decision::rest(revoking(), None, wake),
        };
    }
    let earliest = [
        retry_at(observed, good),
        observed.not_before,
        observed
            .last_repair
            .filter(|_| why == Why::SecretEdited)
            .map(|repaired| renewal::add(repaired, REPAIR_INTERVAL)),
    ];
    if let Some(earliest) = earliest
        .into_iter()
        .flatten()
        .max()
        .filter(|at| *at > observed.now)
    {
        return match observed
            .token
            .status
            .as_ref()
            .and_then(|s| s.last_failure.as_ref())
        {
            Some(failure) => {
                let is_stalled = STALLING.contains(&failure.reason.as_str());
                let message = failure.message.clone();
                unable(
                    observed,
                    good,
                    failure.reason.clone(),
                    message,
                    is_stalled,
                    Some(earliest),
                )
            }
            None => unable(
                observed,
                good,
                "SecretEdited",
                "another controller keeps editing the Secret; it is repaired every 5 minutes"
                    .to_owned(),
                false,
                Some(earliest),
            ),
        };
    }
    if why == Why::CredentialRefused && is_told_ready(observed.token) {
        let message = "the service refuses the key that the token was made with, so the token is \
                       dead; a new one follows";
        return Decision {
            verdict: Some(Verdict::reconciling("CredentialRefused", message)),
            ..Decision::step(Step::Mark)
        };
    }
    let due = match (why, good) {
        (Why::First, _) => created_at(observed.token),
        (Why::Renewal | Why::CredentialChanged, Some(facts)) => facts.expires_at,
        (Why::CredentialRefused, _) => renewal::add(observed.now, FIRSTS_FIRST),
        _ => observed.now,
    };
    Decision::step(Step::Issue(IssueOrder {
        identity_id: identity.id.clone(),
        shape: Shape::wanted(observed.token, &observed.limits),
        why,
        deadline: due,
    }))
}

/// A later second than `time`: the service's clock tells whole ones.
fn after(time: Timestamp) -> Timestamp {
    renewal::add(time, SignedDuration::from_secs(1))
}

/// The service's clock, unless it is not known, or known wrongly because ours was set back since it
/// told `told`. The next answer tells.
fn service_now(observed: &Observed<'_>, told: Timestamp) -> Option<Timestamp> {
    observed
        .service_now
        .filter(|now| told.duration_since(*now) <= CLOCK_TOLERANCE)
}

/// When the service's clock says `service`, by the operator's.
fn local_time(observed: &Observed<'_>, service: Timestamp) -> Timestamp {
    let service_now = observed.service_now.unwrap_or(observed.now);
    renewal::add(observed.now, service.duration_since(service_now))
}

/// A token can't be had now. One that is still good keeps its object Ready.
fn unable(
    observed: &Observed<'_>,
    good: Option<&TokenFacts>,
    reason: impl Into<Cow<'static, str>>,
    message: String,
    is_stalled: bool,
    retry_at: Option<Timestamp>,
) -> Decision {
    let Some(facts) = good else {
        let verdict = if is_stalled {
            Verdict::stalled(reason, message)
        } else {
            Verdict::reconciling(reason, message)
        };
        return Decision::rest(verdict, None, retry_at);
    };
    let wake = retry_at.map_or(facts.expires_at, |retry| retry.min(facts.expires_at));
    let shape_is_current = facts.shape.is_wanted_by(observed.token, &observed.limits);
    let verdict = if is_stalled && !shape_is_current {
        Verdict::ReadyButStalled {
            reason: reason.into(),
            message,
        }
    } else {
        ready(observed.token)
    };
    Decision::rest(verdict, Some(facts), Some(wake))
}

fn stalled(reason: &'static str, message: String) -> Decision {
    Decision::rest(Verdict::stalled(reason, message), None, None)
}

fn revoking() -> Verdict {
    Verdict::reconciling(
        "Revoking",
        "the identity's tokens are being revoked; a new one follows",
    )
}

fn ready(token: &AcsToken) -> Verdict {
    Verdict::ready(
        "TokenIssued",
        format!("Secret {} holds a valid token", token.secret_name()),
    )
}

/// Why a new token is needed, if one is.
fn why_issue(
    observed: &Observed<'_>,
    identity: &UsableIdentity,
    facts: Option<&TokenFacts>,
    is_there: bool,
) -> Option<Why> {
    let Some(facts) = facts else {
        let was_issued = observed.token.status.as_ref().is_some_and(|status| {
            status.identity_id.as_deref() == Some(identity.id.as_str())
                && status
                    .issued_at
                    .as_ref()
                    .is_some_and(|at| !is_dead(at.0, identity))
        });
        return Some(match (was_issued, is_there) {
            (false, _) => Why::First,
            (true, false) => Why::SecretMissing,
            (true, true) => Why::SecretEdited,
        });
    };
    let credential = match &identity.connection {
        ConnectionView::Usable { credential } => Some(credential),
        ConnectionView::Unusable { .. } => None,
    };
    if is_dead(facts.issued_at, identity) {
        Some(Why::Revoked)
    } else if !facts.shape.is_wanted_by(observed.token, &observed.limits) {
        Some(Why::Changed)
    } else if is_of_dead_credential(identity, facts) {
        Some(Why::CredentialRefused)
    } else if credential.is_some_and(|credential| *credential != facts.credential) {
        Some(Why::CredentialChanged)
    } else if identity.unsettled_until.is_some_and(|until| {
        let now = service_now(observed, facts.issued_at);
        facts.issued_at <= until && now.is_none_or(|now| now >= after(until))
    }) {
        Some(Why::Unsettled)
    } else if observed.now >= renew_at(observed.token, facts) {
        Some(Why::Renewal)
    } else if observed
        .token
        .open_request()
        .is_some_and(|request| matches!(request.what, None | Some("renew")))
    {
        Some(Why::Requested)
    } else {
        None
    }
}

/// When the token is due for renewal, by the operator's clock.
#[must_use]
pub fn renew_at(token: &AcsToken, facts: &TokenFacts) -> Timestamp {
    let wanted = token
        .spec
        .renew_before
        .as_deref()
        .and_then(|text| parse_duration(text).ok());
    let seed = token.metadata.uid.as_deref().unwrap_or_default();
    renewal::whole_seconds(renewal::renew_at(
        facts.expires_at,
        facts.life,
        wanted,
        seed,
    ))
}

/// Whether the token that the status tells is dead, so that nothing is left to revoke.
fn is_over(observed: &Observed<'_>, identity: &UsableIdentity) -> bool {
    let status = observed.token.status.as_ref();
    status.is_some_and(|status| {
        let has_ended = status
            .expires_at
            .as_ref()
            .is_some_and(|end| end.0 <= observed.now);
        let issued_at = status.issued_at.as_ref();
        has_ended || issued_at.is_some_and(|issued| is_dead(issued.0, identity))
    })
}

fn is_good(observed: &Observed<'_>, identity: &UsableIdentity, facts: &TokenFacts) -> bool {
    observed.now < facts.expires_at
        && !is_dead(facts.issued_at, identity)
        && !is_of_dead_credential(identity, facts)
}

fn is_of_dead_credential(identity: &UsableIdentity, facts: &TokenFacts) -> bool {
    identity.dead_credentials.contains(&facts.credential)
}

fn is_dead(issued_at: Timestamp, identity: &UsableIdentity) -> bool {
    identity
        .tokens_valid_after
        .is_some_and(|after| issued_at <= after)
}

/// Whether a fresh token may be of the second of the last revocation: as long as the service's clock
/// is not known, nothing but the answer tells, and that is dated when it is sent.
#[must_use]
pub fn is_stillborn(observed: &Observed<'_>, facts: &TokenFacts) -> bool {
    let IdentityView::Usable(identity) = &observed.identity else {
        return false;
    };
    identity.tokens_valid_after.is_some_and(|dead| {
        let is_known = service_now(observed, dead).is_some();
        let dead = if is_known { dead } else { after(dead) };
        facts.issued_at <= dead
    })
}

/// Whether the Secret knows of a token that the status does not.
fn is_untold(token: &AcsToken, facts: &TokenFacts) -> bool {
    let Some(status) = &token.status else {
        return true;
    };
    !facts.is_told_by(status)
}

/// When the last failure allows another try: at once for another spec.
fn retry_at(observed: &Observed<'_>, good: Option<&TokenFacts>) -> Option<Timestamp> {
    let status = observed.token.status.as_ref()?;
    let failure = status.last_failure.as_ref()?;
    if status.observed_generation != observed.token.metadata.generation {
        return None;
    }
    let left = good.map(|facts| facts.expires_at.duration_since(failure.time.0));
    let seed = observed.token.metadata.uid.as_deref().unwrap_or_default();
    let wait = renewal::backoff(status.failed_attempts.unwrap_or(1), left, seed);
    renewal::pause(failure.time.0, wait, observed.now)
}

/// Reasons of failures that only a human can end; they are retried all the same, slowly.
const STALLING: [&str; 4] = [
    "UnsupportedByApiVersion",
    "InvalidRequest",
    "IdentityNotOwned",
    "IdentityNotFound",
];

fn created_at(token: &AcsToken) -> Timestamp {
    token
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// Whether `token` says of itself that it is fine.
#[must_use]
pub fn is_told_ready(token: &AcsToken) -> bool {
    token
        .status
        .as_ref()
        .is_some_and(|status| is_ready(&status.conditions))
}
