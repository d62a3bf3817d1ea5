//! Progress while a command waits: one line on stderr that changes, or, if stderr is not a
//! terminal, a line per change.

use std::io::{IsTerminal as _, Write as _};

/// Progress line.
pub struct Progress {
    is_quiet: bool,
    is_terminal: bool,
    shown: String,
    notes: Vec<String>,
}

impl Progress {
    /// Creates an empty line; with `is_quiet` it stays empty.
    pub fn new(is_quiet: bool) -> Self {
        Self {
            is_quiet,
            is_terminal: std::io::stderr().is_terminal(),
            shown: String::new(),
            notes: Vec::new(),
        }
    }

    /// Shows what the command waits for, unless it is shown already.
    pub fn show(&mut self, line: String) {
        if self.is_quiet || line == self.shown {
            return;
        }
        // A line wider than the terminal is cut: a wrapped line could not be erased.
        let (before, after) = if self.is_terminal {
            ("\r\x1b[2K\x1b[?7l", "\x1b[?7h")
        } else {
            ("", "\n")
        };
        write(&format!("{before}{line}{after}"));
        self.shown = line;
    }

    /// Prints a permanent line.
    pub fn note(&mut self, line: &str) {
        self.notes.push(line.to_owned());
        if !self.is_quiet {
            self.clear();
            write(&format!("{line}\n"));
        }
    }

    /// Returns all permanent lines, in order.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    fn clear(&mut self) {
        if self.is_terminal && !self.shown.is_empty() {
            write("\r\x1b[2K");
        }
        self.shown.clear();
    }
}

/// Erases the line, so that later output does not follow it.
impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

// anstream removes the line's control characters where they are not wanted anyway.
fn write(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr
        .write_all(text.as_bytes())
        .and_then(|()| stderr.flush());
}
