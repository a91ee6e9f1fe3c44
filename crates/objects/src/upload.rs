//! One new object on its way into a store.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Cursor, Read, Seek};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::content::Hasher;
use crate::directory::{Mode, mode_of};
use crate::positioned::{read_at, read_exact_at};
use crate::{ContentHash, Fingerprint, Fingerprinter, StoreError, Version};

/// Read and hashed while it is still in the processor's cache.
const FINGERPRINT_BUFFER: usize = 128 * 1024;

/// What to store, and how.
pub struct Upload<'a> {
    body: Body,
    terms: Terms<'a>,
    print: Option<Fingerprint>,
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
    Path(PathBuf),
    File { name: String, file: File },
    Bytes { name: String, bytes: Vec<u8> },
    Stream { name: String, stream: Box<dyn Read + Send> },
}

/// What is uploaded, by the way it can be read.
pub(crate) enum Content {
    /// Of a length known beforehand, and readable from anywhere.
    File(KnownFile),
    Bytes(Vec<u8>, Fingerprint),
    /// From start to end, once.
    Stream(Source),
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
    /// Bytes that were there from an upload of the same content that was cut short, and were not sent again.
    pub continued: u64,
}

impl<'a> Upload<'a> {
    /// A regular local file; its content must not change until it is stored.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::new(Body::Path(path.into()))
    }

    /// An open regular file, from its start, wherever it stands; `name` stands for it in errors. Its content must not
    /// change until it is stored.
    pub fn open_file(name: impl Into<String>, file: File) -> Self {
        Self::new(Body::File { name: name.into(), file })
    }

    /// Bytes at hand; `name` stands for them in errors.
    pub fn bytes(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self::new(Body::Bytes { name: name.into(), bytes })
    }

    /// A stream read once, on a blocking thread; `name` stands for it in errors.
    pub fn stream(name: impl Into<String>, stream: impl Read + Send + 'static) -> Self {
        Self::new(Body::Stream { name: name.into(), stream: Box::new(stream) })
    }

    fn new(body: Body) -> Self {
        let terms = Terms { sha256: None, only_if_absent: false, content_type: "text/csv", progress: None };
        Self { body, terms, print: None }
    }

    /// The fingerprint of the bytes, when it is known: other bytes are not stored. Without it a file on its way to S3
    /// is read twice.
    pub fn fingerprint(mut self, print: Fingerprint) -> Self {
        self.terms.sha256 = Some(print.sha256());
        self.print = Some(print);
        self
    }

    /// The hash of the bytes, when it is known: other bytes are not stored. Without it, a long stream goes to S3 without
    /// the metadata `aqueduct-sha256`.
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

    /// Opens what is uploaded (blocking), to be read from start to end.
    pub(crate) fn open(self) -> Result<(Source, Terms<'a>), StoreError> {
        let (name, stream, size) = match self.body {
            Body::Stream { name, stream } => (name, Stream::Other(stream), None),
            Body::Bytes { name, bytes } => {
                let size = bytes.len() as u64;
                (name, Stream::Other(Box::new(Cursor::new(bytes))), Some(size))
            }
            Body::Path(path) => {
                let (file, meta) = open_regular(&path)?;
                (path.display().to_string(), Stream::File(file), Some(meta.len()))
            }
            Body::File { name, mut file } => {
                let size = file.rewind().and_then(|()| file.metadata());
                let size = size.map_err(|error| StoreError::from_read(error, &name))?.len();
                (name, Stream::File(file), Some(size))
            }
        };
        Ok((Source { name, stream, size, hasher: Hasher::new(), read: 0 }, self.terms))
    }

    /// Everything but the bytes.
    pub(crate) fn terms(&self) -> Terms<'a> {
        self.terms
    }

    /// The bytes alone.
    pub(crate) fn into_closed(self) -> Closed {
        Closed { body: self.body, print: self.print, expected: self.terms.sha256 }
    }
}

/// What is uploaded, before it is opened.
pub(crate) struct Closed {
    body: Body,
    print: Option<Fingerprint>,
    expected: Option<ContentHash>,
}

impl Closed {
    /// Opening it waits for nothing.
    pub(crate) fn is_at_hand(&self) -> bool {
        let is_known = self.print.is_some();
        matches!(self.body, Body::Stream { .. }) || (is_known && !matches!(self.body, Body::Path(_)))
    }

    /// Opens it (blocking), and takes the fingerprint that is not known yet of what can be read twice.
    pub(crate) fn open(self) -> Result<Content, StoreError> {
        let expected = self.expected;
        let (name, file, meta) = match self.body {
            Body::Stream { name, stream } => {
                let stream = Stream::Other(stream);
                return Ok(Content::Stream(Source { name, stream, size: None, hasher: Hasher::new(), read: 0 }));
            }
            Body::Bytes { name, bytes } => {
                let print = self.print.unwrap_or_else(|| {
                    let mut fingerprinter = Fingerprinter::default();
                    fingerprinter.update(&bytes);
                    fingerprinter.finish()
                });
                let same = expected.is_none_or(|expected| expected == print.sha256());
                return match same && print.bytes() == bytes.len() as u64 {
                    true => Ok(Content::Bytes(bytes, print)),
                    false => Err(StoreError::SourceChanged { source_name: name }),
                };
            }
            Body::Path(path) => {
                let (file, meta) = open_regular(&path)?;
                (path.display().to_string(), file, meta)
            }
            Body::File { name, file } => {
                let meta = file.metadata().map_err(|error| StoreError::from_read(error, &name))?;
                (name, file, meta)
            }
        };
        let print = match self.print {
            Some(print) => print,
            None => fingerprint_of(&file).map_err(|error| StoreError::from_read(error, &name))?,
        };
        let file = KnownFile { name, file, modified: meta.modified().ok(), print };
        if meta.len() != file.print.bytes() || expected.is_some_and(|expected| expected != file.print.sha256()) {
            return Err(file.changed());
        }
        Ok(Content::File(file))
    }
}

fn fingerprint_of(file: &File) -> io::Result<Fingerprint> {
    let mut fingerprinter = Fingerprinter::default();
    let mut buffer = vec![0; FINGERPRINT_BUFFER];
    let mut at = 0;
    loop {
        match read_at(file, &mut buffer, at) {
            Ok(0) => return Ok(fingerprinter.finish()),
            Ok(read) => {
                fingerprinter.update(&buffer[..read]);
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A file whose content is known: any range of it can be read, and is what it was or an error.
#[derive(Debug)]
pub(crate) struct KnownFile {
    name: String,
    file: File,
    modified: Option<SystemTime>,
    pub(crate) print: Fingerprint,
}

impl KnownFile {
    /// The bytes of a range between borders of pieces into a buffer of that length, and their checksum (blocking).
    pub(crate) fn read(&self, range: &Range<u64>, buffer: &mut [u8]) -> Result<u32, StoreError> {
        match read_exact_at(&self.file, buffer, range.start) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(self.changed()),
            read => read.map_err(|error| StoreError::from_read(error, &self.name))?,
        }
        let crc32 = crc32fast::hash(buffer);
        if crc32 == self.print.crc32(range) { Ok(crc32) } else { Err(self.changed()) }
    }

    /// Fails when the file was written to since it was opened here (blocking).
    pub(crate) fn require_unchanged(&self) -> Result<(), StoreError> {
        let meta = self.file.metadata().map_err(|error| StoreError::from_read(error, &self.name))?;
        let same = meta.len() == self.print.bytes() && meta.modified().ok() == self.modified;
        if same { Ok(()) } else { Err(self.changed()) }
    }

    fn changed(&self) -> StoreError {
        StoreError::SourceChanged { source_name: self.name.clone() }
    }
}

/// A file and what it is.
fn open_regular(path: &Path) -> Result<(File, Metadata), StoreError> {
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
    let meta = file.metadata().map_err(fail)?;
    Ok((file, meta))
}

impl fmt::Debug for Upload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.body {
            Body::Path(path) => path.display().to_string(),
            Body::File { name, .. } | Body::Bytes { name, .. } | Body::Stream { name, .. } => name.clone(),
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
    /// Where it is known.
    size: Option<u64>,
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

    /// What a copy is to allow.
    pub(crate) fn mode(&self) -> Mode {
        let original = match &self.stream {
            Stream::File(file) => file.metadata().ok(),
            Stream::Other(_) => None,
        };
        mode_of(original.as_ref())
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
