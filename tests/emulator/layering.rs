//! Rules for the emulator's source files: no import of Kubernetes or of the client, no long file.

use std::path::Path;

use crate::support::sources::rust_files;

#[test]
fn the_emulator_knows_nothing_of_kubernetes_nor_of_our_client_and_all_files_are_short() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/emulator");
    let files = rust_files(&folder);
    for (path, text) in &files {
        for word in ["kube::", "kube_", "k8s_openapi", "crate::"] {
            assert!(!text.contains(word), "{} contains {word}", path.display());
        }
        assert!(text.lines().count() < 400, "{} is too long", path.display());
    }
    assert!(files.len() > 10);
}
