//! A directory as a store: the laptop's stand-in for a bucket.
//!
//! Every path is walked component by component below an open handle of the store's directory, and no component may be a
//! symbolic link. So a key cannot lead out of the store, not even when somebody swaps a directory for a link meanwhile.

use std::fs::{File, Metadata};
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::list::{SkipReason, Skips};
use crate::reader::Source;
use crate::url::file_uri;
use crate::{Glob, ObjectMeta, ObjectReader, PartReader, StoreError, Upload, Uploaded, Version};

const PAGE: usize = 1000;
/// Each level keeps a directory open while it is listed.
const MAX_DEPTH: usize = 64;
/// Uploads under way. The dot keeps them out of listings.
const TEMPORARY_PREFIX: &str = ".aqueduct-upload-";
const COPY_BYTES: usize = 1024 * 1024;

/// A directory whose regular files are objects.
#[derive(Clone, Debug)]
pub struct DirectoryStore {
    /// Absolute, without symbolic links.
    path: PathBuf,
    root: Arc<OwnedFd>,
}

impl DirectoryStore {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let real = path.canonicalize().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::DirectoryMissing { path: path.to_owned() },
            io::ErrorKind::NotADirectory => StoreError::NotADirectory { path: path.to_owned() },
            _ => StoreError::io("open", path, error),
        })?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&real, flags, Mode::empty()).map_err(|error| match error {
            Errno::NOTDIR => StoreError::NotADirectory { path: path.to_owned() },
            _ => StoreError::io("open", path, error.into()),
        })?;
        Ok(Self { path: real, root: Arc::new(root) })
    }

    pub(crate) fn create(path: &Path) -> Result<(), StoreError> {
        std::fs::create_dir_all(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                StoreError::NotADirectory { path: path.to_owned() }
            }
            _ => StoreError::io("create directory", path, error),
        })
    }

    pub(crate) fn of_file(path: &Path) -> Result<(Self, String), StoreError> {
        let missing = || StoreError::NotFound { uri: path.display().to_string() };
        let real = path.canonicalize().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => missing(),
            _ => StoreError::io("open", path, error),
        })?;
        let meta = real.metadata().map_err(|error| StoreError::io("open", path, error))?;
        if !meta.is_file() {
            let kind = if meta.is_dir() { "a directory" } else { "a device, pipe or socket" };
            return Err(StoreError::NotAFile { path: path.to_owned(), kind });
        }
        let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else {
            return Err(missing());
        };
        let key = name.to_str().ok_or_else(|| StoreError::UnsafeKey {
            key: name.to_string_lossy().into_owned(),
            reason: "its name is not UTF-8",
        })?;
        Ok((Self::open(parent)?, key.to_owned()))
    }

    pub(crate) fn uri_of(&self, key: &str) -> String {
        file_uri(&self.path.join(key.trim_start_matches('/')))
    }

    pub(crate) fn walk(&self, glob: &Glob) -> Walk {
        Walk {
            root: Arc::clone(&self.root),
            path: self.path.clone(),
            unfinished_too: asks_for_unfinished(&glob.to_string()),
            glob: glob.clone(),
            levels: Vec::new(),
            started: false,
        }
    }

    pub(crate) async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        let (store, key) = (self.clone(), key.to_owned());
        blocking("read", move || {
            let (directory, name) = store.parent_of(&key, Missing::Error)?;
            let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| store.explain("read", &key, error))?;
            store.check_kind(&key, FileType::from_raw_mode(stat.st_mode))?;
            Ok(object_of(key.clone(), &stat))
        })
        .await
    }

    pub(crate) async fn reader(&self, meta: &ObjectMeta) -> Result<ObjectReader, StoreError> {
        let (store, meta) = (self.clone(), meta.clone());
        blocking("read", move || {
            let file = store.open_pinned(&meta)?;
            Ok(ObjectReader::new(Source::Directory(file), store.uri_of(&meta.key), meta))
        })
        .await
    }

    pub(crate) async fn part(&self, meta: &ObjectMeta, range: Range<u64>) -> Result<PartReader, StoreError> {
        let (store, meta) = (self.clone(), meta.clone());
        blocking("read", move || {
            let mut file = store.open_pinned(&meta)?;
            file.seek(SeekFrom::Start(range.start)).map_err(|error| store.io("read", &meta.key, error))?;
            Ok(PartReader::new(Source::Directory(file), store.uri_of(&meta.key), meta, range))
        })
        .await
    }

    /// The file of this very version. What counts is the opened file, whatever the path leads to by now.
    fn open_pinned(&self, meta: &ObjectMeta) -> Result<File, StoreError> {
        let changed = || StoreError::ObjectChanged { uri: self.uri_of(&meta.key) };
        let file = match self.open_file(&meta.key) {
            // It was there when `meta` was made.
            Err(StoreError::NotFound { .. }) => return Err(changed()),
            other => other?,
        };
        let opened = file.metadata().map_err(|error| self.io("read", &meta.key, error))?;
        self.check_kind(&meta.key, FileType::from_raw_mode(opened.mode()))?;
        if file_version(&opened) == meta.version { Ok(file) } else { Err(changed()) }
    }

    pub(crate) async fn put(&self, key: &str, upload: Upload<'_>) -> Result<Uploaded, StoreError> {
        let (mut source, terms) = upload.open()?;
        let (expected, only_if_absent) = (terms.sha256, terms.only_if_absent);
        // The callback is not ours to send to another thread, so the counts come back here.
        let (counts, mut counted) = tokio::sync::mpsc::channel(16);
        let store = self.clone();
        let key = key.to_owned();
        let work = blocking("upload", move || {
            let (directory, name) = store.parent_of(&key, Missing::Create)?;
            let mut temporary = Temporary::create(directory).map_err(|error| store.io("write", &key, error))?;
            loop {
                let bytes = source.next(COPY_BYTES)?;
                temporary.file.write_all(&bytes).map_err(|error| store.io("write", &key, error))?;
                if bytes.is_empty() {
                    break;
                }
                let _ = counts.blocking_send(bytes.len() as u64); // nobody listens: nobody wants to know
            }
            let mode = source.mode();
            let (size, sha256) = source.finish(expected)?;
            let meta = temporary.publish(name, mode, only_if_absent).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists if only_if_absent => StoreError::AlreadyExists { uri: store.uri_of(&key) },
                io::ErrorKind::IsADirectory | io::ErrorKind::AlreadyExists => {
                    StoreError::NotAFile { path: store.path.join(&key), kind: "a directory" }
                }
                _ => store.io("write", &key, error),
            })?;
            Ok(Uploaded { key, size, version: file_version(&meta), etag: None, sha256, continued: 0 })
        });
        let report = async {
            while let Some(count) = counted.recv().await {
                terms.report(count);
            }
        };
        let (result, ()) = tokio::join!(work, report);
        result
    }

    /// The directory a key's file is in, opened without following a link, and the file's name.
    fn parent_of<'k>(&self, key: &'k str, missing: Missing) -> Result<(OwnedFd, &'k str), StoreError> {
        check_key(key)?;
        let (parents, name) = key.rsplit_once('/').map_or((None, key), |(parents, name)| (Some(parents), name));
        let mut directory = open_directory(&*self.root, ".").map_err(|error| self.explain("open", key, error))?;
        let mut path = self.path.clone();
        for component in parents.into_iter().flat_map(|parents| parents.split('/')) {
            path.push(component);
            let mut next = open_directory(&directory, component);
            if matches!(next, Err(Errno::NOENT)) && missing == Missing::Create {
                match rustix::fs::mkdirat(&directory, component, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(StoreError::io("create directory", &path, error.into())),
                }
                next = open_directory(&directory, component);
            }
            directory = match next {
                Ok(next) => next,
                Err(Errno::NOENT) => return Err(StoreError::NotFound { uri: self.uri_of(key) }),
                // A link, or a file where a directory is needed; either way nothing below it.
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let stat = rustix::fs::statat(&directory, component, AtFlags::SYMLINK_NOFOLLOW);
                    return Err(match stat.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
                        Ok(FileType::Symlink) => StoreError::SymbolicLink { path },
                        _ if missing == Missing::Create => StoreError::NotADirectory { path },
                        _ => StoreError::NotFound { uri: self.uri_of(key) },
                    });
                }
                Err(error) => return Err(StoreError::io("open", path, error.into())),
            };
        }
        Ok((directory, name))
    }

    fn open_file(&self, key: &str) -> Result<File, StoreError> {
        let (directory, name) = self.parent_of(key, Missing::Error)?;
        // NONBLOCK: opening a pipe must not wait for somebody to write into it.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, name, flags, Mode::empty())
            .map_err(|error| self.explain("read", key, error))?;
        Ok(File::from(file))
    }

    fn check_kind(&self, key: &str, kind: FileType) -> Result<(), StoreError> {
        let path = || self.path.join(key);
        match kind {
            FileType::RegularFile => Ok(()),
            FileType::Symlink => Err(StoreError::SymbolicLink { path: path() }),
            FileType::Directory => Err(StoreError::NotAFile { path: path(), kind: "a directory" }),
            _ => Err(StoreError::NotAFile { path: path(), kind: "a device, pipe or socket" }),
        }
    }

    fn explain(&self, action: &'static str, key: &str, error: Errno) -> StoreError {
        match error {
            Errno::NOENT => StoreError::NotFound { uri: self.uri_of(key) },
            Errno::LOOP => StoreError::SymbolicLink { path: self.path.join(key) },
            _ => self.io(action, key, error.into()),
        }
    }

    fn io(&self, action: &'static str, key: &str, error: io::Error) -> StoreError {
        StoreError::io(action, self.path.join(key), error)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Error,
    Create,
}

/// A key names a file below the directory only if it says the same on every system and to every reader.
fn check_key(key: &str) -> Result<(), StoreError> {
    let reason = if key.is_empty() {
        "it is empty"
    } else if key.starts_with('/') {
        "it starts with a slash"
    } else if key.ends_with('/') {
        "it ends in a slash"
    } else if key.contains('\0') {
        "it holds a NUL"
    } else if key.contains('\\') {
        "it holds a backslash"
    } else if key.split('/').any(str::is_empty) {
        "it holds an empty name between slashes"
    } else if key.split('/').any(|segment| segment == "." || segment == "..") {
        "it holds . or .. as a name"
    } else {
        return Ok(());
    };
    Err(StoreError::UnsafeKey { key: key.to_owned(), reason })
}

fn open_directory(below: impl std::os::fd::AsFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(below, name, flags, Mode::empty())
}

fn object_of(key: String, stat: &Stat) -> ObjectMeta {
    let (seconds, nanoseconds) = (stat.st_mtime as i128, stat.st_mtime_nsec as i128);
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    let modified_ns = seconds * 1_000_000_000 + nanoseconds;
    let version = Version::File { size, modified_ns, inode: stat.st_ino };
    ObjectMeta { key, size, last_modified: time_of(modified_ns), version, etag: None, sha256: None }
}

/// The version of an open file.
pub(crate) fn file_version(meta: &Metadata) -> Version {
    let modified_ns = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
    Version::File { size: meta.len(), modified_ns, inode: meta.ino() }
}

/// Times before 1970 exist on disks.
fn time_of(nanoseconds: i128) -> SystemTime {
    let seconds = nanoseconds.div_euclid(1_000_000_000);
    let rest = Duration::from_nanos(u64::try_from(nanoseconds.rem_euclid(1_000_000_000)).unwrap_or_default());
    let whole = Duration::from_secs(u64::try_from(seconds.unsigned_abs()).unwrap_or(u64::MAX));
    let epoch = SystemTime::UNIX_EPOCH;
    let second = if seconds < 0 { epoch.checked_sub(whole) } else { epoch.checked_add(whole) };
    second.and_then(|second| second.checked_add(rest)).unwrap_or(epoch)
}

/// Whether a file's name says that somebody is still writing it: browsers, FTP clients and careful programs give it its
/// own name only when it is whole.
pub fn is_unfinished(name: &str) -> bool {
    let ends_in = |ending: &str| {
        let begin = name.len().checked_sub(ending.len());
        begin.and_then(|begin| name.get(begin..)).is_some_and(|end| end.eq_ignore_ascii_case(ending))
    };
    UNFINISHED.into_iter().any(ends_in)
}

const UNFINISHED: [&str; 5] = [".part", ".partial", ".tmp", ".crdownload", ".filepart"];

fn asks_for_unfinished(pattern: &str) -> bool {
    let name = pattern.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    UNFINISHED.into_iter().any(|ending| name.contains(ending))
}

async fn blocking<T: Send + 'static>(
    action: &'static str,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Interrupted { action })?
}

/// A file nobody else can name or read yet; removed unless it is published.
struct Temporary {
    directory: OwnedFd,
    name: String,
    file: File,
    published: bool,
}

impl Temporary {
    fn create(directory: OwnedFd) -> io::Result<Self> {
        let name = format!("{TEMPORARY_PREFIX}{:016x}", random());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, &name, flags, Mode::from_raw_mode(0o600))?;
        Ok(Self { directory, name, file: file.into(), published: false })
    }

    /// Durable first, visible second: after a crash the name holds the whole file or what it held before.
    fn publish(mut self, name: &str, mode: u32, only_if_absent: bool) -> io::Result<Metadata> {
        self.file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        self.file.sync_all()?;
        if only_if_absent {
            // A link never replaces; the temporary name goes when `self` does.
            rustix::fs::linkat(&self.directory, &self.name, &self.directory, name, AtFlags::empty())?;
        } else {
            rustix::fs::renameat(&self.directory, &self.name, &self.directory, name)?;
            self.published = true;
        }
        rustix::fs::fsync(&self.directory)?;
        self.file.metadata()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.published {
            let _ = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty()); // a hidden leftover at worst
        }
    }
}

/// Unpredictable enough for a name and for jitter: the standard library seeds its hasher from the system.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// A listing under way: the open directories from the root down to where it stands.
#[derive(Debug)]
pub(crate) struct Walk {
    root: Arc<OwnedFd>,
    path: PathBuf,
    glob: Glob,
    /// The pattern itself names an ending of unfinished files.
    unfinished_too: bool,
    levels: Vec<Level>,
    started: bool,
}

#[derive(Debug)]
struct Level {
    directory: OwnedFd,
    /// Empty, or the keys' common start up to and with the slash.
    prefix: String,
    names: Names,
}

/// The names of one directory that matter, in key order: a directory has its slash and sorts as the keys below it do.
/// One text holds them all, because there may be a million.
#[derive(Debug, Default)]
struct Names {
    text: String,
    /// Where each name begins, and its length; the next one is the last.
    places: Vec<(usize, usize)>,
}

impl Names {
    fn add(&mut self, name: &str, is_directory: bool) {
        let start = self.text.len();
        self.text.push_str(name);
        if is_directory {
            self.text.push('/');
        }
        self.places.push((start, self.text.len() - start));
    }

    fn sort(&mut self) {
        let Self { text, places } = self;
        let name = |&(start, length): &(usize, usize)| &text[start..start + length];
        places.sort_unstable_by(|one, other| name(other).cmp(name(one)));
    }

    /// The next name, with a slash if it is a directory's.
    fn next(&mut self) -> Option<&str> {
        let (start, length) = self.places.pop()?;
        Some(&self.text[start..start + length])
    }
}

impl Walk {
    /// At most `PAGE` objects; none at the end. Blocking.
    pub(crate) fn next_page(&mut self, skips: &mut Skips) -> Result<Vec<ObjectMeta>, StoreError> {
        if !self.started {
            self.started = true;
            let root =
                open_directory(&*self.root, ".").map_err(|error| StoreError::io("list", &self.path, error.into()))?;
            let level = self.read_level(root, String::new(), skips);
            let level = level.map_err(|error| StoreError::io("list", &self.path, error.into()))?;
            self.levels.push(level);
        }
        let mut page = Vec::new();
        while page.len() < PAGE {
            let depth = self.levels.len();
            let Some(level) = self.levels.last_mut() else { break };
            let Some(name) = level.names.next() else {
                self.levels.pop();
                continue;
            };
            if let Some(name) = name.strip_suffix('/') {
                let key = format!("{}{name}", level.prefix);
                if depth > MAX_DEPTH {
                    skips.add(key, SkipReason::TooDeep);
                    continue;
                }
                let opened = open_directory(&level.directory, name);
                let level = opened.and_then(|directory| self.read_level(directory, format!("{key}/"), skips));
                match level {
                    Ok(level) => self.levels.push(level),
                    Err(Errno::NOENT) => {} // gone meanwhile
                    Err(Errno::LOOP | Errno::NOTDIR) => skips.add(key, SkipReason::SymbolicLink),
                    Err(_) => skips.add(key, SkipReason::Unreadable),
                }
            } else {
                let key = format!("{}{name}", level.prefix);
                match rustix::fs::statat(&level.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                        FileType::RegularFile => page.push(object_of(key, &stat)),
                        FileType::Symlink => skips.add(key, SkipReason::SymbolicLink),
                        _ => skips.add(key, SkipReason::NotAFile),
                    },
                    Err(Errno::NOENT) => {} // gone meanwhile
                    Err(_) => skips.add(key, SkipReason::Unreadable),
                }
            }
        }
        Ok(page)
    }

    fn read_level(&self, directory: OwnedFd, prefix: String, skips: &mut Skips) -> Result<Level, Errno> {
        let mut names = Names::default();
        let mut listing = Dir::read_from(&directory)?;
        while let Some(found) = listing.read() {
            let found = found?;
            let bytes = found.file_name().to_bytes();
            if bytes == b"." || bytes == b".." {
                continue;
            }
            let mut kind = found.file_type();
            if kind == FileType::Unknown {
                // Some file systems do not tell in a listing.
                let stat = rustix::fs::statat(&directory, found.file_name(), AtFlags::SYMLINK_NOFOLLOW);
                kind = stat.map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode));
            }
            let name = String::from_utf8_lossy(bytes);
            let key = format!("{prefix}{name}");
            let is_directory = kind == FileType::Directory;
            let wanted = match kind {
                FileType::Directory => self.glob.may_match_below(&format!("{key}/")),
                // A link may stand for a file or for a directory; which one, only following it would tell.
                FileType::Symlink => self.glob.matches(&key) || self.glob.may_match_below(&format!("{key}/")),
                _ => self.glob.matches(&key),
            };
            if !wanted || bytes.starts_with(TEMPORARY_PREFIX.as_bytes()) {
                continue;
            }
            let skipped = if kind == FileType::Symlink {
                Some(SkipReason::SymbolicLink)
            } else if std::str::from_utf8(bytes).is_err() {
                Some(SkipReason::NotUtf8)
            } else if bytes.contains(&b'\\') {
                Some(SkipReason::Backslash)
            } else if bytes.starts_with(b".") && self.glob.as_literal().is_none() {
                Some(SkipReason::Hidden)
            } else if !is_directory && kind != FileType::RegularFile {
                Some(SkipReason::NotAFile)
            } else if !is_directory && !self.unfinished_too && is_unfinished(&name) {
                Some(SkipReason::Unfinished)
            } else {
                None
            };
            match skipped {
                // A hidden directory is nobody's data; naming each `.git` would only be noise.
                Some(SkipReason::Hidden) if is_directory => {}
                Some(reason) => skips.add(key, reason),
                None => names.add(&name, is_directory),
            }
        }
        names.sort();
        Ok(Level { directory, prefix, names })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_no_plain_relative_path_are_refused() {
        for key in [
            "",
            "/abs.csv",
            "a//b.csv",
            "a/./b",
            "../x.csv",
            "a/../../x",
            "a/",
            "a\\..\\b",
            "..",
            ".",
            "a\0b",
            "//x",
            "a/..",
        ] {
            assert!(matches!(check_key(key), Err(StoreError::UnsafeKey { .. })), "{key:?}");
        }
        for key in ["a.csv", "..a/b..", "a/...", "%2e%2e/x.csv", "-rf.csv", "$(touch x).csv", "a b\nc", "é/ñ.csv"] {
            assert!(check_key(key).is_ok(), "{key:?}");
        }
    }

    #[test]
    fn times_before_1970_are_times() {
        let before = time_of(-1_500_000_000);
        assert_eq!(SystemTime::UNIX_EPOCH.duration_since(before).unwrap(), Duration::from_millis(1500));
    }
}
