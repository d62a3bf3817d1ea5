//! Short digests, for comparing values that must not be stored or shown.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

/// Returns the first `length` bytes of a SHA-256 digest, in URL-safe base64.
#[must_use]
pub fn short(hasher: Sha256, length: usize) -> String {
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
        assert_eq!(short(Sha256::new().chain_update("abc"), 32), whole);
        let parts = Sha256::new().chain_update("a").chain_update("bc");
        assert_eq!(short(parts, 12), &whole[..16]);
    }
}
