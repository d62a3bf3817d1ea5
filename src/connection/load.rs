//! Whether the limits of ACS allow all tokens of a connection to be renewed. Pure: no I/O, no
//! clock.

use crate::{
    acs::{LIMIT_SPAN, Operation},
    crd::AcsTokenStatus,
};

/// Share of a limit above which a warning is reported: renewals leave a tenth to first tokens.
const MOST: f64 = 0.9;

/// Calls that the renewals of tokens need, to compare with the limits of ACS.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    issues: f64,
    exchanges: f64,
}

impl Load {
    /// Adds a token. A token that was never issued counts for nothing.
    pub fn add(&mut self, token: &AcsTokenStatus) {
        let (Some(issued_at), Some(renew_at)) = (&token.issued_at, &token.renew_at) else {
            return;
        };
        // The clocks of ACS and the operator may differ by some minutes, so the interval may seem
        // very short; but no token is renewed more than once a minute.
        let every = renew_at.0.duration_since(issued_at.0).as_secs_f64();
        let calls = LIMIT_SPAN.as_secs_f64() / every.max(60.0);
        if token.user_token.is_some() {
            self.exchanges += calls;
        } else {
            self.issues += calls;
        }
    }

    /// Returns the share of the limit of ACS that the renewals need: the larger one of the two
    /// limits.
    #[must_use]
    pub fn share(self) -> f64 {
        let of = |calls: f64, operation: Operation| {
            calls / f64::from(u32::try_from(operation.limit()).unwrap_or(u32::MAX))
        };
        let issues = of(self.issues, Operation::IssueToken);
        issues.max(of(self.exchanges, Operation::ExchangeTeamsToken))
    }

    /// Returns what to do if not all tokens can be renewed in time.
    #[must_use]
    pub fn warning(self) -> Option<String> {
        let share = self.share();
        (share > MOST).then(|| {
            // Rounded up to tens, so that not every new token changes the message.
            let percent = (share * 10.0).ceil() * 10.0;
            format!(
                "renewing the tokens of this connection needs about {percent} % of the calls that \
                 ACS allows for one resource; above 90 % renewals are late and tokens may expire \
                 before them. Increase the lifetime of the tokens (expiresIn), or use several ACS \
                 resources"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn load(tokens: u32, renewed_after: &str, is_of_user: bool) -> Load {
        let mut status = json!({
            "issuedAt": "2026-01-01T00:00:00Z", "renewAt": format!("2026-01-01T{renewed_after}Z"),
        });
        if is_of_user {
            let expires_at = "2026-01-01T01:00:00Z";
            status["userToken"] = json!({"fingerprint": "", "expiresAt": expires_at});
        }
        let status = serde_json::from_value(status).unwrap();
        let mut load = Load::default();
        (0..tokens).for_each(|_| load.add(&status));
        load
    }

    #[test]
    fn more_renewals_than_the_limit_leaves_room_for_are_told() {
        // 1000 calls per 30 s are 80,000 per 40 minutes.
        assert_eq!(load(70_000, "00:40:00", false).warning(), None);
        let warning = load(76_000, "00:40:00", false).warning().unwrap();
        assert!(warning.contains("about 100 %"), "{warning}");
        assert_eq!(load(76_000, "16:00:00", false).warning(), None);
        assert_eq!(load(30_000, "00:40:00", true).warning(), None);
        assert!(load(40_000, "00:40:00", true).warning().is_some());
    }
}
