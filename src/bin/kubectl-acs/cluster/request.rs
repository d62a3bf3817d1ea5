//! Requests: an annotation asks the operator for an action, once, and the status echoes its value
//! afterwards.

use acs_identity_operator::crd::{AcsIdentity, AcsToken, REQUEST, REQUESTED_AT};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    actions::change::{Changing, patch},
    cluster::{
        session::{Kind, Session},
        wait::{Look, Waiter},
    },
    failure::{Exit, Failure},
    view::standing::{HasConditions, State},
};

/// Kinds that support requests.
pub trait Obeys: HasConditions {
    /// Whether requests are also handled while the object is suspended.
    const WHILE_SUSPENDED: bool;
    /// Returns the request that was handled last.
    fn last_handled(&self) -> Option<&str>;
    /// Returns the ACS call that failed last.
    fn last_failure(&self) -> Option<String>;
}

macro_rules! obeys {
    ($($kind:ty: $while_suspended:literal),*) => {$(
        impl Obeys for $kind {
            const WHILE_SUSPENDED: bool = $while_suspended;

            fn last_handled(&self) -> Option<&str> {
                self.status.as_ref()?.last_handled_request.as_deref()
            }

            fn last_failure(&self) -> Option<String> {
                let failure = self.status.as_ref()?.last_failure.as_ref()?;
                Some(format!("{}: {}", failure.reason, failure.message))
            }
        }
    )*};
}
obeys!(AcsIdentity: true, AcsToken: false);

/// Returns the change of an object by a request, in addition to a change of `spec`.
pub fn change(what: &str, value: &str, spec: &Value) -> Value {
    json!({"metadata": {"annotations": {REQUESTED_AT: value, REQUEST: what}}, "spec": spec})
}

/// Writes a request; returns the value that will be echoed.
pub async fn request<K: Kind + HasConditions>(
    session: &Session,
    name: &str,
    what: &str,
    spec: Value,
    changing: &Changing,
    waiter: &mut Waiter,
) -> Result<String, Failure> {
    let named = session.named::<K>(name);
    // A request that is present when the operator first sees an object is recorded, not handled.
    waiter
        .until(session, name, |object: Option<K>| {
            let Some(object) = object else {
                let message = format!(
                    "{named} does not exist; run `kubectl acs status` to list existing \
                     objects"
                );
                return Look::Stop(Failure::new(Exit::NotFound, message));
            };
            let (_, observed, _) = object.parts();
            if observed.is_some_and(|generation| generation >= 0) {
                Look::Done(())
            } else {
                Look::Wait(object.standing().why())
            }
        })
        .await?;
    let value = Timestamp::now().to_string();
    let change = change(what, &value, &spec);
    patch::<K>(session, name, &change, changing).await?;
    Ok(value)
}

/// Waits until the request with this value is handled.
pub async fn handled<K: Kind + Obeys>(
    session: &Session,
    name: &str,
    value: &str,
    waiter: &mut Waiter,
) -> Result<K, Failure> {
    let named = session.named::<K>(name);
    waiter
        .until(session, name, |object: Option<K>| {
            let Some(object) = object else {
                return Look::deleted(&named);
            };
            if object.last_handled() == Some(value) {
                return Look::Done(object);
            }
            let standing = object.standing();
            match (standing.state, object.last_failure()) {
                (State::Stalled, _) => Look::stalled(&named, &standing),
                (State::Suspended, _) if !K::WHILE_SUSPENDED => Look::suspended(&named, &standing),
                (_, Some(failure)) => {
                    Look::Wait(format!("requested; the last call failed: {failure}"))
                }
                (State::Ready, None) => Look::Wait("requested".to_owned()),
                (_, None) => Look::Wait(standing.why()),
            }
        })
        .await
}
