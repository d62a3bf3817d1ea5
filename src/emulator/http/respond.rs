//! Answers with their headers (API reference 8.4).

use std::time::Instant;

use http_body_util::Full;
use hyper::{
    HeaderMap, Response,
    body::Bytes,
    header::{self, HeaderName, HeaderValue},
};
use jiff::Timestamp;
use uuid::Uuid;

use super::super::{base64, service::http_date, state::settings::Settings};
use super::{
    answer::{Answer, Content},
    operation::Operation,
};

/// Header that each answer of the emulator has, and no answer of the HTTP library itself.
pub(super) const MARK: &str = "ms-cv";
/// Maximum length of a client's request id that is echoed.
const LONGEST_ID: usize = 200;

impl Answer {
    /// Returns the bytes of the body, and its content type.
    pub fn bytes(&self) -> (Bytes, Option<&'static str>) {
        match &self.content {
            Content::Nothing => (Bytes::new(), None),
            Content::Text(content_type, text) => {
                (Bytes::copy_from_slice(text.as_bytes()), Some(content_type))
            }
            Content::Json(value) => {
                let content_type = if self.status.is_success() {
                    "application/json; charset=utf-8"
                } else {
                    "application/json"
                };
                (value.to_string().into(), Some(content_type))
            }
        }
    }

    /// Returns the answer with all its headers.
    pub(super) fn response(self, context: &AnswerContext<'_>) -> Response<Full<Bytes>> {
        let (bytes, content_type) = self.bytes();
        let mut response = Response::new(Full::new(bytes));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        put(
            headers,
            MARK,
            &format!("{}.0", &base64(Uuid::new_v4().as_bytes())),
        );
        put(headers, header::DATE.as_str(), &http_date(context.now));
        if let Some(content_type) = content_type {
            put(headers, header::CONTENT_TYPE.as_str(), content_type);
        }
        if let (true, Some(versions)) = (self.names_versions, &context.versions) {
            put(headers, "api-supported-versions", versions);
        }
        put(headers, "request-context", "appId=");
        put(headers, "strict-transport-security", "max-age=2592000");
        put(headers, "x-azure-ref", &Uuid::new_v4().simple().to_string());
        put(headers, "x-cache", "CONFIG_NOCACHE");
        let elapsed = context.begun.elapsed().as_millis();
        put(headers, "x-processing-time", &format!("{elapsed}ms"));
        for (name, value) in &self.headers {
            put(headers, name, value);
        }
        if let Some(id) = context.client_request_id() {
            headers.insert(
                HeaderName::from_static("x-ms-client-request-id"),
                id.clone(),
            );
        }
        response
    }
}

/// Values that the headers of an answer are built from.
pub(super) struct AnswerContext<'a> {
    pub now: Timestamp,
    pub begun: Instant,
    pub versions: Option<String>,
    /// Headers of the request.
    pub headers: &'a HeaderMap,
}

impl AnswerContext<'_> {
    /// Returns the client's request id, if the client requests its echo.
    fn client_request_id(&self) -> Option<&HeaderValue> {
        let asks = self.headers.get("x-ms-return-client-request-id")?;
        let id = self.headers.get("x-ms-client-request-id")?;
        (asks.as_bytes().eq_ignore_ascii_case(b"true") && id.len() <= LONGEST_ID).then_some(id)
    }
}

/// Returns the list for `api-supported-versions`.
pub(super) fn versions(operation: Operation, settings: &Settings) -> String {
    let all = settings.api_versions.iter();
    let near: Vec<_> = all
        .filter(|it| operation.is_near(it))
        .map(String::as_str)
        .collect();
    near.join(", ")
}

fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}
