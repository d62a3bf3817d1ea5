//! Endpoint of an ACS resource.

use std::fmt;

use url::{Host, Url};

/// Base URL of an ACS resource: scheme, host and port, nothing else.
///
/// Normalized: scheme and host in lower case, international names in their ASCII form, no default
/// port, no trailing slash. Two texts for the same address are equal as endpoints.
///
/// The host is used as given and never derived from a resource's name: its form differs between
/// clouds, regions and the ages of resources.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    text: String,
    authority_start: usize,
    host_end: usize,
    port: u16,
}

impl Endpoint {
    /// Parses an absolute `http` or `https` URL without user info, path, query or fragment.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(EndpointError::Empty);
        }
        // The URL standard tolerates and drops these, so that a person would read a different
        // address than the one a program connects to.
        if text.contains(|c: char| c == '\\' || c.is_whitespace() || c.is_control()) {
            return Err(EndpointError::ForbiddenCharacter);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(EndpointError::NotAbsolute);
        };
        if !["http", "https"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
        {
            return Err(EndpointError::Scheme);
        }
        let (authority, tail) = match rest.find(['/', '?', '#']) {
            Some(end) => rest.split_at(end),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err(EndpointError::UserInfo);
        }
        match tail {
            "" | "/" => {}
            _ if tail.contains('?') => return Err(EndpointError::Query),
            _ if tail.contains('#') => return Err(EndpointError::Fragment),
            _ => return Err(EndpointError::Path),
        }
        let url = Url::parse(text).map_err(EndpointError::Malformed)?;
        let host = match url.host() {
            Some(Host::Domain(name)) if name.split('.').any(str::is_empty) => {
                return Err(EndpointError::EmptyLabel);
            }
            Some(host) if !authority.is_empty() => host.to_string(),
            _ => return Err(EndpointError::NoHost),
        };
        let port = match url.port_or_known_default() {
            Some(port) if port != 0 => port,
            _ => return Err(EndpointError::PortZero),
        };
        let scheme = url.scheme();
        let authority_start = scheme.len() + "://".len();
        let host_end = authority_start + host.len();
        let text = match url.port() {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        };
        Ok(Self {
            text,
            authority_start,
            host_end,
            port,
        })
    }

    /// Returns the host without its port; an IPv6 address is in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.text
            .get(self.authority_start..self.host_end)
            .unwrap_or_default()
    }

    /// Returns the value of the `Host` header: the host, and the port unless it is the scheme's
    /// default.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.text.get(self.authority_start..).unwrap_or_default()
    }

    /// Returns the port; the scheme's default if none is given.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether requests are encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.text.starts_with("https:")
    }

    /// Returns the normalized URL, without a trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reason why a text is not an endpoint. Never contains the text: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The text is empty or white space.
    #[error(
        "the endpoint is empty; use an address such as https://contoso.communication.azure.com"
    )]
    Empty,
    /// The text contains a backslash, white space or a control character.
    #[error("the endpoint contains white space, a control character or a backslash; remove it")]
    ForbiddenCharacter,
    /// The URL has no scheme.
    #[error("the endpoint has no scheme; it must start with https://")]
    NotAbsolute,
    /// The scheme is neither http nor https.
    #[error("the endpoint's scheme must be https, or http for an emulator")]
    Scheme,
    /// The URL has a user name or password.
    #[error("the endpoint must not contain user info; remove everything up to the @")]
    UserInfo,
    /// The URL has a path other than `/`.
    #[error("the endpoint must have no path; remove everything after the host")]
    Path,
    /// The URL has a query.
    #[error("the endpoint must have no query; remove the ? and everything after it")]
    Query,
    /// The URL has a fragment.
    #[error("the endpoint must have no fragment; remove the # and everything after it")]
    Fragment,
    /// The URL has no host.
    #[error(
        "the endpoint has no host; use an address such as https://contoso.communication.azure.com"
    )]
    NoHost,
    /// The host starts or ends with a dot, or has two in a row: such a name may resolve to the same
    /// machine but match no rule.
    #[error("the endpoint's host has an extra dot; remove it")]
    EmptyLabel,
    /// The port is 0.
    #[error("the endpoint's port must be between 1 and 65535")]
    PortZero,
    /// The text is not a URL for another reason.
    #[error("the endpoint is not a valid URL: {0}")]
    Malformed(url::ParseError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_normalised() {
        for (given, expected) in [
            (
                "https://contoso.communication.azure.com",
                "https://contoso.communication.azure.com",
            ),
            (
                "https://contoso.communication.azure.com/",
                "https://contoso.communication.azure.com",
            ),
            (
                " https://contoso.communication.azure.com \n",
                "https://contoso.communication.azure.com",
            ),
            (
                "HTTPS://Contoso.Communication.AZURE.com:443",
                "https://contoso.communication.azure.com",
            ),
            (
                "https://contoso.unitedstates.communication.azure.com",
                "https://contoso.unitedstates.communication.azure.com",
            ),
            ("http://127.0.0.1:8765/", "http://127.0.0.1:8765"),
            ("http://localhost:80", "http://localhost"),
            ("http://[::1]:8765", "http://[::1]:8765"),
            ("https://[0:0:0:0:0:0:0:1]", "https://[::1]"),
            ("http://0x7f.1", "http://127.0.0.1"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
        ] {
            let endpoint = Endpoint::parse(given).unwrap();
            assert_eq!(endpoint.as_str(), expected, "{given}");
            assert_eq!(endpoint.to_string(), expected);
            assert_eq!(Endpoint::parse(expected).unwrap(), endpoint);
        }
    }

    #[test]
    fn an_endpoint_knows_its_parts() {
        let endpoint = Endpoint::parse("http://[::1]:8765").unwrap();
        assert_eq!(
            (endpoint.host(), endpoint.authority(), endpoint.is_tls()),
            ("[::1]", "[::1]:8765", false)
        );
        let endpoint = Endpoint::parse("https://a.example:443/").unwrap();
        assert_eq!(
            (endpoint.host(), endpoint.authority(), endpoint.is_tls()),
            ("a.example", "a.example", true)
        );
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_its_reason() {
        use EndpointError as E;
        for (given, expected) in [
            ("", E::Empty),
            ("  ", E::Empty),
            ("contoso.communication.azure.com", E::NotAbsolute),
            ("https:contoso.communication.azure.com", E::NotAbsolute),
            ("https:/contoso.communication.azure.com", E::NotAbsolute),
            ("//contoso.communication.azure.com", E::NotAbsolute),
            ("ftp://contoso.communication.azure.com", E::Scheme),
            ("file:///etc/passwd", E::Scheme),
            ("https://", E::Malformed(url::ParseError::EmptyHost)),
            ("https:///contoso.communication.azure.com", E::Path),
            ("https://user@contoso.communication.azure.com", E::UserInfo),
            (
                "https://user:word@contoso.communication.azure.com",
                E::UserInfo,
            ),
            ("https://@contoso.communication.azure.com", E::UserInfo),
            (
                "https://contoso.communication.azure.com@evil.example",
                E::UserInfo,
            ),
            (
                "https://contoso.communication.azure.com/identities",
                E::Path,
            ),
            ("https://contoso.communication.azure.com//", E::Path),
            ("https://contoso.communication.azure.com/.", E::Path),
            ("https://contoso.communication.azure.com/a/..", E::Path),
            ("https://contoso.communication.azure.com?a=b", E::Query),
            ("https://contoso.communication.azure.com/?", E::Query),
            ("https://contoso.communication.azure.com#", E::Fragment),
            ("https://contoso.communication.azure.com.", E::EmptyLabel),
            ("https://.communication.azure.com", E::EmptyLabel),
            ("https://contoso..communication.azure.com", E::EmptyLabel),
            ("https://contoso.communication.azure.com:0", E::PortZero),
            (
                "https://contoso.communication.azure.com:99999",
                E::Malformed(url::ParseError::InvalidPort),
            ),
            (
                "https://evil.example\\@contoso.communication.azure.com",
                E::ForbiddenCharacter,
            ),
            (
                "https://evil.example\t.communication.azure.com",
                E::ForbiddenCharacter,
            ),
            (
                "https://con toso.communication.azure.com",
                E::ForbiddenCharacter,
            ),
        ] {
            assert_eq!(Endpoint::parse(given), Err(expected), "{given}");
        }
    }
}
