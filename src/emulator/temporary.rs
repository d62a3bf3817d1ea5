//! A folder that goes with the process: at its end, or, if it is killed, with the next emulator.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use uuid::Uuid;

const PREFIX: &str = "acs-emulator-";
const LOCK: &str = "lock";

/// A folder that only we can read.
pub(super) struct Temporary {
    path: PathBuf,
    /// Held for as long as the folder is in use.
    _lock: File,
}

impl Temporary {
    /// Makes one, and removes those whose process was killed.
    pub fn make() -> io::Result<Self> {
        let all = std::env::temp_dir();
        sweep(&all)?;
        let name = format!("{PREFIX}{}", Uuid::new_v4());
        // Under another name until it is locked: nobody may take it for one that was left behind.
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

/// What can't be removed is another user's, or is just being removed by others.
fn sweep(all: &Path) -> io::Result<()> {
    for entry in fs::read_dir(all)?.flatten() {
        let is_one = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let lock = entry.path().join(LOCK);
        // To open something else, such as a pipe, might take for ever.
        let is_file = is_one && lock.symlink_metadata().is_ok_and(|it| it.is_file());
        if is_file && File::open(lock).is_ok_and(|lock| lock.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}
