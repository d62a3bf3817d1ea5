use jiff::SignedDuration;

/// A text that is not a duration in hours and minutes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration; write hours and minutes, for example 90m, 24h or 1h30m")]
pub struct DurationError(String);

/// Reads a duration as our kinds write it: `90m`, `24h`, `1h30m`, and as Go does: `1h30m0s`.
///
/// The schema has refused anything else already; a hand-edited object may still bring it.
pub fn parse_duration(text: &str) -> Result<SignedDuration, DurationError> {
    text.parse().map_err(|_| DurationError(text.to_owned()))
}
