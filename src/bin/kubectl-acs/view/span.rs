//! Durations in the form that people write.

use jiff::{SignedDuration, Timestamp};

/// Returns the two largest units: `1d 3h`, `23h 59m`, `4m 30s`, `12s`.
pub fn length(length: SignedDuration) -> String {
    let seconds = length.as_secs().abs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let first = units.iter().position(|(size, _)| seconds >= *size);
    let Some(first) = first else {
        return "0s".to_owned();
    };
    let mut left = seconds;
    let mut words = Vec::new();
    for (size, unit) in units.iter().skip(first).take(2) {
        if left / size > 0 {
            words.push(format!("{}{unit}", left / size));
        }
        left %= size;
    }
    words.join(" ")
}

/// Returns `in 23h 59m`, or `5m ago`.
pub fn from_now(time: Timestamp, now: Timestamp) -> String {
    let until = time.duration_since(now);
    if until.is_negative() {
        format!("{} ago", length(until))
    } else {
        format!("in {}", length(until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_has_its_two_largest_units() {
        let said = |seconds| length(SignedDuration::from_secs(seconds));
        assert_eq!(said(0), "0s");
        assert_eq!(said(59), "59s");
        assert_eq!(said(60), "1m");
        assert_eq!(said(86_399), "23h 59m");
        assert_eq!(said(97_201), "1d 3h");
        assert_eq!(said(-90), "1m 30s");
    }

    #[test]
    fn the_past_is_ago() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(
            from_now(now + SignedDuration::from_mins(90), now),
            "in 1h 30m"
        );
        assert_eq!(from_now(now - SignedDuration::from_secs(5), now), "5s ago");
    }
}
