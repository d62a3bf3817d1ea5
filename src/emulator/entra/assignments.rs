//! Assignments: users and groups of a tenant that may exchange tokens of Entra ID (API reference
//! 3.8 and 3.9).

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::{
    http::{Answer, Refusal},
    service::{Done, Turn},
    state::Event,
};

/// Path of an assignment: `entra/{object}` or `teamsExtension/{tenant}/{object}`.
pub(in super::super) type Location = String;

const MOST: usize = 10_000;
/// Maximum length of an id in characters, and of a list of applications.
const LONGEST: usize = 100;

/// Principal that may exchange its tokens, and the applications that it may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct Assignment {
    pub object_id: String,
    pub tenant_id: String,
    pub principal_type: String,
    pub client_ids: Vec<String>,
}

fn place(turn: &Turn<'_>) -> Location {
    match *turn.ids {
        [tenant, object] => format!("teamsExtension/{tenant}/{object}"),
        [object] => format!("entra/{object}"),
        _ => String::new(),
    }
}

fn not_found() -> Refusal {
    let message = "The assignment doesn't exist.";
    Refusal::new(StatusCode::NOT_FOUND, "NotFound", message)
}

/// Handles `PUT` of one assignment.
pub(in super::super) fn put(turn: &mut Turn<'_>) -> Result<Done, Refusal> {
    let body = Value::Object(turn.call.object()?);
    let assignment = match *turn.ids {
        [tenant, object] => read(&body, object, Some(tenant))?,
        _ => read(&body, turn.ids.first().unwrap_or(&""), None)?,
    };
    let place = place(turn);
    let is_new = !turn.core.state.assignments.contains_key(&place);
    if is_new && turn.core.state.assignments.len() >= MOST {
        return Err(Refusal::too_many(format!(
            "The emulator supports at most {MOST} assignments."
        )));
    }
    let answer = json!(assignment);
    turn.core
        .commit(vec![Event::Assigned { place, assignment }])?;
    let status = if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok(Answer::json(status, answer).into())
}

/// Handles `GET` of one assignment.
pub(in super::super) fn get(turn: &mut Turn<'_>) -> Result<Done, Refusal> {
    let found = turn.core.state.assignments.get(&place(turn));
    let assignment = found.ok_or_else(not_found)?;
    Ok(Answer::ok(json!(assignment)).into())
}

/// Handles `DELETE` of one assignment; succeeds if it does not exist.
pub(in super::super) fn delete(turn: &mut Turn<'_>) -> Result<Done, Refusal> {
    let place = place(turn);
    turn.core.commit(vec![Event::Unassigned { place }])?;
    Ok(Answer::no_content().into())
}

/// Handles `GET /access/entra/assignments`. Returns a single page.
pub(in super::super) fn list(turn: &Turn<'_>) -> Done {
    let all = turn.core.state.assignments.iter();
    let entra: Vec<_> = all
        .filter(|(place, _)| place.starts_with("entra/"))
        .map(|(_, assignment)| assignment)
        .collect();
    Answer::ok(json!({"value": entra})).into()
}

/// Handles `PATCH /access/entra/assignments`, whose body maps object ids to assignments or to null.
pub(in super::super) fn update(turn: &mut Turn<'_>) -> Result<Done, Refusal> {
    let mut events = Vec::new();
    for (object, value) in turn.call.object()? {
        let place = format!("entra/{object}");
        events.push(match value {
            Value::Null => Event::Unassigned { place },
            value => Event::Assigned {
                place,
                assignment: read(&value, &object, None)?,
            },
        });
    }
    if turn.core.state.assignments.len() + events.len() > MOST {
        return Err(Refusal::too_many(format!(
            "The emulator supports at most {MOST} assignments."
        )));
    }
    turn.core.commit(events)?;
    Ok(Answer::no_content().into())
}

/// Parses one assignment. Those of the Teams extension have their tenant in the path and need no
/// applications.
fn read(body: &Value, object: &str, tenant: Option<&str>) -> Result<Assignment, Refusal> {
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let principal_type = text("principalType").ok_or_else(|| Refusal::required("PrincipalType"))?;
    let principal_types: &[&str] = match tenant {
        Some(_) => &["user", "resourceAccount", "teamsResourceAccount"],
        None => &["user", "group", "tenant"],
    };
    if !principal_types.contains(&principal_type) {
        let message = format!("Must be one of {}.", principal_types.join(", "));
        return Err(Refusal::model("PrincipalType", &message));
    }
    let tenant_id = tenant.or_else(|| text("tenantId"));
    let tenant_id = tenant_id.ok_or_else(|| Refusal::required("TenantId"))?;
    let is_short = |text: &&str| text.len() <= LONGEST;
    if [object, tenant_id].iter().any(|it| !is_short(it)) {
        let message = format!("Ids of tenants and objects have at most {LONGEST} characters.");
        return Err(Refusal::invalid("ObjectId", message));
    }
    let no_list = || {
        Refusal::model(
            "ClientIds",
            "The JSON value is not a list of up to 100 short strings.",
        )
    };
    let client_ids = match body.get("clientIds") {
        None | Some(Value::Null) if tenant.is_some() => Vec::new(),
        None | Some(Value::Null) => return Err(Refusal::required("ClientIds")),
        Some(list) => {
            let list = list.as_array().filter(|it| it.len() <= LONGEST);
            let texts = list.ok_or_else(no_list)?.iter();
            let texts = texts.map(|it| it.as_str().filter(is_short).map(str::to_owned));
            texts.collect::<Option<_>>().ok_or_else(no_list)?
        }
    };
    Ok(Assignment {
        object_id: object.to_owned(),
        tenant_id: tenant_id.to_owned(),
        principal_type: principal_type.to_owned(),
        client_ids,
    })
}
