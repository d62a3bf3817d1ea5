//! Identities and their tokens.

use hyper::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    answer::{Answer, Refusal},
    service::{Done, Turn},
    settings::{
        DeletedCustomId, DuplicateScopes, EmptyScopes, NewerFields, NonIntegerMinutes,
        SecondDelete, UnknownIdentity, UnknownScopes,
    },
    state::{Event, Identity, Signer, Token},
    token::{Facts, Unsigned},
    versions,
};

const DEFAULT_MINUTES: i64 = 1440;
const MOST_IDENTITIES: usize = 200_000;
const MOST_TOKENS_OF_ONE: usize = 10_000;
const LONGEST_CUSTOM_ID: usize = 256;

/// `POST /identities`.
pub(super) fn create(turn: &mut Turn<'_>) -> Result<Done, Refusal> {
    let body = turn.call.object()?;
    let custom_id = custom_id(turn, &body)?;
    let ask = match body.get("createTokenWithScopes") {
        None | Some(Value::Null) => None,
        Some(Value::Array(scopes)) if scopes.is_empty() => {
            match turn.settings().empty_create_scopes {
                EmptyScopes::NoToken => None,
                EmptyScopes::Refused => return Err(no_scopes("createTokenWithScopes")),
            }
        }
        Some(scopes) => Some(read_scopes(turn, "CreateTokenWithScopes", scopes)?),
    };
    let minutes = minutes(turn, &body)?;

    let known = custom_id
        .as_deref()
        .and_then(|it| turn.core.state.by_custom_id(it));
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
    let issued = match ask.filter(|_| issues) {
        Some(scopes) => Some(prepare(turn, &id, scopes, minutes)?),
        None => None,
    };
    let mut token = None;
    let mut access_token = Value::Null;
    if let Some((event, expires_on, unsigned)) = issued {
        events.push(event);
        access_token = json!({"token": "", "expiresOn": expires_on});
        token = Some(("/accessToken/token", unsigned));
    }
    turn.core.commit(events)?;

    if versions::is_legacy(&turn.version) {
        return Ok(done(Answer::ok(json!({"id": id})), id, None));
    }
    let identity = turn.core.state.identity(&id).map(|it| view(turn, it));
    let mut answer = json!({"identity": identity});
    if token.is_some() {
        answer["accessToken"] = access_token;
    }
    Ok(done(Answer::json(StatusCode::CREATED, answer), id, token))
}

/// `GET /identities/{id}`.
pub(super) fn get(turn: &mut Turn<'_>) -> Result<Done, Refusal> {
    let id = named(turn)?;
    let identity = turn.core.state.identity(&id).map(|it| view(turn, it));
    let answer = Answer::ok(json!(identity)).with("accept-ranges", "bytes");
    Ok(done(answer, id, None))
}

/// `POST /identities/{id}/:issueAccessToken`.
pub(super) fn issue(turn: &mut Turn<'_>) -> Result<Done, Refusal> {
    let body = turn.call.object()?;
    let scopes = match body.get("scopes") {
        None | Some(Value::Null) => return Err(Refusal::required("Scopes")),
        Some(Value::Array(scopes)) if scopes.is_empty() => return Err(no_scopes("scopes")),
        Some(scopes) => read_scopes(turn, "Scopes", scopes)?,
    };
    let minutes = minutes(turn, &body)?;
    let id = named(turn)?;
    let (event, expires_on, unsigned) = prepare(turn, &id, scopes, minutes)?;
    turn.core.commit(vec![event])?;
    let mut answer = json!({"token": "", "expiresOn": expires_on});
    if versions::is_legacy(&turn.version) {
        answer["id"] = json!(id);
    }
    Ok(done(Answer::ok(answer), id, Some(("/token", unsigned))))
}

/// `POST /identities/{id}/:revokeAccessTokens`.
pub(super) fn revoke(turn: &mut Turn<'_>) -> Result<Done, Refusal> {
    let id = named(turn)?;
    revoke_until(turn, id, turn.now)
}

/// `PATCH /identities/{id}` with `tokensValidFrom`, of the first preview.
pub(super) fn update(turn: &mut Turn<'_>) -> Result<Done, Refusal> {
    let body = turn.call.object()?;
    let valid_from = body.get("tokensValidFrom").and_then(Value::as_str);
    let valid_from = valid_from.and_then(|text| text.parse::<Timestamp>().ok());
    let valid_from = valid_from
        .ok_or_else(|| Refusal::model("TokensValidFrom", "The JSON value is no date and time."))?;
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

/// `DELETE /identities/{id}`.
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

/// What the preview tells of an identity; older versions have only its id.
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

/// The id in the path, if it is of an identity that can be used.
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
            "The emulator holds {MOST_IDENTITIES} identities and takes no more: POST /_emulator/reset"
        );
        return Err(Refusal::too_many(message));
    }
    let (resource, random) = (&turn.core.state.resource, Uuid::new_v4().to_string());
    // The service's begin with a number that grows slowly.
    let (_, random) = random.split_once('-').unwrap_or_default();
    Ok(format!("8:acs:{resource}_00000006-{random}"))
}

fn custom_id(turn: &Turn<'_>, body: &Map<String, Value>) -> Result<Option<String>, Refusal> {
    if !has(turn, body, "customId", versions::has_custom_ids)? {
        return Ok(None);
    }
    match body.get("customId") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            let length = text.chars().count();
            if turn.settings().custom_id_is_checked && !(1..=LONGEST_CUSTOM_ID).contains(&length) {
                let message = format!("CustomId must have 1 to {LONGEST_CUSTOM_ID} characters.");
                return Err(Refusal::invalid("CustomId", message));
            }
            Ok(Some(text.clone()))
        }
        Some(_) => Err(Refusal::model("CustomId", "The JSON value is no string.")),
    }
}

/// Whether a field is to be looked at in this version.
fn has(
    turn: &Turn<'_>,
    body: &Map<String, Value>,
    field: &'static str,
    is_known: fn(&str) -> bool,
) -> Result<bool, Refusal> {
    let refuses = turn.settings().newer_fields == NewerFields::Refused;
    match is_known(&turn.version) {
        true => Ok(true),
        false if refuses && body.contains_key(field) => {
            let message = format!("{field} is not known in API version {}.", turn.version);
            Err(Refusal::invalid(field, message))
        }
        false => Ok(false),
    }
}

fn no_scopes(target: &'static str) -> Refusal {
    Refusal::invalid(target, "Invalid scopes - Scopes field is required.")
}

fn read_scopes(
    turn: &Turn<'_>,
    target: &'static str,
    scopes: &Value,
) -> Result<Vec<String>, Refusal> {
    let no_list = || Refusal::model(target, "The JSON value is no list of strings.");
    let mut read: Vec<String> = Vec::new();
    for scope in scopes.as_array().ok_or_else(no_list)? {
        let text = scope.as_str().ok_or_else(no_list)?;
        let scope = match turn.settings().scopes_ignore_case {
            true => text.to_ascii_lowercase(),
            false => text.to_owned(),
        };
        if !versions::has_scope(&turn.version, &scope) {
            match turn.settings().unknown_scopes {
                // What becomes part of a token's text is never just anything.
                UnknownScopes::Accepted if is_sound(&scope) => {}
                UnknownScopes::Ignored => continue,
                _ => {
                    let message = format!("Invalid scopes - {scope} is not a known scope.");
                    return Err(Refusal::invalid("scopes", message));
                }
            }
        }
        if read.contains(&scope) {
            match turn.settings().duplicate_scopes {
                DuplicateScopes::Kept => {}
                DuplicateScopes::Merged => continue,
                DuplicateScopes::Refused => {
                    let message = format!("Invalid scopes - {scope} is there twice.");
                    return Err(Refusal::invalid("scopes", message));
                }
            }
        }
        read.push(scope);
    }
    if read.is_empty() {
        return Err(no_scopes("scopes"));
    }
    Ok(read)
}

fn is_sound(scope: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=64).contains(&scope.len()) && scope.chars().all(is_part)
}

fn minutes(turn: &Turn<'_>, body: &Map<String, Value>) -> Result<i64, Refusal> {
    if !has(turn, body, "expiresInMinutes", versions::has_minutes)? {
        return Ok(DEFAULT_MINUTES);
    }
    let value = match body.get("expiresInMinutes") {
        None | Some(Value::Null) => return Ok(DEFAULT_MINUTES),
        Some(value) => value,
    };
    let truncates = turn.settings().non_integer_minutes == NonIntegerMinutes::Truncated;
    let whole = value.as_i64().or_else(|| {
        let number = value.as_f64().or_else(|| value.as_str()?.parse().ok());
        #[allow(clippy::cast_possible_truncation, reason = "that is what is asked for")]
        number.filter(|_| truncates).map(|number| number as i64)
    });
    let whole = whole
        .filter(|it| i32::try_from(*it).is_ok())
        .ok_or_else(|| {
            Refusal::model(
                "ExpiresInMinutes",
                "The JSON value could not be converted to System.Int32.",
            )
        })?;
    if !(60..=1440).contains(&whole) {
        let message = format!(
            "ExpiresInMinutes value {whole} is invalid. Value must be within the [60, 1440] interval."
        );
        return Err(Refusal::invalid("ExpiresInMinutes", message));
    }
    Ok(whole)
}

fn prepare(
    turn: &mut Turn<'_>,
    id: &str,
    scopes: Vec<String>,
    minutes: i64,
) -> Result<(Event, String, Unsigned), Refusal> {
    let life = SignedDuration::from_nanos(
        i64::try_from(turn.emulator.minute.as_nanos()).unwrap_or_default() * minutes,
    );
    let expires_at = turn.now + life;
    let signer = turn.signer;
    new_token(turn, id, scopes, expires_at, signer)
}

/// A token for any identity, known or about to be: what happens, `expiresOn`, and its text.
pub(super) fn new_token(
    turn: &mut Turn<'_>,
    id: &str,
    scopes: Vec<String>,
    expires_at: Timestamp,
    key: Signer,
) -> Result<(Event, String, Unsigned), Refusal> {
    let issued_at = turn.now;
    let known = turn.core.state.identity(id);
    let living = known.map_or(0, |it| {
        let tokens = it.tokens.iter();
        tokens.filter(|token| token.expires_at > issued_at).count()
    });
    if living >= MOST_TOKENS_OF_ONE {
        let message = format!(
            "The emulator keeps {MOST_TOKENS_OF_ONE} tokens of an identity that have not expired; this one has them."
        );
        return Err(Refusal::too_many(message));
    }
    let valid_after = known.and_then(|it| it.tokens_valid_after);
    let end = valid_after
        .filter(|at| turn.core.state.covers(*at, issued_at))
        .map(|at| super::state::End {
            at,
            cause: super::state::Cause::Revoked,
        });
    turn.core.tokens_issued = turn.core.tokens_issued.wrapping_add(1);
    let unsigned = turn.emulator.signer.write(&Facts {
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
        end,
    };
    let event = Event::Issued {
        id: id.to_owned(),
        token,
    };
    Ok((event, turn.expires_on(expires_at), unsigned))
}
