use std::sync::Arc;

use kube::ResourceExt;

use crate::crd::{AcsToken, ConnectionKey, TokenParameters, TokenPolicy, parse_duration};

/// Limits that the connection's policy sets for one token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Connection, as messages name it.
    pub connection: String,
    /// Rules of the policy.
    pub policy: TokenPolicy,
    /// Whether the identity already has as many older tokens as the policy allows.
    pub is_one_too_many: bool,
}

impl Limits {
    /// Returns the limits of `policy` for `token`, given `all` tokens of the same identity.
    #[must_use]
    pub fn beside(
        all: impl IntoIterator<Item = Arc<AcsToken>>,
        token: &AcsToken,
        connection: &ConnectionKey,
        policy: TokenPolicy,
    ) -> Self {
        let is_one_too_many = policy.max_tokens_per_identity.is_some_and(|most| {
            let older = all
                .into_iter()
                .filter(|other| other.metadata.deletion_timestamp.is_none())
                .filter(|other| rank(other) < rank(token))
                .count();
            i64::try_from(older).is_ok_and(|older| older >= most)
        });
        Self {
            connection: connection.to_string(),
            policy,
            is_one_too_many,
        }
    }

    /// Returns the rule that forbids these parameters, as a sentence that says what to do.
    #[must_use]
    pub fn denial(&self, parameters: &TokenParameters) -> Option<String> {
        let rule = self.broken_rule(parameters)?;
        Some(format!(
            "{}: {rule}; change this AcsToken, or ask the owner of the connection to allow it",
            self.connection
        ))
    }

    fn broken_rule(&self, parameters: &TokenParameters) -> Option<String> {
        let allowed = self.policy.scopes.as_ref();
        let excess = allowed.and_then(|allowed| parameters.scopes.difference(allowed).next());
        if let (Some(excess), Some(allowed)) = (excess, allowed) {
            let allowed: Vec<_> = allowed.iter().map(|scope| scope.as_str()).collect();
            return Some(format!(
                "policy.scopes allows {}, not {}",
                allowed.join(", "),
                excess.as_str()
            ));
        }
        if let Some(longest) = self.longest()
            && parameters.minutes() > longest
        {
            return Some(format!(
                "policy.maxExpiresIn allows {}, not {}",
                self.policy.max_expires_in.as_deref().unwrap_or_default(),
                parameters.expires_in
            ));
        }
        let most = self.policy.max_tokens_per_identity?;
        self.is_one_too_many.then(|| {
            format!(
                "policy.maxTokensPerIdentity is {most}, and {most} older AcsTokens use the identity"
            )
        })
    }

    /// Returns the maximum lifetime in minutes, if the policy has one.
    fn longest(&self) -> Option<u32> {
        let text = self.policy.max_expires_in.as_deref()?;
        let minutes = parse_duration(text).ok()?.as_mins();
        u32::try_from(minutes).ok()
    }

    /// Returns the lifetime of tokens that request none, if the policy allows less than ACS.
    #[must_use]
    pub fn default_life(&self) -> Option<&str> {
        self.policy.max_expires_in.as_deref()
    }
}

/// Returns the precedence of an identity's tokens if there are too many: older tokens come first,
/// and tokens of the same second are ordered by name.
#[must_use]
pub fn rank(token: &AcsToken) -> impl Ord + use<> {
    let created = token
        .metadata
        .creation_timestamp
        .as_ref()
        .map(|time| time.0);
    (created, token.name_any(), token.uid())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::Scope;

    fn limits(policy: TokenPolicy, is_one_too_many: bool) -> Limits {
        Limits {
            connection: "AcsConnection ns/main".to_owned(),
            policy,
            is_one_too_many,
        }
    }

    fn parameters(scopes: &[Scope], expires_in: &str) -> TokenParameters {
        TokenParameters {
            scopes: scopes.iter().copied().collect(),
            expires_in: expires_in.to_owned(),
        }
    }

    #[test]
    fn every_rule_is_named_when_it_is_broken() {
        let policy = TokenPolicy {
            scopes: Some([Scope::Chat].into()),
            max_expires_in: Some("12h".to_owned()),
            max_tokens_per_identity: Some(2),
        };
        let says = |parameters, is_one_too_many| {
            limits(policy.clone(), is_one_too_many)
                .denial(&parameters)
                .unwrap_or_default()
        };
        assert_eq!(says(parameters(&[Scope::Chat], "720m"), false), "");
        let scope = says(parameters(&[Scope::Chat, Scope::Voip], "12h"), false);
        assert!(
            scope.contains("policy.scopes allows chat, not voip"),
            "{scope}"
        );
        assert!(scope.starts_with("AcsConnection ns/main: "), "{scope}");
        let life = says(parameters(&[Scope::Chat], "721m"), false);
        assert!(
            life.contains("policy.maxExpiresIn allows 12h, not 721m"),
            "{life}"
        );
        let number = says(parameters(&[Scope::Chat], "1h"), true);
        assert!(
            number.contains("policy.maxTokensPerIdentity is 2"),
            "{number}"
        );
    }

    #[test]
    fn without_a_policy_everything_goes() {
        let all = parameters(&[Scope::Chat, Scope::Voip], "24h");
        assert_eq!(Limits::default().denial(&all), None);
    }
}
