//! Connection string (`endpoint=https://...;accesskey=...`), as the Azure portal and tools show it.

use secrecy::ExposeSecret as _;

use super::super::{Endpoint, EndpointError, PastedError, clean_credential};
use super::{AccessKey, AccessKeyError};

/// Maximum length of a name that is shown. Longer names, and names with characters other than
/// letters, may be parts of a key that was pasted in the wrong place.
const LONGEST_SHOWN_NAME: usize = 24;

/// Contents of a connection string.
#[derive(Clone, Debug)]
pub struct ConnectionString {
    /// Endpoint of the resource.
    pub endpoint: Endpoint,
    /// Access key that signs requests.
    pub key: AccessKey,
    /// Names of unknown keys, for a warning. Their values are dropped, and a name that does not
    /// look like one is not shown.
    pub ignored: Vec<String>,
}

impl ConnectionString {
    /// Parses a connection string.
    ///
    /// Accepts names in any letter case and order, white space around names and values, one `;` at
    /// the end, and what pasting adds ([`clean_credential`]). Ignores unknown names. The official
    /// parsers disagree on most of this; a text that any of them accepts is read the same way here,
    /// unless it is ambiguous.
    pub fn parse(text: &str) -> Result<Self, ConnectionStringError> {
        use ConnectionStringError as Error;
        let text = clean_credential(text)?;
        let text = text.expose_secret();
        let text = text.strip_suffix(';').unwrap_or(text);
        if text.trim().is_empty() {
            return Err(Error::Empty);
        }
        let (mut endpoint, mut key, mut ignored) = (None, None, Vec::new());
        for (segment, position) in text.split(';').zip(1..) {
            if segment.trim().is_empty() {
                return Err(Error::EmptyPart { position });
            }
            // Only at the first `=`: a key ends in `=` itself.
            let (name, value) = segment
                .split_once('=')
                .ok_or(Error::NoEquals { position })?;
            let (name, value) = (name.trim(), value.trim());
            if name.is_empty() {
                return Err(Error::NoName { position });
            }
            let (slot, known) = match name.to_ascii_lowercase().as_str() {
                "endpoint" => (&mut endpoint, "endpoint"),
                "accesskey" => (&mut key, "accesskey"),
                _ => {
                    ignored.push(shown(name));
                    continue;
                }
            };
            if value.is_empty() {
                return Err(Error::EmptyValue { name: known });
            }
            if slot.replace(value).is_some() {
                return Err(Error::Twice { name: known });
            }
        }
        Ok(Self {
            endpoint: Endpoint::parse(endpoint.ok_or(Error::Missing { name: "endpoint" })?)?,
            key: AccessKey::parse(key.ok_or(Error::Missing { name: "accesskey" })?)?,
            ignored,
        })
    }
}

fn shown(name: &str) -> String {
    let is_name = name.len() <= LONGEST_SHOWN_NAME && name.chars().all(|c| c.is_ascii_alphabetic());
    if is_name {
        name.to_owned()
    } else {
        "(not shown)".to_owned()
    }
}

/// Reason why a text is not a connection string. Never contains any of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionStringError {
    /// The text is empty.
    #[error("the connection string is empty; it must read endpoint=https://...;accesskey=...")]
    Empty,
    /// The text is something else that was pasted by mistake.
    #[error("the connection string {0}")]
    Pasted(#[from] PastedError),
    /// The text contains `;;`, or starts with `;`.
    #[error("part {position} of the connection string is empty; write exactly one ; between parts")]
    EmptyPart {
        /// Position of the part, counted from 1.
        position: usize,
    },
    /// A part has no `=`.
    #[error("part {position} of the connection string has no =; each part must read name=value")]
    NoEquals {
        /// Position of the part, counted from 1.
        position: usize,
    },
    /// A part starts with `=`.
    #[error("part {position} of the connection string has no name; each part must read name=value")]
    NoName {
        /// Position of the part, counted from 1.
        position: usize,
    },
    /// `endpoint=` or `accesskey=` has no value.
    #[error("{name} has no value in the connection string; add its value")]
    EmptyValue {
        /// `endpoint` or `accesskey`.
        name: &'static str,
    },
    /// `endpoint` or `accesskey` is given twice.
    #[error("{name} occurs twice in the connection string; keep one")]
    Twice {
        /// `endpoint` or `accesskey`.
        name: &'static str,
    },
    /// `endpoint` or `accesskey` is missing.
    #[error("the connection string has no {name}; it must read endpoint=https://...;accesskey=...")]
    Missing {
        /// `endpoint` or `accesskey`.
        name: &'static str,
    },
    /// The endpoint is invalid.
    #[error("in the connection string, {0}")]
    Endpoint(#[from] EndpointError),
    /// The access key is invalid.
    #[error("in the connection string, {0}")]
    AccessKey(#[from] AccessKeyError),
}
