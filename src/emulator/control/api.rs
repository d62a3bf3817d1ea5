//! Control API of the emulator, which the real service does not have, under `/_emulator/`:
//! unsigned, in JSON.

use hyper::{Method, StatusCode, header};
use jiff::SignedDuration;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::super::{
    Emulator, base64, connection_string,
    http::{Answer, Call, Refusal},
    span,
    state::{AccessKey, Event, Faults, Identity, Signer, State, settings::Settings},
};

const PAGE: &str = include_str!("page.html");
/// Content security policy of the page: it loads from and connects to the emulator only.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

impl Emulator {
    /// Answers a request to `/_emulator` or `/metrics`. Returns `None` for every other path.
    pub(in super::super) fn control(&self, call: &Call) -> Option<Answer> {
        let path = call.path();
        let answer = if path == "/metrics" {
            match call.method {
                Method::GET => Ok(Answer::text(
                    "application/openmetrics-text; version=1.0.0; charset=utf-8",
                    self.metrics_text(),
                )),
                _ => Err(other_method("GET")),
            }
        } else {
            let rest = path.strip_prefix("/_emulator")?;
            if !rest.is_empty() && !rest.starts_with('/') {
                return None;
            }
            check_origin(call).and_then(|()| self.route(call, rest))
        };
        let mut answer = answer.unwrap_or_else(Answer::from);
        answer.names_versions = false;
        Some(answer.with("cache-control", "no-store"))
    }

    fn route(&self, call: &Call, path: &str) -> Result<Answer, Refusal> {
        let method = call.method.as_str();
        match (path, method) {
            ("", "GET") => {
                Ok(Answer::json(StatusCode::FOUND, Value::Null).with("location", "/_emulator/"))
            }
            ("/", "GET") => Ok(Answer::text("text/html; charset=utf-8", PAGE)
                .with("content-security-policy", PAGE_POLICY)),
            ("/healthz", "GET") => Ok(self.health()),
            ("/identities", "GET") => Ok(self.identities(call)),
            ("/check", "POST") => self.check(call),
            ("/requests", "GET") => Ok(Answer::ok(json!(self.journal().newest(limit(call))))),
            ("/requests", "DELETE") => {
                self.journal().clear();
                Ok(Answer::no_content())
            }
            ("/faults", "GET") => Ok(Answer::ok(json!(self.faults().all))),
            ("/faults", "PUT") => {
                let faults = Faults::read(json_of(call)?).map_err(Refusal::unreadable)?;
                let answer = Answer::ok(json!(faults));
                self.faults().all = faults;
                Ok(answer)
            }
            ("/faults", "DELETE") => {
                self.faults().all.clear();
                Ok(Answer::no_content())
            }
            ("/keys/primary/regenerate", "POST") => self.regenerate(call, Signer::Primary),
            ("/keys/secondary/regenerate", "POST") => self.regenerate(call, Signer::Secondary),
            ("/clock", "GET") => Ok(clock(&self.core().state)),
            ("/clock", "PUT") => self.set_clock(call),
            ("/settings", "GET") => Ok(Answer::ok(json!(self.core().state.settings))),
            ("/settings", "PUT") => self.set_settings(Map::new(), call),
            ("/settings", "PATCH") => {
                let current = json!(self.core().state.settings);
                let current = current.as_object().cloned().unwrap_or_default();
                self.set_settings(current, call)
            }
            ("/settings", "DELETE") => self.put_settings(Settings::default()),
            ("/jwks.json", "GET") => Ok(Answer::ok(self.signer.key_set())),
            ("/reset", "POST") => {
                self.core().commit(vec![Event::Reset])?;
                self.faults().all.clear();
                self.journal().clear();
                Ok(Answer::no_content())
            }
            _ => Err(refusal_of(path)),
        }
    }

    fn health(&self) -> Answer {
        let core = self.core();
        let identities = core.state.identities();
        let living = identities.iter().filter(|it| it.deleted_at.is_none());
        let answer = json!({
            "status": "ok", "identities": living.count(), "tokens": core.state.tokens(), "changes": core.changes,
            "requests": self.journal().count(),
        });
        Answer::ok(answer)
    }

    fn identities(&self, call: &Call) -> Answer {
        let core = self.core();
        let all = core.state.identities();
        let skipped = all.len().saturating_sub(limit(call));
        let newest = all.iter().skip(skipped);
        Answer::ok(newest.map(|it| view(&core.state, it)).collect())
    }

    /// Reports how ACS would judge a client's token.
    fn check(&self, call: &Call) -> Result<Answer, Refusal> {
        #[derive(Deserialize)]
        struct Body {
            token: String,
        }
        let body: Body = json_of(call)?;
        let Some(read) = self.signer.read(body.token.trim()) else {
            return Ok(Answer::ok(json!({
                "valid": false, "reason": "notOfThisService", "identityId": null, "scopes": null,
                "issuedAt": null, "expiresAt": null, "key": null,
            })));
        };
        let core = self.core();
        let now = core.state.now();
        let identity = core.state.identity(&read.identity);
        let token = identity.and_then(|it| it.tokens.iter().find(|it| it.digest == read.digest));
        let (issued_at, expires_at) = match token {
            Some(token) => (token.issued_at, token.expires_at),
            None => (read.issued_at, read.expires_at),
        };
        let reason = match token {
            Some(token) => core.state.refusal(token, now),
            None if now >= read.expires_at => Some("expired"),
            None => Some("unknown"),
        };
        Ok(Answer::ok(json!({
            "valid": reason.is_none(), "reason": reason, "identityId": read.identity, "scopes": read.scopes,
            "issuedAt": issued_at, "expiresAt": expires_at, "key": token.map(|it| it.key),
        })))
    }

    fn regenerate(&self, call: &Call, key: Signer) -> Result<Answer, Refusal> {
        let mut core = self.core();
        let random = [
            Uuid::new_v4(),
            Uuid::new_v4(),
            Uuid::new_v4(),
            Uuid::new_v4(),
        ];
        let bytes: Vec<u8> = random.iter().flat_map(|it| *it.as_bytes()).collect();
        let value = base64(&bytes);
        let configured = match key {
            Signer::Primary => core.state.primary.configured.clone(),
            _ => core.state.secondary.configured.clone(),
        };
        let at = core.state.now();
        let access_key = AccessKey {
            value: value.clone(),
            configured,
        };
        core.commit(vec![Event::KeyChanged {
            key,
            value: access_key,
            at,
        }])?;
        let host = call.header(header::HOST.as_str()).unwrap_or_default();
        let scheme = if call.is_tls { "https" } else { "http" };
        let connection_string = connection_string(scheme, host, &value);
        Ok(Answer::ok(json!({"connectionString": connection_string})))
    }

    fn set_clock(&self, call: &Call) -> Result<Answer, Refusal> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Body {
            #[serde(with = "span")]
            offset: SignedDuration,
        }
        let body: Body = json_of(call)?;
        let mut core = self.core();
        core.commit(vec![Event::Clock {
            offset: body.offset,
        }])?;
        Ok(clock(&core.state))
    }

    fn set_settings(&self, mut base: Map<String, Value>, call: &Call) -> Result<Answer, Refusal> {
        let changes: Map<String, Value> = json_of(call)?;
        base.extend(changes);
        let settings = serde_json::from_value(Value::Object(base));
        let settings: Settings =
            settings.map_err(|error| Refusal::unreadable(error.to_string()))?;
        self.put_settings(settings)
    }

    fn put_settings(&self, settings: Settings) -> Result<Answer, Refusal> {
        let answer = Answer::ok(json!(settings));
        self.core().commit(vec![Event::Settings(settings)])?;
        Ok(answer)
    }
}

fn clock(state: &State) -> Answer {
    let offset = span::text(state.clock_offset);
    Answer::ok(json!({"offset": offset, "now": state.now()}))
}

fn view(state: &State, identity: &Identity) -> Value {
    let now = state.now();
    let tokens = identity.tokens.iter().map(|token| {
        let reason = state.refusal(token, now);
        json!({
            "issuedAt": token.issued_at, "expiresAt": token.expires_at, "scopes": token.scopes, "key": token.key,
            "revoked": reason.is_some_and(|it| it != "expired"),
            "revokedAt": token.end.map(|it| it.at), "endCause": token.end.map(|it| it.cause),
        })
    });
    json!({
        "id": identity.id, "customId": identity.custom_id, "createdAt": identity.created_at,
        "tokensValidAfter": identity.tokens_valid_after, "deletedAt": identity.deleted_at,
        "tokens": tokens.collect::<Value>(),
    })
}

/// Parses `?limit=`, the number of newest entries to return; all if it is absent.
fn limit(call: &Call) -> usize {
    let limit = call.query("limit").and_then(|text| text.parse().ok());
    limit.unwrap_or(usize::MAX)
}

fn json_of<T: DeserializeOwned>(call: &Call) -> Result<T, Refusal> {
    serde_json::from_slice(&call.body).map_err(|error| Refusal::unreadable(error.to_string()))
}

/// Rejects requests from other web pages, which the browser identifies by their origin.
fn check_origin(call: &Call) -> Result<(), Refusal> {
    let Some(origin) = call.header(header::ORIGIN.as_str()) else {
        return Ok(());
    };
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    if authority == call.header(header::HOST.as_str()) {
        return Ok(());
    }
    let message = "Pages of other origins cannot use the control API.";
    Err(Refusal::new(StatusCode::FORBIDDEN, "Forbidden", message))
}

fn other_method(allowed: &str) -> Refusal {
    let message = format!("This path supports only {allowed}.");
    let status = StatusCode::METHOD_NOT_ALLOWED;
    Refusal::new(status, "MethodNotAllowed", message).with("allow", allowed)
}

fn refusal_of(path: &str) -> Refusal {
    let allowed = match path {
        "" | "/" | "/healthz" | "/identities" | "/jwks.json" => "GET",
        "/check" | "/reset" | "/keys/primary/regenerate" | "/keys/secondary/regenerate" => "POST",
        "/requests" => "GET, DELETE",
        "/faults" => "GET, PUT, DELETE",
        "/clock" => "GET, PUT",
        "/settings" => "GET, PUT, PATCH, DELETE",
        _ => {
            let message = "This path does not exist; docs/emulator.md lists the paths.";
            return Refusal::new(StatusCode::NOT_FOUND, "NotFound", message);
        }
    };
    other_method(allowed)
}
