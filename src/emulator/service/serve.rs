//! Request processing of the emulated API.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use hyper::StatusCode;
use jiff::{SignedDuration, Timestamp};
use parking_lot::MutexGuard;
use serde_json::Value;

use super::super::{
    Emulator,
    entra::{assignments, exchange},
    http::{Answer, Call, Content, Operation, Refusal, operation},
    state::{
        Event, Signer, State, Store,
        settings::{ExpiresOn, Limits, MissingApiVersion, RetryAfter, Settings},
    },
};
use super::{identities, repeatability::Repeatable, signature, token::Unsigned, versions};

/// Time window of the published limits.
const WINDOW: Duration = Duration::from_secs(30);

/// State that is locked while a request is processed.
pub(in super::super) struct Core {
    pub state: State,
    pub store: Option<Store>,
    /// Number of issued tokens; makes tokens with the same claims differ.
    pub tokens_issued: u64,
    /// Number of changes.
    pub changes: u64,
    pub repeatable: Repeatable,
    windows: HashMap<Operation, VecDeque<Instant>>,
}

impl Core {
    pub fn new(state: State, store: Option<Store>) -> Self {
        Self {
            state,
            store,
            tokens_issued: uuid::Uuid::new_v4().as_u64_pair().0,
            changes: 0,
            repeatable: Repeatable::new(),
            windows: HashMap::new(),
        }
    }

    /// Stores and applies events, all or none.
    pub fn commit(&mut self, events: Vec<Event>) -> Result<(), Refusal> {
        if let Some(store) = &mut self.store {
            store.append(&events, &self.state).map_err(|error| {
                Refusal::broken(format!("The emulator cannot write its state: {error}"))
            })?;
        }
        for event in events {
            self.state.apply(event);
            self.changes += 1;
        }
        Ok(())
    }

    /// Counts a call; rejects it if the limit is exceeded.
    fn check_limit(&mut self, operation: Operation) -> Result<(), Refusal> {
        let Some(limit) = operation.published_limit() else {
            return Ok(());
        };
        let settings = &self.state.settings;
        if settings.limits == Limits::Off {
            self.windows.clear();
            return Ok(());
        }
        let now = Instant::now();
        let calls = self.windows.entry(operation).or_default();
        while calls
            .front()
            .is_some_and(|at| now.duration_since(*at) >= WINDOW)
        {
            calls.pop_front();
        }
        let Some(oldest) = calls.front().filter(|_| calls.len() >= limit) else {
            calls.push_back(now);
            return Ok(());
        };
        let wait = WINDOW.saturating_sub(now.duration_since(*oldest)).as_secs() + 1;
        let refusal = Refusal::too_many("Too many requests. Try again later.");
        Err(match settings.limit_retry_after {
            RetryAfter::None => refusal,
            RetryAfter::Seconds => refusal.with("retry-after", wait.to_string()),
            RetryAfter::Date => {
                #[allow(clippy::cast_possible_wrap, reason = "at most 31")]
                let at = self.state.now() + SignedDuration::from_secs(wait as i64);
                refusal.with("retry-after", http_date(at))
            }
        })
    }
}

/// Processing of one request, with access to the state.
pub(in super::super) struct Turn<'a> {
    pub emulator: &'a Emulator,
    pub core: MutexGuard<'a, Core>,
    pub call: &'a Call,
    pub operation: Operation,
    /// Variable segments of the path.
    pub ids: Vec<&'a str>,
    pub version: String,
    pub signer: Signer,
    pub now: Timestamp,
}

/// Result of a request.
pub(in super::super) struct Done {
    pub answer: Answer,
    /// Id of the identity, for the journal.
    pub identity: Option<String>,
    /// Token to sign, and the field of the body that it belongs in.
    pub token: Option<(&'static str, Unsigned)>,
}

impl From<Answer> for Done {
    fn from(answer: Answer) -> Self {
        Self {
            answer,
            identity: None,
            token: None,
        }
    }
}

/// Answer, with the details for the journal.
pub(in super::super) struct Handled {
    pub answer: Answer,
    pub identity: Option<String>,
    pub key: Option<Signer>,
    /// Reason why a credential was rejected.
    pub why: Option<String>,
}

impl Handled {
    fn refused(refusal: impl Into<Answer>) -> Self {
        Self {
            answer: refusal.into(),
            identity: None,
            key: None,
            why: None,
        }
    }
}

impl Turn<'_> {
    /// Returns the current settings.
    pub fn settings(&self) -> &Settings {
        &self.core.state.settings
    }

    fn take(&mut self) -> Result<Done, Refusal> {
        use Operation as O;
        match self.operation {
            O::CreateIdentity => identities::create(self),
            O::GetIdentity => identities::get(self),
            O::IssueToken | O::LegacyIssueToken => identities::issue(self),
            O::RevokeTokens => identities::revoke(self),
            O::LegacyUpdateIdentity => identities::update(self),
            O::DeleteIdentity => identities::delete(self),
            O::ExchangeTeamsToken => exchange::teams_user(self),
            O::ExchangeEntraToken => exchange::entra(self),
            O::ExchangeTeamsExtensionToken => exchange::teams_extension(self),
            O::ListEntraAssignments => Ok(assignments::list(self)),
            O::UpdateEntraAssignments => assignments::update(self),
            O::PutEntraAssignment | O::PutTeamsExtensionAssignment => assignments::put(self),
            O::GetEntraAssignment | O::GetTeamsExtensionAssignment => assignments::get(self),
            O::DeleteEntraAssignment | O::DeleteTeamsExtensionAssignment => {
                assignments::delete(self)
            }
            O::EntraToken
            | O::EntraConfiguration
            | O::AppServiceToken
            | O::MachineToken
            | O::LocalToken => Err(Refusal::broken("Nobody signs this.")),
        }
    }
}

impl Emulator {
    /// Answers a request to the emulated API.
    pub(in super::super) fn serve(&self, call: &Call) -> Handled {
        let segments = match call.segments() {
            Ok(segments) => segments,
            Err(refusal) => return Handled::refused(refusal),
        };
        let (operation, ids) = match operation::route(&call.method, &segments) {
            Ok(found) => found,
            Err(allowed) if allowed.is_empty() => {
                let message = "This path does not exist.";
                let refusal = Refusal::new(StatusCode::NOT_FOUND, "NotFound", message);
                return Handled::refused(refusal);
            }
            Err(allowed) => {
                let status = StatusCode::METHOD_NOT_ALLOWED;
                let message = format!("This path supports only {allowed}.");
                let refusal = Refusal::new(status, "MethodNotAllowed", message);
                return Handled::refused(refusal.with("allow", allowed));
            }
        };
        if let Some(answer) = self.entra(call, operation, &ids) {
            return Handled::refused(answer);
        }
        let core = self.core();
        let signer = if operation.is_called_by_users() {
            Signer::Entra
        } else {
            match signature::signer(call, &core.state, &self.signer) {
                Ok(signer) => signer,
                Err(denial) => {
                    return Handled {
                        why: Some(denial.why),
                        ..Handled::refused(denial.answer)
                    };
                }
            }
        };
        let now = core.state.now();
        let mut turn = Turn {
            emulator: self,
            core,
            call,
            operation,
            ids,
            version: String::new(),
            signer,
            now,
        };
        let done = turn.check_version().and_then(|()| {
            turn.core.check_limit(operation)?;
            turn.take()
        });
        // The first variable of these paths is an identity, even if the request fails.
        let named = matches!(segments.first(), Some(first) if first == "identities")
            .then(|| turn.ids.first().map(|id| (*id).to_owned()))
            .flatten();
        drop(turn);
        let key = (!operation.is_called_by_users()).then_some(signer);
        let done = done.unwrap_or_else(|refusal| Answer::from(refusal).into());
        Handled {
            identity: done.identity.or(named),
            key,
            why: None,
            answer: match done.token {
                None => done.answer,
                Some((place, unsigned)) => self.signed(done.answer, place, &unsigned),
            },
        }
    }

    fn signed(&self, mut answer: Answer, place: &str, unsigned: &Unsigned) -> Answer {
        let Some(text) = self.signer.sign(unsigned) else {
            return Refusal::broken(
                "The emulator cannot sign a token: no random numbers are \
             available.",
            )
            .into();
        };
        if let Content::Json(body) = &mut answer.content
            && let Some(token) = body.pointer_mut(place)
        {
            *token = Value::String(text);
        }
        answer
    }
}

impl Turn<'_> {
    fn check_version(&mut self) -> Result<(), Refusal> {
        let refusal = |code, message| Refusal::new(StatusCode::BAD_REQUEST, code, message);
        let unsupported = |version: &str| {
            let url = self.call.url();
            refusal(
                "UnsupportedApiVersion",
                format!(
                    "The HTTP resource that matches the request URI '{url}' does not support the API version '{version}'."
                ),
            )
        };
        let version = self.call.query("api-version").unwrap_or_default();
        if version.is_empty() {
            return Err(match self.settings().missing_api_version {
                MissingApiVersion::Unsupported => unsupported(""),
                MissingApiVersion::Unspecified => refusal(
                    "ApiVersionUnspecified",
                    "An API version is required, but was not specified.".to_owned(),
                ),
            });
        }
        let is_there = self.settings().api_versions.contains(&version);
        if !is_there || !versions::has(&version, self.operation) {
            return Err(unsupported(&version));
        }
        self.version = version;
        Ok(())
    }

    /// Formats `expiresOn` as ACS does.
    pub fn expires_on(&self, at: Timestamp) -> String {
        let fraction = match self.settings().expires_on {
            ExpiresOn::SevenDigits => at.strftime("%.7f").to_string(),
            ExpiresOn::WholeSeconds => String::new(),
            ExpiresOn::Trimmed => {
                let digits = at.strftime("%.7f").to_string();
                digits
                    .trim_end_matches('0')
                    .trim_end_matches('.')
                    .to_owned()
            }
        };
        format!("{}{fraction}+00:00", at.strftime("%Y-%m-%dT%H:%M:%S"))
    }
}

/// Formats a time as in HTTP headers.
pub(in super::super) fn http_date(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
