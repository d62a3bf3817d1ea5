use std::fmt;

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::{claims::claims, digest};

use super::{PastedError, clean};

/// A Teams user's access token of Microsoft Entra ID, which ACS exchanges for an ACS token. ACS
/// verifies its signature.
#[derive(Clone, Debug)]
pub struct UserToken {
    /// Token.
    pub token: SecretString,
    /// Hash of the token, by which a new token is detected.
    pub fingerprint: String,
    /// Expiry, by Entra's clock.
    pub expires_on: Timestamp,
}

/// Reason why a text is not the expected user's token. Discloses nothing of the text: a person who
/// may reference the Secret may not be allowed to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserTokenError {
    /// The text is something else that was pasted by mistake.
    Pasted(PastedError),
    /// The text is not an access token of a user.
    NoUserToken,
    /// The token belongs to another user.
    OtherUser,
    /// The token was obtained with another application.
    OtherApplication,
}

#[derive(Deserialize)]
struct Claims {
    oid: String,
    exp: i64,
    /// Application id, in tokens of version 1.
    appid: Option<String>,
    /// Application id, in tokens of version 2.
    azp: Option<String>,
}

impl UserToken {
    /// Parses `text`, which must be a JWT of the user with the object id `user_id`, obtained with
    /// the application `app_id`. Nothing else is ever sent for an exchange, so that a reference to
    /// any other secret discloses nothing.
    pub fn parse(text: &str, app_id: &str, user_id: &str) -> Result<Self, UserTokenError> {
        let cleaned = clean(text).map_err(UserTokenError::Pasted)?;
        let text = cleaned.expose_secret();
        let claims: Claims = claims(text).ok_or(UserTokenError::NoUserToken)?;
        let expires_on =
            Timestamp::from_second(claims.exp).map_err(|_| UserTokenError::NoUserToken)?;
        let application = claims.appid.or(claims.azp);
        let application = application.ok_or(UserTokenError::NoUserToken)?;
        if !claims.oid.eq_ignore_ascii_case(user_id) {
            return Err(UserTokenError::OtherUser);
        }
        if !application.eq_ignore_ascii_case(app_id) {
            return Err(UserTokenError::OtherApplication);
        }
        let hasher = Sha256::new()
            .chain_update("acs-identity-operator/user-token:")
            .chain_update(text);
        Ok(Self {
            fingerprint: digest::short(hasher, 12),
            token: cleaned,
            expires_on,
        })
    }
}

impl fmt::Display for UserTokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pasted(what) => return what.fmt(f),
            Self::NoUserToken => {
                "is no access token of a user of Microsoft Entra ID (a JWT with oid, appid or azp, and exp)"
            }
            Self::OtherUser => "is the Entra token of another user than userId",
            Self::OtherApplication => {
                "is an Entra token that was obtained with another application than appId"
            }
        })
    }
}

impl std::error::Error for UserTokenError {}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    const APP: &str = "11111111-2222-3333-4444-555555555555";
    const USER: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";

    fn jwt(claims: &serde_json::Value) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    #[test]
    fn a_token_of_the_user_and_application_is_taken_in_both_versions() {
        for claim in ["appid", "azp"] {
            let text = jwt(&serde_json::json!({"oid": USER, claim: APP, "exp": 1_800_000_000}));
            let read = UserToken::parse(&format!("{text}\n"), &APP.to_uppercase(), USER).unwrap();
            assert_eq!(read.expires_on.as_second(), 1_800_000_000);
            let again = UserToken::parse(&text, APP, &USER.to_uppercase()).unwrap();
            assert_eq!(read.fingerprint, again.fingerprint);
            assert!(!format!("{read:?}").contains(&text));
        }
    }

    #[test]
    fn nothing_else_is_taken() {
        let good = serde_json::json!({"oid": USER, "appid": APP, "exp": 1_800_000_000});
        let but = |claim: &str, value: serde_json::Value| {
            let mut claims = good.clone();
            claims[claim] = value;
            jwt(&claims)
        };
        let says = |text: &str| UserToken::parse(text, APP, USER).unwrap_err();
        let json = format!(r#"{{"accessToken":"{}"}}"#, jwt(&good));
        assert_eq!(says(&json), UserTokenError::Pasted(PastedError::Json));
        assert!(UserToken::parse(&format!("\u{feff}\"{}\"", jwt(&good)), APP, USER).is_ok());
        for text in [
            "",
            "a password",
            "a.b.c",
            &jwt(&serde_json::json!({"oid": USER, "exp": 1})),
            &but("exp", serde_json::json!("soon")),
            &but("exp", serde_json::json!(i64::MAX)),
            &format!("{}.more", jwt(&good)),
        ] {
            assert_eq!(says(text), UserTokenError::NoUserToken, "{text}");
        }
        assert_eq!(says(&but("oid", APP.into())), UserTokenError::OtherUser);
        let other = says(&but("appid", USER.into()));
        assert_eq!(other, UserTokenError::OtherApplication);
    }
}
