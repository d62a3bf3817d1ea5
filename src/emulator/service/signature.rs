//! Authentication: signatures of the two keys over the raw request (API reference 6), and bearer
//! tokens of Entra ID.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use hyper::{StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::super::{
    http::{Answer, Call, Content, Refusal},
    span,
    state::{
        Signer, State,
        settings::{EntraTokens, RefusedCredential},
    },
};
use super::token;

/// Audiences of ACS, without a trailing slash.
const AUDIENCES: [&str; 2] = [
    "https://communication.azure.com",
    "632ec9eb-fad7-4cbd-993a-e72973ba2acc",
];
const WRONG_HASH: &str = "Request 'x-ms-content-sha256' differs from generated content hash.";
const REFUSED: &str = "Denied by the resource provider.";

/// Reason why a credential was rejected.
pub(super) struct Denial {
    /// Answer to the client.
    pub answer: Answer,
    /// Explanation for developers, for the journal.
    pub why: String,
}

/// Returns the credential that signed a request.
pub(super) fn signer(call: &Call, state: &State, entra: &token::Signer) -> Result<Signer, Denial> {
    let checked = match call.header(header::AUTHORIZATION.as_str()) {
        None => Err("the request does not have exactly one Authorization header".to_owned()),
        Some(value) => match value.split_once(' ') {
            Some(("HMAC-SHA256", parameters)) => by_key(call, parameters, state),
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                by_token(token, state, entra)
            }
            _ => Err("Authorization is neither HMAC-SHA256 nor Bearer".to_owned()),
        },
    };
    checked.map_err(|why| {
        let answer = match (why == WRONG_HASH, state.settings.refused_credential) {
            (true, _) => Refusal::denied(WRONG_HASH).into(),
            (_, RefusedCredential::Denied) => Refusal::denied(REFUSED).into(),
            (_, RefusedCredential::Forbidden) => {
                Refusal::new(StatusCode::FORBIDDEN, "Forbidden", REFUSED).into()
            }
            (_, RefusedCredential::EmptyObject) => Answer::json(
                StatusCode::UNAUTHORIZED,
                Value::Object(serde_json::Map::default()),
            ),
            (_, RefusedCredential::Empty) => Answer {
                content: Content::Nothing,
                ..Answer::json(StatusCode::UNAUTHORIZED, Value::Null)
            },
        };
        Denial { answer, why }
    })
}

fn by_key(call: &Call, parameters: &str, state: &State) -> Result<Signer, String> {
    let parameter = |name: &str| {
        let mut all = parameters.split('&').filter_map(|it| it.split_once('='));
        all.find(|(its, _)| *its == name).map(|(_, value)| value)
    };
    let names = parameter("SignedHeaders").ok_or("Authorization has no SignedHeaders")?;
    let signature = parameter("Signature").ok_or("Authorization has no Signature")?;
    let signature = STANDARD
        .decode(signature)
        .map_err(|_| "the Signature is not base64")?;

    let names: Vec<_> = names.split(';').map(str::to_ascii_lowercase).collect();
    let signs = |name: &str| names.iter().any(|it| it == name);
    for name in ["host", "x-ms-content-sha256"] {
        if !signs(name) {
            return Err(format!("SignedHeaders does not contain {name}"));
        }
    }
    let dates = ["x-ms-date", "date"];
    let date = dates.iter().find(|name| signs(name));
    let date = date.ok_or("SignedHeaders contains neither x-ms-date nor date")?;
    check_date(call.header(date), state)?;
    let hash = STANDARD.encode(Sha256::digest(&call.body));
    if call.header("x-ms-content-sha256") != Some(&hash) {
        return Err(WRONG_HASH.to_owned());
    }

    let mut values = Vec::new();
    for name in &names {
        let value = call.header(name);
        values.push(value.ok_or_else(|| {
            format!(
                "the request does not have exactly one signed \
         header {name}"
            )
        })?);
    }
    let (method, target) = (call.method.as_str(), &call.target);
    let signed = format!("{method}\n{target}\n{}", values.join(";"));
    for (key, signer) in [
        (&state.primary, Signer::Primary),
        (&state.secondary, Signer::Secondary),
    ] {
        let key = STANDARD.decode(&key.value).unwrap_or_default();
        let verified = Hmac::<Sha256>::new_from_slice(&key)
            .is_ok_and(|mac| mac.chain_update(&signed).verify_slice(&signature).is_ok());
        if verified {
            return Ok(signer);
        }
    }
    Err("the signature matches neither key".to_owned())
}

fn check_date(text: Option<&str>, state: &State) -> Result<(), String> {
    let date = text
        .and_then(|text| httpdate::parse_http_date(text).ok())
        .and_then(|time| Timestamp::try_from(time).ok())
        .ok_or("the signed date is missing, repeated or not an HTTP date")?;
    let ahead = date.duration_since(state.now());
    if ahead.abs() > state.settings.clock_skew {
        return Err(format!(
            "the signed date is {} ahead of the clock of the emulator",
            span::text(SignedDuration::from_secs(ahead.as_secs()))
        ));
    }
    Ok(())
}

#[derive(Deserialize)]
struct Claims {
    aud: String,
    exp: i64,
}

fn by_token(token: &str, state: &State, entra: &token::Signer) -> Result<Signer, String> {
    match state.settings.entra_tokens {
        EntraTokens::Any => return Ok(Signer::Entra),
        EntraTokens::None => return Err("the setting entraTokens is none".to_owned()),
        EntraTokens::Issued if !entra.has_signed(token) => {
            return Err("the bearer token is not signed by the emulator's authority".to_owned());
        }
        EntraTokens::Claims | EntraTokens::Issued => {}
    }
    let claims: Claims =
        token::claims(token).ok_or("the bearer token is not a JSON Web Token with aud and exp")?;
    let audience = claims.aud.trim_end_matches('/');
    if !AUDIENCES.contains(&audience) {
        return Err("the bearer token has another audience".to_owned());
    }
    if claims.exp <= state.now().as_second() {
        return Err("the bearer token has expired".to_owned());
    }
    Ok(Signer::Entra)
}
