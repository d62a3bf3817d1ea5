//! What the emulator must not know.

use std::{fs, path::Path};

#[test]
fn the_emulator_knows_nothing_of_kubernetes_nor_of_our_client_and_all_files_are_short() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/emulator");
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|it| it != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for word in ["kube::", "kube_", "k8s_openapi", "crate::"] {
            assert!(!text.contains(word), "{} contains {word}", path.display());
        }
        assert!(text.lines().count() < 400, "{} is too long", path.display());
        files += 1;
    }
    assert!(files > 10);
}
