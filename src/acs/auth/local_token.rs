//! Local token endpoint of a machine, such as that of Cloud Shell: issues tokens of the signed-in
//! user for an allow-list of audiences (API reference 7.4).

use parking_lot::Mutex;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use url::{Url, form_urlencoded};

use super::bearer::Fresh;
use super::token_source::{Exchange, life_until, send};

#[derive(Deserialize)]
struct Granted {
    access_token: SecretText,
    /// Seconds since 1970, as text or as a number.
    #[serde(default)]
    expires_on: Option<Seconds>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(i64),
    Text(String),
}

struct SecretText(SecretString);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into()))
    }
}

/// Requests a token. May be called often: the endpoint caches tokens itself.
pub(super) async fn ask(
    http: &reqwest::Client,
    endpoint: &Url,
    audience: &str,
    last_exchange: &Mutex<Option<Exchange>>,
) -> Result<Fresh, String> {
    let body = form_urlencoded::Serializer::new(String::new())
        .append_pair("resource", audience)
        .finish();
    let answer = send(
        http.post(endpoint.clone())
            // Without this header the endpoint assumes that a web page sent a forged request.
            .header("metadata", "true")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body),
    )
    .await;
    let (granted, date) = match &answer {
        Exchange::Answer {
            status: 200,
            date,
            body,
            ..
        } => (serde_json::from_slice::<Granted>(body).ok(), *date),
        _ => (None, None),
    };
    *last_exchange.lock() = Some(answer);
    let granted = granted.ok_or("no token in the answer")?;
    let end = granted.expires_on.and_then(|end| match end {
        Seconds::Number(number) => Some(number),
        Seconds::Text(text) => text.parse().ok(),
    });
    Ok(Fresh {
        token: granted.access_token.0,
        life: life_until(end, date),
    })
}
