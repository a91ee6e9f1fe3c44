//! Which local files are meant by what a person typed.
//!
//! A path that exists is that file, whatever characters are in its name; only a path that does not exist is tried as a
//! pattern. Below a directory and a pattern, symbolic links, hidden files and files still being written (`.part`,
//! `.tmp`) are left aside and said so. A link that a person names is followed: they asked for it. A directory that may not
//! be entered fails alone.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use objects::{Glob, GlobError};

/// Directories below a directory; deeper is a loop of mounts rather than somebody's filing.
const MAX_DEPTH: usize = 64;
/// Names shown when nothing matched.
const SHOWN_NAMES: usize = 5;

/// One file to be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalFile {
    pub path: PathBuf,
    /// What its key ends in: the file's name, or its path below the directory that was given.
    pub name: String,
}

/// What one argument stands for.
#[derive(Debug, Default)]
pub struct Found {
    /// In the order of their names.
    pub files: Vec<LocalFile>,
    pub skipped: Vec<Skipped>,
    /// Directories whose files are not among these, each with the reason.
    pub unlisted: Vec<(PathBuf, LocalError)>,
}

/// A file left aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    pub path: PathBuf,
    pub reason: SkipReason,
}

/// Why a file was left aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SkipReason {
    SymbolicLink,
    Hidden,
    /// `.part`, `.tmp`: somebody is still writing it.
    Unfinished,
    NotCsv,
    /// A device, a socket, a pipe.
    Special,
    /// The name is not UTF-8, and a key has to be.
    NameNotText,
}

impl Skipped {
    /// Whether somebody may have meant it to be uploaded.
    pub fn is_csv(&self) -> bool {
        let by_name = matches!(self.reason, SkipReason::Hidden | SkipReason::Unfinished | SkipReason::NotCsv);
        !by_name && is_csv_name(&self.path)
    }
}

impl SkipReason {
    pub fn describe(self) -> &'static str {
        match self {
            Self::SymbolicLink => "a symbolic link; name it to have it followed",
            Self::Hidden => "hidden",
            Self::Unfinished => "still being written, by its name",
            Self::NotCsv => "not named *.csv, *.csv.gz, *.csv.zst or *.csv.bz2",
            Self::Special => "not a regular file",
            Self::NameNotText => "its name is not UTF-8, and a key has to be; rename it",
        }
    }
}

/// Why an argument stands for nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    #[error("{} does not exist", path.display())]
    Missing { path: PathBuf, nearby: Vec<String> },
    #[error("{} is a directory", path.display())]
    Directory { path: PathBuf },
    #[error("{} is {kind}, not a regular file", path.display())]
    NotAFile { path: PathBuf, kind: &'static str },
    #[error("the name of {} is not UTF-8, and a key has to be", path.display())]
    NameNotText { path: PathBuf },
    #[error("no file matches {pattern}")]
    NoMatch { pattern: String, directory: PathBuf, nearby: Vec<String>, skipped: Vec<Skipped> },
    #[error("no CSV file below {}", directory.display())]
    NoCsv { directory: PathBuf, skipped: Vec<Skipped> },
    #[error("{pattern} is no pattern")]
    Pattern { pattern: String, source: GlobError },
    #[error("{} is more than {MAX_DEPTH} directories deep", path.display())]
    TooDeep { path: PathBuf },
    #[error("{action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

/// The files `argument` stands for: a file, a directory, or a pattern.
pub fn find(argument: &Path) -> Result<Found, LocalError> {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
    match fs::metadata(argument) {
        Ok(meta) if meta.is_dir() => find_below(argument),
        Ok(meta) => {
            require_regular(argument, &meta)?;
            let name = argument.file_name().and_then(OsStr::to_str);
            let name = name.ok_or_else(|| LocalError::NameNotText { path: argument.to_owned() })?.to_owned();
            Ok(Found { files: vec![LocalFile { path: argument.to_owned(), name }], ..Found::default() })
        }
        // Windows knows no name with a `*` in it.
        Err(error) if matches!(error.kind(), NotFound | NotADirectory | InvalidFilename) => {
            match argument.to_str().map(with_slashes) {
                Some(text) if text.contains(['*', '?', '[', '{']) => find_matches(&text),
                _ => Err(missing(argument)),
            }
        }
        Err(source) => Err(LocalError::Io { action: "look at", path: argument.to_owned(), source }),
    }
}

/// A pattern has slashes between names; on Windows people write backslashes, which are in no name there. The `?` that a path
/// may begin with there is none of a pattern's.
fn with_slashes(text: &str) -> Cow<'_, str> {
    if !cfg!(windows) {
        return text.into();
    }
    text.strip_prefix(r"\\?\").unwrap_or(text).replace('\\', "/").into()
}

/// A regular file, opened; what it is, is asked of the open file, so that nothing can be put in its place in between.
pub fn open(path: &Path) -> Result<(fs::File, fs::Metadata), LocalError> {
    let fail = |action| move |source| LocalError::Io { action, path: path.to_owned(), source };
    // Asked before opening as well: opening a pipe would wait for a writer.
    match fs::metadata(path) {
        Ok(meta) => require_regular(path, &meta)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing(path)),
        Err(source) => return Err(fail("look at")(source)),
    }
    let file = fs::File::open(path).map_err(fail("open"))?;
    let meta = file.metadata().map_err(fail("look at"))?;
    require_regular(path, &meta)?;
    Ok((file, meta))
}

fn require_regular(path: &Path, meta: &fs::Metadata) -> Result<(), LocalError> {
    let kind = meta.file_type();
    if kind.is_file() {
        return Ok(());
    }
    if kind.is_dir() {
        return Err(LocalError::Directory { path: path.to_owned() });
    }
    Err(LocalError::NotAFile { path: path.to_owned(), kind: special(kind) })
}

#[cfg(unix)]
fn special(kind: fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match () {
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () if kind.is_block_device() || kind.is_char_device() => "a device",
        () => "something else",
    }
}

#[cfg(not(unix))]
fn special(_: fs::FileType) -> &'static str {
    "something else"
}

fn find_below(directory: &Path) -> Result<Found, LocalError> {
    let mut found = Found::default();
    let mut walk = Walk { enters: |_: &str| true, unlisted: Vec::new() };
    walk.go(directory, "", 0, &mut |path, relative| match relative {
        None => found.skipped.push(Skipped { path: path.to_owned(), reason: SkipReason::NameNotText }),
        Some(_) if !is_csv_name(path) => {
            found
                .skipped
                .push(Skipped { path: path.to_owned(), reason: skip_by_name(path).unwrap_or(SkipReason::NotCsv) });
        }
        Some(name) => found.take(path, name),
    })?;
    found.unlisted = walk.unlisted;
    if found.files.is_empty() && found.unlisted.is_empty() {
        return Err(LocalError::NoCsv { directory: directory.to_owned(), skipped: found.skipped });
    }
    Ok(found)
}

fn find_matches(pattern: &str) -> Result<Found, LocalError> {
    let glob: Glob = pattern.parse().map_err(|source| LocalError::Pattern { pattern: pattern.to_owned(), source })?;
    let stem = glob.prefix().rfind('/').map_or("", |slash| &glob.prefix()[..=slash]);
    let directory = if stem.is_empty() { Path::new(".") } else { Path::new(stem) };
    let enters = |below: &str| glob.may_match_below(&format!("{stem}{below}"));
    let mut walk = Walk { enters, unlisted: Vec::new() };
    let mut found = Found::default();
    let mut nearby = Vec::new();
    let walked = walk.go(directory, "", 0, &mut |path, relative| match relative {
        None => found.skipped.push(Skipped { path: path.to_owned(), reason: SkipReason::NameNotText }),
        Some(name) if glob.matches(&format!("{stem}{name}")) => {
            let path = if stem.is_empty() { Path::new(name) } else { path };
            found.take(path, name);
        }
        Some(name) if nearby.len() < 1000 => nearby.push(name.to_owned()),
        Some(_) => {}
    });
    match walked {
        Err(LocalError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        walked => walked?,
    }
    found.unlisted = walk.unlisted;
    if found.files.is_empty() && found.unlisted.is_empty() {
        nearby.sort();
        nearby.truncate(SHOWN_NAMES);
        let (pattern, directory, skipped) = (pattern.to_owned(), directory.to_owned(), found.skipped);
        return Err(LocalError::NoMatch { pattern, directory, nearby, skipped });
    }
    Ok(found)
}

impl Found {
    /// A file asked for, unless what it is or its name speaks against it.
    fn take(&mut self, path: &Path, name: &str) {
        let reason = match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_symlink() => Some(SkipReason::SymbolicLink),
            Ok(meta) if !meta.is_file() => Some(SkipReason::Special),
            // A file that has gone, or cannot be looked at, is reported when it is opened.
            Ok(_) | Err(_) => skip_by_name(path),
        };
        match reason {
            Some(reason) => self.skipped.push(Skipped { path: path.to_owned(), reason }),
            None => self.files.push(LocalFile { path: path.to_owned(), name: name.to_owned() }),
        }
    }
}

/// A way through the directories below one.
struct Walk<F> {
    /// Whether a directory, with its slash, can hold what is asked for.
    enters: F,
    /// Directories below the first that could not be entered.
    unlisted: Vec<(PathBuf, LocalError)>,
}

impl<F: Fn(&str) -> bool> Walk<F> {
    /// Everything below `directory` that is no directory, in the order of names; `None` for a name that is not UTF-8.
    /// Links to directories are handed on like files, hidden directories are handed on and not entered.
    fn go(
        &mut self,
        directory: &Path,
        below: &str,
        depth: usize,
        visit: &mut impl FnMut(&Path, Option<&str>),
    ) -> Result<(), LocalError> {
        let fail = |source| LocalError::Io { action: "list", path: directory.to_owned(), source };
        if depth > MAX_DEPTH {
            return Err(LocalError::TooDeep { path: directory.to_owned() });
        }
        let mut entries = fs::read_dir(directory).map_err(fail)?.collect::<Result<Vec<_>, _>>().map_err(fail)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let file_name = entry.file_name();
            let Some(name) = file_name.to_str() else {
                visit(&path, None);
                continue;
            };
            let relative = format!("{below}{name}");
            // The type of the entry itself, never of what a link points to.
            if !entry.file_type().map_err(fail)?.is_dir() {
                visit(&path, Some(&relative));
                continue;
            }
            let below = format!("{relative}/");
            if !name.starts_with('.')
                && (self.enters)(&below)
                && let Err(error) = self.go(&path, &below, depth + 1, visit)
            {
                // The others are still to be had.
                self.unlisted.push((path, error));
            }
        }
        Ok(())
    }
}

fn skip_by_name(path: &Path) -> Option<SkipReason> {
    let name = path.file_name()?.to_str()?;
    if name.starts_with('.') {
        return Some(SkipReason::Hidden);
    }
    objects::is_unfinished(name).then_some(SkipReason::Unfinished)
}

fn is_csv_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    !name.starts_with('.')
        && [".csv", ".csv.gz", ".csv.zst", ".csv.bz2"]
            .iter()
            .any(|ending| name.len() > ending.len() && name.ends_with(ending))
}

/// A missing file, with what stands where it was looked for.
fn missing(path: &Path) -> LocalError {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut nearby = Vec::new();
    if let Ok(entries) = fs::read_dir(directory) {
        nearby = entries.flatten().map(|entry| entry.path()).filter(|path| is_csv_name(path)).collect();
    }
    nearby.sort();
    nearby.truncate(SHOWN_NAMES);
    let nearby = nearby.iter().filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect();
    LocalError::Missing { path: path.to_owned(), nearby }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    fn tree(names: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for name in names {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "id\n1\n").unwrap();
        }
        directory
    }

    fn names(found: &Found) -> Vec<&str> {
        found.files.iter().map(|file| file.name.as_str()).collect()
    }

    fn reasons(found: &Found) -> Vec<(String, SkipReason)> {
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        found.skipped.iter().map(|skipped| (name(&skipped.path), skipped.reason)).collect()
    }

    #[test]
    fn a_directory_gives_its_csv_files_and_says_what_it_left_aside() {
        let tree = tree(&[
            "b.csv",
            "a.CSV",
            "sub/c.csv.gz",
            ".hidden.csv",
            "d.csv.part",
            "notes.txt",
            ".git/e.csv",
            "f.csv.zst",
        ]);
        std::os::unix::fs::symlink("/etc/passwd", tree.path().join("link.csv")).unwrap();
        std::os::unix::fs::symlink(tree.path(), tree.path().join("loop")).unwrap();
        fs::write(tree.path().join(OsStr::from_bytes(b"\xff.csv")), "id\n").unwrap();
        let found = find(tree.path()).unwrap();
        assert_eq!(names(&found), ["a.CSV", "b.csv", "f.csv.zst", "sub/c.csv.gz"]);
        assert_eq!(
            reasons(&found),
            [
                (".hidden.csv".into(), SkipReason::Hidden),
                ("d.csv.part".into(), SkipReason::Unfinished),
                ("link.csv".into(), SkipReason::SymbolicLink),
                ("loop".into(), SkipReason::NotCsv),
                ("notes.txt".into(), SkipReason::NotCsv),
                ("\u{fffd}.csv".into(), SkipReason::NameNotText),
            ]
        );
    }

    #[test]
    fn a_name_with_pattern_characters_is_that_file() {
        let tree = tree(&["[table].csv", "t.csv", "a*.csv", "ab.csv"]);
        assert_eq!(names(&find(&tree.path().join("[table].csv")).unwrap()), ["[table].csv"]);
        assert_eq!(names(&find(&tree.path().join("a*.csv")).unwrap()), ["a*.csv"]);
    }

    #[test]
    fn a_pattern_matches_within_one_directory_unless_it_says_otherwise() {
        let tree = tree(&["a.csv", "b.csv", "b.txt", "sub/c.csv", "sub/deep/d.csv"]);
        let at = |pattern: &str| find(&tree.path().join(pattern)).unwrap();
        assert_eq!(names(&at("*.csv")), ["a.csv", "b.csv"]);
        assert_eq!(names(&at("b.*")), ["b.csv", "b.txt"]);
        assert_eq!(names(&at("*/*.csv")), ["sub/c.csv"]);
        assert_eq!(names(&at("**/*.csv")), ["a.csv", "b.csv", "sub/c.csv", "sub/deep/d.csv"]);
    }

    #[test]
    fn a_pattern_that_matches_nothing_says_what_is_there() {
        let tree = tree(&["customers.csv"]);
        let error = find(&tree.path().join("customer-*.csv")).unwrap_err();
        assert!(matches!(&error, LocalError::NoMatch { nearby, .. } if *nearby == ["customers.csv"]), "{error:?}");
        let error = find(&tree.path().join("nowhere/*.csv")).unwrap_err();
        assert!(matches!(error, LocalError::NoMatch { .. }), "{error:?}");
    }

    #[test]
    fn what_was_left_aside_is_no_match() {
        let tree = tree(&["a.csv"]);
        fs::write(tree.path().join(OsStr::from_bytes(b"\xff.csv")), "id\n").unwrap();
        std::os::unix::fs::symlink(tree.path().join("a.csv"), tree.path().join("link.csv")).unwrap();
        for (pattern, left_aside) in [("b*.csv", 1), ("l*.csv", 2)] {
            let error = find(&tree.path().join(pattern)).unwrap_err();
            let LocalError::NoMatch { skipped, .. } = &error else { panic!("{error:?}") };
            assert_eq!(skipped.len(), left_aside, "{pattern}");
            assert!(skipped.iter().all(Skipped::is_csv));
        }
    }

    #[test]
    fn a_missing_file_says_what_is_there() {
        let tree = tree(&["customers.csv"]);
        let error = find(&tree.path().join("customer.csv")).unwrap_err();
        assert!(matches!(&error, LocalError::Missing { nearby, .. } if *nearby == ["customers.csv"]), "{error:?}");
    }

    #[test]
    fn a_link_that_was_named_is_followed_and_a_device_is_not_read() {
        let tree = tree(&["a.csv"]);
        std::os::unix::fs::symlink(tree.path().join("a.csv"), tree.path().join("latest.csv")).unwrap();
        assert_eq!(names(&find(&tree.path().join("latest.csv")).unwrap()), ["latest.csv"]);
        assert!(matches!(find(Path::new("/dev/zero")), Err(LocalError::NotAFile { kind: "a device", .. })));
    }

    #[test]
    fn what_is_too_deep_is_told_and_the_others_are_taken() {
        let deep = |levels: usize| "d/".repeat(levels) + "x.csv";
        let tree = tree(&["a.csv", &deep(64), &deep(65)]);
        let (below, pattern) = (tree.path().to_owned(), tree.path().join("**/*.csv"));
        for found in [find(&below).unwrap(), find(&pattern).unwrap()] {
            assert_eq!(names(&found), ["a.csv".to_owned(), deep(64)]);
            let [(path, LocalError::TooDeep { .. })] = found.unlisted.as_slice() else { panic!("{found:?}") };
            assert_eq!(path, &tree.path().join("d/".repeat(65)));
        }
    }

    #[test]
    fn a_directory_without_csv_files_is_an_error() {
        let tree = tree(&["readme.txt"]);
        assert!(matches!(find(tree.path()), Err(LocalError::NoCsv { skipped, .. }) if skipped.len() == 1));
    }
}
