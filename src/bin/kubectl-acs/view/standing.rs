//! State of an object in the sense of kstatus: its conditions, if they describe its current spec.

use acs_identity_operator::crd::{
    AcsConnection, AcsIdentity, AcsRevocation, AcsToken, ClusterAcsConnection,
    ClusterAcsRevocation, READY, Reason, STALLED,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use serde::Serialize;

/// State of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum State {
    /// The object works.
    Ready,
    /// The object does not work yet; the operator goes on by itself.
    Waiting,
    /// The object is suspended.
    Suspended,
    /// A person must act.
    Stalled,
    /// The object is being deleted.
    Deleting,
    /// The object does not exist, but other objects refer to it.
    Missing,
}

/// State of an object, and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// State, in one word.
    pub state: State,
    /// Whether the object works now, regardless of the state.
    pub is_ready: bool,
    /// Reason, in CamelCase; empty if there is none.
    pub reason: String,
    /// Message; empty if there is none.
    pub message: String,
}

/// Kinds with conditions.
pub trait HasConditions {
    /// Returns metadata, observed generation and conditions.
    fn parts(&self) -> (&ObjectMeta, Option<i64>, &[Condition]);

    /// Returns the state of the object.
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
        // The object may still be Ready with what it has.
        None if ready.is_some_and(|condition| condition.reason == Reason::Suspended.as_str()) => {
            of_ready(State::Suspended)
        }
        None if is_ready => of_ready(State::Ready),
        None => of_ready(State::Waiting),
    }
}

impl Standing {
    /// Returns the state of an object that does not exist but that others refer to.
    pub fn missing(message: impl Into<String>) -> Self {
        Self {
            state: State::Missing,
            is_ready: false,
            reason: String::new(),
            message: message.into(),
        }
    }

    /// Returns a word or two for people.
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

    /// Returns reason and message as one sentence.
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
