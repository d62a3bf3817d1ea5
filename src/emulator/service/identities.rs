//! Identities and their tokens.

use hyper::StatusCode;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::super::{
    http::{Answer, Refusal},
    state::{
        Cause, End, Event, Identity, Signer, Token,
        settings::{DeletedCustomId, EmptyScopes, SecondDelete, UnknownIdentity},
    },
};
use super::{
    ask, repeatability,
    serve::{Done, Turn},
    token::{Contents, Unsigned},
    versions,
};

const MOST_IDENTITIES: usize = 200_000;
/// Maximum number of tokens, valid or not; expired ones are dropped before more are rejected.
const MOST_TOKENS: usize = 1_000_000;

/// Handles `POST /identities`.
pub(super) fn create(turn: &mut Turn<'_>) -> Result<Done, Refusal> {
    let body = turn.call.object()?;
    let custom_id = ask::custom_id(turn, &body)?;
    let ask = match body.get("createTokenWithScopes") {
        None | Some(Value::Null) => None,
        // The first preview accepted no body.
        _ if versions::is_legacy(&turn.version) => None,
        Some(Value::Array(scopes)) if scopes.is_empty() => {
            match turn.settings().empty_create_scopes {
                EmptyScopes::NoToken => None,
                EmptyScopes::Refused => return Err(ask::no_scopes("createTokenWithScopes")),
            }
        }
        Some(scopes) => Some(ask::scopes(turn, "CreateTokenWithScopes", scopes)?),
    };
    let minutes = ask::minutes(turn, &body)?;

    let repeated = repeatability::read(turn)?;
    let state = &turn.core.state;
    let known = match (
        repeated.as_ref().and_then(|it| it.made.as_deref()),
        &custom_id,
    ) {
        (Some(made), _) => state.identity(made),
        (None, Some(custom_id)) => state.by_custom_id(custom_id),
        (None, None) => None,
    };
    let known = known.map(|it| (it.id.clone(), it.deleted_at.is_some()));
    let mut events = Vec::new();
    let (id, is_new) = match known {
        Some((id, false)) => (id, false),
        Some((id, true)) if turn.settings().deleted_custom_id == DeletedCustomId::SameIdentity => {
            events.push(Event::Restored { id: id.clone() });
            (id, false)
        }
        _ => (new_id(turn)?, true),
    };
    if is_new {
        events.push(Event::Created {
            id: id.clone(),
            custom_id: custom_id.clone(),
            at: turn.now,
        });
    }
    let issues = is_new || turn.settings().repeated_create_issues;
    let mut answer = Map::new();
    let mut token = None;
    if let Some(scopes) = ask.filter(|_| issues) {
        let new = prepare(turn, &id, scopes, minutes)?;
        events.push(new.event);
        answer.insert("accessToken".to_owned(), new.answer.into());
        token = Some(("/accessToken/token", new.unsigned));
    }
    turn.core.commit(events)?;

    if versions::is_legacy(&turn.version) {
        return Ok(done(Answer::ok(json!({"id": id})), id, None));
    }
    let identity = turn.core.state.identity(&id).map(|it| view(turn, it));
    answer.insert("identity".to_owned(), json!(identity));
    let mut answer = Answer::json(StatusCode::CREATED, answer.into());
    if let Some(repeated) = repeated {
        answer = answer.with("repeatability-result", "accepted");
        repeated.remember(turn, &id);
    }
    Ok(done(answer, id, token))
}

/// Handles `GET /identities/{id}`.
pub(super) fn get(turn: &mut Turn<'_>) -> Result<Done, Refusal> {
    let id = named(turn)?;
    let identity = turn.core.state.identity(&id).map(|it| view(turn, it));
    let answer = Answer::ok(json!(identity)).with("accept-ranges", "bytes");
    Ok(done(answer, id, None))
}

/// Handles `POST /identities/{id}/:issueAccessToken`.
pub(super) fn issue(turn: &mut Turn<'_>) -> Result<Done, Refusal> {
    let body = turn.call.object()?;
    let scopes = match body.get("scopes") {
        None | Some(Value::Null) => return Err(Refusal::required("Scopes")),
        Some(Value::Array(scopes)) if scopes.is_empty() => return Err(ask::no_scopes("scopes")),
        Some(scopes) => ask::scopes(turn, "Scopes", scopes)?,
    };
    let minutes = ask::minutes(turn, &body)?;
    let id = named(turn)?;
    let mut new = prepare(turn, &id, scopes, minutes)?;
    turn.core.commit(vec![new.event])?;
    if versions::is_legacy(&turn.version) {
        new.answer.insert("id".to_owned(), json!(id));
    }
    let answer = Answer::ok(new.answer.into());
    Ok(done(answer, id, Some(("/token", new.unsigned))))
}

/// Handles `POST /identities/{id}/:revokeAccessTokens`.
pub(super) fn revoke(turn: &mut Turn<'_>) -> Result<Done, Refusal> {
    let id = named(turn)?;
    revoke_until(turn, id, turn.now)
}

/// Handles `PATCH /identities/{id}` with `tokensValidFrom`, of the first preview.
pub(super) fn update(turn: &mut Turn<'_>) -> Result<Done, Refusal> {
    let body = turn.call.object()?;
    let valid_from = body.get("tokensValidFrom").and_then(Value::as_str);
    let valid_from = valid_from.and_then(|text| text.parse::<Timestamp>().ok());
    let valid_from = valid_from.ok_or_else(|| {
        Refusal::model("TokensValidFrom", "The JSON value is not a date and time.")
    })?;
    let id = named(turn)?;
    revoke_until(turn, id, valid_from)
}

fn revoke_until(turn: &mut Turn<'_>, id: String, valid_after: Timestamp) -> Result<Done, Refusal> {
    turn.core.commit(vec![Event::Revoked {
        id: id.clone(),
        valid_after,
        at: turn.now,
    }])?;
    Ok(done(Answer::no_content(), id, None))
}

/// Handles `DELETE /identities/{id}`.
pub(super) fn delete(turn: &mut Turn<'_>) -> Result<Done, Refusal> {
    let id = (*turn.ids.first().unwrap_or(&"")).to_owned();
    let known = turn.core.state.identity(&id);
    let is_deleted = known.is_some_and(|it| it.deleted_at.is_some());
    if is_deleted && turn.settings().second_delete == SecondDelete::NoContent {
        return Ok(done(Answer::no_content(), id, None));
    }
    let id = named(turn)?;
    turn.core.commit(vec![Event::Deleted {
        id: id.clone(),
        at: turn.now,
    }])?;
    Ok(done(Answer::no_content(), id, None))
}

fn done(answer: Answer, id: String, token: Option<(&'static str, Unsigned)>) -> Done {
    Done {
        answer,
        identity: Some(id),
        token,
    }
}

/// Returns the JSON of an identity in the preview; older versions return only its id.
fn view(turn: &Turn<'_>, identity: &Identity) -> Value {
    let mut view = Map::new();
    if versions::has_custom_ids(&turn.version) {
        if let Some(custom_id) = &identity.custom_id {
            view.insert("customId".to_owned(), json!(custom_id));
        }
        if let Some(at) = identity.last_token_issued_at {
            let text = at.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string();
            view.insert("lastTokenIssuedAt".to_owned(), json!(text));
        }
    }
    view.insert("id".to_owned(), json!(identity.id));
    Value::Object(view)
}

/// Returns the id in the path, if its identity can be used.
fn named(turn: &Turn<'_>) -> Result<String, Refusal> {
    let id = *turn.ids.first().unwrap_or(&"");
    let (state, settings) = (&turn.core.state, turn.settings());
    if !state.owns(id) {
        return Err(Refusal::not_owned());
    }
    let is_usable = |it: &Identity| {
        it.deleted_at.is_none() && turn.now >= it.created_at + settings.visibility_delay
    };
    if state.identity(id).is_some_and(is_usable) {
        return Ok(id.to_owned());
    }
    let message = "Provided identity doesn't exist.";
    let answer = |status| Refusal::new(status, "IdentityNotFound", message);
    Err(match settings.unknown_identity {
        UnknownIdentity::NotFound => answer(StatusCode::NOT_FOUND),
        UnknownIdentity::BadRequest => answer(StatusCode::BAD_REQUEST),
        UnknownIdentity::NotOwned => Refusal::not_owned(),
        UnknownIdentity::Denied => Refusal::denied(message),
    })
}

fn new_id(turn: &mut Turn<'_>) -> Result<String, Refusal> {
    if turn.core.state.identities().len() >= MOST_IDENTITIES {
        let message = format!(
            "The emulator has its maximum of {MOST_IDENTITIES} identities; reset it with POST \
             /_emulator/reset"
        );
        return Err(Refusal::too_many(message));
    }
    let (resource, random) = (&turn.core.state.resource, Uuid::new_v4().to_string());
    // Ids of ACS begin with a number that grows slowly.
    let (_, random) = random.split_once('-').unwrap_or_default();
    Ok(format!("8:acs:{resource}_00000006-{random}"))
}

/// Token that is not issued yet.
pub(in super::super) struct NewToken {
    pub event: Event,
    /// `token`, whose value is filled in later, and `expiresOn`.
    pub answer: Map<String, Value>,
    pub unsigned: Unsigned,
}

fn prepare(
    turn: &mut Turn<'_>,
    id: &str,
    scopes: Vec<String>,
    minutes: i32,
) -> Result<NewToken, Refusal> {
    let expires_at = turn.now + turn.emulator.minute * minutes;
    let signer = turn.signer;
    new_token(turn, id, scopes, expires_at, signer)
}

/// Builds a token for any identity, existing or about to be created.
pub(in super::super) fn new_token(
    turn: &mut Turn<'_>,
    id: &str,
    scopes: Vec<String>,
    expires_at: Timestamp,
    key: Signer,
) -> Result<NewToken, Refusal> {
    let issued_at = turn.now;
    if turn.core.state.tokens() >= MOST_TOKENS {
        turn.core.commit(vec![Event::Forgotten {
            expired_at: issued_at,
        }])?;
    }
    if turn.core.state.tokens() >= MOST_TOKENS {
        return Err(Refusal::too_many(format!(
            "The emulator has its maximum of {MOST_TOKENS} tokens that have not expired; reset it \
             with POST /_emulator/reset"
        )));
    }
    let known = turn.core.state.identity(id);
    let valid_after = known.and_then(|it| it.tokens_valid_after);
    let covered = valid_after.filter(|it| turn.core.state.covers(*it, issued_at));
    turn.core.tokens_issued = turn.core.tokens_issued.wrapping_add(1);
    let unsigned = turn.emulator.signer.write(&Contents {
        identity: id,
        resource: &turn.core.state.resource,
        scopes: &scopes,
        issued_at,
        expires_at,
        number: turn.core.tokens_issued,
    });
    let token = Token {
        digest: unsigned.digest(),
        issued_at,
        expires_at,
        scopes,
        key,
        end: covered.map(|at| End {
            at,
            cause: Cause::Revoked,
        }),
    };
    let mut answer = Map::new();
    answer.insert("token".to_owned(), Value::Null);
    answer.insert("expiresOn".to_owned(), turn.expires_on(expires_at).into());
    Ok(NewToken {
        event: Event::Issued {
            id: id.to_owned(),
            token,
        },
        answer,
        unsigned,
    })
}
