//! Short digests, for comparing values that must not be stored or shown.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

/// Returns the first `length` bytes of the SHA-256 digest of all parts, in URL-safe base64. The parts
/// are hashed without separators.
#[must_use]
pub fn digest<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>, length: usize) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    let digest = hasher.finalize();
    URL_SAFE_NO_PAD.encode(digest.get(..length).unwrap_or(&digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_beginning_of_a_sha_256_of_all_parts() {
        // The test vector "abc" of FIPS 180-2.
        let whole = "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0";
        assert_eq!(digest(["abc"], 32), whole);
        assert_eq!(digest(["a", "bc"], 12), &whole[..16]);
    }
}
