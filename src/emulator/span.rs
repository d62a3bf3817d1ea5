//! Durations as people write them: `90s`, `15m`, `-3h`, or a number of seconds.

use jiff::{
    SignedDuration,
    fmt::friendly::{Direction, SpanPrinter},
};
use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Maximum duration, such that sums with any time of this century cannot overflow.
const LONGEST: SignedDuration = SignedDuration::from_hours(20 * 366 * 24);

/// Parses a duration of at most 20 years. The error says what is valid.
pub fn parse(text: &str) -> Result<SignedDuration, String> {
    let read = match text.parse::<f64>() {
        Ok(seconds) => SignedDuration::try_from_secs_f64(seconds).ok(),
        Err(_) => text.parse().ok(),
    };
    read.filter(|span| span.abs() <= LONGEST).ok_or_else(|| {
        "use a duration of at most 20 years, such as 500ms, 90s, 15m or 3h".to_owned()
    })
}

/// Parses a duration that is not negative.
pub fn parse_unsigned(text: &str) -> Result<SignedDuration, String> {
    match parse(text)? {
        span if span.is_negative() => {
            Err("use a duration that is not negative, such as 15m".to_owned())
        }
        span => Ok(span),
    }
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "use a duration such as 500ms, 90s, 15m or 3h, or a number of seconds"
)]
enum Written {
    Seconds(f64),
    Text(String),
}

fn written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match Written::deserialize(deserializer)? {
        Written::Seconds(seconds) => seconds.to_string(),
        Written::Text(text) => text,
    })
}

/// Formats a duration so that [`parse`] accepts it.
pub(super) fn text(span: SignedDuration) -> String {
    let printer = SpanPrinter::new().direction(Direction::Sign);
    printer.duration_to_string(&span)
}

/// Serializes a duration, for serde.
pub(super) fn serialize<S: Serializer>(
    span: &SignedDuration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(*span))
}

/// Deserializes a duration of any sign.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<SignedDuration, D::Error> {
    parse(&written(deserializer)?).map_err(D::Error::custom)
}

/// Durations that cannot be negative.
pub(super) mod unsigned {
    pub(in super::super) use super::serialize;
    use super::{Deserializer, Error, SignedDuration, parse_unsigned, written};

    /// Deserializes a duration.
    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SignedDuration, D::Error> {
        parse_unsigned(&written(deserializer)?).map_err(D::Error::custom)
    }
}
