//! One file into the store.
//!
//! A file is read twice: once to check it and take its fingerprint, once to send it. The store is given the fingerprint
//! and keeps nothing when the second pass reads other bytes, so what is stored is what was checked. A short file is held
//! in memory instead. What can be read only once (standard input), and what is compressed on the way, waits in an unnamed
//! temporary file in between.

use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata};
use std::io::{self, Cursor, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use objects::{
    Compression, ContentHash, Decompressed, Fingerprint, Fingerprinter, Fingerprinting, Glob, Limits, ObjectMeta,
    ReadAhead, Store, StoreError, Upload, Version,
};
use serde::Serialize;
use tokio::sync::Semaphore;
use transform::Pipeline;

use crate::check::{self, CheckError, CheckReport};
use crate::key::{KeyError, Keys};
use crate::local::{self, LocalError, LocalFile};

/// Read and hashed while it is still in the processor's cache.
const COPY_BUFFER: usize = 128 * 1024;
/// Files up to this are held in memory and read once; the others in pieces, twice.
const HELD_BYTES: u64 = 256 * 1024;
/// From here on a check is worth a second thread that reads ahead.
const READ_AHEAD_FROM: u64 = 4 << 20;
/// From this many files on, one listing is cheaper than asking for each.
const WORTH_LISTING: usize = 3;
/// A page of a listing has a thousand keys and one page follows the other: more of them than one for so many files take
/// longer than asking.
const FILES_A_PAGE: usize = 100;
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
    /// Bytes that were there from an upload that was cut short.
    pub continued: u64,
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
    Uploader::new(store.cloned(), options.clone()).upload(input, watch).await
}

/// Stores files, several at a time where somebody asks for several.
#[derive(Debug)]
pub struct Uploader {
    store: Option<Store>,
    options: Arc<Options>,
    inventory: Inventory,
    /// Checking is work for a processor: no more at once than there are, whatever waits for the store.
    processors: Semaphore,
}

impl Uploader {
    /// `store` may be missing for a dry run: the directory that would be made.
    pub fn new(store: Option<Store>, options: Options) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let processors = Semaphore::new(processors);
        Self { store, options: Arc::new(options), inventory: Inventory::default(), processors }
    }

    /// Looks which of the keys of `inputs` are taken, where one listing tells sooner than a question for each. Best
    /// effort: what is not known now is asked for later.
    pub async fn look(&mut self, inputs: &[Input]) {
        let Some(store @ Store::S3(_)) = &self.store else { return };
        let endings = match self.options.compress {
            None => &[""][..],
            Some(Compress::Gzip) => &["", ".gz"],
            Some(Compress::Zstd) => &["", ".zst"],
        };
        let keys = inputs.iter().flat_map(|input| {
            endings.iter().filter_map(|ending| self.options.keys.key_for(&format!("{}{ending}", input.name())).ok())
        });
        let keys: HashSet<String> = keys.collect();
        if inputs.len() >= WORTH_LISTING && !keys.is_empty() {
            // One more, which is no request where the listing is at its end.
            let max_pages = inputs.len().div_ceil(FILES_A_PAGE) + 1;
            self.inventory = match Inventory::of(store, keys, max_pages).await {
                Ok(inventory) => inventory,
                Err(error) => {
                    tracing::debug!(%error, "the store cannot be listed; each key is asked for");
                    Inventory::default()
                }
            };
        }
    }

    /// Whether the store has answered already.
    pub fn has_looked(&self) -> bool {
        self.inventory.end != Some(String::new())
    }

    /// Stores one file, unless its content is there already or its pipeline refuses it.
    pub async fn upload(&self, input: &Input, watch: &Watch) -> Result<Outcome, UploadError> {
        let (content, key) = {
            let (input, options, watch) = (input.clone(), Arc::clone(&self.options), Arc::clone(watch));
            self.blocking(move || {
                let content = Content::open(&input, &watch)?;
                let key = options.keys.key_for(&content.name_in_store(&input, &options))?;
                Ok((content, key))
            })
            .await?
        };
        // Asked before the long work: a store that refuses us is found out at once.
        let present = self.present(&key).await?;
        let prepared = {
            let (options, watch) = (Arc::clone(&self.options), Arc::clone(watch));
            self.blocking(move || content.prepare(&options, &watch)).await?
        };
        let Prepared { content, print, check, compressed_before } = prepared;
        let mut outcome = Outcome {
            key,
            action: Action::Uploaded,
            bytes: print.bytes(),
            sha256: print.sha256(),
            version: None,
            check,
            compressed_before,
            continued: 0,
        };
        outcome.action = match &present {
            None => Action::Uploaded,
            Some(meta) => self.compare(meta, &print).await?,
        };
        let Some(store) = self.store.as_ref().filter(|_| !self.options.dry_run) else {
            return Ok(outcome);
        };
        if outcome.action == Action::Unchanged {
            return Ok(outcome);
        }
        watch(Step::Storing { total: outcome.bytes });
        let stored = |bytes| watch(Step::Stored(bytes));
        let sent = |only_if_absent| {
            let upload = content.to_upload(store)?.fingerprint(print.clone()).progress(&stored);
            let upload = upload.content_type(content_type(content.compression));
            Ok::<_, UploadError>(if only_if_absent { upload.only_if_absent() } else { upload })
        };
        // A key that was free is taken only as long as it is: whatever came there meanwhile has to be looked at first.
        let only_if_absent = matches!(store, Store::S3(_)) && outcome.action == Action::Uploaded;
        let uploaded = match store.put(&outcome.key, sent(only_if_absent)?).await {
            Err(StoreError::AlreadyExists { .. }) if only_if_absent => {
                outcome.action = match store.head(&outcome.key).await {
                    Ok(meta) => self.compare(&meta, &print).await?,
                    Err(StoreError::NotFound { .. }) => Action::Uploaded,
                    Err(error) => return Err(error.into()),
                };
                if outcome.action == Action::Unchanged {
                    return Ok(outcome);
                }
                store.put(&outcome.key, sent(false)?).await?
            }
            // Some servers that speak S3 know no conditions.
            Err(StoreError::Service { code, .. }) if only_if_absent && code == "NotImplemented" => {
                store.put(&outcome.key, sent(false)?).await?
            }
            uploaded => uploaded?,
        };
        tracing::info!(key = outcome.key, bytes = outcome.bytes, version = %uploaded.version, "object stored");
        outcome.version = Some(uploaded.version);
        outcome.continued = uploaded.continued;
        Ok(outcome)
    }

    /// What the key holds.
    async fn present(&self, key: &str) -> Result<Option<ObjectMeta>, UploadError> {
        let Some(store) = &self.store else { return Ok(None) };
        if let Some(present) = self.inventory.knows(key) {
            return Ok(present.cloned());
        }
        match store.head(key).await {
            Ok(meta) => Ok(Some(meta)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What storing bytes under a key that holds others, or the same, comes to.
    async fn compare(&self, meta: &ObjectMeta, print: &Fingerprint) -> Result<Action, UploadError> {
        let unchanged = !self.options.force
            && meta.size == print.bytes()
            && match &self.store {
                Some(store) => stored_hash(store, meta).await? == Some(print.sha256()),
                None => false,
            };
        Ok(if unchanged { Action::Unchanged } else { Action::Replaced })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, UploadError> + Send + 'static,
    ) -> Result<T, UploadError> {
        let _processor = self.processors.acquire().await;
        blocking(work).await
    }
}

/// What a listing told of the keys somebody asked about.
#[derive(Debug)]
struct Inventory {
    present: HashMap<String, ObjectMeta>,
    /// Keys before this one that are not present are free; all of them, without one.
    end: Option<String>,
}

impl Default for Inventory {
    /// Of nothing.
    fn default() -> Self {
        Self { present: HashMap::new(), end: Some(String::new()) }
    }
}

impl Inventory {
    async fn of(store: &Store, keys: HashSet<String>, max_pages: usize) -> Result<Self, StoreError> {
        let mut lister = store.list(&Glob::below(shared_start(&keys)));
        let last = keys.iter().max();
        let (mut present, mut end) = (HashMap::new(), Some(String::new()));
        for _ in 0..max_pages {
            let Some(page) = lister.next_page().await? else {
                end = None;
                break;
            };
            end = page.last().map(|meta| meta.key.clone());
            present
                .extend(page.into_iter().filter(|meta| keys.contains(&meta.key)).map(|meta| (meta.key.clone(), meta)));
            if end.as_ref() > last {
                break;
            }
        }
        Ok(Self { present, end })
    }

    /// `None` where the listing did not come so far.
    fn knows(&self, key: &str) -> Option<Option<&ObjectMeta>> {
        let present = self.present.get(key);
        let looked = self.end.as_deref().is_none_or(|end| key < end);
        (looked || present.is_some()).then_some(present)
    }
}

/// What all the keys start with.
fn shared_start(keys: &HashSet<String>) -> &str {
    let (Some(first), Some(last)) = (keys.iter().min(), keys.iter().max()) else { return "" };
    let mut same = first.bytes().zip(last.bytes()).take_while(|(one, other)| one == other).count();
    while !first.is_char_boundary(same) {
        same -= 1;
    }
    &first[..same]
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
async fn stored_hash(store: &Store, meta: &ObjectMeta) -> Result<Option<ContentHash>, UploadError> {
    match store {
        Store::S3(_) if meta.sha256.is_some() => Ok(meta.sha256),
        // A listing does not tell it.
        Store::S3(_) => match store.head(&meta.key).await {
            Ok(meta) => Ok(meta.sha256),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        },
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
    file: Arc<File>,
    /// Where the bytes are, unless they are in a temporary file.
    path: Option<PathBuf>,
    /// What the file was when it was opened.
    meta: Metadata,
    /// All the bytes of a short file.
    held: Option<Arc<[u8]>>,
    compression: Compression,
}

/// A file ready to be stored.
struct Prepared {
    content: Content,
    print: Fingerprint,
    check: Option<CheckReport>,
    compressed_before: Option<Compression>,
}

impl Content {
    fn open(input: &Input, watch: &Watch) -> Result<Self, UploadError> {
        let (file, path) = match input {
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
        Self::of(input.label(), file, path)
    }

    fn of(label: String, file: File, path: Option<PathBuf>) -> Result<Self, UploadError> {
        let fail = |source| read_error(path.as_deref(), source);
        let meta = file.metadata().map_err(fail)?;
        let file = Arc::new(file);
        let mut held = None;
        let compression = if meta.len() <= HELD_BYTES {
            let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or_default() + 1);
            ReadAt::new(&file).take(HELD_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
            let compression = Compression::of_content(&bytes);
            held = Some(bytes.into());
            compression
        } else {
            let mut head = Vec::with_capacity(16);
            ReadAt::new(&file).take(16).read_to_end(&mut head).map_err(fail)?;
            Compression::of_content(&head)
        };
        Ok(Self { label, file, path, meta, held, compression })
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

    /// Checks and takes the fingerprint, and compresses if that is asked for.
    fn prepare(self, options: &Options, watch: &Watch) -> Result<Prepared, UploadError> {
        let watched = Watched { inner: self.reader(), watch: Arc::clone(watch) };
        let mut source =
            Decompressed::new(Fingerprinting::new(watched), Limits::default()).map_err(CheckError::Read)?;
        check::refuse_other_files(&source)?;
        let check = match &options.pipeline {
            Some(pipeline) => {
                // Decompression and the hash beside the check, where that is worth a thread.
                let ahead = self.meta.len() >= READ_AHEAD_FROM;
                let mut reader = match ahead {
                    true => ReadAhead::new(source).map_err(|error| read_error(self.path.as_deref(), error))?,
                    false => ReadAhead::direct(source),
                };
                let mut progress = |progress: check::CheckProgress| watch(Step::Records(progress.records));
                let check = check::check(&mut reader, pipeline, options.shown_rejects, &mut progress)?;
                source = reader.into_inner().map_err(CheckError::Read)?;
                Some(check)
            }
            None => {
                // To the end, so that a compressed file that was cut short is not stored.
                copy(&mut source, &mut io::sink())
                    .map_err(|error| CheckError::Read(StoreError::from_read(error, &self.label)))?;
                None
            }
        };
        let print = source.into_inner().finish();
        self.require_unchanged(&print)?;
        if let Some(report) = &check
            && report.over_limit.is_some()
        {
            return Err(UploadError::Rejects { report: Box::new(report.clone()) });
        }
        match (options.compress, self.compression) {
            (Some(compress), Compression::Plain) => self.compress(compress, &print, check, watch),
            (Some(_), before) => Ok(Prepared { content: self, print, check, compressed_before: Some(before) }),
            (None, _) => Ok(Prepared { content: self, print, check, compressed_before: None }),
        }
    }

    /// A file that is still being written is not the file that was checked.
    fn require_unchanged(&self, print: &Fingerprint) -> Result<(), UploadError> {
        let now = self.file.metadata().map_err(|source| read_error(self.path.as_deref(), source))?;
        let before = &self.meta;
        let same = now.len() == before.len() && now.modified().ok() == before.modified().ok();
        if same && print.bytes() == before.len() {
            return Ok(());
        }
        Err(UploadError::Changed { name: self.label.clone() })
    }

    /// Into a temporary file, whose bytes are then the ones to store.
    fn compress(
        self,
        compress: Compress,
        print: &Fingerprint,
        check: Option<CheckReport>,
        watch: &Watch,
    ) -> Result<Prepared, UploadError> {
        let fail = |source| UploadError::Spool { action: "compress into a temporary file", source };
        watch(Step::Compressing { total: self.meta.len() });
        let watched = Watched { inner: self.reader(), watch: Arc::clone(watch) };
        let mut plain = Fingerprinting::new(watched);
        let sink = Sink { file: tempfile::tempfile().map_err(fail)?, fingerprinter: Fingerprinter::default() };
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
        let Sink { file, fingerprinter } = sink.map_err(fail)?;
        if plain.finish().sha256() != print.sha256() {
            return Err(UploadError::Changed { name: self.label });
        }
        let content = Self::of(self.label, file, None)?;
        Ok(Prepared { content, print: fingerprinter.finish(), check, compressed_before: None })
    }

    /// From the start.
    fn reader(&self) -> Box<dyn Read + Send> {
        match &self.held {
            Some(bytes) => Box::new(Cursor::new(Arc::clone(bytes))),
            None => Box::new(ReadAt::new(&self.file)),
        }
    }

    /// From the start again.
    fn to_upload(&self, store: &Store) -> Result<Upload<'static>, UploadError> {
        match (&self.held, store) {
            (Some(bytes), Store::S3(_)) => Ok(Upload::bytes(&self.label, bytes.to_vec())),
            // A copy in a directory is as private as the file.
            _ => {
                let file = self.file.try_clone().map_err(|source| read_error(self.path.as_deref(), source))?;
                Ok(Upload::open_file(&self.label, file))
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
    let mut watched = Watched { inner: from, watch: Arc::clone(watch) };
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

/// Tells how much is read through it.
struct Watched<R> {
    inner: R,
    watch: Watch,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        (self.watch)(Step::Read(read as u64));
        Ok(read)
    }
}

/// A file from its start, wherever it stands for others.
struct ReadAt {
    file: Arc<File>,
    at: u64,
}

impl ReadAt {
    fn new(file: &Arc<File>) -> Self {
        Self { file: Arc::clone(file), at: 0 }
    }
}

impl Read for ReadAt {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = objects::read_at(&self.file, buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Takes the fingerprint of what is written through it.
struct Sink {
    file: File,
    fingerprinter: Fingerprinter,
}

impl Write for Sink {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.fingerprinter.update(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_share_their_start() {
        let start = |keys: &[&str]| shared_start(&keys.iter().map(|key| (*key).to_owned()).collect()).to_owned();
        assert_eq!(start(&["in/a1.csv", "in/a2.csv", "in/a10.csv"]), "in/a");
        assert_eq!(start(&["a.csv", "b.csv"]), "");
        assert_eq!(start(&["in/é.csv", "in/è.csv"]), "in/", "not half a letter");
        assert_eq!(start(&[]), "");
    }

    #[test]
    fn a_listing_knows_as_far_as_it_came() {
        let inventory = Inventory { present: HashMap::new(), end: Some("m".into()) };
        assert_eq!((inventory.knows("a"), inventory.knows("z")), (Some(None), None));
        assert_eq!(Inventory { end: None, ..inventory }.knows("z"), Some(None));
        assert_eq!(Inventory::default().knows("a"), None);
    }
}
