//! State on disk: one file with a snapshot and the events since, one line each. A line is written
//! before its request is answered, so that no answered change is lost if the process dies.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::model::{Event, State};

const FILE: &str = "state.jsonl";
/// Length of the events since the snapshot, in bytes, above which the file is rewritten, if they
/// are also longer than the snapshot itself.
const LONG: u64 = 16 * 1024 * 1024;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum LineRef<'a> {
    Snapshot(&'a State),
    Event(&'a Event),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Line {
    Snapshot(Box<State>),
    Event(Event),
}

/// Open state file.
pub(in super::super) struct Store {
    dir: PathBuf,
    file: File,
    length: u64,
    snapshot_length: u64,
    /// Whether the file may end with a partial line.
    is_torn: bool,
    /// Lock held while the process uses the directory.
    _lock: File,
}

impl Store {
    /// Opens the directory, creating it if it is missing, and reads the state. The error is a
    /// sentence.
    pub fn open(dir: &Path, fresh: impl FnOnce() -> State) -> Result<(Self, State), String> {
        let path = dir.join(FILE);
        let at =
            |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(dir).map_err(|error| at(dir, &error))?;
        let lock = private().open(dir.join("lock"));
        let lock = lock.map_err(|error| at(dir, &error))?;
        lock.try_lock().map_err(|_| {
            at(
                dir,
                &"another acs-emulator uses this directory; stop it, or set another --state-dir",
            )
        })?;
        let state = match File::open(&path) {
            Ok(file) => read(file).map_err(|error| at(&path, &error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => fresh(),
            Err(error) => return Err(at(&path, &error)),
        };
        let (file, length) = snapshot(dir, &state).map_err(|error| at(&path, &error))?;
        let store = Self {
            dir: dir.to_owned(),
            file,
            length,
            snapshot_length: length,
            is_torn: false,
            _lock: lock,
        };
        Ok((store, state))
    }

    /// Writes events, all or none. `before` is the state before them.
    pub fn append(&mut self, events: &[Event], before: &State) -> io::Result<()> {
        if self.length - self.snapshot_length > LONG.max(self.snapshot_length) {
            let (file, length) = snapshot(&self.dir, before)?;
            (self.file, self.length, self.snapshot_length) = (file, length, length);
        }
        let mut bytes = Vec::new();
        for event in events {
            serde_json::to_writer(&mut bytes, &LineRef::Event(event))?;
            bytes.push(b'\n');
        }
        // The partial line of a failed write must not be read back.
        if self.is_torn {
            self.file.set_len(self.length)?;
        }
        self.is_torn = true;
        self.file.write_all(&bytes)?;
        self.is_torn = false;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Flushes everything to the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    options
}

fn read(file: File) -> Result<State, String> {
    let mut reader = BufReader::new(file);
    let mut state: Option<State> = None;
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let length = reader
            .read_until(b'\n', &mut line)
            .map_err(|error| error.to_string())?;
        // A line without an end belongs to a request that was never answered.
        if length == 0 || line.last() != Some(&b'\n') {
            break;
        }
        let parsed = serde_json::from_slice(&line).map_err(|error| {
            format!(
                "line {number} was not written by this version of acs-emulator ({error}); \
             move the file away to start with an empty state"
            )
        })?;
        match (parsed, &mut state) {
            (Line::Snapshot(mut snapshot), _) => {
                snapshot.index();
                state = Some(*snapshot);
            }
            (Line::Event(event), Some(state)) => state.apply(event),
            (Line::Event(_), None) => return Err("it does not begin with a snapshot".to_owned()),
        }
    }
    state.ok_or_else(|| "it is empty; move the file away to start with an empty state".to_owned())
}

/// Replaces the file by a snapshot, all or nothing.
fn snapshot(dir: &Path, state: &State) -> io::Result<(File, u64)> {
    let path = dir.join("state.new");
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = private().open(&path)?;
    let mut bytes = serde_json::to_vec(&LineRef::Snapshot(state))?;
    bytes.push(b'\n');
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&path, dir.join(FILE))?;
    File::open(dir)?.sync_all()?;
    Ok((file, bytes.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::super::AccessKey;
    use super::*;

    fn created(number: u32) -> Event {
        Event::Created {
            id: format!("8:acs:resource_{number}"),
            custom_id: Some("x".repeat(1000)),
            at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    fn fresh() -> State {
        let [primary, secondary] = ["a", "b"].map(|value| AccessKey {
            value: value.to_owned(),
            configured: value.to_owned(),
        });
        State::new(primary, secondary)
    }

    #[test]
    fn a_long_file_is_written_anew_and_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, mut state) = Store::open(dir.path(), fresh).unwrap();
        let mut shrunk = 0;
        for number in 0..40_000 {
            let before = store.length;
            let event = created(number);
            store.append(std::slice::from_ref(&event), &state).unwrap();
            state.apply(event);
            // The snapshot contains only what still exists.
            if number % 2 == 0 {
                let gone = Event::Reset;
                store.append(std::slice::from_ref(&gone), &state).unwrap();
                state.apply(gone);
            }
            shrunk += u32::from(store.length < before);
        }
        assert!((1..10).contains(&shrunk), "{shrunk}");
        drop(store);
        let (_, read) = Store::open(dir.path(), fresh).unwrap();
        let json = |state: &State| serde_json::to_value(state).unwrap();
        assert_eq!(json(&read), json(&state));
        assert_eq!(read.identities().len(), 1);
        assert!(read.by_custom_id(&"x".repeat(1000)).is_some());
    }

    #[test]
    fn a_write_that_failed_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, state) = Store::open(dir.path(), fresh).unwrap();
        store.append(&[created(1)], &state).unwrap();
        let good = std::mem::replace(&mut store.file, File::open(dir.path().join(FILE)).unwrap());
        assert!(store.append(&[created(2)], &state).is_err());
        store.file = good;
        store.file.write_all(b"{\"event\":{\"cre").unwrap();
        store.append(&[created(3)], &state).unwrap();
        drop(store);
        let (_, read) = Store::open(dir.path(), fresh).unwrap();
        let ids: Vec<_> = read.identities().iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids, ["8:acs:resource_1", "8:acs:resource_3"]);
    }
}
