//! One new object on its way into a store.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::content::Hasher;
use crate::{ContentHash, StoreError, Version};

const COPY_BUFFER: usize = 256 * 1024;

/// What to store, and how.
pub struct Upload<'a> {
    body: Body,
    terms: Terms<'a>,
}

/// Everything about an upload but its bytes.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub(crate) sha256: Option<ContentHash>,
    pub(crate) only_if_absent: bool,
    pub(crate) content_type: &'a str,
    progress: Option<&'a (dyn Fn(u64) + Sync)>,
}

impl Terms<'_> {
    /// More bytes are stored.
    pub(crate) fn report(&self, bytes: u64) {
        if let Some(progress) = self.progress {
            progress(bytes);
        }
    }
}

enum Body {
    File(PathBuf),
    Stream { name: String, stream: Box<dyn Read + Send> },
}

/// What was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    pub key: String,
    pub size: u64,
    pub version: Version,
    /// S3's content tag without its quotes.
    pub etag: Option<String>,
    /// Of the bytes as they were sent.
    pub sha256: ContentHash,
}

impl<'a> Upload<'a> {
    /// A regular local file; its content must not change until it is stored.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::new(Body::File(path.into()))
    }

    /// A stream read once, on a blocking thread; `name` stands for it in errors.
    pub fn stream(name: impl Into<String>, stream: impl Read + Send + 'static) -> Self {
        Self::new(Body::Stream { name: name.into(), stream: Box::new(stream) })
    }

    fn new(body: Body) -> Self {
        let terms = Terms { sha256: None, only_if_absent: false, content_type: "text/csv", progress: None };
        Self { body, terms }
    }

    /// The hash of the bytes, when it is known: other bytes are not stored. Without it, only a long stream goes to S3
    /// without the metadata `aqueduct-sha256`; a file is then read twice.
    pub fn sha256(mut self, sha256: ContentHash) -> Self {
        self.terms.sha256 = Some(sha256);
        self
    }

    /// Store nothing when the key exists: then the result is [`StoreError::AlreadyExists`].
    pub fn only_if_absent(mut self) -> Self {
        self.terms.only_if_absent = true;
        self
    }

    /// `text/csv` unless said otherwise.
    pub fn content_type(mut self, content_type: &'a str) -> Self {
        self.terms.content_type = content_type;
        self
    }

    /// Called with the bytes stored since the last call.
    pub fn progress(mut self, progress: &'a (dyn Fn(u64) + Sync)) -> Self {
        self.terms.progress = Some(progress);
        self
    }

    /// Opens what is uploaded (blocking).
    pub(crate) fn open(self) -> Result<(Source, Terms<'a>), StoreError> {
        let (name, stream, size) = match self.body {
            Body::Stream { name, stream } => (name, Stream::Other(stream), None),
            Body::File(path) => {
                let (file, size) = open_regular(&path)?;
                (path.display().to_string(), Stream::File(file), Some(size))
            }
        };
        Ok((Source { name, stream, size, hasher: Hasher::new(), read: 0 }, self.terms))
    }
}

/// A file and its size.
fn open_regular(path: &Path) -> Result<(File, u64), StoreError> {
    let fail = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => StoreError::NotFound { uri: path.display().to_string() },
        _ => StoreError::io("read", path, error),
    };
    // Looked at before it is opened: opening a pipe waits for somebody to write into it.
    let kind = std::fs::metadata(path).map_err(fail)?;
    if !kind.is_file() {
        let kind = if kind.is_dir() { "a directory" } else { "a device, pipe or socket" };
        return Err(StoreError::NotAFile { path: path.to_owned(), kind });
    }
    let file = File::open(path).map_err(fail)?;
    let size = file.metadata().map_err(fail)?.len();
    Ok((file, size))
}

impl fmt::Debug for Upload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.body {
            Body::File(path) => path.display().to_string(),
            Body::Stream { name, .. } => name.clone(),
        };
        f.debug_struct("Upload")
            .field("from", &name)
            .field("sha256", &self.terms.sha256)
            .field("only_if_absent", &self.terms.only_if_absent)
            .finish_non_exhaustive()
    }
}

/// What is uploaded, read once from start to end and hashed on the way.
pub(crate) struct Source {
    name: String,
    stream: Stream,
    /// Of a file.
    pub(crate) size: Option<u64>,
    hasher: Hasher,
    read: u64,
}

enum Stream {
    File(File),
    Other(Box<dyn Read + Send>),
}

impl Source {
    /// The next bytes, fewer than `length` only at the end.
    pub(crate) fn next(&mut self, length: usize) -> Result<Vec<u8>, StoreError> {
        let left = self.size.map(|size| usize::try_from(size.saturating_sub(self.read)).unwrap_or(usize::MAX));
        // One byte more than a file has left shows a file that grew.
        let mut bytes = Vec::with_capacity(left.map_or(length, |left| left.saturating_add(1)).min(length));
        let limit = length as u64;
        let result = match &mut self.stream {
            Stream::File(file) => file.take(limit).read_to_end(&mut bytes),
            Stream::Other(stream) => stream.take(limit).read_to_end(&mut bytes),
        };
        result.map_err(|error| StoreError::from_read(error, &self.name))?;
        self.hasher.update(&bytes);
        self.read += bytes.len() as u64;
        Ok(bytes)
    }

    /// The hash a file will have at its end: the rest is read beforehand, then reading goes on where it stood. `None`
    /// for a stream.
    pub(crate) fn hash_ahead(&mut self) -> Result<Option<ContentHash>, StoreError> {
        let Stream::File(file) = &mut self.stream else {
            return Ok(None);
        };
        let mut hasher = self.hasher.clone();
        let mut buffer = vec![0; COPY_BUFFER];
        let fail = |error| StoreError::from_read(error, &self.name);
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => hasher.update(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(fail(error)),
            }
        }
        file.seek(io::SeekFrom::Start(self.read)).map_err(fail)?;
        Ok(Some(hasher.finish()))
    }

    /// Permission bits for a copy: a file's own without execution, else the owner's alone.
    pub(crate) fn mode(&self) -> u32 {
        match &self.stream {
            Stream::File(file) => file.metadata().map_or(0o600, |meta| meta.permissions().mode() & 0o644 | 0o600),
            Stream::Other(_) => 0o600,
        }
    }

    /// Bytes and hash of what was read; an error when a file's size or the expected hash does not agree.
    pub(crate) fn finish(self, expected: Option<ContentHash>) -> Result<(u64, ContentHash), StoreError> {
        let hash = self.hasher.finish();
        let resized = self.size.is_some_and(|size| size != self.read);
        if resized || expected.is_some_and(|expected| expected != hash) {
            return Err(StoreError::SourceChanged { source_name: self.name });
        }
        Ok((self.read, hash))
    }
}
