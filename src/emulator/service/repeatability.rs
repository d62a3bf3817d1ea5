//! `Repeatability-Request-ID`, as in other ACS APIs: a create that is repeated within five minutes
//! creates nothing new. It is unknown whether the identity API supports it.

use std::collections::HashMap;

use hyper::StatusCode;
use jiff::{SignedDuration, Timestamp};

use super::super::{http::Refusal, state::settings::RepeatabilityHeaders};
use super::serve::{Turn, http_date};

const WINDOW: SignedDuration = SignedDuration::from_mins(5);
const MOST: usize = 10_000;
const LONGEST_ID: usize = 100;

/// Identities by the id of the request that created them. In memory only.
pub(super) type Repeatable = HashMap<String, (Timestamp, String)>;

/// Create with a repeatability header.
pub(super) struct Repeated {
    request_id: String,
    /// Identity that the first request created.
    pub made: Option<String>,
}

/// Parses the two headers. Returns `None` if they are absent, or if the setting ignores them.
pub(super) fn read(turn: &Turn<'_>) -> Result<Option<Repeated>, Refusal> {
    let header = |name| turn.call.header(name);
    let (id, sent) = match (
        header("repeatability-request-id"),
        header("repeatability-first-sent"),
    ) {
        _ if turn.settings().repeatability_headers == RepeatabilityHeaders::Ignored => {
            return Ok(None);
        }
        (None, None) => return Ok(None),
        (Some(id), Some(sent)) if id.len() <= LONGEST_ID => (id, sent),
        _ => {
            let message = "Repeatability-Request-ID and Repeatability-First-Sent require each \
             other.";
            return Err(Refusal::unreadable(message));
        }
    };
    let sent = httpdate::parse_http_date(sent).ok();
    let sent = sent.and_then(|it| Timestamp::try_from(it).ok());
    if sent.is_none_or(|it| turn.now.duration_since(it).abs() > WINDOW) {
        let now = http_date(turn.now);
        let message = format!("Repeatability-First-Sent is not within five minutes of {now}.");
        return Err(Refusal::new(
            StatusCode::PRECONDITION_FAILED,
            "PreconditionFailed",
            message,
        ));
    }
    let made = turn.core.repeatable.get(id);
    Ok(Some(Repeated {
        request_id: id.to_owned(),
        made: made.map(|(_, made)| made.clone()),
    }))
}

impl Repeated {
    /// Records the identity that the create made.
    pub fn remember(self, turn: &mut Turn<'_>, made: &str) {
        let (now, known) = (turn.now, &mut turn.core.repeatable);
        if known.len() >= MOST {
            known.retain(|_, (at, _)| now.duration_since(*at).abs() <= WINDOW * 2);
        }
        if known.len() < MOST {
            known.insert(self.request_id, (now, made.to_owned()));
        }
    }
}
