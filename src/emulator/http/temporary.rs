//! Temporary directory, removed when the process exits or, if it is killed, by the next emulator.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use uuid::Uuid;

const PREFIX: &str = "acs-emulator-";
const LOCK: &str = "lock";

/// Directory that only this user can read.
pub(super) struct Temporary {
    path: PathBuf,
    /// Lock held while the directory is in use.
    _lock: File,
}

impl Temporary {
    /// Creates a directory, and removes those of killed processes.
    pub fn make() -> io::Result<Self> {
        let all = std::env::temp_dir();
        sweep(&all)?;
        let name = format!("{PREFIX}{}", Uuid::new_v4());
        // Under another name until it is locked, so that no other process takes it for an abandoned
        // one.
        let unlocked = all.join(format!(".{name}"));
        DirBuilder::new().mode(0o700).create(&unlocked)?;
        let lock = File::create(unlocked.join(LOCK))?;
        lock.lock()?;
        let path = all.join(name);
        fs::rename(unlocked, &path)?;
        Ok(Self { path, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A directory that cannot be removed belongs to another user, or is just being removed by another
/// process.
fn sweep(all: &Path) -> io::Result<()> {
    for entry in fs::read_dir(all)?.flatten() {
        let is_one = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let lock = entry.path().join(LOCK);
        // Opening something else, such as a pipe, might block forever.
        let is_file = is_one && lock.symlink_metadata().is_ok_and(|it| it.is_file());
        if is_file && File::open(lock).is_ok_and(|lock| lock.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}
