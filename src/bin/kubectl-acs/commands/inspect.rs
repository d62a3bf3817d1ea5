//! `inspect`: prints the claims of the token in a Secret, without the token itself.

use acs_identity_operator::crd::{AcsToken, scopes_text};
use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value, json};

use crate::{
    cluster::{
        held_token::{self, Held},
        manifest,
        session::{ClusterArgs, Session},
    },
    commands::complete,
    failure::{Exit, Failure},
    view::{
        output::{self, Format},
        span,
    },
};

/// Show the claims of the token in a Secret, without the token itself
///
/// Shows the claims of the token, its expiry, and whether the Secret still holds the token that the
/// operator issued. Exits with 3 if the token has expired or was edited.
#[derive(Clone, Debug, Args)]
pub struct Inspect {
    /// Name of an AcsToken or of a Secret
    #[arg(value_parser = manifest::name, add = complete::tokens())]
    name: String,
    /// Key of the token in the Secret's data [default: the key that the operator recorded]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Also show the token
    #[arg(long)]
    show_token: bool,
    /// Output format [default: readable lines]
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

/// Runs `inspect`.
pub async fn inspect(place: &ClusterArgs, command: Inspect) -> Result<(), Failure> {
    let session = place.connect().await?;
    let secret = secret_of(&session, &command.name).await?;
    let held = held_token::read(&session, &secret, command.key.as_deref()).await?;
    let Some(claims) = held.claims() else {
        let message = format!(
            "key {} of {} holds no ACS token: it is not a JWT; choose another key with --key",
            held.key,
            session.named::<Secret>(&secret)
        );
        return Err(Failure::new(Exit::Usage, message));
    };
    let now = Timestamp::now();
    let is_expired = held.ends().is_some_and(|end| end <= now);
    let is_edited = held.is_genuine() == Some(false);
    let mut result = record(&session, &held, is_expired, claims);
    if command.show_token {
        result.insert("token".to_owned(), held.token.expose_secret().into());
    }
    match command.output {
        Some(format) => output::print(&output::render(format, &Value::Object(result))?),
        None => output::print(&lines(&result, now)),
    }
    let problem = match (is_expired, is_edited) {
        (false, false) => return Ok(()),
        (_, true) => "the token is not the token that the operator issued: the Secret was edited",
        (true, _) => "the token has expired",
    };
    let message = format!(
        "{}: {problem}; run `kubectl acs status` for the reason",
        session.named::<Secret>(&secret)
    );
    Err(Failure::new(Exit::Stalled, message))
}

/// Returns the Secret of an `AcsToken`: the one that holds its token, or else the one that will.
pub fn secret_of_token(token: &AcsToken) -> String {
    let written = token
        .status
        .as_ref()
        .and_then(|status| status.secret_name.clone());
    written.unwrap_or_else(|| token.secret_name())
}

/// Returns the Secret of the `AcsToken` with that name, or else the Secret with that name.
async fn secret_of(session: &Session, name: &str) -> Result<String, Failure> {
    let named = session.named::<AcsToken>(name);
    let api = session.api::<AcsToken>();
    let token = session.call("read", &named, api.get_opt(name)).await?;
    let Some(token) = token else {
        let named = session.named::<Secret>(name);
        let api = session.api::<Secret>();
        let found = session
            .call("read", &named, api.get_metadata_opt(name))
            .await?;
        return match found {
            Some(_) => Ok(name.to_owned()),
            None => Err(Failure::new(
                Exit::NotFound,
                format!(
                    "no AcsToken or Secret {}/{name} exists; run `kubectl acs status` to list the \
                     tokens",
                    session.namespace
                ),
            )),
        };
    };
    Ok(secret_of_token(&token))
}

/// Returns all properties except the token.
fn record(
    session: &Session,
    held: &Held,
    is_expired: bool,
    claims: Map<String, Value>,
) -> Map<String, Value> {
    let mut record = Map::new();
    let mut put = |key: &str, value: Value| {
        record.insert(key.to_owned(), value);
    };
    put("namespace", session.namespace.as_str().into());
    put("secret", held.secret.as_str().into());
    put("key", held.key.as_str().into());
    if let Some(owner) = &held.owner {
        put("acsToken", owner.as_str().into());
    }
    put("expired", is_expired.into());
    if let Some(end) = held.ends() {
        put("expiresOn", end.to_string().into());
    }
    if let Some(noted) = &held.record {
        put("identityId", noted.identity_id.as_str().into());
        put("scopes", scopes_text(&noted.parameters.scopes).into());
        put("issuedAt", noted.issued_at.to_string().into());
        put("fingerprint", noted.fingerprint.as_str().into());
        put("revision", noted.revision.into());
    }
    if let Some(is_genuine) = held.is_genuine() {
        put("edited", json!(!is_genuine));
    }
    put("claims", Value::Object(claims));
    record
}

/// Returns the properties as lines for people.
fn lines(record: &Map<String, Value>, now: Timestamp) -> String {
    let text = |key: &str| record.get(key).and_then(Value::as_str);
    let time = |key: &str| {
        let text = text(key)?;
        let time: Timestamp = text.parse().ok()?;
        Some(format!("{text} ({})", span::from_now(time, now)))
    };
    let mut lines = Vec::new();
    let mut line = |label: &str, value: Option<String>| {
        lines.extend(value.map(|value| format!("{label:12} {value}\n")));
    };
    let secret = [text("namespace"), text("secret")]
        .map(Option::unwrap_or_default)
        .join("/");
    let key = text("key").unwrap_or_default();
    line("Secret", Some(format!("{secret}, key {key}")));
    line("AcsToken", text("acsToken").map(ToOwned::to_owned));
    line("Identity", text("identityId").map(ToOwned::to_owned));
    line("Scopes", text("scopes").map(ToOwned::to_owned));
    line("Issued", time("issuedAt"));
    line("Expires", time("expiresOn"));
    line(
        "Bytes",
        record.get("edited").map(|edited| {
            let text = if *edited == Value::Bool(true) {
                "changed since issue"
            } else {
                "unchanged since issue"
            };
            text.to_owned()
        }),
    );
    line("Token", text("token").map(ToOwned::to_owned));
    let claims = record.get("claims").and_then(Value::as_object);
    for (number, (key, value)) in claims.into_iter().flatten().enumerate() {
        let label = if number == 0 { "Claims" } else { "" };
        line(label, Some(format!("{key}: {value}")));
    }
    lines.concat()
}
