//! Access tokens: RS256 with the claims of ACS tokens (API reference 5.2), signed with a public
//! test key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jiff::Timestamp;
use ring::{
    digest::{SHA1_FOR_LEGACY_USE_ONLY, digest},
    rand::SystemRandom,
    rsa::{KeyPair, PublicKeyComponents},
    signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Generated for this file and published with it: it protects nothing.
const PUBLIC_TEST_KEY: &str = include_str!("token-signing-key.pem");
const KEY_ID: &str = "106";
/// Claim of the samples of ACS, regardless of the scopes.
const SCP: u16 = 1792;
/// Data location, in all tokens.
const LOCATION: &str = "unitedstates";

/// Contents of a new token.
pub(in super::super) struct Contents<'a> {
    /// Full id of the identity.
    pub identity: &'a str,
    pub resource: &'a str,
    pub scopes: &'a [String],
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    /// Number that makes tokens with the same contents differ.
    pub number: u64,
}

/// Token before it is signed.
pub(in super::super) struct Unsigned {
    input: String,
}

/// Contents of a token that this emulator issued.
pub(in super::super) struct Read {
    pub digest: String,
    pub identity: String,
    pub scopes: Vec<String>,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}

/// Signs tokens and recognizes its own.
pub(in super::super) struct Signer {
    key: KeyPair,
    header: String,
    thumbprint: String,
}

impl Signer {
    /// Fails if the built-in key is invalid.
    pub fn new() -> Result<Self, &'static str> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(PUBLIC_TEST_KEY.as_bytes())
            .map_err(|_| "the built-in key is not a PEM")?;
        let key = KeyPair::from_pkcs8(der.secret_pkcs8_der())
            .map_err(|_| "the built-in key is not an RSA key")?;
        let thumbprint = digest(&SHA1_FOR_LEGACY_USE_ONLY, key.public_key().as_ref());
        let thumbprint = BASE64URL.encode(thumbprint);
        let header =
            format!(r#"{{"alg":"RS256","kid":"{KEY_ID}","x5t":"{thumbprint}","typ":"JWT"}}"#);
        Ok(Self {
            key,
            header: BASE64URL.encode(header),
            thumbprint,
        })
    }

    /// Builds a token. Its first two parts contain neither `-` nor `_`, since some readers decode
    /// them as plain base64: ASCII without `>`, `?` and `~` never encodes to either.
    pub fn write(&self, contents: &Contents<'_>) -> Unsigned {
        let (from, until) = (
            contents.issued_at.as_second(),
            contents.expires_at.as_second(),
        );
        let mut claims = vec![
            claim(
                "skypeid",
                contents.identity.strip_prefix("8:").unwrap_or_default(),
            ),
            claim("scp", SCP),
            claim("csi", from.to_string()),
            claim("iat", from),
            claim("exp", until),
            claim("acsScope", contents.scopes.join(",")),
            claim("resourceId", contents.resource),
            claim("resourceLocation", LOCATION),
        ];
        // The claims of ACS have no field for a number, and tokens issued in one second must
        // differ: the order of the claims encodes the number.
        let mut number = contents.number;
        let mut ordered = Vec::new();
        while !claims.is_empty() {
            let left = claims.len() as u64;
            #[allow(clippy::cast_possible_truncation, reason = "less than 8")]
            ordered.push(claims.remove((number % left) as usize));
            number /= left;
        }
        let payload = format!("{{{}}}", ordered.join(","));
        Unsigned {
            input: format!("{}.{}", self.header, BASE64URL.encode(payload)),
        }
    }

    /// Signs a token with other claims than those of ACS. Returns `None` if there is no randomness.
    pub fn sign_claims(&self, claims: &Value) -> Option<String> {
        let payload = BASE64URL.encode(claims.to_string());
        self.sign(&Unsigned {
            input: format!("{}.{payload}", self.header),
        })
    }

    /// Whether this emulator signed a token.
    pub fn has_signed(&self, token: &str) -> bool {
        let Some((input, signature)) = token.rsplit_once('.') else {
            return false;
        };
        let key =
            UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.key.public_key().as_ref());
        BASE64URL
            .decode(signature)
            .is_ok_and(|signature| key.verify(input.as_bytes(), &signature).is_ok())
    }

    /// Signs a token and returns its text. Returns `None` if there is no randomness.
    pub fn sign(&self, token: &Unsigned) -> Option<String> {
        let mut signature = vec![0; self.key.public().modulus_len()];
        let input = token.input.as_bytes();
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                input,
                &mut signature,
            )
            .ok()?;
        Some(format!("{}.{}", token.input, BASE64URL.encode(signature)))
    }

    /// Parses a token. Returns `None` if this emulator did not sign it.
    pub fn read(&self, token: &str) -> Option<Read> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Claims {
            skypeid: String,
            acs_scope: String,
            iat: i64,
            exp: i64,
        }
        let (input, _) = token.rsplit_once('.')?;
        if !self.has_signed(token) {
            return None;
        }
        let claims: Claims = claims(token)?;
        Some(Read {
            digest: digest_of(input),
            identity: format!("8:{}", claims.skypeid),
            scopes: claims.acs_scope.split(',').map(str::to_owned).collect(),
            issued_at: Timestamp::from_second(claims.iat).ok()?,
            expires_at: Timestamp::from_second(claims.exp).ok()?,
        })
    }

    /// Returns the public key as a JSON Web Key Set.
    pub fn key_set(&self) -> Value {
        let public: PublicKeyComponents<Vec<u8>> = self.key.public().into();
        let [n, e] = [public.n, public.e].map(|number| BASE64URL.encode(number));
        json!({"keys": [{
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID, "x5t": self.thumbprint, "n": n, "e": e,
        }]})
    }
}

impl Unsigned {
    /// Returns a digest that identifies the token without disclosing it.
    pub fn digest(&self) -> String {
        digest_of(&self.input)
    }
}

fn claim(name: &str, value: impl Into<Value>) -> String {
    format!("\"{name}\":{}", value.into())
}

fn digest_of(input: &str) -> String {
    BASE64URL.encode(Sha256::digest(input))
}

/// Parses the claims of any JSON Web Token, without verifying its signature.
pub(in super::super) fn claims<T: for<'de> Deserialize<'de>>(token: &str) -> Option<T> {
    let mut parts = token.split('.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let payload = BASE64URL.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&payload).ok()
}
