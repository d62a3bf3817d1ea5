//! Injected faults: failures of real networks and services.

use hyper::StatusCode;
use jiff::{SignedDuration, Timestamp};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::{
    http::{Answer, Content, operation},
    service::http_date,
    span,
};

/// Maximum number of faults.
const MOST: usize = 1000;
/// Error page of a front end.
const HTML: &str = "<!DOCTYPE html><html><head><title>Our services aren't available right now</title></head>\
    <body><h2>Our services aren't available right now</h2></body></html>";

/// Fault to inject.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in super::super) struct Fault {
    /// Name of an operation, or `*`.
    pub operation: String,
    pub effect: Effect,
    /// Number of requests that it still applies to; `None` means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Share of the requests that it applies to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Whether it applies before or after the request's effect; with `after` the state did change.
    #[serde(default)]
    pub when: When,
    /// Delay before the effect. The effect `delay` consists of it alone.
    #[serde(default, with = "span::unsigned")]
    pub delay: SignedDuration,
    /// Status of the effect `status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Value of `Retry-After`: a number is sent as seconds, a duration such as `30s` as a date,
    /// other text as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Value>,
    #[serde(default)]
    pub body: Body,
}

/// Effect of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) enum Effect {
    /// The answer is delayed.
    Delay,
    /// The answer has this status.
    Status,
    /// The connection breaks.
    Reset,
    /// No answer is sent.
    Hang,
}

/// Whether a fault applies before or after the request's effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) enum When {
    #[default]
    Before,
    After,
}

/// Body of the effect `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) enum Body {
    /// The envelope of ACS.
    #[default]
    Json,
    /// The error page of a front end.
    Html,
    /// `{}`.
    EmptyObject,
    Empty,
}

/// Active faults.
#[derive(Default)]
pub(in super::super) struct Faults {
    pub all: Vec<Fault>,
}

impl Faults {
    /// Parses a list of faults. The error is a sentence.
    pub fn read(list: Value) -> Result<Vec<Fault>, String> {
        let list: Vec<Fault> = serde_json::from_value(list).map_err(|error| error.to_string())?;
        if list.len() > MOST {
            return Err(format!("the list must have at most {MOST} faults"));
        }
        for fault in &list {
            fault.check()?;
        }
        Ok(list)
    }

    /// Returns the fault that applies to a request, if any: the first that matches.
    pub fn hit(&mut self, operation: &str) -> Option<Fault> {
        let position = self.all.iter().position(|fault| {
            let fits = fault.operation == "*" || fault.operation == operation;
            fits && fault.probability.is_none_or(|share| chance() < share)
        })?;
        let fault = self.all.get_mut(position)?;
        let hit = fault.clone();
        if let Some(count) = &mut fault.count {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.all.remove(position);
            }
        }
        Some(hit)
    }
}

impl Fault {
    fn check(&self) -> Result<(), String> {
        if self.operation != "*" && !operation::names().any(|name| name == self.operation) {
            let names: Vec<_> = operation::names().collect();
            return Err(format!(
                "operation must be * or one of {}",
                names.join(", ")
            ));
        }
        if self.count == Some(0) {
            return Err("count must be at least 1".to_owned());
        }
        if self.probability.is_some_and(|it| !(it > 0.0 && it <= 1.0)) {
            return Err("probability must be more than 0 and at most 1".to_owned());
        }
        if self.count.is_some() && self.probability.is_some() {
            return Err("a fault must not have both a count and a probability".to_owned());
        }
        let is_status = self.effect == Effect::Status;
        if is_status && !self.status.is_some_and(|it| (200..600).contains(&it)) {
            return Err("the effect status requires a status from 200 to 599".to_owned());
        }
        if self.effect == Effect::Delay && self.delay.is_zero() {
            return Err("the effect delay requires a delay, such as \"3s\"".to_owned());
        }
        if self.delay > SignedDuration::from_hours(1) {
            return Err("a delay must be at most one hour".to_owned());
        }
        match &self.retry_after {
            None => Ok(()),
            Some(Value::Number(number)) if number.is_u64() => Ok(()),
            Some(Value::String(text)) if is_header(text) => Ok(()),
            Some(_) => Err(
                "retryAfter must be whole seconds, a duration such as \"30s\", or an \
             HTTP date"
                    .to_owned(),
            ),
        }
    }

    /// Returns the name in the journal.
    pub fn name(&self) -> &'static str {
        match self.effect {
            Effect::Delay => "delay",
            Effect::Status => "status",
            Effect::Reset => "reset",
            Effect::Hang => "hang",
        }
    }

    /// Returns the answer of the effect `status`.
    pub fn answer(&self, now: Timestamp) -> Answer {
        let status = self.status.unwrap_or_default();
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let code = self.code.as_deref().unwrap_or(match status.as_u16() {
            401 => "Denied",
            403 => "Forbidden",
            404 => "NotFound",
            429 => "TooManyRequests",
            500 => "InternalServerError",
            503 => "ServiceUnavailable",
            _ => "Fault",
        });
        let message = self.message.as_deref().unwrap_or(match status.as_u16() {
            500 => "Internal server error.",
            _ => "A fault of the emulator requested this answer.",
        });
        let (content, error_code) = match self.body {
            Body::Json => (
                Content::Json(json!({"error": {"code": code, "message": message}})),
                Some(code.to_owned()),
            ),
            Body::Html => (Content::Text("text/html", HTML.into()), None),
            Body::EmptyObject => (Content::Json(json!({})), None),
            Body::Empty => (Content::Nothing, None),
        };
        let answer = Answer {
            content,
            error_code,
            ..Answer::json(status, Value::Null)
        };
        match &self.retry_after {
            None => answer,
            Some(Value::String(text)) => match span::parse_unsigned(text) {
                Ok(span) => answer.with("retry-after", http_date(now + span)),
                Err(_) => answer.with("retry-after", text),
            },
            Some(seconds) => answer.with("retry-after", seconds.to_string()),
        }
    }
}

fn is_header(text: &str) -> bool {
    text.len() <= 100 && text.chars().all(|c| c.is_ascii_graphic() || c == ' ')
}

/// Returns a random number from 0 to less than 1.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness every fault applies.
    let _ = SystemRandom::new().fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}
