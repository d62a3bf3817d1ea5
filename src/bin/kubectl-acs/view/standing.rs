//! How an object stands, after kstatus: what its conditions say, if they are about its current spec.

use acs_identity_operator::crd::{
    AcsConnection, AcsIdentity, AcsRevocation, AcsToken, ClusterAcsConnection,
    ClusterAcsRevocation, READY, Reason, STALLED,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use serde::Serialize;

/// How an object stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum State {
    /// It does its job.
    Ready,
    /// It goes on by itself.
    Waiting,
    /// It rests, because someone wants it so.
    Suspended,
    /// A human must act.
    Stalled,
    /// It is being deleted.
    Deleting,
    /// Others refer to it, but it is not there.
    Missing,
}

/// How an object stands, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// In one word.
    pub state: State,
    /// Whether it does its job now, whatever the state.
    pub is_ready: bool,
    /// CamelCase, for machines; empty where nobody has said one.
    pub reason: String,
    /// A sentence; empty where there is nothing to say.
    pub message: String,
}

/// The kinds whose conditions say how they stand.
pub trait HasConditions {
    /// Metadata, observed generation, conditions.
    fn parts(&self) -> (&ObjectMeta, Option<i64>, &[Condition]);

    /// How it stands.
    fn standing(&self) -> Standing {
        let (metadata, observed, conditions) = self.parts();
        standing(metadata, observed, conditions)
    }
}

macro_rules! stands {
    ($($kind:ty),*) => {$(
        impl HasConditions for $kind {
            fn parts(&self) -> (&ObjectMeta, Option<i64>, &[Condition]) {
                let status = self.status.as_ref();
                (
                    &self.metadata,
                    status.and_then(|status| status.observed_generation),
                    status.map_or(&[], |status| status.conditions.as_slice()),
                )
            }
        }
    )*};
}
stands!(
    AcsConnection,
    ClusterAcsConnection,
    AcsIdentity,
    AcsToken,
    AcsRevocation,
    ClusterAcsRevocation
);

fn standing(metadata: &ObjectMeta, observed: Option<i64>, conditions: &[Condition]) -> Standing {
    let find = |type_: &str| conditions.iter().find(|condition| condition.type_ == type_);
    let is_true = |condition: &&Condition| condition.status == "True";
    let ready = find(READY);
    let is_ready = ready.as_ref().is_some_and(is_true);
    let say = |state, reason: &str, message: &str| Standing {
        state,
        is_ready,
        reason: reason.to_owned(),
        message: message.to_owned(),
    };
    let tell = |state, condition: &Condition| say(state, &condition.reason, &condition.message);
    let of_ready = |state| match ready {
        Some(condition) => tell(state, condition),
        None => say(state, "", ""),
    };
    if metadata.deletion_timestamp.is_some() {
        return of_ready(State::Deleting);
    }
    if observed != metadata.generation {
        return say(
            State::Waiting,
            "NotObserved",
            "the operator has not processed this object yet; check that it is running and watches \
             this namespace",
        );
    }
    match find(STALLED).filter(is_true) {
        Some(condition) => tell(State::Stalled, condition),
        // It may be Ready all the same, with what it has.
        None if ready.is_some_and(|condition| condition.reason == Reason::Suspended.as_str()) => {
            of_ready(State::Suspended)
        }
        None if is_ready => of_ready(State::Ready),
        None => of_ready(State::Waiting),
    }
}

impl Standing {
    /// Something that others refer to and that is not there.
    pub fn missing(message: impl Into<String>) -> Self {
        Self {
            state: State::Missing,
            is_ready: false,
            reason: String::new(),
            message: message.into(),
        }
    }

    /// For people, in a word or two.
    pub fn word(&self) -> &'static str {
        match (self.state, self.is_ready) {
            (State::Ready, _) => "Ready",
            (State::Waiting, true) => "Ready, changing",
            (State::Waiting, false) => "waiting",
            (State::Suspended, _) => "suspended",
            (State::Stalled, true) => "Ready, needs action",
            (State::Stalled, false) => "needs action",
            (State::Deleting, _) => "being deleted",
            (State::Missing, _) => "missing",
        }
    }

    /// Reason and message as one sentence.
    pub fn why(&self) -> String {
        match (self.reason.as_str(), self.message.as_str()) {
            ("", message) => message.to_owned(),
            (reason, "") => reason.to_owned(),
            (reason, message) => format!("{reason}: {message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn condition(type_: &str, status: &str) -> Condition {
        Condition {
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
            message: format!("the message of {type_}"),
            observed_generation: Some(2),
            reason: "Why".to_owned(),
            status: status.to_owned(),
            type_: type_.to_owned(),
        }
    }

    fn state(observed: i64, conditions: &[Condition]) -> (State, bool) {
        let metadata = ObjectMeta {
            generation: Some(2),
            ..ObjectMeta::default()
        };
        let standing = standing(&metadata, Some(observed), conditions);
        (standing.state, standing.is_ready)
    }

    #[test]
    fn a_former_specs_readiness_says_nothing() {
        let ready = [condition(READY, "True")];
        assert_eq!(state(1, &ready), (State::Waiting, true));
        assert_eq!(state(2, &ready), (State::Ready, true));
    }

    #[test]
    fn a_stalled_object_needs_a_human_even_while_it_does_its_job() {
        let both = [condition(READY, "True"), condition(STALLED, "True")];
        assert_eq!(state(2, &both), (State::Stalled, true));
        let neither = [condition(READY, "False"), condition(STALLED, "True")];
        assert_eq!(state(2, &neither), (State::Stalled, false));
    }

    #[test]
    fn an_object_that_nobody_has_looked_at_asks_for_the_operator() {
        let standing = standing(
            &ObjectMeta {
                generation: Some(1),
                ..ObjectMeta::default()
            },
            Some(-1),
            &[],
        );
        assert_eq!(standing.state, State::Waiting);
        assert!(standing.why().contains("check that it is running"));
    }
}
