//! Resolution of `--user`: an `AcsIdentity` by its name, or, as for `az`, by its id in ACS.

use std::io::{IsTerminal as _, Write as _};

use acs_identity_operator::crd::{AcsIdentity, AcsToken};
use kube::api::ListParams;

use crate::{
    cluster::{manifest, session::Session},
    failure::{Exit, Failure},
};

/// Value of `--user`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// Name of an `AcsIdentity`.
    Name(String),
    /// Id in ACS.
    Id(String),
}

/// Parses `--user`: ids of ACS begin with `8:`, which a Kubernetes name cannot.
pub fn user(text: &str) -> Result<User, String> {
    if text.starts_with("8:") {
        return Ok(User::Id(text.to_owned()));
    }
    let name = manifest::name(text).map(User::Name);
    name.map_err(|_| {
        format!("`{text}` is neither the name of an AcsIdentity nor an ACS id (8:acs:...)")
    })
}

/// Returns the id that an `AcsIdentity` has, or will have.
pub fn id_of(identity: &AcsIdentity) -> Option<&str> {
    let known = identity
        .status
        .as_ref()
        .and_then(|status| status.identity_id.as_deref());
    known.or(identity.spec.identity_id.as_deref())
}

/// Returns the `AcsIdentity` in the namespace that `user` refers to, if it exists.
pub async fn find(session: &Session, user: &User) -> Result<Option<AcsIdentity>, Failure> {
    let api = session.api::<AcsIdentity>();
    match user {
        User::Name(name) => {
            let named = session.named::<AcsIdentity>(name);
            session.call("read", &named, api.get_opt(name)).await
        }
        User::Id(id) => {
            let all = format!("the AcsIdentities of {}", session.namespace);
            let found = session
                .call("list", &all, api.list(&ListParams::default()))
                .await?;
            Ok(found
                .into_iter()
                .find(|identity| id_of(identity) == Some(id)))
        }
    }
}

/// Returns the `AcsIdentity` that `user` refers to; fails if it does not exist.
pub async fn existing(session: &Session, user: &User) -> Result<AcsIdentity, Failure> {
    let found = find(session, user).await?;
    if found.is_none()
        && let Some(token) = teams_token(session, user).await
    {
        let (named, name) = (session.named::<AcsToken>(&token), token);
        let message = format!(
            "{named} belongs to a Teams user, which has no AcsIdentity: use `kubectl acs delete \
             --token {name}` or `kubectl acs suspend --token {name}`. ACS cannot revoke this \
             token: everybody who has read it can use it until it expires. Delete it, and sign \
             the user out in Microsoft Entra ID so that no other token is issued"
        );
        return Err(Failure::new(Exit::Usage, message));
    }
    found.ok_or_else(|| {
        let message = match user {
            User::Name(name) => format!(
                "{} does not exist; run `kubectl acs status` to list existing identities, or \
                 `kubectl acs create {name}` to create it",
                session.named::<AcsIdentity>(name)
            ),
            User::Id(id) => format!(
                "no AcsIdentity in namespace {} has the id {id}; run `kubectl acs create --user \
                 {id}` to adopt it",
                session.namespace
            ),
        };
        Failure::new(Exit::NotFound, message)
    })
}

/// Returns the `AcsIdentity` of each user; fails if one does not exist.
pub async fn all_existing(session: &Session, users: &[User]) -> Result<Vec<AcsIdentity>, Failure> {
    let mut identities = Vec::new();
    for user in users {
        identities.push(existing(session, user).await?);
    }
    Ok(identities)
}

/// Returns the name of the Teams user's `AcsToken` that `user` refers to, if the caller may list
/// tokens.
async fn teams_token(session: &Session, user: &User) -> Option<String> {
    let api = session.api::<AcsToken>();
    let parameters = ListParams::default();
    let tokens = session.call("list", "acstokens", api.list(&parameters));
    let tokens = tokens.await.ok()?;
    let is_it = |token: &AcsToken| {
        let teams_user = token.spec.teams_user.as_ref();
        teams_user.is_some_and(|teams_user| match user {
            User::Name(name) => token.metadata.name.as_ref() == Some(name),
            User::Id(id) => teams_user.identity_id().eq_ignore_ascii_case(id),
        })
    };
    tokens.into_iter().find(is_it)?.metadata.name
}

/// Returns the tokens with these names.
pub async fn tokens(session: &Session, names: &[String]) -> Result<Vec<AcsToken>, Failure> {
    let api = session.api::<AcsToken>();
    let mut tokens = Vec::new();
    for name in names {
        let token = session.named::<AcsToken>(name);
        tokens.push(session.call("read", &token, api.get(name)).await?);
    }
    Ok(tokens)
}

/// Returns all tokens of the namespace.
async fn all_tokens(session: &Session) -> Result<Vec<AcsToken>, Failure> {
    let all = format!("the AcsTokens of {}", session.namespace);
    let api = session.api::<AcsToken>();
    let listed = session
        .call("list", &all, api.list(&ListParams::default()))
        .await?;
    Ok(listed.items)
}

/// Returns the tokens of these identities.
pub async fn tokens_of(
    session: &Session,
    identities: &[&AcsIdentity],
) -> Result<Vec<AcsToken>, Failure> {
    let listed = all_tokens(session).await?;
    let is_theirs = |token: &AcsToken| {
        let mut all = identities.iter();
        all.any(|identity| {
            token.identity_name().is_some()
                && identity.metadata.name.as_deref() == token.identity_name()
        })
    };
    Ok(listed.into_iter().filter(is_theirs).collect())
}

/// Returns the tokens that a revocation of an identity invalidates: its own, and those of other
/// `AcsIdentities` of the namespace with the same id.
pub async fn tokens_hit(
    session: &Session,
    identity: &AcsIdentity,
) -> Result<Vec<AcsToken>, Failure> {
    let listed = all_tokens(session).await?;
    let id = id_of(identity);
    let is_hit = |token: &AcsToken| {
        let status = token.status.as_ref();
        let has_id = id.is_some() && status.and_then(|s| s.identity_id.as_deref()) == id;
        has_id
            || (token.identity_name().is_some()
                && token.identity_name() == identity.metadata.name.as_deref())
    };
    Ok(listed.into_iter().filter(is_hit).collect())
}

/// Returns the names of objects, for use in a sentence.
pub fn names<K: kube::Resource>(objects: &[K]) -> String {
    let names: Vec<_> = objects.iter().map(kube::ResourceExt::name_any).collect();
    names.join(", ")
}

/// Asks for confirmation, as az does.
pub fn confirm(question: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        let message = format!("{question} There is no terminal for the answer; use --yes");
        return Err(Failure::new(Exit::Usage, message));
    }
    let mut stderr = std::io::stderr();
    let _ = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
    let mut answer = String::new();
    let _ = std::io::stdin().read_line(&mut answer);
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(Failure::new(Exit::Failed, "nothing was done"))
    }
}
