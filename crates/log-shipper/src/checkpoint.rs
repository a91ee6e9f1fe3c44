//! Positions that outlive the process: what has been accepted by the service, file by file.
//!
//! Two files take turns, each with a number, a length and a checksum, so that a write that is cut off leaves the one before
//! it. A position is only believed for a file whose first bytes, and whose bytes before the position, are what they were.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::batch::Position;
use crate::journal;
use crate::mark::Print;

const MAGIC: &str = "log-shipper positions";
const VERSION: u32 = 1;
const NAMES: [&str; 2] = ["positions.a", "positions.b"];

/// One file's position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it was seen last.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// Where it was found first; its stream is called after it.
    #[serde(serialize_with = "lossy")]
    pub origin: PathBuf,
    pub device: u64,
    pub inode: u64,
    /// When it was made, in nanoseconds since 1970, where the file system knows: a number that is given again is another file's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born: Option<i64>,
    /// How often it was emptied and begun anew.
    #[serde(default)]
    pub generation: u32,
    #[serde(flatten)]
    pub print: Print,
    #[serde(flatten)]
    pub position: Position,
}

/// A name that is not UTF-8 can be written only nearly; its file is found again by its number and its bytes.
fn lossy<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// One journal's position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// What of the journal is read.
    pub journal: String,
    #[serde(flatten)]
    pub mark: journal::Mark,
}

/// All positions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    /// Patterns of the configuration whose files were looked for.
    #[serde(default)]
    pub patterns: Vec<String>,
    pub files: Vec<Entry>,
    #[serde(default)]
    pub journals: Vec<JournalEntry>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    number: u64,
    #[serde(flatten)]
    positions: Positions,
}

/// Where positions are kept.
#[derive(Debug)]
pub struct Checkpoint {
    directory: PathBuf,
    number: u64,
}

/// Why positions could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("{action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{} was written by a newer log-shipper (its version is {found}); run that one, or take the file away to begin anew", path.display())]
    Newer { path: PathBuf, found: u32 },
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    pub checkpoint: Checkpoint,
    pub positions: Positions,
    /// Files that are damaged, to be told.
    pub damaged: Vec<PathBuf>,
}

impl Checkpoint {
    /// Opens the directory, which is made if it is missing, and reads the latest positions.
    pub fn open(directory: &Path) -> Result<Found, CheckpointError> {
        let fail = |action, path: &Path| {
            let path = path.to_owned();
            move |source| CheckpointError::Io { action, path, source }
        };
        fs::create_dir_all(directory).map_err(fail("make directory", directory))?;
        let (mut latest, mut damaged) = (Document::default(), Vec::new());
        for name in NAMES {
            let path = directory.join(name);
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(fail("read", &path)(error)),
            };
            match read(&bytes) {
                Ok(document) if document.number >= latest.number => latest = document,
                Ok(_) => {}
                Err(Some(found)) => return Err(CheckpointError::Newer { path, found }),
                Err(None) => damaged.push(path),
            }
        }
        let checkpoint = Self { directory: directory.to_owned(), number: latest.number };
        Ok(Found { checkpoint, positions: latest.positions, damaged })
    }

    /// Durable when it returns; gives the time it took to write, without the wait for the disk.
    pub fn write(&mut self, positions: Positions) -> Result<Duration, CheckpointError> {
        let begun = Instant::now();
        let number = self.number + 1;
        let path = self.directory.join(NAMES[(number % 2) as usize]);
        let document = serde_json::to_vec(&Document { number, positions });
        let document = document.map_err(|error| CheckpointError::Io {
            action: "write",
            path: path.clone(),
            source: io::Error::other(error),
        })?;
        let head = head(&document);
        let is_new = !path.exists();
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(head.as_bytes())?;
            file.write_all(&document)?;
            let took = begun.elapsed();
            file.sync_data().map(|()| took)
        });
        let written = written.and_then(|took| {
            if is_new {
                File::open(&self.directory)?.sync_all()?;
            }
            Ok(took)
        });
        let took = written.map_err(|source| CheckpointError::Io { action: "write", path, source })?;
        self.number = number;
        Ok(took)
    }
}

/// What stands before a document.
pub(crate) fn head(document: &[u8]) -> String {
    format!("{MAGIC} {VERSION} {} {:08x}\n", document.len(), crc32fast::hash(document))
}

/// Reads bytes and forgets what they say.
#[cfg(any(test, fuzzing))]
pub(crate) fn check(bytes: &[u8]) {
    let _ = read(bytes);
}

/// `Err(Some(version))`: of a newer version. `Err(None)`: damaged.
fn read(bytes: &[u8]) -> Result<Document, Option<u32>> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(None)?;
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| None)?;
    let mut words = head.strip_prefix(MAGIC).ok_or(None)?.split_ascii_whitespace();
    let version: u32 = words.next().and_then(|word| word.parse().ok()).ok_or(None)?;
    if version > VERSION {
        return Err(Some(version));
    }
    let length: usize = words.next().and_then(|word| word.parse().ok()).ok_or(None)?;
    let sum = words.next().and_then(|word| u32::from_str_radix(word, 16).ok()).ok_or(None)?;
    let document = &bytes[end + 1..];
    if document.len() != length || crc32fast::hash(document) != sum {
        return Err(None);
    }
    serde_json::from_slice(document).map_err(|_| None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn positions(offset: u64) -> Positions {
        let file = Entry {
            path: "/var/log/a.log.1".into(),
            origin: "/var/log/a.log".into(),
            device: 1,
            inode: 2,
            born: Some(1),
            generation: 3,
            print: Print { head: 4, before: u64::MAX },
            position: Position { offset, parts: 0 },
        };
        let mark = journal::Mark { cursor: "s=1;i=2".into(), boot: "b".into(), realtime_us: offset };
        Positions {
            patterns: vec!["/var/log/*.log".into()],
            files: vec![file],
            journals: vec![JournalEntry { journal: "all".into(), mark }],
        }
    }

    #[test]
    fn the_latest_whole_write_counts() {
        let folder = tempfile::tempdir().unwrap();
        let mut found = Checkpoint::open(folder.path()).unwrap();
        for offset in 1..=5 {
            found.checkpoint.write(positions(offset)).unwrap();
            assert_eq!(Checkpoint::open(folder.path()).unwrap().positions, positions(offset));
        }
        // The write of the fifth was cut off: the fourth counts, and the next write does not touch it.
        let last = folder.path().join(NAMES[1]);
        let bytes = fs::read(&last).unwrap();
        for length in 0..bytes.len() {
            fs::write(&last, &bytes[..length]).unwrap();
            let found = Checkpoint::open(folder.path()).unwrap();
            assert_eq!((found.positions, found.damaged), (positions(4), vec![last.clone()]), "{length} bytes");
        }
        let mut found = Checkpoint::open(folder.path()).unwrap();
        found.checkpoint.write(positions(6)).unwrap();
        let found = Checkpoint::open(folder.path()).unwrap();
        assert_eq!((found.positions, found.damaged.len()), (positions(6), 0));
    }

    #[test]
    fn positions_of_a_newer_version_are_not_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NAMES[0]), format!("{MAGIC} 2 0 00000000\n")).unwrap();
        let error = Checkpoint::open(folder.path()).unwrap_err();
        assert!(matches!(error, CheckpointError::Newer { found: 2, .. }), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_are_more_than_damaged(bytes in proptest::collection::vec(any::<u8>(), 0..80), head in any::<bool>()) {
            let bytes = if head { [MAGIC.as_bytes(), &bytes].concat() } else { bytes };
            let _ = read(&bytes);
        }
    }
}
