//! One file that is shipped: what was read of it, what was accepted of it, and whether it is still the same file.

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::checkpoint::Entry;
use crate::mark::{BEFORE, Mark};

/// A file.
#[derive(Debug)]
pub struct Source {
    /// Which of the configuration's files it belongs to.
    pub files: usize,
    /// Where it was when it was found; its stream is called after it.
    pub origin: Arc<Path>,
    /// Where it is now.
    pub path: Arc<Path>,
    /// Where that leads to, if it is a link.
    pub real: Option<Arc<Path>>,
    pub stream: usize,
    device: u64,
    inode: u64,
    born: Option<i64>,
    /// How often it was emptied and begun anew.
    generation: u32,
    /// Closed while nothing happens.
    file: Option<File>,
    /// Up to here events were taken.
    read: Mark,
    /// Up to here the service has them.
    accepted: Mark,
    /// What was taken and is not accepted yet, in order.
    pending: VecDeque<Pending>,
    /// Bytes when it was looked at last.
    pub size: u64,
    /// When it was found longer last.
    pub grew: Instant,
    /// No path that is asked for leads to it any more.
    pub detached: Option<Instant>,
    /// Its first bytes when it was found, by which a copy is known before anything was read.
    peeked: Mark,
    /// Its bytes are nowhere any more: what is pending is in memory alone.
    is_lost: bool,
}

#[derive(Clone, Debug)]
struct Pending {
    batch: u64,
    end: Mark,
    since: Instant,
    is_accepted: bool,
}

/// What was found when a file was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// So many bytes are there behind what was read.
    More(usize),
    /// All of it was read.
    AtEnd,
    /// It was emptied, and perhaps written to again. So many bytes that had been there were not read.
    Emptied { unread: u64 },
}

impl Source {
    pub fn new(files: usize, path: Arc<Path>, stream: usize, file: File, from: Mark, now: Instant) -> io::Result<Self> {
        let meta = file.metadata()?;
        let peeked = Mark::of(&file, meta.len().min(BEFORE as u64))?.unwrap_or_default();
        Ok(Self {
            files,
            origin: Arc::clone(&path),
            real: real(&path),
            path,
            stream,
            device: meta.dev(),
            inode: meta.ino(),
            born: born(&file),
            generation: 0,
            file: Some(file),
            read: from,
            accepted: from,
            pending: VecDeque::new(),
            size: meta.len(),
            grew: now,
            detached: None,
            peeked,
            is_lost: false,
        })
    }

    pub fn inode(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    pub fn read_mark(&self) -> &Mark {
        &self.read
    }

    pub fn accepted_mark(&self) -> &Mark {
        &self.accepted
    }

    /// Bytes that are not accepted yet.
    pub fn lag(&self) -> u64 {
        self.size.saturating_sub(self.accepted.position.offset)
    }

    /// Since when something waits to be accepted.
    pub fn behind_since(&self) -> Option<Instant> {
        match self.pending.front() {
            Some(pending) => Some(pending.since),
            None => (self.lag() > 0).then_some(self.grew),
        }
    }

    pub fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    pub fn is_lost(&self) -> bool {
        self.is_lost
    }

    pub fn moved_to(&mut self, path: &Path) {
        if *self.path != *path {
            self.path = path.into();
            self.real = real(path);
        }
    }

    /// Reads what comes behind the position; the bytes stand in the buffer behind [`overlap`](Self::overlap) bytes that were
    /// read before. One read shows both what is new and whether the file is still what it was.
    pub fn look(&mut self, buffer: &mut [u8], now: Instant) -> io::Result<Look> {
        let overlap = self.overlap();
        let from = self.read.position.offset - overlap as u64;
        self.open()?;
        let Some(file) = &self.file else { return Ok(Look::AtEnd) };
        let length = read_at(file, buffer, from)?;
        let size = file.metadata()?.len();
        let is_same = length >= overlap
            && buffer[..overlap] == *self.read.before()
            // Lines may all end alike.
            && self.peeked.is_in(file)?
            // It was emptied while it was read, or before anything was.
            && size >= self.size.max(from + length as u64);
        if !is_same {
            return Ok(Look::Emptied { unread: self.size.saturating_sub(self.read.position.offset) });
        }
        if self.peeked.before().len() < BEFORE {
            self.peeked = Mark::of(file, size.min(BEFORE as u64))?.unwrap_or_default();
        }
        if size > self.size {
            self.grew = now;
            self.size = size;
        }
        Ok(if length > overlap { Look::More(length - overlap) } else { Look::AtEnd })
    }

    /// Notes how long it is without reading it; how much of it was not read if it is shorter than it was.
    pub fn glance(&mut self, now: Instant) -> io::Result<Option<u64>> {
        let Some(file) = &self.file else { return Ok(None) };
        let size = file.metadata()?.len();
        if size < self.size || !self.read.is_in(file)? || !self.peeked.is_in(file)? {
            return Ok(Some(self.size.saturating_sub(self.read.position.offset)));
        }
        if self.peeked.before().len() < BEFORE {
            self.peeked = Mark::of(file, size.min(BEFORE as u64))?.unwrap_or_default();
        }
        if size > self.size {
            (self.size, self.grew) = (size, now);
        }
        Ok(None)
    }

    /// Whether nothing came to it for so long.
    pub fn is_still(&self, now: Instant, time: Duration) -> bool {
        now.saturating_duration_since(self.grew) >= time
    }

    /// Bytes it has, as far as that can be told.
    pub fn bytes_now(&self) -> u64 {
        let meta = self.file.as_ref().and_then(|file| file.metadata().ok());
        meta.map_or(self.size, |meta| meta.len())
    }

    /// By what a copy of it is known: it has these bytes, and more than was read if there was more.
    pub fn copy_mark(&self) -> &Mark {
        if self.read.position.offset > 0 { &self.read } else { &self.peeked }
    }

    /// Bytes before the position that are read once more.
    pub fn overlap(&self) -> usize {
        self.read.before().len()
    }

    /// It was emptied, and is not to be read anew: it is no path's that is asked for.
    pub fn give_up(&mut self) {
        (self.is_lost, self.size, self.file) = (true, self.read.position.offset, None);
        (self.device, self.inode) = (0, 0);
    }

    pub fn modified(&self) -> Option<SystemTime> {
        self.file.as_ref()?.metadata().ok()?.modified().ok()
    }

    /// It was emptied: it begins anew. The rest of what it was goes on under another name if a copy was made of it, and
    /// otherwise what is pending is in memory alone.
    pub fn begin_anew(&mut self, copy: Option<(PathBuf, File)>, now: Instant) -> io::Result<Self> {
        let (size, peeked) = match &self.file {
            Some(file) => {
                let size = file.metadata()?.len();
                (size, Mark::of(file, size.min(BEFORE as u64))?.unwrap_or_default())
            }
            None => (0, Mark::default()),
        };
        let anew = Self {
            origin: Arc::clone(&self.origin),
            real: self.real.clone(),
            path: Arc::clone(&self.path),
            file: self.file.take(),
            generation: self.generation + 1,
            read: Mark::default(),
            accepted: Mark::default(),
            pending: VecDeque::new(),
            size,
            grew: now,
            peeked,
            ..*self
        };
        self.detached = Some(now);
        match copy {
            Some((path, file)) => {
                let meta = file.metadata()?;
                (self.device, self.inode, self.size) = (meta.dev(), meta.ino(), meta.len());
                self.born = born(&file);
                (self.path, self.real, self.file) = (path.into(), None, Some(file));
            }
            None => self.give_up(),
        }
        Ok(anew)
    }

    /// Where the first byte is that is not zero, from the position on. A program that goes on writing at its old place after
    /// its file was emptied leaves a hole before it.
    pub fn first_data(&mut self) -> io::Result<Option<u64>> {
        let from = self.read.position.offset;
        let Some(file) = self.open()? else { return Ok(None) };
        let mut at = match rustix::fs::seek(file, SeekFrom::Data(from)) {
            Ok(at) => at.max(from),
            Err(Errno::NXIO) => return Ok(None),
            // A file system that knows no holes.
            Err(_) => from,
        };
        let mut buffer = [0; 64 * 1024];
        loop {
            let length = read_at(file, &mut buffer, at)?;
            if length == 0 {
                return Ok(None);
            }
            if let Some(index) = buffer[..length].iter().position(|byte| *byte != 0) {
                return Ok(Some(at + index as u64));
            }
            at += length as u64;
        }
    }

    /// The open file; opened again if it was closed. `None` when its path leads to another one now.
    fn open(&mut self) -> io::Result<Option<&File>> {
        if self.file.is_none() && !self.is_lost {
            let opened = match open(&self.path) {
                Ok(opened) => opened,
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            if let Some(file) = opened {
                let meta = file.metadata()?;
                self.file = ((meta.dev(), meta.ino()) == self.inode()).then_some(file);
            }
        }
        Ok(self.file.as_ref())
    }

    /// These bytes behind the position were taken; `parts` of a line go on behind them.
    pub fn advance(&mut self, bytes: &[u8], parts: u32) {
        self.read.advance(bytes, parts);
    }

    /// Moves the position over a hole.
    pub fn skip_to(&mut self, offset: u64) -> io::Result<()> {
        if let Some(file) = self.open()? {
            self.read = Mark::of(file, offset)?.unwrap_or_default();
        }
        Ok(())
    }

    /// What was taken is in this batch.
    pub fn pend(&mut self, batch: u64, now: Instant) {
        match self.pending.back_mut() {
            Some(last) if last.batch == batch => last.end = self.read,
            _ => self.pending.push_back(Pending { batch, end: self.read, since: now, is_accepted: false }),
        }
    }

    /// What was taken holds nothing to be shipped; true when the position moved.
    pub fn pass(&mut self) -> bool {
        match self.pending.back_mut() {
            Some(last) => last.end = self.read,
            None => self.accepted = self.read,
        }
        self.pending.is_empty()
    }

    /// The batch is accepted; true when the position moved.
    pub fn accept(&mut self, batch: u64) -> bool {
        for pending in self.pending.iter_mut().filter(|pending| pending.batch == batch) {
            pending.is_accepted = true;
        }
        let before = self.accepted.position;
        while let Some(first) = self.pending.front().filter(|first| first.is_accepted) {
            self.accepted = first.end;
            self.pending.pop_front();
        }
        if self.pending.is_empty() {
            // Of ten thousand files most have none most of the time.
            self.pending = VecDeque::new();
        }
        self.accepted.position != before
    }

    /// What was taken and not accepted is taken once more, later.
    pub fn rewind(&mut self) {
        self.pending.clear();
        self.read = self.accepted;
    }

    /// Gives the descriptor back; the file is opened again when something happens to it.
    pub fn close(&mut self) {
        self.file = None;
    }

    pub fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Whether it has no name any more: once it is closed nobody can read it.
    pub fn is_deleted(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.metadata().is_ok_and(|meta| meta.nlink() == 0))
    }

    /// As it is to be saved.
    pub fn entry(&self) -> Option<Entry> {
        (!self.is_lost).then(|| Entry {
            path: self.path.to_path_buf(),
            origin: self.origin.to_path_buf(),
            device: self.device,
            inode: self.inode,
            born: self.born,
            generation: self.generation,
            print: self.accepted.print(),
            position: self.accepted.position,
        })
    }

    /// As it was saved.
    pub fn restored(&mut self, entry: &Entry) {
        self.origin = entry.origin.as_path().into();
        self.generation = entry.generation;
    }
}

/// Opens a file for reading, if it is a regular one. A link to it is followed.
pub fn open(path: &Path) -> io::Result<Option<File>> {
    use rustix::fs::{Mode, OFlags};
    // Opening a pipe must not wait for somebody to write into it.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    Ok(file.metadata()?.is_file().then_some(file))
}

/// Whether a file that begins like this is compressed: somebody's archive, and no text.
pub fn is_archive(bytes: &[u8]) -> bool {
    const MAGIC: [&[u8]; 4] = [b"\x1F\x8B\x08", b"BZh", b"\x28\xB5\x2F\xFD", b"\xFD7zXZ\0"];
    MAGIC.iter().any(|magic| bytes.starts_with(magic))
}

pub fn is_at(entry: &Entry, meta: &Metadata) -> bool {
    (entry.device, entry.inode) == (meta.dev(), meta.ino())
}

/// Whether a file that has the number was made when the one was that has the position; `None` where nobody knows.
pub fn is_as_old(entry: &Entry, file: &File) -> Option<bool> {
    Some(entry.born? == born(file)?)
}

/// When a file was made, in nanoseconds since 1970 (statx(2)).
fn born(file: &File) -> Option<i64> {
    use rustix::fs::{AtFlags, StatxFlags, statx};
    let found = statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BTIME).ok()?;
    let is_known = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
    let time = found.stx_btime;
    is_known.then(|| time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec.into()))
}

fn real(path: &Path) -> Option<Arc<Path>> {
    let is_link = path.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
    if is_link { path.canonicalize().ok().map(Arc::from) } else { None }
}

/// As much as there is, up to the buffer's end.
fn read_at(file: &File, buffer: &mut [u8], from: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], from + length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn source(path: &Path) -> Source {
        let file = open(path).unwrap().unwrap();
        Source::new(0, path.into(), 0, file, Mark::default(), Instant::now()).unwrap()
    }

    /// Looks, and takes what is new.
    fn take(source: &mut Source) -> Result<String, Look> {
        let mut buffer = [0; 256];
        match source.look(&mut buffer, Instant::now()).unwrap() {
            Look::More(length) => {
                let bytes = &buffer[source.overlap()..][..length];
                let text = String::from_utf8(bytes.to_vec()).unwrap();
                source.advance(bytes, 0);
                Ok(text)
            }
            other => Err(other),
        }
    }

    #[test]
    fn a_position_moves_only_over_what_is_accepted_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        fs::write(&path, "one\ntwo\nthree\n").unwrap();
        let mut source = source(&path);
        let now = Instant::now();
        for (batch, bytes) in [(1, b"one\n".as_slice()), (2, b"two\n"), (3, b"three\n")] {
            source.advance(bytes, 0);
            source.pend(batch, now);
        }
        let accepted = |source: &Source| source.accepted_mark().position.offset;
        assert!(!source.accept(2) && accepted(&source) == 0);
        assert!(source.accept(1) && accepted(&source) == 8);
        source.rewind();
        assert_eq!(source.read_mark().position.offset, 8);
        assert!(!source.accept(3), "it was taken back");
        assert_eq!(take(&mut source).unwrap(), "three\n");
        assert!(source.pass() && accepted(&source) == 14);
    }

    #[test]
    fn a_file_that_was_emptied_is_noticed_even_if_it_is_as_long_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        for content in ["", "new\n", "one\ntwx\n", "other and longer\n", "\0\0\0\0\0\0\0\0late\n"] {
            fs::write(&path, "one\ntwo\n").unwrap();
            let mut source = source(&path);
            assert_eq!(take(&mut source).unwrap(), "one\ntwo\n");
            assert_eq!(take(&mut source), Err(Look::AtEnd));
            fs::write(&path, content).unwrap();
            assert_eq!(take(&mut source), Err(Look::Emptied { unread: 0 }), "{content:?}");
        }
    }

    #[test]
    fn a_closed_file_is_opened_again_where_it_is_still_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        fs::write(&path, "one\n").unwrap();
        let mut source = source(&path);
        assert_eq!(take(&mut source).unwrap(), "one\n");
        source.close();
        fs::write(&path, "one\ntwo\n").unwrap();
        assert_eq!(take(&mut source).unwrap(), "two\n");
        source.close();
        fs::rename(&path, folder.path().join("a.log.1")).unwrap();
        fs::write(&path, "one\ntwo\nthree\n").unwrap();
        assert_eq!(take(&mut source), Err(Look::AtEnd), "its path leads to another file");
        source.moved_to(&folder.path().join("a.log.1"));
        assert!(!source.is_deleted());
        assert_eq!(take(&mut source), Err(Look::AtEnd));
        fs::remove_file(folder.path().join("a.log.1")).unwrap();
        assert!(source.is_deleted());
    }

    #[test]
    fn what_was_emptied_goes_on_in_its_copy() {
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("a.log"), folder.path().join("a.log.1"));
        fs::write(&path, "one\ntwo\n").unwrap();
        let mut source = source(&path);
        source.advance(b"one\n", 0);
        source.pend(7, Instant::now());
        fs::copy(&path, &copy).unwrap();
        fs::write(&path, "three\n").unwrap();
        let file = open(&copy).unwrap().unwrap();
        let mut anew = source.begin_anew(Some((copy, file)), Instant::now()).unwrap();
        assert_eq!((take(&mut source).unwrap().as_str(), take(&mut anew).unwrap().as_str()), ("two\n", "three\n"));
        assert!(source.accept(7) && !anew.accept(7));
        assert_eq!((source.entry().unwrap().generation, anew.entry().unwrap().generation), (0, 1));
    }

    #[test]
    fn a_hole_is_passed_over_once_there_is_something_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let file = File::create(&path).unwrap();
        file.set_len(300_000).unwrap();
        let mut source = source(&path);
        assert_eq!(source.first_data().unwrap(), None);
        file.write_all_at(b"x\n", 300_000).unwrap();
        assert_eq!(source.first_data().unwrap(), Some(300_000));
        source.skip_to(300_000).unwrap();
        assert_eq!(take(&mut source).unwrap(), "x\n");
    }
}
