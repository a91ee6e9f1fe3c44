//! One log stream: the batch being filled, those on their way, and when the next try is due. Each stream waits by a clock of
//! its own, so that one which is refused holds up no other.

use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use regex::Regex;

use crate::batch::{Batch, Sealed};
use crate::dead_letter::Cause;
use crate::lines::Joining;
use crate::name::{Template, safe_stream};
use crate::pace;
use crate::status::Counts;
use crate::time::TimeRule;

/// What is done with each event of a source.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub joining: Joining,
    /// An event without a successor is complete after so long.
    pub join_timeout: Duration,
    pub time: Option<TimeRule>,
    pub keep: Option<Regex>,
    pub drop: Option<Regex>,
}

/// Where an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    File(u64),
    Journal(usize),
    Stdin,
}

/// A stream of a group.
#[derive(Debug)]
pub struct Stream {
    pub group: String,
    /// May have `{date}` in it.
    pub template: Template,
    pub retention_days: Option<u32>,
    pub filling: Option<Filling>,
    /// To be sent, the oldest first.
    pub waiting: VecDeque<Flight>,
    /// Batches under way.
    pub under_way: BTreeSet<u64>,
    /// Batches that are accepted, and behind which no saved position is yet: after a kill they are sent again.
    pub unsaved: BTreeSet<u64>,
    /// As many of them are being saved.
    pub being_saved: usize,
    /// The file that was read last; the next is another.
    pub last_read: u64,
    /// Its part of all memory, as it was counted last.
    pub counted: usize,
    /// Why the last try failed.
    pub trouble: Option<String>,
    failures: u32,
    not_before: Option<Instant>,
}

/// A batch that takes more.
#[derive(Debug)]
pub struct Filling {
    pub id: u64,
    pub name: String,
    /// Days since 1970, where the name has a date in it.
    day: Option<i64>,
    pub batch: Batch,
    pub origins: BTreeSet<Origin>,
    pub since: Instant,
}

/// A batch that is sent, as a whole or in pieces.
#[derive(Debug)]
pub struct Flight {
    pub id: u64,
    pub stream: usize,
    pub group: String,
    pub name: String,
    pub retention_days: Option<u32>,
    pub sealed: Sealed,
    pub origins: BTreeSet<Origin>,
    /// What is still to be sent.
    pub left: Vec<Range<usize>>,
    /// Events the service does not want, with the cause, to be set aside.
    pub rejected: Vec<(usize, Cause)>,
}

impl Flight {
    /// Nothing of it was sent yet, as far as anybody knows.
    pub fn is_whole(&self) -> bool {
        self.left.len() == 1 && self.left[0] == (0..self.sealed.events().len()) && self.rejected.is_empty()
    }
}

/// Numbers of batches, and memory that was theirs.
#[derive(Debug, Default)]
pub struct Batches {
    last: u64,
    spare: Vec<Vec<u8>>,
    /// The last one when memory was asked back.
    last_tidied: u64,
}

impl Batches {
    /// Memory that is kept for the next ones.
    const SPARE: usize = 2;
    const LARGEST: usize = 2 << 20;

    fn next(&mut self, group: &str, name: &str) -> (u64, Batch) {
        self.last += 1;
        (self.last, Batch::in_buffer(group, name, self.spare.pop().unwrap_or_default()))
    }

    /// A batch is done with.
    pub fn done(&mut self, flight: Flight) {
        if self.spare.len() < Self::SPARE
            && let Some(buffer) = flight.sealed.into_buffer()
            && buffer.capacity() <= Self::LARGEST
        {
            self.spare.push(buffer);
        }
    }

    /// Gives memory back, unless batches were made since it was asked last; true when none were.
    pub fn tidy(&mut self) -> bool {
        let is_idle = self.last == self.last_tidied;
        if is_idle {
            self.spare.clear();
        }
        self.last_tidied = self.last;
        is_idle
    }
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    Taken,
    /// It is blank, or a filter leaves it out.
    LeftOut,
    /// The batch has to be sealed first.
    Full,
}

/// An event that is offered to a stream.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    pub bytes: &'a [u8],
    /// Of something too long for one event: which part this is, from 1, and whether it is the last.
    pub part: Option<(u32, bool)>,
    /// Milliseconds since 1970, where the source knows them.
    pub timestamp: Option<i64>,
    /// Milliseconds since 1970.
    pub read_at: i64,
}

const DAY: i64 = 24 * 3_600_000;

impl Stream {
    pub fn new(group: String, template: Template, retention_days: Option<u32>) -> Self {
        Self {
            group,
            template,
            retention_days,
            filling: None,
            waiting: VecDeque::new(),
            under_way: BTreeSet::new(),
            unsaved: BTreeSet::new(),
            being_saved: 0,
            last_read: 0,
            counted: 0,
            trouble: None,
            failures: 0,
            not_before: None,
        }
    }

    /// Takes an event into the batch being filled.
    pub fn offer(
        &mut self,
        event: Event<'_>,
        rules: &Rules,
        now: Instant,
        batches: &mut Batches,
        counts: &mut Counts,
    ) -> Offered {
        let mut text = match simdutf8::basic::from_utf8(event.bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(event.bytes),
        };
        let is_replaced = matches!(text, Cow::Owned(_));
        if text.trim_start_matches(['\0', ' ', '\t', '\r', '\n']).is_empty() {
            counts.blank += 1;
            return Offered::LeftOut;
        }
        if rules.keep.as_ref().is_some_and(|keep| !keep.is_match(&text))
            || rules.drop.as_ref().is_some_and(|drop| drop.is_match(&text))
        {
            counts.filtered += 1;
            return Offered::LeftOut;
        }
        let read = rules.time.as_ref().map(|rule| rule.read(&text, event.read_at));
        let timestamp = read.flatten().or(event.timestamp).unwrap_or(event.read_at).max(0);
        if let Some((part, is_last)) = event.part {
            text.to_mut().push_str(&format!(" [part {part}{}]", if is_last { ", the last" } else { "" }));
        }
        let day = self.template.asks_for("date").then_some(timestamp.div_euclid(DAY));
        let filling = self.filling.get_or_insert_with(|| {
            let date = Timestamp::from_millisecond(timestamp).map(|time| time.strftime("%Y-%m-%d").to_string());
            let name = safe_stream(&self.template.on(&date.unwrap_or_default()));
            let (id, batch) = batches.next(&self.group, &name);
            Filling { id, name, day, batch, origins: BTreeSet::new(), since: now }
        });
        if filling.day != day || !filling.batch.has_room(timestamp, text.len()) {
            return Offered::Full;
        }
        filling.batch.push(timestamp, &text);
        counts.read += 1;
        counts.not_utf8 += u64::from(is_replaced);
        counts.parts += u64::from(event.part.is_some());
        counts.without_time += u64::from(read == Some(None));
        Offered::Taken
    }

    /// The batch being filled is to be sent.
    pub fn seal(&mut self, index: usize) {
        let Some(Filling { id, name, batch, origins, .. }) = self.filling.take() else { return };
        let sealed = batch.sealed();
        let all = 0..sealed.events().len();
        self.waiting.push_back(Flight {
            id,
            stream: index,
            group: self.group.clone(),
            name,
            retention_days: self.retention_days,
            sealed,
            origins,
            left: vec![all],
            rejected: Vec::new(),
        });
    }

    /// A batch that could not be sent waits before those that came later.
    pub fn put_back(&mut self, mut flight: Flight) {
        let place = self.waiting.iter().position(|other| other.id > flight.id).unwrap_or(self.waiting.len());
        flight.left.sort_by_key(|range| std::cmp::Reverse(range.start));
        self.waiting.insert(place, flight);
    }

    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The time of the next try, if one is due later.
    pub fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| at <= now)
    }

    /// Whether more may be read for it: not ahead of what waits, and not while it fails.
    pub fn takes_more(&self, now: Instant) -> bool {
        self.waiting.is_empty() && (!self.is_failing() || (self.under_way.is_empty() && self.is_due(now)))
    }

    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.not_before = None;
        self.trouble = None;
    }

    /// Throttled, it does not wait as long: the account's pace slows it down already.
    pub fn failed(&mut self, now: Instant, is_throttled: bool, random: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let failures = if is_throttled { self.failures.min(2) } else { self.failures };
        let wait = pace::back_off(failures, random);
        self.not_before = Some(now + wait);
        wait
    }

    /// Whether one more request may go: those that are under way, and those that would be sent again after a kill, are never
    /// more than `parallel`. Where positions cannot be saved that bound is given up, so that shipping goes on.
    pub fn may_send(&self, now: Instant, parallel: usize, saves: bool) -> bool {
        let Some(next) = self.waiting.front().filter(|_| self.is_due(now)) else { return false };
        let most = if self.is_failing() { 1 } else { parallel };
        let unsaved = if saves { self.unsaved.len() + self.being_saved } else { 0 };
        // Those behind it cannot be saved before it is accepted; it was counted when it was sent first.
        let holds_up_others = self.under_way.is_empty() && self.unsaved.first().is_some_and(|other| next.id < *other);
        self.under_way.len() + unsaved < most || holds_up_others
    }

    /// A save begins: it has the batches before the oldest one that is not accepted.
    pub fn being_saved(&mut self) {
        let waiting = self.waiting.front().map(|flight| flight.id);
        let oldest = self.under_way.first().copied().into_iter().chain(waiting).min();
        let rest = oldest.map_or_else(BTreeSet::new, |oldest| self.unsaved.split_off(&oldest));
        self.being_saved += std::mem::replace(&mut self.unsaved, rest).len();
    }

    /// Bytes of memory, but for what is under way.
    pub fn size(&self) -> usize {
        let waiting: usize = self.waiting.iter().map(|flight| flight.sealed.size()).sum();
        self.filling.as_ref().map_or(0, |filling| filling.batch.size()) + waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str, timestamp: i64) -> Event<'_> {
        Event { bytes: text.as_bytes(), part: None, timestamp: Some(timestamp), read_at: 0 }
    }

    #[test]
    fn a_stream_with_a_date_in_its_name_ends_its_batch_with_the_day() {
        let mut stream = Stream::new("g".into(), Template::parse("s-{date}").unwrap(), None);
        let (now, mut next, mut counts) = (Instant::now(), Batches::default(), Counts::default());
        let rules = Rules::default();
        let mut offer =
            |stream: &mut Stream, timestamp| stream.offer(event("x", timestamp), &rules, now, &mut next, &mut counts);
        assert_eq!(offer(&mut stream, 0), Offered::Taken);
        assert_eq!(offer(&mut stream, DAY - 1), Offered::Taken);
        assert_eq!(offer(&mut stream, DAY), Offered::Full);
        stream.seal(0);
        assert_eq!(offer(&mut stream, DAY), Offered::Taken);
        stream.seal(0);
        let names: Vec<&str> = stream.waiting.iter().map(|flight| flight.name.as_str()).collect();
        assert_eq!(names, ["s-1970-01-01", "s-1970-01-02"]);
    }

    #[test]
    fn no_more_batches_are_at_risk_than_may_be_under_way() {
        let mut stream = Stream::new("g".into(), Template::parse("s").unwrap(), None);
        let (now, mut next, mut counts) = (Instant::now(), Batches::default(), Counts::default());
        stream.offer(event("x", 0), &Rules::default(), now, &mut next, &mut counts);
        stream.seal(0);
        assert!(stream.may_send(now, 1, true));
        for at_risk in 0..3 {
            stream.under_way = (0..usize::from(at_risk == 0)).map(|id| id as u64).collect();
            stream.unsaved = (0..usize::from(at_risk == 1)).map(|id| id as u64).collect();
            stream.being_saved = usize::from(at_risk == 2);
            assert!(!stream.may_send(now, 1, true) && stream.may_send(now, 2, true));
        }
        assert!(stream.may_send(now, 1, false), "positions cannot be saved: shipping goes on");
        // What came behind a batch that failed is saved with it, and not before.
        (stream.under_way, stream.unsaved, stream.being_saved) = (BTreeSet::new(), [2, 3].into(), 0);
        assert!(stream.may_send(now, 2, true), "it is the oldest");
        stream.being_saved();
        assert_eq!((stream.being_saved, stream.unsaved.len()), (0, 2));
        stream.waiting.clear();
        stream.being_saved();
        assert_eq!((stream.being_saved, stream.unsaved.len()), (2, 0));
        stream.offer(event("x", 0), &Rules::default(), now, &mut next, &mut counts);
        stream.seal(0);
        let wait = stream.failed(now, false, 1.0);
        assert!(!stream.may_send(now, 8, false) && stream.may_send(now + wait, 8, false));
    }
}
