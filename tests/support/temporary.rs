//! Temporary directory for all programs of a test binary. It is removed when the binary exits, even
//! if it is killed.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use tempfile::TempDir;

/// Returns the directory. Programs under test use it as their `TMPDIR`, because they are killed and
/// cannot clean up.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<(std::path::PathBuf, Child)> = OnceLock::new();
    &FOLDER.get_or_init(make).0
}

/// Creates the directory, and the process that removes it when its stdin is closed, which happens
/// when this process ends.
fn make() -> (std::path::PathBuf, Child) {
    let folder = tempfile::Builder::new()
        .prefix("acs-tests-")
        .tempdir()
        .map(TempDir::keep)
        .expect("a folder");
    let guard = Command::new("sh")
        .args([
            "-c",
            "trap '' INT; cat; until rm -rf \"$0\"; do sleep 1; done",
        ])
        .arg(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("sh runs");
    (folder, guard)
}
