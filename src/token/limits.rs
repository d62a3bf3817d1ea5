use std::sync::Arc;

use kube::ResourceExt;

use crate::crd::{AcsToken, ConnectionKey, TokenParameters, TokenPolicy, parse_duration};

/// What the connection's policy lets one token be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The connection, as people know it.
    pub connection: String,
    /// Its rules.
    pub policy: TokenPolicy,
    /// The identity has as many older tokens as the policy allows.
    pub is_one_too_many: bool,
}

impl Limits {
    /// What the `policy` of a connection lets `token` be beside `all` tokens of the same identity.
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

    /// The rule that forbids the token to have this shape, as a sentence with what to do.
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

    /// The longest life in minutes, if the policy has one.
    fn longest(&self) -> Option<u32> {
        let text = self.policy.max_expires_in.as_deref()?;
        let minutes = parse_duration(text).ok()?.as_mins();
        u32::try_from(minutes).ok()
    }

    /// The life of tokens that ask for none, if the policy allows less than the service.
    #[must_use]
    pub fn default_life(&self) -> Option<&str> {
        self.policy.max_expires_in.as_deref()
    }
}

/// Which of an identity's tokens go first where there are too many: the older, by name where they
/// are of one second.
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
