//! Rules for the client's source files: no import of Kubernetes, and no long file.

use std::path::Path;

use crate::sources::rust_files;

#[test]
fn the_client_knows_nothing_of_kubernetes_and_all_files_are_short() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/acs");
    let files = rust_files(&folder);
    for (path, text) in &files {
        // The client shares the cleanup of pasted credentials and the claims of tokens with the
        // plugin.
        let text = text
            .replace("crate::pasted::", "")
            .replace("crate::claims::", "");
        for word in ["kube::", "kube_", "k8s_openapi", "crate::"] {
            assert!(!text.contains(word), "{} contains {word}", path.display());
        }
        assert!(text.lines().count() < 400, "{} is too long", path.display());
    }
    assert!(files.len() > 10);
}
