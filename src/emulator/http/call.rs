//! Request as received.

use hyper::{HeaderMap, Method, StatusCode, body::Bytes, header};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::answer::Refusal;

/// Request that was received completely.
#[derive(Debug)]
pub(in super::super) struct Call {
    pub method: Method,
    /// Path and query as in the request line.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub is_tls: bool,
}

impl Call {
    /// Returns the path as in the request line.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Returns the decoded segments of the path.
    pub fn segments(&self) -> Result<Vec<String>, Refusal> {
        let path = self.path();
        let path = path.strip_prefix('/').unwrap_or(path);
        path.split('/').map(decoded).collect()
    }

    /// Returns the decoded value of a query parameter; empty if it has none.
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        url::form_urlencoded::parse(query.as_bytes())
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.into_owned())
    }

    /// Returns a header that occurs once and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(value)
    }

    /// Returns the URL without its query, as the client may have written it.
    pub fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        let host = self.header(header::HOST.as_str()).unwrap_or_default();
        format!("{scheme}://{host}{}", self.path())
    }

    /// Returns the JSON object in the body; an empty one if there is no body.
    pub fn object(&self) -> Result<Map<String, Value>, Refusal> {
        if self.body.is_empty() {
            return Ok(Map::new());
        }
        self.check_content_type()?;
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err(Refusal::unreadable(
                "The request body must be a JSON object.",
            )),
            Err(error) => {
                // Only the position: the message of a parser may quote a secret.
                let (line, column) = (error.line(), error.column());
                Err(Refusal::unreadable(format!(
                    "The request body is not valid JSON. LineNumber: {line} | Position: {column}."
                )))
            }
        }
    }

    fn check_content_type(&self) -> Result<(), Refusal> {
        let text = self
            .header(header::CONTENT_TYPE.as_str())
            .unwrap_or_default();
        let mut parts = text.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let is_utf8 = parts
            .filter_map(|part| part.split_once('='))
            .filter(|(name, _)| name.eq_ignore_ascii_case("charset"))
            .all(|(_, value)| value.trim_matches('"').eq_ignore_ascii_case("utf-8"));
        let is_json = matches!(
            kind.as_str(),
            "application/json" | "text/json" | "application/merge-patch+json"
        );
        if is_json && is_utf8 {
            return Ok(());
        }
        Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            "The request body must be of Content-Type application/json, in UTF-8.",
        ))
    }
}

fn decoded(segment: &str) -> Result<String, Refusal> {
    let is_broken = segment
        .split('%')
        .skip(1)
        .any(|rest| !matches!(rest.as_bytes(), [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()));
    let text = percent_decode_str(segment).decode_utf8();
    match text {
        Ok(text) if !is_broken => Ok(text.into_owned()),
        _ => Err(Refusal::unreadable(
            "The path is not a valid percent-encoded text.",
        )),
    }
}
