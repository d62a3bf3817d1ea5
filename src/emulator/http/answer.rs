//! Answers and errors, worded as ACS words them.

use std::borrow::Cow;

use hyper::StatusCode;
use serde_json::{Value, json};

/// Answer before its headers are added.
#[derive(Debug)]
pub(in super::super) struct Answer {
    pub status: StatusCode,
    pub content: Content,
    /// Whether the answer has `api-supported-versions`.
    pub names_versions: bool,
    /// Error code, for the journal.
    pub error_code: Option<String>,
    /// Additional headers.
    pub headers: Vec<(&'static str, String)>,
}

/// Body of an answer.
#[derive(Debug)]
pub(in super::super) enum Content {
    Nothing,
    Json(Value),
    Text(&'static str, Cow<'static, str>),
}

/// Error in the envelope of ACS.
#[derive(Debug)]
pub(in super::super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    target: Option<&'static str>,
    /// Whether the error comes from the web framework: such answers do not list the versions.
    is_of_framework: bool,
    headers: Vec<(&'static str, String)>,
}

impl Answer {
    /// Returns a successful answer.
    pub fn json(status: StatusCode, body: Value) -> Self {
        Self {
            status,
            content: Content::Json(body),
            names_versions: true,
            error_code: None,
            headers: Vec::new(),
        }
    }

    /// Returns 200 with a body.
    pub fn ok(body: Value) -> Self {
        Self::json(StatusCode::OK, body)
    }

    /// Returns 204.
    pub fn no_content() -> Self {
        Self {
            content: Content::Nothing,
            ..Self::json(StatusCode::NO_CONTENT, Value::Null)
        }
    }

    /// Returns 200 with text of a content type.
    pub fn text(content_type: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            content: Content::Text(content_type, text.into()),
            ..Self::json(StatusCode::OK, Value::Null)
        }
    }

    /// Adds a header.
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
    /// Returns an error.
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

    /// Returns a 400 of ACS's own validation.
    pub fn invalid(target: &'static str, message: impl Into<String>) -> Self {
        Self {
            target: Some(target),
            ..Self::new(StatusCode::BAD_REQUEST, "ValidationError", message)
        }
    }

    /// Returns a 400 of the web framework's model validation.
    pub fn model(target: &'static str, message: &str) -> Self {
        Self {
            is_of_framework: true,
            ..Self::invalid(target, format!("{target}: {message}"))
        }
    }

    /// Returns the model validation error for a missing required field.
    pub fn required(target: &'static str) -> Self {
        Self::model(target, &format!("The {target} field is required."))
    }

    /// Returns the error for a body, or another part of the request, that the framework cannot
    /// parse.
    pub fn unreadable(message: impl Into<String>) -> Self {
        Self {
            is_of_framework: true,
            ..Self::new(StatusCode::BAD_REQUEST, "ValidationError", message)
        }
    }

    /// Returns a 401 for a credential.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Denied", message)
    }

    /// Returns a 401 for an id that belongs to another resource or never existed.
    pub fn not_owned() -> Self {
        let message = "Provided identity doesn't belong to the resource.";
        Self::new(StatusCode::UNAUTHORIZED, "IdentityNotOwned", message)
    }

    /// Returns a 401 for a user's token.
    pub fn invalid_user_token() -> Self {
        let message = "Provided access token is not valid.";
        Self::new(StatusCode::UNAUTHORIZED, "InvalidAccessToken", message)
    }

    /// Returns a 429.
    pub fn too_many(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
    }

    /// Returns a 500, for internal errors of the emulator.
    pub fn broken(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalServerError",
            message,
        )
    }

    /// Adds a header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}
