//! What a person sees while a command waits: one line on stderr that changes, or, where stderr is
//! no terminal, a line per change.

use std::io::{IsTerminal as _, Write as _};

/// The line.
pub struct Progress {
    is_quiet: bool,
    is_terminal: bool,
    shown: String,
    notes: Vec<String>,
}

impl Progress {
    /// A line that is still empty; with `is_quiet` it stays so.
    pub fn new(is_quiet: bool) -> Self {
        Self {
            is_quiet,
            is_terminal: std::io::stderr().is_terminal(),
            shown: String::new(),
            notes: Vec::new(),
        }
    }

    /// Shows what is waited for, once.
    pub fn show(&mut self, line: String) {
        if self.is_quiet || line == self.shown {
            return;
        }
        // A line that is longer than the terminal is wide is cut: a wrapped one could not be erased.
        let (before, after) = if self.is_terminal {
            ("\r\x1b[2K\x1b[?7l", "\x1b[?7h")
        } else {
            ("", "\n")
        };
        write(&format!("{before}{line}{after}"));
        self.shown = line;
    }

    /// Tells something that stays.
    pub fn note(&mut self, line: &str) {
        self.notes.push(line.to_owned());
        if !self.is_quiet {
            self.clear();
            write(&format!("{line}\n"));
        }
    }

    /// All that was noted, in its order.
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

/// What follows must not stand behind the line.
impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

// anstream would take the line's own control characters away where they are not wanted anyway.
fn write(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr
        .write_all(text.as_bytes())
        .and_then(|()| stderr.flush());
}
