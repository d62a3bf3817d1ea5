//! What was asked and answered, without any secret.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::Serialize;

use super::state::Signer;

/// Older entries are forgotten.
const MOST: usize = 100_000;
/// Longer texts are cut: they are of no operation.
const LONGEST: usize = 300;

/// The newest requests.
#[derive(Default)]
pub(super) struct Journal {
    entries: VecDeque<Entry>,
    forgotten: u64,
}

/// A request. It is entered when it has come, and completed when it is answered.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    /// By the service's clock.
    pub time: Timestamp,
    pub operation: &'static str,
    pub method: String,
    /// Without the query.
    pub path: String,
    pub api_version: Option<String>,
    /// None until the request is answered, and where it never is.
    pub status: Option<u16>,
    pub error_code: Option<String>,
    pub identity_id: Option<String>,
    /// Which key signed.
    pub key: Option<Signer>,
    /// The effect of a fault.
    pub fault: Option<&'static str>,
    /// Why a credential was refused.
    pub why: Option<String>,
}

impl Journal {
    /// Enters a request; tells its number.
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

    /// The entry of a number, unless it is forgotten.
    pub fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        let position = number.checked_sub(self.forgotten)?;
        self.entries.get_mut(usize::try_from(position).ok()?)
    }

    /// The newest entries, oldest of them first.
    pub fn newest(&self, count: usize) -> Vec<Entry> {
        let skipped = self.entries.len().saturating_sub(count);
        self.entries.iter().skip(skipped).cloned().collect()
    }

    /// How many requests there ever were.
    pub fn count(&self) -> u64 {
        self.forgotten + self.entries.len() as u64
    }

    /// Forgets all entries.
    pub fn clear(&mut self) {
        self.forgotten += self.entries.len() as u64;
        self.entries.clear();
    }
}

/// The beginning of a text.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}
