//! One temporary folder for all programs of a test binary. It goes with the binary, even if that is
//! killed.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use tempfile::TempDir;

/// The folder. Programs under test get it as their `TMPDIR`: they are killed, and can't clean up.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<(std::path::PathBuf, Child)> = OnceLock::new();
    &FOLDER.get_or_init(make).0
}

/// Makes the folder and the process that removes it: its stdin ends with this process.
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
