//! Version of the ACS REST API.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;

/// First version with a token lifetime, which this client requires.
const FIRST: &str = "2022-10-01";
/// First version with the `join` scopes.
const JOIN_SCOPES: &str = "2023-10-01";
/// Only version with `customId`: no later stable version has it.
const CUSTOM_ID: &str = "2025-03-02-preview";

/// ACS `api-version`, such as `2023-10-01` or `2025-03-02-preview`.
///
/// A version later than the known ones is treated as having the features of `2023-10-01`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ApiVersion {
    text: String,
}

impl ApiVersion {
    /// Whether a create may carry a `customId`, which makes it repeatable.
    #[must_use]
    pub fn knows_custom_id(&self) -> bool {
        self.text == CUSTOM_ID
    }

    /// Whether tokens with this scope can be requested.
    #[must_use]
    pub fn knows_scope(&self, scope: &str) -> bool {
        match scope {
            "chat" | "voip" => true,
            // Dates in this form sort as text.
            "chat.join" | "chat.join.limited" | "voip.join" => self.text.as_str() >= JOIN_SCOPES,
            _ => false,
        }
    }

    /// Returns the value of the query parameter.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Default for ApiVersion {
    /// Returns `2023-10-01`, which every released SDK uses and every cloud supports.
    fn default() -> Self {
        Self {
            text: JOIN_SCOPES.to_owned(),
        }
    }
}

impl FromStr for ApiVersion {
    type Err = ApiVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let date = text.strip_suffix("-preview").unwrap_or(text);
        let is_date = date.len() == FIRST.len()
            && date.starts_with(|c: char| c.is_ascii_digit())
            && date.parse::<Date>().is_ok();
        if !is_date {
            return Err(ApiVersionError::NotADate);
        }
        if date < FIRST {
            return Err(ApiVersionError::TooOld);
        }
        Ok(Self {
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reason why a text is not a usable API version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiVersionError {
    /// The text is neither `YYYY-MM-DD` nor `YYYY-MM-DD-preview`.
    #[error("an API version must be a date such as 2023-10-01, or one followed by -preview")]
    NotADate,
    /// The version is older than token lifetimes.
    #[error("API versions before 2022-10-01 cannot set the lifetime of a token; use 2023-10-01")]
    TooOld,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_knows_what_it_brought() {
        for (text, join, custom_id) in [
            ("2022-10-01", false, false),
            ("2023-10-01", true, false),
            ("2025-03-02-preview", true, true),
            ("2025-06-30", true, false),
            ("2026-09-23", true, false),
            ("2027-01-01-preview", true, false),
        ] {
            let version: ApiVersion = text.parse().unwrap();
            assert_eq!(version.to_string(), text);
            assert!(
                version.knows_scope("chat") && version.knows_scope("voip"),
                "{text}"
            );
            for scope in ["chat.join", "chat.join.limited", "voip.join"] {
                assert_eq!(version.knows_scope(scope), join, "{text} {scope}");
            }
            assert!(!version.knows_scope("pstn"), "{text}");
            assert_eq!(version.knows_custom_id(), custom_id, "{text}");
        }
        assert_eq!(ApiVersion::default().to_string(), "2023-10-01");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "latest",
            "2023",
            "2023-13-01",
            "2023-10-1",
            "2023-10-01 ",
            "2023-10-01&x=y",
            "2023-10-01-beta",
            "2023-10-01-preview2",
            "20231001ab",
            "+02023-10-01",
            "-002023-10",
        ] {
            assert_eq!(
                text.parse::<ApiVersion>(),
                Err(ApiVersionError::NotADate),
                "{text}"
            );
        }
        for text in ["2021-03-07", "2022-06-01", "2021-10-31-preview"] {
            assert_eq!(
                text.parse::<ApiVersion>(),
                Err(ApiVersionError::TooOld),
                "{text}"
            );
        }
    }
}
