//! The systemd journal as a source: a child `journalctl --output=export --follow` is read, started again whenever it ends, and
//! waits on its pipe while nobody takes what it gave.
//!
//! A place in the journal is the cursor of an entry. journalctl is not trusted to find it: asked for a cursor that is gone it
//! begins at whatever comes next and says nothing. So it is asked for the very entry of the place, which is passed over if it
//! comes, and if another one comes there is a gap, which is told. `export` reads what it writes, `child` is the process,
//! `audit` finds what is deleted while we are behind.
//!
//! The child ends when we do, even by `kill -9`: it looks whether anybody reads its output while it waits, and a write
//! without a reader ends it by SIGPIPE.

mod audit;
mod child;
pub mod export;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use crate::pace;
use audit::Audit;
use child::{Child, Heard, Seek};
use export::Parser;

/// What is read of the child at once. No more is held besides the entry that is next.
const CHUNK: usize = 64 * 1024;
/// A child that gives nothing for so long has nothing more.
const SILENCE: Duration = Duration::from_secs(1);
/// A child that lived so long began well, even if the journal was silent.
const LIVED: Duration = Duration::from_secs(60);

/// A place in the journal: behind this entry. Without a cursor: before the first entry that is not older.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub cursor: String,
    pub boot: String,
    pub realtime_us: u64,
}

impl Mark {
    fn at(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let realtime_us = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        Self { cursor: String::new(), boot: String::new(), realtime_us }
    }

    /// Whether both are of one entry. journald numbers entries (`i`) within a sequence (`s`); one that was copied from `/run`
    /// to `/var` has another number there, but is of the same boot, both times and content.
    fn is_same(&self, other: &Self) -> bool {
        fn part<'a>(mark: &'a Mark, name: &str) -> Option<&'a str> {
            mark.cursor.split(';').find_map(|part| part.strip_prefix(name))
        }
        let is_equal = |name: &&str| part(self, name).is_some_and(|value| part(other, name) == Some(value));
        if is_equal(&"s=") { is_equal(&"i=") } else { ["b=", "m=", "t=", "x="].iter().all(is_equal) }
    }
}

/// What is read of the journal.
#[derive(Clone, Debug)]
pub struct Settings {
    /// All if there are none. A pattern stands for the units that are known when the child is started.
    pub units: Vec<String>,
    /// `FIELD=value`.
    pub matches: Vec<String>,
    /// Instead of the host's own journal.
    pub directory: Option<PathBuf>,
    /// Without a mark: what is written from now on, and nothing older.
    pub from_end: bool,
    pub journalctl: PathBuf,
}

/// An entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub mark: Mark,
    /// When journald took it. When it was sent (`_SOURCE_REALTIME_TIMESTAMP`) is not always known, is said by others for some
    /// entries, and is not the order of the journal, which a batch and a place go by.
    pub timestamp_ms: i64,
    /// Those whose names do not begin with `__`, in the order they came in.
    pub fields: Vec<(String, Vec<u8>)>,
}

impl Entry {
    fn new(mark: Mark, fields: Vec<(String, Vec<u8>)>) -> Self {
        let timestamp_ms = i64::try_from(mark.realtime_us / 1_000).unwrap_or(i64::MAX);
        Self { mark, timestamp_ms, fields }
    }

    /// A field's text, the first if there are several; what is no UTF-8 is replaced.
    pub fn field(&self, name: &str) -> Option<Cow<'_, str>> {
        let (_, value) = self.fields.iter().find(|(field, _)| field == name)?;
        Some(String::from_utf8_lossy(value))
    }

    /// The message alone; empty if there is none.
    pub fn message(&self) -> Cow<'_, str> {
        self.field("MESSAGE").unwrap_or_default()
    }

    pub fn identifier(&self) -> Cow<'_, str> {
        self.field("SYSLOG_IDENTIFIER").or_else(|| self.field("_COMM")).unwrap_or(Cow::Borrowed("unknown"))
    }

    /// What journald knows of the process, else what the process said.
    pub fn pid(&self) -> Option<Cow<'_, str>> {
        self.field("_PID").or_else(|| self.field("SYSLOG_PID"))
    }

    /// `identifier[pid]: message`.
    pub fn short(&self) -> String {
        match self.pid() {
            Some(pid) => format!("{}[{pid}]: {}", self.identifier(), self.message()),
            None => format!("{}: {}", self.identifier(), self.message()),
        }
    }

    /// All fields as one JSON object, sorted, for journald keeps no order. A field that is there several times is an array.
    pub fn json(&self) -> String {
        let mut object: BTreeMap<&str, Value> = BTreeMap::new();
        for (name, value) in &self.fields {
            let value = Value::String(String::from_utf8_lossy(value).into_owned());
            match object.get_mut(name.as_str()) {
                None => _ = object.insert(name, value),
                Some(Value::Array(values)) => values.push(value),
                Some(first) => *first = Value::Array(vec![first.take(), value]),
            }
        }
        serde_json::to_string(&object).unwrap_or_default()
    }
}

/// What went wrong so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries that may have been deleted unread: how many times, not how many.
    pub gaps: u64,
    /// Cursors that journalctl refused, so that the place was looked for by its time.
    pub refused: u64,
    /// The child ended, or could not be started.
    pub restarts: u64,
    /// Entries that could not be read.
    pub damaged: u64,
    /// Fields that were too long and are not whole.
    pub cut: u64,
}

/// What a child's first entries are compared with.
#[derive(Debug)]
enum Check {
    Done,
    /// The entry of this mark is to come first.
    Same(Mark),
    /// The mark's cursor was refused: what is not later was taken before. Whether anything of its moment was there.
    Later(Mark, bool),
}

/// The journal, entry by entry.
#[derive(Debug)]
pub struct Journal {
    settings: Settings,
    /// Where it began.
    from: Option<Mark>,
    /// Up to here it was read.
    place: Option<Mark>,
    /// The cursor of the place is of no use.
    is_refused: bool,
    child: Option<Child>,
    started: Instant,
    /// When the next child may be started.
    due: Instant,
    /// Children in a row that gave nothing new.
    failures: u32,
    check: Check,
    parser: Parser,
    chunk: Chunk,
    /// When it was filled.
    heard: Instant,
    next: Option<Entry>,
    audit: Audit,
    stats: Stats,
}

/// What was read of the child.
struct Chunk {
    bytes: Vec<u8>,
    /// What of it is to be parsed.
    rest: Range<usize>,
}

impl fmt::Debug for Chunk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Chunk").field(&self.rest).finish()
    }
}

impl Journal {
    /// Nothing is started before it is [asked for](Self::ready). `from`: what was saved.
    pub fn new(settings: Settings, from: Option<Mark>) -> Self {
        // By time, not by "no old lines": a child that is started again is to begin where the first one did.
        let from = from.or_else(|| settings.from_end.then(|| Mark::at(SystemTime::now())));
        let now = Instant::now();
        Self {
            settings,
            place: from.clone(),
            from,
            is_refused: false,
            child: None,
            started: now,
            due: now,
            failures: 0,
            check: Check::Done,
            parser: Parser::default(),
            chunk: Chunk { bytes: vec![0; CHUNK], rest: 0..0 },
            heard: now,
            next: None,
            audit: Audit::default(),
            stats: Stats::default(),
        }
    }

    /// Where it began. Worth saving before anything is accepted: whoever begins at the end begins there once.
    pub fn origin(&self) -> Option<&Mark> {
        self.from.as_ref()
    }

    /// Waits until there is an entry to peek at; starts the child when it is due. Nothing is lost if the wait is given up.
    pub async fn ready(&mut self) {
        while self.next.is_none() {
            let Some(child) = &mut self.child else {
                tokio::time::sleep_until(self.due).await;
                self.start();
                continue;
            };
            let heard = tokio::select! {
                biased;
                heard = child.hear(&mut self.chunk.bytes) => heard,
                () = tokio::time::sleep_until(self.heard + SILENCE), if self.audit.is_behind() => {
                    self.audit.look(&self.settings);
                    continue;
                }
            };
            match heard {
                Heard::Bytes(bytes) => {
                    (self.heard, self.chunk.rest) = (Instant::now(), 0..bytes);
                    self.parse();
                }
                Heard::End { reason, refuses_cursor } => self.ended(&reason, refuses_cursor),
            }
        }
    }

    /// The next entry, if it is there already.
    pub fn peek(&self) -> Option<&Entry> {
        self.next.as_ref()
    }

    /// Moves over the next entry.
    pub fn take(&mut self) -> Option<Entry> {
        let entry = self.next.take();
        self.parse();
        entry
    }

    /// Begins again behind this mark (`None`: as at first), and forgets what was read.
    pub fn rewind(&mut self, to: Option<Mark>) {
        self.stop();
        self.audit.forget();
        (self.chunk.rest, self.next) = (0..0, None);
        self.place = to.or_else(|| self.from.clone());
        (self.is_refused, self.failures, self.due) = (false, 0, Instant::now());
    }

    pub fn stats(&self) -> Stats {
        Stats { gaps: self.audit.gaps(), damaged: self.parser.damaged(), cut: self.parser.cut(), ..self.stats }
    }

    /// Kills the child. What it had half written comes again from the next one.
    fn stop(&mut self) {
        self.child = None;
        self.parser.reset();
    }

    fn start(&mut self) {
        let (seek, check) = match &self.place {
            None => (Seek::Start, Check::Done),
            Some(mark) if mark.cursor.is_empty() => (Seek::Time(mark.realtime_us), Check::Done),
            Some(mark) if self.is_refused => (Seek::Time(mark.realtime_us), Check::Later(mark.clone(), false)),
            Some(mark) => (Seek::Cursor(&mark.cursor), Check::Same(mark.clone())),
        };
        self.started = Instant::now();
        match Child::start(&self.settings, seek) {
            Ok(child) => (self.child, self.check) = (Some(child), check),
            Err(error) => self.ended(&error.to_string(), false),
        }
    }

    fn ended(&mut self, reason: &str, refuses_cursor: bool) {
        self.stop();
        let is_first_to_refuse = refuses_cursor && !self.is_refused;
        if let (Check::Same(mark), true) = (&self.check, is_first_to_refuse) {
            tracing::warn!(cursor = mark.cursor, reason, "journalctl refuses a cursor: its time is looked for instead");
            self.stats.refused += 1;
            self.is_refused = true;
            return;
        }
        if self.started.elapsed() >= LIVED {
            self.failures = 0;
        }
        self.failures += 1;
        self.stats.restarts += 1;
        let wait = pace::back_off(self.failures, 1.0);
        self.due = Instant::now() + wait;
        if self.failures == 1 || self.failures.is_multiple_of(10) {
            tracing::warn!(reason, failures = self.failures, ?wait, "journalctl ended, and is started again");
        }
    }

    /// Goes on in the chunk, up to the next entry that is new.
    fn parse(&mut self) {
        let damaged = self.parser.damaged();
        while self.next.is_none() && !self.chunk.rest.is_empty() {
            let (taken, entry) = self.parser.push(&self.chunk.bytes[self.chunk.rest.clone()]);
            self.chunk.rest.start += taken;
            self.next = entry.filter(|entry| self.is_new(entry));
        }
        let now_damaged = self.parser.damaged();
        // Of a flood of it, ever less is told.
        if (damaged + 1..=now_damaged).any(u64::is_power_of_two) {
            tracing::warn!(damaged = now_damaged, "journalctl wrote what is no entry");
        }
    }

    /// Whether the entry was not taken before; moves the place over it.
    fn is_new(&mut self, entry: &Entry) -> bool {
        self.place = Some(entry.mark.clone());
        self.is_refused = false;
        let is_new = match std::mem::replace(&mut self.check, Check::Done) {
            Check::Done => true,
            Check::Same(mark) if mark.is_same(&entry.mark) => false,
            // Entries of one moment in several files have no certain order.
            Check::Same(mark) if mark.realtime_us == entry.mark.realtime_us => {
                self.check = Check::Same(mark);
                true
            }
            Check::Later(mark, is_met)
                if mark.boot == entry.mark.boot && entry.mark.realtime_us <= mark.realtime_us =>
            {
                let is_met = is_met || entry.mark.realtime_us == mark.realtime_us;
                self.check = Check::Later(mark, is_met);
                false
            }
            Check::Later(_, true) => true,
            Check::Same(mark) | Check::Later(mark, false) => {
                self.audit.gap(&mark, &entry.mark);
                true
            }
        };
        if is_new {
            self.failures = 0;
            self.audit.read(&self.settings, &entry.mark);
        }
        is_new
    }
}
