//! Events the service does not want, in a file: one JSON object a line, with what was to be sent and why it was not taken.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::stream::Flight;

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
        self.append(flight, flight.rejected.iter().map(|(event, reason)| (*event, reason.as_ref())))
    }

    /// Writes what is left of a batch that was not sent and cannot be read again. Durable when it returns.
    pub fn write_left(&self, flight: &Flight) -> io::Result<()> {
        let left = flight.left.iter().flat_map(Clone::clone).map(|event| (event, "not sent when log-shipper stopped"));
        let rejected = flight.rejected.iter().map(|(event, reason)| (*event, reason.as_ref()));
        self.append(flight, rejected.chain(left))
    }

    fn append<'a>(&self, flight: &Flight, events: impl Iterator<Item = (usize, &'a str)>) -> io::Result<()> {
        let mut lines = Vec::new();
        for (event, reason) in events {
            let head = serde_json::json!({ "reason": reason, "group": flight.group, "stream": flight.name });
            let mut line = serde_json::to_vec(&head)?;
            line.pop();
            line.extend_from_slice(b",\"event\":");
            line.extend_from_slice(flight.sealed.json(event));
            line.extend_from_slice(b"}\n");
            lines.extend_from_slice(&line);
        }
        // What is logged may be private.
        let mut file: File = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        let before = file.metadata()?.len();
        if before == 0 {
            // The name may be new.
            self.path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())?;
        }
        file.write_all(&lines).and_then(|()| file.sync_data()).inspect_err(|_| {
            // Half a line would spoil the next one; it is written again.
            let _ = file.set_len(before);
        })
    }
}
