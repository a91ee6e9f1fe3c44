//! What is there to be shipped, without the service and without waiting: sources, the streams they fill, and the memory all of
//! it may take. [`ship`](crate::ship) drives it, and so does a test that plays the service.
//!
//! No branch moves a position over an event that was neither accepted nor written to the file of dead letters.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use crate::checkpoint::{JournalEntry, Positions};
use crate::config::Config;
use crate::feed::{JournalFeed, StdinFeed};
use crate::name::Host;
use crate::status::{Counts, Status, StreamStatus};
use crate::stream::{Flight, Origin, Stream};
use crate::tail::{Destination, Streams, Tails};
use crate::watch::Changes;

/// Bytes of all batches in memory, those under way included. What is above is read again later.
const MEMORY: usize = 8 << 20;
/// Files and streams that a status names.
const MOST_NAMED: usize = 100;

/// Sources and streams.
#[derive(Debug)]
pub struct Work {
    flush: Duration,
    tails: Tails,
    journals: Vec<JournalFeed>,
    stdin: Option<StdinFeed>,
    streams: Streams,
    /// Whose turn it is.
    next_stream: usize,
    under_way_bytes: usize,
    /// Of each batch under way the time of its oldest event, in milliseconds since 1970.
    under_way: BTreeMap<u64, i64>,
    pub counts: Counts,
}

impl Work {
    pub fn new(config: &Config, host: &Host, restored: Positions) -> Self {
        let mut streams = Streams::default();
        let mut of = |group: &crate::name::Template, stream: &crate::name::Template, retention_days| {
            let group = crate::name::safe_group(&group.of_source(host, "").on(""));
            streams.of(Destination { group, template: stream.of_source(host, ""), retention_days })
        };
        let journals = config.journals.iter().map(|journal| {
            let stream = of(&journal.group, &journal.stream, journal.retention_days);
            let key = journal.key();
            let saved = restored.journals.iter().find(|entry| entry.journal == key);
            JournalFeed::new(journal.clone(), stream, key, saved.map(|entry| entry.mark.clone()))
        });
        let journals = journals.collect();
        let stdin = config
            .stdin
            .as_ref()
            .map(|stdin| StdinFeed::new(stdin.rules.clone(), of(&stdin.group, &stdin.stream, stdin.retention_days)));
        Self {
            flush: config.delivery.flush,
            tails: Tails::new(config.files.clone(), host.clone(), restored.files, restored.patterns),
            journals,
            stdin,
            streams,
            next_stream: 0,
            under_way_bytes: 0,
            under_way: BTreeMap::new(),
            counts: Counts::default(),
        }
    }

    // ---- what happens

    pub fn note(&mut self, changes: &Changes, now: Instant) {
        self.tails.note(changes, &mut self.streams, now, &mut self.counts);
    }

    /// Gives the directories to be watched.
    pub fn look_around(&mut self, now: Instant) -> BTreeSet<PathBuf> {
        self.tails.look_around(&mut self.streams, now)
    }

    /// Waits until a journal or the standard input has more.
    pub async fn ready(&mut self) {
        let stdin = async {
            match &mut self.stdin {
                Some(stdin) => stdin.ready().await,
                None => std::future::pending().await,
            }
        };
        let journals = async {
            if self.journals.is_empty() {
                return std::future::pending().await;
            }
            let ready = self.journals.iter_mut().map(|feed| Box::pin(feed.ready()));
            futures_util::future::select_all(ready).await;
        };
        tokio::select! {
            () = stdin => {}
            () = journals => {}
        }
    }

    /// Nothing more will come: there are no files and no journals, and the standard input is at its end.
    pub fn is_at_end(&self) -> bool {
        let stdin_ended = self.stdin.as_ref().is_some_and(StdinFeed::is_done);
        self.tails.is_without_files() && self.journals.is_empty() && stdin_ended
    }

    // ---- reading

    /// Reads for the next stream that takes more; true when there may be more to do at once.
    pub fn fill(&mut self, now: Instant) -> bool {
        self.tails.poll(now);
        let mut wanting: BTreeSet<usize> = self.tails.dirty_streams().collect();
        wanting.extend(self.journals.iter().filter(|feed| feed.has_more()).map(|feed| feed.stream));
        wanting.extend(self.stdin.iter().filter(|feed| feed.has_more(now)).map(|feed| feed.stream));
        let first = self.next_stream;
        let in_turn = wanting.range(first..).chain(wanting.range(..first)).copied();
        for index in in_turn.collect::<Vec<usize>>() {
            if self.streams.list[index].takes_more(now) && self.fill_stream(index, now) {
                // Its turn lasts as long as a batch.
                self.next_stream = if self.streams.list[index].waiting.is_empty() { index } else { index + 1 };
                return true;
            }
        }
        false
    }

    fn fill_stream(&mut self, index: usize, now: Instant) -> bool {
        if !self.make_room(index) {
            return false;
        }
        let read_at = epoch_ms();
        for id in self.tails.dirty_of(index) {
            if self.tails.read(id, &mut self.streams, now, read_at, &mut self.counts) {
                return true;
            }
        }
        for (number, feed) in self.journals.iter_mut().enumerate().filter(|(_, feed)| feed.stream == index) {
            if feed.read(number, &mut self.streams, now, read_at, &mut self.counts) {
                return true;
            }
        }
        match &mut self.stdin {
            Some(feed) if feed.stream == index => feed.read(&mut self.streams, now, read_at, &mut self.counts),
            _ => false,
        }
    }

    /// When everything stops: what could not be read again later is taken now, as long as it fits.
    pub fn fill_last(&mut self, now: Instant) -> bool {
        let read_at = epoch_ms();
        for id in self.tails.deleted() {
            if self.memory() <= MEMORY && self.tails.read(id, &mut self.streams, now, read_at, &mut self.counts) {
                return true;
            }
        }
        match &mut self.stdin {
            Some(feed) => {
                feed.ends();
                feed.has_more(now) && feed.read(&mut self.streams, now, read_at, &mut self.counts)
            }
            None => false,
        }
    }

    fn memory(&self) -> usize {
        self.streams.list.iter().map(Stream::size).sum::<usize>() + self.under_way_bytes
    }

    /// Room for one more batch: where streams that are refused hold it all, one gives its batches up and reads them again
    /// when its turn comes.
    fn make_room(&mut self, for_stream: usize) -> bool {
        while self.memory() > MEMORY {
            let stdin = self.stdin.as_ref().map(|feed| feed.stream);
            let gives_up = |(index, stream): &(usize, &Stream)| {
                *index != for_stream
                    && Some(*index) != stdin
                    && stream.is_failing()
                    && stream.under_way == 0
                    && stream.size() > 0
                    && stream.waiting.iter().all(Flight::is_whole)
                    && self.tails.can_rewind(*index)
            };
            let candidates = self.streams.list.iter().enumerate().filter(gives_up);
            let Some((index, _)) = candidates.max_by_key(|(_, stream)| stream.not_before()) else { return false };
            let stream = &mut self.streams.list[index];
            let events = |flight: &Flight| flight.sealed.events().len();
            let filling = stream.filling.as_ref().map_or(0, |filling| filling.batch.events().len());
            // They are counted when they are read the next time.
            self.counts.read -= (stream.waiting.iter().map(events).sum::<usize>() + filling) as u64;
            stream.waiting.clear();
            stream.filling = None;
            self.tails.rewind(index);
            self.journals.iter_mut().filter(|feed| feed.stream == index).for_each(JournalFeed::rewind);
        }
        true
    }

    // ---- sending

    /// Batches that have waited long enough for more are to be sent.
    pub fn seal_due(&mut self, now: Instant, all: bool) {
        for (index, stream) in self.streams.list.iter_mut().enumerate() {
            let is_due = stream.filling.as_ref().is_some_and(|filling| all || now >= filling.since + self.flush);
            if stream.waiting.is_empty() && is_due {
                stream.seal(index);
            }
        }
    }

    /// The next batch to be sent. Streams take turns, so that none is behind all others for ever.
    pub fn next_flight(&mut self, now: Instant, parallel: usize, saves: bool) -> Option<Flight> {
        let may_send = |stream: &&mut Stream| stream.may_send(now, parallel, saves);
        let stream = self.streams.list.iter_mut().filter(may_send).min_by_key(|stream| stream.waiting[0].id)?;
        let flight = stream.waiting.pop_front()?;
        stream.under_way += 1;
        self.under_way_bytes += flight.sealed.size();
        self.under_way.insert(flight.id, flight.sealed.events()[0].timestamp);
        Some(flight)
    }

    /// A batch is accepted, but for events that stand in the file of dead letters.
    pub fn accepted(&mut self, flight: &Flight) {
        let rejected: u64 = flight.rejected.len() as u64;
        self.counts.dead_letters += rejected;
        self.counts.accepted += flight.sealed.events().len() as u64 - rejected;
        self.counts.bytes_accepted += flight.sealed.message_bytes();
        self.landed(flight);
        let stream = &mut self.streams.list[flight.stream];
        stream.succeeded();
        if flight.origins.iter().any(|origin| *origin != Origin::Stdin) {
            stream.unsaved += 1;
            // Whatever becomes of its sources, the stream waits for a save.
            self.tails.is_changed = true;
        }
        self.let_go(flight);
    }

    /// What is in a batch is done with.
    fn let_go(&mut self, flight: &Flight) {
        for origin in &flight.origins {
            match origin {
                Origin::File(id) => self.tails.accept(*id, flight.id),
                Origin::Journal(number) => self.tails.is_changed |= self.journals[*number].accept(flight.id),
                Origin::Stdin => {}
            }
        }
    }

    /// A batch has to be sent again; gives the wait.
    pub fn failed(&mut self, flight: Flight, trouble: String, is_throttled: bool, now: Instant) -> Duration {
        self.landed(&flight);
        let stream = &mut self.streams.list[flight.stream];
        stream.trouble = Some(trouble);
        stream.put_back(flight);
        stream.failed(now, is_throttled, random())
    }

    fn landed(&mut self, flight: &Flight) {
        self.under_way_bytes -= flight.sealed.size();
        self.under_way.remove(&flight.id);
        self.streams.list[flight.stream].under_way -= 1;
    }

    /// How often the stream of this batch failed in a row.
    pub fn failures(&self, stream: usize) -> u32 {
        self.streams.list[stream].failures()
    }

    /// At the end: batches that nobody could read again later. They are taken out.
    pub fn unrepeatable(&mut self) -> Vec<Flight> {
        let mut taken = Vec::new();
        for (index, stream) in self.streams.list.iter_mut().enumerate() {
            stream.seal(index);
            let (gone, kept): (Vec<Flight>, Vec<Flight>) = stream.waiting.drain(..).partition(|flight| {
                flight.origins.iter().any(|origin| match origin {
                    Origin::File(id) => self.tails.is_deleted(*id),
                    Origin::Journal(_) => false,
                    Origin::Stdin => true,
                })
            });
            stream.waiting.extend(kept);
            taken.extend(gone);
        }
        taken
    }

    /// A batch whose events all stand in the file of dead letters.
    pub fn set_aside(&mut self, flight: &Flight) {
        self.counts.dead_letters += flight.sealed.events().len() as u64;
        self.let_go(flight);
    }

    pub fn is_idle(&self) -> bool {
        self.streams.list.iter().all(|stream| stream.waiting.is_empty() && stream.filling.is_none())
    }

    /// When there is something to do without anything happening.
    pub fn wake(&self, now: Instant) -> Option<Instant> {
        let of_streams = self.streams.list.iter().flat_map(|stream| {
            let full = stream.filling.as_ref().filter(|_| stream.waiting.is_empty());
            let flush = full.map(|filling| filling.since + self.flush);
            [flush, stream.not_before().filter(|time| *time > now)].into_iter().flatten()
        });
        let takes_more = |feed: &&StdinFeed| self.streams.list[feed.stream].takes_more(now);
        let of_stdin = self.stdin.as_ref().filter(takes_more).and_then(StdinFeed::wake);
        of_streams.chain(self.tails.wake(now)).chain(of_stdin).min()
    }

    // ---- positions

    pub fn is_changed(&self) -> bool {
        self.tails.is_changed
    }

    /// All positions; what was accepted until now is being saved.
    pub fn positions(&mut self) -> Positions {
        self.tails.is_changed = false;
        for stream in &mut self.streams.list {
            stream.being_saved += std::mem::take(&mut stream.unsaved);
        }
        let journals = self
            .journals
            .iter()
            .filter_map(|feed| Some(JournalEntry { journal: feed.key.clone(), mark: feed.accepted_mark()?.clone() }));
        Positions { patterns: self.tails.patterns(), files: self.tails.entries(), journals: journals.collect() }
    }

    pub fn was_saved(&mut self, is_saved: bool) {
        for stream in &mut self.streams.list {
            let saved = std::mem::take(&mut stream.being_saved);
            if !is_saved {
                stream.unsaved += saved;
            }
        }
        self.tails.is_changed |= !is_saved;
    }

    /// What is to be told; whoever asks adds who he is.
    pub fn status(&self, now: Instant) -> Status {
        let mut lagging = self.tails.lagging(&self.streams, now);
        let lag_bytes = lagging.iter().map(|file| file.lag_bytes).sum();
        let lag_seconds = lagging.iter().map(|file| file.lag_seconds).fold(0.0, f64::max);
        lagging.truncate(MOST_NAMED);
        let age = |at: Option<i64>| at.map_or(0.0, |at| (epoch_ms() - at).max(0) as f64 / 1_000.0);
        let oldest = self.streams.list.iter().flat_map(|stream| {
            let waiting = stream.waiting.iter().filter_map(|flight| Some(flight.sealed.events().first()?.timestamp));
            waiting.chain(stream.filling.iter().filter_map(|filling| filling.batch.oldest()))
        });
        let troubled = self.streams.list.iter().filter_map(|stream| {
            Some(StreamStatus {
                group: stream.group.clone(),
                stream: stream.template.as_str().to_owned(),
                failures: stream.failures(),
                trouble: stream.trouble.clone()?,
            })
        });
        let mut counts = self.counts;
        counts.journal_gaps = self.journals.iter().map(JournalFeed::gaps).sum();
        Status {
            counts,
            files: self.tails.count() as u64,
            streams: self.streams.list.len() as u64,
            lag_bytes,
            lag_seconds,
            oldest_unaccepted_seconds: age(oldest.chain(self.under_way.values().copied()).min()),
            lagging,
            troubled: troubled.take(MOST_NAMED).collect(),
            unreadable: self.tails.unreadable(),
            ..Status::default()
        }
    }
}

/// Milliseconds since 1970.
pub fn epoch_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// From 0 up to 1; the standard library seeds its hasher from the system.
pub fn random() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let bits = std::collections::hash_map::RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}
