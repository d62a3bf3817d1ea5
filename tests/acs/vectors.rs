//! Signatures, compared with those of the official client.

use acs_identity_operator::acs::AccessKey;
use acs_identity_operator::acs::signing::Signature;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::fmt::rfc2822;
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    method: String,
    host: String,
    path_and_query: String,
    date: String,
    access_key_base64: String,
    body_base64: String,
    content_sha256: String,
    authorization: String,
}

fn vectors() -> Vec<Vector> {
    let file: File = serde_json::from_str(include_str!("../vectors/hmac.json")).unwrap();
    file.vectors
}

fn sign(vector: &Vector, key: &AccessKey) -> Signature {
    Signature::new(
        key,
        &vector.method,
        &vector.host,
        &vector.path_and_query,
        rfc2822::parse(&vector.date).unwrap().timestamp(),
        &STANDARD.decode(&vector.body_base64).unwrap(),
    )
}

#[test]
fn every_vector_is_signed_as_the_official_client_does() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 17);
    for vector in vectors {
        let signature = sign(
            &vector,
            &AccessKey::parse(&vector.access_key_base64).unwrap(),
        );
        assert_eq!(signature.date, vector.date, "{}", vector.name);
        assert_eq!(
            signature.content_sha256, vector.content_sha256,
            "{}",
            vector.name
        );
        assert_eq!(
            signature.authorization, vector.authorization,
            "{}",
            vector.name
        );
    }
}

#[test]
fn another_key_signs_differently_and_neither_is_printed() {
    for vector in vectors() {
        let signature = sign(&vector, &AccessKey::parse("b3RoZXI=").unwrap());
        assert_ne!(
            signature.authorization, vector.authorization,
            "{}",
            vector.name
        );
        assert_eq!(format!("{signature:?}"), "Signature([REDACTED])");
    }
}
