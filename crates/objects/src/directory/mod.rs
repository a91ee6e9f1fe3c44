//! A directory as a store: the laptop's stand-in for a bucket.
//!
//! Every path is walked component by component below an open handle of the store's directory, and no component may be a
//! symbolic link. So a key cannot lead out of the store, not even when somebody swaps a directory for a link meanwhile.

mod folder;

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use self::folder::{Fault, Folder, Kind, Look};
pub(crate) use self::folder::{Mode, mode_of, version_of};
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
    root: Arc<Folder>,
}

impl DirectoryStore {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let real = path.canonicalize().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::DirectoryMissing { path: path.to_owned() },
            io::ErrorKind::NotADirectory => StoreError::NotADirectory { path: path.to_owned() },
            _ => StoreError::io("open", path, error),
        })?;
        let root = Folder::open(&real).map_err(|error| match error.kind() {
            io::ErrorKind::NotADirectory => StoreError::NotADirectory { path: path.to_owned() },
            _ => StoreError::io("open", path, error),
        })?;
        Ok(Self { path: as_people_write_it(real), root: Arc::new(root) })
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
            let look = directory.look(name).map_err(|error| store.explain("read", &key, error))?;
            store.check_kind(&key, look.kind)?;
            Ok(object_of(key.clone(), &look))
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
        let opened = Folder::look_at(&file).map_err(|error| self.io("read", &meta.key, error))?;
        self.check_kind(&meta.key, opened.kind)?;
        if opened.version() == meta.version { Ok(file) } else { Err(changed()) }
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
            let version = temporary.publish(name, mode, only_if_absent).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists if only_if_absent => StoreError::AlreadyExists { uri: store.uri_of(&key) },
                io::ErrorKind::IsADirectory | io::ErrorKind::AlreadyExists => {
                    StoreError::NotAFile { path: store.path.join(&key), kind: "a directory" }
                }
                _ => store.io("write", &key, error),
            })?;
            Ok(Uploaded { key, size, version, etag: None, sha256, continued: 0 })
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
    fn parent_of<'k>(&self, key: &'k str, missing: Missing) -> Result<(Folder, &'k str), StoreError> {
        check_key(key)?;
        let (parents, name) = key.rsplit_once('/').map_or((None, key), |(parents, name)| (Some(parents), name));
        let mut directory = self.root.again().map_err(|error| self.io("open", key, error))?;
        let mut path = self.path.clone();
        for component in parents.into_iter().flat_map(|parents| parents.split('/')) {
            path.push(component);
            let mut next = directory.enter(component);
            if matches!(next, Err(Fault::Missing)) && missing == Missing::Create {
                directory.make(component).map_err(|error| StoreError::io("create directory", &path, error))?;
                next = directory.enter(component);
            }
            directory = match next {
                Ok(next) => next,
                Err(Fault::Missing) => return Err(StoreError::NotFound { uri: self.uri_of(key) }),
                // Either way there is nothing below it.
                Err(Fault::Barred) => {
                    return Err(match directory.look(component).map(|look| look.kind) {
                        Ok(Kind::Link) => StoreError::SymbolicLink { path },
                        _ if missing == Missing::Create => StoreError::NotADirectory { path },
                        _ => StoreError::NotFound { uri: self.uri_of(key) },
                    });
                }
                Err(Fault::Io(error)) => return Err(StoreError::io("open", path, error)),
            };
        }
        Ok((directory, name))
    }

    fn open_file(&self, key: &str) -> Result<File, StoreError> {
        let (directory, name) = self.parent_of(key, Missing::Error)?;
        directory.open_file(name).map_err(|error| self.explain("read", key, error))
    }

    fn check_kind(&self, key: &str, kind: Kind) -> Result<(), StoreError> {
        let path = || self.path.join(key);
        match kind {
            Kind::File => Ok(()),
            Kind::Link => Err(StoreError::SymbolicLink { path: path() }),
            Kind::Directory => Err(StoreError::NotAFile { path: path(), kind: "a directory" }),
            Kind::Other => Err(StoreError::NotAFile { path: path(), kind: "a device, pipe or socket" }),
        }
    }

    fn explain(&self, action: &'static str, key: &str, fault: Fault) -> StoreError {
        match fault {
            Fault::Missing => StoreError::NotFound { uri: self.uri_of(key) },
            Fault::Barred => StoreError::SymbolicLink { path: self.path.join(key) },
            Fault::Io(error) => self.io(action, key, error),
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

/// Windows puts `\\\\?\\` before a path that it has resolved.
fn as_people_write_it(real: PathBuf) -> PathBuf {
    #[cfg(windows)]
    if let Some(path) = real.to_str().and_then(|path| path.strip_prefix(r"\\?\")) {
        return match path.strip_prefix(r"UNC\") {
            Some(share) => PathBuf::from(format!(r"\\{share}")),
            None if path.as_bytes().get(1) == Some(&b':') => PathBuf::from(path),
            None => real,
        };
    }
    real
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
    } else if cfg!(windows)
        && let Some(reason) = key.split('/').find_map(refused_by_windows)
    {
        reason
    } else {
        return Ok(());
    };
    Err(StoreError::UnsafeKey { key: key.to_owned(), reason })
}

/// Names that stand for something else there, or that no program could open by them: Microsoft's "Naming Files, Paths, and
/// Namespaces".
fn refused_by_windows(name: &str) -> Option<&'static str> {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let is_numbered = |device: &str| {
        let number = stem.strip_prefix(device);
        number.is_some_and(|number| matches!(number.as_bytes(), [b'0'..=b'9']) || matches!(number, "¹" | "²" | "³"))
    };
    let is_device = matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$");
    if name.contains(|char: char| char.is_control() || r#"<>:"|?*"#.contains(char)) {
        Some("it holds a character that no file name of Windows can hold")
    } else if name.ends_with(['.', ' ']) {
        Some("a name in it ends in a dot or a space, which Windows leaves out")
    } else if is_device || is_numbered("COM") || is_numbered("LPT") {
        Some("a name in it stands for a device on Windows")
    } else {
        None
    }
}

fn object_of(key: String, look: &Look) -> ObjectMeta {
    let last_modified = time_of(look.modified_ns);
    ObjectMeta { key, size: look.size, last_modified, version: look.version(), etag: None, sha256: None }
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
    directory: Folder,
    name: String,
    file: File,
    published: bool,
}

impl Temporary {
    fn create(directory: Folder) -> io::Result<Self> {
        let name = format!("{TEMPORARY_PREFIX}{:016x}", random());
        let file = directory.create(&name)?;
        Ok(Self { directory, name, file, published: false })
    }

    /// Durable first, visible second: after a crash the name holds the whole file or what it held before.
    fn publish(mut self, name: &str, mode: Mode, only_if_absent: bool) -> io::Result<Version> {
        Folder::set_mode(&self.file, mode)?;
        self.file.sync_all()?;
        if only_if_absent {
            // A link never replaces; the temporary name goes when `self` does.
            self.directory.link(&self.name, name)?;
        } else {
            self.directory.rename(&self.name, name)?;
            self.published = true;
        }
        self.directory.sync()?;
        version_of(&self.file)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.published {
            let _ = self.directory.remove(&self.name); // a hidden leftover at worst
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
    root: Arc<Folder>,
    path: PathBuf,
    glob: Glob,
    /// The pattern itself names an ending of unfinished files.
    unfinished_too: bool,
    levels: Vec<Level>,
    started: bool,
}

#[derive(Debug)]
struct Level {
    directory: Folder,
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
            let level = self.root.again().and_then(|root| self.read_level(root, String::new(), skips));
            self.levels.push(level.map_err(|error| StoreError::io("list", &self.path, error))?);
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
                let level = match level.directory.enter(name) {
                    Ok(directory) => self.read_level(directory, format!("{key}/"), skips),
                    Err(Fault::Barred) => {
                        skips.add(key, SkipReason::SymbolicLink);
                        continue;
                    }
                    Err(fault) => Err(fault.into_io()),
                };
                match level {
                    Ok(level) => self.levels.push(level),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {} // gone meanwhile
                    Err(_) => skips.add(key, SkipReason::Unreadable),
                }
            } else {
                let key = format!("{}{name}", level.prefix);
                match level.directory.look(name) {
                    Ok(look) => match look.kind {
                        Kind::File => page.push(object_of(key, &look)),
                        Kind::Link => skips.add(key, SkipReason::SymbolicLink),
                        Kind::Directory | Kind::Other => skips.add(key, SkipReason::NotAFile),
                    },
                    Err(Fault::Missing) => {} // gone meanwhile
                    Err(_) => skips.add(key, SkipReason::Unreadable),
                }
            }
        }
        Ok(page)
    }

    fn read_level(&self, directory: Folder, prefix: String, skips: &mut Skips) -> io::Result<Level> {
        let mut names = Names::default();
        directory.each_name(|bytes, kind| {
            let name = String::from_utf8_lossy(bytes);
            let key = format!("{prefix}{name}");
            let is_directory = kind == Kind::Directory;
            let wanted = match kind {
                Kind::Directory => self.glob.may_match_below(&format!("{key}/")),
                // A link may stand for a file or for a directory; which one, only following it would tell.
                Kind::Link => self.glob.matches(&key) || self.glob.may_match_below(&format!("{key}/")),
                Kind::File | Kind::Other => self.glob.matches(&key),
            };
            if !wanted || bytes.starts_with(TEMPORARY_PREFIX.as_bytes()) {
                return;
            }
            let skipped = if kind == Kind::Link {
                Some(SkipReason::SymbolicLink)
            } else if std::str::from_utf8(bytes).is_err() {
                Some(SkipReason::NotUtf8)
            } else if bytes.contains(&b'\\') {
                Some(SkipReason::Backslash)
            } else if cfg!(windows) && refused_by_windows(&name).is_some() {
                Some(SkipReason::Reserved)
            } else if bytes.starts_with(b".") && self.glob.as_literal().is_none() {
                Some(SkipReason::Hidden)
            } else if kind == Kind::Other {
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
        })?;
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
            assert_eq!(check_key(key).is_ok(), !cfg!(windows) || !key.contains('\n'), "{key:?}");
        }
    }

    #[test]
    fn names_that_windows_gives_another_meaning_are_known() {
        for name in [
            "a:b",
            "C:",
            "x?",
            "a*.csv",
            "tab\t",
            "a.",
            "a ",
            "nul",
            "CON.csv",
            "com1",
            "LPT9.csv.gz",
            "com¹",
            "aux .csv",
        ] {
            assert!(refused_by_windows(name).is_some(), "{name:?}");
        }
        for name in
            ["a.csv", "console.csv", "com.csv", "com10", "lpt", "nul1", "-rf.csv", "a b", "ñ.csv", ".hidden", "..a"]
        {
            assert!(refused_by_windows(name).is_none(), "{name:?}");
        }
    }

    #[test]
    fn times_before_1970_are_times() {
        let before = time_of(-1_500_000_000);
        assert_eq!(SystemTime::UNIX_EPOCH.duration_since(before).unwrap(), Duration::from_millis(1500));
    }
}
