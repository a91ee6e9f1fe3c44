//! The files that are shipped: found by their patterns, followed under whatever name, read from where the service has them.
//!
//! What is read is never kept for long: the file is the buffer, and what could not be sent is read again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tracing::{debug, info, warn};

use crate::batch::MAX_MESSAGE;
use crate::checkpoint::Entry;
use crate::config::Files;
use crate::lines::{Joining, Lines};
use crate::mark::Mark;
use crate::name::{Host, Template, safe_group};
use crate::source::{self, Look, Source};
use crate::status::{Counts, FileStatus};
use crate::stream::{Batches, Event, Offered, Origin, Rules, Stream};
use crate::watch::Changes;

/// Bytes of one read.
const CHUNK: usize = 256 * 1024;
/// A line that does not fit here is cut.
const LONGEST_CHUNK: usize = MAX_MESSAGE + CHUNK;
/// A file that has gone from its path is read on until it has been still for so long: its program may not know yet.
const LINGER: Duration = Duration::from_secs(300);
/// So many of them; of more, those go first that have been still for [`STILL`].
const MOST_DETACHED: usize = 200;
/// Then nobody goes on with a line that has no end.
const STILL: Duration = Duration::from_secs(5);
/// How often such a file is looked at, since nobody may tell of it, and how often once it is still.
const POLL: Duration = Duration::from_millis(100);
const POLL_STILL: Duration = Duration::from_secs(2);
/// A file nothing happens to is closed after so long.
const IDLE: Duration = Duration::from_secs(60);
/// Files of a directory among which the copy of an emptied one is looked for.
const MOST_SIBLINGS: usize = 1_000;

/// The group and the name of the stream a file goes to, and how long its group keeps events.
#[derive(Clone, Debug)]
pub struct Destination {
    pub group: String,
    pub template: Template,
    pub retention_days: Option<u32>,
}

/// All streams, and the number of the last batch.
#[derive(Debug, Default)]
pub struct Streams {
    pub list: Vec<Stream>,
    pub batches: Batches,
    by_name: HashMap<(String, String), usize>,
}

impl Streams {
    /// The stream of this name, which is made if there is none.
    pub fn of(&mut self, to: Destination) -> usize {
        let key = (to.group.clone(), to.template.as_str().to_owned());
        let new = self.list.len();
        let index = *self.by_name.entry(key).or_insert(new);
        if index == new {
            self.list.push(Stream::new(to.group, to.template, to.retention_days));
        }
        index
    }
}

/// The files.
#[derive(Debug)]
pub struct Tails {
    specs: Vec<Files>,
    host: Host,
    /// Positions of files that were not found yet.
    restored: Vec<Entry>,
    is_first_look: bool,
    /// Patterns whose files were shipped before.
    known: Vec<String>,
    sources: BTreeMap<u64, Source>,
    by_inode: HashMap<(u64, u64), u64>,
    /// A file's path, and where that leads to if it is a link.
    by_path: HashMap<Arc<Path>, u64>,
    next: u64,
    /// Of each stream its files.
    by_stream: BTreeMap<usize, BTreeSet<u64>>,
    /// Of each stream the files there may be something to read of.
    dirty: BTreeMap<usize, BTreeSet<u64>>,
    /// Files that are no path's any more.
    detached: BTreeSet<u64>,
    polled: Option<Instant>,
    polled_all: Option<Instant>,
    /// Compressed files, which are no logs.
    archives: HashMap<(u64, u64), SystemTime>,
    unreadable: BTreeMap<PathBuf, String>,
    buffer: Vec<u8>,
    is_stopping: bool,
    /// Files that could not be read, to be tried again at the next look around.
    failed: BTreeSet<u64>,
    /// A position moved, or a file came or went.
    pub is_changed: bool,
}

impl Tails {
    pub fn new(specs: Vec<Files>, host: Host, restored: Vec<Entry>, known: Vec<String>) -> Self {
        Self {
            specs,
            host,
            known,
            restored,
            is_first_look: true,
            sources: BTreeMap::new(),
            by_inode: HashMap::new(),
            by_path: HashMap::new(),
            next: 0,
            by_stream: BTreeMap::new(),
            dirty: BTreeMap::new(),
            detached: BTreeSet::new(),
            polled: None,
            polled_all: None,
            archives: HashMap::new(),
            unreadable: BTreeMap::new(),
            buffer: vec![0; CHUNK],
            is_stopping: false,
            failed: BTreeSet::new(),
            // Where everything begins is a position as well.
            is_changed: true,
        }
    }

    // ---- finding

    /// What was noticed of directories: files that were written to, made, renamed.
    pub fn note(&mut self, changes: &Changes, streams: &mut Streams, now: Instant, counts: &mut Counts) {
        for (first, path) in &changes.made {
            let found = self.spec_of(first).map(|spec| (spec, first));
            if let Some((spec, origin)) = found.or_else(|| self.spec_of(path).map(|spec| (spec, path))) {
                self.add(spec, origin, path, streams, now);
            }
        }
        for path in &changes.written {
            let Some(id) = self.by_path.get(path.as_path()).copied() else { continue };
            mark_dirty(&mut self.dirty, &self.sources, id);
            // Where nothing is read for long, the copy of a file that is emptied has to be found before it is gone.
            let shrunk = self.sources.get_mut(&id).map_or(Ok(None), |source| source.glance(now));
            let noted = shrunk.and_then(|unread| match unread {
                Some(unread) => self.emptied(id, unread, now, counts),
                None => Ok(()),
            });
            if let Err(error) = noted {
                self.cannot_read(path.clone(), &error);
            }
        }
    }

    fn spec_of(&self, path: &Path) -> Option<usize> {
        let is_of = |files: &Files| {
            files.paths.iter().any(|pattern| matches(pattern, path))
                && !files.exclude.iter().any(|pattern| matches(pattern, path))
        };
        self.specs.iter().position(is_of)
    }

    /// Finds files that are new, and such as have gone from their path; gives the directories to be watched.
    ///
    /// `is_told`: whatever was renamed since the last look was told.
    pub fn look_around(&mut self, streams: &mut Streams, now: Instant, is_told: bool) -> BTreeSet<PathBuf> {
        let mut seen: BTreeSet<u64> = BTreeSet::new();
        let mut directories = BTreeSet::new();
        for index in 0..self.specs.len() {
            for pattern in self.specs[index].paths.clone() {
                directories.extend(directories_of(pattern.as_str()));
                for path in walk(pattern.as_str()) {
                    match path {
                        Ok(path) if self.spec_of(&path) == Some(index) => {
                            if let Some(id) = self.add(index, &path, &path, streams, now) {
                                seen.insert(id);
                            }
                        }
                        Ok(_) => {}
                        Err(error) => self.cannot_read(error.path().to_owned(), error.error()),
                    }
                }
            }
        }
        directories.extend(self.sources.values().filter_map(|source| Some(source.real.as_ref()?.parent()?.to_owned())));
        let gone: Vec<u64> = self.sources.keys().filter(|id| !seen.contains(id)).copied().collect();
        for id in gone {
            if !is_told {
                self.find_again(id);
            }
            self.detach(id, now);
        }
        if self.is_first_look {
            self.is_first_look = false;
            self.find_siblings(streams, now);
        }
        self.unreadable.retain(|path, _| path.exists());
        for id in std::mem::take(&mut self.failed) {
            mark_dirty(&mut self.dirty, &self.sources, id);
        }
        self.tidy(now);
        directories
    }

    /// A file that is closed and not at its path any more may have been renamed without a word.
    fn find_again(&mut self, id: u64) {
        let Some(source) = self.sources.get_mut(&id).filter(|source| !source.is_open()) else { return };
        let inode = source.inode();
        let siblings = source.path.parent().and_then(|directory| std::fs::read_dir(directory).ok());
        let is_it =
            |sibling: &std::fs::DirEntry| sibling.metadata().is_ok_and(|meta| (meta.dev(), meta.ino()) == inode);
        if let Some(sibling) = siblings.into_iter().flatten().flatten().find(is_it) {
            forget_paths(&mut self.by_path, source, id);
            source.moved_to(&sibling.path());
            note_paths(&mut self.by_path, source, id);
            self.is_changed = true;
        }
    }

    fn detach(&mut self, id: u64, now: Instant) {
        if let Some(source) = self.sources.get_mut(&id) {
            source.detached.get_or_insert(now);
            self.detached.insert(id);
            mark_dirty(&mut self.dirty, &self.sources, id);
        }
    }

    fn cannot_read(&mut self, path: PathBuf, error: &io::Error) {
        if error.kind() == io::ErrorKind::NotFound {
            return;
        }
        let reason = error.to_string();
        if self.unreadable.get(&path) != Some(&reason) {
            warn!(path = %path.display(), error = reason, "a file cannot be read; it is tried again");
            self.unreadable.insert(path, reason);
        }
    }

    /// A file at a path, which was found under the name `origin`: the source it is.
    fn add(&mut self, spec: usize, origin: &Path, path: &Path, streams: &mut Streams, now: Instant) -> Option<u64> {
        let meta = match std::fs::metadata(path) {
            Ok(meta) if meta.is_file() => meta,
            Ok(_) => return None,
            Err(error) => {
                self.cannot_read(path.to_owned(), &error);
                return None;
            }
        };
        if let Some(id) = self.known(path, &meta, now) {
            return Some(id);
        }
        // An archive that was only touched is not looked into again, but its number may be another file's by now.
        if self.archives.get(&(meta.dev(), meta.ino())) == meta.modified().ok().as_ref() {
            return None;
        }
        let opened = source::open(path).and_then(|file| match file {
            Some(file) => Ok(Some((file.metadata()?, file))),
            None => Ok(None),
        });
        let (meta, file) = match opened {
            Ok(opened) => opened?,
            Err(error) => {
                self.cannot_read(path.to_owned(), &error);
                return None;
            }
        };
        self.unreadable.remove(path);
        // It may be another one than the one asked for a moment ago.
        if let Some(id) = self.known(path, &meta, now) {
            return Some(id);
        }
        let restored = self.restore(&file, path);
        let from = match &restored {
            Some((_, mark)) => *mark,
            None if self.is_first_look && self.specs[spec].from_end && !self.was_shipped(spec, path) => {
                Mark::of(&file, meta.len()).ok().flatten().unwrap_or_default()
            }
            None => Mark::default(),
        };
        let origin = restored.as_ref().map_or(origin, |(entry, _)| &entry.origin);
        let to = self.destination(spec, origin);
        let id = self.insert(spec, path.to_owned(), streams.of(to), file, from, now)?;
        if let (Some(source), Some((entry, _))) = (self.sources.get_mut(&id), &restored) {
            source.restored(entry);
        }
        if let Some(source) = self.sources.get_mut(&id).filter(|source| *source.path != *origin) {
            source.origin = origin.into();
        }
        if self.spec_of(path).is_none() {
            self.detach(id, now);
        }
        Some(id)
    }

    /// The source that a file is, which may have another path now.
    fn known(&mut self, path: &Path, meta: &Metadata, now: Instant) -> Option<u64> {
        let id = *self.by_inode.get(&(meta.dev(), meta.ino()))?;
        let is_asked_for = self.spec_of(path).is_some();
        let source = self.sources.get_mut(&id)?;
        if !source.is_open() && *source.path != *path {
            // Its number may have been given to another file.
            let is_it =
                source::open(path).and_then(|file| file.map_or(Ok(false), |file| source.read_mark().is_in(&file)));
            if source.is_settled() && !is_it.unwrap_or_default() {
                self.remove(id);
                return None;
            }
        }
        if meta.len() != source.size || source.detached.is_some() {
            mark_dirty(&mut self.dirty, &self.sources, id);
        }
        let source = self.sources.get_mut(&id)?;
        if *source.path != *path {
            // Of several names the one it has stays.
            let is_still_there =
                std::fs::metadata(&source.path).is_ok_and(|old| (old.dev(), old.ino()) == (meta.dev(), meta.ino()));
            if !is_still_there {
                forget_paths(&mut self.by_path, source, id);
                source.moved_to(path);
                note_paths(&mut self.by_path, source, id);
                self.is_changed = true;
            }
        }
        if is_asked_for {
            self.detached.remove(&id);
            if let Some(source) = self.sources.get_mut(&id) {
                source.detached = None;
            }
        } else {
            self.detach(id, now);
        }
        Some(id)
    }

    /// Whether files of these patterns were shipped before this start.
    fn was_shipped(&self, spec: usize, path: &Path) -> bool {
        let matching = self.specs[spec].paths.iter().filter(|pattern| matches(pattern, path));
        let is_known = |pattern: &glob::Pattern| self.known.iter().any(|known| known == pattern.as_str());
        matching.into_iter().any(is_known)
    }

    /// All patterns, to be known after the next start.
    pub fn patterns(&self) -> Vec<String> {
        self.specs.iter().flat_map(|files| files.paths.iter().map(|pattern| pattern.as_str().to_owned())).collect()
    }

    fn destination(&self, spec: usize, origin: &Path) -> Destination {
        let name = origin.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let files = &self.specs[spec];
        Destination {
            group: safe_group(&files.group.of_source(&self.host, &name).on("")),
            template: files.stream.of_source(&self.host, &name),
            retention_days: files.retention_days,
        }
    }

    fn insert(
        &mut self,
        spec: usize,
        path: PathBuf,
        stream: usize,
        file: File,
        from: Mark,
        now: Instant,
    ) -> Option<u64> {
        match Source::new(spec, path.as_path().into(), stream, file, from, now) {
            Ok(source) => {
                debug!(path = %path.display(), from = from.position.offset, "a file is shipped");
                Some(self.enlist(source))
            }
            Err(error) => {
                self.cannot_read(path, &error);
                None
            }
        }
    }

    fn enlist(&mut self, source: Source) -> u64 {
        let id = self.next;
        self.next += 1;
        self.by_inode.insert(source.inode(), id);
        note_paths(&mut self.by_path, &source, id);
        self.by_stream.entry(source.stream).or_default().insert(id);
        self.sources.insert(id, source);
        mark_dirty(&mut self.dirty, &self.sources, id);
        // If it is renamed while nobody looks, it is known by what is saved now.
        self.is_changed = true;
        id
    }

    fn remove(&mut self, id: u64) {
        let Some(source) = self.sources.remove(&id) else { return };
        if self.by_inode.get(&source.inode()) == Some(&id) {
            self.by_inode.remove(&source.inode());
        }
        forget_paths(&mut self.by_path, &source, id);
        self.detached.remove(&id);
        for by_stream in [&mut self.dirty, &mut self.by_stream] {
            if let Some(ids) = by_stream.get_mut(&source.stream) {
                ids.remove(&id);
                if ids.is_empty() {
                    by_stream.remove(&source.stream);
                }
            }
        }
        self.is_changed = true;
    }

    /// The position that was saved for a file, whatever it was called.
    fn restore(&mut self, file: &File, path: &Path) -> Option<(Entry, Mark)> {
        let meta = file.metadata().ok()?;
        let is_it = |entry: &Entry| source::is_at(entry, &meta) && source::is_as_old(entry, file) != Some(false);
        let by_inode = self.restored.iter().enumerate().filter(|(_, entry)| is_it(entry));
        // A copy in its place, or a restored file system. Without a byte to compare it may be any file.
        let at_path = |entry: &Entry| entry.path == path && entry.position.offset > 0;
        let by_bytes = self.restored.iter().enumerate().filter(|(_, entry)| at_path(entry));
        let (index, mark) = by_inode.chain(by_bytes).find_map(|(index, entry)| Some((index, same(entry, file)?)))?;
        Some((self.restored.swap_remove(index), mark))
    }

    /// Files that were renamed out of their pattern, or copied and emptied, while nobody looked: the rest of them is still to
    /// be shipped.
    fn find_siblings(&mut self, streams: &mut Streams, now: Instant) {
        for entry in std::mem::take(&mut self.restored) {
            let Some(spec) = self.spec_of(&entry.origin) else { continue };
            let is_it = |meta: &Metadata, file: &File| {
                source::is_at(&entry, meta) && source::is_as_old(&entry, file).unwrap_or(entry.position.offset > 0)
            };
            let by_inode = |meta: &Metadata, file: &File| is_it(meta, file).then(|| same(&entry, file)).flatten();
            let by_bytes =
                |_: &Metadata, file: &File| (entry.position.offset > 0).then(|| same(&entry, file)).flatten();
            // Emptied and written anew before it was renamed: all of it is new. Without a byte to compare, the number alone is
            // not enough: it may have been given to a file that nobody wants shipped.
            let by_age = |meta: &Metadata, file: &File| {
                (source::is_at(&entry, meta) && source::is_as_old(&entry, file) == Some(true)).then(Mark::default)
            };
            let rest = self.sibling(&entry.path, by_inode);
            let rest = rest.or_else(|| self.sibling(&entry.path, by_bytes));
            let mut is_found = self.go_on(spec, &entry, rest, streams, now);
            let anew = self.sibling(&entry.path, by_age);
            is_found |= self.go_on(spec, &entry, anew, streams, now);
            if !is_found {
                let is_there = std::fs::metadata(&entry.path).is_ok_and(|meta| source::is_at(&entry, &meta));
                if is_there && !self.by_inode.contains_key(&(entry.device, entry.inode)) {
                    // It cannot be opened, for now.
                    self.restored.push(entry);
                    continue;
                }
                info!(path = %entry.path.display(), "a file that was shipped is gone");
            }
        }
    }

    /// Ships what was found of a file that had a position, into the stream it had.
    fn go_on(
        &mut self,
        spec: usize,
        entry: &Entry,
        found: Option<(PathBuf, File, Mark)>,
        streams: &mut Streams,
        now: Instant,
    ) -> bool {
        let Some((path, file, mark)) = found else { return false };
        let stream = streams.of(self.destination(spec, &entry.origin));
        if let Some(id) = self.insert(spec, path, stream, file, mark, now) {
            if let Some(source) = self.sources.get_mut(&id) {
                source.restored(entry);
            }
            self.detach(id, now);
        }
        true
    }

    /// A file beside another that is called like it, is not known, and is what is looked for.
    fn sibling<T>(&self, path: &Path, is_it: impl Fn(&Metadata, &File) -> Option<T>) -> Option<(PathBuf, File, T)> {
        let name = path.file_name()?.as_encoded_bytes();
        // `a.log` becomes `a.log.1`, `a.log-20261127` or `a-20261127.log`.
        let stem = path.file_stem().map_or(name, std::ffi::OsStr::as_encoded_bytes);
        let siblings = std::fs::read_dir(path.parent()?).ok()?.flatten();
        let alike = siblings.filter(|sibling| sibling.file_name().as_encoded_bytes().starts_with(stem));
        let found = alike.take(MOST_SIBLINGS).filter_map(|sibling| {
            let meta = sibling.metadata().ok().filter(Metadata::is_file)?;
            if self.by_inode.contains_key(&(meta.dev(), meta.ino())) {
                return None;
            }
            let file = source::open(&sibling.path()).ok()??;
            let found = is_it(&meta, &file)?;
            Some(((meta.mtime(), meta.mtime_nsec()), (sibling.path(), file, found)))
        });
        // Of several that begin alike it is the one that was made last.
        Some(found.max_by_key(|(time, _)| *time)?.1)
    }

    /// Lets go of files that are done, and closes those nothing happens to.
    fn tidy(&mut self, now: Instant) {
        let mut done = Vec::new();
        let linger = if self.detached.len() > MOST_DETACHED { STILL } else { LINGER };
        for (id, source) in &mut self.sources {
            if !source.is_settled() {
                continue;
            }
            // What was written since it was looked at last counts, too.
            let is_read = source.read_mark().position.offset >= source.bytes_now();
            match source.detached {
                _ if source.is_lost() => done.push(*id),
                Some(since) if is_read && now >= since + linger && source.is_still(now, linger) => done.push(*id),
                None if is_read && source.is_still(now, IDLE) => source.close(),
                _ => {}
            }
        }
        for id in done {
            self.remove(id);
        }
    }

    /// Files that nobody tells of are to be looked at.
    pub fn poll(&mut self, now: Instant) {
        if self.polled.is_some_and(|at| now < at + POLL) {
            return;
        }
        self.polled = Some(now);
        let all = self.polled_all.is_none_or(|at| now >= at + POLL_STILL);
        if all {
            self.polled_all = Some(now);
        }
        for id in &self.detached {
            if all || self.sources.get(id).is_some_and(|source| !source.is_still(now, 2 * STILL)) {
                mark_dirty(&mut self.dirty, &self.sources, *id);
            }
        }
    }

    /// When there is something to do without anything happening.
    pub fn wake(&self, now: Instant) -> Option<Instant> {
        let is_moving = |id: &u64| self.sources.get(id).is_some_and(|source| !source.is_still(now, 2 * STILL));
        if !self.dirty.is_empty() || self.detached.iter().any(is_moving) {
            return Some(now + POLL);
        }
        (!self.detached.is_empty()).then_some(now + POLL_STILL)
    }

    // ---- reading

    /// Streams that have files there may be something to read of.
    pub fn dirty_streams(&self) -> impl Iterator<Item = usize> + '_ {
        self.dirty.keys().copied()
    }

    /// Of a stream's files the next there may be something to read of, behind another, in a circle.
    pub fn dirty_behind(&self, stream: usize, id: u64) -> Option<u64> {
        let ids = self.dirty.get(&stream)?;
        ids.range(id + 1..).next().or_else(|| ids.first()).copied()
    }

    pub fn dirty_count(&self, stream: usize) -> usize {
        self.dirty.get(&stream).map_or(0, BTreeSet::len)
    }

    /// Files that have no name any more, once they are closed nobody can read them.
    pub fn deleted(&self) -> Vec<u64> {
        self.detached.iter().copied().filter(|id| self.sources.get(id).is_some_and(Source::is_deleted)).collect()
    }

    pub fn stream_of(&self, id: u64) -> Option<usize> {
        Some(self.sources.get(&id)?.stream)
    }

    pub fn is_deleted(&self, id: u64) -> bool {
        self.sources.get(&id).is_some_and(|source| source.is_lost() || source.is_deleted())
    }

    /// One read of a file into its stream's batch; true when something was taken, or there is more to do at once.
    pub fn read(&mut self, id: u64, streams: &mut Streams, now: Instant, read_at: i64, counts: &mut Counts) -> bool {
        match self.try_read(id, streams, now, read_at, counts) {
            Ok(goes_on) => {
                if !self.unreadable.is_empty()
                    && let Some(source) = self.sources.get(&id)
                {
                    self.unreadable.remove(&*source.path);
                }
                goes_on
            }
            Err(error) => {
                if let Some(source) = self.sources.get(&id) {
                    let path = source.path.to_path_buf();
                    self.clean(id, source.stream);
                    self.failed.insert(id);
                    self.cannot_read(path, &error);
                }
                false
            }
        }
    }

    fn clean(&mut self, id: u64, stream: usize) {
        if let Some(dirty) = self.dirty.get_mut(&stream) {
            dirty.remove(&id);
            if dirty.is_empty() {
                self.dirty.remove(&stream);
            }
        }
    }

    fn try_read(
        &mut self,
        id: u64,
        streams: &mut Streams,
        now: Instant,
        read_at: i64,
        counts: &mut Counts,
    ) -> io::Result<bool> {
        let Some(source) = self.sources.get_mut(&id) else { return Ok(false) };
        let index = source.stream;
        let overlap = source.overlap();
        let rules = &self.specs[source.files].rules;
        let mut room = CHUNK;
        let length = loop {
            match source.look(&mut self.buffer[..room], now)? {
                Look::More(length) => {
                    let bytes = &self.buffer[overlap..overlap + length];
                    let is_filled = overlap + length == room;
                    let has_event = || Lines::new(bytes, 0, &rules.joining, false).next().is_some();
                    if !is_filled || room == LONGEST_CHUNK || has_event() {
                        break length;
                    }
                    room = LONGEST_CHUNK;
                    self.buffer.resize(room, 0);
                }
                Look::AtEnd => {
                    self.clean(id, index);
                    return Ok(false);
                }
                Look::Emptied { unread } => {
                    self.emptied(id, unread, now, counts)?;
                    return Ok(true);
                }
            }
        };
        let bytes = &self.buffer[overlap..overlap + length];
        let from = source.read_mark().position;
        if from.offset == 0 && source::is_archive(bytes) {
            info!(path = %source.path.display(), "a compressed file is left alone");
            if let Some(modified) = source.modified() {
                self.archives.insert(source.inode(), modified);
            }
            self.remove(id);
            return Ok(false);
        }
        if bytes[0] == 0 && from.parts == 0 {
            // Zeros before something are a hole; zeros before nothing may still become something.
            let is_left = source.detached.is_some() && source.is_still(now, STILL);
            let data = match source.first_data()? {
                Some(data) => data,
                None if is_left => source.size,
                None => {
                    self.clean(id, index);
                    return Ok(false);
                }
            };
            counts.bytes_of_holes += data - from.offset;
            source.skip_to(data)?;
            self.is_changed |= source.pass();
            return Ok(true);
        }
        let is_whole = self.is_whole(id, bytes, now);
        let Some(source) = self.sources.get_mut(&id) else { return Ok(false) };
        let stream = &mut streams.list[index];
        let (mut end, mut parts, mut offered, mut batch) = (0, from.parts, Offered::LeftOut, None);
        for found in Lines::new(bytes, from.parts, &rules.joining, is_whole) {
            let event = Event {
                bytes: found.bytes,
                part: found.part.map(|part| (part, !found.goes_on)),
                timestamp: None,
                read_at,
            };
            offered = stream.offer(event, rules, now, &mut streams.batches, counts);
            match offered {
                Offered::Full => break,
                Offered::Taken => batch = stream.filling.as_ref().map(|filling| filling.id),
                Offered::LeftOut => {}
            }
            end = found.end;
            parts = if found.goes_on { found.part.unwrap_or_default() } else { 0 };
        }
        let is_full =
            offered == Offered::Full || stream.filling.as_ref().is_some_and(|filling| filling.batch.is_full());
        if end > 0 {
            source.advance(&bytes[..end], parts);
            match (batch, &mut stream.filling) {
                (Some(batch), Some(filling)) => {
                    source.pend(batch, now);
                    filling.origins.insert(Origin::File(id));
                }
                _ => self.is_changed |= source.pass(),
            }
        }
        if is_full {
            stream.seal(index);
        }
        if end == 0 && !is_full {
            // An event that silence finishes is looked at again; anything else waits for more bytes.
            let waits = !matches!(rules.joining, Joining::Never) && bytes.last() == Some(&b'\n');
            if !waits {
                self.clean(id, index);
            }
            return Ok(false);
        }
        Ok(true)
    }

    /// Everything stops: what has no name any more ends where it ends.
    pub fn stop(&mut self) {
        self.is_stopping = true;
    }

    /// Bytes of files that nobody can read any more once this process has ended.
    pub fn bytes_left_behind(&mut self) -> u64 {
        let deleted = self.deleted();
        let left = deleted
            .iter()
            .filter_map(|id| self.sources.get(id))
            .map(|source| source.bytes_now().saturating_sub(source.read_mark().position.offset));
        left.sum()
    }

    /// Whether nobody goes on with the last line, or with the last event.
    fn is_whole(&self, id: u64, bytes: &[u8], now: Instant) -> bool {
        let source = &self.sources[&id];
        let rules: &Rules = &self.specs[source.files].rules;
        if source.read_mark().position.offset + (bytes.len() as u64) < source.size {
            return false;
        }
        let joins = !matches!(rules.joining, Joining::Never);
        // An event may be finished by silence only where its last line is.
        let is_finished = joins && source.is_still(now, rules.join_timeout) && bytes.last() == Some(&b'\n');
        is_finished
            || (self.is_stopping && source.is_deleted())
            || (source.detached.is_some() && source.is_still(now, STILL))
    }

    /// A file was emptied. What was not read of it may stand in a copy beside it.
    fn emptied(&mut self, id: u64, unread: u64, now: Instant, counts: &mut Counts) -> io::Result<()> {
        counts.files_emptied += 1;
        self.is_changed = true;
        let Some(source) = self.sources.get(&id) else { return Ok(()) };
        let mark = *source.copy_mark();
        let is_copy = |_: &Metadata, file: &File| {
            let known = Mark::of(file, mark.position.offset).ok().flatten()?;
            (known.print() == mark.print()).then_some(())
        };
        let is_wanted = mark.position.offset > 0 && (unread > 0 || !source.is_settled());
        let is_asked_for = source.detached.is_none() || self.spec_of(&source.path).is_some();
        let copy = if is_wanted { self.sibling(&source.path, is_copy) } else { None };
        let Some(source) = self.sources.get_mut(&id) else { return Ok(()) };
        forget_paths(&mut self.by_path, source, id);
        match &copy {
            Some((copy, _, ())) => {
                info!(path = %source.path.display(), copy = %copy.display(), "a file was emptied; the rest of it is read from its copy");
            }
            None if unread > 0 => {
                counts.bytes_lost += unread;
                warn!(path = %source.path.display(), bytes = unread, "a file was emptied before all of it was read");
            }
            None => {}
        }
        if !is_asked_for && copy.is_none() {
            // Such as a copy in whose place the next one is made.
            let inode = source.inode();
            source.give_up();
            if self.by_inode.get(&inode) == Some(&id) {
                self.by_inode.remove(&inode);
            }
            return Ok(());
        }
        let anew = source.begin_anew(copy.map(|(path, file, ())| (path, file)), now)?;
        // What it was keeps its number, so that batches under way find it.
        self.detached.insert(id);
        if !source.is_lost() {
            self.by_inode.insert(source.inode(), id);
        }
        mark_dirty(&mut self.dirty, &self.sources, id);
        let anew = self.enlist(anew);
        if self.sources[&anew].detached.is_some() {
            self.detached.insert(anew);
        }
        Ok(())
    }

    // ---- positions

    pub fn accept(&mut self, id: u64, batch: u64) {
        if let Some(source) = self.sources.get_mut(&id) {
            self.is_changed |= source.accept(batch);
        }
    }

    /// Whether all that was taken for a stream can be read again.
    pub fn can_rewind(&self, stream: usize) -> bool {
        let mut sources = self.by_stream.get(&stream).into_iter().flatten().filter_map(|id| self.sources.get(id));
        sources.all(|source| source.is_settled() || !source.is_lost())
    }

    /// What was taken for a stream and not accepted is taken once more, later.
    pub fn rewind(&mut self, stream: usize) {
        for id in self.by_stream.get(&stream).into_iter().flatten() {
            if let Some(source) = self.sources.get_mut(id).filter(|source| !source.is_lost()) {
                source.rewind();
                self.dirty.entry(stream).or_default().insert(*id);
            }
        }
    }

    /// All positions, as they are to be saved.
    pub fn entries(&self) -> Vec<Entry> {
        self.restored.iter().cloned().chain(self.sources.values().filter_map(Source::entry)).collect()
    }

    /// Nothing is asked for.
    pub fn is_without_files(&self) -> bool {
        self.specs.is_empty()
    }

    pub fn count(&self) -> usize {
        self.sources.len()
    }

    /// Files that cannot be read, some of them if they are many, with the reason.
    pub fn unreadable(&self, most: usize) -> Vec<(String, String)> {
        let named = self.unreadable.iter().take(most);
        named.map(|(path, reason)| (path.display().to_string(), reason.clone())).collect()
    }

    pub fn unreadable_count(&self) -> usize {
        self.unreadable.len()
    }

    /// Files that lag, the worst first.
    pub fn lagging(&self, streams: &Streams, now: Instant) -> Vec<FileStatus> {
        let lagging = |source: &Source| {
            let since = source.behind_since()?;
            Some(FileStatus {
                path: source.path.display().to_string(),
                stream: streams.list[source.stream].template.as_str().to_owned(),
                bytes: source.size,
                lag_bytes: source.lag(),
                lag_seconds: now.saturating_duration_since(since).as_secs_f64(),
            })
        };
        let mut files: Vec<FileStatus> = self.sources.values().filter_map(lagging).collect();
        files.sort_by_key(|file| std::cmp::Reverse(file.lag_bytes));
        files
    }
}

/// `*` does not match a slash, and a name that begins with a dot is meant only where one is written.
const GLOB: glob::MatchOptions =
    glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// Whether a pattern matches a path.
pub fn matches(pattern: &glob::Pattern, path: &Path) -> bool {
    pattern.matches_path_with(path, GLOB)
}

/// What a pattern matches. A name that is not UTF-8 matches none.
pub fn walk(pattern: &str) -> impl Iterator<Item = Result<PathBuf, glob::GlobError>> {
    // The library's own rule of dots ends the process where a name is not UTF-8.
    let options = glob::MatchOptions { require_literal_leading_dot: false, ..GLOB };
    let pattern = glob::Pattern::new(pattern);
    let paths = pattern.iter().filter_map(|pattern| glob::glob_with(pattern.as_str(), options).ok());
    let found: Vec<glob::Paths> = paths.collect();
    let is_meant = move |path: &PathBuf| pattern.as_ref().is_ok_and(|pattern| pattern.matches_path_with(path, GLOB));
    found.into_iter().flatten().filter(move |path| path.as_ref().map_or(true, &is_meant))
}

fn mark_dirty(dirty: &mut BTreeMap<usize, BTreeSet<u64>>, sources: &BTreeMap<u64, Source>, id: u64) {
    if let Some(source) = sources.get(&id) {
        dirty.entry(source.stream).or_default().insert(id);
    }
}

fn note_paths(by_path: &mut HashMap<Arc<Path>, u64>, source: &Source, id: u64) {
    by_path.insert(Arc::clone(&source.path), id);
    by_path.extend(source.real.clone().map(|real| (real, id)));
}

fn forget_paths(by_path: &mut HashMap<Arc<Path>, u64>, source: &Source, id: u64) {
    for path in [Some(&source.path), source.real.as_ref()].into_iter().flatten() {
        if by_path.get(path) == Some(&id) {
            by_path.remove(path);
        }
    }
}

/// The mark of a saved position in a file, if the file still has the bytes it had up to there.
fn same(entry: &Entry, file: &File) -> Option<Mark> {
    let mut mark = Mark::of(file, entry.position.offset).ok().flatten()?;
    mark.position = entry.position;
    (mark.print() == entry.print).then_some(mark)
}

/// The directories in which files of a pattern can appear, and those in which such directories can.
fn directories_of(pattern: &str) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    let mut above = Path::new(pattern).parent();
    while let Some(directory) = above {
        let text = directory.to_string_lossy();
        if !text.contains(['*', '?', '[']) {
            directories.insert(directory.to_owned());
            break;
        }
        directories.extend(walk(&text).flatten().filter(|path| path.is_dir()));
        above = directory.parent();
    }
    directories
}
