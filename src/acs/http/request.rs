//! Requests to ACS.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use serde::Serialize;

use super::super::{ApiVersion, Operation};

/// Everything but the unreserved characters of RFC 3986.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Request before it is signed.
#[derive(Debug)]
pub(in super::super) struct Request {
    pub operation: Operation,
    pub method: Method,
    /// Path and query, exactly as sent and signed.
    pub target: String,
    /// JSON body, or empty.
    pub body: SecretSlice<u8>,
    /// Whether sending the request twice is harmless.
    pub is_repeatable: bool,
    /// The Teams user's token, which must not appear in an error.
    pub user_token: Option<SecretString>,
}

/// Reason why an id cannot be part of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the identity id must be neither empty nor a dot or two")]
pub(in super::super) struct BadId;

impl Request {
    /// `POST /identities`. The scopes decide which of the two create operations it is.
    pub(in super::super) fn create(
        version: &ApiVersion,
        custom_id: Option<&str>,
        token: Option<(&[&str], u32)>,
    ) -> Self {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            custom_id: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            create_token_with_scopes: Option<&'a [&'a str]>,
            #[serde(skip_serializing_if = "Option::is_none")]
            expires_in_minutes: Option<u32>,
        }
        let body = Body {
            custom_id,
            create_token_with_scopes: token.map(|(scopes, _)| scopes),
            expires_in_minutes: token.map(|(_, minutes)| minutes),
        };
        let operation = match token {
            Some(_) => Operation::CreateIdentityWithToken,
            None => Operation::CreateIdentity,
        };
        Self {
            is_repeatable: custom_id.is_some(),
            ..Self::post(operation, "/identities", version, json(&body))
        }
    }

    /// `POST /identities/{id}/:issueAccessToken`.
    pub(in super::super) fn issue(
        version: &ApiVersion,
        id: &str,
        scopes: &[&str],
        expires_in_minutes: u32,
    ) -> Result<Self, BadId> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            scopes: &'a [&'a str],
            expires_in_minutes: u32,
        }
        let path = format!("{}/:issueAccessToken", path_of(id)?);
        let body = json(&Body {
            scopes,
            expires_in_minutes,
        });
        Ok(Self::post(Operation::IssueToken, &path, version, body))
    }

    /// `POST /identities/{id}/:revokeAccessTokens`.
    pub(in super::super) fn revoke(version: &ApiVersion, id: &str) -> Result<Self, BadId> {
        let path = format!("{}/:revokeAccessTokens", path_of(id)?);
        Ok(Self::post(
            Operation::RevokeTokens,
            &path,
            version,
            SecretSlice::default(),
        ))
    }

    /// `DELETE /identities/{id}`.
    pub(in super::super) fn delete(version: &ApiVersion, id: &str) -> Result<Self, BadId> {
        Ok(Self {
            method: Method::DELETE,
            ..Self::post(
                Operation::DeleteIdentity,
                &path_of(id)?,
                version,
                SecretSlice::default(),
            )
        })
    }

    /// `POST /teamsUser/:exchangeAccessToken`.
    pub(in super::super) fn exchange(
        version: &ApiVersion,
        token: &SecretString,
        app_id: &str,
        user_id: &str,
    ) -> Self {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            token: &'a str,
            app_id: &'a str,
            user_id: &'a str,
        }
        let body = json(&Body {
            token: token.expose_secret(),
            app_id,
            user_id,
        });
        let operation = Operation::ExchangeTeamsToken;
        Self {
            user_token: Some(token.clone()),
            ..Self::post(operation, "/teamsUser/:exchangeAccessToken", version, body)
        }
    }

    fn post(operation: Operation, path: &str, version: &ApiVersion, body: SecretSlice<u8>) -> Self {
        Self {
            operation,
            method: Method::POST,
            target: format!("{path}?api-version={version}"),
            body,
            is_repeatable: true,
            user_token: None,
        }
    }
}

/// Returns the path of an identity: one segment, the whole id, with its colons escaped as the SDKs
/// do.
fn path_of(id: &str) -> Result<String, BadId> {
    if matches!(id, "" | "." | "..") {
        return Err(BadId);
    }
    Ok(format!("/identities/{}", utf8_percent_encode(id, ESCAPED)))
}

fn json(body: &impl Serialize) -> SecretSlice<u8> {
    // Serializing maps of strings, numbers and lists cannot fail.
    serde_json::to_vec(body).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(request: &Request) -> String {
        String::from_utf8(request.body.expose_secret().to_vec()).unwrap()
    }

    #[test]
    fn bodies_hold_what_is_asked_and_nothing_else() {
        let version = ApiVersion::default();
        assert_eq!(body(&Request::create(&version, None, None)), "{}");
        assert_eq!(
            body(&Request::create(&version, Some("a"), None)),
            r#"{"customId":"a"}"#
        );
        assert_eq!(
            body(&Request::create(&version, None, Some((&["chat"], 60)))),
            r#"{"createTokenWithScopes":["chat"],"expiresInMinutes":60}"#
        );
        assert_eq!(
            body(&Request::issue(&version, "8:acs:a_b", &["chat", "voip.join"], 1440).unwrap()),
            r#"{"scopes":["chat","voip.join"],"expiresInMinutes":1440}"#
        );
        assert_eq!(
            body(&Request::exchange(&version, &"t\"".into(), "a", "u")),
            r#"{"token":"t\"","appId":"a","userId":"u"}"#
        );
        assert_eq!(body(&Request::revoke(&version, "a").unwrap()), "");
        assert_eq!(body(&Request::delete(&version, "a").unwrap()), "");
    }

    #[test]
    fn an_id_is_one_escaped_segment() {
        let version = ApiVersion::default();
        for (id, expected) in [
            (
                "8:acs:11-22_33",
                "/identities/8%3Aacs%3A11-22_33?api-version=2023-10-01",
            ),
            (
                "a/b?c#d%e",
                "/identities/a%2Fb%3Fc%23d%25e?api-version=2023-10-01",
            ),
            ("../..", "/identities/..%2F..?api-version=2023-10-01"),
            ("%2e%2e", "/identities/%252e%252e?api-version=2023-10-01"),
            ("é ", "/identities/%C3%A9%20?api-version=2023-10-01"),
        ] {
            let target = Request::delete(&version, id).unwrap().target;
            assert_eq!(target, expected);
            // The signed target must be what the HTTP client sends.
            let url = url::Url::parse(&format!("https://a.example{target}")).unwrap();
            assert_eq!(format!("{}?{}", url.path(), url.query().unwrap()), expected);
        }
        for id in ["", ".", ".."] {
            assert_eq!(Request::delete(&version, id).unwrap_err(), BadId);
            assert_eq!(Request::revoke(&version, id).unwrap_err(), BadId);
            assert_eq!(
                Request::issue(&version, id, &["chat"], 60).unwrap_err(),
                BadId
            );
        }
    }

    #[test]
    fn only_a_create_without_custom_id_must_not_be_repeated() {
        let version = ApiVersion::default();
        assert!(!Request::create(&version, None, None).is_repeatable);
        assert!(!Request::create(&version, None, Some((&["chat"], 60))).is_repeatable);
        assert!(Request::create(&version, Some("a"), None).is_repeatable);
        assert!(
            Request::issue(&version, "a", &["chat"], 60)
                .unwrap()
                .is_repeatable
        );
        assert!(Request::revoke(&version, "a").unwrap().is_repeatable);
        assert!(Request::delete(&version, "a").unwrap().is_repeatable);
        assert!(Request::exchange(&version, &"t".into(), "a", "u").is_repeatable);
    }

    #[test]
    fn a_request_can_not_be_printed_with_its_secrets() {
        let request = Request::exchange(&ApiVersion::default(), &"the-token".into(), "a", "u");
        assert!(!format!("{request:?}").contains("the-token"));
    }
}
