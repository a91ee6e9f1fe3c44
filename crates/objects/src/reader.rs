//! The bytes of one pinned object, in order, for a blocking thread.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::content::Hasher;
use crate::directory::version_of;
use crate::s3::RangedRead;
use crate::{ContentHash, ObjectMeta, StoreError};

/// The most bytes of an object that wait in memory for the reader.
pub const READ_AHEAD: u64 = crate::s3::RANGE_BYTES * crate::s3::RANGES_IN_FLIGHT as u64;

/// The bytes of one version of one object, as stored.
///
/// A `Read` for a blocking thread: called from async code it panics, because reading from S3 waits for the network.
/// Dropping it stops what is still under way. Its errors are [`StoreError`]s; see [`StoreError::from_read`].
pub struct ObjectReader {
    source: Source,
    uri: String,
    meta: ObjectMeta,
    hasher: Hasher,
    progress: ReadProgress,
    read: u64,
    state: State,
}

#[derive(Debug)]
pub(crate) enum Source {
    Directory(File),
    S3(RangedRead),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    Ended,
    /// An error was given; nothing after it can be trusted.
    Failed,
}

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadSummary {
    /// Bytes as stored.
    pub bytes: u64,
    pub sha256: ContentHash,
}

/// How far a reader has come, for a progress bar on another thread.
#[derive(Clone, Debug, Default)]
pub struct ReadProgress(Arc<AtomicU64>);

impl ReadProgress {
    /// Bytes read so far, as stored.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl ObjectReader {
    pub(crate) fn new(source: Source, uri: String, meta: ObjectMeta) -> Self {
        let (hasher, progress) = (Hasher::new(), ReadProgress::default());
        Self { source, uri, meta, hasher, progress, read: 0, state: State::Reading }
    }

    /// The object that is read.
    pub fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    /// A handle that follows this reader wherever it goes.
    pub fn progress(&self) -> ReadProgress {
        self.progress.clone()
    }

    /// Bytes and hash of the whole object. What was not read yet is read now, so that the hash is never one of a part;
    /// fails like a read, and with [`StoreError::ContentMismatch`] when the uploader vouched for other bytes.
    pub fn finish(mut self) -> Result<ReadSummary, StoreError> {
        if let Err(error) = io::copy(&mut self, &mut io::sink()) {
            return Err(StoreError::from_read(error, &self.uri));
        }
        let sha256 = self.hasher.finish();
        if self.meta.sha256.is_some_and(|stored| stored != sha256) {
            return Err(StoreError::ContentMismatch { uri: self.uri });
        }
        Ok(ReadSummary { bytes: self.read, sha256 })
    }

    fn changed(&self) -> StoreError {
        StoreError::ObjectChanged { uri: self.uri.clone() }
    }

    fn read_source(&mut self, buffer: &mut [u8]) -> Result<usize, StoreError> {
        let read = self.source.read(buffer, &self.uri)?;
        self.read += read as u64;
        // A file that grows might never end; stop at the first byte too many.
        if self.read > self.meta.size {
            return Err(self.changed());
        }
        if read == 0 {
            self.check_end()?;
            self.state = State::Ended;
        }
        Ok(read)
    }

    /// All bytes there, and still the version that was opened.
    fn check_end(&self) -> Result<(), StoreError> {
        let same = self.source.is_still(&self.meta, &self.uri)?;
        if same && self.read == self.meta.size { Ok(()) } else { Err(self.changed()) }
    }
}

impl Source {
    fn read(&mut self, buffer: &mut [u8], uri: &str) -> Result<usize, StoreError> {
        match self {
            Self::S3(ranges) => ranges.read(buffer),
            Self::Directory(file) => {
                read_through_signals(file, buffer).map_err(|error| StoreError::io("read", uri, error))
            }
        }
    }

    /// Whether what was opened is still the version that was pinned.
    fn is_still(&self, meta: &ObjectMeta, uri: &str) -> Result<bool, StoreError> {
        match self {
            Self::S3(_) => Ok(true), // each range was asked of the pinned version
            Self::Directory(file) => {
                let now = version_of(file).map_err(|error| StoreError::io("read", uri, error))?;
                Ok(now == meta.version)
            }
        }
    }
}

/// Some bytes of one version of one object, as stored: like [`ObjectReader`], for a part of it and without a hash.
pub struct PartReader {
    source: Source,
    uri: String,
    meta: ObjectMeta,
    left: u64,
    state: State,
}

impl PartReader {
    pub(crate) fn new(source: Source, uri: String, meta: ObjectMeta, range: Range<u64>) -> Self {
        Self { source, uri, meta, left: range.end.saturating_sub(range.start), state: State::Reading }
    }

    fn read_source(&mut self, buffer: &mut [u8]) -> Result<usize, StoreError> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = if most == 0 { 0 } else { self.source.read(&mut buffer[..most], &self.uri)? };
        self.left -= read as u64;
        if read == 0 {
            if self.left > 0 || !self.source.is_still(&self.meta, &self.uri)? {
                return Err(StoreError::ObjectChanged { uri: self.uri.clone() });
            }
            self.state = State::Ended;
        }
        Ok(read)
    }
}

impl Read for PartReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.state == State::Ended {
            return Ok(0);
        }
        if self.state == State::Failed {
            return Err(StoreError::Interrupted { action: "read" }.into());
        }
        Ok(self.read_source(buffer).inspect_err(|_| self.state = State::Failed)?)
    }
}

impl fmt::Debug for PartReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartReader").field("uri", &self.uri).field("left", &self.left).finish_non_exhaustive()
    }
}

fn read_through_signals(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.state == State::Ended {
            return Ok(0);
        }
        if self.state == State::Failed {
            return Err(StoreError::Interrupted { action: "read" }.into());
        }
        let read = self.read_source(buffer).inspect_err(|_| self.state = State::Failed)?;
        self.hasher.update(&buffer[..read]);
        self.progress.0.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectReader").field("uri", &self.uri).field("read", &self.read).finish_non_exhaustive()
    }
}
