//! Cleaning of credentials that a person pasted, and detection of what was pasted by mistake.

mod user_token;

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use serde::de::IgnoredAny;
pub use user_token::{UserToken, UserTokenError};

/// Minimum length, in bytes, of an encoded credential within another encoding. Shorter texts may
/// decode to readable characters by chance.
const LEAST_ENCODED: usize = 32;

/// Quotes that editors and shells put around a value, with their closing sides. Any mixture of
/// typographic ones is accepted, because languages disagree on which side opens.
const STRAIGHT_QUOTES: [char; 3] = ['"', '\'', '`'];
const TYPOGRAPHIC_QUOTES: &str = "“”„‟‘’‚‛«»‹›";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Kind of a text that is not a credential. Displays as the predicate of a sentence, without any
/// part of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PastedError {
    /// Bytes in UTF-16, which is what Windows `PowerShell` writes to files.
    Utf16,
    /// Bytes that are not text.
    NotText,
    /// Line of an environment file: `NAME=value`.
    Assignment,
    /// JSON, such as the `az` CLI prints.
    Json,
    /// Credential that was encoded in base64 twice.
    EncodedTwice,
    /// Reference that only Azure App Service resolves.
    KeyVaultReference,
}

/// Decodes the text in `bytes`.
pub fn text(bytes: &[u8]) -> Result<&str, PastedError> {
    let has_mark = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    // Without a byte order mark, UTF-16 is recognized by a zero byte next to each ASCII character.
    let zeros = bytes.split(|byte| *byte == 0).count() - 1;
    if has_mark || (zeros > 0 && zeros * 2 >= bytes.len() - 1) {
        return Err(PastedError::Utf16);
    }
    std::str::from_utf8(bytes)
        .ok()
        .filter(|_| zeros == 0)
        .ok_or(PastedError::NotText)
}

/// Returns the credential in `text`, without line ends and invisible characters, which no
/// credential contains, and without white space and one pair of quotes around it.
pub fn clean(text: &str) -> Result<SecretString, PastedError> {
    // Enough for the whole text from the start: a growing string leaves copies of it in memory.
    let mut visible = Zeroizing::new(String::with_capacity(text.len()));
    visible.extend(text.chars().filter(|c| !is_invisible(*c)));
    let text = unquoted(visible.trim());
    match mistake(text) {
        Some(mistake) => Err(mistake),
        None => Ok(SecretString::from(text)),
    }
}

fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn unquoted(text: &str) -> &str {
    let mut characters = text.chars();
    let (Some(first), Some(last)) = (characters.next(), characters.next_back()) else {
        return text;
    };
    let is_typographic = |c| TYPOGRAPHIC_QUOTES.contains(c);
    let is_pair = (first == last && STRAIGHT_QUOTES.contains(&first))
        || (is_typographic(first) && is_typographic(last));
    if is_pair {
        characters.as_str().trim()
    } else {
        text
    }
}

fn mistake(text: &str) -> Option<PastedError> {
    if starts_with(text, "@Microsoft.KeyVault(") {
        Some(PastedError::KeyVaultReference)
    } else if text.starts_with(['{', '[']) && serde_json::from_str::<IgnoredAny>(text).is_ok() {
        Some(PastedError::Json)
    } else if is_assignment(text) {
        Some(PastedError::Assignment)
    } else if is_encoded_twice(text) {
        Some(PastedError::EncodedTwice)
    } else {
        None
    }
}

/// Whether `text` reads `NAME=value`, with a name that is certainly not part of a credential: one
/// before a connection string, or one in capital letters with an underscore, as in
/// `AZURE_CLIENT_SECRET=...`.
fn is_assignment(text: &str) -> bool {
    let Some((name, value)) = text.split_once('=') else {
        return false;
    };
    let name = ["export ", "set ", "$env:"]
        .iter()
        .find(|word| starts_with(name, word))
        .and_then(|word| name.get(word.len()..))
        .unwrap_or(name)
        .trim();
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let value = value.trim_start();
    let value = value
        .strip_prefix(|c| STRAIGHT_QUOTES.contains(&c) || TYPOGRAPHIC_QUOTES.contains(c))
        .unwrap_or(value);
    let is_connection_string = ["endpoint=", "accesskey="]
        .iter()
        .any(|part| starts_with(value, part));
    let is_variable = name.contains('_')
        && name.starts_with(|c: char| c.is_ascii_uppercase())
        && !name.contains(|c: char| c.is_ascii_lowercase())
        && !text.contains(';');
    is_name && (is_connection_string || (is_variable && !value.is_empty()))
}

fn is_encoded_twice(text: &str) -> bool {
    let decoded = |text: &[u8]| BASE64.decode(text).ok().map(Zeroizing::new);
    let Some(bytes) = decoded(text.as_bytes()).filter(|bytes| bytes.len() >= LEAST_ENCODED) else {
        return false;
    };
    let Ok(inner) = std::str::from_utf8(&bytes) else {
        return false;
    };
    let inner = inner.trim();
    let is_client_secret = inner.contains('~') && inner.chars().all(|c| c.is_ascii_graphic());
    starts_with(inner, "eyJ")
        || inner.to_ascii_lowercase().contains("endpoint=")
        || is_client_secret
        || (inner.len() % 4 == 0 && decoded(inner.as_bytes()).is_some())
}

fn starts_with(text: &str, start: &str) -> bool {
    text.get(..start.len())
        .is_some_and(|begin| begin.eq_ignore_ascii_case(start))
}

impl fmt::Display for PastedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Utf16 => "is UTF-16 text, as written by PowerShell; save it as UTF-8",
            Self::NotText => "is not UTF-8 text; store the credential there as plain text",
            Self::Assignment => {
                "is a line of an environment file (NAME=value); keep only the part after the \
                 first ="
            }
            Self::Json => {
                "is JSON, as printed by the az CLI; keep only the value, which az prints with \
                 --query NAME --output tsv"
            }
            Self::EncodedTwice => {
                "is base64-encoded twice; store it under stringData, or encode it only once under \
                 data"
            }
            Self::KeyVaultReference => {
                "is an @Microsoft.KeyVault(...) reference, which only Azure App Service resolves; \
                 store the value itself there, for example with External Secrets"
            }
        })
    }
}

impl std::error::Error for PastedError {}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use secrecy::ExposeSecret as _;

    use super::*;

    const KEY: &str =
        "5Zx9uY0b1c2d3e4f5g6h7i8j9k0l1m2n3o4p5q6r7s8t9u0v1w2x3y4z5A6B7C8D9E0F1G2H3I4J5K6L7M8N9A==";

    fn cleaned(text: &str) -> Result<String, PastedError> {
        clean(text).map(|text| text.expose_secret().to_owned())
    }

    #[test]
    fn what_no_credential_has_is_taken_off() {
        let (head, tail) = KEY.split_at(76);
        for text in [
            KEY.to_owned(),
            format!(" {KEY}\r\n"),
            format!("\u{feff}{KEY}"),
            format!("\u{200b}{KEY}\u{a0}"),
            format!("{head}\r\n{tail}\n"),
            format!("{head}\u{2060}{tail}"),
            format!("\"{KEY}\""),
            format!("'{KEY}'\n"),
            format!("\u{feff}\" {KEY} \""),
            format!("“{KEY}”"),
            format!("„{KEY}“"),
            format!("‘{KEY}’"),
            format!("«{KEY}»"),
            format!("`{KEY}`"),
        ] {
            assert_eq!(cleaned(&text).as_deref(), Ok(KEY), "{text:?}");
        }
        // One pair, and only a pair.
        for (text, expected) in [
            ("\"\"a\"\"", "\"a\""),
            ("\"a", "\"a"),
            ("\"a'", "\"a'"),
            ("\"", "\""),
            ("\"\"", ""),
            ("a b", "a b"),
            ("", ""),
        ] {
            assert_eq!(cleaned(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_credential_is_named() {
        let string = format!("endpoint=https://contoso.communication.azure.com/;accesskey={KEY}");
        let twice = |text: &str| STANDARD.encode(text);
        let secret = "abC8Q~0123456789abcdefghijklmnopqrstuvwx";
        for (text, expected) in [
            (format!("ACS={string}"), PastedError::Assignment),
            (
                format!("acs_connection=\"{string}\""),
                PastedError::Assignment,
            ),
            (format!("export ACS='{string}'"), PastedError::Assignment),
            (format!("$env:ACS = \"{string}\""), PastedError::Assignment),
            (format!("ACS_KEY={KEY}"), PastedError::Assignment),
            (
                format!("AZURE_CLIENT_SECRET={secret}"),
                PastedError::Assignment,
            ),
            (
                format!(
                    "{{\r\n  \"primaryConnectionString\": \"{string}\",\r\n  \"primaryKey\": \"{KEY}\"\r\n}}"
                ),
                PastedError::Json,
            ),
            (format!("{{\"primaryKey\":\"{KEY}\"}}"), PastedError::Json),
            (format!("[\"{KEY}\"]"), PastedError::Json),
            (twice(KEY), PastedError::EncodedTwice),
            (twice(&format!("{KEY}\n")), PastedError::EncodedTwice),
            (twice(&string), PastedError::EncodedTwice),
            (twice(secret), PastedError::EncodedTwice),
            (
                twice("eyJhbGciOiJSUzI1NiJ9.eyJvaWQiOiJhIn0.c2ln"),
                PastedError::EncodedTwice,
            ),
            (
                "@Microsoft.KeyVault(SecretUri=https://contoso.vault.azure.net/secrets/acs/)"
                    .to_owned(),
                PastedError::KeyVaultReference,
            ),
        ] {
            let error = clean(&text).map(|_| ()).expect_err(&text);
            assert_eq!(error, expected, "{text}");
            for shown in [error.to_string(), format!("{error:?}")] {
                assert!(
                    !shown.contains(&KEY[..8]) && !shown.contains("contoso"),
                    "{shown}"
                );
            }
        }
    }

    #[test]
    fn credentials_are_not_mistaken_for_anything_else() {
        for text in [
            // Of 64 and of 63 bytes.
            STANDARD.encode([7; 64]),
            STANDARD.encode((0..63).collect::<Vec<u8>>()),
            "region=europe;endpoint=https://a.b;accesskey=a2V5".to_owned(),
            "ENDPOINT=https://a.b/;ACCESSKEY=a2V5".to_owned(),
            "abC8Q~0123456789abcdefghijklmnopqrstuvwx".to_owned(),
            "}=p$_A1".to_owned(),
            "{not json".to_owned(),
            "eyJhbGciOiJSUzI1NiJ9.eyJvaWQiOiJhIn0.c2ln".to_owned(),
        ] {
            assert_eq!(cleaned(&text), Ok(text));
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_named() {
        let utf16 = |text: &str, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            text.encode_utf16().flat_map(bytes).collect()
        };
        for text in [KEY, "\u{feff}key", "k"] {
            for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
                let bytes = utf16(text, bytes);
                assert_eq!(super::text(&bytes), Err(PastedError::Utf16), "{text}");
            }
        }
        for bytes in [&b"a\0key"[..], b"\xc3\x28key", b"\x80"] {
            assert_eq!(super::text(bytes), Err(PastedError::NotText));
        }
        assert_eq!(super::text(b""), Ok(""));
        assert_eq!(super::text("\u{feff}ключ".as_bytes()), Ok("\u{feff}ключ"));
    }
}
