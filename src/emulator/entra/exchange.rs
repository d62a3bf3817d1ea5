//! Exchange of Entra ID users' tokens for ACS tokens. Entra's signatures are not verified: the
//! claims are trusted.

use hyper::{StatusCode, header};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{
    http::{Answer, Refusal},
    service::{Done, Turn, new_token, token, versions},
    state::{Event, Signer},
};
use super::assignments::Assignment;

/// Claims of an Entra token about its user.
#[derive(Deserialize)]
struct User {
    oid: String,
    #[serde(default)]
    tid: String,
    exp: i64,
    /// Application id, in tokens of version 1.
    appid: Option<String>,
    /// Application id, in tokens of version 2.
    azp: Option<String>,
    #[serde(default)]
    scp: String,
}

impl User {
    fn application(&self) -> &str {
        let application = self.appid.as_deref().or(self.azp.as_deref());
        application.unwrap_or_default()
    }

    fn from_text(text: &str, now: Timestamp) -> Result<(Self, Timestamp), Refusal> {
        let user: Self = token::claims(text).ok_or_else(Refusal::invalid_user_token)?;
        // These become part of an identity's id.
        let is_sound =
            |id: &str| id.len() <= 64 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        match Timestamp::from_second(user.exp) {
            Ok(end) if end > now && is_sound(&user.oid) && is_sound(&user.tid) => Ok((user, end)),
            _ => Err(Refusal::invalid_user_token()),
        }
    }
}

/// Handles `POST /teamsUser/:exchangeAccessToken`.
pub(in super::super) fn teams_user(turn: &mut Turn<'_>) -> Result<Done, Refusal> {
    let body = turn.call.object()?;
    let text = |field, target| match body.get(field) {
        None | Some(Value::Null) => Err(Refusal::required(target)),
        Some(value) => value
            .as_str()
            .ok_or_else(|| Refusal::model(target, "The JSON value is not a string.")),
    };
    let token = text("token", "Token")?;
    let mut asked = None;
    if versions::has_teams_user(&turn.version) {
        asked = Some((text("appId", "AppId")?, text("userId", "UserId")?));
    }
    let (user, end) = User::from_text(token, turn.now)?;
    if let Some((app_id, user_id)) = asked {
        if !user.oid.eq_ignore_ascii_case(user_id) {
            let message = "Provided AAD token issued for unexpected user.";
            return Err(Refusal::invalid("userId", message));
        }
        if !user.application().eq_ignore_ascii_case(app_id) {
            let message = "AAD application is not the expected one.";
            return Err(Refusal::invalid("appId", message));
        }
    }
    let scopes = vec!["chat".to_owned(), "voip".to_owned()];
    hand_out(turn, format!("8:orgid:{}", user.oid), scopes, end, false)
}

/// Handles `POST /access/entra/:exchangeAccessToken`.
pub(in super::super) fn entra(turn: &mut Turn<'_>) -> Result<Done, Refusal> {
    let (user, end) = caller(turn)?;
    let all = turn.core.state.assignments.iter();
    let mut entra = all.filter(|(place, _)| place.starts_with("entra/"));
    let is_assigned = entra.any(|(_, it)| {
        let is_user = it.principal_type == "user" && it.object_id == user.oid;
        let is_tenant = it.principal_type == "tenant" && it.object_id == user.tid;
        (is_user || is_tenant) && it.tenant_id == user.tid && admits(it, &user)
    });
    exchange(turn, &user, end, is_assigned)
}

/// Handles `POST /access/teamsExtension/:exchangeAccessToken`.
pub(in super::super) fn teams_extension(turn: &mut Turn<'_>) -> Result<Done, Refusal> {
    let (user, end) = caller(turn)?;
    let place = format!("teamsExtension/{}/{}", user.tid, user.oid);
    let found = turn.core.state.assignments.get(&place);
    let is_assigned = found.is_some_and(|it| it.client_ids.is_empty() || admits(it, &user));
    exchange(turn, &user, end, is_assigned)
}

fn admits(assignment: &Assignment, user: &User) -> bool {
    let mut applications = assignment.client_ids.iter();
    applications.any(|it| it == user.application())
}

fn caller(turn: &Turn<'_>) -> Result<(User, Timestamp), Refusal> {
    turn.call.object()?;
    let value = turn.call.header(header::AUTHORIZATION.as_str());
    let token = value.and_then(|value| value.split_once(' '));
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let (_, token) = token.ok_or_else(Refusal::invalid_user_token)?;
    User::from_text(token, turn.now)
}

fn exchange(
    turn: &mut Turn<'_>,
    user: &User,
    end: Timestamp,
    is_assigned: bool,
) -> Result<Done, Refusal> {
    if !is_assigned {
        let message = "The user has no assignment for this application.";
        return Err(Refusal::new(StatusCode::FORBIDDEN, "Forbidden", message));
    }
    // Permissions such as `https://communication.azure.com/clients/Chat.Join`, or only their last
    // part.
    let permissions = user.scp.split_whitespace();
    let mut scopes: Vec<_> = permissions
        .filter_map(|it| it.rsplit('/').next())
        .map(str::to_ascii_lowercase)
        .filter(|it| versions::has_scope(&turn.version, it))
        .collect();
    if scopes.is_empty() {
        scopes = vec!["chat".to_owned(), "voip".to_owned()];
    }
    let resource = &turn.core.state.resource;
    let id = format!("8:acs:{resource}_wf_{}_{}", user.tid, user.oid);
    hand_out(turn, id, scopes, end, true)
}

fn hand_out(
    turn: &mut Turn<'_>,
    id: String,
    scopes: Vec<String>,
    end: Timestamp,
    names_identity: bool,
) -> Result<Done, Refusal> {
    let new = new_token(turn, &id, scopes, end, Signer::Entra)?;
    let mut events = Vec::new();
    match turn.core.state.identity(&id) {
        None => events.push(Event::Created {
            id: id.clone(),
            custom_id: None,
            at: turn.now,
        }),
        Some(it) if it.deleted_at.is_some() => events.push(Event::Restored { id: id.clone() }),
        Some(_) => {}
    }
    events.push(new.event);
    turn.core.commit(events)?;
    let (answer, place) = if names_identity {
        let answer = json!({"identity": {"id": id}, "accessToken": new.answer});
        (answer, "/accessToken/token")
    } else {
        (new.answer.into(), "/token")
    };
    Ok(Done {
        answer: Answer::ok(answer),
        identity: Some(id),
        token: Some((place, new.unsigned)),
    })
}
