//! Events the service does not want, in a file: one JSON object a line, with what was to be sent and why it was not taken.

use std::borrow::Cow;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::stream::Flight;

/// Why an event is set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    TooOld,
    Expired,
    TooNew,
    /// With the service's code.
    Refused(String),
    Unsent,
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::TooOld => "older than 14 days",
            Self::Expired => "older than the group keeps events",
            Self::TooNew => "more than two hours ahead",
            Self::Refused(code) => return write!(formatter, "refused by the service ({code})"),
            Self::Unsent => "not sent when log-shipper stopped",
        })
    }
}

/// The file.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    path: PathBuf,
}

impl DeadLetters {
    pub fn new(state: &Path) -> Self {
        Self { path: state.join("dead-letters.jsonl") }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the events of a batch that the service does not want. Durable when it returns.
    pub fn write(&self, flight: &Flight) -> io::Result<()> {
        self.append(flight, flight.rejected.iter().map(|(event, cause)| (*event, Cow::Borrowed(cause))))
    }

    /// Writes what is left of a batch that was not sent and cannot be read again. Durable when it returns.
    pub fn write_left(&self, flight: &Flight) -> io::Result<()> {
        let left = flight.left.iter().flat_map(Clone::clone).map(|event| (event, Cow::Owned(Cause::Unsent)));
        let rejected = flight.rejected.iter().map(|(event, cause)| (*event, Cow::Borrowed(cause)));
        self.append(flight, rejected.chain(left))
    }

    fn append<'a>(&self, flight: &Flight, events: impl Iterator<Item = (usize, Cow<'a, Cause>)>) -> io::Result<()> {
        let mut lines = Vec::new();
        for (event, cause) in events {
            let head = serde_json::json!({ "reason": cause.to_string(), "group": flight.group, "stream": flight.name });
            let mut line = serde_json::to_vec(&head)?;
            line.pop();
            line.extend_from_slice(b",\"event\":");
            line.extend_from_slice(flight.sealed.json(event));
            line.extend_from_slice(b"}\n");
            lines.extend_from_slice(&line);
        }
        // What is logged may be private.
        let mut file: File = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.path)?;
        let before = file.metadata()?.len();
        if before == 0 {
            // The name may be new.
            self.path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())?;
        }
        if before > 0 {
            // After a kill in the middle of a line the next one begins anew.
            let mut last = [0];
            file.read_exact_at(&mut last, before - 1)?;
            if last != *b"\n" {
                lines.insert(0, b'\n');
            }
        }
        file.write_all(&lines).and_then(|()| file.sync_data()).inspect_err(|_| {
            // Half a line would spoil the next one; it is written again.
            let _ = file.set_len(before);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;

    fn flight(message: &str) -> Flight {
        let mut batch = Batch::new("g", "s");
        batch.push(1, message);
        Flight {
            id: 1,
            stream: 0,
            group: "g".into(),
            name: "s".into(),
            retention_days: None,
            sealed: batch.sealed(),
            origins: std::collections::BTreeSet::new(),
            left: std::iter::once(0..1).collect(),
            rejected: Vec::new(),
        }
    }

    #[test]
    fn a_line_that_a_kill_cut_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let letters = DeadLetters::new(folder.path());
        letters.write_left(&flight("one")).unwrap();
        let whole = std::fs::read(letters.path()).unwrap();
        std::fs::write(letters.path(), &whole[..whole.len() / 2]).unwrap();
        letters.write_left(&flight("two")).unwrap();
        letters.write_left(&flight("three")).unwrap();
        let text = std::fs::read_to_string(letters.path()).unwrap();
        let read: Vec<serde_json::Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let messages: Vec<&str> = read.iter().map(|letter| letter["event"]["message"].as_str().unwrap()).collect();
        assert_eq!(messages, ["two", "three"]);
    }
}
