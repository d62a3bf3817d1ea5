//! Connection strings: all known formats, and malformed ones.

use acs_identity_operator::acs::{
    AccessKeyError, ConnectionString, ConnectionStringError as Error, EndpointError, PastedError,
};

const KEY: &str = "c2VjcmV0LWtleS1vZi10aGUtdGVzdA==";
const ENDPOINT: &str = "https://fabrikam.communication.azure.com";

/// Parses a connection string in which `{K}` stands for the key, `{E}` for the endpoint.
fn parse(pattern: &str) -> Result<ConnectionString, Error> {
    ConnectionString::parse(&pattern.replace("{K}", KEY).replace("{E}", ENDPOINT))
}

#[test]
fn what_is_clear_is_read() {
    for (pattern, ignored) in [
        ("endpoint={E};accesskey={K}", &[][..]),
        ("endpoint={E}/;accesskey={K}", &[]),
        ("Endpoint={E}/;AccessKey={K}", &[]),
        ("ENDPOINT={E}/;ACCESSKEY={K}", &[]),
        ("accesskey={K};endpoint={E}/", &[]),
        ("\"endpoint={E};accesskey={K}\"", &[]),
        ("\u{feff}endpoint={E};\u{a0}accesskey={K}\u{200b}\r\n", &[]),
        (" endpoint = {E}/ ; accesskey = {K} ", &[]),
        ("endpoint={E}/;accesskey={K}\n", &[]),
        ("endpoint={E}/;accesskey={K};", &[]),
        ("endpoint={E}/;accesskey={K};\r\n", &[]),
        ("endpoint={E}/;accesskey={K} ; ", &[]),
        ("region=europe;endpoint={E}/;accesskey={K}", &["region"]),
        ("endpoint={E}/;Region=europe;accesskey={K}", &["Region"]),
        ("endpoint={E}/;accesskey={K};region=", &["region"]),
        (
            "endpoint={E}/;accesskey={K};region=a;region=b",
            &["region", "region"],
        ),
        // May be part of a key.
        (
            "endpoint={E}/;accesskey={K};c2VjcmV0LWtl=",
            &["(not shown)"],
        ),
        (
            "endpoint={E}/;accesskey={K};abcdefghijklmnopqrstuvwxyz=1",
            &["(not shown)"],
        ),
    ] {
        let read = parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        assert_eq!(read.endpoint.as_str(), ENDPOINT, "{pattern}");
        assert_eq!(
            read.key.fingerprint(),
            parse("endpoint={E};accesskey={K}")
                .unwrap()
                .key
                .fingerprint()
        );
        assert_eq!(read.ignored, ignored, "{pattern}");
    }
}

#[test]
fn what_is_broken_is_refused_for_its_own_reason_and_not_shown() {
    let missing = |name| Error::Missing { name };
    let empty = |name| Error::EmptyValue { name };
    let twice = |name| Error::Twice { name };
    for (pattern, expected) in [
        ("", Error::Empty),
        (" \n", Error::Empty),
        (";", Error::Empty),
        (";;", Error::EmptyPart { position: 1 }),
        (
            ";endpoint={E};accesskey={K}",
            Error::EmptyPart { position: 1 },
        ),
        (
            "endpoint={E};;accesskey={K}",
            Error::EmptyPart { position: 2 },
        ),
        (
            "endpoint={E};accesskey={K};;",
            Error::EmptyPart { position: 3 },
        ),
        ("{E}", Error::NoEquals { position: 1 }),
        ("endpoint={E};{E}", Error::NoEquals { position: 2 }),
        ("={K};endpoint={E}", Error::NoName { position: 1 }),
        ("{K}", missing("endpoint")),
        ("endpoint={E};{K}", missing("accesskey")),
        ("accesskey={K}", missing("endpoint")),
        ("endpoint={E}", missing("accesskey")),
        ("xendpoint={E};accesskey={K}", missing("endpoint")),
        (
            "ACS=endpoint={E};accesskey={K}",
            Error::Pasted(PastedError::Assignment),
        ),
        ("endpoint={E},accesskey={K}", missing("accesskey")),
        ("endpoint=;accesskey={K}", empty("endpoint")),
        ("endpoint={E};accesskey= ", empty("accesskey")),
        (
            "endpoint={E};accesskey={K};accesskey={K}",
            twice("accesskey"),
        ),
        ("endpoint={E};Endpoint={E};accesskey={K}", twice("endpoint")),
        (
            "endpoint=fabrikam.communication.azure.com;accesskey={K}",
            Error::Endpoint(EndpointError::NotAbsolute),
        ),
        (
            "endpoint={E}//;accesskey={K}",
            Error::Endpoint(EndpointError::Path),
        ),
        (
            "endpoint={E}/identities;accesskey={K}",
            Error::Endpoint(EndpointError::Path),
        ),
        (
            "endpoint={E}?accesskey={K};accesskey={K}",
            Error::Endpoint(EndpointError::Query),
        ),
        (
            "endpoint=https://{K}@fabrikam.communication.azure.com;accesskey={K}",
            Error::Endpoint(EndpointError::UserInfo),
        ),
        (
            "endpoint=sb://fabrikam;accesskey={K}",
            Error::Endpoint(EndpointError::Scheme),
        ),
        (
            "endpoint={E};accesskey=some words",
            Error::AccessKey(AccessKeyError::NotBase64),
        ),
        (
            "endpoint={E};accesskey={K}=",
            Error::AccessKey(AccessKeyError::NotBase64),
        ),
        (
            "endpoint={E};accesskey={K}accesskey={K}",
            Error::AccessKey(AccessKeyError::NotBase64),
        ),
    ] {
        let error = parse(pattern).map(|_| ()).expect_err(pattern);
        assert_eq!(error, expected, "{pattern}");
        for text in [error.to_string(), format!("{error:?}")] {
            // Some messages quote an example endpoint, which is not the test's endpoint.
            for secret in [KEY, KEY.trim_end_matches('='), "fabrikam", "some words"] {
                assert!(!text.contains(secret), "{pattern}: {text}");
            }
        }
    }
}

#[test]
fn a_connection_string_can_not_be_printed_with_its_key() {
    let text = format!(
        "{:?}",
        parse("endpoint={E};accesskey={K};c2VjcmV0LWtl=1").unwrap()
    );
    assert!(!text.contains(KEY) && !text.contains("c2VjcmV0"), "{text}");
}
