//! Answers and refusals as the service words them.

use std::borrow::Cow;

use hyper::StatusCode;
use serde_json::{Value, json};

/// An answer before it has its headers.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub content: Content,
    /// Whether `api-supported-versions` is there.
    pub names_versions: bool,
    /// For the journal.
    pub error_code: Option<String>,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
}

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Content {
    Nothing,
    Json(Value),
    Text(&'static str, Cow<'static, str>),
}

/// A refusal in the service's envelope.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    target: Option<&'static str>,
    /// Answers of the web framework itself don't name the versions.
    is_of_framework: bool,
    headers: Vec<(&'static str, String)>,
}

impl Answer {
    /// A success.
    pub fn json(status: StatusCode, body: Value) -> Self {
        Self {
            status,
            content: Content::Json(body),
            names_versions: true,
            error_code: None,
            headers: Vec::new(),
        }
    }

    /// 200 with a body.
    pub fn ok(body: Value) -> Self {
        Self::json(StatusCode::OK, body)
    }

    /// 204.
    pub fn no_content() -> Self {
        Self {
            content: Content::Nothing,
            ..Self::json(StatusCode::NO_CONTENT, Value::Null)
        }
    }

    /// 200 with text of a type.
    pub fn text(content_type: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            content: Content::Text(content_type, text.into()),
            ..Self::json(StatusCode::OK, Value::Null)
        }
    }

    /// With a further header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let mut error = json!({"code": refusal.code, "message": refusal.message});
        if let (Some(target), Some(error)) = (refusal.target, error.as_object_mut()) {
            error.insert("target".to_owned(), target.into());
        }
        Self {
            status: refusal.status,
            content: Content::Json(json!({"error": error})),
            names_versions: !refusal.is_of_framework,
            error_code: Some(refusal.code.to_owned()),
            headers: refusal.headers,
        }
    }
}

impl Refusal {
    /// A refusal with these.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            target: None,
            is_of_framework: false,
            headers: Vec::new(),
        }
    }

    /// 400 of the service's own rules.
    pub fn invalid(target: &'static str, message: impl Into<String>) -> Self {
        Self {
            target: Some(target),
            ..Self::new(StatusCode::BAD_REQUEST, "ValidationError", message)
        }
    }

    /// 400 of the web framework's model check.
    pub fn model(target: &'static str, message: &str) -> Self {
        Self {
            is_of_framework: true,
            ..Self::invalid(target, format!("{target}: {message}"))
        }
    }

    /// The model check for a field that must be there.
    pub fn required(target: &'static str) -> Self {
        Self::model(target, &format!("The {target} field is required."))
    }

    /// A body, or something else of the request, that the framework can't read.
    pub fn unreadable(message: impl Into<String>) -> Self {
        Self {
            is_of_framework: true,
            ..Self::new(StatusCode::BAD_REQUEST, "ValidationError", message)
        }
    }

    /// 401 of a credential.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Denied", message)
    }

    /// 401 for an id of another resource, or an invented one.
    pub fn not_owned() -> Self {
        let message = "Provided identity doesn't belong to the resource.";
        Self::new(StatusCode::UNAUTHORIZED, "IdentityNotOwned", message)
    }

    /// 401 for the token of a user.
    pub fn invalid_user_token() -> Self {
        let message = "Provided access token is not valid.";
        Self::new(StatusCode::UNAUTHORIZED, "InvalidAccessToken", message)
    }

    /// 429.
    pub fn too_many(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
    }

    /// 500, of the emulator's own troubles.
    pub fn broken(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalServerError",
            message,
        )
    }

    /// With a further header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}
