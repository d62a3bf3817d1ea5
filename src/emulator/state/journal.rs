//! Journal of requests and answers, without any secret.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::Serialize;

use super::model::Signer;

/// Maximum number of entries; older ones are dropped.
const MOST: usize = 100_000;
/// Maximum length of a text; longer ones, which belong to no operation, are cut.
const LONGEST: usize = 300;

/// Newest requests.
#[derive(Default)]
pub(in super::super) struct Journal {
    entries: VecDeque<Entry>,
    forgotten: u64,
}

/// Request in the journal. It is added when it arrives, and completed when it is answered.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct Entry {
    /// Time of arrival, by the clock of the emulated service.
    pub time: Timestamp,
    pub operation: &'static str,
    pub method: String,
    /// Path without the query.
    pub path: String,
    pub api_version: Option<String>,
    /// Status of the answer; `None` until the request is answered, and if it never is.
    pub status: Option<u16>,
    pub error_code: Option<String>,
    pub identity_id: Option<String>,
    /// Key that signed the request.
    pub key: Option<Signer>,
    /// Effect of the fault that was applied.
    pub fault: Option<&'static str>,
    /// Reason why a credential was rejected.
    pub why: Option<String>,
}

impl Journal {
    /// Adds a request and returns its number.
    pub fn enter(&mut self, mut entry: Entry) -> u64 {
        entry.path = cut(&entry.path);
        entry.method = cut(&entry.method);
        entry.api_version = entry.api_version.as_deref().map(cut);
        if self.entries.len() >= MOST {
            self.entries.pop_front();
            self.forgotten += 1;
        }
        self.entries.push_back(entry);
        self.forgotten + self.entries.len() as u64 - 1
    }

    /// Returns the entry with a number, unless it was dropped.
    pub fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        let position = number.checked_sub(self.forgotten)?;
        self.entries.get_mut(usize::try_from(position).ok()?)
    }

    /// Returns the newest entries, oldest first.
    pub fn newest(&self, count: usize) -> Vec<Entry> {
        let skipped = self.entries.len().saturating_sub(count);
        self.entries.iter().skip(skipped).cloned().collect()
    }

    /// Returns the number of requests since the start.
    pub fn count(&self) -> u64 {
        self.forgotten + self.entries.len() as u64
    }

    /// Drops all entries.
    pub fn clear(&mut self) {
        self.forgotten += self.entries.len() as u64;
        self.entries.clear();
    }
}

/// Returns the beginning of a text.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}
