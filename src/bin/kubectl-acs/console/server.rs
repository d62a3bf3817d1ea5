//! HTTP server of the console.

use std::{convert::Infallible, sync::Arc};

use acs_identity_operator::crd::{AcsToken, Scope};
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Query, Request, State},
    http::{HeaderName, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{
        Html, IntoResponse, Response,
        sse::{KeepAlive, Sse},
    },
    routing::{get, post},
};
use futures::Stream;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    action::{self, Action, Plan},
    door::{Door, ENTRY, Refusal},
    idle::Idle,
    live, rights,
};
use crate::{
    cluster::{
        create::exposed,
        held_token, manifest,
        rights::user,
        session::{ClusterArgs, Session},
    },
    commands::inspect::secret_of_token,
    failure::{Exit, Failure},
};

/// Maximum length of a request body.
const LONGEST_BODY: usize = 64 * 1024;

/// Files for the browser: path, content type, bytes.
const FILES: [(&str, &str, &str); 9] = [
    ("/", "text/html", include_str!("page/page.html")),
    ("/page.css", "text/css", include_str!("page/page.css")),
    ("/app.js", JAVASCRIPT, include_str!("page/app.js")),
    ("/table.js", JAVASCRIPT, include_str!("page/table.js")),
    ("/detail.js", JAVASCRIPT, include_str!("page/detail.js")),
    ("/act.js", JAVASCRIPT, include_str!("page/act.js")),
    ("/create.js", JAVASCRIPT, include_str!("page/create.js")),
    ("/dialog.js", JAVASCRIPT, include_str!("page/dialog.js")),
    ("/tools.js", JAVASCRIPT, include_str!("page/tools.js")),
];
const JAVASCRIPT: &str = "text/javascript";

/// Headers of every answer. They forbid resources of other origins, inline scripts, framing, and
/// caching on disk.
const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    (header::CACHE_CONTROL, "no-store"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// Console of one session.
pub struct Console {
    session: Session,
    place: ClusterArgs,
    door: Door,
    idle: Idle,
}

type Shared = State<Arc<Console>>;

impl Console {
    /// Creates the console for the cluster and user of `session`.
    pub fn new(session: Session, place: ClusterArgs, door: Door, idle: Idle) -> Arc<Self> {
        Arc::new(Self {
            session,
            place,
            door,
            idle,
        })
    }

    /// Returns the session for another namespace.
    fn within(&self, namespace: &str) -> Session {
        Session {
            namespace: namespace.to_owned(),
            ..self.session.clone()
        }
    }
}

/// Returns the router with all paths of the console.
pub fn router(console: Arc<Console>) -> Router {
    let mut router = Router::new()
        .route(ENTRY, get(enter))
        .route("/api/about", get(about))
        .route("/api/live", get(changes))
        .route("/api/rights", get(missing_rights))
        .route("/api/plan", post(plan))
        .route("/api/do", post(carry_out))
        .route("/api/token", post(token));
    for (path, kind, content) in FILES {
        let kind = format!("{kind}; charset=utf-8");
        let file = move || async move { ([(header::CONTENT_TYPE, kind)], content) };
        router = router.route(path, get(file));
    }
    router
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .layer(from_fn_with_state(Arc::clone(&console), guard))
        .with_state(console)
}

/// Applies the access control, and adds the headers to every answer.
async fn guard(State(console): Shared, request: Request, next: Next) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    let checked = console.door.check(method, path, request.headers());
    let answer = match checked {
        Ok(()) => {
            console.idle.touch();
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    };
    (HEADERS, answer).into_response()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, format!("{}\n", self.1)).into_response()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match self.exit {
            Exit::Usage => StatusCode::UNPROCESSABLE_ENTITY,
            Exit::NotFound => StatusCode::NOT_FOUND,
            Exit::Forbidden => StatusCode::FORBIDDEN,
            Exit::Conflict | Exit::Stalled => StatusCode::CONFLICT,
            Exit::Unreachable | Exit::NotInstalled => StatusCode::BAD_GATEWAY,
            Exit::NotYet => StatusCode::GATEWAY_TIMEOUT,
            Exit::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(json!({"error": self.message}))).into_response()
    }
}

#[derive(Deserialize)]
struct Entry {
    secret: String,
}

/// Exchanges the one-time secret for the cookie. The answer is a page that redirects by itself,
/// because a browser does not send a Strict cookie when it follows an HTTP redirect from a link of
/// another site.
async fn enter(State(console): Shared, Query(entry): Query<Entry>) -> Response {
    let Some(cookie) = console.door.enter(&entry.secret) else {
        let why = "This URL was already used, or belongs to another console. Start `kubectl acs \
         console` again for a new URL.";
        return Refusal(StatusCode::UNAUTHORIZED, why).into_response();
    };
    let page = "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"0; url=/\">\
                <title>kubectl acs console</title></head><body><p><a href=\"/\">Go on to the console</a></p></body></html>";
    ([(header::SET_COOKIE, cookie)], Html(page)).into_response()
}

/// Returns the data that the page needs to start.
async fn about(State(console): Shared) -> Json<Value> {
    let session = &console.session;
    let (user, in_all, namespaces) = futures::join!(
        user(session),
        rights::missing_for_all_namespaces(session),
        rights::namespaces(session)
    );
    let is_fixed = console.place.namespace.is_some();
    let may_see_all = in_all.as_ref().is_ok_and(Option::is_none);
    Json(json!({
        "server": session.server,
        "user": user,
        // The empty string means all namespaces.
        "namespace": if may_see_all && !is_fixed { "" } else { session.namespace.as_str() },
        "missingForAll": in_all.unwrap_or_else(|failure| Some(failure.message)),
        "namespaces": namespaces,
        "scopes": manifest::SCOPES.map(Scope::as_str),
    }))
}

#[derive(Deserialize)]
struct Within {
    /// Namespace; empty means all.
    namespace: String,
}

/// Streams the changes of a namespace, or of all, while the page is connected.
async fn changes(
    State(console): Shared,
    Query(within): Query<Within>,
) -> Sse<impl Stream<Item = Result<axum::response::sse::Event, Infallible>>> {
    let session = console.within(&within.namespace);
    let watcher = console.idle.watch();
    let changes = live::changes(&session, within.namespace.is_empty(), watcher);
    Sse::new(changes).keep_alive(KeepAlive::default())
}

/// Returns, for each action, the permissions that the user lacks.
async fn missing_rights(
    State(console): Shared,
    Query(about): Query<rights::About>,
) -> Result<Json<Value>, Failure> {
    let session = console.within(&about.namespace);
    rights::missing(&session, &about).await.map(Json)
}

/// Returns the preview of an action.
async fn plan(State(console): Shared, Json(action): Json<Action>) -> Result<Json<Plan>, Failure> {
    action::plan(&console.place, &action).await.map(Json)
}

/// Runs an action to completion, even if the page disconnects meanwhile.
async fn carry_out(
    State(console): Shared,
    Json(action): Json<Action>,
) -> Result<Json<Value>, Failure> {
    let task = tokio::spawn(async move { action::carry_out(&console.place, &action).await });
    let ended = task.await;
    let notes = ended.map_err(|error| Failure::new(Exit::Failed, error.to_string()))??;
    Ok(Json(json!({"notes": notes})))
}

#[derive(Deserialize)]
struct Wanted {
    namespace: String,
    token: String,
}

/// Token that the user requested to see.
#[derive(Serialize)]
struct Shown {
    #[serde(serialize_with = "exposed")]
    token: SecretString,
}

/// Returns the token of an `AcsToken`: the only answer that contains one.
async fn token(State(console): Shared, Json(wanted): Json<Wanted>) -> Result<Json<Shown>, Failure> {
    for name in [&wanted.namespace, &wanted.token] {
        manifest::name(name).map_err(|why| Failure::new(Exit::Usage, why))?;
    }
    let session = console.within(&wanted.namespace);
    let named = session.named::<AcsToken>(&wanted.token);
    let api = session.api::<AcsToken>();
    let token = session.call("read", &named, api.get(&wanted.token)).await?;
    let held = held_token::read(&session, &secret_of_token(&token), None).await?;
    Ok(Json(Shown { token: held.token }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_text_without_script_or_style_in_its_markup() {
        for (path, _, content) in FILES {
            assert!(!content.is_empty(), "{path}");
            if path == "/" {
                for forbidden in ["<style", "style=", "onclick", "javascript:"] {
                    assert!(!content.contains(forbidden), "{path} has {forbidden}");
                }
            }
        }
    }
}
