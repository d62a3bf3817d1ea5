//! `endpoint=https://...;accesskey=...`, as portals and tools hand it out.

use secrecy::ExposeSecret as _;

use super::{AccessKey, AccessKeyError, Endpoint, EndpointError, PastedError, clean_credential};

/// Names longer than this, or with anything but letters in them, may be pieces of a key that was
/// pasted in the wrong place.
const LONGEST_SHOWN_NAME: usize = 24;

/// A connection string's content.
#[derive(Clone, Debug)]
pub struct ConnectionString {
    /// Where the resource answers.
    pub endpoint: Endpoint,
    /// What signs its requests.
    pub key: AccessKey,
    /// The names of unknown keys, for a warning. Their values are dropped, and a name that doesn't
    /// look like one is not shown.
    pub ignored: Vec<String>,
}

impl ConnectionString {
    /// Reads a connection string.
    ///
    /// Names in any letter case and order, white space round names and values, one `;` at the end,
    /// and what pasting adds ([`clean_credential`]) are fine. Unknown names are ignored. The official parsers disagree on most of this; a
    /// text that any of them reads is read the same way here, unless it is ambiguous.
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
            // Only at the first: a key ends in = itself.
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

/// Why a text is no connection string. Never contains any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionStringError {
    /// Nothing in it.
    #[error("the connection string is empty; it must read endpoint=https://...;accesskey=...")]
    Empty,
    /// Something else was pasted.
    #[error("the connection string {0}")]
    Pasted(#[from] PastedError),
    /// `;;`, or a `;` in front.
    #[error("part {position} of the connection string is empty; write exactly one ; between parts")]
    EmptyPart {
        /// Counted from 1.
        position: usize,
    },
    /// A part without `=`.
    #[error("part {position} of the connection string has no =; each part must read name=value")]
    NoEquals {
        /// Counted from 1.
        position: usize,
    },
    /// A part that starts with `=`.
    #[error("part {position} of the connection string has no name; each part must read name=value")]
    NoName {
        /// Counted from 1.
        position: usize,
    },
    /// `endpoint=` or `accesskey=` without more.
    #[error("{name} has no value in the connection string; add its value")]
    EmptyValue {
        /// `endpoint` or `accesskey`.
        name: &'static str,
    },
    /// `endpoint` or `accesskey` a second time.
    #[error("{name} occurs twice in the connection string; keep one")]
    Twice {
        /// `endpoint` or `accesskey`.
        name: &'static str,
    },
    /// No `endpoint` or no `accesskey`.
    #[error("the connection string has no {name}; it must read endpoint=https://...;accesskey=...")]
    Missing {
        /// `endpoint` or `accesskey`.
        name: &'static str,
    },
    /// The endpoint isn't one.
    #[error("in the connection string, {0}")]
    Endpoint(#[from] EndpointError),
    /// The access key isn't one.
    #[error("in the connection string, {0}")]
    AccessKey(#[from] AccessKeyError),
}
