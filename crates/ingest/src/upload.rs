//! One file into the store.
//!
//! A file is read twice: once to check and hash it, once to send it. The store is given the hash of the first pass and
//! keeps nothing when the second pass reads other bytes, so what is stored is what was checked. What can be read only
//! once (standard input), and what is compressed on the way, waits in an unnamed temporary file in between.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use objects::{Compression, ContentHash, Decompressed, Limits, Store, StoreError, Upload, Version};
use serde::Serialize;
use sha2::{Digest, Sha256};
use transform::Pipeline;

use crate::check::{self, CheckError, CheckReport};
use crate::key::{KeyError, Keys};
use crate::local::{self, LocalError, LocalFile};

const COPY_BUFFER: usize = 256 * 1024;
/// zstd's own default: about as fast as a disk.
const ZSTD_LEVEL: i32 = 3;

/// What is uploaded.
#[derive(Clone, Debug)]
pub enum Input {
    File(LocalFile),
    /// Standard input, and what its key ends in.
    Stdin {
        name: String,
    },
}

impl Input {
    /// For messages.
    pub fn label(&self) -> String {
        match self {
            Self::File(file) => file.path.display().to_string(),
            Self::Stdin { .. } => "standard input".into(),
        }
    }

    /// What its key ends in.
    pub fn name(&self) -> &str {
        match self {
            Self::File(file) => &file.name,
            Self::Stdin { name } => name,
        }
    }
}

/// How files are uploaded.
#[derive(Clone, Debug)]
pub struct Options {
    pub keys: Keys,
    /// Checks each file before anything of it is stored.
    pub pipeline: Option<Arc<Pipeline>>,
    pub compress: Option<Compress>,
    /// Says what would be done.
    pub dry_run: bool,
    /// Stores content again that is there already.
    pub force: bool,
    /// Rejects kept to be shown.
    pub shown_rejects: usize,
}

/// Compression applied on the way; a file that is compressed already stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compress {
    Gzip,
    Zstd,
}

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reading begins; the size is unknown for a pipe.
    Checking {
        total: Option<u64>,
    },
    /// Bytes read since the last step.
    Read(u64),
    /// Records checked so far.
    Records(u64),
    Compressing {
        total: u64,
    },
    Storing {
        total: u64,
    },
    /// Bytes stored since the last step.
    Stored(u64),
}

/// Told each step, from any thread.
pub type Watch = Arc<dyn Fn(Step) + Send + Sync>;

/// What was done, or with `dry_run` would have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The key was free.
    Uploaded,
    /// The key held other bytes.
    Replaced,
    /// The key holds these bytes already; nothing was sent.
    Unchanged,
}

/// What became of one file.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub key: String,
    pub action: Action,
    /// As stored.
    pub bytes: u64,
    pub sha256: ContentHash,
    /// `None` when nothing was stored.
    pub version: Option<Version>,
    pub check: Option<CheckReport>,
    /// A file compressed already was to be compressed.
    pub compressed_before: Option<Compression>,
}

/// Why a file was not stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UploadError {
    #[error(transparent)]
    Local(#[from] LocalError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("{other} has the same key, {key:?}")]
    SameKey { key: String, other: String },
    #[error(transparent)]
    Content(#[from] CheckError),
    /// More rejects than the pipeline bears.
    #[error("{} of {} records rejected", report.rejected, report.records)]
    Rejects { report: Box<CheckReport> },
    #[error("{name} changed while it was being read")]
    Changed { name: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{action}")]
    Spool { action: &'static str, source: io::Error },
    /// A bug of ours.
    #[error("the check stopped unexpectedly")]
    Worker(#[source] tokio::task::JoinError),
}

impl UploadError {
    /// Whether the next file would fail for the same reason: it is the store that fails, not the file.
    pub fn concerns_the_store(&self) -> bool {
        let Self::Store(error) = self else {
            return false;
        };
        error.is_permission()
            || matches!(
                error,
                StoreError::NoRegion
                    | StoreError::Endpoint { .. }
                    | StoreError::WrongRegion { .. }
                    | StoreError::BucketMissing { .. }
                    | StoreError::DirectoryMissing { .. }
                    | StoreError::NotADirectory { .. }
                    | StoreError::Timeout { .. }
                    | StoreError::Unreachable { .. }
            )
    }
}

/// Stores one file, unless its content is there already or its pipeline refuses it. `store` may be missing for a dry
/// run: the directory that would be made.
pub async fn upload(
    store: Option<&Store>,
    input: &Input,
    options: &Options,
    watch: &Watch,
) -> Result<Outcome, UploadError> {
    let (content, key) = {
        let (input, options, watch) = (input.clone(), options.clone(), Arc::clone(watch));
        blocking(move || {
            let content = Content::open(&input, &watch)?;
            let key = options.keys.key_for(&content.name_in_store(&input, &options))?;
            Ok((content, key))
        })
        .await?
    };
    // Asked before the long work: a store that refuses us is found out at once.
    let present = match store {
        Some(store) => match store.head(&key).await {
            Ok(meta) => Some((store, meta)),
            Err(StoreError::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        },
        None => None,
    };
    let prepared = {
        let (options, watch) = (options.clone(), Arc::clone(watch));
        blocking(move || content.prepare(&options, &watch)).await?
    };
    let Prepared { content, size, sha256, check, compressed_before } = prepared;
    let content_type = content_type(content.compression);
    let mut outcome =
        Outcome { key, action: Action::Uploaded, bytes: size, sha256, version: None, check, compressed_before };
    if let Some((store, meta)) = present {
        let unchanged = meta.size == size && stored_hash(store, &meta).await? == Some(sha256);
        if unchanged && !options.force {
            return Ok(Outcome { action: Action::Unchanged, ..outcome });
        }
        outcome.action = Action::Replaced;
    }
    if options.dry_run {
        return Ok(outcome);
    }
    let Some(store) = store else {
        return Ok(outcome);
    };
    watch(Step::Storing { total: size });
    let stored = |bytes| watch(Step::Stored(bytes));
    let upload = content.into_upload()?.sha256(sha256).progress(&stored);
    let uploaded = store.put(&outcome.key, upload.content_type(content_type)).await?;
    tracing::info!(key = outcome.key, bytes = size, version = %uploaded.version, "object stored");
    outcome.version = Some(uploaded.version);
    Ok(outcome)
}

fn content_type(compression: Compression) -> &'static str {
    match compression {
        Compression::Gzip => "application/gzip",
        Compression::Zstd => "application/zstd",
        Compression::Bzip2 => "application/x-bzip2",
        _ => "text/csv",
    }
}

/// The hash of what a key holds, where it is known or cheap to know: in S3 only if it was stored with the object.
async fn stored_hash(store: &Store, meta: &objects::ObjectMeta) -> Result<Option<ContentHash>, UploadError> {
    match store {
        Store::S3(_) => Ok(meta.sha256),
        Store::Directory(_) => {
            let reader = store.reader(meta).await?;
            blocking(move || Ok(Some(reader.finish()?.sha256))).await
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, UploadError> + Send + 'static,
) -> Result<T, UploadError> {
    tokio::task::spawn_blocking(work).await.map_err(UploadError::Worker)?
}

/// Bytes that can be read more than once.
struct Content {
    label: String,
    file: File,
    /// Where the bytes can be opened again, unless they are in a temporary file.
    path: Option<PathBuf>,
    compression: Compression,
}

/// A file ready to be stored.
struct Prepared {
    content: Content,
    size: u64,
    sha256: ContentHash,
    check: Option<CheckReport>,
    compressed_before: Option<Compression>,
}

impl Content {
    fn open(input: &Input, watch: &Watch) -> Result<Self, UploadError> {
        let (mut file, path) = match input {
            Input::File(LocalFile { path, .. }) => {
                let (file, meta) = local::open(path)?;
                watch(Step::Checking { total: Some(meta.len()) });
                (file, Some(path.clone()))
            }
            Input::Stdin { .. } => {
                watch(Step::Checking { total: None });
                (spool(&mut io::stdin().lock(), watch)?, None)
            }
        };
        let mut head = Vec::with_capacity(16);
        let read = Read::take(&file, 16).read_to_end(&mut head).and_then(|_| file.rewind());
        read.map_err(|source| read_error(path.as_deref(), source))?;
        Ok(Self { label: input.label(), file, path, compression: Compression::of_content(&head) })
    }

    /// With the ending of the compression we are going to add.
    fn name_in_store(&self, input: &Input, options: &Options) -> String {
        let ending = match (self.compression, options.compress) {
            (Compression::Plain, Some(Compress::Gzip)) => ".gz",
            (Compression::Plain, Some(Compress::Zstd)) => ".zst",
            _ => "",
        };
        format!("{}{ending}", input.name())
    }

    /// Checks and hashes, and compresses if that is asked for.
    fn prepare(self, options: &Options, watch: &Watch) -> Result<Prepared, UploadError> {
        let before = self.len()?;
        let mut hashing = Hashing { inner: &self.file, hasher: Sha256::new(), bytes: 0, watch };
        let mut source = Decompressed::new(&mut hashing, Limits::default()).map_err(CheckError::Read)?;
        let check = match &options.pipeline {
            Some(pipeline) => {
                let mut progress = |progress: check::CheckProgress| watch(Step::Records(progress.records));
                Some(check::check(&mut source, pipeline, options.shown_rejects, &mut progress)?)
            }
            None => {
                check::refuse_other_files(&source)?;
                // To the end, so that a compressed file that was cut short is not stored.
                let rest = io::copy(&mut source, &mut io::sink());
                rest.map_err(|error| CheckError::Read(StoreError::from_read(error, &self.label)))?;
                None
            }
        };
        drop(source);
        let (size, hasher) = (hashing.bytes, hashing.hasher);
        // A file that is still being written is not the file that was checked.
        if before != size || self.len()? != size {
            return Err(UploadError::Changed { name: self.label });
        }
        if let Some(report) = &check
            && report.over_limit.is_some()
        {
            return Err(UploadError::Rejects { report: Box::new(report.clone()) });
        }
        let sha256 = ContentHash::from(<[u8; 32]>::from(hasher.finalize()));
        match (options.compress, self.compression) {
            (Some(compress), Compression::Plain) => self.compress(compress, sha256, check, watch),
            (Some(_), before) => Ok(Prepared { content: self, size, sha256, check, compressed_before: Some(before) }),
            (None, _) => Ok(Prepared { content: self, size, sha256, check, compressed_before: None }),
        }
    }

    /// Into a temporary file, whose bytes are then the ones to store.
    fn compress(
        mut self,
        compress: Compress,
        sha256: ContentHash,
        check: Option<CheckReport>,
        watch: &Watch,
    ) -> Result<Prepared, UploadError> {
        let fail = |source| UploadError::Spool { action: "compress into a temporary file", source };
        self.file.rewind().map_err(fail)?;
        watch(Step::Compressing { total: self.len()? });
        let mut plain = Hashing { inner: &self.file, hasher: Sha256::new(), bytes: 0, watch };
        let sink = Sink { file: tempfile::tempfile().map_err(fail)?, hasher: Sha256::new(), bytes: 0 };
        let sink = match compress {
            Compress::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(sink, flate2::Compression::default());
                copy(&mut plain, &mut encoder).and_then(|()| encoder.finish())
            }
            Compress::Zstd => zstd::Encoder::new(sink, ZSTD_LEVEL).and_then(|mut encoder| {
                encoder.include_checksum(true)?;
                copy(&mut plain, &mut encoder)?;
                encoder.finish()
            }),
        };
        let Sink { mut file, hasher, bytes } = sink.map_err(fail)?;
        let compression = match compress {
            Compress::Gzip => Compression::Gzip,
            Compress::Zstd => Compression::Zstd,
        };
        if ContentHash::from(<[u8; 32]>::from(plain.hasher.finalize())) != sha256 {
            return Err(UploadError::Changed { name: self.label });
        }
        file.rewind().map_err(fail)?;
        let content = Self { label: self.label, file, path: None, compression };
        let sha256 = ContentHash::from(<[u8; 32]>::from(hasher.finalize()));
        Ok(Prepared { content, size: bytes, sha256, check, compressed_before: None })
    }

    fn len(&self) -> Result<u64, UploadError> {
        self.file.metadata().map(|meta| meta.len()).map_err(|source| read_error(self.path.as_deref(), source))
    }

    /// From its start again.
    fn into_upload(mut self) -> Result<Upload<'static>, UploadError> {
        match self.path {
            Some(path) => Ok(Upload::file(path)),
            None => {
                self.file.rewind().map_err(|source| read_error(None, source))?;
                Ok(Upload::stream(self.label, self.file))
            }
        }
    }
}

fn read_error(path: Option<&Path>, source: io::Error) -> UploadError {
    match path {
        Some(path) => LocalError::Io { action: "read", path: path.to_owned(), source }.into(),
        None => UploadError::Spool { action: "read the temporary file", source },
    }
}

/// Keeps what can be read only once.
fn spool(from: &mut impl Read, watch: &Watch) -> Result<File, UploadError> {
    let fail = |source| UploadError::Spool { action: "keep standard input in a temporary file", source };
    let mut file = tempfile::tempfile().map_err(fail)?;
    let mut watched = Watched { inner: from, watch };
    copy(&mut watched, &mut file).and_then(|()| file.rewind()).map_err(fail)?;
    Ok(file)
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return to.flush(),
            Ok(read) => to.write_all(&buffer[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

struct Watched<'a, R> {
    inner: &'a mut R,
    watch: &'a Watch,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        (self.watch)(Step::Read(read as u64));
        Ok(read)
    }
}

/// Hashes what is read through it.
struct Hashing<'a> {
    inner: &'a File,
    hasher: Sha256,
    bytes: u64,
    watch: &'a Watch,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.bytes += read as u64;
        (self.watch)(Step::Read(read as u64));
        Ok(read)
    }
}

/// Hashes what is written through it.
struct Sink {
    file: File,
    hasher: Sha256,
    bytes: u64,
}

impl Write for Sink {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hasher.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
