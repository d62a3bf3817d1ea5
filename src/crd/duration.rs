use jiff::SignedDuration;

/// Error: the text is not a duration in hours and minutes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration; write hours and minutes, for example 90m, 24h or 1h30m")]
pub struct DurationError(String);

/// Parses a duration in hours and minutes (`90m`, `24h`, `1h30m`), or as Go writes it (`1h30m0s`).
///
/// The schema refuses anything else, but a stored object may be older than the schema.
pub fn parse_duration(text: &str) -> Result<SignedDuration, DurationError> {
    text.parse().map_err(|_| DurationError(text.to_owned()))
}
