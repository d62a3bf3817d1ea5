//! Policy for the endpoints that credentials may be sent to.

use super::Endpoint;

/// Host name suffixes of ACS resources in the Azure clouds: public, US Government, China, Germany.
const AZURE_SUFFIXES: [&str; 4] = [
    "communication.azure.com",
    "communication.azure.us",
    "communication.azure.cn",
    "communication.azure.de",
];

/// Endpoints that credentials may be sent to. The administrator sets them; otherwise every author
/// of a connection could choose who receives its credentials.
#[derive(Clone, Debug)]
pub struct Allowed {
    suffixes: Vec<String>,
    insecure: Vec<HostPort>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct HostPort {
    host: String,
    port: Option<u16>,
}

impl Allowed {
    /// Allows the Azure clouds and what the flags name.
    ///
    /// * `allow` (`--allow-endpoint`): host names. A name allows itself and every name below it.
    /// * `insecure` (`--allow-insecure-endpoint`): hosts, each optionally with `:port`, that may be
    ///   reached over plain http. Matched exactly; they need no `--allow-endpoint`.
    pub fn new(allow: Vec<String>, insecure: Vec<String>) -> Result<Self, AllowedError> {
        let mut suffixes: Vec<String> = AZURE_SUFFIXES.map(str::to_owned).into();
        for text in allow {
            match HostPort::parse(&text) {
                Some(HostPort { host, port: None }) => suffixes.push(host),
                _ => {
                    return Err(AllowedError {
                        flag: "--allow-endpoint",
                        text,
                        with_port: "",
                    });
                }
            }
        }
        let insecure = insecure
            .into_iter()
            .map(|text| {
                HostPort::parse(&text).ok_or(AllowedError {
                    flag: "--allow-insecure-endpoint",
                    text,
                    with_port: ", optionally with :port",
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { suffixes, insecure })
    }

    /// Whether a credential may be sent to this endpoint.
    pub fn check(&self, endpoint: &Endpoint) -> Result<(), NotAllowed> {
        let host = endpoint.host();
        let may_be_insecure = self.insecure.iter().any(|allowed| {
            allowed.host == host && allowed.port.is_none_or(|port| port == endpoint.port())
        });
        if may_be_insecure {
            return Ok(());
        }
        if !endpoint.is_tls() {
            return Err(NotAllowed::Insecure {
                authority: endpoint.authority().to_owned(),
            });
        }
        let is_below = |suffix: &String| {
            host.strip_suffix(suffix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if self.suffixes.iter().any(is_below) {
            return Ok(());
        }
        Err(NotAllowed::Unknown {
            host: host.to_owned(),
        })
    }
}

impl HostPort {
    /// Parses `host` or `host:port` with the rules of an endpoint, so that both are normalized
    /// alike.
    fn parse(text: &str) -> Option<Self> {
        if text.contains(['/', '*']) {
            return None;
        }
        let endpoint = Endpoint::parse(&format!("http://{text}")).ok()?;
        // A parsed endpoint does not distinguish a default port from none. The end of an IPv6
        // address is not mistaken for a port, since it has a bracket.
        let port = text
            .trim()
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok());
        Some(Self {
            host: endpoint.host().to_owned(),
            port,
        })
    }
}

/// Value of a flag that is not a host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{flag} must be a host name such as acs.example.com{with_port}, without scheme or path; got {text:?}"
)]
pub struct AllowedError {
    flag: &'static str,
    text: String,
    with_port: &'static str,
}

/// Reason why credentials may not be sent to an endpoint. Names the flag that would allow it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// The host belongs to none of the Azure clouds and is not allowed by a flag.
    #[error(
        "{host} is not a host of Azure Communication Services, so no credential is sent to it; an \
         administrator can allow it with --allow-endpoint {host}"
    )]
    Unknown {
        /// Host of the endpoint.
        host: String,
    },
    /// The endpoint uses plain http.
    #[error(
        "the endpoint {authority} uses plain http, so no credential is sent to it; use https, or \
         ask an administrator to allow it with --allow-insecure-endpoint {authority}"
    )]
    Insecure {
        /// Host of the endpoint, with its port if it has one.
        authority: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(allow: &[&str], insecure: &[&str]) -> Allowed {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Allowed::new(owned(allow), owned(insecure)).unwrap()
    }

    fn refusal(allowed: &Allowed, endpoint: &str) -> Option<NotAllowed> {
        allowed.check(&Endpoint::parse(endpoint).unwrap()).err()
    }

    #[test]
    fn the_azure_clouds_are_allowed_over_https() {
        let allowed = allowed(&[], &[]);
        for endpoint in [
            "https://contoso.communication.azure.com",
            "https://CONTOSO.COMMUNICATION.AZURE.COM:443",
            "https://contoso.communication.azure.com:8443",
            "https://contoso.unitedstates.communication.azure.com",
            "https://contoso.usgov.communication.azure.us",
            "https://contoso.communication.azure.cn",
            "https://contoso.communication.azure.de",
            "https://contoso。communication。azure。com",
        ] {
            assert_eq!(refusal(&allowed, endpoint), None, "{endpoint}");
        }
    }

    #[test]
    fn look_alikes_are_refused() {
        let allowed = allowed(&["acs.example.com"], &["emulator:8765"]);
        for endpoint in [
            "https://evilcommunication.azure.com",
            "https://communication.azure.com.evil.example",
            "https://contoso.communication.azure.com.evil.example",
            "https://contoso-communication.azure.com",
            "https://azure.com",
            "https://contoso.azure.com",
            "https://contoso.communication.azure.net",
            "https://contoso.c\u{43e}mmunication.azure.com",
            "https://evilacs.example.com",
            "https://example.com",
            "https://127.0.0.1",
            "https://[::1]",
            "https://169.254.169.254",
            "https://emulator",
            "https://emulator:8766",
            "https://a.emulator:8765",
        ] {
            assert!(
                matches!(
                    refusal(&allowed, endpoint),
                    Some(NotAllowed::Unknown { .. })
                ),
                "{endpoint}"
            );
        }
    }

    #[test]
    fn plain_http_needs_its_own_flag() {
        let allowed = allowed(
            &["acs.example.com"],
            &["emulator:8765", "LOCALHOST", "[::1]", "plain:80"],
        );
        for endpoint in [
            "http://contoso.communication.azure.com",
            "http://acs.example.com",
            "http://emulator",
            "http://emulator:8766",
            "http://a.localhost",
            "http://plain:8080",
        ] {
            assert!(
                matches!(
                    refusal(&allowed, endpoint),
                    Some(NotAllowed::Insecure { .. })
                ),
                "{endpoint}"
            );
        }
        for endpoint in [
            "http://emulator:8765",
            "https://emulator:8765",
            "http://localhost",
            "http://localhost:1234",
            "https://localhost",
            "http://[::1]:8765",
            "http://plain",
        ] {
            assert_eq!(refusal(&allowed, endpoint), None, "{endpoint}");
        }
    }

    #[test]
    fn a_refusal_names_the_flag() {
        let allowed = allowed(&[], &[]);
        let text = refusal(&allowed, "https://acs.example.com")
            .unwrap()
            .to_string();
        assert!(text.contains("--allow-endpoint acs.example.com"), "{text}");
        let text = refusal(&allowed, "http://127.0.0.1:8765")
            .unwrap()
            .to_string();
        assert!(
            text.contains("--allow-insecure-endpoint 127.0.0.1:8765"),
            "{text}"
        );
    }

    #[test]
    fn a_flag_that_names_no_host_is_refused() {
        for text in [
            "",
            "https://a.example",
            "a.example/",
            "a.example:443",
            "*.a.example",
            ".",
            "a b",
        ] {
            let error = Allowed::new(vec![text.to_owned()], vec![]).expect_err(text);
            assert!(
                error
                    .to_string()
                    .starts_with("--allow-endpoint must be a host name"),
                "{error}"
            );
        }
        assert!(Allowed::new(vec![], vec!["http://localhost:8765".to_owned()]).is_err());
        assert!(Allowed::new(vec![".example.com".to_owned()], vec![]).is_err());
    }
}
