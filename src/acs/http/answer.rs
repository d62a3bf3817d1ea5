//! HTTP answers of ACS, and the values parsed from them.

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::clock::http_date;

/// Upper bound of `Retry-After`, in seconds: a longer wait would never end in practice.
const LONGEST_WAIT_S: i64 = 24 * 60 * 60;
/// Maximum accepted length of an id: several times the length of any real one.
const LONGEST_ID: usize = 512;

/// HTTP answer, as far as it was received.
pub(in super::super) struct Answer {
    pub status: u16,
    /// Media type, such as `text/html`.
    pub content_type: Option<String>,
    pub date: Option<Timestamp>,
    pub received_at: Timestamp,
    pub ms_cv: Option<String>,
    pub retry_after: Option<SignedDuration>,
    pub body: Body,
}

/// Body of an answer.
pub(in super::super) enum Body {
    Whole(Vec<u8>),
    /// The connection broke, or the timeout elapsed, before the body was complete.
    Broken,
    /// The body is larger than any answer of ACS.
    TooLarge,
}

/// Error object of ACS.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Complaint {
    #[serde(default)]
    pub code: Option<String>,
    #[serde(default)]
    pub message: Option<String>,
}

/// Members `identity` and `accessToken` of the answer to a create.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct CreateAnswer {
    pub identity: IdentityAnswer,
    pub access_token: Option<TokenAnswer>,
}

#[derive(Deserialize)]
pub(in super::super) struct IdentityAnswer {
    pub id: String,
}

/// Token and its expiry, in the answer to an issue or an exchange.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct TokenAnswer {
    #[serde(deserialize_with = "secret")]
    pub token: SecretString,
    pub expires_on: Timestamp,
}

impl IdentityAnswer {
    /// Whether the id can be used in a path and as a label in a log.
    pub(in super::super) fn is_sound(&self) -> bool {
        !matches!(self.id.as_str(), "" | "." | "..")
            && self.id.len() <= LONGEST_ID
            && self.id.chars().all(|c| c.is_ascii_graphic())
    }
}

impl TokenAnswer {
    /// Whether the answer contains a token.
    pub(in super::super) fn is_sound(&self) -> bool {
        !self.token.expose_secret().trim().is_empty()
    }
}

fn secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

impl Answer {
    /// Parses the body of a successful answer.
    pub(in super::super) fn success<T: DeserializeOwned>(&self) -> Option<T> {
        if self.is_success() {
            self.parse()
        } else {
            None
        }
    }

    /// Whether the status is a success.
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Parses the body. Returns `None` if it is not what ACS would send; the parser's message is
    /// dropped because it may quote a token.
    fn parse<T: DeserializeOwned>(&self) -> Option<T> {
        match &self.body {
            Body::Whole(bytes) => serde_json::from_slice(bytes).ok(),
            Body::Broken | Body::TooLarge => None,
        }
    }

    /// Returns the error object of ACS; an empty one for `{}`. Returns `None` if the body is not
    /// from ACS.
    pub(super) fn complaint(&self) -> Option<Complaint> {
        #[derive(Deserialize)]
        struct Envelope {
            #[serde(default)]
            error: Option<Complaint>,
        }
        self.parse::<Envelope>()
            .map(|envelope| envelope.error.unwrap_or_default())
    }

    /// Returns the error object of ACS if it has any content. Nothing else counts as a verdict of
    /// ACS: proxies answer with any status and any other body.
    pub(super) fn judgement(&self) -> Option<Complaint> {
        self.complaint()
            .filter(|complaint| complaint.code.is_some() || complaint.message.is_some())
    }

    /// Whether the answer may come from ACS: its body is JSON or empty. ACS has answered 401 with
    /// `{}`.
    pub(super) fn may_be_of_the_service(&self) -> bool {
        match &self.body {
            Body::Whole(bytes) if bytes.is_empty() => true,
            Body::Whole(_) => self.complaint().is_some(),
            Body::Broken => self.has_type("application/json"),
            Body::TooLarge => false,
        }
    }

    fn has_type(&self, media_type: &str) -> bool {
        self.content_type.as_deref() == Some(media_type)
    }

    /// Describes an answer that is not from ACS: its content type and, unless it is an HTML page,
    /// its text.
    pub(super) fn description(&self) -> String {
        let content_type = match &self.content_type {
            Some(media_type) => format!("content type {media_type}"),
            None => "no content type".to_owned(),
        };
        match self.words() {
            Some(words) if !self.has_type("text/html") => format!("{content_type}: {words}"),
            Some(_) => content_type,
            None => format!("{content_type}, empty body"),
        }
    }

    /// Returns the message of the answer, before scrubbing. Never quotes the body of what should
    /// have been a success: it may hold a token.
    pub(super) fn words(&self) -> Option<String> {
        let is_success = self.is_success();
        let complaint = if is_success { None } else { self.complaint() };
        match (&self.body, complaint) {
            (_, Some(complaint)) => complaint.message,
            (Body::Whole(bytes), _) if bytes.is_empty() => None,
            (Body::Whole(_), _) if self.has_type("text/html") => Some("an HTML page".to_owned()),
            (Body::Whole(_), _) if is_success => Some("not of the expected form".to_owned()),
            (Body::Whole(bytes), _) => Some(String::from_utf8_lossy(bytes).into_owned()),
            (Body::Broken, _) => Some("cut off".to_owned()),
            (Body::TooLarge, _) => Some("far too long".to_owned()),
        }
    }
}

/// Parses `Retry-After`: seconds, or a date, which is relative to the answer's own `Date`.
pub(super) fn retry_after(text: &str, now: Timestamp) -> Option<SignedDuration> {
    let text = text.trim();
    let wait = if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
        SignedDuration::from_secs(text.parse().unwrap_or(LONGEST_WAIT_S))
    } else {
        http_date(text)?.duration_since(now)
    };
    Some(wait.clamp(
        SignedDuration::ZERO,
        SignedDuration::from_secs(LONGEST_WAIT_S),
    ))
}

#[cfg(test)]
impl Answer {
    /// Returns an answer with this status and body only.
    pub(super) fn new(status: u16, body: &str) -> Self {
        Self {
            status,
            content_type: match body.chars().next() {
                Some('{') => Some("application/json".to_owned()),
                Some('<') => Some("text/html".to_owned()),
                _ => None,
            },
            date: None,
            received_at: Timestamp::UNIX_EPOCH,
            ms_cv: None,
            retry_after: None,
            body: Body::Whole(body.as_bytes().to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_read_from_what_there_is() {
        let complaint = |body| Answer::new(400, body).complaint();
        assert_eq!(complaint("{}"), Some(Complaint::default()));
        assert_eq!(complaint(r#"{"error":null}"#), Some(Complaint::default()));
        assert_eq!(
            complaint(r#"{"error":{"code":null}}"#),
            Some(Complaint::default())
        );
        assert_eq!(
            complaint(r#"{"error":{"code":"A","target":"x"}}"#)
                .unwrap()
                .code
                .unwrap(),
            "A"
        );
        for body in [
            "",
            "null",
            "<html>",
            r#"{"error":"text"}"#,
            r#"{"error":{"code":1}}"#,
        ] {
            assert_eq!(complaint(body), None, "{body}");
        }
    }

    #[test]
    fn what_should_be_a_success_is_never_quoted() {
        let token = r#"{"token":"the-token","expiresOn":"soon"}"#;
        assert_eq!(
            Answer::new(200, token).words().unwrap(),
            "not of the expected form"
        );
        let message = r#"{"error":{"message":"the-token"}}"#;
        assert_eq!(
            Answer::new(200, message).words().unwrap(),
            "not of the expected form"
        );
        assert_eq!(
            Answer::new(200, "<html>the-token").words().unwrap(),
            "an HTML page"
        );
        assert_eq!(Answer::new(400, "oops").words().unwrap(), "oops");
    }

    #[test]
    fn what_is_not_of_the_service_is_described() {
        for (body, expected) in [
            ("<html>", "content type text/html"),
            ("", "no content type, empty body"),
            ("gone", "no content type: gone"),
            ("{}", "content type application/json, empty body"),
        ] {
            assert_eq!(Answer::new(400, body).description(), expected);
        }
    }

    #[test]
    fn expiry_is_read_in_every_form() {
        for text in [
            "2022-11-15T10:47:56.6575944+00:00",
            "2022-11-15T11:47:56.6575944\\u002B01:00",
            "2022-11-15T10:47:56.657594400Z",
        ] {
            let body = format!(r#"{{"token":"t","expiresOn":"{text}","new":1}}"#);
            let read: TokenAnswer = Answer::new(200, &body).success().expect(text);
            assert_eq!(
                read.expires_on,
                "2022-11-15T10:47:56.6575944Z".parse().unwrap()
            );
        }
        let whole: Option<TokenAnswer> = Answer::new(
            200,
            r#"{"token":"t","expiresOn":"2022-11-15T10:47:56+00:00"}"#,
        )
        .success();
        assert!(whole.is_some());
        for text in ["", "soon", "2022-11-15", "2022-11-15T10:47:56"] {
            let body = format!(r#"{{"token":"t","expiresOn":"{text}"}}"#);
            assert!(
                Answer::new(200, &body).success::<TokenAnswer>().is_none(),
                "{text}"
            );
        }
    }

    #[test]
    fn unsound_ids_and_tokens_are_told() {
        for id in ["", ".", "..", "a b", "a\n", "é"] {
            assert!(!IdentityAnswer { id: id.to_owned() }.is_sound(), "{id:?}");
        }
        assert!(
            !IdentityAnswer {
                id: "a".repeat(513)
            }
            .is_sound()
        );
        assert!(
            IdentityAnswer {
                id: "8:acs:1-2_3-4".to_owned()
            }
            .is_sound()
        );
        let expires_on = Timestamp::UNIX_EPOCH;
        assert!(
            !TokenAnswer {
                token: " ".into(),
                expires_on
            }
            .is_sound()
        );
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("0", Some(0)),
            (" 17 ", Some(17)),
            ("86401", Some(86_400)),
            ("99999999999999999999999", Some(86_400)),
            ("Thu, 01 Jan 2026 00:00:17 GMT", Some(17)),
            ("Wed, 31 Dec 2025 00:00:00 GMT", Some(0)),
            ("Thu, 01 Jan 2099 00:00:00 GMT", Some(86_400)),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
        ] {
            let wait = retry_after(text, now).map(|wait| wait.as_secs());
            assert_eq!(wait, expected, "{text}");
        }
    }
}
