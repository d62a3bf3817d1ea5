//! What the client must not know.

use std::fs;
use std::path::Path;

#[test]
fn the_client_knows_nothing_of_kubernetes_and_all_files_are_short() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/acs");
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        // What both the client and the plugin clean.
        let text = text.replace("crate::pasted::", "");
        for word in ["kube::", "kube_", "k8s_openapi", "crate::"] {
            assert!(!text.contains(word), "{} contains {word}", path.display());
        }
        assert!(text.lines().count() < 400, "{} is too long", path.display());
        files += 1;
    }
    assert!(files > 10);
}
