//! What was done and what waits: for `status`, for the metrics and for the last line. Times are seconds.

use crate::dead_letter::Cause;
use serde::{Deserialize, Serialize};

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Events taken from sources.
    pub read: u64,
    pub accepted: u64,
    /// Written to the file of dead letters: all, and by cause.
    pub dead_letters: u64,
    /// Older than the service takes.
    pub dead_letters_too_old: u64,
    /// Older than the group keeps events.
    pub dead_letters_expired: u64,
    /// Too far ahead.
    pub dead_letters_too_new: u64,
    /// Refused for what they are.
    pub dead_letters_refused: u64,
    /// Not sent before the end.
    pub dead_letters_unsent: u64,
    /// Left out by `keep` and `drop`.
    pub filtered: u64,
    pub blank: u64,
    /// Parts of what was too long for one event.
    pub parts: u64,
    /// Events with bytes that are no UTF-8, which were replaced.
    pub not_utf8: u64,
    /// Events whose time could not be read; they have the time they were read at.
    pub without_time: u64,
    /// Bytes of messages the service accepted.
    pub bytes_accepted: u64,
    pub requests: u64,
    pub retries_throttled: u64,
    pub retries_denied: u64,
    pub retries_unavailable: u64,
    /// Files that were emptied while they were read.
    pub files_emptied: u64,
    /// Events that could neither be sent nor set aside before the end, and that nobody can read again.
    pub lost: u64,
    /// Bytes of emptied or deleted files that nobody could read any more.
    pub bytes_lost: u64,
    /// Zeros before what a program wrote at its old place in a file that was emptied.
    pub bytes_of_holes: u64,
    pub saves_failed: u64,
    /// Stretches of the journal that were gone before they were read.
    pub journal_gaps: u64,
    /// Stretches of what journalctl wrote that were no entries.
    pub journal_damaged: u64,
    /// Fields of entries that were longer than what is kept of them.
    pub journal_cut: u64,
    /// Metrics that could not be sent in time.
    pub metrics_dropped: u64,
}

impl Counts {
    /// So many events more stand in the file of dead letters.
    pub fn set_aside(&mut self, cause: &Cause, events: u64) {
        self.dead_letters += events;
        *match cause {
            Cause::TooOld => &mut self.dead_letters_too_old,
            Cause::Expired => &mut self.dead_letters_expired,
            Cause::TooNew => &mut self.dead_letters_too_new,
            Cause::Refused(_) => &mut self.dead_letters_refused,
            Cause::Unsent => &mut self.dead_letters_unsent,
        } += events;
    }

    /// Those in the file of dead letters by cause, as metrics and `status` call them.
    pub fn causes(&self) -> [(&'static str, u64); 5] {
        [
            ("too old", self.dead_letters_too_old),
            ("older than the group keeps events", self.dead_letters_expired),
            ("too far ahead", self.dead_letters_too_new),
            ("refused", self.dead_letters_refused),
            ("not sent before the end", self.dead_letters_unsent),
        ]
    }
}

/// One file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileStatus {
    pub path: String,
    pub stream: String,
    pub bytes: u64,
    pub lag_bytes: u64,
    pub lag_seconds: f64,
}

/// One stream that has trouble.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamStatus {
    pub group: String,
    pub stream: String,
    pub failures: u32,
    pub trouble: String,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    /// RFC 3339.
    pub started: String,
    pub written: String,
    pub counts: Counts,
    pub files: u64,
    pub files_lagging: u64,
    pub files_unreadable: u64,
    pub streams: u64,
    pub streams_troubled: u64,
    pub lag_bytes: u64,
    pub lag_seconds: f64,
    /// Age of the oldest event that was taken and is not accepted.
    pub oldest_unaccepted_seconds: f64,
    /// Those that lag most, up to a hundred; so many of the others, too.
    pub lagging: Vec<FileStatus>,
    pub troubled: Vec<StreamStatus>,
    /// Files that cannot be read, with the reason.
    pub unreadable: Vec<(String, String)>,
}
