//! Parsing of request bodies, with the rules of ACS.

use serde_json::{Map, Value};

use super::super::{
    http::Refusal,
    state::settings::{DuplicateScopes, NewerFields, NonIntegerMinutes, UnknownScopes},
};
use super::{serve::Turn, versions};

const DEFAULT_MINUTES: i32 = 1440;
const LONGEST_CUSTOM_ID: usize = 256;
/// Maximum length of a custom id, even if the settings disable the length check.
const LONGEST_CUSTOM_ID_EVER: usize = 4096;

/// Parses `customId`, if the version has it.
pub(super) fn custom_id(
    turn: &Turn<'_>,
    body: &Map<String, Value>,
) -> Result<Option<String>, Refusal> {
    if !has(turn, body, "customId", versions::has_custom_ids)? {
        return Ok(None);
    }
    match body.get("customId") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            let length = text.chars().count();
            let is_out_of_bounds = !(1..=LONGEST_CUSTOM_ID).contains(&length);
            if turn.settings().custom_id_is_checked && is_out_of_bounds
                || length > LONGEST_CUSTOM_ID_EVER
            {
                let message = format!("CustomId must have 1 to {LONGEST_CUSTOM_ID} characters.");
                return Err(Refusal::invalid("CustomId", message));
            }
            Ok(Some(text.clone()))
        }
        Some(_) => Err(Refusal::model(
            "CustomId",
            "The JSON value is not a string.",
        )),
    }
}

/// Whether a field exists in this version.
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
            let message = format!("API version {} does not support {field}.", turn.version);
            Err(Refusal::invalid(field, message))
        }
        false => Ok(false),
    }
}

/// Returns the error of ACS for an empty list of scopes.
pub(super) fn no_scopes(target: &'static str) -> Refusal {
    Refusal::invalid(target, "Invalid scopes - Scopes field is required.")
}

/// Parses a list of scopes, as the settings require.
pub(super) fn scopes(
    turn: &Turn<'_>,
    target: &'static str,
    scopes: &Value,
) -> Result<Vec<String>, Refusal> {
    let no_list = || Refusal::model(target, "The JSON value is not a list of strings.");
    let mut read: Vec<String> = Vec::new();
    for scope in scopes.as_array().ok_or_else(no_list)? {
        let text = scope.as_str().ok_or_else(no_list)?;
        let mut scope = text.to_owned();
        if turn.settings().scopes_ignore_case {
            scope.make_ascii_lowercase();
        }
        if !versions::has_scope(&turn.version, &scope) {
            match turn.settings().unknown_scopes {
                // Only well-formed text becomes part of a token.
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
                    let message = format!("Invalid scopes - {scope} occurs twice.");
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

/// Parses `expiresInMinutes`, if the version has it.
pub(super) fn minutes(turn: &Turn<'_>, body: &Map<String, Value>) -> Result<i32, Refusal> {
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
    let whole = whole.and_then(|it| i32::try_from(it).ok());
    let no_integer = "The JSON value could not be converted to System.Int32.";
    let whole = whole.ok_or_else(|| Refusal::model("ExpiresInMinutes", no_integer))?;
    if !(60..=1440).contains(&whole) {
        let message = format!(
            "ExpiresInMinutes value {whole} is invalid. Value must be within the [60, 1440] interval."
        );
        return Err(Refusal::invalid("ExpiresInMinutes", message));
    }
    Ok(whole)
}
